"""A real browser, and a real cluster with its monitor for it to look at."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request

ROOT: Final = Path(__file__).parents[2]
OUT: Final = ROOT / "tests" / "out"
REFRESH: Final = 1.0  # seconds; the monitor's default
FAST: Final = {
    "ELECTION_TIMEOUT_LOWER_MILLIS": "1000",
    "ELECTION_TIMEOUT_UPPER_MILLIS": "1500",
    "HEARTBEAT_REPEAT_MILLIS": "200",
    "HOOK_STOP_GRACE_MILLIS": "500",
}


def free_ports(kind: socket.SocketKind, count: int) -> list[int]:
    """Find ports in a row that nobody uses."""
    for base in range(21000, 29000, count):
        sockets = [socket.socket(socket.AF_INET, kind) for _ in range(count)]
        try:
            for offset, probe in enumerate(sockets):
                probe.bind(("127.0.0.1", base + offset))
        except OSError:
            continue
        finally:
            for probe in sockets:
                probe.close()
        return list(range(base, base + count))
    raise AssertionError("no free ports")


@contextmanager
def running(*arguments: str, environ: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a trioraft command until the block ends, then end it as Ctrl-C would."""
    process = subprocess.Popen(
        [sys.executable, "-m", "trioraft", *arguments], cwd=ROOT, env={**os.environ, **(environ or {})}
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def fetch(url: str) -> Any:
    """Get a JSON document, waiting for the server to come up."""
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 - our own server
                return json.load(response)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


class Cluster:
    """Three nodes and their monitor, started by ``trioraft up``."""

    def __init__(self, ports: list[int], monitor_port: int) -> None:
        self.peers = ",".join(f"127.0.0.1:{port}" for port in ports)
        self.url = f"http://127.0.0.1:{monitor_port}"

    def status(self) -> Any:
        """Ask ``trioraft status``."""
        command = [sys.executable, "-m", "trioraft", "status", "--format", "json", "--peers", self.peers]
        return json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=30).stdout)

    def wait_for_leader(self, besides: str | None = None) -> Any:
        """Wait until ``trioraft status`` names a leader whom all that answer follow."""
        deadline = time.monotonic() + 30
        while True:
            with_leader = self.status() if time.monotonic() < deadline else pytest.fail("no leader in 30 s")
            leaders = {node["leader"] for node in with_leader["nodes"] if node["reachable"]}
            if len(leaders) == 1 and leaders.isdisjoint({None, besides}) and with_leader["leader"] in leaders:
                return with_leader
            time.sleep(0.1)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Start a cluster whose leader script stays and whose follower script ends."""
    scripts = {"SCRIPT_LEADER_PATH": "exec sleep 3600", "SCRIPT_FOLLOWER_PATH": "exit 0"}
    for variable, body in scripts.items():
        path = tmp_path / variable.lower()
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        scripts[variable] = str(path)
    nodes, (monitor,) = free_ports(socket.SOCK_DGRAM, 3), free_ports(socket.SOCK_STREAM, 1)
    ports = ("--base-port", str(nodes[0]), "--monitor-port", str(monitor))
    with running("up", *ports, environ={**FAST, **scripts}):
        started = Cluster(nodes, monitor)
        fetch(f"{started.url}/healthz")
        started.wait_for_leader()
        yield started


class Window:
    """A page, and everything it asked for and complained about."""

    def __init__(self, browser: Browser, **options: Any) -> None:
        self.context = browser.new_context(locale="en-GB", **options)
        self.page: Page = self.context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", self._note_request)
        self.page.on("console", self._note_console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))

    def _note_request(self, request: Request) -> None:
        self.requests.append(request.url)

    def _note_console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)

    def check(self, origin: str) -> None:
        """See that nothing left the origin and nothing was complained about."""
        assert self.requests
        assert [url for url in self.requests if not url.startswith((f"{origin}/", "data:"))] == []
        assert self.complaints == []

    def wait_for(self, condition: str, seconds: float, *arguments: Any) -> float:
        """Wait for a JavaScript condition at every frame; return how many seconds it took."""
        began = time.monotonic()
        self.page.wait_for_function(condition, arg=list(arguments), timeout=seconds * 1000, polling="raf")
        return time.monotonic() - began

    def screenshot(self, name: str) -> None:
        """Save the whole page for people to look at."""
        OUT.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=OUT / f"{name}.png", full_page=True)


@pytest.fixture
def window(browser: Browser) -> Iterator[Window]:
    """Open a window of ordinary size."""
    opened = Window(browser, viewport={"width": 1280, "height": 900}, color_scheme="light")
    yield opened
    opened.context.close()
