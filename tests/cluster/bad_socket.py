"""A bad network between a client and the nodes: its socket loses, doubles and delays what it sends and receives."""

import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from tests.cluster.relay import Faults
from trioraft.address import Address
from trioraft.client.client import Client
from trioraft.datagrams.endpoint import Domain
from trioraft.datagrams.socket import UdpSocket, open_udp
from trioraft.settings.settings import ClientSettings


class BadSocket:
    """A :class:`~trioraft.datagrams.socket.DatagramSocket` over a good one."""

    def __init__(self, good: UdpSocket, faults: Faults, source: random.Random, nursery: trio.Nursery) -> None:
        self.address = good.address
        self.counters: Counter[str] = good.counters
        self.lost = self.passed = 0
        self._good = good
        self._faults = faults
        self._source = source
        self._nursery = nursery

    async def wait_readable(self) -> None:
        await self._good.wait_readable()

    def receive(self) -> list[tuple[bytes, Address]]:
        return [received for received in self._good.receive() if not self._loses()]

    def send(self, data: bytes, address: Address) -> None:
        for _ in range(2 if self._source.random() < self._faults.duplication else 1):
            if self._loses():
                continue
            if self._source.random() < self._faults.late:
                self._nursery.start_soon(self._send_late, data, address)
            else:
                self._good.send(data, address)

    async def _send_late(self, data: bytes, address: Address) -> None:
        await trio.sleep(self._source.uniform(0, self._faults.late_by))
        self._good.send(data, address)

    def _loses(self) -> bool:
        lost = self._source.random() < self._faults.loss
        self.lost += lost
        self.passed += not lost
        return lost

    def path_bytes(self, address: Address) -> int | None:
        return self._good.path_bytes(address)

    def close(self) -> None:
        self._good.close()


@asynccontextmanager
async def open_bad_client(
    settings: ClientSettings, faults: Faults, source: random.Random
) -> AsyncIterator[tuple[Client, BadSocket]]:
    """Open a client on a bad network; the faults may be changed at any time."""
    good = await open_udp("::", 0)
    try:
        async with trio.open_nursery() as nursery:
            socket = BadSocket(good, faults, source, nursery)
            client = Client(settings, Domain.CLIENT, socket)
            for task in client.tasks():
                nursery.start_soon(task)
            yield client, socket
            nursery.cancel_scope.cancel()
    finally:
        good.close()
