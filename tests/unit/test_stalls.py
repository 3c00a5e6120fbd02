"""A blocked event loop is noticed, counted and told."""

import time

import pytest
import structlog.testing
import trio
import trio.lowlevel

from trioraft.node.stalls import LoopWatch


@pytest.fixture
async def watch() -> LoopWatch:
    return LoopWatch(heartbeat=0.5)


async def blocked(watch: LoopWatch, *pauses: float) -> list[str]:
    """Block the loop a few times, and return what was logged."""
    with structlog.testing.capture_logs() as logs:
        trio.lowlevel.add_instrument(watch)
        await trio.sleep(0.01)
        for seconds in pauses:
            time.sleep(seconds)  # noqa: ASYNC251 - what is to be noticed
            await trio.sleep(0.01)
        trio.lowlevel.remove_instrument(watch)
    return [f"{line['event'][:26]}: {line['millis'] // 100}00 ms" for line in logs]


async def test_a_short_step_is_no_stall(watch: LoopWatch) -> None:
    assert await blocked(watch, 0.01) == []
    assert watch.counters["loop_stalls"] == 0
    assert 10 <= watch.counters["loop_longest_millis"] < 50


async def test_a_stall_is_counted_and_one_that_endangers_heartbeats_is_told_once(watch: LoopWatch) -> None:
    assert await blocked(watch, 0.08, 0.3, 0.3) == ["the event loop was blocked: 300 ms"]
    assert watch.counters["loop_stalls"] == 3
    assert watch.counters["loop_longest_millis"] >= 300
    assert watch.counters["loop_longest_cpu_millis"] < 50, "it slept"


async def test_a_step_that_computes_shows_as_processor_time(watch: LoopWatch) -> None:
    trio.lowlevel.add_instrument(watch)
    await trio.lowlevel.checkpoint()
    until = time.thread_time() + 0.1
    while time.thread_time() < until:
        pass
    await trio.lowlevel.checkpoint()
    trio.lowlevel.remove_instrument(watch)
    assert watch.counters["loop_longest_cpu_millis"] >= 100
