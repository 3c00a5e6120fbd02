"""A world in memory, for the real node code under trio's mocked clock: network, disk, DNS and processes."""

import random
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Self

import outcome
import trio

from tests.unit.memory_launcher import MemoryLauncher
from trioraft.address import Address
from trioraft.consensus.hard import HardState
from trioraft.consensus.ledger import SnapshotInfo, Write
from trioraft.consensus.log import Log
from trioraft.dns.discovery import Answer
from trioraft.messages import Entry
from trioraft.node.world import World
from trioraft.settings.settings import NodeSettings
from trioraft.storage.errors import StorageError
from trioraft.storage.worker import Ended


class MemorySocket:
    """One node's end of the network."""

    def __init__(self, network: "MemoryNetwork", address: Address) -> None:
        self.address = address
        self.counters: Counter[str] = Counter()
        self._network = network
        self._arrived: list[tuple[bytes, Address]] = []
        self._readable = trio.Event()

    async def wait_readable(self) -> None:
        await self._readable.wait()

    def receive(self) -> list[tuple[bytes, Address]]:
        arrived, self._arrived = self._arrived, []
        if self._readable.is_set():  # else a task waits for it
            self._readable = trio.Event()
        return arrived

    def send(self, data: bytes, address: Address) -> None:
        self._network.carry(data, self.address, address)

    def path_bytes(self, address: Address) -> None:
        """Leave it to the nodes' settings how large datagrams are."""

    def arrive(self, data: bytes, source: Address) -> None:
        self._arrived.append((data, source))
        self._readable.set()

    def close(self) -> None:
        self._network.sockets.pop(self.address, None)


class MemoryNetwork:
    """Carries datagrams with delay, loss, duplication and partitions."""

    def __init__(self, nursery: trio.Nursery, chance: random.Random) -> None:
        self.sockets: dict[Address, MemorySocket] = {}
        self.loss = 0.0
        self.duplication = 0.0
        self.delay = (0.001, 0.003)
        self.carries: Callable[[Address, Address], bool] = lambda source, to: True
        self._nursery = nursery
        self._chance = chance

    async def open_socket(self, host: str, port: int) -> MemorySocket:
        await trio.lowlevel.checkpoint()
        address = Address.of(host, port)
        if address in self.sockets:
            raise OSError(98, "Address already in use")
        self.sockets[address] = MemorySocket(self, address)
        return self.sockets[address]

    def carry(self, data: bytes, source: Address, to: Address) -> None:
        if not self.carries(source, to) or self._chance.random() < self.loss:
            return
        for _ in range(2 if self._chance.random() < self.duplication else 1):
            self._nursery.start_soon(self._deliver, data, source, to, self._chance.uniform(*self.delay))

    async def _deliver(self, data: bytes, source: Address, to: Address, delay: float) -> None:
        await trio.sleep(delay)
        if to in self.sockets:
            self.sockets[to].arrive(data, source)


class MemoryDisk:
    """A disk that takes a moment, can be stuck, and can fail; what it has is there after a restart.

    The files of snapshots are real ones: a test that takes any gives `directory` a folder that exists.
    """

    def __init__(self, node_id: int) -> None:
        self.node_id = node_id
        self.hard = HardState()
        self._entries: list[Entry] = []
        self._base = (0, 0)
        self.snapshot: SnapshotInfo | None = None
        self.directory = Path("/nowhere")
        self.place = f"memory {node_id}"
        self.latency = 0.005
        self.stuck = False
        self.fails = False
        self.writes = 0
        self.written = 0
        self._process = 0  # writes of an earlier process that are still under way are lost
        self._under_way: deque[int] = deque()  # the numbers of the writes, which are done in order

    def opened(self) -> Self:
        self.written = 0
        self._process += 1
        self._under_way.clear()
        return self

    @property
    def log(self) -> Log:
        return Log(*self._base, self._entries)

    def begin(self, write: Write, ended: Ended) -> None:
        self._under_way.append(write.number)
        trio.lowlevel.spawn_system_task(self._save, write, ended, self._process)

    async def _save(self, write: Write, ended: Ended, process: int) -> None:
        await trio.sleep(self.latency)
        while self._process == process and (self.stuck or self._under_way[0] != write.number):
            await trio.sleep(0.01)
        if self._process == process:
            self._under_way.popleft()
            ended(outcome.capture(self._put, write))

    def _put(self, write: Write) -> None:
        if self.fails:
            raise StorageError("memory: no space left; the node stops")
        self.hard = write.hard
        if write.snapshot is not None:
            self.snapshot = write.snapshot
            dropped = len(self._entries) if write.restarts else write.base_index - self._base[0]
            del self._entries[:dropped]
            self._base = (write.base_index, write.base_term)
        if write.first_index:
            self._entries[write.first_index - self._base[0] - 1 :] = write.entries
        self.writes += 1
        self.written = write.number

    def close_database(self) -> None:
        pass

    def close(self) -> None:
        pass


class MemoryDiscovery:
    """Names the addresses it is told to."""

    def __init__(self, look_up: Callable[[], Answer], interval: float) -> None:
        self._look_up = look_up
        self._interval = interval

    async def run(self, report: Callable[[Answer], None]) -> None:
        while True:
            report(self._look_up())
            await trio.sleep(self._interval)

    async def reverse_name(self, host: str) -> str | None:
        await trio.lowlevel.checkpoint()
        return None


def memory_world(
    network: MemoryNetwork,
    disk: MemoryDisk,
    look_up: Callable[[], Answer],
    *,
    chance: random.Random,
    launcher: MemoryLauncher | None = None,
) -> World:
    """Make a world for one process of a node."""

    def open_discovery(settings: NodeSettings) -> MemoryDiscovery:
        return MemoryDiscovery(look_up, settings.discovery_interval)

    return World(
        clock=trio.current_time,
        watchdog_clock=None,
        random=chance,
        entropy=chance.randbytes,
        host_name="memory",
        open_disk=lambda settings: disk.opened(),
        open_socket=network.open_socket,
        open_discovery=open_discovery,
        launcher=launcher or MemoryLauncher(trio.current_time),
    )
