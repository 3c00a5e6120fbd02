"""Clusters of real node processes, with their sockets, disks and logs."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import trio

from trioraft.client import Client, open_client
from trioraft.endpoint import Domain
from trioraft.observed import ClusterStatus, ObservedNode
from trioraft.settings import ClientSettings, load

ROOT = Path(__file__).parents[2]
LOOPBACK = "127.0.0.1"
T = TypeVar("T")


def free_ports(count: int, *hosts: str) -> list[int]:
    """Find UDP ports that are free at all of some hosts."""
    with ExitStack() as stack:
        ports: list[int] = []
        while len(ports) < count:
            sockets = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in hosts or "1"]
            try:
                port = 0
                for sock, host in zip(sockets, hosts or (LOOPBACK,), strict=True):
                    sock.bind((host, port))
                    port = sock.getsockname()[1]
            except OSError:
                continue
            ports.append(port)
        return ports


class NodeProcess:
    """One node, which may be started and ended many times.

    Attributes
    ----------
    name : str
        Its name.
    environment : dict of str to str
        What it is configured with; may be changed before a start.
    process : subprocess.Popen
        Its newest process.
    """

    process: "subprocess.Popen[bytes]"

    def __init__(self, name: str, directory: Path, environment: dict[str, str]) -> None:
        self.name = name
        self.log_path = directory / f"{name}.log"
        self.environment = {"NODE_NAME": name, "LOG_FORMAT": "json", "DATA_DIR": str(directory / name), **environment}

    @property
    def address(self) -> str:
        return f"{self.environment.get('BIND_HOST', LOOPBACK)}:{self.environment['BIND_PORT']}"

    @property
    def pid(self) -> int:
        return self.process.pid

    def start(self) -> None:
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "trioraft", "node"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env={"PATH": os.environ["PATH"], **self.environment},
            )

    def is_running(self) -> bool:
        return self.process.poll() is None

    async def ended(self, within: float = 10.0) -> int:
        """Wait until the process has ended, and give its exit status."""
        with trio.fail_after(within):
            while (status := self.process.poll()) is None:
                await trio.sleep(0.005)
        return status

    async def kill(self) -> None:
        """End the node alone: what it started is left to itself."""
        self.process.kill()
        await self.ended()

    async def stop(self) -> int:
        self.process.terminate()
        return await self.ended()

    def log(self) -> list[dict[str, Any]]:
        """Give all that it has logged, with `at` in seconds since the epoch."""
        lines = self.log_path.read_bytes().splitlines() if self.log_path.exists() else []
        found = []
        for line in lines:
            if line.startswith(b"{"):
                fields = msgspec.json.decode(line, type=dict[str, Any])
                fields["at"] = datetime.fromisoformat(fields["timestamp"]).timestamp()
                found.append(fields)
        return found

    def said(self, event: str) -> list[dict[str, Any]]:
        return [fields for fields in self.log() if fields["event"] == event]

    def check_log(self) -> None:
        """See that nothing went wrong that nobody foresaw."""
        text = self.log_path.read_text(errors="replace") if self.log_path.exists() else ""
        assert "Traceback" not in text, f"{self.name} has crashed:\n{text}"


class Cluster:
    """Nodes and a client that observes them; made by :func:`open_cluster`."""

    def __init__(self, nodes: list[NodeProcess], client: Client) -> None:
        self.nodes = nodes
        self.client = client

    def start(self) -> None:
        for node in self.nodes:
            node.start()

    def node(self, name: str) -> NodeProcess:
        return next(node for node in self.nodes if node.name == name)

    def others(self, than: NodeProcess) -> list[NodeProcess]:
        return [node for node in self.nodes if node is not than]

    async def until(self, found: Callable[[ClusterStatus], T | None], within: float = 15.0) -> T:
        """Wait until a function of the cluster's status gives something."""
        with trio.move_on_after(within):
            while True:
                seen = self.client.version
                result = found(self.client.cluster())
                if result is not None and result is not False:
                    return result
                await self.client.changed(seen)
        raise AssertionError(f"not so within {within} s: {describe(self.client.cluster())}")

    async def agreed(self, within: float = 15.0, *, count: int | None = None) -> ObservedNode:
        """Wait until so many nodes (all, if it is not said) follow one leader, and give it."""
        wanted = len(self.nodes) if count is None else count

        def found(cluster: ClusterStatus) -> ObservedNode | None:
            leader = cluster.leader
            if leader is None:
                return None
            following = [n for n in cluster.nodes if n.reachable and n.status.leader == leader.status.id]
            return leader if len(following) == wanted else None

        return await self.until(found, within)

    async def leader(self, within: float = 15.0) -> NodeProcess:
        return self.node((await self.agreed(within)).status.name)


def describe(cluster: ClusterStatus) -> str:
    return "; ".join(
        f"{n.status.name} {n.status.role} term {n.status.term} leader {n.status.leader} reachable {n.reachable}"
        for n in cluster.nodes
    )


@asynccontextmanager
async def open_cluster(nodes: list[NodeProcess], *, key: str = "", refresh: float = 0.1) -> AsyncIterator[Cluster]:
    """Observe nodes for as long as the block lasts, kill all in the end, and see that none has crashed."""
    environment = {"PEERS": ",".join(node.address for node in nodes), "CLUSTER_KEY": key}
    service = nodes[0].environment.get("APP_NAME", "")
    try:
        async with open_client(load(ClientSettings, {**environment, "APP_NAME": service}), Domain.CLIENT) as client:
            await client.observe(refresh)
            yield Cluster(nodes, client)
    finally:
        for node in nodes:
            if hasattr(node, "process") and node.is_running():
                node.process.send_signal(signal.SIGKILL)
                node.process.wait()
    for node in nodes:
        node.check_log()


def make_nodes(directory: Path, ports: list[int], **environment: str) -> list[NodeProcess]:
    """Make nodes at some ports of loopback, which know each other and form one cluster."""
    peers = ",".join(f"{LOOPBACK}:{port}" for port in ports)
    common = {"PEERS": peers, "BOOTSTRAP_EXPECT": str(len(ports)), **environment}
    return [
        NodeProcess(f"node-{number}", directory, {"BIND_PORT": str(port), **common})
        for number, port in enumerate(ports, 1)
    ]
