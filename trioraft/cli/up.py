"""A cluster and its monitor on this machine's loopback: one process for each node (`trioraft.launching`)."""

import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import trio

from trioraft.cli.local import announced
from trioraft.cli.output import Output, say
from trioraft.cli.up_control import ControlError, controlled
from trioraft.client.client import open_client
from trioraft.client.status import ClusterStatus, ObservedNode, printable
from trioraft.launching import LOOPBACK, describe_end, node_environment, program_environment, start_process
from trioraft.settings.settings import ClientSettings, MonitorSettings, NodeSettings, settings_warnings
from trioraft.signals import ENDING, not_ignored

MONITOR: Final = "monitor"
_REFRESH: Final = 0.5
_LOOK_AGAIN: Final = 0.02
_LINE_MAX: Final = 64 * 1024
# How long nodes may take to end beyond the grace of their scripts, in seconds.
_END_MARGIN: Final = 5.0


class UpError(Exception):
    """The cluster cannot be started; one line that says why."""


async def run_up(nodes: int, base_port: int, monitor_port: int, data_dir: Path | None) -> int:
    """Run a cluster until SIGINT or SIGTERM, or until all its nodes have ended.

    Parameters
    ----------
    nodes : int
        The number of nodes.
    base_port : int
        The UDP port of the first node; the others follow.
    monitor_port : int
        The TCP port of the monitor.
    data_dir : Path or None
        Where the nodes' data is kept; None for a directory that is removed in the end.

    Returns
    -------
    int
        The exit status: 0 when a signal ended it, 1 when all nodes ended by themselves.

    Raises
    ------
    UpError
        If a port is taken or a process cannot be started.
    SettingsError
        If a variable has a wrong value.
    """
    ports = range(base_port, base_port + nodes)
    peers = ",".join(f"{LOOPBACK}:{port}" for port in ports)
    _check_ports(ports, monitor_port)
    with ExitStack() as stack:
        if data_dir is None:
            directory = Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="trioraft-", ignore_cleanup_errors=True))
            )
        else:
            directory = data_dir
        environments = {
            f"node-{number}": node_environment(number, port, peers, nodes, directory)
            for number, port in enumerate(ports, 1)
        }
        environments[MONITOR] = program_environment(monitor_port, peers)
        settings = _check(environments)
        say(f"{nodes} nodes at {peers}; page at http://{LOOPBACK}:{monitor_port}; data in {directory}")
        if not stack.enter_context(announced(peers)):
            say(f"commands do not find this cluster by themselves: give them --peers {peers}")
        for warning in settings_warnings(os.environ):
            say(warning)
        cluster = _Cluster(environments, settings.hook_stop_grace)
        async with controlled(peers, cluster.act):
            return await cluster.run()


def _check_ports(ports: range, monitor_port: int) -> None:
    kinds = [(port, socket.SOCK_DGRAM, "UDP", "--base-port") for port in ports]
    for port, kind, protocol, option in [*kinds, (monitor_port, socket.SOCK_STREAM, "TCP", "--monitor-port")]:
        with socket.socket(socket.AF_INET, kind) as probe:
            if kind == socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError as error:
                reason = (error.strerror or str(error)).lower()
                raise UpError(f"{protocol} port {port} of {LOOPBACK}: {reason}; choose another {option}") from None


def _check(environments: Mapping[str, Mapping[str, str]]) -> NodeSettings:
    """Check the environments before any process is started; return the settings of the first node."""
    checked = [
        NodeSettings.from_environ(environment) for name, environment in environments.items() if name != MONITOR
    ]
    MonitorSettings.from_environ(environments[MONITOR])
    return checked[0]


class _Cluster:
    """The processes, from their start to their end.

    Parameters
    ----------
    environments : mapping
        The environment of each process, by its name.
    stop_grace : float
        How long a script may take to end, in seconds.
    """

    def __init__(self, environments: Mapping[str, Mapping[str, str]], stop_grace: float) -> None:
        self._environments = environments
        self._end_within = stop_grace + _END_MARGIN
        self._running: dict[str, trio.Process] = {}
        self._followers: trio.Nursery | None = None
        self._one_ended = trio.Event()
        self._ending = False
        self._output = Output(os.environ.get("LOGGING", "").upper() == "DEBUG")

    async def run(self) -> int:
        """Start all processes, report what happens, and end all.

        Returns
        -------
        int
            0 when a signal ended it, 1 when all nodes ended by themselves.
        """
        with trio.open_signal_receiver(*not_ignored(*ENDING)) as signals:
            async with trio.open_nursery() as followers:
                self._followers = followers
                try:
                    for name in self._environments:
                        await self._start(name, followers)
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._report_roles)
                        nursery.start_soon(self._until_signal, signals, nursery.cancel_scope)
                        await self._until_nodes_have_ended()
                        nursery.cancel_scope.cancel()
                finally:
                    was_told, self._ending = bool(self._nodes()), True
                    with trio.CancelScope(shield=True):
                        await self._end_all(signals)
        return 0 if was_told else 1

    def _nodes(self) -> list[str]:
        return [name for name in self._running if name != MONITOR]

    async def act(self, action: str, name: str) -> str:
        """Disturb a node, or heal it, as ``trioraft up ctl`` says.

        Parameters
        ----------
        action : str
            What to do.
        name : str
            The node.

        Returns
        -------
        str
            What has become of it.

        Raises
        ------
        ControlError
            If that cannot be done.
        """
        nodes = [known for known in self._environments if known != MONITOR]
        if name not in nodes:
            raise ControlError(f"there is no node {name!r}; there are {', '.join(nodes)}")
        process = self._running.get(name)
        if action == "restart":
            return await self._restart(name, process)
        if process is None:
            raise ControlError(f"{name} does not run; start it: trioraft up ctl restart {name}")
        number, text = {
            "kill": (signal.SIGKILL, "was killed"),
            "pause": (signal.SIGSTOP, "is paused"),
            "resume": (signal.SIGCONT, "goes on"),
        }[action]
        process.send_signal(number)
        return f"{name} {text} (pid {process.pid})"

    async def _restart(self, name: str, process: trio.Process | None) -> str:
        if self._followers is None or self._ending:
            raise ControlError("the cluster is ending")
        if process is not None:
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGCONT)
            while self._running.get(name) is process:  # noqa: ASYNC110 - the event is for the end of any one
                await trio.sleep(_LOOK_AGAIN)
        await self._start(name, self._followers)
        return f"{name} was started (pid {self._running[name].pid})"

    async def _start(self, name: str, followers: trio.Nursery) -> None:
        command = "monitor" if name == MONITOR else "node"
        process = await start_process(command, self._environments[name], subprocess.PIPE)
        self._running[name] = process
        say(f"started (pid {process.pid})", name)
        followers.start_soon(self._follow, name, process)

    async def _follow(self, name: str, process: trio.Process) -> None:
        """Show the output of a process, and its end."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read, name, process)
            status = await process.wait()
            # A descendant may hold the pipe open, so nothing waits for its end.
            nursery.cancel_scope.deadline = trio.current_time() + 0.5
        del self._running[name]
        self._one_ended.set()
        how = describe_end(status)
        if not self._ending or status:
            say(
                f"has ended ({how}); to start it: trioraft up ctl restart {name}"
                if not self._ending
                else f"ended ({how})",
                name,
            )

    async def _read(self, name: str, process: trio.Process) -> None:
        assert process.stdout is not None  # noqa: S101 - it was asked for
        rest = b""
        async for chunk in process.stdout:
            *lines, rest = (rest + chunk).split(b"\n")
            rest = rest[-_LINE_MAX:]
            for line in lines:
                self._output.show(name, line.decode("utf-8", "replace"), quietly=self._ending)
        if rest:
            self._output.show(name, rest.decode("utf-8", "replace"), quietly=self._ending)

    # --- while it runs ---------------------------------------------------------------------------------------

    async def _until_signal(self, signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
        async for _ in signals:
            say("ending; Ctrl-C again kills all at once")
            scope.cancel()

    async def _until_nodes_have_ended(self) -> None:
        while self._nodes():
            self._one_ended = trio.Event()
            await self._one_ended.wait()
        say("all nodes have ended")

    async def _report_roles(self) -> None:
        """Print each change of a node's role, and that a node does not answer."""
        shown: dict[str, tuple[str, bool]] = {}
        async with open_client(ClientSettings.from_environ(next(iter(self._environments.values())))) as client:
            await client.observe(_REFRESH)
            while True:
                seen = client.version
                cluster = client.cluster()
                for node in cluster.nodes:
                    status = node.status
                    now = (status.role, node.reachable)
                    if shown.get(status.id) != now:
                        was_reachable = shown.get(status.id, ("", True))[1]
                        shown[status.id] = now
                        say(_describe(node, cluster, was_reachable=was_reachable), printable(status.name))
                await client.changed(seen)

    # --- the end ---------------------------------------------------------------------------------------------

    async def _end_all(self, signals: AsyncIterator[int]) -> None:
        for process in self._running.values():
            process.send_signal(signal.SIGTERM)
        async with trio.open_nursery() as nursery:

            async def kill_when_told() -> None:
                async for _ in signals:
                    nursery.cancel_scope.cancel()

            nursery.start_soon(kill_when_told)
            with trio.move_on_after(self._end_within):
                while self._running:
                    self._one_ended = trio.Event()
                    await self._one_ended.wait()
            nursery.cancel_scope.cancel()
        for name, process in self._running.items():
            say("did not end in time and is killed", name)
            process.kill()


def _describe(node: ObservedNode, cluster: ClusterStatus, *, was_reachable: bool) -> str:
    status = node.status
    if not node.reachable:
        return "does not answer"
    text = f"{status.role}, term {status.term}"
    leader = next((n.status.name for n in cluster.nodes if n.status.id == status.leader), status.leader)
    if leader and status.role != "leader":
        text += f", follows {printable(leader)}"
    elif status.forming is not None:
        text = f"{status.role}, waits for {printable(status.forming.waiting_for)}"
    return text if was_reachable else f"answers again: {text}"
