"""Requests of clients, and of other nodes for their own programs: who may send them, and who carries them out.

A few datagrams may hold thousands of requests, and a leader that carried all of them out at once would be silent in
the meantime. So requests wait in a queue, and each turn carries out some of them: heartbeats, and the answers of
other members, do not wait for all.
"""

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from trioraft.clock import LONG_AGO
from trioraft.consensus.configuration import Configuration
from trioraft.datagrams.endpoint import Peer
from trioraft.datagrams.rights import NEEDED, goes_too_far, key_needed, may
from trioraft.datagrams.sealing import Domain
from trioraft.logger import Logger
from trioraft.messages import Ask, Cancel, ClientRequest, ClientResponse, Command, Instant, Refusal
from trioraft.node.administration import Administration, Backups, Digests
from trioraft.node.commands import AskHandler, Commands
from trioraft.node.desk import Asked, Desk, SendAnswer, Surroundings
from trioraft.node.line_limit import LineLimit
from trioraft.node.replicated import Replicated
from trioraft.node.room import Kind
from trioraft.node.session_room import SessionRoom
from trioraft.tally import Asker

_log: Final = Logger("trioraft.requests")

# Requests are carried out for this long, in seconds, before other work gets its turn.
_SLICE: Final = 0.005
# The most requests that wait; more are dropped, and a client sends an unanswered request again.
_WAITING_MAX: Final = 20_000
# How often a leader looks for sessions that have been silent for long, in seconds.
_LOOK_AT_SESSIONS: Final = 5.0
# How often, in seconds, a warning is logged that a client needs a stronger key from the next release on.
_TOO_FAR_AGAIN: Final = 60.0


class _Queued(NamedTuple):
    """A request that waits to be carried out."""

    peer: Peer
    request: ClientRequest


class Requests:
    """The requests of clients to one node.

    Parameters
    ----------
    member : Replicated
        The member that carries them out.
    around : Surroundings
        What this node knows of the other nodes.
    backups : Backups
        The backups that this node keeps.
    digests : Digests
        Hashes the state.
    send : callable
        Sends an answer.
    clock : callable
        Returns the time in seconds.
    soon : callable
        Requests a turn, so that answers leave that were not found during one.
    """

    def __init__(
        self,
        member: Replicated,
        around: Surroundings,
        backups: Backups,
        digests: Digests,
        *,
        send: SendAnswer,
        clock: Callable[[], Instant],
        soon: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._send = send
        self._waiting: deque[_Queued] = deque()
        self._desk = Desk(member.core, around, send)
        self._lines = LineLimit("what clients cause")
        self._sessions = SessionRoom(member.core, member.replica, member.proposals, clock, self._lines)
        self._commands = Commands(member, self._desk, around, self._sessions, self._lines, clock, soon)
        self._administration = Administration(
            member, self._desk, around, backups, digests, self._commands.read, clock, soon
        )
        self._is_question: Callable[[bytes], bool] = lambda question: False
        self._too_far_at = LONG_AGO
        self._look_at = clock() + _LOOK_AT_SESSIONS

    def answer_questions(self, handler: AskHandler, only_reads: Callable[[bytes], bool]) -> None:
        """Install the program around the state machine, which answers questions of clients.

        Parameters
        ----------
        handler : callable
            Called with a question, and a function that takes the answer, now or later.
        only_reads : callable
            Returns whether a question changes nothing, so that readers may ask it.
        """
        self._commands.on_ask = handler
        self._is_question = only_reads

    # --- input ----------------------------------------------------------------------------------------------

    def add(self, peer: Peer, request: ClientRequest) -> None:
        """Queue a request that has come in.

        Parameters
        ----------
        peer : Peer
            The sender.
        request : ClientRequest
            The request.
        """
        if len(self._waiting) < _WAITING_MAX:
            self._waiting.append(_Queued(peer, request))

    @property
    def wait(self) -> bool:
        """Whether requests are queued."""
        return bool(self._waiting)

    def carry_out_some(self) -> None:
        """Carry out queued requests, for a while."""
        if not self._waiting:
            return
        until = self._clock() + _SLICE
        while self._waiting:
            self.receive(*self._waiting.popleft())
            if self._clock() > until:
                break

    def receive(self, peer: Peer, request: ClientRequest) -> None:
        """Carry out a request at once, unless it is under way or was answered.

        Parameters
        ----------
        peer : Peer
            The sender.
        request : ClientRequest
            The request.
        """
        command = request.command
        if why := self._why_not_allowed(peer, command):
            self._send(peer, ClientResponse(request.request, done=False, detail=why, code=Refusal.REFUSED))
            return
        if isinstance(command, Cancel):
            self._cancel(peer, command)
            return
        asked = Asked(peer, request.request, Kind.of(command), Asker.at(peer.address.host, peer.process))
        if not self._desk.begin(asked):
            return
        if reason := self._commands.why_not_taken(command):
            self._desk.refuse(asked, Refusal.REFUSED, reason)
        elif not self._commands.carry_out(asked, command):
            self._administration.carry_out(asked, command)

    def _why_not_allowed(self, peer: Peer, command: Command) -> str:
        """Return which key is needed for a command; empty where the sender has one that may."""
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
            return self._is_question(question)
        except Exception:  # as where the program fails at the question itself
            _log.exception("the node's program failed at a question", question=question[:100])
            return False

    def _cancel(self, peer: Peer, cancel: Cancel) -> None:
        """Forget the requests that a client does not wait for any more."""
        for request in cancel.requests:
            asked = self._desk.find(peer, request)
            if asked is not None:
                self._desk.let_go(asked)
                if asked.give_up is not None:
                    asked.give_up()

    # --- changes meanwhile ----------------------------------------------------------------------------------

    def members_changed(self, configuration: Configuration) -> None:
        """Answer the requests for a change of the members, when it is committed and complete.

        Parameters
        ----------
        configuration : Configuration
            The configuration that is committed.
        """
        self._administration.members_changed(configuration)

    def conclude(self) -> None:
        """Answer the requests that a change of role or term has completed, or made impossible."""
        self._desk.conclude()
        self._administration.conclude()

    def next_deadline(self) -> Instant:
        """Return when :meth:`handle_timer` must be called, in seconds."""
        return self._look_at

    def handle_timer(self, now: Instant) -> None:
        """End, now and then, the sessions of clients that were silent for long.

        Parameters
        ----------
        now : float
            The time in seconds.
        """
        if self._look_at <= now:
            self._look_at = now + _LOOK_AT_SESSIONS
            self._lines.tell(_log, now)
            self._sessions.end_silent()
