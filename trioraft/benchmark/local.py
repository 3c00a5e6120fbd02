"""A temporary cluster of real node processes on loopback."""

import socket
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec
import trio

from trioraft.benchmark.errors import BenchmarkError
from trioraft.client.status import printable
from trioraft.launching import LOOPBACK, describe_end, node_environment, start_process
from trioraft.settings.settings import ClientSettings, NodeSettings, load

# A benchmark runs no scripts.
_NO_SCRIPTS: Final = {"SCRIPT_LEADER_PATH": "", "SCRIPT_FOLLOWER_PATH": ""}


@dataclass(frozen=True, slots=True)
class LocalCluster:
    """A cluster that lives as long as a benchmark.

    Attributes
    ----------
    settings : ClientSettings
        The addresses of the cluster, and the keys.
    directory : Path
        The place of its data.
    environment : mapping
        The environment of one of its processes.
    """

    settings: ClientSettings
    directory: Path
    environment: Mapping[str, str]


@asynccontextmanager
async def open_local_cluster(
    nodes: int, durability: Literal["sync", "memory"], data_dir: Path | None
) -> AsyncIterator[LocalCluster]:
    """Run a cluster for as long as the block lasts.

    Parameters
    ----------
    nodes : int
        The number of nodes.
    durability : {'sync', 'memory'}
        Their ``DURABILITY``.
    data_dir : Path or None
        The place of their data, which is removed in the end; None for the system's temporary directory. All other
        settings are those of this process's environment.

    Yields
    ------
    LocalCluster
        The cluster, which may still be electing a leader.

    Raises
    ------
    BenchmarkError
        If a node ends by itself; the text has the last line of its log.
    SettingsError
        If a variable has a wrong value.
    """
    ports = _free_ports(nodes)
    peers = ",".join(f"{LOOPBACK}:{port}" for port in ports)
    with tempfile.TemporaryDirectory(prefix="trioraft-bench-", dir=data_dir, ignore_cleanup_errors=True) as name:
        directory = Path(name)
        environments = [
            {**node_environment(number, port, peers, nodes, directory), **_NO_SCRIPTS, "DURABILITY": durability}
            for number, port in enumerate(ports, 1)
        ]
        for environment in environments:
            load(NodeSettings, environment)
        async with trio.open_nursery() as nursery:
            processes: list[trio.Process] = []
            try:
                for number, environment in enumerate(environments, 1):
                    log = directory / f"node-{number}.log"
                    with log.open("wb") as file:
                        processes.append(await start_process("node", environment, file))
                    nursery.start_soon(_expect_to_run, processes[-1], log)
                yield LocalCluster(load(ClientSettings, environments[0]), directory, environments[0])
            finally:
                nursery.cancel_scope.cancel()
                with trio.CancelScope(shield=True):
                    await _end(processes)


def _free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(number)]
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return [each.getsockname()[1] for each in sockets]


async def _expect_to_run(process: trio.Process, log: Path) -> None:
    how = describe_end(await process.wait())
    raise BenchmarkError(f"{log.stem} has ended ({how}): {_last_event(log)}")


def _last_event(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").splitlines() or ["it wrote nothing"]
    try:
        return printable(str(msgspec.json.decode(lines[-1], type=dict[str, object])["event"]))
    except (msgspec.DecodeError, KeyError):
        return printable(lines[-1])


async def _end(processes: list[trio.Process]) -> None:
    """Kill all nodes; their data is not needed any more."""
    for process in processes:
        process.kill()
    for process in processes:
        await process.wait()
