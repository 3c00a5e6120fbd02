"""Signals that tell a command to end, at whatever moment of its life they come."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import trio

from tests.cluster.harness import LOOPBACK, ROOT, Cluster, clean_environment, free_ports

# While it runs it may be ended, and it is told whether it was.
SLOW = "echo started >>{file}; sleep 20; echo ended >>{file}"


async def start(cluster: Cluster, *words: str, **more: str) -> trio.Process:
    return await trio.lowlevel.open_process(
        [sys.executable, "-m", "trioraft", *words],
        env={**clean_environment(), "PYTHONPATH": str(ROOT), "PEERS": cluster.peers, **more},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


async def status_of(process: trio.Process, seconds: float = 60) -> int:
    with trio.fail_after(seconds):
        return await process.wait()


async def until(condition: Callable[[], object], seconds: float = 60) -> None:
    with trio.fail_after(seconds):
        while not condition():
            await trio.sleep(0.002)


def children_of(pid: int) -> list[int]:
    """Return the processes that any thread of a process has started."""
    found = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += [int(child) for child in children.read_text().split()]
    return found


def has_supervisor(pid: int) -> bool:
    """Check whether a process has started the supervisor of its command."""
    for child in children_of(pid):
        with suppress(OSError):
            if b"supervisor" in Path(f"/proc/{child}/cmdline").read_bytes():
                return True
    return False


def handles_sigterm(*pids: int) -> bool:
    """Check whether there are processes, and all have a handler for SIGTERM."""
    masks = [Path(f"/proc/{pid}/status").read_text().split("SigCgt:")[1].split()[0] for pid in pids]
    return bool(masks) and all(int(mask, 16) & 1 << signal.SIGTERM - 1 for mask in masks)


async def test_a_locked_command_that_is_not_started_yet_is_not_started(tmp_path: Path) -> None:
    file = tmp_path / "lines"
    async with Cluster(tmp_path, size=1) as cluster:
        await cluster.wait_leader()
        for number, later in (
            (signal.SIGTERM, 0.0),
            (signal.SIGTERM, 0.03),
            (signal.SIGINT, 0.0),
            (signal.SIGHUP, 0.1),
        ):
            locked = await start(cluster, "lock", "job", "--", "sh", "-c", SLOW.format(file=file))
            await until(partial(has_supervisor, locked.pid))
            await trio.sleep(later)
            locked.send_signal(number)
            assert await status_of(locked) in {128 + number, 128 + signal.SIGTERM}  # its own, or its command's
        assert "ended" not in (file.read_text() if file.exists() else "")
        assert await cluster.client.list("trioraft/locks/") == (), "the lock is free"


async def test_a_holder_and_who_waits_for_it_are_told_to_end_one_after_the_other(tmp_path: Path) -> None:
    file = tmp_path / "lines"
    async with Cluster(tmp_path, size=1) as cluster:
        await cluster.wait_leader()
        command = ("lock", "job", "--ttl", "60", "--", "sh", "-c", SLOW.format(file=file))
        queue = [await start(cluster, *command)]
        await until(file.exists)
        queue += [await start(cluster, *command) for _ in range(2)]
        with trio.fail_after(60):
            while len(await cluster.client.list("trioraft/locks/", keys_only=True)) < 3:
                await trio.sleep(0.02)
        for process in queue:
            process.terminate()
            await trio.sleep(0.03)
        assert [await status_of(process) for process in queue] == [128 + signal.SIGTERM] * 3
        assert "ended" not in file.read_text()
        assert await cluster.client.list("trioraft/locks/") == (), "nobody waits for a lease to end"


async def test_a_locked_command_outlives_its_terminal_where_it_was_told_to(tmp_path: Path) -> None:
    file = tmp_path / "lines"
    script = f"echo started >{file}; kill -HUP $$; sleep 1; echo ended >>{file}"
    async with Cluster(tmp_path, size=1) as cluster:
        await cluster.wait_leader()
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
        try:
            locked = await start(cluster, "lock", "job", "--", "sh", "-c", script)
        finally:
            signal.signal(signal.SIGHUP, before)
        await until(lambda: file.exists() and file.read_text())
        locked.send_signal(signal.SIGHUP)
        assert await status_of(locked) == 0
    assert file.read_text() == "started\nended\n"


async def test_a_benchmark_that_is_told_to_end_leaves_nothing_behind(tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    async with Cluster(tmp_path, size=1) as cluster:
        await cluster.wait_leader()
        bench = await start(cluster, "bench", "--seconds", "60", "--concurrency", "4")
        with trio.fail_after(60):
            while len(await cluster.client.list("trioraft-bench/", keys_only=True)) < 5:
                await trio.sleep(0.02)
        bench.terminate()
        assert await status_of(bench) == 128 + signal.SIGTERM
        assert await cluster.client.list("trioraft-bench/", keys_only=True) == ()

        local = await start(cluster, "bench", "--local", "--nodes", "1", "--seconds", "60", TMPDIR=str(temporary))
        await until(lambda: list(temporary.glob("*/node-1/*")))
        local.send_signal(signal.SIGHUP)
        assert await status_of(local) == 128 + signal.SIGHUP
    assert list(temporary.iterdir()) == []


async def test_a_cluster_on_loopback_ends_with_its_terminal(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    up = await trio.lowlevel.open_process(
        [
            sys.executable,
            "-m",
            "trioraft",
            "up",
            "--nodes",
            "1",
            "--base-port",
            str(port),
            "--monitor-port",
            str(port),
        ],
        env={**clean_environment(), "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
    )
    await until(lambda: list(tmp_path.glob("*/node-1/*")))
    up.send_signal(signal.SIGHUP)
    assert await status_of(up) == 0
    assert os.listdir(tmp_path) == []


async def test_a_node_can_be_told_to_stop_while_it_starts(tmp_path: Path) -> None:
    """It is the first process of its container, which the kernel lets ignore what it has no handler for."""
    (port,) = free_ports(1)
    namespace = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"]
    node = await trio.lowlevel.open_process(
        [*namespace, sys.executable, "-m", "trioraft", "node"],
        env={
            **clean_environment(),
            "PYTHONPATH": str(ROOT),
            "BIND_HOST": LOOPBACK,
            "BIND_PORT": str(port),
            "DATA_DIR": str(tmp_path / "data"),
        },
        stderr=subprocess.DEVNULL,
    )
    try:
        await until(lambda: handles_sigterm(*children_of(node.pid)))
        (pid,) = children_of(node.pid)
        assert not (tmp_path / "data").exists(), "it has only begun to start"
        os.kill(pid, signal.SIGTERM)
        assert await status_of(node) == 128 + signal.SIGTERM
    finally:
        node.kill()
        await node.wait()
