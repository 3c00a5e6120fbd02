"""The estimate of round trips, held against RFC 6298."""

import pytest

from trioraft.round_trip import RoundTrip, smooth


def test_the_first_measurement_is_the_estimate_and_varies_by_half() -> None:
    estimate = RoundTrip()
    assert estimate.timeout(0.2) == 0.2
    estimate.measured(0.1)
    assert (estimate.smoothed, estimate.deviation) == (0.1, 0.05)
    assert estimate.timeout(9.0) == pytest.approx(0.1 + 4 * 0.05)


def test_further_measurements_count_an_eighth_and_a_quarter() -> None:
    estimate = RoundTrip()
    estimate.measured(0.1)
    estimate.measured(0.3)
    assert estimate.deviation == pytest.approx(0.75 * 0.05 + 0.25 * 0.2), "by the estimate before"
    assert estimate.smoothed == pytest.approx(0.875 * 0.1 + 0.125 * 0.3) == smooth(0.1, 0.3)


def test_a_timeout_exceeds_a_steady_round_trip_by_the_margin() -> None:
    estimate = RoundTrip()
    for _ in range(200):
        estimate.measured(0.1)
    assert estimate.timeout(9.0, margin=0.01) == pytest.approx(0.11)
