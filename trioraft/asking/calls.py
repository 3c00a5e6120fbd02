"""Requests under way: each is sent again until it is answered, to whichever node leads by then.

Every answer may tell who leads, and so may the owner; the highest term is believed. While the leader is silent, or
none is known, any node is asked, for a node that does not lead names the one that does. Clients use this, and nodes
that have something to propose and do not lead.

Nothing here waits, and :meth:`Calls.handle_timer` alone sends. The owner calls that at :meth:`Calls.next_deadline`,
and at the end of a pass in which it was told ``soon``; then it lets everything leave that was sent.
:mod:`trioraft.asking.waiting` does so with trio.
"""

import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import Final, Protocol

from trioraft.clock import LONG_AGO, NEVER
from trioraft.errors import LimitError, RefusedError
from trioraft.messages import (
    FIRST_VERSION,
    Ask,
    Cancel,
    ClientRequest,
    ClientResponse,
    Command,
    Refusal,
    Refused,
    Version,
)
from trioraft.round_trip import RoundTrip
from trioraft.versions import CANCELS_FROM

# A request without an answer is sent again, first soon (a datagram was lost), then ever more rarely. Seconds.
_RETRY_FIRST: Final = 0.15
RETRY_LAST: Final = 1.0
# Where answers take long because many are waited for, a missing one is noticed later, but not later than this.
_RETRY_SLOWEST: Final = 4.0
# A node that says that there is no leader, or that it is busy, is not asked again at once.
_PAUSE_FIRST: Final = 0.02
_PAUSE_LAST: Final = 0.5
# How often a request goes at once to the node that it was referred to; two nodes may name each other.
_AT_ONCE: Final = 3
# A node that is believed to lead is believed no more when it was silent for this long. Seconds.
_SILENCE_MAX: Final = 2.0
# After this many unanswered tries in a row another node is asked too.
_TRIES: Final = 2

# How many given-up requests one message names, and how many of those named before it names again.
_TOLD_AT_ONCE: Final = 200
_TOLD_AGAIN: Final = 16

# What is known where no node has said more.
NO_ANSWER: Final = "no answer in time"
NOT_REACHED: Final = "no node can be reached"

# The first request of a process has a number below it, so far from the bound of the field that any number can follow.
FIRST_NUMBER_MAX: Final = 2**61

# Sums and differences of times are rounded; a deadline that is missed by no more than this has come. Seconds.
_ROUNDING: Final = 1e-6
# How many deadlines of requests that have others now, or are over, are kept beside twice the number of requests.
_STALE_MAX: Final = 64

# The request may be carried out when it is sent again, there or elsewhere.
TRY_AGAIN: Final = frozenset(
    {
        Refusal.NOT_LEADER,
        Refusal.NO_LEADER,
        Refusal.NO_CLUSTER,
        Refusal.BUSY,
        Refusal.NOT_COMMITTED,
        Refusal.UNKNOWN,
    }
)


def refused(response: ClientResponse | Refused) -> RefusedError:
    """Return the error for a request, or for a command of a batch, that was refused for good.

    Parameters
    ----------
    response : ClientResponse or Refused
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
        """Send a request; return False where there is no way to that node now. It leaves when the owner lets it."""

    def reachable_nodes(self) -> list[int]:
        """List the nodes that can be sent something now, those that are well first."""

    def highest_version(self, node: int) -> int:
        """Return the highest version of the protocol that a node speaks; 0 where there is no way to it now."""

    def meet(self, node: int, address: str) -> None:
        """Find a way to a node at an ``ip:port`` that another node named, and call :meth:`Calls.met` then."""


@dataclass(slots=True, eq=False)
class Call:
    """A request under way.

    Attributes
    ----------
    number : int
        Names it.
    command : callable
        Returns what is sent; called again for the next sending after it was refused for a while.
    done : callable
        Told the answer.
    node : int or None
        The node that has to answer it; None for the leader.
    anybody : bool
        Whether any node may answer.
    stays : bool
        Whether it is sent to another node only when the one that has it is silent.
    patience : float
        The longest time until it is sent again.
    needs : int
        The version of the protocol that a node must speak to understand it.
    due : float
        When it is sent again.
    wait : float
        How long after the next sending that will be.
    message : ClientRequest or None
        What is sent; None until the next sending makes it.
    tried : bool
        Whether it was tried to send it.
    tries, pauses : int
        How often it was sent since the last answer, and how often it was put off or referred to another node.
    sent_to : int
        The node that was asked last; 0 for none, or when that node has put it off.
    sent_at : float
        When it was first sent to that node.
    unrefused : dict of int to int
        For each node that was asked, how often it was sent this request without refusing it: what is late may still
        be carried out. No other node's answer counts.
    is_unknown : bool
        Whether a node that took it has said that nobody knows what became of it.
    """

    number: int
    command: Callable[[], Command]
    done: Callable[[ClientResponse], None]
    node: int | None
    anybody: bool
    stays: bool
    patience: float
    needs: Version
    due: float
    wait: float
    message: ClientRequest | None = None
    tried: bool = False
    tries: int = 0
    pauses: int = 0
    sent_to: int = 0
    sent_at: float = 0.0
    unrefused: dict[int, int] = field(default_factory=dict)
    is_unknown: bool = False

    @property
    def may_be_done(self) -> bool:
        """Whether it may have been carried out, or may still be."""
        return self.is_unknown or any(self.unrefused.values())


class Calls:
    """Requests under way.

    Parameters
    ----------
    routes : Routes
        How nodes are reached.
    clock : callable
        Returns the time in seconds.
    soon : callable
        Called when something is to be sent, or when :meth:`next_deadline` is earlier than it was: the owner calls
        :meth:`handle_timer` once at the end of the pass, however often it was called.
    first : int, optional
        Requests are numbered from here, below `FIRST_NUMBER_MAX`; a random number by default. It is a secret of the
        nodes that are asked: nobody who has not seen a request can answer it.

    Attributes
    ----------
    problem : str
        What last kept a request from being carried out, in words; empty once one is.
    soon : callable
        As above.
    """

    def __init__(
        self, routes: Routes, clock: Callable[[], float], soon: Callable[[], None], first: int | None = None
    ) -> None:
        self.problem = ""
        self.soon = soon
        self._routes = routes
        self._clock = clock
        self._calls: dict[int, Call] = {}
        self._last_request = secrets.randbelow(FIRST_NUMBER_MAX) if first is None else first
        self._term = 0
        self._leader = 0
        self._leader_since = LONG_AGO  # when it was named, or last heard
        self._turn = 0
        self._to_send: dict[int, None] = {}  # the calls that are sent at the next opportunity, in order
        self._posts: list[tuple[int, ClientRequest]] = []  # what is sent once, and to which node
        self._deadlines: list[tuple[float, int]] = []  # a heap of when calls are due; some are over, or due later
        self._given_up: dict[int, list[int]] = {}  # what each node need not answer any more, and was not told yet
        self._told: dict[int, deque[int]] = {}  # and was told last
        self._round_trip = RoundTrip()

    # --- what callers use -----------------------------------------------------------------------------------

    def start(
        self,
        command: Callable[[], Command],
        done: Callable[[ClientResponse], None],
        *,
        node: int | None = None,
        anybody: bool = False,
        stays: bool = False,
        patience: float = RETRY_LAST,
        needs: Version = FIRST_VERSION,
    ) -> Call:
        """Begin to have a command carried out.

        Parameters
        ----------
        command : callable
            Returns the command; called again where it was refused for a while.
        done : callable
            Told the answer, that it was done or why it will not be; never before this method has returned.
        node : int, optional
            The node that has to do it; the leader by default, whichever that is by then.
        anybody : bool
            Whether any node may do it.
        stays : bool
            Whether only a leader is asked, and another one only when that one is silent: for a command that two
            leaders, one after the other, must not both carry out.
        patience : float
            Send it again after at most so many seconds without an answer, unless answers take longer than that.
        needs : int
            The version of the protocol that a node must speak to understand it. It is refused, although another node
            may have it, where the next node to be asked speaks only earlier ones.

        Returns
        -------
        Call
            What :meth:`give_up` takes.
        """
        self._last_request += 1
        number = self._last_request
        call = Call(number, command, done, node, anybody, stays, patience, needs, self._clock(), self._usual_wait())
        self._calls[number] = call
        self._send_soon(call)
        return call

    def give_up(self, call: Call) -> str:
        """Wait no longer for an answer; the nodes that have the request are told so.

        Parameters
        ----------
        call : Call
            The request, which has no answer.

        Returns
        -------
        str
            Why it has none; `problem` from now on.
        """
        self.problem = self.why_unanswered(call)
        if self._calls.pop(call.number, None) is not None and call.may_be_done:
            for node, times in call.unrefused.items():
                if times:
                    self._given_up.setdefault(node, []).append(call.number)
            self.soon()
        return self.problem

    def why_unanswered(self, call: Call) -> str:
        """Say why a request has no answer.

        Parameters
        ----------
        call : Call
            The request.

        Returns
        -------
        str
            What is known, in words.
        """
        return self.problem or (NO_ANSWER if call.may_be_done or not call.tried else NOT_REACHED)

    def post(self, command: Command, node: int = 0) -> None:
        """Send a command once, and wait for nothing.

        Parameters
        ----------
        command : Command
            The command.
        node : int
            The node that is to carry it out; 0 for the leader.
        """
        self._last_request += 1
        to = node or self._leader
        if to:
            self._posts.append((to, ClientRequest(self._last_request, command)))
            self.soon()

    # --- what is learned ------------------------------------------------------------------------------------

    @property
    def leader(self) -> int:
        """The node that is believed to lead; 0 for none."""
        return self._leader

    @property
    def leader_version(self) -> Version:
        """The highest version that the leader speaks; 0 where there is none, or no way to it now."""
        return self._routes.highest_version(self._leader) if self._leader else 0

    @property
    def term(self) -> int:
        """The newest term that a leader was believed to lead in; 0 before the first."""
        return self._term

    def learn_leader(self, term: int, leader: int) -> None:
        """Take notice of which node leads; requests that wait for a leader go there.

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
            self._hurry()
        elif not leader and term > self._term:
            self._term, self._leader = term, 0

    def met(self, node: int) -> None:
        """Take notice of a node that can be reached now.

        Parameters
        ----------
        node : int
            The node.
        """
        if node == self._leader or not self._leader:
            self._hurry()
        for call in self._calls.values():
            if call.node == node and not call.sent_to:
                self._send_soon(call)

    def _hurry(self) -> None:
        """Send to the leader the requests that are for it and that it does not have."""
        for call in self._calls.values():
            elsewhere = not call.anybody and not call.stays and self._leader not in {0, call.sent_to}
            if call.node is None and (elsewhere or not call.sent_to):
                self._send_soon(call)

    def receive(self, sender: int, response: ClientResponse) -> None:
        """Take an answer, if it comes from a node that was sent the request; no other can know what the answer is.

        Parameters
        ----------
        sender : int
            The node that answers.
        response : ClientResponse
            Its answer.
        """
        call = self._calls.get(response.request)
        if call is None or sender not in call.unrefused:
            return
        now = self._clock()
        if sender == self._leader:
            self._leader_since = now
        if response.code == Refusal.NOT_LEADER and response.leader and response.leader_address:
            self._routes.meet(response.leader, response.leader_address)
        if response.term:
            self._learn_from(sender, response)
        if response.code in TRY_AGAIN and call.node is None:
            self._note_refusal(call, sender, response, now)
            return
        del self._calls[call.number]
        if call.message is not None and not isinstance(call.message.command, Ask):  # that may take any time
            self._round_trip.measured(now - call.sent_at)
        self.problem = ""
        call.done(response)

    def _learn_from(self, sender: int, response: ClientResponse) -> None:
        if sender == self._leader and response.leader != sender:
            self._leader, self._term = 0, min(self._term, response.term)  # it says itself that it does not lead
        self.learn_leader(response.term, response.leader)

    def _note_refusal(self, call: Call, sender: int, response: ClientResponse, now: float) -> None:
        """Take a refusal after which the request may be carried out when it is sent again."""
        if response.code == Refusal.UNKNOWN:
            call.is_unknown = True  # no later refusal, nor one that the network repeats, takes that back
        elif call.unrefused[sender]:
            call.unrefused[sender] -= 1
        if response.code != Refusal.NOT_LEADER:
            self.problem = response.detail
        if sender == call.sent_to and call.number not in self._to_send:
            self._try_again(call, response, now)

    def _try_again(self, call: Call, response: ClientResponse, now: float) -> None:
        refused_by, call.sent_to, call.tries, call.wait = call.sent_to, 0, 0, self._usual_wait()
        call.message = None
        call.pauses = min(call.pauses + 1, 10)
        if response.code == Refusal.NOT_LEADER and self._leader not in {0, refused_by} and call.pauses <= _AT_ONCE:
            self._send_soon(call)
        else:
            self._put_off(call, now + min(_PAUSE_FIRST * 2**call.pauses, _PAUSE_LAST))
            self.soon()

    # --- sending --------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """Return when :meth:`handle_timer` has something to do next.

        Returns
        -------
        float
            The time; of the past where it has now, infinity where it has nothing. It may turn out to be too early.
        """
        if self._to_send or self._posts or self._given_up:
            return LONG_AGO
        return self._deadlines[0][0] if self._deadlines else NEVER

    def handle_timer(self, now: float) -> None:
        """Send what is new and what is due again, and tell nodes what they need not answer any more.

        Parameters
        ----------
        now : float
            The time in seconds.
        """
        now += _ROUNDING
        numbers, self._to_send = self._to_send, {}
        for number in numbers:
            self._send(number, now)
        while self._deadlines and self._deadlines[0][0] <= now:
            due, number = heappop(self._deadlines)
            if number in self._calls and self._calls[number].due == due:
                self._send(number, now)
        posts, self._posts = self._posts, []
        for node, request in posts:
            self._routes.send_request(node, request)
        self._tell_given_up()

    def _tell_given_up(self) -> None:
        """Send to each node what it need not answer any more, if it understands that.

        A datagram may be lost, and this one is not sent again. So each holds the last few of the one before too.
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

    def _choose(self, call: Call) -> list[int]:
        """List the nodes to be tried, in order."""
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
        """Compute after which time an answer is missing: to ask a busy node again only makes it busier."""
        return min(max(_RETRY_FIRST, self._round_trip.timeout(_RETRY_FIRST)), _RETRY_SLOWEST)

    def _send_soon(self, call: Call) -> None:
        self._to_send[call.number] = None
        self.soon()

    def _send(self, number: int, now: float) -> None:
        """Send a request, unless it is answered or given up; a node that asks itself may answer at once."""
        call = self._calls.get(number)
        if call is None:
            return
        if call.message is None:
            call.message = ClientRequest(number, call.command())
        call.tries += call.due <= now  # not when there is just news of the leader
        call.tried = True
        for node in self._choose(call):
            if call.needs > FIRST_VERSION and 0 < self._routes.highest_version(node) < call.needs:
                del self._calls[number]
                why = "the node's software is too old for it"
                call.done(ClientResponse(number, done=False, code=Refusal.REFUSED, detail=why))
                return
            before, call.sent_to = call.sent_to, node
            call.unrefused[node] = call.unrefused.get(node, 0) + 1
            if node != before:
                call.sent_at = now
            if self._routes.send_request(node, call.message):
                break
            call.sent_to = before
            call.unrefused[node] -= 1
        if number in self._calls:
            longest = max(call.patience, self._usual_wait())
            self._put_off(call, now + min(call.wait, longest))
            call.wait = min(call.wait * 2, longest)

    def _put_off(self, call: Call, due: float) -> None:
        call.due = due
        heappush(self._deadlines, (due, call.number))
        if len(self._deadlines) > 2 * len(self._calls) + _STALE_MAX:
            self._deadlines = [(call.due, call.number) for call in self._calls.values()]
            heapify(self._deadlines)
