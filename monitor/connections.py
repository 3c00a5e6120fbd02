"""The monitor's connections: how many there may be, and which of them has to make room.

Everybody who reaches the port can open connections and say nothing, or ask and not read. Each of them holds a
descriptor, and a process without descriptors answers nobody, health checks included. So the number of connections
follows from the descriptors that there are. Above it the connection from which nothing was heard for longest is
closed; those with a stream of events stay, for their number has a bound of its own.
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

from monitor.notices import Notice

_CONNECTIONS_MAX: Final = 256
_CONNECTIONS_MIN: Final = 4
_PER_CONNECTION: Final = 2  # descriptors: its own, and that of a file which is being sent
_RESERVE: Final = 16  # descriptors for templates, DNS and what else is opened for a moment
_SLOWEST: Final = 30.0  # seconds in which a peer has to take what is sent to it in one piece
_PAUSE: Final = 0.1  # seconds between attempts to take a connection while the system has no room
_NO_ROOM: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

#: The connection that the present task serves; none in tests of the application alone.
present: ContextVar["Connection | None"] = ContextVar("present", default=None)


def connections_max() -> int:
    """Count how many connections this process has descriptors for, after it has asked the system for enough.

    Returns
    -------
    int
        The number.
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
    """A connection whose peer has to take what it is sent.

    Parameters
    ----------
    stream : trio.SocketStream
        The connection as it was taken.

    Attributes
    ----------
    heard : float
        When something came, in seconds of trio's clock.
    streams : int
        How many streams of events it carries.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self.socket = stream.socket
        self.heard = trio.current_time()
        self.streams = 0

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive what has come; see :class:`trio.abc.ReceiveStream`."""
        data = await self._stream.receive_some(max_bytes)
        self.heard = trio.current_time()
        return bytes(data)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send everything; a peer that does not take it in time is lost."""
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
        """Send nothing more; see :class:`trio.abc.HalfCloseableStream`."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close the connection."""
        await self._stream.aclose()

    def cut_off(self) -> None:
        """Close the connection at once; whoever sends or receives on it gets an error."""
        self.socket.close()


class Connections:
    """Takes connections within a bound.

    Parameters
    ----------
    listener : socket.socket
        Where they come in; closed in the end.
    most : int
        How many there may be.
    """

    def __init__(self, listener: socket.socket, most: int) -> None:
        self._listener = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
        self._most = most
        self._open: set[Connection] = set()
        self._no_room = Notice("the monitor cannot take connections; raise the limit of open files")

    async def take(self, nursery: trio.Nursery, serve: Callable[[Connection], Awaitable[Any]]) -> None:
        """Take connections until cancelled.

        Parameters
        ----------
        nursery : trio.Nursery
            Where they are served.
        serve : callable
            Serves one of them.
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
