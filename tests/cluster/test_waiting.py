"""What commands and clients say that wait: for somebody else, or for a cluster that does not answer."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from tests.cluster.harness import ROOT, Cluster, clean_environment, free_ports
from trioraft import ClientSettings, LockHeldError, NoAnswerError, sync


def environment(peers: str) -> dict[str, str]:
    return {**clean_environment(), "PYTHONPATH": str(ROOT), "PEERS": peers}


async def run(peers: str, *words: str) -> tuple[int, str, str]:
    done = await trio.run_process(
        [sys.executable, "-m", "trioraft", *words],
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        env=environment(peers),
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


async def test_a_lock_that_is_held_and_one_that_nobody_can_give_are_told_apart(tmp_path: Path) -> None:
    async with Cluster(tmp_path, size=3) as cluster:
        leader = cluster.index(await cluster.wait_leader(60))
        assert await run(cluster.peers, "lock", "job", "--wait", "0", "--", "echo", "got") == (0, "got\n", "")
        async with cluster.client.lock("job", 60):
            said = "trioraft: the lock job is held by somebody else (waited 0 s)\n"
            assert await run(cluster.peers, "lock", "job", "--wait", "0", "--", "echo", "got") == (1, "", said)
            with pytest.raises(LockHeldError, match="is held by somebody else"):
                async with cluster.client.lock("job", wait=0):
                    pass
        await trio.to_thread.run_sync(without_waiting, ClientSettings.of(peers=cluster.peers))
        for index in {0, 1, 2} - {leader}:
            await cluster.kill(index)
        await cluster.wait_for(lambda seen: seen.leader is None, 30)
        await trio.sleep(2.5)  # until the node that is left counts the others as not reachable
        status, out, err = await run(cluster.peers, "lock", "job", "--wait", "3", "--", "echo", "got")
        assert (status, out) == (1, "")
        assert "no quorum: 1 of 3 reachable" in err
        assert "somebody else" not in err
        await trio.to_thread.run_sync(without_quorum, ClientSettings.of(peers=cluster.peers))


def without_waiting(settings: ClientSettings) -> None:
    with sync.Client(settings, timeout=30) as client, sync.Client(settings, timeout=30) as other:
        with client.lock("job", wait=0), pytest.raises(LockHeldError):
            other.lock("job", wait=0).__enter__()
        with other.lock("job", wait=0):
            pass


def without_quorum(settings: ClientSettings) -> None:
    with sync.Client(settings, timeout=3) as client, pytest.raises(NoAnswerError, match="no quorum") as caught:
        client.lock("job", wait=0).__enter__()
    assert not isinstance(caught.value, LockHeldError)


class Waiting:
    """A command that waits, and what it has said on standard error."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.lines: list[str] = []

    async def read(self) -> None:
        assert self.process.stderr is not None
        async for chunk in self.process.stderr:
            self.lines.extend(chunk.decode().splitlines())


async def until(condition: Callable[[], object]) -> None:
    with trio.fail_after(60):
        while not condition():
            await trio.sleep(0.05)


async def test_commands_without_an_end_say_once_that_nobody_answers_and_when_somebody_does(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    commands = {
        "watch": ("watch", "a"),
        "lock": ("lock", "job", "--", "true"),
        "put": ("put", "a", "1", "--timeout", "0"),
        "settings": ("settings", "--timeout", "0"),
    }
    waiting: dict[str, Waiting] = {}
    async with trio.open_nursery() as nursery:
        began = time.monotonic()
        try:
            for name, words in commands.items():
                waiting[name] = Waiting(
                    await trio.lowlevel.open_process(
                        [sys.executable, "-m", "trioraft", *words],
                        stdout=subprocess.DEVNULL,
                        stderr=subprocess.PIPE,
                        env=environment(f"127.0.0.1:{port}"),
                    )
                )
                nursery.start_soon(waiting[name].read)
            await until(lambda: all(each.lines for each in waiting.values()))
            assert time.monotonic() - began > 5, "an election may take as long"
            await trio.sleep(2)
            for each in waiting.values():
                (line,) = each.lines
                assert f"no node answers at 127.0.0.1:{port}" in line
            async with Cluster(tmp_path, size=1, ports=[port]) as cluster:
                await cluster.wait_leader(60)
                await until(lambda: len(waiting["watch"].lines) == 2)
                assert waiting["watch"].lines[1] == "trioraft: there is a leader that answers"
                for name in ("lock", "put", "settings"):
                    with trio.fail_after(60):
                        assert await waiting[name].process.wait() == 0
        finally:
            for each in waiting.values():
                each.process.kill()
                await each.process.wait()
            nursery.cancel_scope.cancel()
