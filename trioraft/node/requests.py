"""What clients, and other nodes for their own programs, ask a node to do.

A request comes again until it is answered, so what is under way is not begun twice. What has been answered is begun
again, where that does no harm: a command within a session is applied once, whatever this node remembers
(:mod:`trioraft.replica.sessions`), and a question may be asked twice. Of the rest the answers are kept for a while.

Nothing here waits: whoever finds an answer calls back.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import cbor2
import msgspec
import structlog
import trio

from trioraft.arguments import check_bytes
from trioraft.consensus import Core, Role
from trioraft.consensus.configuration import Configuration
from trioraft.datagrams.endpoint import Peer
from trioraft.datagrams.rights import NEEDED, goes_too_far, key_needed, may
from trioraft.datagrams.sealing import Domain
from trioraft.errors import BusyError, NotCommittedError, NotLeaderError, ProposalError
from trioraft.members.autopilot import Declined
from trioraft.members.changes import Action, other_members
from trioraft.messages import (
    FIRST_VERSION,
    PAYLOAD_MAX,
    AbandonFormation,
    Ask,
    BackupPart,
    Cancel,
    ChangeMember,
    ChangeSettings,
    ClientRequest,
    ClientResponse,
    Command,
    EndBackup,
    EndSession,
    EntryKind,
    KeepSession,
    OpenSession,
    Propose,
    Query,
    ReadBackup,
    ReadSettings,
    Refusal,
    StartBackup,
    StateDigest,
    StepDown,
    Transfer,
    UnknownCommand,
    format_id,
)
from trioraft.node.apply import Applier, Outcome
from trioraft.node.backups import BackupServer
from trioraft.node.digests import Digests
from trioraft.node.line_limit import LineLimit
from trioraft.node.reads import Reads
from trioraft.node.room import Kind, Room
from trioraft.node.session_room import SessionRoom
from trioraft.replica.machine import Queryable, Shared, state_kind
from trioraft.replica.sessions import Result
from trioraft.replica.settings import why_unknown
from trioraft.tally import Asker
from trioraft.versions import CANCELS_FROM

_log: Final = structlog.get_logger("trioraft.requests")

# Requests whose answer is kept, for when it is asked for again.
_KEPT: Final = 256
_LOOK_AT_SESSIONS: Final = 5.0
# How often, in seconds, it is noted that somebody has too weak a key for what he does.
_TOO_FAR_AGAIN: Final = 60.0
# A text of the program around the state machine may have any length.
_DETAIL_MAX: Final = 1000

UNKNOWN_TEXT: Final = "unknown: the leader changed; the session makes the retry safe"

# Whom the program around the state machine tells its answer; and what it gives to be called if that is not waited for
# any more.
AskAnswer: TypeAlias = Callable[[bytes], None]
AskHandler: TypeAlias = Callable[[bytes, AskAnswer], Callable[[], None] | None]


@dataclass(slots=True)
class _Asked:
    """A request.

    Attributes
    ----------
    peer : Peer
        Who asked last.
    request : int
        The asker's number for it.
    kind : Kind
        Which room it takes.
    who : Asker
        Whose room that is: who asked first.
    term : int
        The term in which this node must go on leading for it; 0 when that does not matter.
    keep : bool
        Whether its answer is kept.
    give_up : callable or None
        Whom to tell that nobody waits for the answer any more.
    """

    peer: Peer
    request: int
    kind: Kind
    who: Asker
    term: int = 0
    keep: bool = False
    give_up: Callable[[], None] | None = None

    @property
    def key(self) -> tuple[bytes, int]:
        """What makes two datagrams the same request."""
        return self.peer.process, self.request


class Requests:
    """The requests of clients.

    Parameters
    ----------
    core, applier, reads, backups : Core, Applier, Reads, BackupServer
        Carry them out.
    clock : callable
        Tells the time in seconds.
    send : callable
        Sends an answer.
    address_of : callable
        Gives the ``ip:port`` of a node, or nothing.
    reachable : callable
        Tells how many voters were heard lately, this node included.
    flush : callable
        Lets what was sent leave.

    Attributes
    ----------
    names : callable
        Gives what people call the nodes.
    let_leave : callable
        Begins to remove a member that is about to stop, or says why not.
    why_not_join : callable
        Tells why a node cannot become a member.
    only_reads : callable
        Tells whether a question to the program around the state machine changes nothing, so that readers may ask it.
    require : callable
        Raises what is said of something that needs a version of the protocol which the cluster does not speak yet.
    """

    def __init__(
        self,
        core: Core,
        applier: Applier,
        reads: Reads,
        backups: BackupServer,
        clock: Callable[[], float],
        *,
        send: Callable[[Peer, ClientResponse], None],
        address_of: Callable[[int], str],
        reachable: Callable[[], int],
        flush: Callable[[], None],
    ) -> None:
        self.on_ask: AskHandler | None = None
        self.only_reads: Callable[[bytes], bool] = lambda question: False
        self.names: Callable[[], Mapping[int, str]] = dict
        self.let_leave: Callable[[int, float], Declined | None] = lambda node, now: Declined(
            "not here", for_now=False
        )
        self.why_not_join: Callable[[int], str | None] = lambda node: None
        self.require: Callable[[int, int], None] = lambda needed, speaks: None
        self._core = core
        self._applier = applier
        machine = applier.replica.machine
        self._queryable = machine if isinstance(machine, Queryable) else None
        self._shared = machine if isinstance(machine, Shared) else None
        self._reads = reads
        self._backups = backups
        self._digests = Digests(applier)
        self._clock = clock
        self._send = send
        self._address_of = address_of
        self._reachable = reachable
        self._flush = flush
        self._under_way: dict[tuple[bytes, int], _Asked] = {}
        self._room = Room()
        self._answers: OrderedDict[tuple[bytes, int], ClientResponse] = OrderedDict()
        # and the term in which it was asked for, and whether it is enough that this node leads no more
        self._transferring: list[tuple[_Asked, int, bool]] = []
        self._changing: list[tuple[_Asked, str]] = []  # and what has been done then
        self._lines = LineLimit("what clients cause")
        self._sessions = SessionRoom(core, applier, clock, self._lines)
        self._too_far_at = float("-inf")
        self._wake = trio.Event()

    # --- what comes in --------------------------------------------------------------------------------------

    def receive(self, peer: Peer, message: ClientRequest) -> None:
        """Carry out a request, unless that is under way or was done.

        Parameters
        ----------
        peer : Peer
            Who asks.
        message : ClientRequest
            What for.
        """
        if why := self._why_not_allowed(peer, message.command):
            self._send(peer, ClientResponse(message.request, done=False, detail=why, code=Refusal.REFUSED))
            return
        if isinstance(message.command, Cancel):
            self._cancel(peer, message.command)
            return
        asked = _Asked(peer, message.request, Kind.of(message.command), Asker.at(peer.address.host, peer.process))
        known = self._under_way.get(asked.key)
        if known is not None:
            known.peer = peer
        elif asked.key in self._answers:
            self._send(peer, self._answers[asked.key])
        else:
            self._under_way[asked.key] = asked
            self._room.enter(asked.who, asked.kind)
            limit, is_own = self._room.why_none(asked.who, asked.kind)
            if limit:
                self._refuse_more(asked, limit, is_own=is_own)
            elif reason := self._why_not_taken(message.command):
                self._refuse(asked, Refusal.REFUSED, reason)
            else:
                self._carry_out(asked, message)

    def _why_not_allowed(self, peer: Peer, command: Command) -> str:
        """Say which key is needed for a command; empty where the sender has it."""
        needed = NEEDED[type(command)]
        if not may(peer.domain, needed):
            if isinstance(command, Ask) and may(peer.domain, Domain.READER) and self._only_reads(command.data):
                return ""
            return key_needed(type(command).__name__, needed)
        if peer.is_sealed and goes_too_far(peer.domain, needed) and self._clock() >= self._too_far_at:
            self._too_far_at = self._clock() + _TOO_FAR_AGAIN
            _log.warning(
                "a program or client key of the release before did what needs an admin key from the next release on:"
                " upgrade the program, or make a key with `trioraft keygen --derive admin`",
                command=type(command).__name__,
                client=peer.name,
                address=str(peer.address),
            )
        return ""

    def _only_reads(self, question: bytes) -> bool:
        try:
            return self.only_reads(question)
        except Exception:  # as where the program fails at the question itself
            _log.exception("the node's program failed at a question", question=question[:100])
            return False

    def _cancel(self, peer: Peer, cancel: Cancel) -> None:
        """Let go of what a client waits for no more."""
        for request in cancel.requests:
            asked = self._under_way.get((peer.process, request))
            if asked is not None:
                self._let_go(asked)
                if asked.give_up is not None:
                    asked.give_up()

    def _let_go(self, asked: _Asked) -> None:
        del self._under_way[asked.key]
        self._room.leave(asked.who, asked.kind)

    def _why_not_taken(self, command: Command) -> str:
        """Say why a command or a question must not get to the state machine; empty where it may."""
        if not isinstance(getattr(command, "data", b""), bytes):
            # This node's own program asks: a datagram was looked at before. No log may have anything else.
            return f"{type(command).__name__}.data must be bytes"
        replica = self._applier.replica
        wanted, found = getattr(command, "state_kind", ""), replica.state_kind or state_kind(replica.machine)
        if wanted not in {"", found}:
            return (
                f"it is meant for a {wanted}, and the state of this cluster is of kind {found!r}:"
                " ask another cluster, by its PEERS or APP_NAME"
            )
        return ""

    def _carry_out(self, asked: _Asked, message: ClientRequest) -> None:
        match message.command:
            case Propose() as command:
                self._propose_once(asked, command)
            case ReadSettings() | ChangeSettings() as command:
                self._settings(asked, command)
            case Query(data=data, linearizable=linearizable):
                self._query(asked, data, linearizable=linearizable)
            case KeepSession(session=session):
                self._keep_session(asked, session)
            case OpenSession():
                self._open_session(asked)
            case EndSession(session=session):
                self._propose(asked, EntryKind.END_SESSION, session.to_bytes(8, "big"))
            case Ask(data=data, leader=leader):
                self._ask(asked, data, leader=leader)
            case StateDigest():
                self._digest(asked)
            case Transfer() | StepDown() | ChangeMember() as command:
                self._lead_otherwise(asked, command)
            case StartBackup() | ReadBackup() | EndBackup() as command:
                self._back_up(asked, command)
            case AbandonFormation() | UnknownCommand() as command:
                self._answer_here(asked, command)

    def _answer_here(self, asked: _Asked, command: AbandonFormation | UnknownCommand) -> None:
        match command:
            case AbandonFormation(formation=formation):
                asked.keep = True
                refusal = self._core.abandon_formation(formation, self._clock())
                detail = refusal or f"formation {format_id(formation)} is abandoned here"
                self._answer(asked, done=refusal is None, detail=detail)
            case UnknownCommand(problem=problem) if problem:
                self._refuse(asked, Refusal.REFUSED, f"the request has a wrong field: {problem}")
            case UnknownCommand(command=tag):
                speaks = f"version {self._core.versions} of the protocol"
                text = f"node {format_id(self._core.id)} speaks {speaks} and does not know this command ({tag})"
                self._refuse(asked, Refusal.REFUSED, f"{text}; upgrade it first")

    def _lead_otherwise(self, asked: _Asked, command: Transfer | StepDown | ChangeMember) -> None:
        match command:
            case Transfer(to=to):
                self._transfer(asked, lambda: self._core.transfer(to, self._clock()))
            case StepDown():
                self._transfer(asked, lambda: self._core.step_down(self._clock()), to_nobody=True)
            case ChangeMember():
                self._change_member(asked, command)

    # --- commands -------------------------------------------------------------------------------------------

    def _propose_once(self, asked: _Asked, command: Propose) -> None:
        self._sessions.heard(command.session, asked.who)
        result = self._applier.replica.result_of(command.session, command.number)
        if result is None:
            self._propose_shared(asked, command)
        else:  # only its answer was lost: the log need not carry it again
            self._answer(asked, data=result)

    def _propose_shared(self, asked: _Asked, command: Propose) -> None:
        """Propose a command, unless its client would have too much of what the state machine has for all."""
        shared = self._shared
        needs, data = self._applier.version_needed(command.data), cbor2.dumps(_fields(command))
        if shared is None or self._core.role is not Role.LEADER:
            self._propose(asked, EntryKind.SESSION_COMMAND, data, needs)
            return
        limit, is_own = shared.begin_share(asked.who, command.data)
        if limit:
            self._refuse_more(asked, limit, is_own=is_own)
            return

        def ended(outcome: Outcome | None) -> None:
            shared.end_share(asked.who, command.data, outcome.data if isinstance(outcome, Result) else b"")

        self._propose(asked, EntryKind.SESSION_COMMAND, data, needs, ended)

    def _open_session(self, asked: _Asked) -> None:
        if self._core.role is not Role.LEADER:
            self._refuse_elsewhere(asked)
            return
        limit, is_own = self._sessions.begin(asked.who)
        if limit:
            self._refuse_more(asked, limit, is_own=is_own)
            return
        asked.keep = True

        def ended(outcome: Outcome | None) -> None:
            self._sessions.opened(outcome.session if isinstance(outcome, Result) else 0, asked.who)

        self._propose(asked, EntryKind.OPEN_SESSION, b"", ended=ended)

    def _propose(
        self,
        asked: _Asked,
        kind: EntryKind,
        data: bytes,
        needs: int = FIRST_VERSION,
        ended: Callable[[Outcome | None], None] = lambda outcome: None,
    ) -> None:
        def done(outcome: Outcome) -> None:
            ended(outcome)
            if isinstance(outcome, NotCommittedError):
                self._refuse(asked, Refusal.NOT_COMMITTED, str(outcome))
            elif isinstance(outcome, ProposalError):
                self._refuse(asked, Refusal.UNKNOWN, UNKNOWN_TEXT)
            elif outcome.refused:
                self._refuse(asked, Refusal(outcome.code), outcome.refused)
            else:
                self._answer(asked, data=outcome.data, session=outcome.session)

        asked.term = self._core.term
        try:
            self._applier.submit(kind, data, done, needs)
        except NotLeaderError:
            ended(None)
            self._refuse_elsewhere(asked)
        except ProposalError as error:
            ended(None)
            self._refuse(asked, _code_of(error), str(error))

    def _settings(self, asked: _Asked, command: ReadSettings | ChangeSettings) -> None:
        """Give the cluster's settings, or propose a change of them that this version understands."""
        if isinstance(command, ReadSettings):
            self._read(asked, lambda: self._answer(asked, data=self._applier.replica.settings.encoded()))
            return
        self._sessions.heard(command.session, asked.who)
        problem = why_unknown(command.data)
        if problem:
            self._refuse(asked, Refusal.REFUSED, problem)
        else:
            self._propose(asked, EntryKind.SETTINGS, cbor2.dumps(_fields(command)))

    def _keep_session(self, asked: _Asked, session: int) -> None:
        def confirmed() -> None:
            self._sessions.heard(session, asked.who)
            if self._applier.replica.has_session(session):
                self._answer(asked)
            else:
                self._refuse(asked, Refusal.SESSION_ENDED, "the session has ended")

        self._as_leader(asked, confirmed)

    def _query(self, asked: _Asked, data: bytes, *, linearizable: bool) -> None:
        machine = self._queryable
        if machine is None:
            self._refuse(asked, Refusal.REFUSED, "this cluster's state machine answers no questions")
            return

        def answer() -> None:
            try:
                self.require(self._applier.version_needed(data), self._applier.replica.version)
                found = machine.query(data)
                if not isinstance(found, bytes):
                    raise TypeError(f"query must return bytes, and has returned {type(found).__name__}")
            except ProposalError as error:
                self._refuse(asked, _code_of(error), str(error))
            except ValueError as error:  # what it raises for nonsense
                self._refuse(asked, Refusal.REFUSED, f"the state machine does not take the question: {error}")
            except Exception as error:  # nothing has changed, and a question must not stop one node after another
                if self._lines.admits(_log, self._clock()):
                    _log.exception("the state machine failed at a question", question=data[:100])
                text = f"the state machine failed at the question: {type(error).__name__}: {error}"
                self._refuse(asked, Refusal.REFUSED, text)
            else:
                self._answer_question(asked, found)

        if not self._core.cluster:
            self._refuse(asked, Refusal.NO_CLUSTER, "this node is no member of a cluster yet")
        elif linearizable:
            self._read(asked, answer)
        else:
            self._applier.when_applied(0, answer)

    def _ask(self, asked: _Asked, data: bytes, *, leader: bool) -> None:
        def ask() -> None:
            if self._under_way.get(asked.key) is not asked:
                return
            if self.on_ask is None:
                self._refuse(asked, Refusal.REFUSED, "this node's program answers no such questions")
                return
            try:
                asked.give_up = self.on_ask(data, answered)
            except Exception as error:  # nothing has changed, and a question must not stop one node after another
                if self._lines.admits(_log, self._clock()):
                    _log.exception("the node's program failed at a question", question=data[:100])
                text = f"the node's program failed at the question: {type(error).__name__}: {error}"
                self._refuse(asked, Refusal.REFUSED, text)

        def answered(answer: bytes) -> None:
            self._answer_question(asked, check_bytes("an answer", answer))
            self._wake.set()  # it may come at any time, and has to leave

        if not self._core.cluster:
            self._refuse(asked, Refusal.NO_CLUSTER, "this node is no member of a cluster yet")
        elif leader:
            self._as_leader(asked, ask)
        else:
            self._applier.when_applied(0, ask)

    def _answer_question(self, asked: _Asked, answer: bytes) -> None:
        if len(answer) <= PAYLOAD_MAX:
            self._answer(asked, data=answer)
        else:
            text = f"the answer has {len(answer)} bytes, more than the {PAYLOAD_MAX} allowed; ask for it in parts"
            self._refuse(asked, Refusal.REFUSED, text)

    def _digest(self, asked: _Asked) -> None:
        def digested(index: int, digest: str) -> None:
            self._answer(asked, data=cbor2.dumps((index, digest)))
            self._wake.set()

        self._digests.start(digested)

    def _as_leader(self, asked: _Asked, then: Callable[[], None]) -> None:
        """Go on once this node has made sure that it leads, and has applied what it has to know as the leader."""
        if self._core.role is not Role.LEADER:
            self._refuse_elsewhere(asked)
            return
        asked.term = self._core.term
        self._read(asked, then)

    def _read(self, asked: _Asked, then: Callable[[], None]) -> None:
        def go_on() -> None:
            if self._under_way.get(asked.key) is asked:
                then()

        def confirmed(index: int | None) -> None:
            if index is None:
                self._refuse_elsewhere(asked)
            else:
                self._applier.when_applied(index, go_on)

        self._reads.start(confirmed)

    def _change_member(self, asked: _Asked, change: ChangeMember) -> None:
        if self._core.role is not Role.LEADER:
            self._refuse_elsewhere(asked)
            return
        asked.keep = True
        if change.action == "leave":
            self._let_leave(asked, change.node)
            return
        refusal = self._begin_change(change.action, change.node)
        if refusal is None:
            self._answer_when_changed(asked, f"node {format_id(change.node)}: {change.action} is done")
        else:
            self._answer(asked, done=False, detail=refusal)

    def _let_leave(self, asked: _Asked, node: int) -> None:
        """Remove a member that is about to stop; where that cannot be now, it asks again."""
        if self._core.can_change_members and node not in self._core.configuration.members:
            self._core.tell_departed(node, self._clock())
            self._answer(asked, detail=f"node {format_id(node)} is no member any more")
            return
        declined = self.let_leave(node, self._clock())
        if declined is None:
            self._answer_when_changed(asked, f"node {format_id(node)} has left")
        elif declined.for_now:
            self._refuse(asked, Refusal.BUSY, declined.reason)
        else:
            self._answer(asked, done=False, detail=declined.reason)

    def _answer_when_changed(self, asked: _Asked, detail: str) -> None:
        asked.term = self._core.term
        self._changing.append((asked, detail))

    def _begin_change(self, action: Action, node: int) -> str | None:
        configuration = self._core.configuration
        target = other_members(configuration, action, node)
        if isinstance(target, str):
            return target
        if action == "add" and not self._address_of(node):
            return f"node {format_id(node)} is not in touch with the leader; start it first"
        refusal = self.why_not_join(node) if action == "add" else None
        if refusal is not None:
            return refusal
        names = self.names()
        known = {one: names[one] for one in {*configuration.members, node} if one in names}
        return self._core.change_members(*target, self._clock(), known)

    def members_changed(self, configuration: Configuration) -> None:
        """Answer who waits for a change of the members, when it is committed and complete.

        Parameters
        ----------
        configuration : Configuration
            The configuration that is committed.
        """
        if not configuration.is_joint:
            changing, self._changing = self._changing, []
            for asked, detail in changing:
                self._answer(asked, detail=detail)

    def _transfer(self, asked: _Asked, begin: Callable[[], str | None], *, to_nobody: bool = False) -> None:
        if self._core.role is not Role.LEADER:
            self._refuse_elsewhere(asked)
            return
        asked.keep = True
        refusal = begin()
        if refusal is None:
            self._transferring.append((asked, self._core.term, to_nobody))
        else:
            self._answer(asked, done=False, detail=refusal)

    def _back_up(self, asked: _Asked, command: StartBackup | ReadBackup | EndBackup) -> None:
        def answered(part: BackupPart | ProposalError) -> None:
            if isinstance(part, ProposalError):
                self._refuse(asked, _code_of(part), str(part))
            else:
                self._answer(asked, data=cbor2.dumps(msgspec.to_builtins(part, builtin_types=(bytes,))))

        match command:
            case StartBackup() if not self._core.cluster:
                self._refuse(asked, Refusal.NO_CLUSTER, "this node is no member of a cluster yet")
            case StartBackup():
                asked.keep = True
                self._read(asked, lambda: answered(self._backups.start()))
            case ReadBackup():
                self._backups.read(command, answered)
            case EndBackup(backup=backup):
                self._backups.end(backup)
                self._answer(asked)

    # --- answers --------------------------------------------------------------------------------------------

    def _answer(
        self,
        asked: _Asked,
        *,
        done: bool = True,
        detail: str = "",
        code: str = "",
        data: bytes = b"",
        session: int = 0,
    ) -> None:
        """Answer, unless that was done already."""
        if self._under_way.get(asked.key) is not asked:
            return
        if len(data) > PAYLOAD_MAX:
            detail = f"it was carried out, but its result of {len(data)} bytes is more than the {PAYLOAD_MAX} allowed"
            done, code, data = False, Refusal.NO_RESULT, b""
        self._let_go(asked)
        leader = self._core.leader
        response = ClientResponse(
            asked.request,
            done=done,
            detail=detail[:_DETAIL_MAX],
            leader=leader,
            code=code,
            data=data,
            session=session,
            term=self._core.term,
            leader_address=self._address_of(leader) if code and leader else "",
        )
        if asked.keep:
            self._answers[asked.key] = response
            while len(self._answers) > _KEPT:
                self._answers.popitem(last=False)
        self._send(asked.peer, response)

    def _refuse(self, asked: _Asked, code: Refusal, detail: str) -> None:
        if code is not Refusal.REFUSED:
            asked.keep = False  # it may be carried out when it is asked for again
        self._answer(asked, done=False, detail=detail, code=code)

    def _refuse_more(self, asked: _Asked, limit: str, *, is_own: bool) -> None:
        """Refuse what passes a limit: for good where that is the client's own, and it knows that there are such."""
        final = is_own and asked.peer.versions.highest >= CANCELS_FROM
        self._refuse(asked, Refusal.LIMIT if final else Refusal.BUSY, limit if final else f"busy: {limit}")

    def _refuse_elsewhere(self, asked: _Asked) -> None:
        """Say that this node does not lead, and what it knows of who does."""
        if not self._core.cluster:
            self._refuse(asked, Refusal.NO_CLUSTER, "this node is no member of a cluster yet")
        elif self._core.leader not in {0, self._core.id}:
            names, leader = self.names(), self._core.leader
            own = names.get(self._core.id) or format_id(self._core.id)
            where = self._address_of(leader) or "an address that it does not know"
            text = f"node {own} does not lead; the leader is node {names.get(leader) or format_id(leader)} at {where}"
            self._refuse(asked, Refusal.NOT_LEADER, text)
        else:
            self._refuse(asked, Refusal.NO_LEADER, self.why_no_leader())

    def why_no_leader(self) -> str:
        """Say why there may be no leader.

        Returns
        -------
        str
            One line, such as "no quorum: 2 of 5 reachable".
        """
        voters = len(self._core.state.configuration.voters) if self._core.state is not None else 0
        reachable = self._reachable()
        if reachable <= voters // 2:
            return f"no quorum: {reachable} of {voters} reachable"
        return f"no leader: an election is under way ({reachable} of {voters} reachable)"

    def conclude(self) -> None:
        """Answer what this node cannot carry out any more, or has carried out, now that its role or term changed."""
        term = self._core.term if self._core.role is Role.LEADER else 0
        for asked in [asked for asked in self._under_way.values() if asked.term not in {0, term}]:
            self._refuse(asked, Refusal.UNKNOWN, UNKNOWN_TEXT)
        if self._core.role is not Role.LEADER and self._transferring:
            self._conclude_transfers()

    def _conclude_transfers(self) -> None:
        open_still = []
        for asked, term, to_nobody in self._transferring:
            if self._core.term == term:
                detail = "nobody took over the leadership in time; this node has stepped down"
                self._answer(asked, done=to_nobody, detail=detail)
            elif not self._core.leader:
                open_still.append((asked, term, to_nobody))
            else:
                detail = f"node {format_id(self._core.leader)} leads in term {self._core.term}"
                self._answer(asked, detail=detail)
        self._transferring = open_still

    # --- time -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Do what is due, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._digests.run)
            while True:
                with trio.move_on_after(_LOOK_AT_SESSIONS):
                    await self._wake.wait()
                self._wake = trio.Event()
                self._lines.tell(_log, self._clock())
                self._sessions.end_silent()
                self._flush()


def _code_of(error: ProposalError) -> Refusal:
    return Refusal.BUSY if isinstance(error, BusyError) else Refusal.REFUSED


def _fields(command: Propose | ChangeSettings) -> tuple[int, int, int, bytes]:
    """Give what :class:`~trioraft.replica.sessions.SessionCommand` consists of."""
    return command.session, command.number, command.answered_below, command.data
