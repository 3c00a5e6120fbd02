"""A cluster, its clients and a storm, for a while."""

import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from tests.cluster.chaos.storm import BrokenError, Storm
from tests.cluster.chaos.watch import Watch
from tests.cluster.disks import NoDiskError, small_disk
from tests.cluster.harness import Cluster, free_ports
from tests.cluster.namespaces import PORT, NamespaceError, open_links
from tests.cluster.recorded_clients import History_, RecordedClients
from tests.cluster.relay import BadNetwork, open_relay
from tests.linearizability import History
from trioraft.settings.settings import ClientSettings

# Snapshots are taken, and sent to nodes that come back, all the time.
_SETTINGS = {"SNAPSHOT_ENTRIES": "500"}
_DISK = "96m"


@dataclass
class Life:
    """What is known of one life; times are on trio's clock.

    Attributes
    ----------
    seed : int
        What chance began with.
    seconds : float
        How long faults lasted.
    directory : Path
        With the data and logs of the nodes, and the history.
    cluster, clients, storm, watch
        Who took part.
    began : float
        When clients and faults began.
    offset : int
        What the history's clock shows when trio's shows 0, in nanoseconds.
    on_loopback : str
        Why the nodes have no network namespaces of their own; empty where they have.
    late : float
        How long this process, which relays all datagrams, did not get to run at most: longer than an election
        timeout, and nobody can be elected meanwhile.
    """

    seed: int
    seconds: float
    directory: Path
    cluster: Cluster
    clients: RecordedClients
    storm: Storm
    watch: Watch
    began: float
    offset: int
    on_loopback: str
    late: float = 0.0

    @property
    def history(self) -> History_:
        return self.clients.history

    @property
    def lost(self) -> int:
        """Datagrams between nodes that were lost."""
        return self.storm.network.lost

    @property
    def overtaken(self) -> int:
        """Datagrams between nodes that overtook another."""
        return self.storm.network.overtaken

    @property
    def history_file(self) -> Path:
        return self.directory / "history.ndjson"


async def live(
    directory: Path,
    seed: int,
    seconds: float,
    *,
    nodes: int,
    clients: int,
    progress: Callable[[Life], None] = lambda life: None,
) -> Life:
    """Live once: a cluster and its clients in a storm, then all is healed and everybody has to agree.

    Parameters
    ----------
    directory : Path
        Where everything is kept; must not exist yet.
    seed : int
        What chance begins with; how faults meet what the nodes do stays chance.
    seconds : float
        How long the storm lasts.
    nodes, clients : int
        How many there are.
    progress : callable
        Called twice a second, and once more when all is over.

    Returns
    -------
    Life
        What happened.

    Raises
    ------
    BrokenError
        A node ended by itself, or the cluster did not recover.
    """
    source = random.Random(seed)
    await trio.Path(directory).mkdir(parents=True)
    with own_disks(directory, nodes) as have_disks:
        async with AsyncExitStack() as stack:
            network, cluster, on_loopback = await _prepare(stack, directory, seed, nodes)
            async with cluster:
                await cluster.wait_leader()
                with (directory / "history.ndjson").open("w", encoding="utf-8") as sink:
                    began = trio.current_time()
                    settings = ClientSettings.of(peers=cluster.peers)
                    using = RecordedClients(settings, History(sink=sink), began + seconds)
                    storm = Storm(cluster, network, using.faults, source, own_disks=have_disks)
                    offset = time.monotonic_ns() - int(began * 1e9)
                    watch = Watch(cluster, directory / "leaderless.ndjson")
                    life = Life(seed, seconds, directory, cluster, using, storm, watch, began, offset, on_loopback)
                    await _weather(life, source, clients, progress)
                await _agree(cluster)
                progress(life)
                return life


async def _prepare(stack: AsyncExitStack, directory: Path, seed: int, nodes: int) -> tuple[BadNetwork, Cluster, str]:
    """Lay a network for a cluster that is not started yet: links to namespaces, or loopback, and why."""
    try:
        links = await stack.enter_async_context(open_links(nodes, seed))
    except NamespaceError as error:
        print(f"tests.cluster.chaos: no link goes down and no node moves: on loopback, {error}", file=sys.stderr)
        ports = free_ports(nodes)
        relay = await stack.enter_async_context(open_relay(ports, seed))
        each = [{"PEERS": relay.peers_of(i)} for i in range(nodes)]
        return relay, Cluster(directory, nodes, _SETTINGS, each=each, ports=ports), str(error)
    places = [links.place(i) for i in range(nodes)]
    return links, Cluster(directory, nodes, _SETTINGS, ports=[PORT] * nodes, places=places), ""


async def _weather(life: Life, source: random.Random, clients: int, progress: Callable[[Life], None]) -> None:
    """Have the storm, and wait until the clients have their answers."""

    async def report() -> None:
        while True:
            progress(life)
            due = trio.current_time() + 0.5
            await trio.sleep_until(due)
            life.late = max(life.late, trio.current_time() - due)

    async with trio.open_nursery() as watching:
        watching.start_soon(life.watch.run)
        watching.start_soon(report)
        async with trio.open_nursery() as nursery:
            for number in range(clients):
                nursery.start_soon(life.clients.run, number, source.random())
            async with trio.open_nursery() as storming:
                storming.start_soon(life.storm.weather)
                await life.storm.rage(life.clients.until)
                storming.cancel_scope.cancel()
            await life.storm.heal()
        watching.cancel_scope.cancel()


async def _agree(cluster: Cluster) -> None:
    try:
        await cluster.wait_leader()
        await cluster.same_state()
    except AssertionError as error:
        raise BrokenError(str(error)) from error


@contextmanager
def own_disks(directory: Path, nodes: int) -> Iterator[bool]:
    """Make a file system for each node on the disk of the directory; yield whether that can be done here."""
    with ExitStack() as disks:
        try:
            for i in range(nodes):
                disks.enter_context(small_disk(directory / f"node-{i + 1}", _DISK, in_memory=False))
        except NoDiskError:
            yield False
            return
        yield True
