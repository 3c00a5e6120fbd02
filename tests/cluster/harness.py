"""Clusters of real node processes on loopback, for tests.

::

    async with Cluster(tmp_path, size=3, environment={"SCRIPT_LEADER_PATH": path}) as cluster:
        leader = await cluster.wait_leader(10)
        cluster.kill(cluster.index(leader), signal.SIGKILL)
        await cluster.wait_for(lambda seen: seen.leader is not None, 5)

Every process is ended by its pid when the block is left, and by itself when the test's own process is gone; the
nodes' logs are printed when the block is left with an exception.
"""

import fcntl
import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import trio

from trioraft.client.client import Client, NoAnswerError, open_client
from trioraft.client.status import ClusterStatus, ObservedNode
from trioraft.messages import StateDigested
from trioraft.settings.settings import ClientSettings
from trioraft.settings.variables import VARIABLES

LOOPBACK = "127.0.0.1"
ROOT = Path(__file__).parents[2]
# Short enough for a quick test, long enough for two busy processors.
FAST = {
    "ELECTION_TIMEOUT_LOWER_MILLIS": "600",
    "ELECTION_TIMEOUT_UPPER_MILLIS": "1200",
    "HEARTBEAT_REPEAT_MILLIS": "100",
    "HOOK_STOP_GRACE_MILLIS": "500",
}
# What nodes have when nobody says otherwise.
DEFAULT_TIMEOUTS = dict.fromkeys(FAST, "")
_LOG_LINES_SHOWN = 200


def free_ports(number: int) -> list[int]:
    """Find UDP ports of loopback that nobody uses now, and that nobody is given who asks for any."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii").split()[0])
    found: list[int] = []
    with ExitStack() as stack:
        while len(found) < number:
            each = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            port = random.randrange(max(1024, first - 20_000), first)
            with suppress(OSError):
                each.bind((LOOPBACK, port))
                found.append(port)
    return found


def clean_environment() -> dict[str, str]:
    """Return this process's environment without any variable that configures a node."""
    ours = {variable.name for variable in VARIABLES}
    return {name: value for name, value in os.environ.items() if name not in ours}


@dataclass(frozen=True)
class Place:
    """Where a node runs.

    Attributes
    ----------
    host : str
        Where others reach it.
    bind_host : str
        Where it listens.
    command : tuple of str
        What is to run its command line, and become it, so that its process id is that of the node.
    """

    host: str = LOOPBACK
    bind_host: str = LOOPBACK
    command: tuple[str, ...] = ()


class Cluster:
    """Real node processes; node ``i``, from 0, is called ``node-{i + 1}`` and listens at ``ports[i]``.

    Parameters
    ----------
    directory : Path
        Where data and logs are kept: ``node-1/`` and ``node-1.log``.
    size : int
        How many nodes.
    environment : mapping, optional
        Variables for all nodes, beside those of `FAST`.
    each : sequence of mapping, optional
        Variables for each node, such as ``PEERS`` that lead through a relay. May be changed before a start.
    ports : sequence of int, optional
        The UDP ports; free ones by default.
    modules : sequence of str, optional
        What is run as each node; this software by default. May be changed before a start.
    places : sequence of Place, optional
        Where each node runs; on loopback by default.

    Attributes
    ----------
    pythons : list of str
        The interpreter of each node; this one by default. May be changed before a start.
    """

    def __init__(
        self,
        directory: Path,
        size: int = 3,
        environment: Mapping[str, str] | None = None,
        *,
        each: Sequence[Mapping[str, str]] | None = None,
        ports: Sequence[int] | None = None,
        modules: Sequence[str] | None = None,
        places: Sequence[Place] | None = None,
    ) -> None:
        self.size = size
        self.places = list(places or [Place()] * size)
        self.modules = list(modules or ["trioraft"] * size)
        self.pythons = [sys.executable] * size
        self.ports = list(ports or free_ports(size))
        self.each = [dict(variables) for variables in each or [{}] * size]
        self.peers = ",".join(map(self.address, range(size)))
        self.directory = directory
        self.processes: list[trio.Process | None] = [None] * size
        self._environment = {**FAST, **(environment or {})}
        self._stack = AsyncExitStack()
        self.client: Client

    @property
    def shared(self) -> dict[str, str]:
        """What a client's environment needs to have."""
        shared = {name: value for name, value in self._environment.items() if name in {"APP_NAME", "CLUSTER_KEY"}}
        return {**shared, "PEERS": self.peers}

    async def __aenter__(self) -> Self:
        try:
            for i in range(self.size):
                await self.start(i)
            await self._open_client()
        except BaseException:
            await self._end()
            self._print_logs()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What the test raised is to come out as it is, not in the group that the client's nursery makes of it.
        try:
            with suppress(BaseExceptionGroup) if error is not None else ExitStack():
                await self._stack.__aexit__(kind, error, trace)
        finally:
            await self._end()
            if error is not None:
                self._print_logs()

    async def _open_client(self) -> None:
        settings = ClientSettings.from_environ(self.shared)
        self.client = await self._stack.enter_async_context(open_client(settings))
        await self.client.observe(0.2)

    async def use_key(self, key: str) -> None:
        """Look at the nodes with another key from now on; not within a nursery that was opened since the start."""
        self._environment["CLUSTER_KEY"] = key
        await self._stack.aclose()
        await self._open_client()

    # --- processes -------------------------------------------------------------------------------------------

    def environment(self, i: int) -> dict[str, str]:
        """Return the environment of a node."""
        return {
            **clean_environment(),
            "PYTHONPATH": str(ROOT),
            "BIND_HOST": self.places[i].bind_host,
            "BIND_PORT": str(self.ports[i]),
            "UNSEALED": "allowed",  # in namespaces of their own, where nobody else is
            "PEERS": self.peers,
            "BOOTSTRAP_EXPECT": str(self.size),
            "NODE_NAME": f"node-{i + 1}",
            "DATA_DIR": str(self.data_dir(i)),
            "LOG_FORMAT": "json",
            **self._environment,
            **self.each[i],
        }

    def address(self, i: int) -> str:
        """Return where a node is reached, as ``ip:port``."""
        return f"{self.each[i].get('BIND_HOST', self.places[i].host)}:{self.ports[i]}"

    def move(self, i: int, place: Place) -> None:
        """Note that a node is somewhere else now; who is started from now on is told so."""
        self.places[i] = place
        self.peers = ",".join(map(self.address, range(self.size)))

    def data_dir(self, i: int) -> Path:
        """Return the ``DATA_DIR`` of a node."""
        return self.directory / f"node-{i + 1}"

    def log_file(self, i: int) -> Path:
        """Return the file that all runs of a node write their logs to."""
        return self.directory / f"node-{i + 1}.log"

    def open_output(self, i: int) -> IO[bytes]:
        """Open what a node is to write to."""
        return self.log_file(i).open("ab")

    async def start(self, i: int) -> None:
        """Start a node, on the data it had."""
        assert self.processes[i] is None, f"node {i} runs already"
        with self.open_output(i) as log:
            self.processes[i] = await trio.lowlevel.open_process(
                [*self.places[i].command, self.pythons[i], "-m", self.modules[i], "node", "--end-with-stdin"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment(i),
                start_new_session=True,
            )

    async def stop(self, i: int, seconds: float = 15) -> int:
        """Stop a node with SIGTERM, and return its exit status."""
        self.process(i).terminate()
        return await self.ended(i, seconds)

    async def kill(self, i: int, number: signal.Signals = signal.SIGKILL) -> int:
        """End a node, and nothing else, with a signal; return its exit status."""
        self.process(i).send_signal(number)
        return await self.ended(i, 15)

    async def ended(self, i: int, seconds: float) -> int:
        """Wait until a node has ended, and return its exit status."""
        with trio.fail_after(seconds):
            status = await self.process(i).wait()
        self.processes[i] = None
        return status

    def pause(self, i: int) -> None:
        """Stop a node's own process where it is."""
        self.process(i).send_signal(signal.SIGSTOP)

    def resume(self, i: int) -> None:
        """Let a paused node go on."""
        self.process(i).send_signal(signal.SIGCONT)

    def process(self, i: int) -> trio.Process:
        """Return the process of a running node."""
        process = self.processes[i]
        assert process is not None, f"node {i} does not run"
        return process

    async def _end(self) -> None:
        with trio.CancelScope(shield=True):
            for i, process in enumerate(self.processes):
                if process is not None:
                    process.kill()
                    await process.wait()
                    self.processes[i] = None
            with trio.move_on_after(10):
                for i in range(self.size):
                    await self._scripts_ended(i)

    async def _scripts_ended(self, i: int) -> None:
        """Wait until a node's supervisor, which outlives it, has ended its scripts."""
        for lock in self.data_dir(i).glob("*/work.lock"):
            with lock.open("rb") as file:
                while True:
                    try:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                    except BlockingIOError:
                        await trio.sleep(0.05)

    # --- what the nodes say ----------------------------------------------------------------------------------

    def index(self, node: ObservedNode) -> int:
        """Tell which node that is."""
        return int(node.status.name.removeprefix("node-")) - 1

    def node(self, i: int) -> ObservedNode | None:
        """Return what was last heard of a node, which may have been another one before."""
        heard = (node for node in self.client.nodes.values() if self.index(node) == i)
        return max(heard, key=lambda node: node.heard_at, default=None)

    async def statuses(self, seconds: float = 1.0) -> ClusterStatus:
        """Ask all nodes now."""
        return await self.client.statuses(seconds)

    async def wait_for(
        self, condition: Callable[[ClusterStatus], bool], seconds: float, what: str = ""
    ) -> ClusterStatus:
        """Wait until a condition holds for what the nodes say."""
        with trio.move_on_after(seconds):
            while True:
                seen, cluster = self.client.version, self.client.cluster()
                if condition(cluster):
                    return cluster
                await self.client.changed(seen)
        last = json.dumps(self.client.cluster().to_json(), indent=1)
        raise AssertionError(f"not within {seconds} s: {what or condition}; last seen: {last}")

    async def wait_leader(self, seconds: float = 15, without: Sequence[int] = ()) -> ObservedNode:
        """Wait until there is a leader that all nodes but some agree on, and return it."""
        chosen = set(range(self.size)) - set(without)

        def agreed(cluster: ClusterStatus) -> bool:
            leader = cluster.leader
            if leader is None or self.index(leader) not in chosen:
                return False
            heard = {self.index(n): n for n in cluster.nodes if n.reachable}
            return all(
                i in heard
                and (heard[i].status.leader, heard[i].status.term) == (leader.status.id, leader.status.term)
                for i in chosen
                if self.processes[i] is not None
            )

        cluster = await self.wait_for(agreed, seconds, "one leader that all know")
        assert cluster.leader is not None
        return cluster.leader

    async def same_state(self, seconds: float = 30) -> StateDigested:
        """Wait until all running nodes have applied the same entries; their states must be equal then, and are given.

        Two nodes that have applied the same entries and differ are an error at once.
        """
        found: dict[str, StateDigested] = {}

        async def ask(node: ObservedNode) -> None:
            with suppress(NoAnswerError):
                found[node.status.name] = await self.client.state_digest(node.status.id, seconds)

        running = {f"node-{i + 1}" for i, process in enumerate(self.processes) if process is not None}
        with trio.move_on_after(seconds):
            while True:
                found.clear()
                async with trio.open_nursery() as nursery:
                    for node in (await self.statuses()).nodes:
                        if node.status.name in running:
                            nursery.start_soon(ask, node)
                by_index: dict[int, set[str]] = {}
                for digested in found.values():
                    by_index.setdefault(digested.index, set()).add(digested.digest)
                assert all(len(digests) == 1 for digests in by_index.values()), f"replicas differ: {found}"
                if found.keys() == running and len(by_index) == 1:
                    return next(iter(found.values()))
                await trio.sleep(0.1)
        raise AssertionError(f"not within {seconds} s: all nodes at the same entry; last seen: {found}")

    def logs(self, i: int) -> list[dict[str, Any]]:
        """Return the lines of a node's log."""
        if not self.log_file(i).exists():
            return []
        lines = self.log_file(i).read_text("utf-8", "replace").splitlines()
        return [json.loads(line) if line.startswith("{") else {"event": line} for line in lines]

    def _print_logs(self) -> None:
        for i in range(self.size):
            lines = self.log_file(i).read_text("utf-8", "replace").splitlines() if self.log_file(i).exists() else []
            print(f"--- log of node-{i + 1} (the last {_LOG_LINES_SHOWN} of {len(lines)} lines)")
            print("\n".join(lines[-_LOG_LINES_SHOWN:]))
