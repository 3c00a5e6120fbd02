"""A node that only tells what it is told to tell, over the real endpoint and socket."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import trio

from trioraft.address import Address
from trioraft.datagrams.client_loop import ClientLoop
from trioraft.datagrams.endpoint import Endpoint, Event, Identity, Peer, Received
from trioraft.datagrams.keys import KeyRing
from trioraft.datagrams.socket import UdpSocket, open_udp
from trioraft.messages import HookStatus, NodeStatus, Status, StatusRequest, format_id

SERVICE = "monitored"


def make_status(number: int, **facts: Any) -> NodeStatus:
    """Make the status of a well-behaved follower, except for `facts`."""
    status = NodeStatus(
        id=format_id(number),
        name=f"node-{number}",
        address="",
        role="follower",
        term=4,
        leader=None,
        pid=100 + number,
        uptime_seconds=60.0,
        hook=HookStatus(),
        cluster_id="00000000000000c1",
        service=SERVICE,
        version="0.1.0",
        sealed=False,
        disk_stuck=False,
    )
    return msgspec.structs.replace(status, **facts)


class NodeDouble:
    """Answers requests for its status, and tells subscribers of every new one."""

    def __init__(self, status: NodeStatus, socket: UdpSocket, keys: KeyRing | None = None) -> None:
        self.status = status
        self.address = Address.of("127.0.0.1", socket.address.port)
        self.is_silent = False
        self._endpoint = Endpoint(Identity(int(status.id, 16), status.service, status.name), keys)
        self._endpoint.takes_from = lambda address: not self.is_silent
        self.loop = ClientLoop(socket, self._endpoint, self._handle)
        self._listeners: dict[bytes, Peer] = {}

    def _handle(self, event: Event, now: float) -> None:
        match event:
            case Received(peer=peer, message=StatusRequest()):
                self._listeners[peer.process] = peer
                self._endpoint.send(peer, Status(self.status), now)

    def tell(self, **facts: Any) -> None:
        """Change, and push the new status."""
        self.status = msgspec.structs.replace(self.status, **facts)
        for peer in self._listeners.values():
            self._endpoint.send(peer, Status(self.status), trio.current_time())
        self.loop.flush()


@asynccontextmanager
async def open_doubles(*statuses: NodeStatus, keys: KeyRing | None = None) -> AsyncIterator[tuple[NodeDouble, ...]]:
    """Run one double for each status."""
    async with trio.open_nursery() as nursery:
        doubles = tuple([NodeDouble(status, await open_udp("127.0.0.1", 0), keys) for status in statuses])
        for double in doubles:
            nursery.start_soon(double.loop.run)
        yield doubles
        nursery.cancel_scope.cancel()
