"""A supervisor that stands still for a while, next to real nodes at the bench's full rate."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.cluster.harness import DEFAULT_TIMEOUTS, ROOT, Cluster, clean_environment
from tests.cluster.records import supervisor_of
from tests.unit.processes import gone, is_alive, write_script
from trioraft.clock import boottime
from trioraft.consensus.timing import WORK_MARGIN

HEARTBEAT = 0.5  # the default
LOWER, GRACE = 0.6, 0.5  # of short tests


@asynccontextmanager
async def led_by_script(directory: Path, **environment: str) -> AsyncIterator[tuple[Cluster, int, int, int]]:
    """Run a cluster; yield it, its leader, the process of the leader script, and that of its supervisor."""
    pids = directory / "pids"
    script = write_script(directory, f"echo $$ >> {pids}\nexec sleep 1000")
    # They write to memory: how many commits there are a second is to depend on the processor, not on the disk.
    environment |= {"SCRIPT_LEADER_PATH": script, "DURABILITY": "memory"}
    async with Cluster(directory, environment=environment) as cluster:
        leader = cluster.index(await cluster.wait_leader())
        with trio.fail_after(15):
            while not pids.exists() or not pids.read_text().endswith("\n"):
                await trio.sleep(0.05)
        yield cluster, leader, int(pids.read_text().split()[0]), supervisor_of(cluster.process(leader).pid)


@asynccontextmanager
async def bench(cluster: Cluster, concurrency: int) -> AsyncIterator[None]:
    """Have so many commands under way, for as long as the block lasts."""
    command = [sys.executable, "-m", "trioraft", "bench", "--seconds", "60", "--concurrency", str(concurrency)]
    process = await trio.lowlevel.open_process(
        command,
        env={**clean_environment(), "PYTHONPATH": str(ROOT), "PEERS": cluster.peers},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
        assert process.poll() is None
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


def reads_of(pid: int) -> int:
    """Count how often a process has read something."""
    lines = Path(f"/proc/{pid}/io").read_text("ascii").splitlines()
    return int(dict(line.split(": ") for line in lines)["syscr"])


def log_index(cluster: Cluster, i: int) -> int:
    node = cluster.node(i)
    assert node is not None
    return node.status.commit_index


@pytest.mark.parametrize("concurrency", [2, 64])
async def test_the_job_survives_a_supervisor_that_is_paused_under_full_load(tmp_path: Path, concurrency: int) -> None:
    async with led_by_script(tmp_path, **DEFAULT_TIMEOUTS) as (cluster, leader, job, supervisor):
        term = (await cluster.wait_leader()).status.term
        async with bench(cluster, concurrency):
            await trio.sleep(1)
            reads, commits, began = reads_of(supervisor), log_index(cluster, leader), boottime()
            await trio.sleep(3)
            reads, seconds = reads_of(supervisor) - reads, boottime() - began
            await trio.sleep(HEARTBEAT)
            commits = log_index(cluster, leader) - commits
            print(f"{commits} commits and {reads} messages to the supervisor in {seconds:.2f} s")
            os.kill(supervisor, signal.SIGSTOP)
            await trio.sleep(2)
            os.kill(supervisor, signal.SIGCONT)
            await trio.sleep(1)
            assert is_alive(job)
        after = await cluster.wait_leader()
        assert (cluster.index(after), after.status.term) == (leader, term)
        assert supervisor_of(cluster.process(leader).pid) == supervisor
        assert commits > 2 * reads  # how many more depends on the machine
        assert reads <= seconds / HEARTBEAT + 2


async def test_a_supervisor_that_stays_stopped_is_given_up_and_its_job_has_ended_before_the_next_one(
    tmp_path: Path,
) -> None:
    async with led_by_script(tmp_path) as (cluster, leader, job, supervisor):
        os.kill(supervisor, signal.SIGSTOP)
        stopped = boottime()
        ended = await gone(job, supervisor, within=10)
        assert ended - stopped > LOWER * 0.9
        after = await cluster.wait_leader(without=[leader])
        assert cluster.index(after) != leader


async def test_a_locked_command_ends_before_its_lease_although_its_supervisor_is_stopped(tmp_path: Path) -> None:
    ttl = 4
    async with Cluster(tmp_path, 1) as cluster:
        await cluster.wait_leader()
        locked = await trio.lowlevel.open_process(
            [
                sys.executable,
                "-m",
                "trioraft",
                "lock",
                "job",
                "--ttl",
                str(ttl),
                "--",
                "sh",
                "-c",
                "echo $$; sleep 99",
            ],
            env={**clean_environment(), "PYTHONPATH": str(ROOT), "PEERS": cluster.peers},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert locked.stdout is not None
        assert locked.stderr is not None
        with trio.fail_after(30):
            job = int(await locked.stdout.receive_some())
            supervisor = supervisor_of(locked.pid)
            os.kill(supervisor, signal.SIGSTOP)
            await trio.sleep(ttl / 4)
            os.kill(supervisor, signal.SIGCONT)
            await trio.sleep(ttl)
            assert is_alive(job), "it was stopped for a moment only"
            os.kill(supervisor, signal.SIGSTOP)
            stopped = boottime()
            ended = await gone(job, supervisor, within=10)
            assert await locked.wait() == 1
        assert ended < stopped + ttl + ttl / 3, "the lease was renewed at most a third of it later"
        assert b"the process that supervises the command was lost" in await locked.stderr.receive_some()
        status = await trio.run_process(
            [sys.executable, "-m", "trioraft", "lock", "job", "--", windows_script(tmp_path)],
            env={**clean_environment(), "PYTHONPATH": str(ROOT), "PEERS": cluster.peers},
            capture_stderr=True,
            check=False,
        )
        assert status.returncode == 1
        assert b"its first line ends with CR LF" in status.stderr


def windows_script(directory: Path) -> str:
    path = directory / "windows.sh"
    path.write_bytes(b"#!/bin/sh\r\nexit 0\r\n")
    path.chmod(0o700)
    return str(path)


async def test_a_supervisor_that_hears_nothing_for_a_whole_lease_ends_the_work(tmp_path: Path) -> None:
    async with led_by_script(tmp_path) as (cluster, leader, job, _):
        cluster.pause(leader)
        paused = boottime()
        ended = await gone(job, within=10)
        cluster.resume(leader)
        assert ended - paused < LOWER + GRACE + WORK_MARGIN
