"""Seeded bugs in linearizable reads."""

from collections.abc import Callable
from typing import Final

from tests.simulation.mutants.mutant import Mutant, Patch
from trioraft.consensus import core, lease, quorum, reads
from trioraft.consensus.events import ReadFailed, ReadReady
from trioraft.consensus.state import State
from trioraft.consensus.timing import CLOCK_DRIFT


def _read_without_round() -> list[Patch]:
    def start_read(s: State, read: int, _now: float) -> None:
        s.events.append(ReadReady(read=read, index=s.commit_index))

    return [(reads, "start_read", start_read)]


def _read_before_no_op() -> list[Patch]:
    original = reads.conclude_reads

    def conclude_reads(s: State, now: float) -> None:
        s.opened_at, opened_at = 0, s.opened_at
        original(s, now)
        s.opened_at = opened_at

    return [(reads, "conclude_reads", conclude_reads)]


def _reads_until(end: Callable[[State], float]) -> list[Patch]:
    """Let reads go by the lease, and the leader lead, until another time."""
    original = quorum.quorum_deadline

    def quorum_deadline(s: State) -> float:
        return max(original(s), end(s))

    return [(reads, "lease_end", end), (quorum, "quorum_deadline", quorum_deadline)]


def _reads_after_the_lease() -> list[Patch]:
    return _reads_until(lambda s: lease.lease_end(s) + s.timing.lower)


def _reads_without_drift() -> list[Patch]:
    return _reads_until(lambda s: lease.lease_end(s) + s.timing.lower * CLOCK_DRIFT)


def _reads_after_offer() -> list[Patch]:
    return [(reads, "lease_end", lease.contact_end)]


def _reads_with_an_old_clock() -> list[Patch]:
    def start_read(self: core.Core, read: int, _now: float) -> None:
        if self.state is None:
            self._events.append(ReadFailed(read=read))
        else:
            reads.start_read(self.state, read, self._now)

    return [(core.Core, "start_read", start_read)]


def _reads_by_lease_always() -> list[Patch]:
    def goes_by_lease(s: State) -> bool:
        return s.applied_index >= s.opened_at

    return [(reads, "goes_by_lease", goes_by_lease)]


# What is said of each of them that shows.
_BY_LEASE: Final = "goes by a lease, and"

READS: Final = (
    Mutant("read without a round", "Raft 8, thesis 6.4: a round of heartbeats", "divergence", _read_without_round),
    Mutant(
        "read before the term's no-op is committed",
        "Raft 8, thesis 6.4: a no-op opens the term",
        "log",
        _read_before_no_op,
    ),
    Mutant(
        "read by the lease after it has ended", "thesis 6.4.1: leases", "reads", _reads_after_the_lease, _BY_LEASE
    ),
    Mutant(
        "take all clocks for equal in reads by the lease",
        "thesis 6.4.1: bounded clock drift",
        "reads",
        _reads_without_drift,
        _BY_LEASE,
    ),
    Mutant(
        "read by the lease after an offer",
        "thesis 6.4.1: a transfer ends the lease",
        "reads",
        _reads_after_offer,
        _BY_LEASE,
    ),
    Mutant(
        "read by the lease at a time from before a pause",
        "thesis 6.4.1: the clock is read after the request came",
        "reads",
        _reads_with_an_old_clock,
        _BY_LEASE,
    ),
    Mutant(
        "read by the lease whatever the settings say",
        "reads by the lease are chosen by a setting",
        "reads",
        _reads_by_lease_always,
        "a quorum is asked",
    ),
)
