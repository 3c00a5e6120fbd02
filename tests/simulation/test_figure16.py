"""The paper's evaluation of elections, with few crashes: the shape of its curves."""

import math
from pathlib import Path

import pytest

from tests.simulation.downtime import Timeouts
from tests.simulation.figure16 import ALL, Curve, measure, plot, table


@pytest.fixture(scope="module")
def curves() -> dict[tuple[int, int, str], Curve]:
    chosen = [Timeouts(150, 150), Timeouts(150, 155), Timeouts(150, 200), Timeouts(25, 50), Timeouts(150, 300)]
    return {(c.timeouts.lower, c.timeouts.upper, c.rules): c for c in measure(40, 2, chosen)}


Curves = dict[tuple[int, int, str], Curve]


def test_without_randomness_votes_are_split_for_long(curves: Curves) -> None:
    assert curves[150, 150, "paper"].part(0.5) > 10_000


def test_more_randomness_shortens_the_tail(curves: Curves) -> None:
    none, little, much = (curves[150, upper, "paper"].part(0.95) for upper in (150, 155, 200))
    assert none > little > much
    assert curves[150, 200, "paper"].part(0.5) < 287  # the paper's median with a tenth of that randomness


def test_shorter_timeouts_shorten_the_downtime(curves: Curves) -> None:
    for rules in ("paper", "trioraft"):
        assert curves[25, 50, "paper"].part(0.5) < curves[150, 300, rules].part(0.5) / 2


def test_no_downtime_is_shorter_than_it_can_be(curves: Curves) -> None:
    # The crash comes within half of a lower timeout after the heartbeats.
    assert curves[150, 300, "paper"].part(0) >= 75
    assert curves[150, 300, "trioraft"].part(0) >= 75


def test_here_votes_are_not_split_for_long_even_without_randomness(curves: Curves) -> None:
    # A round that nobody won is followed by the next after a random part of a heartbeat.
    assert curves[150, 150, "trioraft"].part(1) < 1000
    assert curves[150, 300, "trioraft"].part(1) < curves[150, 150, "paper"].part(0.5)


def test_picture_and_table_are_made(curves: Curves, tmp_path: Path) -> None:
    few = [*curves.values()]
    assert len(table(few).splitlines()) == 2 + 5
    plot(few, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert len(set(ALL)) == len(ALL) == 10
    assert all(value > 0 for curve in few for value in curve.downtimes if value < math.inf)
