"""Clusters whose load comes from within the leader's process: trioraft as a library, and PySyncObj."""

import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Literal

from tests.benchmarks.processes import Build, Processes, Worker
from tests.benchmarks.systems import HEARTBEAT_MILLIS, TIMEOUT_MILLIS, Standing, Subject
from tests.cluster.harness import LOOPBACK, free_ports

Durability = Literal["memory", "sync"]

# PySyncObj wants its lower timeout above three periods. Nodes that are not connected yet try again every 5 s by
# default, and only the start of a cluster would show that.
_PYSYNCOBJ: Final[dict[str, Any]] = {
    "appendEntriesPeriod": HEARTBEAT_MILLIS / 1000,
    "raftMinTimeout": TIMEOUT_MILLIS[0] / 1000 + 0.001,
    "raftMaxTimeout": TIMEOUT_MILLIS[1] / 1000 + 0.001,
    "connectionRetryTime": 0.2,
}
# Its best for latencies, and its best for many commands: a heartbeat of 5 ms, ten times as often as the others'.
PYSYNCOBJ_MODES: Final[dict[str, dict[str, Any]]] = {
    "unbatched": {**_PYSYNCOBJ, "appendEntriesUseBatch": False},
    "5 ms period": {**_PYSYNCOBJ, "appendEntriesPeriod": 0.005, "autoTickPeriod": 0.002},
}


class InProcess:
    """Nodes that are workers, and take their load themselves.

    Parameters
    ----------
    workers : list of Worker
        The nodes.
    arguments
        What each load is told besides.
    """

    def __init__(self, workers: list[Worker], **arguments: Any) -> None:
        self._workers = workers
        self._arguments = arguments
        for worker in workers:
            worker.started()

    @property
    def pids(self) -> list[int]:
        """The processes of its nodes."""
        return [worker.pid for worker in self._workers]

    @property
    def clients(self) -> list[int]:
        """No other processes."""
        return []

    def standing(self) -> Standing:
        """Ask all nodes."""
        return Standing.of([worker.ask("status") for worker in self._workers], len(self._workers))

    def latency(self, leader: int, seconds: float) -> dict[str, Any]:
        """Have one command outstanding at a time."""
        return self._workers[leader].ask("latency", seconds=seconds)

    def load(self, leader: int, outstanding: int, seconds: float, **more: Any) -> dict[str, Any]:
        """Have so many outstanding."""
        arguments = {**self._arguments, **more}
        return self._workers[leader].ask("load", outstanding=outstanding, seconds=seconds, **arguments)


def node_settings(ports: list[int], number: int, directory: Path) -> dict[str, Any]:
    """Return the settings of a node of a cluster on loopback, with static peers."""
    return {
        "peers": ",".join(f"{LOOPBACK}:{port}" for port in ports),
        "bind_host": LOOPBACK,
        "bind_port": ports[number],
        "data_dir": str(directory / f"node-{number}"),
        "bootstrap_expect": len(ports),
        "max_voters": max(7, len(ports)),
        "heartbeat_repeat_millis": HEARTBEAT_MILLIS,
        "election_timeout_lower_millis": TIMEOUT_MILLIS[0],
        "election_timeout_upper_millis": TIMEOUT_MILLIS[1],
    }


def start_trioraft(
    processes: Processes, build: Build, *, size: int = 3, interface: str = "", **settings: Any
) -> InProcess:
    """Start nodes of trioraft."""
    ports = free_ports(size)
    configurations = [
        {"settings": {**node_settings(ports, number, processes.directory), **settings}} for number in range(size)
    ]
    workers = [
        processes.worker(f"node-{number}", build, "trioraft_node", configuration)
        for number, configuration in enumerate(configurations)
    ]
    return InProcess(workers, interface=interface)


def start_pysyncobj(processes: Processes, build: Build, mode: str) -> InProcess:
    """Start nodes of PySyncObj."""
    addresses = [f"{LOOPBACK}:{port}" for port in free_tcp_ports(3)]
    workers = [
        processes.worker(
            f"node-{number}",
            build,
            "pysyncobj_node",
            {"own": own, "others": [each for each in addresses if each != own], "options": PYSYNCOBJ_MODES[mode]},
        )
        for number, own in enumerate(addresses)
    ]
    return InProcess(workers)


def free_tcp_ports(number: int) -> list[int]:
    """Find TCP ports of loopback that nobody uses now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) for _ in range(number)]
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return [int(each.getsockname()[1]) for each in sockets]


def trioraft_subject(name: str, build: Build, durability: Durability, interface: str = "") -> Subject:
    """Return trioraft as a library, as one of those that are compared."""
    return Subject(
        name, lambda processes: start_trioraft(processes, build, interface=interface, durability=durability)
    )


def pysyncobj_subject(build: Build, mode: str) -> Subject:
    """Return PySyncObj as one of those that are compared."""
    return Subject(f"PySyncObj, {mode}", lambda processes: start_pysyncobj(processes, build, mode))
