"""Requests of clients to the replicated state: commands in sessions, queries, and questions to the program.

Nothing here waits: every answer comes by a callback.
"""

from collections.abc import Callable
from typing import Final, TypeAlias

import cbor2

from trioraft.arguments import check_bytes
from trioraft.consensus import Role
from trioraft.errors import ProposalError
from trioraft.logger import Logger
from trioraft.messages import (
    PAYLOAD_MAX,
    Ask,
    ChangeSettings,
    Command,
    EndSession,
    EntryKind,
    Index,
    Instant,
    KeepSession,
    OpenSession,
    Propose,
    ProposeBatch,
    Query,
    ReadSettings,
    Refusal,
)
from trioraft.node.desk import Asked, Desk, Surroundings
from trioraft.node.line_limit import LineLimit
from trioraft.node.proposals import Outcome
from trioraft.node.replicated import Replicated
from trioraft.node.session_commands import SessionCommands
from trioraft.node.session_room import SessionRoom
from trioraft.replica.machine import Queryable, state_kind
from trioraft.replica.sessions import Result
from trioraft.replica.settings import why_unknown

_log: Final = Logger("trioraft.requests")

# Takes the program's answer to a question. A handler of questions returns a function that is called when the answer
# is not waited for any more, or None.
AskAnswer: TypeAlias = Callable[[bytes], None]
AskHandler: TypeAlias = Callable[[bytes, AskAnswer], Callable[[], None] | None]


class Commands:
    """Carries out requests that concern the replicated state.

    Parameters
    ----------
    member : Replicated
        The member that carries them out.
    desk : Desk
        Answers.
    around : Surroundings
        What this node knows of the other nodes.
    sessions : SessionRoom
        The sessions of clients.
    lines : LineLimit
        Limits the log lines that clients can cause.
    clock : callable
        Returns the time in seconds.
    soon : callable
        Requests a turn, so that answers leave that were not found during one.

    Attributes
    ----------
    on_ask : callable or None
        The program around the state machine, which answers questions.
    """

    def __init__(
        self,
        member: Replicated,
        desk: Desk,
        around: Surroundings,
        sessions: SessionRoom,
        lines: LineLimit,
        clock: Callable[[], Instant],
        soon: Callable[[], None],
    ) -> None:
        self.on_ask: AskHandler | None = None
        self._member = member
        self._core = member.core
        machine = member.replica.machine
        self._queryable = machine if isinstance(machine, Queryable) else None
        self._desk = desk
        self._around = around
        self._sessions = sessions
        self._proposing = SessionCommands(member, desk, sessions)
        self._lines = lines
        self._clock = clock
        self._soon = soon

    def why_not_taken(self, command: Command) -> str:
        """Return why a command or a question must not get to the state machine; empty where it may."""
        if not isinstance(getattr(command, "data", b""), bytes):
            # Only this node's own program can send that: datagrams are checked before. The log may hold only bytes.
            return f"{type(command).__name__}.data must be bytes"
        replica = self._member.replica
        wanted, found = getattr(command, "state_kind", ""), replica.state_kind or state_kind(replica.machine)
        if wanted not in {"", found}:
            return (
                f"it is meant for a {wanted}, and the state of this cluster is of kind {found!r}:"
                " ask another cluster, by its PEERS or APP_NAME"
            )
        return ""

    def carry_out(self, asked: Asked, command: Command) -> bool:
        """Carry out a command, if it concerns the replicated state; return whether it does."""
        match command:
            case Propose() | ProposeBatch():
                self._proposing.carry_out(asked, command)
            case ReadSettings() | ChangeSettings():
                self._settings(asked, command)
            case Query(data=data, linearizable=linearizable):
                self._query(asked, data, linearizable=linearizable)
            case KeepSession(session=session):
                self._keep_session(asked, session)
            case OpenSession():
                self._open_session(asked)
            case EndSession(session=session):
                self._proposing.propose(asked, EntryKind.END_SESSION, session.to_bytes(8, "big"))
            case Ask(data=data, leader=leader):
                self._ask(asked, data, leader=leader)
            case _:
                return False
        return True

    def _open_session(self, asked: Asked) -> None:
        if self._core.role is not Role.LEADER:
            self._desk.refuse_elsewhere(asked)
            return
        limit = self._sessions.begin(asked.who)
        if limit.text:
            self._desk.refuse_more(asked, limit)
            return
        asked.keep = True

        def ended(outcome: Outcome | None) -> None:
            self._sessions.opened(outcome.session if isinstance(outcome, Result) else 0, asked.who)

        self._proposing.propose(asked, EntryKind.OPEN_SESSION, b"", ended=ended)

    def _settings(self, asked: Asked, command: ReadSettings | ChangeSettings) -> None:
        """Answer with the cluster's settings, or propose a change of them that this version understands."""
        if isinstance(command, ReadSettings):
            self.read(asked, lambda: self._desk.answer(asked, data=self._member.replica.settings.encoded()))
            return
        self._sessions.heard(command.session, asked.who)
        problem = why_unknown(command.data)
        if problem:
            self._desk.refuse(asked, Refusal.REFUSED, problem)
        else:
            fields = (command.session, command.number, command.answered_below, command.data)
            self._proposing.propose(asked, EntryKind.SETTINGS, cbor2.dumps(fields))

    def _keep_session(self, asked: Asked, session: int) -> None:
        def confirmed() -> None:
            self._sessions.heard(session, asked.who)
            if self._member.replica.has_session(session):
                self._desk.answer(asked)
            else:
                self._desk.refuse(asked, Refusal.SESSION_ENDED, "the session has ended")

        self._as_leader(asked, confirmed)

    def _query(self, asked: Asked, data: bytes, *, linearizable: bool) -> None:
        machine = self._queryable
        if machine is None:
            self._desk.refuse(asked, Refusal.REFUSED, "this cluster's state machine answers no questions")
            return

        def answer() -> None:
            try:
                self._around.require(self._member.proposals.version_needed(data), self._member.replica.version)
                found = machine.query(data)
                if not isinstance(found, bytes):
                    raise TypeError(f"query must return bytes, and has returned {type(found).__name__}")
            except ProposalError as error:
                self._desk.refuse_for(asked, error)
            except ValueError as error:  # a state machine raises it for nonsense
                self._desk.refuse(asked, Refusal.REFUSED, f"the state machine does not take the question: {error}")
            except Exception as error:  # a question changes nothing, and must not stop one node after another
                if self._lines.admits(_log, self._clock()):
                    _log.exception("the state machine failed at a question", question=data[:100])
                text = f"the state machine failed at the question: {type(error).__name__}: {error}"
                self._desk.refuse(asked, Refusal.REFUSED, text)
            else:
                self._answer_question(asked, found)

        if not self._core.cluster:
            self._desk.refuse(asked, Refusal.NO_CLUSTER, "this node is no member of a cluster yet")
        elif linearizable:
            self.read(asked, answer)
        else:
            self._member.applying.when_applied(0, answer)

    def _ask(self, asked: Asked, data: bytes, *, leader: bool) -> None:
        def ask() -> None:
            if not self._desk.has(asked):
                return
            if self.on_ask is None:
                self._desk.refuse(asked, Refusal.REFUSED, "this node's program answers no such questions")
                return
            try:
                asked.give_up = self.on_ask(data, answered)
            except Exception as error:  # a question changes nothing, and must not stop one node after another
                if self._lines.admits(_log, self._clock()):
                    _log.exception("the node's program failed at a question", question=data[:100])
                text = f"the node's program failed at the question: {type(error).__name__}: {error}"
                self._desk.refuse(asked, Refusal.REFUSED, text)

        def answered(answer: bytes) -> None:
            self._answer_question(asked, check_bytes("an answer", answer))
            self._soon()  # an answer may come at any time, and must leave

        if not self._core.cluster:
            self._desk.refuse(asked, Refusal.NO_CLUSTER, "this node is no member of a cluster yet")
        elif leader:
            self._as_leader(asked, ask)
        else:
            self._member.applying.when_applied(0, ask)

    def _answer_question(self, asked: Asked, answer: bytes) -> None:
        if len(answer) <= PAYLOAD_MAX:
            self._desk.answer(asked, data=answer)
        else:
            text = f"the answer has {len(answer)} bytes, more than the {PAYLOAD_MAX} allowed; ask for it in parts"
            self._desk.refuse(asked, Refusal.REFUSED, text)

    def _as_leader(self, asked: Asked, then: Callable[[], None]) -> None:
        """Go on once a quorum has confirmed that this node leads, and it has applied all earlier entries."""
        if self._core.role is not Role.LEADER:
            self._desk.refuse_elsewhere(asked)
            return
        asked.term = self._core.term
        self.read(asked, then)

    def read(self, asked: Asked, then: Callable[[], None]) -> None:
        """Go on once this node has applied every command that was acknowledged before a request.

        Parameters
        ----------
        asked : Asked
            The request; it is refused where no leader confirms that.
        then : callable
            The function that goes on; not called when the request is not waited for any more.
        """

        def go_on() -> None:
            if self._desk.has(asked):
                then()

        def confirmed(index: Index | None) -> None:
            if index is None:
                self._desk.refuse_elsewhere(asked)
            else:
                self._member.applying.when_applied(index, go_on)

        self._member.reads.start(confirmed)
