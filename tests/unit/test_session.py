"""A client's session when more commands wait than may be under way."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import trio
import trio.testing

from trioraft.asking.calls import Calls
from trioraft.asking.session import Session
from trioraft.messages import ClientResponse, Command, OpenSession, Propose, Refusal
from trioraft.replica.sessions import RESULTS_MAX


class Answered(Calls):
    """Requests that are answered when the test says so."""

    def __init__(self) -> None:
        self.problem = ""
        self.may_be_done = True
        self.sessions = 0
        self.sent: dict[int, trio.Event] = {}
        self.refusal = ""

    async def call(self, command: Callable[[], Command], **how: Any) -> ClientResponse:
        asked = command()
        if isinstance(asked, OpenSession):
            self.sessions += 1
            return ClientResponse(1, done=True, session=self.sessions)
        assert isinstance(asked, Propose)
        answered = self.sent[int(asked.data)] = trio.Event()
        try:
            await answered.wait()
        finally:
            del self.sent[int(asked.data)]
        return ClientResponse(1, done=not self.refusal, code=self.refusal)


class Steps(trio.abc.Instrument):
    """Counts the steps of each task."""

    def __init__(self) -> None:
        self.of: Counter[str] = Counter()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.of[task.name] += 1


async def test_each_free_place_wakes_whoever_waits_longest_and_nobody_else() -> None:
    calls, steps, waiting = Answered(), Steps(), 500
    session = Session(calls)
    scopes = {}

    async def propose(number: int) -> None:
        with trio.CancelScope() as scopes[number]:
            await session.propose(b"%d" % number)

    async with trio.open_nursery() as nursery:
        for number in range(RESULTS_MAX + waiting):
            nursery.start_soon(propose, number, name=f"propose {number}")
            await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(calls.sent) == list(range(RESULTS_MAX))
        calls.sent[5].set()
        await trio.testing.wait_all_tasks_blocked()
        assert len(calls.sent) == RESULTS_MAX - 1, "its result is kept until the first one is there"
        trio.lowlevel.add_instrument(steps)
        for number in range(5):
            calls.sent[number].set()
            await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.remove_instrument(steps)
        assert sorted(number for number in calls.sent if number >= RESULTS_MAX) == [RESULTS_MAX + i for i in range(6)]
        assert sum(count for task, count in steps.of.items() if task.startswith("propose")) < 20
        scopes[RESULTS_MAX + 6].cancel()  # waits in the queue
        scopes[6].cancel()  # has a place
        await trio.testing.wait_all_tasks_blocked()
        assert RESULTS_MAX + 6 not in calls.sent
        assert RESULTS_MAX + 7 in calls.sent
        while calls.sent:
            for answered in calls.sent.values():
                answered.set()
            await trio.testing.wait_all_tasks_blocked()


async def test_when_a_session_ends_those_who_wait_go_on_in_another_one() -> None:
    calls, failures = Answered(), []
    session = Session(calls)

    async def propose(number: int) -> None:
        try:
            await session.propose(b"%d" % number)
        except Exception as error:
            failures.append(error)

    async with trio.open_nursery() as nursery:
        for number in range(RESULTS_MAX + 10):
            nursery.start_soon(partial(propose, number))
        await trio.testing.wait_all_tasks_blocked()
        calls.refusal = Refusal.SESSION_ENDED
        next(iter(calls.sent.values())).set()
        await trio.testing.wait_all_tasks_blocked()
        calls.refusal = ""
        assert (calls.sessions, len(failures), len(calls.sent)) == (2, 1, RESULTS_MAX + 9)
        for answered in calls.sent.values():
            answered.set()
    assert len(failures) == 1
