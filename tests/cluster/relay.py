"""A bad network in user space, which loses, delays, duplicates and reorders datagrams; relays for nodes on loopback.

For each pair of nodes there are two sockets, one standing in for each: what node i sends to the stand-in of
node j goes on to node j from the stand-in of node i, so that j sees one address for i, whatever happens to the
datagrams in between.
"""

import random
import socket
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import permutations

import trio

from trioraft.address import Address


def _receive(sock: socket.socket) -> tuple[bytes, int] | None:
    """Take a datagram from a socket, with the port that it comes from; None when there is none."""
    while True:
        try:
            data, source = sock.recvfrom(65536)
        except BlockingIOError:
            return None
        except OSError:
            continue  # what was sent to a node that is gone comes back as an error, once
        return data, source[1]


@dataclass
class Faults:
    """What happens to datagrams; delays are in seconds, everything else but `cut` is a probability.

    A datagram is delayed by ``delay ± jitter``, and a `late` one by up to `late_by` more, so that others overtake it.
    """

    loss: float = 0.0
    duplication: float = 0.0
    delay: float = 0.0
    jitter: float = 0.0
    late: float = 0.0
    late_by: float = 0.0
    cut: set[tuple[int, int]] = field(default_factory=set)  # (from, to): nothing passes in this direction

    def cut_off(self, node: int, others: range) -> None:
        """Let nothing pass to or from a node."""
        self.cut |= {(node, other) for other in others} | {(other, node) for other in others}

    def end(self) -> None:
        """Let everything pass again."""
        vars(self).update(vars(Faults()))


class BadNetwork(ABC):
    """Carries datagrams between nodes, which are counted from 0, and not all of them as they should be.

    Attributes
    ----------
    faults : Faults
        What happens to datagrams; may be changed at any time.
    relayed, lost, overtaken : int
        Datagrams that arrived, that did not, and that arrived before one that was sent earlier.
    """

    def __init__(self, seed: int) -> None:
        self.faults = Faults()
        self.relayed = self.lost = self.overtaken = 0
        self._chance = random.Random(seed)
        self._newest: dict[tuple[int, int], int] = {}
        self._count = 0

    @abstractmethod
    def inject(self, i: int, j: int, data: bytes) -> bool:
        """Let a datagram from node i arrive at node j; false when it could not be sent."""

    def carry(self, i: int, j: int, data: bytes, nursery: trio.Nursery) -> None:
        """Let the faults have their way with a datagram from node i to node j; the nursery keeps what is late."""
        for _ in range(2 if self._chance.random() < self.faults.duplication else 1):
            self._count += 1
            self._carry(i, j, data, nursery)

    def _carry(self, i: int, j: int, data: bytes, nursery: trio.Nursery) -> None:
        faults = self.faults
        delay = self._chance.uniform(faults.delay - faults.jitter, faults.delay + faults.jitter)
        if self._chance.random() < faults.late:
            delay += self._chance.uniform(0, faults.late_by)
        if self._chance.random() < faults.loss:
            self.lost += 1
        elif delay:
            nursery.start_soon(self._deliver_later, i, j, data, self._count, delay)
        else:
            self._deliver(i, j, data, self._count)

    async def _deliver_later(self, i: int, j: int, data: bytes, number: int, delay: float) -> None:
        await trio.sleep(delay)
        self._deliver(i, j, data, number)

    def _deliver(self, i: int, j: int, data: bytes, number: int) -> None:
        if (i, j) in self.faults.cut or not self.inject(i, j, data):
            self.lost += 1
            return
        newest = self._newest.get((i, j), 0)
        self.relayed += 1
        self.overtaken += number < newest
        self._newest[i, j] = max(number, newest)


class Relay(BadNetwork):
    """Relays between nodes at some ports of loopback; made by :func:`open_relay`.

    Attributes
    ----------
    addresses : list of dict of int to Address
        ``addresses[i][j]`` is where node i reaches node j.
    recorded : list of tuple
        While `recording`: (from, to, datagram).
    eavesdrop : callable or None
        Is told where each datagram goes, and its bytes, before it goes on.
    """

    def __init__(self, ports: list[int], seed: int) -> None:
        super().__init__(seed)
        self.addresses: list[dict[int, Address]] = [{} for _ in ports]
        self.recording = False
        self.recorded: list[tuple[int, int, bytes]] = []
        self.eavesdrop: Callable[[int, bytes], None] | None = None
        self._ports = ports
        self._sockets: dict[tuple[int, int], socket.socket] = {}  # (i, j): where i reaches j

    def peers_of(self, node: int) -> str:
        """Return the ``PEERS`` of a node."""
        return ",".join(str(address) for address in self.addresses[node].values())

    def open(self) -> None:
        for i, j in permutations(range(len(self._ports)), 2):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setblocking(False)
            sock.bind(("127.0.0.1", 0))
            self._sockets[i, j] = sock
            self.addresses[i][j] = Address.of(*sock.getsockname())

    def run(self, nursery: trio.Nursery) -> None:
        for i, j in self._sockets:
            nursery.start_soon(self._relay, i, j, nursery)

    async def _relay(self, i: int, j: int, nursery: trio.Nursery) -> None:
        entrance = self._sockets[i, j]
        while True:
            await trio.lowlevel.wait_readable(entrance)
            while (received := _receive(entrance)) is not None:
                data, port = received
                if port != self._ports[i]:
                    continue  # a client that was told this address: it is only for node i
                if self.recording:
                    self.recorded.append((i, j, data))
                if self.eavesdrop is not None:
                    self.eavesdrop(j, data)
                self.carry(i, j, data, nursery)

    def inject(self, i: int, j: int, data: bytes) -> bool:
        """Send a datagram to node j that seems to come from node i; false when it could not be sent."""
        try:
            self._sockets[j, i].sendto(data, ("127.0.0.1", self._ports[j]))
        except OSError:
            return False
        return True

    def close(self) -> None:
        for sock in self._sockets.values():
            sock.close()


@asynccontextmanager
async def open_relay(ports: list[int], seed: int) -> AsyncIterator[Relay]:
    """Relay between nodes at these ports for as long as the block lasts."""
    relay = Relay(ports, seed)
    relay.open()
    try:
        async with trio.open_nursery() as nursery:
            relay.run(nursery)
            yield relay
            nursery.cancel_scope.cancel()
    finally:
        relay.close()
