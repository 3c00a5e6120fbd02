"""A bad network in user space: relays between real nodes that lose, delay, duplicate and reorder datagrams.

For each pair of nodes there are two sockets, one standing in for each: what node i sends to the stand-in of
node j goes on to node j from the stand-in of node i, so that j sees one address for i, whatever happens to the
datagrams in between.
"""

import random
import socket
from dataclasses import dataclass, field
from itertools import combinations

import trio

from trioraft.address import Address


@dataclass
class Faults:
    """What happens to datagrams; delays are in seconds."""

    loss: float = 0.0
    duplication: float = 0.0
    delay: float = 0.0
    jitter: float = 0.0
    cut: set[tuple[int, int]] = field(default_factory=set)  # (from, to): nothing passes in this direction

    def cut_off(self, node: int, others: range) -> None:
        """Let nothing pass to or from a node."""
        self.cut |= {(node, other) for other in others} | {(other, node) for other in others}


class Relay:
    """Relays between `size` nodes on loopback.

    `addresses[i][j]` is where node i reaches node j.
    """

    def __init__(self, ports: list[int], seed: int) -> None:
        self.faults = Faults()
        self.relayed = 0
        self.lost = 0
        self._chance = random.Random(seed)
        self._ports = ports
        self._sockets: dict[tuple[int, int], trio.socket.SocketType] = {}  # (i, j): where i reaches j
        self.addresses: list[dict[int, Address]] = [{} for _ in ports]

    async def open(self) -> None:
        """Bind all sockets."""
        for i, j in combinations(range(len(self._ports)), 2):
            for one, two in ((i, j), (j, i)):
                sock = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                await sock.bind(("127.0.0.1", 0))
                self._sockets[one, two] = sock
                self.addresses[one][two] = Address.of(*sock.getsockname())

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Relay until cancelled."""
        async with trio.open_nursery() as nursery:
            for i, j in self._sockets:
                nursery.start_soon(self._relay, i, j, nursery)
            task_status.started()

    async def _relay(self, i: int, j: int, nursery: trio.Nursery) -> None:
        entrance, exit_ = self._sockets[i, j], self._sockets[j, i]
        while True:
            try:
                data, _ = await entrance.recvfrom(65536)
            except OSError:
                continue  # the node at the other end is gone for the moment
            faults = self.faults
            if (i, j) in faults.cut or self._chance.random() < faults.loss:
                self.lost += 1
                continue
            for _ in range(2 if self._chance.random() < faults.duplication else 1):
                delay = max(0.0, self._chance.uniform(faults.delay - faults.jitter, faults.delay + faults.jitter))
                nursery.start_soon(self._deliver, exit_, data, self._ports[j], delay)

    async def _deliver(self, exit_: trio.socket.SocketType, data: bytes, port: int, delay: float) -> None:
        if delay:
            await trio.sleep(delay)
        try:
            await exit_.sendto(data, ("127.0.0.1", port))
            self.relayed += 1
        except OSError:
            self.lost += 1

    def close(self) -> None:
        """Close all sockets."""
        for sock in self._sockets.values():
            sock.close()
