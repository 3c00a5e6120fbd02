"""The page, installed for each Python that is found here, with the newest or lowest versions of what it needs."""

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.harness import clean_environment, free_ports
from tests.pythons import Versions, found, install

# `tests/run full pythons` looks at each with both.
EVERY = [(version, versions) for version in found() for versions in Versions]
SOME = [one for one in EVERY if one[1] is Versions.NEWEST or one[0] == next(iter(found()))]
CHOSEN = EVERY if "TRIORAFT_EVERY_PYTHON" in os.environ else SOME


@pytest.mark.parametrize(
    ("version", "versions"), CHOSEN, ids=[f"{one}-{versions.name.lower()}" for one, versions in CHOSEN]
)
def test_the_page_is_served_with_every_python(version: str, versions: Versions, tmp_path: Path) -> None:
    python = install(version, versions)
    base, page = free_ports(2)
    # Neither from nor beside the sources: what was installed has to be whole.
    environment = {name: value for name, value in clean_environment().items() if name != "PYTHONPATH"}
    command = [str(python), "-P", "-m", "trioraft"]
    up = subprocess.Popen(
        [*command, "up", "--nodes=1", f"--base-port={base}", f"--monitor-port={page}"], cwd=tmp_path, env=environment
    )
    try:
        url = f"http://127.0.0.1:{page}"
        assert b"<title>" in _get(f"{url}/", lambda: up.poll() is None)
        assert json.loads(_get(f"{url}/openapi.json"))["openapi"]
        with urllib.request.urlopen(f"{url}/api/events", timeout=30) as events:  # noqa: S310 - our own monitor
            leader = None
            while leader is None:
                line = events.readline()
                assert line, "the stream of events has ended"
                if line.startswith(b"data:"):
                    leader = json.loads(line.removeprefix(b"data:"))["leader"]
        status = subprocess.run(
            [*command, "status", "--format=json", f"--peers=127.0.0.1:{base}"],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            check=True,
            timeout=60,
        )
        assert [node["id"] for node in json.loads(status.stdout)["nodes"]] == [leader]
        up.send_signal(signal.SIGTERM)
        assert up.wait(30) == 0
    finally:
        up.kill()
        up.wait()


def _get(url: str, is_to_come: Callable[[], bool] = lambda: False) -> bytes:
    """Get a page, which may be served only in a moment."""
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - our own monitor
                return bytes(answer.read())
        except urllib.error.URLError:
            if not is_to_come() or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
