"""The monitor's connections: how many there may be, and which of them makes room.

Everybody who reaches the port can open connections and send nothing, or ask and not read. Each connection holds a
descriptor, and a process without descriptors answers nobody, health checks included. So the number of connections
follows from the number of descriptors. Above it the monitor closes the connection that has been silent for longest.
Connections with a stream of events stay, because their number has a bound of its own.
"""

import contextlib
import errno
import os
import resource
import socket
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Final

import trio

from .notices import Notice

_CONNECTIONS_MAX: Final = 256
_CONNECTIONS_MIN: Final = 4
_PER_CONNECTION: Final = 2  # descriptors: its own, and that of a file that is sent
_RESERVE: Final = 16  # descriptors for templates, DNS and other things that are opened for a moment
_SLOWEST: Final = 30.0  # seconds within which a peer must take one piece of data
_PAUSE: Final = 0.1  # seconds between attempts to take a connection while the system has no room
_NO_ROOM: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

#: The connection that the present task serves; none in tests of the application alone.
present: ContextVar["Connection | None"] = ContextVar("present", default=None)


def connections_max() -> int:
    """Compute how many connections this process has descriptors for, after it has asked the system for enough.

    Returns
    -------
    int
        The number of connections.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/dev/fd"))
    wanted = used + _RESERVE + _PER_CONNECTION * _CONNECTIONS_MAX
    if soft == resource.RLIM_INFINITY:
        return _CONNECTIONS_MAX
    if soft < wanted:
        raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(OSError):  # a sandbox may not allow it
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
    return max(_CONNECTIONS_MIN, min(_CONNECTIONS_MAX, (soft - used - _RESERVE) // _PER_CONNECTION))


class Connection(trio.abc.HalfCloseableStream):
    """A connection that is lost when its peer does not take data.

    Parameters
    ----------
    stream : trio.SocketStream
        The accepted connection.

    Attributes
    ----------
    heard : float
        When data came last, in seconds of trio's clock.
    streams : int
        The number of streams of events that it carries.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self.socket = stream.socket
        self.heard = trio.current_time()
        self.streams = 0

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive data; see :class:`trio.abc.ReceiveStream`."""
        data = await self._stream.receive_some(max_bytes)
        self.heard = trio.current_time()
        return bytes(data)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all data; a connection whose peer does not take it in time is lost."""
        try:
            with trio.fail_after(_SLOWEST):
                await self._stream.send_all(data)
        except trio.TooSlowError:
            self.cut_off()
            raise trio.BrokenResourceError("the peer does not read") from None

    async def wait_send_all_might_not_block(self) -> None:
        """Wait for room; see :class:`trio.abc.SendStream`."""
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """End the sending side; see :class:`trio.abc.HalfCloseableStream`."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close the connection."""
        await self._stream.aclose()

    def cut_off(self) -> None:
        """Close the connection at once; the tasks that send or receive on it get an error."""
        self.socket.close()


class Connections:
    """The accepted connections, whose number is bounded.

    Parameters
    ----------
    listener : socket.socket
        The listening socket, which is closed in the end.
    most : int
        The most connections.
    """

    def __init__(self, listener: socket.socket, most: int) -> None:
        self._listener = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
        self._most = most
        self._open: set[Connection] = set()
        self._no_room = Notice("the monitor cannot take connections; raise the limit of open files")

    async def take(self, nursery: trio.Nursery, serve: Callable[[Connection], Awaitable[Any]]) -> None:
        """Accept connections until cancelled.

        Parameters
        ----------
        nursery : trio.Nursery
            The nursery of the tasks that serve them.
        serve : callable
            An async function that serves one connection.
        """
        async with self._listener:
            while True:
                try:
                    stream = await self._listener.accept()
                except OSError as error:
                    if error.errno not in _NO_ROOM:
                        raise
                    self._no_room.write(error=os.strerror(error.errno), open=len(self._open))
                    await trio.sleep(_PAUSE)
                    continue
                if len(self._open) >= self._most:
                    self._make_room()
                connection = Connection(stream)
                self._open.add(connection)
                nursery.start_soon(self._serve, connection, serve)

    async def _serve(self, connection: Connection, serve: Callable[[Connection], Awaitable[Any]]) -> None:
        present.set(connection)
        try:
            await serve(connection)
        finally:
            self._open.discard(connection)
            connection.cut_off()

    def _make_room(self) -> None:
        silent = min(self._open, key=lambda each: (each.streams > 0, each.heard))
        self._open.discard(silent)
        silent.cut_off()

    def cut_off(self) -> None:
        """Close all connections at once."""
        for connection in self._open:
            connection.cut_off()
