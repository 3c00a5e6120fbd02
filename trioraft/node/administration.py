"""Administration: changes of members, transfers of leadership, backups and digests that administrators ask for."""

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeAlias

import cbor2
import msgspec

from trioraft.consensus import Role
from trioraft.consensus.configuration import Configuration
from trioraft.errors import ProposalError
from trioraft.members.changes import Action, other_members
from trioraft.messages import (
    AbandonFormation,
    BackupPart,
    ChangeMember,
    Command,
    EndBackup,
    Index,
    Instant,
    NodeId,
    ReadBackup,
    Refusal,
    StartBackup,
    StateDigest,
    StepDown,
    Term,
    Transfer,
    UnknownCommand,
    format_id,
)
from trioraft.node.desk import Asked, Desk, Surroundings
from trioraft.node.replicated import Replicated

# Takes a part of a backup, or the reason why there is none.
BackupAnswered: TypeAlias = Callable[[BackupPart | ProposalError], None]
# Takes the last entry applied, and the digest in 64 hexadecimal digits.
Digested: TypeAlias = Callable[[int, str], None]


class Backups(Protocol):
    """Makes backups and returns them in parts (:class:`trioraft.node.backups.BackupServer`)."""

    def start(self) -> BackupPart | ProposalError:
        """Begin a backup of the state as it is now."""

    def read(self, asked: ReadBackup, answered: BackupAnswered) -> None:
        """Read a part, now or later."""

    def end(self, backup: int) -> None:
        """Remove a backup."""


class Digests(Protocol):
    """Hashes the replicated state (:class:`trioraft.node.digests.StateDigests`)."""

    def start(self, digested: Digested) -> None:
        """Hash the state as it is now, or a little later."""


class _Changing(NamedTuple):
    """A change of the members that a request waits for, and the text of the answer when it is done."""

    asked: Asked
    detail: str


class _Transferring(NamedTuple):
    """A transfer of leadership that a request waits for.

    Attributes
    ----------
    asked : Asked
        The request.
    term : int
        The term in which it began.
    to_nobody : bool
        Whether it is enough that this node does not lead any more.
    """

    asked: Asked
    term: Term
    to_nobody: bool


class Administration:
    """Carries out requests that concern the cluster rather than its state.

    Parameters
    ----------
    member : Replicated
        The member that carries them out.
    desk : Desk
        Answers.
    around : Surroundings
        What this node knows of the other nodes.
    backups : Backups
        The backups that this node keeps.
    digests : Digests
        Hashes the state.
    read : callable
        Calls back once every command is applied that was acknowledged before a request.
    clock : callable
        Returns the time in seconds.
    soon : callable
        Requests a turn, so that answers leave that were not found during one.
    """

    def __init__(
        self,
        member: Replicated,
        desk: Desk,
        around: Surroundings,
        backups: Backups,
        digests: Digests,
        read: Callable[[Asked, Callable[[], None]], None],
        clock: Callable[[], Instant],
        soon: Callable[[], None],
    ) -> None:
        self._core = member.core
        self._desk = desk
        self._around = around
        self._backups = backups
        self._digests = digests
        self._read = read
        self._clock = clock
        self._soon = soon
        self._transferring: list[_Transferring] = []
        self._changing: list[_Changing] = []

    def carry_out(self, asked: Asked, command: Command) -> None:
        """Carry out a request of an administrator, or answer that the command is unknown."""
        match command:
            case Transfer(to=to):
                self._transfer(asked, lambda: self._core.transfer(to, self._clock()))
            case StepDown():
                self._transfer(asked, lambda: self._core.step_down(self._clock()), to_nobody=True)
            case ChangeMember():
                self._change_member(asked, command)
            case StartBackup() | ReadBackup() | EndBackup():
                self._back_up(asked, command)
            case StateDigest():
                self._digest(asked)
            case AbandonFormation() | UnknownCommand():
                self._answer_here(asked, command)

    def _answer_here(self, asked: Asked, command: AbandonFormation | UnknownCommand) -> None:
        match command:
            case AbandonFormation(formation=formation):
                asked.keep = True
                refusal = self._core.abandon_formation(formation, self._clock())
                detail = refusal or f"formation {format_id(formation)} is abandoned here"
                self._desk.answer(asked, done=refusal is None, detail=detail)
            case UnknownCommand(problem=problem) if problem:
                self._desk.refuse(asked, Refusal.REFUSED, f"the request has a wrong field: {problem}")
            case UnknownCommand(command=tag):
                speaks = f"version {self._core.versions} of the protocol"
                text = f"node {format_id(self._core.id)} speaks {speaks} and does not know this command ({tag})"
                self._desk.refuse(asked, Refusal.REFUSED, f"{text}; upgrade it first")

    def _change_member(self, asked: Asked, change: ChangeMember) -> None:
        if self._core.role is not Role.LEADER:
            self._desk.refuse_elsewhere(asked)
            return
        asked.keep = True
        if change.action == "leave":
            self._let_leave(asked, change.node)
            return
        refusal = self._begin_change(change.action, change.node)
        if refusal is None:
            self._answer_when_changed(asked, f"node {format_id(change.node)}: {change.action} is done")
        else:
            self._desk.answer(asked, done=False, detail=refusal)

    def _let_leave(self, asked: Asked, node: NodeId) -> None:
        """Begin to remove a member that is about to stop; where that is impossible now, the member asks again."""
        if self._core.can_change_members and node not in self._core.configuration.members:
            self._core.tell_departed(node, self._clock())
            self._desk.answer(asked, detail=f"node {format_id(node)} is no member any more")
            return
        declined = self._around.let_leave(node, self._clock())
        if declined is None:
            self._answer_when_changed(asked, f"node {format_id(node)} has left")
        elif declined.for_now:
            self._desk.refuse(asked, Refusal.BUSY, declined.reason)
        else:
            self._desk.answer(asked, done=False, detail=declined.reason)

    def _answer_when_changed(self, asked: Asked, detail: str) -> None:
        asked.term = self._core.term
        self._changing.append(_Changing(asked, detail))

    def _begin_change(self, action: Action, node: NodeId) -> str | None:
        configuration = self._core.configuration
        target = other_members(configuration, action, node)
        if isinstance(target, str):
            return target
        if action == "add" and not self._around.address_of(node):
            return f"node {format_id(node)} is not in touch with the leader; start it first"
        refusal = self._around.why_not_join(node) if action == "add" else None
        if refusal is not None:
            return refusal
        names = self._around.names()
        known = {one: names[one] for one in {*configuration.members, node} if one in names}
        return self._core.change_members(*target, self._clock(), known)

    def members_changed(self, configuration: Configuration) -> None:
        """Answer the requests for a change of the members, when it is committed and complete.

        Parameters
        ----------
        configuration : Configuration
            The configuration that is committed.
        """
        if not configuration.is_joint:
            changing, self._changing = self._changing, []
            for asked, detail in changing:
                self._desk.answer(asked, detail=detail)

    def _transfer(self, asked: Asked, begin: Callable[[], str | None], *, to_nobody: bool = False) -> None:
        if self._core.role is not Role.LEADER:
            self._desk.refuse_elsewhere(asked)
            return
        asked.keep = True
        refusal = begin()
        if refusal is None:
            self._transferring.append(_Transferring(asked, self._core.term, to_nobody))
        else:
            self._desk.answer(asked, done=False, detail=refusal)

    def _back_up(self, asked: Asked, command: StartBackup | ReadBackup | EndBackup) -> None:
        def answered(part: BackupPart | ProposalError) -> None:
            if isinstance(part, ProposalError):
                self._desk.refuse_for(asked, part)
            else:
                self._desk.answer(asked, data=cbor2.dumps(msgspec.to_builtins(part, builtin_types=(bytes,))))

        match command:
            case StartBackup() if not self._core.cluster:
                self._desk.refuse(asked, Refusal.NO_CLUSTER, "this node is no member of a cluster yet")
            case StartBackup():
                asked.keep = True
                self._read(asked, lambda: answered(self._backups.start()))
            case ReadBackup():
                self._backups.read(command, answered)
            case EndBackup(backup=backup):
                self._backups.end(backup)
                self._desk.answer(asked)

    def _digest(self, asked: Asked) -> None:
        def digested(index: Index, digest: str) -> None:
            self._desk.answer(asked, data=cbor2.dumps((index, digest)))
            self._soon()

        self._digests.start(digested)

    def conclude(self) -> None:
        """Answer the requests for another leader, after a change of the role or the term."""
        if self._core.role is Role.LEADER or not self._transferring:
            return
        open_still = []
        for asked, term, to_nobody in self._transferring:
            if self._core.term == term:
                detail = "nobody took over the leadership in time; this node has stepped down"
                self._desk.answer(asked, done=to_nobody, detail=detail)
            elif not self._core.leader:
                open_still.append(_Transferring(asked, term, to_nobody))
            else:
                detail = f"node {format_id(self._core.leader)} leads in term {self._core.term}"
                self._desk.answer(asked, detail=detail)
        self._transferring = open_still
