"""Requests that are under way: each is sent again until it is answered, to whoever leads by then.

What may be known of the leader comes from every answer, and from whoever uses this; the highest term is believed.
While the leader is silent, or nobody is known to lead, anybody is asked: whoever does not lead tells who does.
Used by clients, and by nodes that have something to propose and do not lead.
"""

import secrets
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

import trio

from trioraft.clock import LONG_AGO, NEVER
from trioraft.errors import LimitError, RefusedError
from trioraft.messages import Ask, Cancel, ClientRequest, ClientResponse, Command, Refusal
from trioraft.round_trip import RoundTrip
from trioraft.versions import CANCELS_FROM

# What is not answered is sent again, first soon (a datagram was lost), then ever more rarely. Seconds.
_RETRY_FIRST: Final = 0.15
_RETRY_LAST: Final = 1.0
# Where answers take long, for many are waited for, a missing one is noticed later, but not later than this.
_RETRY_SLOWEST: Final = 4.0
# A node that says that there is no leader, or that it is busy, is not asked again at once.
_PAUSE_FIRST: Final = 0.02
_PAUSE_LAST: Final = 0.5
# So often a request goes at once to whom it was sent on to; two nodes may name each other.
_AT_ONCE: Final = 3
# Whoever is believed to lead and was silent for so long is believed no more. Seconds.
_SILENCE_MAX: Final = 2.0
# After so many unanswered tries in a row another node is asked too.
_TRIES: Final = 2

# So many requests that were given up are told at once, and so many of them once more.
_TOLD_AT_ONCE: Final = 200
_TOLD_AGAIN: Final = 16

# What is known where nobody has said more.
NO_ANSWER: Final = "no answer in time"
NOT_REACHED: Final = "no node can be reached"

# The first request of a process has a number below it, so far from the bound of the field that any number can follow.
FIRST_NUMBER_MAX: Final = 2**61

# Times of two clocks are added and taken away; what is due then is due.
_ROUNDING: Final = 1e-6

# The request may be carried out when it is sent again, there or elsewhere.
_TRY_AGAIN: Final = frozenset(
    {
        Refusal.NOT_LEADER,
        Refusal.NO_LEADER,
        Refusal.NO_CLUSTER,
        Refusal.BUSY,
        Refusal.NOT_COMMITTED,
        Refusal.UNKNOWN,
    }
)


def refused(response: ClientResponse) -> RefusedError:
    """Give the error for a request that was refused for good.

    Parameters
    ----------
    response : ClientResponse
        The refusal.

    Returns
    -------
    RefusedError
        The error to raise.
    """
    return (LimitError if response.code == Refusal.LIMIT else RefusedError)(f"refused: {response.detail}")


class Routes(Protocol):
    """How nodes are reached. Nodes are named by their ids."""

    def send_request(self, node: int, request: ClientRequest) -> bool:
        """Send a request; False where there is no way to that node now."""

    def reachable_nodes(self) -> list[int]:
        """Give the nodes that can be sent something now, those that are well first."""

    def highest_version(self, node: int) -> int:
        """Give the highest version of the protocol that a node speaks; 0 where there is no way to it now."""

    def meet(self, node: int, address: str) -> None:
        """Find a way to a node at an ``ip:port`` that another node named, and call :meth:`Calls.met` then."""


@dataclass(slots=True)
class _Call:
    """A request under way.

    Attributes
    ----------
    number : int
        Names it.
    command : callable
        Gives what is sent, again when it was refused for a while.
    message : ClientRequest
        What is sent.
    node : int or None
        Who has to answer it; None for the leader.
    anybody : bool
        Whether any node may answer.
    stays : bool
        Whether it is sent to another node only when the one that has it is silent.
    due : float
        When it is sent again.
    wait : float
        How long after the next sending that will be.
    patience : float
        The longest such wait.
    tries, pauses : int
        How often it was sent since the last answer, and how often it was put off or sent on.
    sent_to : int
        Who was asked last; 0 for nobody, or when they have put it off.
    sent_at : float
        When it was first sent to them.
    unrefused : Counter of int
        How often each node was sent it without refusing that; what is late may still be carried out.
    asked : set of int
        Whom it was sent to. Nobody else's answer counts.
    """

    number: int
    command: Callable[[], Command]
    message: ClientRequest
    node: int | None
    anybody: bool
    stays: bool
    due: float
    patience: float
    wait: float
    tries: int = 0
    pauses: int = 0
    sent_to: int = 0
    sent_at: float = 0.0
    unrefused: Counter[int] = field(default_factory=Counter)
    asked: set[int] = field(default_factory=set)
    answered: trio.Event = field(default_factory=trio.Event)
    response: ClientResponse | None = None


class Calls:
    """Requests under way.

    Parameters
    ----------
    routes : Routes
        How nodes are reached.
    clock : callable
        Tells the time in seconds.
    flush : callable
        Lets what was sent leave.
    first : int, optional
        Requests are numbered from here, below `FIRST_NUMBER_MAX`; a random number by default. It is a secret of those
        who are asked: whoever does not see a request cannot answer it.

    Attributes
    ----------
    problem : str
        What last kept a request from being carried out, in words; empty once one is.
    may_be_done : bool
        Whether the request whose wait was cancelled last may have been carried out.
    """

    def __init__(
        self, routes: Routes, clock: Callable[[], float], flush: Callable[[], None], first: int | None = None
    ) -> None:
        self.problem = ""
        self.may_be_done = False
        self._routes = routes
        self._clock = clock
        self._flush = flush
        self._calls: dict[int, _Call] = {}
        self._last_request = secrets.randbelow(FIRST_NUMBER_MAX) if first is None else first
        self._term = 0
        self._leader = 0
        self._leader_since = LONG_AGO  # when it was named, or last heard
        self._turn = 0
        self._wake = trio.Event()
        self._wakes_at = NEVER
        self._unsent = trio.Event()
        self._given_up: dict[int, list[int]] = {}  # what each node need not answer any more, and was not told yet
        self._told: dict[int, deque[int]] = {}  # and was told last
        self._round_trip = RoundTrip()

    # --- what callers use -----------------------------------------------------------------------------------

    async def call(
        self,
        command: Callable[[], Command],
        *,
        node: int | None = None,
        anybody: bool = False,
        stays: bool = False,
        patience: float = _RETRY_LAST,
    ) -> ClientResponse:
        """Have a command carried out.

        Parameters
        ----------
        command : callable
            Gives the command; called again where it was refused for a while.
        node : int, optional
            Who has to do it; the leader by default, whoever that is by then.
        anybody : bool
            Whether any node may do it.
        stays : bool
            Whether only a leader is asked, and another one only when that one is silent: for a command that two
            leaders, one after the other, must not both carry out.
        patience : float
            Send it again after at most so many seconds without an answer, unless answers take longer than that.

        Returns
        -------
        ClientResponse
            The answer: that it was done, or why it will not be.
        """
        self._last_request += 1
        number = self._last_request
        message = ClientRequest(number, command())
        now = self._clock()
        call = _Call(number, command, message, node, anybody, stays, now, patience, self._usual_wait())
        is_alone = not self._calls
        self._calls[number] = call
        self._send(call, now, at_once=is_alone)
        try:
            await call.answered.wait()
        except trio.Cancelled:
            self.may_be_done = call.unrefused.total() > 0
            self.problem = self.problem or (NO_ANSWER if self.may_be_done else NOT_REACHED)
            self._give_up(call)
            raise
        finally:
            del self._calls[number]
        assert call.response is not None  # noqa: S101 - tells the type checker what the event means
        return call.response

    def _give_up(self, call: _Call) -> None:
        """Tell those who have a request, with the next datagram, that it is not waited for any more."""
        for node, times in call.unrefused.items():
            if times:
                self._given_up.setdefault(node, []).append(call.number)
                self._unsent.set()

    def tell_given_up(self) -> None:
        """Send what nodes need not answer any more, to those who understand it; the caller flushes.

        A datagram may be lost, and is not sent again. So each has the last few of the one before too.
        """
        given_up, self._given_up = self._given_up, {}
        for node, numbers in given_up.items():
            if self._routes.highest_version(node) < CANCELS_FROM:
                continue
            told = self._told.setdefault(node, deque(maxlen=_TOLD_AGAIN))
            for start in range(0, len(numbers), _TOLD_AT_ONCE):
                news = numbers[start : start + _TOLD_AT_ONCE]
                self._last_request += 1
                self._routes.send_request(node, ClientRequest(self._last_request, Cancel((*told, *news))))
                told += news

    def post(self, command: Command, node: int = 0) -> None:
        """Send a command once, and wait for nothing.

        Parameters
        ----------
        command : Command
            The command.
        node : int
            Who is to carry it out; 0 for the leader.
        """
        self._last_request += 1
        to = node or self._leader
        if to:
            self._routes.send_request(to, ClientRequest(self._last_request, command))
            self._flush()

    # --- what is learned ------------------------------------------------------------------------------------

    @property
    def leader(self) -> int:
        """Who is believed to lead; 0 for nobody."""
        return self._leader

    @property
    def term(self) -> int:
        """The newest term that a leader was believed to lead in; 0 before the first."""
        return self._term

    def learn_leader(self, term: int, leader: int) -> None:
        """Take notice of who leads; what waits for a leader goes there at once.

        Parameters
        ----------
        term : int
            The term.
        leader : int
            The node that leads in it; 0 where that is not known.
        """
        now = self._clock()
        if leader == self._leader:
            self._term = max(self._term, term)
        elif leader and (term > self._term or not self._leader or now - self._leader_since > _SILENCE_MAX):
            self._term, self._leader, self._leader_since = term, leader, now
            self._hurry(now)
        elif not leader and term > self._term:
            self._term, self._leader = term, 0

    def met(self, node: int) -> None:
        """Take notice of a node that can be reached now."""
        now = self._clock()
        if node == self._leader or not self._leader:
            self._hurry(now)
        for call in self._calls.values():
            if call.node == node and not call.sent_to:
                self._send(call, now)

    def _hurry(self, now: float) -> None:
        """Send what is not under way to the leader, to the leader."""
        for call in self._calls.values():
            elsewhere = not call.anybody and not call.stays and self._leader not in {0, call.sent_to}
            if call.response is None and call.node is None and (elsewhere or not call.sent_to):
                self._send(call, now)

    def receive(self, sender: int, response: ClientResponse) -> None:
        """Take an answer, if it comes from whom the request was sent to; nobody else can know what the answer is.

        Parameters
        ----------
        sender : int
            The node that answers.
        response : ClientResponse
            Its answer.
        """
        now = self._clock()
        call = self._calls.get(response.request)
        if call is None or sender not in call.asked:
            return
        if sender == self._leader:
            self._leader_since = now
        if response.code == Refusal.NOT_LEADER and response.leader and response.leader_address:
            self._routes.meet(response.leader, response.leader_address)
        if response.term:
            self._learn_from(sender, response)
        if call.response is not None:
            return
        if response.code not in _TRY_AGAIN or call.node is not None:
            if not isinstance(call.message.command, Ask):  # the answer to that may take any time
                self._round_trip.measured(now - call.sent_at)
            call.response = response
            call.answered.set()
            self.problem = ""
            return
        if response.code != Refusal.UNKNOWN and call.unrefused[sender]:
            call.unrefused[sender] -= 1
        if response.code != Refusal.NOT_LEADER:
            self.problem = response.detail
        if sender == call.sent_to:
            self._try_again(call, response, now)

    def _learn_from(self, sender: int, response: ClientResponse) -> None:
        if sender == self._leader and response.leader != sender:
            self._leader, self._term = 0, min(self._term, response.term)  # it says itself that it does not lead
        self.learn_leader(response.term, response.leader)

    def _try_again(self, call: _Call, response: ClientResponse, now: float) -> None:
        refused_by, call.sent_to, call.tries, call.wait = call.sent_to, 0, 0, self._usual_wait()
        call.message = ClientRequest(call.number, call.command())
        call.pauses = min(call.pauses + 1, 10)
        if response.code == Refusal.NOT_LEADER and self._leader not in {0, refused_by} and call.pauses <= _AT_ONCE:
            self._send(call, now)
        else:
            self._put_off(call, now + min(_PAUSE_FIRST * 2**call.pauses, _PAUSE_LAST))

    # --- sending --------------------------------------------------------------------------------------------

    def _choose(self, call: _Call) -> list[int]:
        """Give those to be tried, in order."""
        if call.node is not None:
            return [call.node]
        if call.stays:
            asked = call.sent_to if call.sent_to in self._routes.reachable_nodes() else self._leader
            return [asked] if asked else []
        if self._leader and not call.anybody and call.tries <= _TRIES:
            return [self._leader]
        others = self._routes.reachable_nodes()
        if others:
            self._turn += 1
            turn = self._turn % len(others)
            others = others[turn:] + others[:turn]
        if call.anybody:
            return [*(node for node in others if node != call.sent_to), *others]
        call.tries = 0
        return [node for node in others if node != self._leader] or others

    def _usual_wait(self) -> float:
        """Tell after which time an answer is missing: to ask a busy node again only makes it busier."""
        return min(max(_RETRY_FIRST, self._round_trip.timeout(_RETRY_FIRST)), _RETRY_SLOWEST)

    def _send(self, call: _Call, now: float, *, at_once: bool = False) -> None:
        call.tries += call.due <= now  # not when there is just news of the leader
        for node in self._choose(call):
            before, call.sent_to = call.sent_to, node
            call.asked.add(node)
            call.unrefused[node] += 1
            if node != before:
                call.sent_at = now
            if self._routes.send_request(node, call.message):
                if at_once:
                    self._flush()
                else:
                    self._unsent.set()
                break
            call.sent_to = before
            call.unrefused[node] -= 1
        if call.response is not None:
            return
        longest = max(call.patience, self._usual_wait())
        self._put_off(call, now + min(call.wait, longest))
        call.wait = min(call.wait * 2, longest)

    def _put_off(self, call: _Call, due: float) -> None:
        call.due = due
        if due < self._wakes_at:
            self._wake.set()

    def tasks(self) -> tuple[Callable[[], Awaitable[None]], ...]:
        """Give what has to run for as long as anything is called."""
        return self._deliver, self._send_again

    async def _deliver(self) -> None:
        """Let requests leave once everybody who wants to call by now has done so: many go in few datagrams."""
        while True:
            await self._unsent.wait()
            self._unsent = trio.Event()
            self.tell_given_up()
            self._flush()

    async def _send_again(self) -> None:
        """Send again what is not answered, until cancelled."""
        while True:
            self._wake = trio.Event()
            due = (call.due for call in self._calls.values() if call.response is None)
            self._wakes_at = min(due, default=NEVER)
            with trio.move_on_at(trio.current_time() + self._wakes_at - self._clock()):
                await self._wake.wait()
            now = self._clock() + _ROUNDING
            for call in self._calls.values():
                if call.response is None and call.due <= now:
                    self._send(call, now)
