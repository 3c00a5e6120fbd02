"""Requests under way: when they leave, and when they are sent again."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trio.testing

from trioraft.asking import waiting
from trioraft.asking.calls import NO_ANSWER, NOT_REACHED, Call, Calls
from trioraft.messages import Cancel, ClientRequest, ClientResponse, Command, Query, Refusal
from trioraft.versions import SPOKEN

LEADER, OTHER = 7, 8


class Leader:
    """Answers each request some time after it came first, and counts what it was sent."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.came: list[int] = []
        self.turns = 0
        self.timer = waiting.Timer(trio.current_time)
        self.calls = Calls(self, trio.current_time, self.timer.soon)
        self.calls.learn_leader(1, LEADER)
        self.nursery: trio.Nursery

    def send_request(self, node: int, request: ClientRequest) -> bool:
        assert node == LEADER
        if request.request not in self.came:
            self.nursery.start_soon(self.answer, request)
        self.came.append(request.request)
        return True

    async def answer(self, request: ClientRequest) -> None:
        await trio.sleep(self.seconds)
        self.calls.receive(LEADER, ClientResponse(request.request, done=True, term=1, leader=LEADER))

    def highest_version(self, node: int) -> int:
        return SPOKEN.highest if node == LEADER else 0

    def reachable_nodes(self) -> list[int]:
        return [LEADER]

    def meet(self, node: int, address: str) -> None:
        pass

    def turn(self) -> float:
        self.turns += 1
        self.calls.handle_timer(trio.current_time())
        return self.calls.next_deadline()

    async def call(self) -> None:
        response = await waiting.call(self.calls, lambda: Query(b""))
        assert response.done


@asynccontextmanager
async def led(seconds: float) -> AsyncIterator[Leader]:
    leader = Leader(seconds)
    async with trio.open_nursery() as leader.nursery:
        leader.nursery.start_soon(leader.timer.run, leader.turn)
        await trio.testing.wait_all_tasks_blocked()
        yield leader
        leader.nursery.cancel_scope.cancel()


async def test_a_leader_that_takes_long_is_soon_not_asked_again(autojump_clock: trio.testing.MockClock) -> None:
    async with led(0.7) as leader:
        for _ in range(20):
            await leader.call()
        assert len(leader.came) > 20, "at first it seems that the request was lost"
        sent = len(leader.came)
        for _ in range(20):
            await leader.call()
        assert len(leader.came) == sent + 20


async def test_what_is_lost_is_sent_again_soon_where_answers_come_soon(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with led(0.01) as leader:
        for _ in range(20):
            await leader.call()
        leader.seconds = 5.0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leader.call)
            await trio.sleep(0.2)
            assert leader.came.count(leader.came[-1]) == 2
            nursery.cancel_scope.cancel()


async def test_requests_that_are_begun_in_one_pass_leave_in_one_turn(autojump_clock: trio.testing.MockClock) -> None:
    async with led(0.01) as leader:
        before = leader.turns
        await leader.call()
        assert leader.turns == before + 1
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(leader.call)
        assert len(leader.came) == 101
        assert leader.turns == before + 2


# --- without trio -------------------------------------------------------------------------------------------


class Nodes:
    """Nodes that can be reached, what they were sent, and a clock; one node may answer while it is asked."""

    def __init__(self, *reachable: int) -> None:
        self.now = 100.0
        self.reachable = list(reachable)
        self.sent: list[tuple[int, Command]] = []
        self.numbers: list[int] = []
        self.wanted = 0
        self.answers_at_once = 0
        self.calls = Calls(self, lambda: self.now, self.soon, first=0)
        self.answers: list[ClientResponse] = []

    def soon(self) -> None:
        self.wanted += 1

    def send_request(self, node: int, request: ClientRequest) -> bool:
        if node not in self.reachable:
            return False
        self.sent.append((node, request.command))
        self.numbers.append(request.request)
        if node == self.answers_at_once:
            self.answer(node, request.request)
        return True

    def answer(self, node: int, number: int, code: Refusal | None = None, detail: str = "") -> None:
        response = ClientResponse(number, done=code is None, code=code or "", detail=detail, term=1, leader=LEADER)
        self.calls.receive(node, response)

    def reachable_nodes(self) -> list[int]:
        return self.reachable

    def highest_version(self, node: int) -> int:
        return SPOKEN.highest

    def meet(self, node: int, address: str) -> None:
        pass

    def start(self, **how: bool) -> Call:
        return self.calls.start(partial(Query, b""), self.answers.append, **how)

    def pass_time(self, seconds: float) -> None:
        """Do all that becomes due within some time."""
        until = self.now + seconds
        while (due := self.calls.next_deadline()) <= until:
            self.now = max(self.now, due)
            self.calls.handle_timer(self.now)
        self.now = until


def test_nothing_is_sent_or_answered_before_the_owners_turn() -> None:
    nodes = Nodes(LEADER)
    nodes.calls.learn_leader(1, LEADER)
    nodes.answers_at_once = LEADER
    nodes.start()
    assert (nodes.sent, nodes.answers) == ([], [])
    assert nodes.wanted == 1
    assert nodes.calls.next_deadline() <= nodes.now
    nodes.calls.handle_timer(nodes.now)
    assert (len(nodes.sent), len(nodes.answers)) == (1, 1)
    nodes.pass_time(60)
    assert len(nodes.sent) == 1, "what is answered is not sent again"


def test_the_owner_is_told_of_what_has_to_be_sent_earlier_than_it_knew() -> None:
    nodes = Nodes(LEADER, OTHER)
    nodes.calls.learn_leader(1, LEADER)
    call = nodes.start()
    nodes.pass_time(0)
    before, wanted = nodes.calls.next_deadline(), nodes.wanted
    nodes.answer(LEADER, call.number, Refusal.BUSY, "busy")
    assert nodes.calls.next_deadline() < before
    assert nodes.wanted > wanted
    nodes.pass_time(0.1)
    wanted = nodes.wanted
    nodes.calls.learn_leader(2, OTHER)
    assert nodes.wanted > wanted
    nodes.pass_time(0)
    assert [node for node, _ in nodes.sent] == [LEADER, LEADER, OTHER]


def test_deadlines_of_what_is_over_do_not_pile_up() -> None:
    nodes = Nodes(LEADER)
    nodes.calls.learn_leader(1, LEADER)
    kept = nodes.start()
    for _ in range(10_000):
        call = nodes.start()
        nodes.pass_time(0)
        nodes.answer(LEADER, call.number)
    assert len(nodes.calls._deadlines) < 100
    sent = nodes.numbers.count(kept.number)
    nodes.pass_time(60)
    assert nodes.numbers.count(kept.number) - sent > 50, "what is not answered is still sent again"


def test_a_request_that_is_given_up_is_told_to_those_who_have_it_and_never_answered() -> None:
    nodes = Nodes(LEADER)
    nodes.calls.learn_leader(1, LEADER)
    call = nodes.start()
    nodes.pass_time(0)
    nodes.calls.give_up(call)
    assert call.may_be_done
    assert nodes.calls.problem == NO_ANSWER
    nodes.pass_time(60)
    assert nodes.sent[1:] == [(LEADER, Cancel((call.number,)))]
    nodes.answer(LEADER, call.number)
    assert nodes.answers == []


def test_a_refusal_that_the_network_repeats_does_not_take_back_that_a_request_is_unknown() -> None:
    nodes = Nodes(LEADER)
    nodes.calls.learn_leader(1, LEADER)
    call = nodes.start()
    nodes.pass_time(0)
    nodes.calls.receive(LEADER, ClientResponse(call.number, done=False, code=Refusal.UNKNOWN, detail="unknown"))
    nodes.pass_time(1)
    for _ in range(3):
        nodes.calls.receive(LEADER, ClientResponse(call.number, done=False, code=Refusal.NO_LEADER, detail="none"))
    nodes.calls.give_up(call)
    assert call.may_be_done


@pytest.mark.parametrize(("reachable", "has_turn", "known"), [(True, False, NO_ANSWER), (False, True, NOT_REACHED)])
def test_a_request_that_was_never_sent_cannot_have_been_carried_out(
    *, reachable: bool, has_turn: bool, known: str
) -> None:
    nodes = Nodes(*[LEADER] * reachable)
    nodes.calls.learn_leader(1, LEADER)
    call = nodes.start()
    if has_turn:
        nodes.pass_time(1)
    nodes.calls.give_up(call)
    assert not call.may_be_done
    assert nodes.calls.problem == known
    nodes.pass_time(60)
    assert nodes.sent == [], "there is nobody to tell"
