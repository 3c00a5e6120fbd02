"""The loop between a socket and an endpoint, for programs that are no node: clients, and doubles of nodes in tests.

A node has more to do in each turn of its loop.
"""

from collections.abc import Callable

import trio

from trioraft.datagrams.endpoint import Endpoint
from trioraft.datagrams.events import Event
from trioraft.datagrams.socket import DatagramSocket
from trioraft.messages import Instant
from trioraft.nurseries import bare_errors


def _nothing_waits(now: Instant) -> None:
    pass


class ClientLoop:
    """Moves datagrams between a socket and an endpoint, and hands on what they mean.

    Parameters
    ----------
    socket : DatagramSocket
        The socket.
    endpoint : Endpoint
        The endpoint.
    handle : callable
        Called with each event and the time.
    gather : callable
        Called with the time before datagrams leave, to give the endpoint what waits to be sent.

    Attributes
    ----------
    endpoint : Endpoint
        The endpoint; another one may take its place.
    """

    def __init__(
        self,
        socket: DatagramSocket,
        endpoint: Endpoint,
        handle: Callable[[Event, Instant], None],
        gather: Callable[[Instant], None] = _nothing_waits,
    ) -> None:
        self.endpoint = endpoint
        self._socket = socket
        self._handle = handle
        self._gather = gather
        self._timer = trio.CancelScope()

    async def run(self) -> None:
        """Move datagrams until cancelled."""
        with bare_errors():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._receive)
                nursery.start_soon(self._keep_time)

    def flush(self) -> None:
        """Send all that waits to be sent, and come back when the endpoint wants it."""
        self._gather(trio.current_time())
        for data, address in self.endpoint.datagrams_to_send():
            self._socket.send(data, address)
        deadline = self.endpoint.next_deadline()
        if deadline != self._timer.deadline:  # to set it costs as much as to send a datagram
            self._timer.deadline = deadline

    async def _receive(self) -> None:
        """Drain the socket on each wake-up, then send what came of that."""
        while True:
            await self._socket.wait_readable()
            now = trio.current_time()
            for data, source in self._socket.receive():
                event = self.endpoint.receive_datagram_untrusted(data, source, now)
                if event is not None:
                    self._handle(event, now)
            for further in self.endpoint.further_events():
                self._handle(further, now)
            self.flush()

    async def _keep_time(self) -> None:
        """Send again what of large messages was not acknowledged."""
        while True:
            with self._timer:
                await trio.sleep_forever()
            self._timer = trio.CancelScope()
            self.endpoint.handle_timer(trio.current_time())
            self.flush()
