"""A client of gRPC over HTTP/2 that pipelines puts of etcd on one connection, so that the load costs little.

It understands of HTTP/2 what that needs: SETTINGS, PING, WINDOW_UPDATE, DATA, HEADERS, RST_STREAM and GOAWAY, and
the flow control of the connection for what it sends. Headers are never decoded: a call has succeeded when its stream
ended and carried a DATA frame, for a call of gRPC that fails ends with trailers only.
"""

import select
import socket
import struct
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM: Final = 1
_ACK: Final = 1
_END_HEADERS: Final = 4
_WINDOW: Final = 65_535
_LARGEST_WINDOW: Final = 2**31 - 1
_CHUNK: Final = 1 << 18


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def _literal(prefix: bytes, value: str) -> bytes:
    return prefix + bytes((len(value),)) + value.encode("ascii")


def _headers(path: str) -> bytes:
    return b"".join(
        (
            b"\x83\x86",  # :method POST, :scheme http
            _literal(b"\x04", path),
            _literal(b"\x01", "localhost"),  # :authority
            _literal(b"\x0f\x10", "application/grpc"),  # content-type
            b"\x00\x02te\x08trailers",
        )
    )


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 128:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def put_request(key: bytes, value: bytes) -> bytes:
    """Encode etcd's PutRequest."""
    return _field(1, key) + _field(2, value)


@dataclass(frozen=True, slots=True)
class Answered:
    """A call that has ended.

    Attributes
    ----------
    nanoseconds : int
        How long it took.
    succeeded : bool
        Whether it carried a message.
    """

    nanoseconds: int
    succeeded: bool


class Puts:
    """A connection to a server, with calls of Put on it."""

    def __init__(self, host: str, port: int) -> None:
        self.open: dict[int, int] = {}  # when each call began, by its stream
        self.answered: list[Answered] = []
        self._socket = socket.create_connection((host, port), timeout=5)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setblocking(False)
        self._stream = 1
        self._window = _WINDOW  # what may still be sent on the connection
        more = struct.pack(">I", _LARGEST_WINDOW - _WINDOW)
        self._out = bytearray(_PREFACE + _frame(_SETTINGS, 0, 0) + _frame(_WINDOW_UPDATE, 0, 0, more))
        self._in = bytearray()
        self._waiting: list[bytes] = []  # for the window
        self._with_data: set[int] = set()
        self._headers = _headers("/etcdserverpb.KV/Put")

    def call(self, message: bytes) -> None:
        """Begin a call."""
        body = b"\x00" + struct.pack(">I", len(message)) + message
        if self._waiting or len(body) > self._window:
            self._waiting.append(body)
        else:
            self._send(body)

    def _send(self, body: bytes) -> None:
        stream = self._stream
        self._stream += 2
        self._window -= len(body)
        self.open[stream] = time.perf_counter_ns()
        self._out += _frame(_HEADERS, _END_HEADERS, stream, self._headers) + _frame(_DATA, _END_STREAM, stream, body)

    def take(self) -> list[Answered]:
        """Return the calls that have ended since."""
        answered, self.answered = self.answered, []
        return answered

    def pump(self, seconds: float) -> None:
        """Write what is to be written, and read what comes within a time."""
        if self._out:
            with suppress(BlockingIOError):
                del self._out[: self._socket.send(self._out)]
        readable, _, _ = select.select([self._socket], [self._socket] if self._out else [], [], seconds)
        if not readable:
            return
        chunk = self._socket.recv(_CHUNK)
        if not chunk:
            raise ConnectionError("the server has closed the connection")
        self._in += chunk
        self._read_frames(time.perf_counter_ns())
        while self._waiting and len(self._waiting[0]) <= self._window:
            self._send(self._waiting.pop(0))

    def _read_frames(self, now: int) -> None:
        data, place, end = self._in, 0, len(self._in)
        while end - place >= 9:
            length = data[place] << 16 | data[place + 1] << 8 | data[place + 2]
            if end - place - 9 < length:
                break
            kind, flags = data[place + 3], data[place + 4]
            stream = int.from_bytes(data[place + 5 : place + 9], "big") & _LARGEST_WINDOW
            if stream:
                self._stream_frame(kind, flags, stream, now)
            else:
                self._connection_frame(kind, flags, bytes(data[place + 9 : place + 9 + length]))
            place += 9 + length
        del data[:place]

    def _stream_frame(self, kind: int, flags: int, stream: int, now: int) -> None:
        if kind == _DATA:
            self._with_data.add(stream)
        if kind == _RST_STREAM or (kind in {_DATA, _HEADERS} and flags & _END_STREAM):
            succeeded = stream in self._with_data and kind != _RST_STREAM
            self._with_data.discard(stream)
            began = self.open.pop(stream, None)
            if began is not None:
                self.answered.append(Answered(now - began, succeeded))

    def _connection_frame(self, kind: int, flags: int, payload: bytes) -> None:
        if kind == _SETTINGS and not flags & _ACK:
            self._out += _frame(_SETTINGS, _ACK, 0)
        elif kind == _PING and not flags & _ACK:
            self._out += _frame(_PING, _ACK, 0, payload)
        elif kind == _WINDOW_UPDATE:
            self._window += int.from_bytes(payload, "big") & _LARGEST_WINDOW
        elif kind == _GOAWAY:
            raise ConnectionError("the server goes away")

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()
