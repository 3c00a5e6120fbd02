"""Nodes that serve clients of etcd, for the tests of the port."""

import http.client
import json
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import trio

from tests.cluster.harness import LOOPBACK, Cluster

# What `trioraft etcd` sets unless told otherwise.
TIMEOUTS = {
    "ELECTION_TIMEOUT_LOWER_MILLIS": "1000",
    "ELECTION_TIMEOUT_UPPER_MILLIS": "2000",
    "HEARTBEAT_REPEAT_MILLIS": "100",
}


def free_tcp_ports(number: int) -> list[int]:
    """Find TCP ports of loopback that nobody uses now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind((LOOPBACK, 0))
        return [one.getsockname()[1] for one in sockets]


class Serving(Cluster):
    """A cluster whose nodes serve clients of etcd at `clients`.

    Parameters
    ----------
    directory : Path
        The directory of data and logs.
    size : int
        How many nodes.
    environment : mapping, optional
        Variables for all nodes.
    """

    def __init__(self, directory: Path, size: int = 1, environment: Mapping[str, str] | None = None) -> None:
        self.clients = free_tcp_ports(size)
        each = [{"CLIENT_BIND_PORT": str(port)} for port in self.clients]
        super().__init__(directory, size, {**TIMEOUTS, **(environment or {})}, each=each)

    def client_address(self, i: int) -> str:
        """Return the ``host:port`` of a node for clients."""
        return f"{LOOPBACK}:{self.clients[i]}"

    async def wait_ready(self, seconds: float = 60) -> None:
        """Wait until every node that runs serves, and the cluster speaks its newest version."""
        await self.wait_leader(seconds)
        with trio.fail_after(seconds):
            for i in range(self.size):
                while self.processes[i] is not None:
                    body = {"success": [{"request_put": {"key": "cmVhZHk="}}, {"request_txn": {}}]}
                    if (await self.post(i, "/v3/kv/txn", body))[0] == 200:
                        break
                    await trio.sleep(0.1)

    async def post(self, i: int, path: str, body: Any, seconds: float = 30) -> tuple[int, Any]:
        """Post JSON to a node; return the status and the document; status 0 where it does not answer."""
        return await trio.to_thread.run_sync(
            post, self.client_address(i), path, body, seconds, abandon_on_cancel=True
        )


def post(address: str, path: str, body: Any, seconds: float = 30) -> tuple[int, Any]:
    """Post JSON; return the status and the document; status 0 where nobody answers."""
    status, text = ask(address, path, json.dumps(body).encode(), "POST", seconds=seconds)
    try:
        return status, json.loads(text)
    except ValueError:
        return status, text


def ask(
    address: str,
    path: str,
    body: bytes | None = None,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    seconds: float = 30,
) -> tuple[int, bytes]:
    """Make a request; return the status and the body; status 0 where nobody answers."""
    connection = http.client.HTTPConnection(address, timeout=seconds)
    try:
        connection.request(method, path, body, dict(headers or {}))
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()
