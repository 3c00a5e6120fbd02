"""Applying the log, in slices: from committed entries to results, and to the callers that wait for an index."""

import heapq
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

from trioraft.consensus import Core
from trioraft.consensus.log import IndexedEntry
from trioraft.messages import EntryKind, Index, Instant
from trioraft.node.proposals import Proposals
from trioraft.replica.sessions import Replica
from trioraft.replica.settings import ReadMode

# Entries are applied for about this long, in seconds, before other tasks get their turn; fewer at a time where each
# entry takes long.
_SLICE: Final = 0.005
_BATCH_MAX: Final = 64


class _Waiter(NamedTuple):
    """A call that waits until an entry is applied; of those for the same entry the first one comes first."""

    log_index: Index
    number: int
    call: Callable[[], None]


class Applying:
    """Applies committed entries, in order (Raft, figure 2: lastApplied).

    Parameters
    ----------
    core : Core
        Where entries are committed.
    replica : Replica
        The state that they are applied to.
    proposals : Proposals
        Is given the result of each entry.
    clock : callable
        Returns the time in seconds.

    Attributes
    ----------
    replica : Replica
        The state that entries are applied to.
    grown_entries, grown_bytes : int
        The entries, and their bytes, that were applied since the last snapshot of the state was begun.
    """

    def __init__(self, core: Core, replica: Replica, proposals: Proposals, clock: Callable[[], Instant]) -> None:
        self.replica = replica
        self.grown_entries = self.grown_bytes = 0
        self._core = core
        self._proposals = proposals
        self._clock = clock
        self._batch = _BATCH_MAX
        self._held = 0
        self._when_applied: list[_Waiter] = []
        self._last_waiter = 0

    @property
    def room(self) -> int:
        """The number of entries that may be applied next; 0 while the state is held."""
        return 0 if self._held else self._batch

    def apply(self, entries: Sequence[IndexedEntry]) -> None:
        """Apply entries, and hand on their results (Raft, figure 2: all servers).

        Parameters
        ----------
        entries : sequence of tuple of int and Entry
            The entries that a turn has handed out, each after its index.
        """
        if entries:
            began = self._clock()
            for index, entry in entries:
                result = self.replica.apply(index, entry)
                if entry.kind is EntryKind.SETTINGS:
                    self._follow_settings()
                self.grown_entries += 1
                self.grown_bytes += len(entry.data)
                self._proposals.applied(index, entry.term, result)
            took_long = self._clock() - began > _SLICE
            self._batch = max(self._batch // 2, 1) if took_long else min(self._batch * 2, _BATCH_MAX)
        self._call_waiting()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Apply nothing while the block lasts, in which a snapshot may replace the state."""
        before = self.replica.applied_index
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        self._follow_settings()
        if self.replica.applied_index != before:
            self._proposals.overtaken()

    def _follow_settings(self) -> None:
        """Hand the cluster's settings to the core, before any client hears that they were changed."""
        self._core.read_by_lease(self.replica.settings.reads is ReadMode.LEASE)

    def _call_waiting(self) -> None:
        while not self._held and self._when_applied and self._when_applied[0].log_index <= self.replica.applied_index:
            heapq.heappop(self._when_applied).call()

    def when_applied(self, index: Index, call: Callable[[], None]) -> None:
        """Call a function once an entry has been applied and the state is not held.

        Parameters
        ----------
        index : int
            The entry's index.
        call : callable
            The function; it is called at once where the entry has been applied already.
        """
        if index <= self.replica.applied_index and not self._held:
            call()
            return
        self._last_waiter += 1
        heapq.heappush(self._when_applied, _Waiter(index, self._last_waiter, call))

    def note_snapshot(self) -> None:
        """Note that a snapshot of the state as it is now is being taken."""
        self.grown_entries = self.grown_bytes = 0
