"""A client's session when more commands wait than may be under way, and what is known of those that are given up."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trio.testing

from trioraft.asking import waiting
from trioraft.asking.calls import NO_ANSWER, Calls
from trioraft.asking.session import Session
from trioraft.clock import NEVER
from trioraft.errors import LimitError, ProposalError, RefusedError, SessionEndedError
from trioraft.messages import (
    PAYLOAD_MAX,
    Cancel,
    ClientRequest,
    ClientResponse,
    EndSession,
    KeepSession,
    OpenSession,
    Propose,
    Refusal,
)
from trioraft.replica.session_clock import SESSION_SECONDS
from trioraft.replica.sessions import RESULTS_MAX
from trioraft.versions import BATCHES_FROM

LEADER = 7


class Leader:
    """Opens sessions, and answers commands when the test says so; it speaks the version before batches."""

    def __init__(self) -> None:
        self.now = 0.0
        self.wanted = 0
        self.sessions = 0
        self.opens = True
        self.sent: dict[int, ClientRequest] = {}
        self.proposed: list[Propose] = []
        self.kept: list[int] = []
        self.ended: list[int] = []
        self.given_up: set[int] = set()
        self.outcomes: dict[int, bytes | ProposalError] = {}
        self.calls = Calls(self, self.clock, self.soon)
        self.calls.learn_leader(1, LEADER)
        self.session = Session(self.calls, self.clock)

    def clock(self) -> float:
        return self.now

    def soon(self) -> None:
        self.wanted += 1

    def reachable_nodes(self) -> list[int]:
        return [LEADER]

    def highest_version(self, node: int) -> int:
        return BATCHES_FROM - 1

    def meet(self, node: int, address: str) -> None:
        pass

    def send_request(self, node: int, request: ClientRequest) -> bool:
        match request.command:
            case OpenSession() if self.opens:
                self.sessions += 1
                self._receive(request, session=self.sessions)
            case Propose() as asked:
                self.sent[int(asked.data)] = request
                self.proposed.append(asked)
            case KeepSession(session=session):
                self.kept.append(session)
                self._receive(request)
            case EndSession(session=session):
                self.ended.append(session)
            case Cancel(requests=requests):
                self.given_up |= set(requests)
        return True

    def answer(self, number: int, code: str = "", detail: str = "") -> None:
        self._receive(self.sent.pop(number), code=code, detail=detail)

    def _receive(self, request: ClientRequest, *, session: int = 0, code: str = "", detail: str = "") -> None:
        response = ClientResponse(
            request.request, done=not code, code=code, detail=detail, session=session, term=1, leader=LEADER
        )
        self.calls.receive(LEADER, response)

    def turn(self) -> float:
        """Have all sent that is to be sent now."""
        while min(self.session.next_deadline(), self.calls.next_deadline()) <= self.now:
            self.session.handle_timer(self.now)
            self.calls.handle_timer(self.now)
        return min(self.session.next_deadline(), self.calls.next_deadline())

    def propose(self, number: int) -> None:
        self.session.propose(b"%d" % number, partial(self.outcomes.__setitem__, number))


class Steps(trio.abc.Instrument):
    """Counts the steps of each task."""

    def __init__(self) -> None:
        self.of: Counter[str] = Counter()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.of[task.name] += 1


@asynccontextmanager
async def led() -> AsyncIterator[Leader]:
    """Drive a session with trio."""
    leader = Leader()
    timer = waiting.Timer(leader.clock)
    leader.calls.soon = timer.soon
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timer.run, leader.turn)
        yield leader
        nursery.cancel_scope.cancel()


async def test_each_free_place_wakes_whoever_waits_longest_and_nobody_else() -> None:
    steps, more, scopes = Steps(), 500, {}

    async def propose(number: int) -> None:
        with trio.CancelScope() as scopes[number]:
            await waiting.propose(leader.session, b"%d" % number)

    async with led() as leader, trio.open_nursery() as nursery:
        for number in range(RESULTS_MAX + more):
            nursery.start_soon(propose, number, name=f"propose {number}")
            await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(leader.sent) == list(range(RESULTS_MAX))
        leader.answer(5)
        await trio.testing.wait_all_tasks_blocked()
        assert len(leader.sent) == RESULTS_MAX - 1, "its result is kept until the first one is there"
        trio.lowlevel.add_instrument(steps)
        for number in range(5):
            leader.answer(number)
            await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.remove_instrument(steps)
        assert sorted(number for number in leader.sent if number >= RESULTS_MAX) == [
            RESULTS_MAX + i for i in range(6)
        ]
        assert sum(count for task, count in steps.of.items() if task.startswith("propose")) < 20
        scopes[RESULTS_MAX + 6].cancel()  # waits in the queue
        scopes[6].cancel()  # has a place
        await trio.testing.wait_all_tasks_blocked()
        del leader.sent[6]
        assert RESULTS_MAX + 6 not in leader.sent
        assert RESULTS_MAX + 7 in leader.sent
        while leader.sent:
            for number in list(leader.sent):
                leader.answer(number)
            await trio.testing.wait_all_tasks_blocked()


async def test_a_wait_that_is_cancelled_just_as_it_is_answered_ends_once() -> None:
    async with led() as leader, trio.open_nursery() as nursery:
        nursery.start_soon(waiting.propose, leader.session, b"1")
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        leader.answer(1)
    async with led() as leader, trio.open_nursery() as nursery:
        nursery.start_soon(waiting.propose, leader.session, b"1")
        await trio.testing.wait_all_tasks_blocked()
        leader.answer(1)
        nursery.cancel_scope.cancel()


async def test_a_command_that_is_refused_raises_its_error() -> None:
    async with led() as leader, trio.open_nursery() as nursery:

        async def propose() -> None:
            with pytest.raises(LimitError, match="refused: too much"):
                await waiting.propose(leader.session, b"1")

        nursery.start_soon(propose)
        await trio.testing.wait_all_tasks_blocked()
        leader.answer(1, Refusal.LIMIT, "too much")
    with pytest.raises(RefusedError, match="at most"):
        await waiting.propose(leader.session, bytes(PAYLOAD_MAX + 1))


# --- without trio -------------------------------------------------------------------------------------------


def test_when_a_session_ends_the_commands_that_wait_go_on_in_another_one() -> None:
    leader = Leader()
    for number in range(RESULTS_MAX + 10):
        leader.propose(number)
    leader.turn()
    leader.answer(0, Refusal.SESSION_ENDED, "it has ended")
    leader.turn()
    assert isinstance(leader.outcomes.pop(0), SessionEndedError)
    assert (leader.sessions, leader.outcomes, len(leader.sent)) == (2, {}, RESULTS_MAX + 9)
    assert [(asked.session, asked.number) for asked in leader.proposed[RESULTS_MAX:]] == [
        (2, number + 1) for number in range(10)
    ]
    leader.now += 1.0
    leader.turn()
    assert len(leader.proposed) > 2 * RESULTS_MAX, "all are sent again"
    sessions = {(int(asked.data), asked.session) for asked in leader.proposed}
    assert len(sessions) == RESULTS_MAX + 10, "what was under way is never sent in another session"


def test_each_command_says_which_ones_before_it_are_answered() -> None:
    leader = Leader()
    for number in range(1, 5):
        leader.propose(number)
    leader.turn()
    leader.answer(1)
    leader.answer(3)
    leader.propose(5)
    leader.turn()
    assert leader.proposed[-1] == Propose(1, 5, 2, b"5")
    leader.answer(2)
    leader.propose(6)
    leader.turn()
    assert leader.proposed[-1] == Propose(1, 6, 4, b"6")


def test_a_session_that_cannot_be_opened_is_an_error_for_one_and_tried_again_for_the_next() -> None:
    leader = Leader()
    leader.opens = False
    for number in range(3):
        leader.propose(number)
    leader.turn()
    (opening,) = leader.calls._calls
    refusal = ClientResponse(opening, done=False, code=Refusal.LIMIT, detail="too many")
    leader.calls.receive(LEADER, refusal)
    assert str(leader.outcomes[0]) == "no session could be opened: too many"
    assert isinstance(leader.outcomes[0], LimitError)
    leader.opens = True
    leader.turn()
    assert sorted(leader.sent) == [1, 2]


def test_a_session_is_no_longer_opened_when_nobody_waits_for_it() -> None:
    leader = Leader()
    leader.opens = False
    one, other = (leader.session.propose(b"%d" % number, lambda _: None) for number in range(2))
    leader.turn()
    (opening,) = leader.calls._calls
    assert leader.session.give_up(one) == f"not proposed: {NO_ANSWER}"
    leader.turn()
    assert leader.given_up == set()
    assert leader.session.give_up(other) == f"not proposed: {NO_ANSWER}"
    leader.turn()
    assert leader.given_up == {opening}
    assert not leader.calls._calls
    leader.opens = True
    leader.propose(3)
    leader.turn()
    assert list(leader.sent) == [3]


def test_what_is_known_of_a_command_depends_on_whether_it_was_sent() -> None:
    leader = Leader()
    proposals = [leader.session.propose(b"%d" % number, lambda _: None) for number in range(RESULTS_MAX + 2)]
    leader.turn()
    assert leader.session.give_up(proposals[-1]) == f"not proposed: {NO_ANSWER}"
    assert leader.session.give_up(proposals[0]) == f"unknown: {NO_ANSWER}"
    leader.turn()
    assert sorted(leader.sent) == list(range(RESULTS_MAX + 1)), "the place of the first is free"
    leader.answer(1)
    for over in (proposals[0], proposals[1], proposals[-1]):
        with pytest.raises(KeyError):
            leader.session.give_up(over)


def test_an_idle_session_is_kept_open_and_one_that_has_ended_is_not() -> None:
    leader = Leader()
    leader.propose(1)
    leader.turn()
    leader.answer(1)
    wanted = leader.wanted
    for times in range(1, 4):
        leader.now = leader.session.next_deadline()
        leader.turn()
        assert leader.kept == [1] * times
    assert leader.now <= SESSION_SECONDS
    assert leader.wanted > wanted, "there are deadlines that the owner did not know"
    leader.session.close()
    leader.turn()
    assert leader.ended == [1]
    assert leader.session.next_deadline() == NEVER
    leader.propose(2)
    leader.turn()
    assert leader.proposed[-1] == Propose(2, 1, 1, b"2")
