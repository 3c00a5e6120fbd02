"""One connection that speaks HTTP/1.1: its requests one after another, and their answers, by h11.

A connection costs what it is sent and what it has not read yet, and no more: heads and bodies have largest sizes, and
whoever is slow is waited for by its own task only.
"""

import errno
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, Protocol

import h11
import trio
from msgspec import Struct

from trioraft.etcd.status import REASONS

HEAD_MAX: Final = 16 * 1024
# The largest value that etcd's gateway takes in is answered with an error of its own, so more than that must be read.
BODY_MAX: Final = 6 * 2**20
_PIECE: Final = 64 * 1024
# What a client may send after its request, before the answer is complete.
_AHEAD_MAX: Final = 64 * 1024

# How long a client may take, in seconds: until the next request begins, to send its head and body, and to take an
# answer that is no stream.
IDLE_SECONDS: Final = 120.0
SENDING_SECONDS: Final = 30.0
TAKING_SECONDS: Final = 60.0
_LINGER_SECONDS: Final = 1.0
_LINGER_BYTES: Final = 8 * 2**20

JSON: Final = "application/json"
TEXT: Final = "text/plain; charset=utf-8"

GONE: Final = (trio.BrokenResourceError, trio.ClosedResourceError, h11.LocalProtocolError)


class Request(Struct, frozen=True):
    """The head of a request.

    Attributes
    ----------
    method, path, query : str
        As in its first line; the path is what stands before the question mark.
    headers : dict of str to str
        By their names in lower case.
    """

    method: str
    path: str
    query: str
    headers: dict[str, str]


class RefusedError(Exception):
    """A request that cannot be taken in.

    Parameters
    ----------
    status : int
        The status of HTTP.
    text : str
        The reason.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Stream(Protocol):
    """A connection, sealed or not."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive something; nothing at the end."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send everything."""

    async def aclose(self) -> None:
        """Close it."""


class Exchange:
    """A request whose answer is being given.

    Parameters
    ----------
    stream : Stream
        The connection.

    Attributes
    ----------
    extra_headers : tuple of tuple of str
        Headers that the answer has besides.
    is_cut_off : bool
        Whether something was sent in part, perhaps, because that was cancelled: nothing can follow it.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_MAX)
        self._ahead = 0
        self._wants_head = False
        self.extra_headers: tuple[tuple[str, str], ...] = ()
        self.is_cut_off = False

    # --- the request ----------------------------------------------------------------------------------------

    async def next_request(self) -> Request | None:
        """Receive the head of the next request; None where the client has no further one."""
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                await self._receive()
            elif isinstance(event, h11.Request):
                self._wants_head = event.method == b"HEAD"
                return _request(event)
            elif isinstance(event, h11.ConnectionClosed):
                return None

    async def _receive(self) -> None:
        if self._http.they_are_waiting_for_100_continue:
            go_on = self._http.send(h11.InformationalResponse(status_code=100, headers=[]))
            await self._stream.send_all(go_on or b"")
        self._http.receive_data(bytes(await self._stream.receive_some(_PIECE)))

    async def parts(self) -> AsyncIterator[bytes]:
        """Receive the body in parts.

        Yields
        ------
        bytes
            A part, as it has come.
        """
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                await self._receive()
            elif isinstance(event, h11.Data):
                yield bytes(event.data)
            else:
                return

    async def body(self) -> bytes:
        """Receive the whole body.

        Returns
        -------
        bytes
            The body.
        """
        found: list[bytes] = []
        size = 0
        async for part in self.parts():
            size += len(part)
            if size > BODY_MAX:
                raise RefusedError(413, f"http: request body too large (at most {BODY_MAX} bytes)")
            found.append(part)
        return found[0] if len(found) == 1 else b"".join(found)

    async def until_gone(self) -> None:
        """Wait until the client, which has sent its request, hangs up."""
        while True:
            data = await self._stream.receive_some(_PIECE)
            self._http.receive_data(bytes(data))
            self._ahead += len(data)
            if not data:
                return
            if self._ahead > _AHEAD_MAX:
                await trio.sleep_forever()  # it is not read any more; to send to it fails when it is gone

    # --- the answer -----------------------------------------------------------------------------------------

    @property
    def is_begun(self) -> bool:
        """Whether the answer has begun."""
        return self._http.our_state is not h11.SEND_RESPONSE and self._http.our_state is not h11.IDLE

    async def _send_all(self, data: bytes) -> None:
        self.is_cut_off = True
        await self._stream.send_all(data)
        self.is_cut_off = False

    def _head(self, status: int, kind: str, *more: tuple[str, str]) -> bytes:
        headers = [("content-type", kind), *self.extra_headers, *more]
        reason = REASONS.get(status, "")
        return self._http.send(h11.Response(status_code=status, headers=headers, reason=reason)) or b""

    async def answer(self, status: int, kind: str, body: bytes, *headers: tuple[str, str]) -> None:
        """Give the whole answer.

        Parameters
        ----------
        status : int
            The status.
        kind : str
            The type of its content.
        body : bytes
            The content.
        *headers : tuple of str
            Further headers.
        """
        head = self._head(status, kind, ("content-length", str(len(body))), *headers)
        data = b"" if self._wants_head else self._http.send(h11.Data(data=body)) or b""
        end = self._http.send(h11.EndOfMessage()) or b""
        with trio.fail_after(TAKING_SECONDS):
            await self._send_all(b"".join((head, data, end)))

    async def begin(self, kind: str = JSON) -> None:
        """Begin an answer whose length is not known."""
        await self._send_all(self._head(200, kind))

    async def send(self, part: bytes) -> None:
        """Send a part of it, as one chunk."""
        await self._send_all(self._http.send(h11.Data(data=part)) or b"")

    async def send_first(self, part: bytes) -> None:
        """Begin an answer with its first part."""
        await self._send_all(self._head(200, JSON) + (self._http.send(h11.Data(data=part)) or b""))

    async def end(self) -> None:
        """End it."""
        if self._http.our_state is h11.SEND_BODY:
            await self._send_all(self._http.send(h11.EndOfMessage()) or b"")

    def may_go_on(self) -> bool:
        """Prepare for the next request; return False where the connection cannot be used for another one."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        self._ahead = 0
        return True

    async def linger(self) -> None:
        """Read on for a moment what the client still sends, so that it can read the answer before the end."""
        size = 0
        with trio.move_on_after(_LINGER_SECONDS):
            while data := await self._stream.receive_some(_PIECE):
                size += len(data)
                if size > _LINGER_BYTES:
                    return


def _request(event: h11.Request) -> Request:
    path, _, query = event.target.decode("ascii", "replace").partition("?")
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
    return Request(event.method.decode("ascii", "replace"), path, query, headers)


Handler = Callable[[Request, Exchange], Awaitable[None]]


class Connection:
    """A connection of a client.

    Parameters
    ----------
    stream : Stream
        The connection.
    handle : callable
        Answers a request.
    """

    def __init__(self, stream: Stream, handle: Handler) -> None:
        self._stream = stream
        self._handle = handle
        self._exchange = Exchange(stream)
        self._scope = trio.CancelScope()
        self._rests = True
        self._stopping = False

    async def serve(self) -> None:
        """Serve it until the client goes, is too slow, or :meth:`stop` is called."""
        try:
            with self._scope:
                while not self._stopping and await self._serve_one():
                    pass
        except GONE:
            return
        except OSError as error:
            if error.errno not in {errno.ECONNRESET, errno.EPIPE, errno.ETIMEDOUT}:
                raise
        if self._scope.cancelled_caught:
            await self._end()

    async def _serve_one(self) -> bool:
        """Serve a request; return whether another one may follow."""
        exchange = self._exchange
        try:
            self._rests = True
            with trio.move_on_after(IDLE_SECONDS) as idle:
                request = await exchange.next_request()
            if idle.cancelled_caught or request is None:
                return False
            self._rests = False
            await self._handle(request, exchange)
        except h11.RemoteProtocolError as error:
            await self._refuse(exchange, error.error_status_hint, str(error))
            return False
        except RefusedError as refused:
            await self._refuse(exchange, refused.status, str(refused))
            return False
        except trio.TooSlowError:
            return False
        except Exception as error:
            if is_unforeseen(error):
                await self._refuse(exchange, 500, "etcdserver: internal error")
            raise
        return exchange.may_go_on()

    async def _refuse(self, exchange: Exchange, status: int, text: str) -> None:
        if not exchange.is_begun and not exchange.is_cut_off:
            await exchange.answer(status, TEXT, text.encode() + b"\n", ("connection", "close"))
            await exchange.linger()

    def stop(self) -> None:
        """End it in order: what is under way is ended, not cut off."""
        self._stopping = True
        self._scope.cancel()

    async def _end(self) -> None:
        """End the answer that was under way."""
        exchange = self._exchange
        if self._rests or exchange.is_cut_off:
            return
        try:
            if exchange.is_begun:
                await exchange.end()
            else:
                await exchange.answer(503, JSON, _STOPPED, ("connection", "close"))
        except (*GONE, OSError, trio.TooSlowError):
            pass


def is_unforeseen(error: Exception) -> bool:
    """Check whether an error has another reason than that the client is gone.

    Parameters
    ----------
    error : Exception
        An error, or a group of several.

    Returns
    -------
    bool
        Whether it has.
    """
    if isinstance(error, ExceptionGroup):
        return any(isinstance(one, Exception) and is_unforeseen(one) for one in error.exceptions)
    return not isinstance(error, (*GONE, OSError, trio.TooSlowError))


_STOPPED: Final = b'{"error":"etcdserver: server stopped","code":14,"message":"etcdserver: server stopped"}'
