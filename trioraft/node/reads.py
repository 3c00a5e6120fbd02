"""Read indexes: up to where a node must have applied the log to answer a linearizable read (thesis 6.4).

The leader finds the read index by itself (:mod:`trioraft.consensus.reads`). A follower asks the leader, once for all
reads that wait. Reads that come while it asks wait for its next question, because the answer may be older than they
are.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from trioraft.clock import NEVER
from trioraft.consensus import Core, Role
from trioraft.consensus.turn import Dispatch
from trioraft.messages import Index, Instant, Message, NodeId, OptionalNodeId, ReadIndexRequest, ReadIndexResponse

# Takes the read index, or None when no leader has named one.
Answered: TypeAlias = Callable[[Index | None], None]

# An unanswered question is asked again after this long, in seconds.
_ASK_AGAIN: Final = 0.1
# Sums of times are rounded: a deadline that is nearer than this has passed.
_ROUNDING: Final = 1e-6


@dataclass(slots=True)
class _Round:
    """One question to the leader, for all reads that waited when it was asked."""

    number: int
    leader: OptionalNodeId
    due: Instant
    reads: list[Answered] = field(default_factory=list)


class Reads:
    """The linearizable reads of one node, and those that other nodes ask it about.

    Parameters
    ----------
    core : Core
        The core, which finds the read index when this node leads.
    clock : callable
        Returns the time in seconds.
    first : int
        The number before that of the first question. Each process of a node begins elsewhere: a late answer to an
        earlier process must not be taken for an answer to this one.
    """

    def __init__(
        self,
        core: Core,
        clock: Callable[[], Instant],
        first: int,
    ) -> None:
        self._core = core
        self._clock = clock
        self._outgoing: list[Dispatch] = []
        self._confirming: dict[int, Answered] = {}
        self._last = first
        self._waiting: list[Answered] = []
        self._round: _Round | None = None

    def start(self, answered: Answered) -> None:
        """Find the read index.

        Parameters
        ----------
        answered : callable
            Takes the index, perhaps during the call; None when there is no leader, or the leader changed.
        """
        if self._core.role is Role.LEADER:
            self._last += 1
            self._confirming[self._last] = answered
            self._core.start_read(self._last, self._clock())
        elif not self._core.leader:
            answered(None)
        else:
            self._waiting.append(answered)
            if self._round is None:
                self._ask()

    def confirmed(self, read: int, index: Index | None) -> None:
        """Take in the core's answer to a read.

        Parameters
        ----------
        read : int
            The number that the core was given.
        index : int or None
            The read index; None when this node does not lead any more.
        """
        answered = self._confirming.pop(read, None)
        if answered is not None:
            answered(index)

    def _ask(self) -> None:
        """Ask the leader, for all reads that wait."""
        self._last += 1
        self._round = _Round(self._last, self._core.leader, self._clock() + _ASK_AGAIN, self._waiting)
        self._waiting = []
        self._send(self._round.leader, ReadIndexRequest(self._round.number))

    def receive(self, sender: NodeId, message: ReadIndexRequest | ReadIndexResponse) -> None:
        """Take in a message of another member.

        Parameters
        ----------
        sender : int
            The node.
        message : ReadIndexRequest or ReadIndexResponse
            Its question or answer.
        """
        if isinstance(message, ReadIndexRequest):
            self._answer(sender, message.read)
        elif self._round is not None and (message.read, sender) == (self._round.number, self._round.leader):
            self._conclude(message.index if message.done else None)

    def _answer(self, sender: NodeId, read: int) -> None:
        if self._core.role is not Role.LEADER:
            self._send(sender, ReadIndexResponse(read, done=False))
            return

        def answered(index: Index | None) -> None:
            self._send(sender, ReadIndexResponse(read, done=index is not None, index=index or 0))

        self.start(answered)

    def _conclude(self, index: Index | None) -> None:
        round_, self._round = self._round, None
        if round_ is not None:
            for answered in round_.reads:
                answered(index)
        if self._waiting and self._round is None:
            if self._core.leader and self._core.role is not Role.LEADER:
                self._ask()
            else:
                waiting, self._waiting = self._waiting, []
                for answered in waiting:
                    answered(None)

    def _send(self, to: NodeId, message: Message) -> None:
        self._outgoing.append(Dispatch((to,), message))

    def to_send(self) -> list[Dispatch]:
        """Drain the messages that are to leave.

        Returns
        -------
        list of Dispatch
            In order.
        """
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    @property
    def has_outgoing(self) -> bool:
        """Whether messages wait to leave."""
        return bool(self._outgoing)

    def next_deadline(self) -> Instant:
        """Return when :meth:`look` must be called, in seconds; infinity when no question is open."""
        return NEVER if self._round is None else self._round.due

    def leader_changed(self) -> None:
        """Fail the reads of the open question if the leader that was asked does not lead any more."""
        if self._round is not None and self._core.leader != self._round.leader:
            self._conclude(None)

    def look(self, now: Instant) -> None:
        """Repeat a question that was not answered in time; give up where the leader that was asked leads no more.

        Parameters
        ----------
        now : float
            The time in seconds.
        """
        if self._round is None:
            return
        if self._core.leader != self._round.leader:
            self._conclude(None)
        elif self._round.due <= now + _ROUNDING:
            self._round.due = now + _ASK_AGAIN
            self._send(self._round.leader, ReadIndexRequest(self._round.number))
