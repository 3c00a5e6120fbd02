"""A real DNS server for tests: UDP and TCP on loopback, and every way of going wrong."""

import enum
import struct
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import trio

from trioraft.address import Address

_PLAIN_UDP_MAX = 512  # bytes (RFC 1035)
_TTL = 600  # seconds; what Docker says


class Behaviour(enum.Enum):
    """What becomes of a question."""

    ANSWER = enum.auto()  # over UDP truncated, when the answer is larger than the asker takes
    SILENT = enum.auto()
    SERVFAIL = enum.auto()
    REFUSED = enum.auto()
    NXDOMAIN = enum.auto()
    GARBAGE = enum.auto()  # bytes that are no DNS message
    WRONG_ID = enum.auto()  # an answer to another question
    WRONG_NAME = enum.auto()
    TRUNCATED = enum.auto()  # over UDP: never more than a piece; over TCP: all
    TRUNCATED_WITHOUT_TCP = enum.auto()  # over UDP without EDNS: a piece; over TCP: nothing
    GARBAGE_OVER_TCP = enum.auto()  # where UDP sent the asker to
    NO_EDNS = enum.auto()  # FORMERR for a question with EDNS
    EDNS_IS_DROPPED = enum.auto()


@dataclass(frozen=True)
class Query:
    """A question that came."""

    name: str
    rdtype: str
    transport: str
    edns: bool


class DnsServer:
    """Answers from records that a test may change at any time.

    Attributes
    ----------
    address : Address
        Where it listens; stays the same when it is stopped and started again.
    queries : list of Query
        What was asked, in order.
    delay : float
        How long each answer is held back, in seconds.
    """

    def __init__(self, nursery: trio.Nursery, host: str, port: int) -> None:
        self._nursery = nursery
        self._records: dict[tuple[dns.name.Name, dns.rdatatype.RdataType], list[str]] = {}
        self._behaviours: dict[tuple[dns.name.Name | None, dns.rdatatype.RdataType | None], Behaviour] = {}
        self._serving: trio.CancelScope | None = None
        self._host = host
        self._port = port
        self.queries: list[Query] = []
        self.delay = 0.0

    @property
    def address(self) -> Address:
        return Address.of(self._host, self._port)

    def set(self, name: str, rdtype: str, texts: Iterable[str]) -> None:
        """Set the records of a name of one type, as a zone file writes them: ``"10.0.0.1"``, ``"0 0 7300 host."``."""
        self._records[dns.name.from_text(name), dns.rdatatype.from_text(rdtype)] = list(texts)

    def forget(self, name: str) -> None:
        """Remove a name."""
        gone = dns.name.from_text(name)
        self._records = {key: texts for key, texts in self._records.items() if key[0] != gone}

    def behave(self, behaviour: Behaviour, name: str | None = None, rdtype: str | None = None) -> None:
        """Choose what becomes of questions: of all from now on, or of those for a name, or for records of a type."""
        if name is None and rdtype is None:
            self._behaviours.clear()
        key = (
            None if name is None else dns.name.from_text(name),
            None if rdtype is None else dns.rdatatype.from_text(rdtype),
        )
        self._behaviours[key] = behaviour

    def asked(self, name: str) -> list[Query]:
        """List the questions for a name."""
        return [query for query in self.queries if query.name == dns.name.from_text(name).to_text()]

    async def start(self) -> None:
        """Listen, at the same port as before."""
        udp, listeners = await self._bind()
        self._serving = trio.CancelScope()
        await self._nursery.start(self._serve, self._serving, udp, listeners)

    async def _bind(self) -> tuple[trio.socket.SocketType, list[trio.SocketListener]]:
        """Find a port that is free for UDP and TCP alike."""
        family = trio.socket.AF_INET6 if ":" in self._host else trio.socket.AF_INET
        for _ in range(20):
            udp = trio.socket.socket(family, trio.socket.SOCK_DGRAM)
            try:
                await udp.bind((self._host, self._port))
            except OSError:
                udp.close()
                raise
            port = udp.getsockname()[1]
            try:
                listeners = await trio.open_tcp_listeners(port, host=self._host)
            except OSError:
                udp.close()
            else:
                self._port = port
                return udp, listeners
        raise RuntimeError(f"no port of {self._host} is free for UDP and TCP")

    def stop(self) -> None:
        """Disappear: the sockets are closed."""
        assert self._serving is not None
        self._serving.cancel()
        self._serving = None

    async def _serve(
        self,
        scope: trio.CancelScope,
        udp: trio.socket.SocketType,
        listeners: list[trio.SocketListener],
        task_status: trio.TaskStatus[None],
    ) -> None:
        with scope, udp:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.serve_listeners, self._serve_tcp, listeners)
                task_status.started()
                while True:
                    data, source = await udp.recvfrom(65535)
                    nursery.start_soon(self._serve_udp, udp, data, source)

    async def _serve_udp(self, udp: trio.socket.SocketType, data: bytes, source: tuple[object, ...]) -> None:
        response = await self._respond(data, "udp")
        if response:
            try:
                await udp.sendto(response, source)
            except OSError:  # the asker has gone
                return

    async def _serve_tcp(self, stream: trio.SocketStream) -> None:
        try:
            while length := await _read_exactly(stream, 2):
                data = await _read_exactly(stream, struct.unpack("!H", length)[0])
                response = await self._respond(data, "tcp")
                if response is None:
                    return
                await stream.send_all(struct.pack("!H", len(response)) + response)
        except trio.BrokenResourceError:  # the asker has gone
            return

    async def _respond(self, data: bytes, transport: str) -> bytes | None:
        try:
            query = dns.message.from_wire(data)
        except dns.exception.DNSException:
            return None
        question = query.question[0]
        self.queries.append(
            Query(
                question.name.to_text(),
                dns.rdatatype.to_text(question.rdtype),
                transport,
                query.edns >= 0,
            )
        )
        await trio.sleep(self.delay)
        return self._answer(query, self._behaviour(question.name, question.rdtype), transport)

    def _behaviour(self, name: dns.name.Name, rdtype: dns.rdatatype.RdataType) -> Behaviour:
        for key in ((name, rdtype), (name, None), (None, rdtype), (None, None)):
            if key in self._behaviours:
                return self._behaviours[key]
        return Behaviour.ANSWER

    def _answer(self, query: dns.message.Message, behaviour: Behaviour, transport: str) -> bytes | None:
        response = dns.message.make_response(query)
        edns = query.edns >= 0
        match behaviour:
            case Behaviour.SILENT:
                return None
            case Behaviour.EDNS_IS_DROPPED if edns:
                return None
            case Behaviour.TRUNCATED_WITHOUT_TCP if transport == "tcp":
                return None
            case Behaviour.GARBAGE_OVER_TCP if transport == "tcp":
                return query.to_wire()[:2] + b"\x81\x80" + b"\xff" * 40
            case Behaviour.GARBAGE:
                return query.to_wire()[:2] + b"\x81\x80" + b"\xff" * 40
            case Behaviour.SERVFAIL | Behaviour.REFUSED | Behaviour.NXDOMAIN:
                response.set_rcode(dns.rcode.from_text(behaviour.name))
            case Behaviour.NO_EDNS if edns:
                response = dns.message.make_response(query)
                response.use_edns(False)
                response.set_rcode(dns.rcode.FORMERR)
            case _:
                self._fill(response, query)
        if behaviour is Behaviour.WRONG_ID:
            response.id ^= 0xFFFF
        elif behaviour is Behaviour.WRONG_NAME:
            response.question[0].name = dns.name.from_text("somebody.else.")
        if transport == "tcp":
            return response.to_wire(max_size=65535)
        piece = behaviour in {Behaviour.TRUNCATED, Behaviour.GARBAGE_OVER_TCP}
        limit = _PLAIN_UDP_MAX if piece or not edns else max(query.payload, _PLAIN_UDP_MAX)
        wire = response.to_wire(max_size=limit, prefer_truncation=True)
        if piece:
            wire = wire[:2] + bytes([wire[2] | dns.flags.TC >> 8]) + wire[3:]
        return wire

    def _fill(self, response: dns.message.Message, query: dns.message.Message) -> None:
        question = query.question[0]
        texts = self._records.get((question.name, question.rdtype))
        if texts:
            response.answer.append(dns.rrset.from_text_list(question.name, _TTL, "IN", question.rdtype, texts))
        elif texts is None and not any(name == question.name for name, _ in self._records):
            response.set_rcode(dns.rcode.NXDOMAIN)


async def _read_exactly(stream: trio.SocketStream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = await stream.receive_some(count - len(data))
        if not more:
            return b""
        data += more
    return data


@asynccontextmanager
async def open_dns_server(host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[DnsServer]:
    """Run a server; port 0 is one that is free."""
    async with trio.open_nursery() as nursery:
        server = DnsServer(nursery, host, port)
        await server.start()
        yield server
        nursery.cancel_scope.cancel()
