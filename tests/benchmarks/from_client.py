"""Clusters whose load comes from a client's process: trioraft's daemons, and etcd."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.in_process import Durability, free_tcp_ports, node_settings
from tests.benchmarks.peers import Peers
from tests.benchmarks.processes import Build, Processes, Worker
from tests.benchmarks.systems import HEARTBEAT_MILLIS, Standing, Subject
from tests.cluster.harness import LOOPBACK, free_ports


class Daemons:
    """Daemons of trioraft, and a client of them.

    Parameters
    ----------
    pids : list of int
        The daemons.
    peers : str
        Their addresses.
    client : Worker
        The client.
    arguments
        What each load is told besides.
    """

    def __init__(self, pids: list[int], peers: str, client: Worker, **arguments: Any) -> None:
        self.pids = pids
        self.peers = peers
        self.client = client
        self._arguments = arguments
        client.started()

    @property
    def clients(self) -> list[int]:
        """The process that the load comes from."""
        return [self.client.pid]

    def standing(self) -> Standing:
        """Ask all nodes; each has applied the revision that the leader has where their states are the same."""
        told = self.client.ask("status")["nodes"]
        size = len(self.pids)
        return Standing.of(told, size) if len(told) == size else Standing(None, (0,), (0,), connected=False)

    def latency(self, leader: int, seconds: float) -> dict[str, Any]:
        """Have one put outstanding at a time."""
        return self.client.ask("latency", seconds=seconds)

    def load(self, leader: int, outstanding: int, seconds: float) -> dict[str, Any]:
        """Have so many outstanding."""
        return self.client.ask("load", outstanding=outstanding, seconds=seconds, **self._arguments)


def start_daemons(
    processes: Processes, build: Build, *, size: int = 3, interface: str = "", **settings: Any
) -> Daemons:
    """Start daemons of trioraft, and a client."""
    ports = free_ports(size)
    pids = []
    for number in range(size):
        variables = {**node_settings(ports, number, processes.directory), **settings}
        environment = build.environment(processes.directory) | {
            name.upper(): str(value) for name, value in variables.items()
        }
        command = [build.python, "-P", "-m", "trioraft", "node", "--end-with-stdin"]
        pids.append(processes.start(f"node-{number}", command, environment).pid)
    peers = ",".join(f"{LOOPBACK}:{port}" for port in ports)
    client = processes.worker("client", build, "trioraft_client", {"peers": peers})
    return Daemons(pids, peers, client, interface=interface)


class Etcd:
    """Servers of etcd, and a client of them."""

    def __init__(self, pids: list[int], ports: list[int], etcdctl: Path, client: Worker) -> None:
        self.pids = pids
        self._ports = ports
        self._client = client
        self._etcdctl = etcdctl
        client.started()

    @property
    def clients(self) -> list[int]:
        """The process that the load comes from."""
        return [self._client.pid]

    def standing(self) -> Standing:
        """Ask all servers; the revision of the store counts what was put."""
        endpoints = ",".join(f"{LOOPBACK}:{port}" for port in self._ports)
        command = [str(self._etcdctl), "--endpoints", endpoints, "endpoint", "status", "--write-out", "json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={"ETCDCTL_API": "3"})
        told = json.loads(done.stdout or "[]") or []
        if len(told) != len(self._ports):
            return Standing(None, (0,), (0,), connected=False)
        status = [each["Status"] for each in told]
        leaders = {each["leader"] for each in status}
        members = [each["header"]["member_id"] for each in status]
        agreed = len(leaders) == 1 and leaders <= set(members)
        return Standing(
            members.index(leaders.pop()) if agreed else None,
            tuple(each["raftTerm"] for each in status),
            tuple(each["header"]["revision"] for each in status),
        )

    def latency(self, leader: int, seconds: float) -> dict[str, Any]:
        """Have one put outstanding at a time."""
        return self._client.ask("latency", port=self._ports[leader], seconds=seconds)

    def load(self, leader: int, outstanding: int, seconds: float) -> dict[str, Any]:
        """Have so many outstanding."""
        return self._client.ask("load", port=self._ports[leader], outstanding=outstanding, seconds=seconds)


def start_etcd(processes: Processes, peers: Peers, flags: Sequence[str]) -> Etcd:
    """Start three servers of etcd, and a client."""
    ports = free_tcp_ports(6)
    cluster = ",".join(f"node-{number}=http://{LOOPBACK}:{port}" for number, port in enumerate(ports[:3]))
    pids = []
    for number in range(3):
        peer, client = (f"http://{LOOPBACK}:{ports[number + offset]}" for offset in (0, 3))
        options = {
            "--name": f"node-{number}",
            "--data-dir": str(processes.directory / f"node-{number}"),
            "--listen-peer-urls": peer,
            "--initial-advertise-peer-urls": peer,
            "--listen-client-urls": client,
            "--advertise-client-urls": client,
            "--initial-cluster": cluster,
            "--initial-cluster-state": "new",
            "--heartbeat-interval": str(HEARTBEAT_MILLIS),
            "--election-timeout": str(
                5 * HEARTBEAT_MILLIS
            ),  # it insists on five times; drawn from one to two of these
            "--log-outputs": "stderr",
        }
        command = [str(peers.etcd), *(word for option in options.items() for word in option), *flags]
        pids.append(processes.start(f"node-{number}", command, {"PATH": "/usr/bin:/bin"}).pid)
    client_worker = processes.worker("client", peers.pysyncobj, "etcd_client", {})
    return Etcd(pids, ports[3:], peers.etcdctl, client_worker)


def daemons_subject(name: str, build: Build, durability: Durability, interface: str = "") -> Subject:
    """Return trioraft's daemons, as one of those that are compared."""
    return Subject(
        name, lambda processes: start_daemons(processes, build, interface=interface, durability=durability)
    )


def etcd_subject(name: str, peers: Peers, *flags: str) -> Subject:
    """Return etcd as one of those that are compared."""
    return Subject(name, lambda processes: start_etcd(processes, peers, flags))
