"""``trioraft bench``: its percentiles, what it prints, and its options."""

import json
import math
import random
from collections.abc import Sequence

import pytest

from tests.unit.node_double import make_status
from trioraft.address import Address
from trioraft.benchmark.baseline import Baseline
from trioraft.benchmark.latencies import Latencies
from trioraft.benchmark.load import Load, Outcome
from trioraft.benchmark.report import Report
from trioraft.cli import main as cli
from trioraft.client.status import ClusterStatus, ObservedNode


def latencies_of(values: Sequence[float]) -> Latencies:
    latencies = Latencies()
    for value in values:
        latencies.add(value)
    return latencies


@pytest.mark.parametrize("seed", range(5))
def test_percentiles_are_those_of_the_sorted_values_and_at_most_half_a_percent_more(seed: int) -> None:
    source = random.Random(seed)
    values = [source.lognormvariate(-6, 2) for _ in range(source.randrange(1, 3000))]
    latencies = latencies_of(values)
    ordered = sorted(values)
    for percent in (0, 1, 50, 90, 99, 99.9, 100):
        exact = ordered[max(1, math.ceil(len(ordered) * percent / 100)) - 1]
        assert exact * (1 - 1e-9) <= latencies.percentile(percent) <= exact * 1.0051
    assert latencies.longest == ordered[-1] == latencies.percentile(100)
    assert latencies.mean == pytest.approx(sum(values) / len(values))
    assert latencies.count == len(values)


def test_percentiles_of_nothing_are_zero() -> None:
    latencies = Latencies()
    assert (latencies.percentile(50), latencies.mean, latencies.longest) == (0, 0, 0)


def test_many_commands_at_a_time_are_shared_by_several_clients() -> None:
    assert [Load(64, concurrency).clients for concurrency in (1, 500, 501, 4000)] == [1, 1, 2, 8]


def report_of(*milliseconds: float, baseline: Baseline | None) -> Report:
    nodes = tuple(
        ObservedNode(make_status(number), Address("127.0.0.1", 7300 + number), 0.0) for number in range(1, 4)
    )
    outcome = Outcome(latencies_of([each / 1000 for each in milliseconds]), 2.0)
    return Report(Load(64, 8), outcome, ClusterStatus(nodes, ()), "sync" if baseline else None, baseline)


def test_a_report_gives_latencies_as_multiples_of_what_the_machine_needs() -> None:
    document = report_of(1.0, 2.0, 8.0, baseline=Baseline(udp_round_trip=0.0001, disk_sync=0.004)).to_json()
    assert (document["commits"], document["commits_per_second"], document["nodes"]) == (3, 1.5, 3)
    assert document["interface"] == "Client.put"
    assert document["latency_milliseconds"]["max"] == 8.0
    assert document["latency_in_udp_round_trips"]["max"] == 80.0
    assert document["latency_in_disk_syncs"]["max"] == 2.0
    assert document["latency_in_disk_syncs"]["p50"] == pytest.approx(0.5, rel=0.01)
    json.dumps(document)


def test_a_report_is_a_table_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    report_of(1.0, 2.0, 8.0, baseline=Baseline(udp_round_trip=0.0001, disk_sync=0.004)).print_table()
    report_of(1.0, baseline=None).print_table()
    with_baseline, _, without = capsys.readouterr().out.partition("for a disk sync")
    rows = {line.split()[0]: line.split()[1:] for line in with_baseline.splitlines()}
    assert rows["max"] == ["8.00", "80.0", "2.0"]
    assert "durability sync" in with_baseline
    assert "by Client.put" in with_baseline
    assert "0.1 ms for a UDP round trip" in with_baseline
    assert "DISK SYNCS" not in without
    assert "durability" not in without


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--size", "-1"], ["--size", "-1", "from 0"]),
        (["--size", "big"], ["--size", "big"]),
        (["--concurrency", "0"], ["--concurrency", "0", "from 1"]),
        (["--commands", "0"], ["--commands", "0"]),
        (["--seconds", "0.5"], ["--seconds", "0.5"]),
        (["--seconds", "1", "--commands", "1"], ["--seconds", "--commands", "one of them"]),
        (["--format", "xml"], ["--output", "xml", "table", "json"]),
        (["--nodes", "3"], ["--nodes", "--local"]),
        (["--durability", "sync"], ["--durability", "sync", "--local"]),
        (["--data-dir", "."], ["--data-dir", "--local"]),
        (["--local", "--peers", "127.0.0.1:7300"], ["--peers", "127.0.0.1:7300", "--local"]),
        (["--local", "--durability", "none"], ["--durability", "none", "sync", "memory"]),
        (["--local", "--nodes", "0"], ["--nodes", "0"]),
        (["--local", "--data-dir", "/nonexistent"], ["--data-dir", "/nonexistent"]),
        (["--peers", "nowhere"], ["--peers", "nowhere", "host:port"]),
    ],
    ids=" ".join,
)
def test_wrong_options_are_one_line_and_exit_status_2(
    arguments: list[str], named: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    status = cli.run(["bench", *arguments])
    out, err = capsys.readouterr()
    assert (status, out) == (2, "")
    (line,) = err.splitlines()
    assert not [word for word in named if word not in line], line
