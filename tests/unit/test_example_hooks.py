"""The scripts in hooks/, as a node runs them."""

import http.server
import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from trioraft.clock import boottime
from trioraft.hooks.launcher import (
    End,
    Ended,
    Event,
    Exited,
    Killing,
    Link,
    Output,
    Ready,
    Start,
    Started,
    SupervisorLauncher,
)

HOOKS = Path(__file__).parents[2] / "hooks"


def environment(role: str, **more: str) -> dict[str, str]:
    return {
        "TRIORAFT_ROLE": role,
        "TRIORAFT_NODE_ID": "00000000000000a1",
        "TRIORAFT_NODE_NAME": "node-1",
        "TRIORAFT_CLUSTER_ID": "00000000000000c1",
        "TRIORAFT_TERM": "7",
        "TRIORAFT_LEADER_ID": "00000000000000a1" if role == "leader" else "",
        "TRIORAFT_FENCING_TOKEN": "7" if role == "leader" else "0",
        **more,
    }


class Script:
    """An example that runs."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.lines: list[str] = []
        self.pid = 0
        self.status: int | None = None
        self.killed = self.ended = False

    async def until_line(self, text: str) -> str:
        with trio.fail_after(10):
            while not (found := [line for line in self.lines if text in line]):
                await self._receive()
        return found[-1]

    async def until_ended(self) -> int | None:
        with trio.fail_after(10):
            while not self.ended:
                await self._receive()
        return self.status

    async def end(self) -> int | None:
        self.link.send(End())
        status = await self.until_ended()
        assert not self.killed
        return status

    async def _receive(self) -> None:
        received = await self.link.receive()
        assert received
        for event in received:
            self._note(event)

    def _note(self, event: Event) -> None:
        match event:
            case Started(pid=pid):
                self.pid = pid
            case Output(lines=lines):
                self.lines += lines
            case Exited(status=status):
                self.status = status
            case Killing():
                self.killed = True
            case Ended():
                self.ended = True


@asynccontextmanager
async def running(directory: Path, name: str, role: str, **more: str) -> AsyncIterator[Script]:
    link = await SupervisorLauncher().launch(directory, 2.0)
    try:
        assert await link.receive() == [Ready()]
        link.send(Start(path=str(HOOKS / name), environment=environment(role, **more), deadline=boottime() + 60))
        yield Script(link)
    finally:
        with trio.CancelScope(shield=True):
            await link.destroy()


def test_every_example_is_executable() -> None:
    examples = sorted(path for path in HOOKS.iterdir() if path.suffix != ".md")
    assert [path.name for path in examples if path.is_file()] == [
        "announce-follower.sh",
        "announce-leader.sh",
        "cron-singleton.sh",
        "virtual-ip-follower.sh",
        "virtual-ip-leader.sh",
        "webhook.py",
    ]
    assert all(path.stat().st_mode & 0o555 == 0o555 for path in examples)


async def test_announce_says_who_leads_and_who_follows(tmp_path: Path) -> None:
    async with running(tmp_path, "announce-leader.sh", "leader") as leader:
        line = await leader.until_line("leads")
        assert line == "node-1 (00000000000000a1) leads in term 7 with fencing token 7"
        assert await leader.end() == 0
        assert leader.lines[-1] == "node-1 no longer leads"
    async with running(tmp_path, "announce-follower.sh", "follower") as follower:
        assert await follower.until_ended() == 0
        assert follower.lines == ["node-1 (00000000000000a1) follows in term 7, leader: not known yet"]


async def test_cron_runs_its_command_again_and_again(tmp_path: Path) -> None:
    command = 'echo "round with token $TRIORAFT_FENCING_TOKEN"; exit 4'
    async with running(
        tmp_path, "cron-singleton.sh", "leader", CRON_COMMAND=command, CRON_INTERVAL_SECONDS="1"
    ) as cron:
        await cron.until_line("status 4")
        cron.lines.clear()
        await cron.until_line("round with token 7")
        await cron.end()


@pytest.mark.parametrize(
    ("name", "variable"),
    [("cron-singleton.sh", "CRON_COMMAND"), ("virtual-ip-leader.sh", "VIRTUAL_IP"), ("webhook.py", "WEBHOOK_URL")],
)
async def test_an_example_that_is_not_set_up_names_the_missing_variable(
    tmp_path: Path, name: str, variable: str
) -> None:
    async with running(tmp_path, name, "leader") as script:
        assert await script.until_ended() == 2
        assert variable in script.lines[0]


class Receiver(http.server.BaseHTTPRequestHandler):
    """Refuses the first message, and keeps the rest."""

    answers: list[int]
    messages: list[object]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = self.answers.pop(0)
        if status == 204:
            self.messages.append(json.loads(body))
        self.send_response(status)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def web_server() -> Iterator[int]:
    Receiver.answers, Receiver.messages = [503, 204], []
    server = http.server.HTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


async def test_webhook_tries_until_the_message_is_delivered(tmp_path: Path, web_server: int) -> None:
    url = f"http://127.0.0.1:{web_server}/secret-path"
    async with running(tmp_path, "webhook.py", "leader", WEBHOOK_URL=url) as script:
        assert await script.until_ended() == 0
    assert Receiver.messages == [
        {
            "role": "leader",
            "node_id": "00000000000000a1",
            "node_name": "node-1",
            "cluster_id": "00000000000000c1",
            "term": "7",
            "leader_id": "00000000000000a1",
            "fencing_token": "7",
        }
    ]
    assert "503" in script.lines[0]
    assert not [line for line in script.lines if "secret" in line]


# --- a virtual address, in a network namespace of its own ---------------------------------------------------

NAMESPACE = f"trioraft-{os.getpid()}"


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def namespace() -> Iterator[str]:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("needs root and iproute2")
    ip("netns", "add", NAMESPACE)
    yield NAMESPACE
    ip("netns", "delete", NAMESPACE)


async def test_virtual_ip_adds_the_address_and_removes_it_even_after_a_kill(
    tmp_path: Path, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # `ip` is sent to the namespace, and what would be sent to the neighbours is written down instead.
    for name, body in {"ip": f'exec {shutil.which("ip")} -n {namespace} "$@"', "arping": 'echo "arping $*"'}.items():
        command = trio.Path(tmp_path / "bin" / name)
        await command.parent.mkdir(exist_ok=True)
        await command.write_text(f"#!/bin/sh\n{body}\n")
        await command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    settings = {"VIRTUAL_IP": "192.0.2.10/24", "VIRTUAL_IP_DEVICE": "lo"}

    def holds() -> bool:
        return "192.0.2.10/24" in ip("-n", namespace, "address", "show", "dev", "lo")

    async with running(tmp_path, "virtual-ip-leader.sh", "leader", **settings) as leader:
        assert await leader.until_line("arping") == "arping -q -U -c 3 -I lo 192.0.2.10"
        assert holds()
        assert await leader.end() == 0
        assert not holds()
    # Killed before it could clean up: the follower script does.
    async with running(tmp_path, "virtual-ip-leader.sh", "leader", **settings) as leader:
        await leader.until_line("arping")
        os.kill(leader.pid, signal.SIGKILL)
        assert await leader.end() == -signal.SIGKILL
    assert holds()
    for expected in (["removed 192.0.2.10/24, which was left on lo"], []):
        async with running(tmp_path, "virtual-ip-follower.sh", "follower", **settings) as follower:
            assert await follower.until_ended() == 0
            assert follower.lines == expected
            assert not holds()
