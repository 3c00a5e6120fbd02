"""Proposals: the entries that this node has put into its log, and the callers that wait for their outcome."""

from collections.abc import Callable, Sequence
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
from trioraft.versions import BATCHES_FROM, added_in

# The outcome of a proposed entry: its result, or the reason why there is none.
Outcome: TypeAlias = Result | ProposalError

# Is given the version of the protocol that a command needs, and the version that the cluster speaks; raises an error
# when the cluster does not speak the needed one yet.
Require: TypeAlias = Callable[[Version, Version], None]


def nothing_required(_needed: Version, _speaks: Version) -> None:
    """Allow every proposal, whichever version it needs."""


class Proposals:
    """The entries that were proposed here and are not applied yet.

    Parameters
    ----------
    core : Core
        The core to which entries are proposed.
    replica : Replica
        The replica that they are applied to; its machine knows which version of the protocol a command needs.
    clock : callable
        Returns the time in seconds.
    require : callable
        Refuses commands that need a later version than the cluster speaks.
    """

    def __init__(self, core: Core, replica: Replica, clock: Callable[[], Instant], require: Require) -> None:
        self._core = core
        self._replica = replica
        self._clock = clock
        self._require = require
        # To check for a protocol takes longer than most commands.
        self._versioned = replica.machine if isinstance(replica.machine, Versioned) else None
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
            The kind of the entry.
        data : bytes
            The command.
        done : callable
            Takes the outcome, which may never be known.
        needs : int
            The version of the protocol that its command needs, where the command is only a part of `data`.

        Returns
        -------
        Placed
            Its place in the log.

        Raises
        ------
        NotLeaderError, BusyError, RefusedError
            If it was not proposed.
        """
        # A larger entry could not be sent to any follower, and neither could the entries behind it in the log.
        if len(data) > (PAYLOAD_MAX if kind is EntryKind.COMMAND else ENTRY_MAX):
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
        """Drop the callback of an entry, because its outcome is not waited for any more.

        Parameters
        ----------
        placed : Placed
            Its place.
        """
        self._waiting.pop(placed, None)

    def applied(self, index: Index, term: Term, result: Result) -> None:
        """Answer the caller that waits for an applied entry (Raft, figure 2: leaders), or for one of an earlier term.

        An entry of an earlier term that is still waited for will never be committed: terms only grow along the log,
        so it cannot follow the entry of this term that was just applied. Before an entry of this term is applied, it
        may still be: another node may have it, and lead later.

        Parameters
        ----------
        index, term : int
            The index and term of the entry.
        result : Result
            Its result.
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
        """Answer all callers that the outcome is unknown: a restored snapshot does not name its commands."""
        waiting, self._waiting = self._waiting, {}
        for done in waiting.values():
            done(UnknownError("unknown: the command may be in a snapshot of the new leader"))

    def version_needed(self, command: bytes) -> Version:
        """Return the version of the protocol that a command needs; the first one where the cluster speaks them all.

        Parameters
        ----------
        command : bytes
            A command for the state machine, or a question to it.

        Returns
        -------
        int
            The version.
        """
        if self._versioned is None or self._knows_all():
            return FIRST_VERSION  # every command that this software knows may be proposed
        return self._versioned.version_needed(command)

    def version_needed_by_all(self, commands: Sequence[bytes | None]) -> Version:
        """Return the version of the protocol that the commands of a batch need.

        Parameters
        ----------
        commands : sequence of bytes or None
            The commands.

        Returns
        -------
        int
            The highest of their versions.
        """
        if self._knows_all():
            return FIRST_VERSION
        return max(self.version_needed(command) for command in commands if command is not None)

    def judge_batches(self) -> Callable[[bytes], bool]:
        """Return a function that checks whether a command may be proposed in one entry with others, in this turn.

        Returns
        -------
        callable
            Checks whether the cluster's version knows batches, and knows the command.
        """
        version = self._core.version
        if version < BATCHES_FROM:
            return lambda command: False
        if self._knows_all():
            return lambda command: True
        return lambda command: self.version_needed(command) <= version

    def _knows_all(self) -> bool:
        """Check whether the cluster speaks every version of this software, and so knows every command."""
        return self._versioned is None or self._replica.version >= self._core.versions.highest

    def name_kind(self) -> None:
        """Write the kind of the state into the log, on a leader, once the cluster's version has such entries."""
        is_new = not self._replica.state_kind and self._named_in != self._core.term
        if is_new and self._core.role is Role.LEADER and self._core.version >= added_in(EntryKind.STATE_KIND):
            with suppress(ProposalError):  # it is tried again
                kind = state_kind(self._replica.machine).encode()
                self.submit(EntryKind.STATE_KIND, kind, lambda outcome: None)
                self._named_in = self._core.term
