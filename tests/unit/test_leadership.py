"""Leadership as structured concurrency: on memory nodes under the mocked clock, and the watchdog for real."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.lowlevel
import trio.testing

from tests.cluster.harness import free_ports
from tests.unit.memory_cluster import MemoryCluster, cluster_of
from trioraft.consensus.timing import WORK_MARGIN
from trioraft.hooks.bodies import OVERRUN_STATUS, Bodies, Leadership


async def work_on_all(cluster: MemoryCluster, log: list[tuple[float, str, int, int]]) -> None:
    """Record on each node when a body runs: the time, what happens, the node, the token."""

    async def worker(index: int) -> None:
        async def body(leadership: Leadership) -> None:
            log.append((trio.current_time(), "start", index, leadership.fencing_token))
            try:
                await trio.sleep_forever()
            finally:
                log.append((trio.current_time(), "end", index, leadership.fencing_token))

        await cluster.nodes[index].run_while_leader(body)

    async with trio.open_nursery() as nursery:
        for index in range(3):
            nursery.start_soon(worker, index)


async def test_a_body_runs_on_one_node_at_a_time_and_again_at_each_promotion(
    autojump_clock: trio.testing.MockClock,
) -> None:
    log: list[tuple[float, str, int, int]] = []
    async with cluster_of(3, 1) as cluster, trio.open_nursery() as nursery:
        await cluster.start()
        nursery.start_soon(work_on_all, cluster, log)
        for _ in range(5):
            leader = await cluster.leader()
            await trio.sleep(20)
            await cluster.nodes[leader].step_aside("test")
        await trio.sleep(20)
        nursery.cancel_scope.cancel()
    kinds = [kind for _, kind, _, _ in log]
    assert kinds == ["start", "end"] * (len(log) // 2)
    assert len(log) >= 12
    tokens = [token for _, kind, _, token in log if kind == "start"]
    assert tokens == sorted(set(tokens))


async def test_a_leader_that_is_cut_off_cancels_its_body_before_another_body_starts(
    autojump_clock: trio.testing.MockClock,
) -> None:
    log: list[tuple[float, str, int, int]] = []
    async with cluster_of(3, 2) as cluster, trio.open_nursery() as nursery:
        await cluster.start()
        nursery.start_soon(work_on_all, cluster, log)
        first = await cluster.leader()
        await trio.sleep(20)
        cluster.cut_off = {first}
        await trio.sleep(30)
        nursery.cancel_scope.cancel()
    (_, _, first_node, _), (ended, kind, _, _), (started, _, second_node, _) = log[:3]
    assert (kind, first_node, second_node) == (
        "end",
        first,
        (set(range(3)) - {first}).pop(),
    ) or first_node != second_node
    assert ended < started


# --- bodies of every kind -----------------------------------------------------------------------------------


class Told:
    """Counts how often all bodies have ended."""

    def __init__(self) -> None:
        self.ended = 0

    def __call__(self) -> None:
        self.ended += 1


def bodies(told: Told, *, clock: Callable[[], float] | None = None) -> Bodies:
    return Bodies(clock, 0.1, told, "exit")


async def test_nested_and_concurrent_bodies_end_together(autojump_clock: trio.testing.MockClock) -> None:
    told = Told()
    work = bodies(told)
    ended: list[str] = []

    async def outer() -> None:
        async with work.leadership("outer") as leadership:
            async with work.leadership("inner") as inner:
                assert leadership == inner
                try:
                    await trio.sleep_forever()
                finally:
                    ended.append("inner")
            ended.append("between")
        ended.append("behind outer")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(outer)
        nursery.start_soon(outer)
        await trio.sleep(1)
        assert not work.running
        work.start_work(7, trio.current_time() + 10)
        await trio.sleep(1)
        assert work.running
        work.end_work()
        assert told.ended == 0
    assert sorted(ended) == ["behind outer"] * 2 + ["inner"] * 2
    assert told.ended == 1


async def test_what_a_body_raises_comes_out_and_the_next_body_may_run(autojump_clock: trio.testing.MockClock) -> None:
    told = Told()
    work = bodies(told)
    work.start_work(7, trio.current_time() + 10)

    async def fail(leadership: Leadership) -> None:
        raise KeyError(leadership.fencing_token)

    with pytest.raises(KeyError, match="7"):
        await work.run_while_leader("fail", fail)
    assert not work.running
    async with work.leadership("next"):
        work.end_work()
        await trio.lowlevel.checkpoint()
        raise AssertionError("it goes on after its end")
    assert told.ended == 1


async def test_a_body_that_cleans_up_is_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    told = Told()
    work = bodies(told)
    work.start_work(7, trio.current_time() + 10)

    async def clean_up_slowly() -> None:
        async with work.leadership("slow"):
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(5)
                assert told.ended == 0

    async with trio.open_nursery() as nursery:
        nursery.start_soon(clean_up_slowly)
        await trio.sleep(1)
        work.end_work()
    assert told.ended == 1


def test_closing_does_not_wait_for_a_watchdog_that_just_found_nothing_to_watch() -> None:
    work = bodies(Told(), clock=time.monotonic)

    class Late(threading.Event):
        """Is cleared only after everything has been set."""

        def clear(self) -> None:
            work._closed.wait(5)
            while not self.is_set():
                time.sleep(0.001)
            super().clear()

    async def once() -> None:
        async with work.leadership("short"):
            pass

    work._watching = Late()
    work.start_work(7, time.monotonic() + 100)
    trio.run(once)
    closing = threading.Thread(target=work.close, daemon=True)
    closing.start()
    closing.join(5)
    assert not closing.is_alive()


# --- the watchdog, in a process of its own ------------------------------------------------------------------

PROGRAM = """
import sys, time, trio
from pathlib import Path
from trioraft.node.node import open_node
from trioraft.settings.settings import NodeSettings

async def blocks():
    print("leading", flush=True)
    time.sleep(30)  # no cancellation can reach it

async def shields():
    print("leading", flush=True)
    with trio.CancelScope(shield=True):
        await trio.sleep(4)

async def sleeps():
    print("leading", flush=True)
    await trio.sleep_forever()

async def takes_steps():
    print("leading", flush=True)
    while True:
        time.sleep(0.05)
        await trio.lowlevel.checkpoint()

async def waits_for_threads():
    print("leading", flush=True)
    while True:
        await trio.to_thread.run_sync(time.sleep, 0.05)

async def cleans_up():
    print("leading", flush=True)
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(0.1)

async def main(work, on_overrun):
    settings = NodeSettings(
        bind_port=int(sys.argv[2]), bootstrap_expect=1, data_dir=Path(sys.argv[1]), node_name="one",
        election_timeout_lower=0.3, election_timeout_upper=0.5, heartbeat_repeat=0.05, hook_stop_grace=0.2,
    )
    async with open_node(settings, on_overrun=on_overrun) as node:
        async with node.leadership():
            if work is shields:
                node._core.work_failed(node.now())
                node.soon()
            await work()
        print("ended", flush=True)

trio.run(main, globals()[sys.argv[3]], sys.argv[4])
"""


def run_program(directory: Path, work: str, on_overrun: str) -> "subprocess.CompletedProcess[str]":
    (port,) = free_ports(1)
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(directory), str(port), work, on_overrun],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("work", ["blocks", "shields"])
def test_a_body_that_does_not_end_in_time_is_ended_with_the_process(tmp_path: Path, work: str) -> None:
    done = run_program(tmp_path, work, "exit")
    assert done.returncode == OVERRUN_STATUS
    assert "leading" in done.stdout
    assert "ended" not in done.stdout
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("trioraft: ")]
    assert "leader work must be over, and has not ended: main (<string>:" in line


# Until when leader work may run, by the settings of the program, and a moment more.
PAUSE = 0.3 + 0.2 + WORK_MARGIN + 0.5


def run_paused(directory: Path, work: str, pause: float) -> tuple[int, str]:
    """Run the program, stop it for a while as soon as it leads, and return its exit status and what it says last."""
    (port,) = free_ports(1)
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(directory), str(port), work, "exit"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert any(line == "leading\n" for line in process.stdout)
        process.send_signal(signal.SIGSTOP)
        time.sleep(pause)
        process.send_signal(signal.SIGCONT)
        rest = process.stdout.readlines()
        return process.wait(30), "".join(rest)


@pytest.mark.parametrize("work", ["sleeps", "takes_steps", "waits_for_threads", "cleans_up"])
def test_a_body_that_behaves_sees_its_cancellation_when_its_process_was_stopped(tmp_path: Path, work: str) -> None:
    status, printed = run_paused(tmp_path, work, PAUSE)  # a busy machine may add a warning of a late loop
    assert (status, "ended" in printed.splitlines()) == (0, True), printed


def test_a_body_that_blocks_is_ended_with_the_process_soon_after_that_was_stopped(tmp_path: Path) -> None:
    began = time.monotonic()
    status, said = run_paused(tmp_path, "blocks", PAUSE)
    assert status == OVERRUN_STATUS
    assert "leader work must be over, and has not ended: main (<string>:" in said
    assert time.monotonic() - began < PAUSE + 15, "the body blocks for 30 s"


async def test_no_body_begins_when_the_lease_has_ended_and_the_node_has_not_noticed() -> None:
    work = bodies(Told(), clock=time.monotonic)
    work.start_work(7, time.monotonic() - 0.01)
    try:
        with trio.move_on_after(0.2):
            async with work.leadership("late"):
                raise AssertionError("it runs without a lease")
        work.extend_work(time.monotonic() + 60)
        with trio.fail_after(5):
            async with work.leadership("in time") as leadership:
                assert leadership.fencing_token == 7
    finally:
        work.close()


def test_the_process_lives_on_where_that_was_asked_for(tmp_path: Path) -> None:
    done = run_program(tmp_path, "shields", "log")
    assert done.returncode == 0
    assert "ended" in done.stdout
    assert "leader work must be over, and has not ended: main (<string>:" in done.stdout + done.stderr
