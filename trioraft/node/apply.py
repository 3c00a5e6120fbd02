"""From committed entries to results: applies the log and tells whoever waits for it."""

import heapq
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, TypeAlias

import trio

from trioraft.consensus import Core, Role
from trioraft.errors import (
    BusyError,
    NotCommittedError,
    NotLeaderError,
    ProposalError,
    RefusedError,
    UnknownError,
)
from trioraft.messages import ENTRY_MAX, FIRST_VERSION, PAYLOAD_MAX, EntryKind
from trioraft.replica.machine import Versioned, state_kind
from trioraft.replica.sessions import Replica, Result
from trioraft.replica.settings import ReadMode
from trioraft.versions import added_in

# Entries are applied for this long, in seconds, before other tasks get their turn; fewer at a time where each of them
# takes long.
_TURN: Final = 0.005
_BATCH_MAX: Final = 64


# What became of a proposed entry.
Outcome: TypeAlias = Result | ProposalError


class Applier:
    """Applies what is committed, in order, and answers proposals and reads.

    Parameters
    ----------
    core : Core
        Where entries are committed.
    replica : Replica
        What they are applied to.
    clock : callable
        Tells the time in seconds.
    flush : callable
        Acts on what the core has ready.

    Attributes
    ----------
    require : callable
        Raises what is said of something that needs a version of the protocol which the cluster does not speak yet.
    """

    def __init__(self, core: Core, replica: Replica, clock: Callable[[], float], flush: Callable[[], None]) -> None:
        self.require: Callable[[int, int], None] = lambda needed, speaks: None
        self._core = core
        self.replica = replica
        self._clock = clock
        self._flush = flush
        self._waiting: dict[tuple[int, int], Callable[[Outcome], None]] = {}  # by term and index
        self._applied_term = 0
        self._named_in = 0  # the term in which the kind of state was put into the log here
        self._wake = trio.Event()
        self._applied = trio.Event()
        self._when_applied: list[tuple[int, int, Callable[[], None]]] = []
        self._last_waiter = 0
        self._told = False
        self._proposed = False
        self._batch = _BATCH_MAX
        self._turn = trio.Lock()
        self._grown_entries = self._grown_bytes = 0

    def apply_some(self) -> None:
        """Apply what is committed, if that is not much; the rest is applied by :meth:`run`, a moment later.

        So a command need not wait for another task. What is told to those who wait leaves with the caller's flush.
        """
        if not self._turn.locked():
            self._turn.acquire_nowait()
            try:
                self._apply_batch()
            finally:
                self._turn.release()
            self._tell_waiting()
            self._told = False
        if self._core.has_committed:
            self._wake.set()

    async def run(self) -> None:
        """Apply until cancelled."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            until = trio.current_time() + _TURN
            while self._core.has_committed:
                await self._begin_turn()
                try:
                    self._apply_batch()
                finally:
                    self._turn.release()
                self._notify()
                if trio.current_time() > until:
                    await trio.lowlevel.checkpoint()
                    until = trio.current_time() + _TURN
            if self._proposed:
                self._proposed = False
                self._flush()

    async def _begin_turn(self) -> None:
        """Take the turn, without the checkpoint that `acquire` always is where nobody else has it."""
        if self._turn.locked():
            await self._turn.acquire()
        else:
            self._turn.acquire_nowait()

    def _apply_batch(self) -> None:
        began = self._clock()
        entries = self._core.to_apply(self._batch)
        for index, entry in entries:
            result = self.replica.apply(index, entry)
            if entry.kind is EntryKind.SETTINGS:
                self._follow_settings()
            self._grown_entries += 1
            self._grown_bytes += len(entry.data)
            done = self._waiting.pop((entry.term, index), None)
            if done is not None:
                done(result)
                self._told = True
            if entry.term > self._applied_term:
                self._applied_term = entry.term
                self._give_up_earlier(entry.term)
        took_long = self._clock() - began > _TURN
        self._batch = max(self._batch // 2, 1) if took_long else min(self._batch * 2, _BATCH_MAX)
        self._applied.set()
        self._applied = trio.Event()

    def _give_up_earlier(self, term: int) -> None:
        """Tell those who wait for entries of earlier terms that these never will be committed.

        Terms only grow along the log, so none of them can follow the entry of this term that was just applied. Before
        that is seen they may be: another node may still have them, and lead later.
        """
        for key in [key for key in self._waiting if key[0] < term]:
            self._waiting.pop(key)(NotCommittedError("not committed: another leader has put other entries there"))
            self._told = True

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Apply nothing for as long as the block lasts."""
        async with self._turn:
            before = self.replica.applied_index
            yield
        self._follow_settings()
        if self.replica.applied_index != before:  # a snapshot was taken over; it does not tell what is in it
            waiting, self._waiting = self._waiting, {}
            for done in waiting.values():
                done(UnknownError("unknown: the command may be in a snapshot of the new leader"))
                self._told = True
        self._notify()

    def _follow_settings(self) -> None:
        """Let the core go by the cluster's settings, before anybody hears that they were changed."""
        self._core.read_by_lease(self.replica.settings.reads is ReadMode.LEASE)

    def _notify(self) -> None:
        """Call those who waited for what is applied by now, and let their answers leave."""
        self._tell_waiting()
        if self._told:
            self._told = False
            self._flush()

    def _tell_waiting(self) -> None:
        while self._when_applied and self._when_applied[0][0] <= self.replica.applied_index:
            heapq.heappop(self._when_applied)[2]()
            self._told = True

    def when_applied(self, index: int, call: Callable[[], None]) -> None:
        """Call somebody as soon as an entry has been applied, and while nothing is being applied.

        Parameters
        ----------
        index : int
            The entry's index.
        call : callable
            Whom to call; at once where it has been applied already.
        """
        if index <= self.replica.applied_index and not self._turn.locked():
            call()
            return
        self._last_waiter += 1
        heapq.heappush(self._when_applied, (index, self._last_waiter, call))

    async def wait_grown(self, entries: int, size: int) -> None:
        """Wait until the log has grown since the last snapshot.

        Parameters
        ----------
        entries, size : int
            By so many entries, or so many bytes.
        """
        while self._grown_entries < entries and self._grown_bytes < size:
            await self._applied.wait()

    def note_snapshot(self) -> None:
        """Note that a snapshot of the state as it is now is being taken."""
        self._grown_entries = self._grown_bytes = 0

    def version_needed(self, command: bytes) -> int:
        """Tell which version of the protocol a command needs, as far as that may be more than the cluster speaks.

        Parameters
        ----------
        command : bytes
            A command for the state machine, or a question to it.

        Returns
        -------
        int
            The version.
        """
        machine = self.replica.machine
        if self.replica.version >= self._core.versions.highest or not isinstance(machine, Versioned):
            return FIRST_VERSION  # whatever this software knows may be proposed
        return machine.version_needed(command)

    def name_kind(self) -> None:
        """Put into the log of what kind the state is, on a leader, once the cluster's version has such entries."""
        is_new = not self.replica.state_kind and self._named_in != self._core.term
        if is_new and self._core.role is Role.LEADER and self._core.version >= added_in(EntryKind.STATE_KIND):
            with suppress(ProposalError):  # it is tried again
                kind = state_kind(self.replica.machine).encode()
                self.submit(EntryKind.STATE_KIND, kind, lambda outcome: None)
                self._named_in = self._core.term

    def submit(
        self, kind: EntryKind, data: bytes, done: Callable[[Outcome], None], needs: int = FIRST_VERSION
    ) -> tuple[int, int]:
        """Have an entry committed and applied.

        Parameters
        ----------
        kind : EntryKind
            What it is.
        data : bytes
            The command.
        done : callable
            Told what became of it, which may take for ever.
        needs : int
            Which version of the protocol its command needs, where that is not all of `data`.

        Returns
        -------
        tuple of int
            The term and the index at which it was placed in the log.

        Raises
        ------
        NotLeaderError, BusyError, RefusedError
            If it was not proposed.
        """
        if len(data) > (
            ENTRY_MAX if kind is EntryKind.SESSION_COMMAND else PAYLOAD_MAX
        ):  # it could not be sent to anybody, nor could what follows it in the log
            raise RefusedError(f"not proposed: the command has {len(data)} bytes; at most {PAYLOAD_MAX} are allowed")
        if self._core.role is Role.LEADER:
            if kind is EntryKind.COMMAND:
                needs = self.version_needed(data)
            self.require(max(needs, added_in(kind)), self._core.version)
        placed = self._core.propose(kind, data, self._clock())
        if placed is None:
            if self._core.role is Role.LEADER:
                raise BusyError("busy: too much is not committed yet, or leadership is being given away; try again")
            raise NotLeaderError("not committed: this node does not lead")
        self._waiting[placed] = done
        return placed

    async def propose(self, kind: EntryKind, data: bytes) -> Result:
        """Have an entry committed and applied, and wait for that.

        Parameters
        ----------
        kind : EntryKind
            What it is.
        data : bytes
            The command.

        Returns
        -------
        Result
            What became of it.

        Raises
        ------
        NotLeaderError, BusyError, RefusedError, NotCommittedError
            If it was not carried out. When the wait is cancelled, it is not known.
        UnknownError
            If it is not known.
        """
        ended = trio.Event()
        outcomes: list[Outcome] = []

        def done(outcome: Outcome) -> None:
            outcomes.append(outcome)
            ended.set()

        placed = self.submit(kind, data, done)
        if len(self._waiting) == 1:
            self._flush()
        else:  # others propose at the same time: many entries go in few datagrams
            self._proposed = True
            self._wake.set()
        try:
            await ended.wait()
        finally:
            self._waiting.pop(placed, None)
        if isinstance(outcomes[0], ProposalError):
            raise outcomes[0]
        return outcomes[0]

    async def wait_applied(self, index: int) -> None:
        """Wait until an entry has been applied.

        Parameters
        ----------
        index : int
            Its index.
        """
        applied = trio.Event()
        self.when_applied(index, applied.set)
        await applied.wait()
