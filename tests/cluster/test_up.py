"""``trioraft up``: a whole cluster from one command, and its end."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio

from tests.cluster.harness import FAST, LOOPBACK, ROOT, clean_environment
from trioraft.cli.exits import CommandError
from trioraft.cli.local import announced, default_peers, running_clusters
from trioraft.client.client import open_client
from trioraft.settings.settings import DEFAULT_PORT, ClientSettings

SCRIPT = """#!/bin/sh
echo "leads: $TRIORAFT_NODE_NAME"
trap 'exit 0' TERM
while :; do sleep 0.05; done
"""


class Up:
    """A running ``trioraft up``, and what it has printed."""

    def __init__(self, process: trio.Process, base_port: int, monitor_port: int) -> None:
        self.process = process
        self.base_port = base_port
        self.monitor_port = monitor_port
        self.printed = ""

    async def read(self) -> None:
        assert self.process.stdout is not None
        async for chunk in self.process.stdout:
            self.printed += chunk.decode()

    async def until(self, condition: Callable[[str], object], seconds: float = 30) -> None:
        with trio.move_on_after(seconds):
            while not condition(self.printed):
                await trio.sleep(0.02)
            return
        raise AssertionError(f"not printed in time; there is:\n{self.printed}")

    async def until_led(self, nodes: int = 3) -> str:
        """Wait for a leader, and until all others follow, and return the leader's name."""
        await self.until(lambda text: len(set(re.findall(r"(node-\d) +(?:follower|leader), term", text))) == nodes)
        await self.until(lambda text: re.search(r"node-\d +leader, term", text))
        return str(re.findall(r"(node-\d) +leader, term", self.printed)[-1])

    async def pids(self) -> dict[str, int]:
        async with open_client(ClientSettings.of(peers=f"{LOOPBACK}:{self.base_port}")) as client:
            return {node.status.name: node.status.pid for node in (await client.statuses(2)).nodes}


def free_base_port() -> int:
    """Find five UDP ports in a row that nobody uses now."""
    for base in range(21000 + os.getpid() % 1000 * 8, 60000, 5):
        try:
            for port in range(base, base + 5):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                    probe.bind((LOOPBACK, port))
        except OSError:
            continue
        return base
    raise AssertionError("no free ports")


async def started(
    tmp_path: Path,
    options: Sequence[str],
    environment: Mapping[str, str],
    before: Sequence[str] = (),
    *,
    stdin: int | None = None,
    stdout: int = subprocess.PIPE,
) -> tuple[trio.Process, int, int]:
    """Start it, and return the process, the base port and the monitor's port."""
    base_port = free_base_port()
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        monitor_port = probe.getsockname()[1]
    process = await trio.lowlevel.open_process(
        [
            *(*before, sys.executable, "-m", "trioraft", "up", *options),
            *("--base-port", str(base_port), "--monitor-port", str(monitor_port)),
        ],
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.STDOUT,
        env={
            **clean_environment(),
            **FAST,
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(tmp_path),
            "XDG_RUNTIME_DIR": "",
            **environment,
        },
        start_new_session=not before,
    )
    return process, base_port, monitor_port


@asynccontextmanager
async def running(tmp_path: Path, *options: str, **environment: str) -> AsyncIterator[Up]:
    process, base_port, monitor_port = await started(tmp_path, options, environment)
    up = Up(process, base_port, monitor_port)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(up.read)
            yield up
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            process.kill()  # the nodes notice
            await process.wait()


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


async def all_gone(pids: dict[str, int], seconds: float = 10) -> None:
    with trio.fail_after(seconds):
        while not all(gone(pid) for pid in pids.values()):
            await trio.sleep(0.02)


async def test_a_cluster_comes_up_shows_what_happens_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    script = tmp_path / "leader.sh"
    script.write_text(SCRIPT)
    script.chmod(0o755)
    async with running(tmp_path, SCRIPT_LEADER_PATH=str(script)) as up:
        leader = await up.until_led()
        await up.until(lambda text: f"| leads: {leader}" in text)
        pids = await up.pids()
        assert set(pids) == {"node-1", "node-2", "node-3"}

        os.kill(pids[leader], signal.SIGKILL)
        await up.until(lambda text: re.search(rf"{leader} +has ended \(killed by SIGKILL\)", text))
        await up.until(lambda text: len(re.findall(r"\| leads: ", text)) == 2)
        await up.until(lambda text: f"{leader}   does not answer" in text)

        # As a terminal does it: to the whole process group. The nodes are not in it, and end in good order.
        os.killpg(up.process.pid, signal.SIGINT)
        with trio.fail_after(10):
            assert await up.process.wait() == 0
        await all_gone(pids, 1)
    assert "kill" not in up.printed.partition("ending;")[2].replace("Ctrl-C again kills", "")
    assert [name for name in os.listdir(tmp_path) if name.startswith("trioraft-")] == [], "temporary data is removed"


async def test_the_page_is_served(tmp_path: Path) -> None:
    request = b"GET /api/nodes HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answer = b""
    async with running(tmp_path) as up:
        await up.until_led()
        with trio.fail_after(20):
            while answer.count(b'"reachable"') < 3:  # a monitor that has just started has heard nobody yet
                await trio.sleep(0.1)
                with suppress(OSError):
                    async with await trio.open_tcp_stream(LOOPBACK, up.monitor_port) as stream:
                        await stream.send_all(request)
                        answer = b"".join([chunk async for chunk in stream])
    assert b" 200 " in answer.splitlines()[0]


async def test_nodes_keep_their_identities_in_a_data_directory(tmp_path: Path) -> None:
    seen = []
    for _ in range(2):
        async with running(tmp_path, "--data-dir", str(tmp_path / "data")) as up:
            await up.until_led()
            async with open_client(ClientSettings.of(peers=f"{LOOPBACK}:{up.base_port}")) as client:
                cluster = await client.statuses(2)
            seen.append((cluster.cluster_id, {node.status.name: node.status.id for node in cluster.nodes}))
            up.process.terminate()
            with trio.fail_after(10):
                assert await up.process.wait() == 0
    assert seen[0] == seen[1]
    assert len(seen[0][1]) == 3


async def test_nodes_end_when_up_is_killed(tmp_path: Path) -> None:
    async with running(tmp_path) as up:
        await up.until_led()
        pids = await up.pids()
        up.process.kill()
        await up.process.wait()
        await all_gone(pids)


async def test_up_ends_when_all_nodes_have_ended(tmp_path: Path) -> None:
    async with running(tmp_path, "--nodes", "1") as up:
        await up.until(lambda text: re.search(r"node-1 +leader, term", text))
        (pid,) = (await up.pids()).values()
        os.kill(pid, signal.SIGTERM)
        with trio.fail_after(10):
            assert await up.process.wait() == 1
    assert re.search(r"node-1 +has ended \(exit status 0\)", up.printed)


async def test_a_second_ctrl_c_kills_all_at_once(tmp_path: Path) -> None:
    async with running(tmp_path) as up:
        await up.until_led()
        pids = await up.pids()
        for pid in pids.values():
            os.kill(pid, signal.SIGSTOP)  # so that they cannot end in good order
        for _ in range(2):
            os.kill(up.process.pid, signal.SIGINT)
            await trio.sleep(0.5)
        with trio.fail_after(5):
            assert await up.process.wait() == 0
        await all_gone(pids, 1)


async def test_up_ends_in_good_order_when_its_terminal_is_closed(tmp_path: Path) -> None:
    ours, terminal = os.openpty()
    process, base_port, _ = await started(tmp_path, [], {}, ["setsid", "--ctty"], stdin=terminal, stdout=terminal)
    os.close(terminal)
    printed = b""
    try:
        with trio.fail_after(30):
            while b"leader, term" not in printed:
                printed += await trio.to_thread.run_sync(os.read, ours, 65536)
        async with open_client(ClientSettings.of(peers=f"{LOOPBACK}:{base_port}")) as client:
            pids = {node.status.name: node.status.pid for node in (await client.statuses(2)).nodes}
        os.close(ours)
        with trio.fail_after(15):
            assert await process.wait() == 0
    finally:
        process.kill()
    await all_gone(pids, 1)
    assert [name for name in os.listdir(tmp_path) if name.startswith("trioraft-")] == [], "temporary data is removed"


# --- commands that are told nothing -------------------------------------------------------------------------


async def command(tmp_path: Path, *arguments: str) -> tuple[int, str, str]:
    """Run a command that is not told where nodes are."""
    with trio.fail_after(30):
        done = await trio.run_process(
            [sys.executable, "-m", "trioraft", *arguments],
            env={
                **clean_environment(),
                "PYTHONPATH": str(ROOT),
                "TMPDIR": str(tmp_path),
                "XDG_RUNTIME_DIR": "",
            },
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def default_port_is_taken() -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((LOOPBACK, DEFAULT_PORT))
        except OSError:
            return True
    return False


@pytest.mark.skipif(default_port_is_taken(), reason=f"port {DEFAULT_PORT} is taken, where commands look first")
async def test_commands_find_a_cluster_by_any_nodes_that_are_left_and_at_any_ports(tmp_path: Path) -> None:
    async with running(tmp_path, "--nodes", "5") as up:
        await up.until_led(5)
        pids = await up.pids()
        for name in ("node-1", "node-2"):
            os.kill(pids[name], signal.SIGKILL)
        await up.until(lambda text: len(re.findall(r"node-[12] +does not answer", text)) == 2)
        status, _, error = await command(tmp_path, "put", "key", "value")
        assert (status, error) == (0, "")
        status, printed, error = await command(tmp_path, "status", "--format", "json")
        assert (status, error) == (0, "")
        assert {n["name"] for n in json.loads(printed)["nodes"] if n["reachable"]} == {"node-3", "node-4", "node-5"}
        up.process.kill()  # it leaves its file behind, and nobody is led astray
        await up.process.wait()
        await all_gone(pids)
    status, _, error = await command(tmp_path, "get", "key", "--timeout", "0.5")
    assert (status, f"no node answers at {LOOPBACK}:{DEFAULT_PORT} " in error) == (1, True)


def test_commands_choose_the_cluster_at_the_default_port_among_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr("trioraft.cli.local._is_taken", lambda: False)
    first, second, usual = "127.0.0.1:8300,127.0.0.1:8301", "127.0.0.1:9300", "127.0.0.1:7299,127.0.0.1:7300"
    assert default_peers() is None
    with announced(first):
        assert default_peers() == first
        with announced(second):
            with pytest.raises(
                CommandError, match=r"at 127\.0\.0\.1:8300 and 127\.0\.0\.1:9300: choose one with --peers"
            ):
                default_peers()
            with announced(usual):
                assert default_peers() == usual
        monkeypatch.setattr("trioraft.cli.local._is_taken", lambda: True)
        assert default_peers() is None, "something else is where commands look"
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_others_can_write_to_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "trioraft").mkdir()
    (tmp_path / "trioraft").chmod(0o777)
    with announced("127.0.0.1:8300") as told:
        assert not told
        assert running_clusters() == []


async def test_nodes_are_crashed_paused_and_healed_by_name(tmp_path: Path) -> None:
    async def ctl(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "trioraft", "up", "ctl", *arguments]
        environment = {**clean_environment(), "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), "XDG_RUNTIME_DIR": ""}
        done = await trio.run_process(command, check=False, capture_stdout=True, capture_stderr=True, env=environment)
        return done.returncode, (done.stdout + done.stderr).decode()

    assert (await ctl("kill", "node-1"))[0] == 2, "no cluster runs"
    async with running(tmp_path) as up:
        await up.until(lambda text: re.search(r"leader, term", text))
        pid = int(str(re.search(r"node-1 +started \(pid (\d+)\)", up.printed)[1]))  # type: ignore[index]
        assert await ctl("kill", "node-1") == (0, f"node-1 was killed (pid {pid})\n")
        await up.until(lambda text: re.search(r"node-1 +has ended \(killed by SIGKILL\)", text))
        assert "does not run" in (await ctl("pause", "node-1"))[1]
        status, said = await ctl("restart", "node-1")
        assert status == 0
        assert re.fullmatch(r"node-1 was started \(pid \d+\)\n", said)
        for action in ("pause", "resume", "restart"):
            assert (await ctl(action, "node-2"))[0] == 0
        assert "there are node-1, node-2, node-3" in (await ctl("kill", "node-7"))[1]
        assert "allowed: kill or pause or resume or restart" in (await ctl("burn", "node-1"))[1]
