"""The report of a benchmark, for programs and for people."""

from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from trioraft.benchmark.baseline import Baseline
from trioraft.benchmark.load import INTERFACE, Load, Outcome
from trioraft.client.status import ClusterStatus

_PERCENTILES: Final = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}


@dataclass(frozen=True, slots=True)
class Report:
    """The load, the cluster that was under it, and the result.

    Attributes
    ----------
    load : Load
        The load.
    outcome : Outcome
        The result.
    cluster : ClusterStatus
        The cluster.
    durability : str or None
        The nodes' ``DURABILITY``; None where it is not known.
    baseline : Baseline or None
        The times that the machine needs by itself; None where they were not measured.
    """

    load: Load
    outcome: Outcome
    cluster: ClusterStatus
    durability: str | None
    baseline: Baseline | None

    @property
    def latencies(self) -> dict[str, float]:
        """The percentiles, mean and maximum, in seconds."""
        latencies = self.outcome.latencies
        found = {name: latencies.percentile(percent) for name, percent in _PERCENTILES.items()}
        return {**found, "max": latencies.longest, "mean": latencies.mean}

    def to_json(self) -> dict[str, Any]:
        """Return the report as a document.

        Returns
        -------
        dict
            A document for :func:`json.dumps`; durations are in milliseconds unless their name says otherwise.
        """
        document: dict[str, Any] = {
            "nodes": len(self.cluster.nodes),
            "sealed": any(node.status.sealed for node in self.cluster.nodes),
            "durability": self.durability,
            "interface": INTERFACE,
            "value_bytes": self.load.value_bytes,
            "concurrency": self.load.concurrency,
            "clients": self.load.clients,
            "commits": self.outcome.latencies.count,
            "seconds": round(self.outcome.seconds, 3),
            "commits_per_second": round(self.outcome.commits_per_second, 1),
            "latency_milliseconds": {name: _milliseconds(seconds) for name, seconds in self.latencies.items()},
        }
        if self.baseline is not None:
            document["udp_round_trip_milliseconds"] = _milliseconds(self.baseline.udp_round_trip)
            document["disk_sync_milliseconds"] = _milliseconds(self.baseline.disk_sync)
            document["latency_in_udp_round_trips"] = self._as_multiples_of(self.baseline.udp_round_trip)
            document["latency_in_disk_syncs"] = self._as_multiples_of(self.baseline.disk_sync)
        return document

    def _as_multiples_of(self, unit: float) -> dict[str, float]:
        return {name: round(seconds / unit, 2) for name, seconds in self.latencies.items()}

    def print_table(self) -> None:
        """Print the report for people."""
        console = Console(highlight=False, soft_wrap=True)
        console.print(self._heading())
        baseline = self.baseline
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("LATENCY")
        for heading in ("MILLISECONDS", *(("UDP ROUND TRIPS", "DISK SYNCS") if baseline else ())):
            table.add_column(heading, justify="right")
        for name, seconds in self.latencies.items():
            units = (baseline.udp_round_trip, baseline.disk_sync) if baseline else ()
            table.add_row(name, f"{seconds * 1000:.2f}", *(f"{seconds / unit:.1f}" for unit in units))
        console.print(table)
        if baseline is not None:
            console.print(
                f"this machine by itself: {_milliseconds(baseline.udp_round_trip)} ms for a UDP round trip of trio,"
                f" {_milliseconds(baseline.disk_sync)} ms for a disk sync"
            )

    def _heading(self) -> str:
        outcome = self.outcome
        durability = f", durability {self.durability}" if self.durability else ""
        return (
            f"{outcome.commits_per_second:,.0f} commits/s: {outcome.latencies.count:,} in {outcome.seconds:.1f} s,"
            f" {self.load.concurrency} at a time, values of {self.load.value_bytes} bytes"
            f" by {INTERFACE}; {_counted(len(self.cluster.nodes), 'node')}{durability}"
        )


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 4)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
