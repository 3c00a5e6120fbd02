"""What this node has put into the log for somebody, and who waits for what becomes of it."""

from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias

from trioraft.consensus import Core, Role
from trioraft.consensus.log import Placed
from trioraft.errors import (
    BusyError,
    NotCommittedError,
    NotLeaderError,
    ProposalError,
    RefusedError,
    UnknownError,
)
from trioraft.messages import ENTRY_MAX, FIRST_VERSION, PAYLOAD_MAX, EntryKind, Index, Instant, Term, Version
from trioraft.replica.machine import Versioned, state_kind
from trioraft.replica.sessions import Replica, Result
from trioraft.versions import added_in

# What became of a proposed entry.
Outcome: TypeAlias = Result | ProposalError

# Raises what is said of something that needs a version of the protocol which the cluster does not speak yet; it is
# given that version, and the one that is spoken.
Require: TypeAlias = Callable[[Version, Version], None]


def nothing_required(_needed: Version, _speaks: Version) -> None:
    """Allow whatever is proposed, whichever version it needs."""


class Proposals:
    """The entries that were proposed here and are not applied yet.

    Parameters
    ----------
    core : Core
        Where entries are proposed.
    replica : Replica
        What they are applied to; knows which version of the protocol its commands need.
    clock : callable
        Returns the time in seconds.
    require : callable
        Refuses what the cluster's version does not know.
    """

    def __init__(self, core: Core, replica: Replica, clock: Callable[[], Instant], require: Require) -> None:
        self._core = core
        self._replica = replica
        self._clock = clock
        self._require = require
        self._waiting: dict[Placed, Callable[[Outcome], None]] = {}
        self._applied_term = 0
        self._named_in = 0  # the term in which the kind of state was put into the log here

    def __len__(self) -> int:
        return len(self._waiting)

    def submit(
        self, kind: EntryKind, data: bytes, done: Callable[[Outcome], None], needs: Version = FIRST_VERSION
    ) -> Placed:
        """Propose an entry.

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
        Placed
            Its place in the log.

        Raises
        ------
        NotLeaderError, BusyError, RefusedError
            If it was not proposed.
        """
        # A larger one could not be sent to anybody, nor could what follows it in the log.
        if len(data) > (ENTRY_MAX if kind is EntryKind.SESSION_COMMAND else PAYLOAD_MAX):
            raise RefusedError(f"not proposed: the command has {len(data)} bytes; at most {PAYLOAD_MAX} are allowed")
        if self._core.role is Role.LEADER:
            if kind is EntryKind.COMMAND:
                needs = self.version_needed(data)
            self._require(max(needs, added_in(kind)), self._core.version)
        placed = self._core.propose(kind, data, self._clock())
        if placed is None:
            if self._core.role is Role.LEADER:
                raise BusyError("busy: too much is not committed yet, or leadership is being given away; try again")
            raise NotLeaderError("not committed: this node does not lead")
        self._waiting[placed] = done
        return placed

    def forget(self, placed: Placed) -> None:
        """Tell nobody what becomes of an entry.

        Parameters
        ----------
        placed : Placed
            Its place.
        """
        self._waiting.pop(placed, None)

    def applied(self, index: Index, term: Term, result: Result) -> None:
        """Answer whoever waits for an entry that was applied (Raft, figure 2: leaders), or for an earlier term's.

        Entries of earlier terms never will be committed: terms only grow along the log, so none of them can follow
        the entry of this term that was just applied. Before that is seen they may be: another node may still have
        them, and lead later.

        Parameters
        ----------
        index, term : int
            The entry's.
        result : Result
            What came of it.
        """
        done = self._waiting.pop(Placed(term, index), None)
        if done is not None:
            done(result)
        if term > self._applied_term:
            self._applied_term = term
            for placed in [placed for placed in self._waiting if placed.term < term]:
                outcome = NotCommittedError("not committed: another leader has put other entries there")
                self._waiting.pop(placed)(outcome)

    def overtaken(self) -> None:
        """Tell all who wait that a snapshot was taken over, which does not say what is in it."""
        waiting, self._waiting = self._waiting, {}
        for done in waiting.values():
            done(UnknownError("unknown: the command may be in a snapshot of the new leader"))

    def version_needed(self, command: bytes) -> Version:
        """Return which version of the protocol a command needs, as far as that may be more than the cluster speaks.

        Parameters
        ----------
        command : bytes
            A command for the state machine, or a question to it.

        Returns
        -------
        int
            The version.
        """
        machine = self._replica.machine
        if self._replica.version >= self._core.versions.highest or not isinstance(machine, Versioned):
            return FIRST_VERSION  # whatever this software knows may be proposed
        return machine.version_needed(command)

    def name_kind(self) -> None:
        """Put into the log of what kind the state is, on a leader, once the cluster's version has such entries."""
        is_new = not self._replica.state_kind and self._named_in != self._core.term
        if is_new and self._core.role is Role.LEADER and self._core.version >= added_in(EntryKind.STATE_KIND):
            with suppress(ProposalError):  # it is tried again
                kind = state_kind(self._replica.machine).encode()
                self.submit(EntryKind.STATE_KIND, kind, lambda outcome: None)
                self._named_in = self._core.term
