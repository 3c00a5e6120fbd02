"""Requests under way: when they leave, and when they are sent again."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
import trio.testing

from trioraft.asking.calls import Calls
from trioraft.messages import ClientRequest, ClientResponse, Query
from trioraft.versions import SPOKEN

LEADER = 7


class Leader:
    """Answers each request some time after it came first, and counts what it was sent."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.came: list[int] = []
        self.flushes = 0
        self.calls = Calls(self, trio.current_time, self.flush)
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

    def flush(self) -> None:
        self.flushes += 1

    async def call(self) -> None:
        response = await self.calls.call(lambda: Query(b""))
        assert response.done


@asynccontextmanager
async def led(seconds: float) -> AsyncIterator[Leader]:
    leader = Leader(seconds)
    async with trio.open_nursery() as leader.nursery:
        for task in leader.calls.tasks():
            leader.nursery.start_soon(task)
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


async def test_a_lone_request_leaves_at_once_and_many_leave_together(autojump_clock: trio.testing.MockClock) -> None:
    async with led(0.01) as leader:
        await leader.call()
        assert leader.flushes == 1
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(leader.call)
        assert len(leader.came) == 101
        assert leader.flushes == 3, "the first one, and the others with one flush"
