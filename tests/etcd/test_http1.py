"""The port serves HTTP/1.1 within its bounds: whoever is slow, large or wrong harms nobody else."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.etcd.serving import free_tcp_ports
from trioraft.errors import NodeError
from trioraft.etcd import http1
from trioraft.etcd.http1 import BODY_MAX, HEAD_MAX, TEXT, Exchange, Request
from trioraft.etcd.port import Port


class Echo:
    """Answers with the body; `/stream` is a stream that the test feeds, `/wait` one that never says anything."""

    def __init__(self) -> None:
        self.give, self.take = trio.open_memory_channel[bytes](0)
        self.gone = trio.Event()

    async def handle(self, request: Request, exchange: Exchange) -> None:
        body = await exchange.body()
        if request.path == "/fail":
            raise RuntimeError("nobody has thought of this")
        if request.path not in {"/stream", "/wait"}:
            await exchange.answer(200, TEXT, request.method.encode() + b" " + body)
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._until_gone, exchange, nursery.cancel_scope)
            if request.path == "/wait":
                await trio.sleep_forever()
            await exchange.begin()
            async for part in self.take:
                await exchange.send(part)
            await exchange.end()
            nursery.cancel_scope.cancel()

    async def _until_gone(self, exchange: Exchange, scope: trio.CancelScope) -> None:
        await exchange.until_gone()
        self.gone.set()
        scope.cancel()


@asynccontextmanager
async def served() -> AsyncIterator[tuple[Port, Echo, trio.CancelScope]]:
    """Serve an :class:`Echo` for as long as a block lasts; the scope stops it."""
    (number,) = free_tcp_ports(1)
    port, echo, scope = Port("127.0.0.1", number, None), Echo(), trio.CancelScope()

    async def run() -> None:
        with scope:
            await port.run(echo.handle)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        yield port, echo, scope
        scope.cancel()


async def _connect(port: Port) -> trio.SocketStream:
    return await trio.open_tcp_stream("127.0.0.1", port.number)


async def _until(stream: trio.SocketStream, ending: bytes) -> bytes:
    found = b""
    with trio.fail_after(10):
        while not found.endswith(ending):
            data = await stream.receive_some(65536)
            if not data:
                break
            found += data
    return found


async def test_requests_follow_each_other_on_a_connection_and_may_be_sent_at_once() -> None:
    async with served() as (port, _, _), await _connect(port) as client:
        await client.send_all(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi" * 2)
        answers = await _until(client, b"POST hi")
        answers += await _until(client, b"POST hi") if answers.count(b"POST hi") == 1 else b""
        assert answers.count(b"HTTP/1.1 200") == 2
        await client.send_all(b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"GET " in await _until(client, b"GET ")


async def test_the_answer_to_a_question_for_the_head_is_a_head_and_the_connection_goes_on() -> None:
    async with served() as (port, _, _), await _connect(port) as client:
        await client.send_all(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
        head = await _until(client, b"\r\n\r\n")
        assert b"content-length: 5" in head.lower()
        await client.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await _until(client, b"GET ")).startswith(b"HTTP/1.1 200")


async def test_a_client_that_waits_for_the_word_to_go_on_gets_it() -> None:
    async with served() as (port, _, _), await _connect(port) as client:
        await client.send_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert await _until(client, b"\r\n\r\n") == b"HTTP/1.1 100 \r\n\r\n"
        await client.send_all(b"ok")
        assert b"200" in await _until(client, b"POST ok")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),  # no Host
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * (HEAD_MAX + 1), b"431"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", b"400"),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (BODY_MAX + 1) + b"a" * (BODY_MAX + 1),
            b"413",
        ),
        (b"POST /fail HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", b"500"),
    ],
)
async def test_what_is_wrong_or_too_large_is_refused_and_the_connection_closed(sent: bytes, status: bytes) -> None:
    async with served() as (port, _, _), await _connect(port) as client:
        await client.send_all(sent)
        answer = await _until(client, b"never")
        assert answer.split(b" ")[1] == status
        async with await _connect(port) as other:
            await other.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"200" in await _until(other, b"GET ")


async def test_a_client_that_does_not_send_its_request_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1, "IDLE_SECONDS", 0.2)
    async with served() as (port, _, _), await _connect(port) as client:
        await client.send_all(b"GET / HT")
        assert await _until(client, b"never") == b""
        with trio.fail_after(5):
            while port.connections:
                await trio.sleep(0.01)


async def test_each_part_of_a_stream_is_one_chunk_and_a_client_that_hangs_up_is_noticed_at_once() -> None:
    async with served() as (port, echo, _):
        async with await _connect(port) as client:
            await client.send_all(b"POST /stream HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
            await echo.give.send(b"one\n")
            await echo.give.send(b"two\n")
            answer = await _until(client, b"4\r\ntwo\n\r\n")
            assert b"4\r\none\n\r\n4\r\ntwo\n\r\n" in answer
        with trio.fail_after(5):
            await echo.gone.wait()
            while port.connections:
                await trio.sleep(0.01)


async def test_a_client_that_does_not_read_pauses_its_own_stream_only() -> None:
    async with served() as (port, echo, _), await _connect(port) as slow, await _connect(port) as other:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await slow.send_all(b"POST /stream HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        with trio.move_on_after(1) as full:
            while True:
                await echo.give.send(b"x" * 2**20)
        assert full.cancelled_caught
        await other.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200" in await _until(other, b"GET ")


async def test_at_the_end_streams_are_ended_and_what_waits_is_answered() -> None:
    async with served() as (port, echo, scope):
        stream, waiting, idle = [await _connect(port) for _ in range(3)]
        await stream.send_all(b"POST /stream HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        await echo.give.send(b"one\n")
        await waiting.send_all(b"POST /wait HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        with trio.fail_after(5):
            while port.connections < 3:
                await trio.sleep(0.01)
        await trio.sleep(0.1)
        scope.cancel()
        assert (await _until(stream, b"never")).endswith(b"one\n\r\n0\r\n\r\n")
        answer = await _until(waiting, b"never")
        assert b"503" in answer.split(b"\r\n")[0]
        assert b"etcdserver: server stopped" in answer
        assert await _until(idle, b"never") == b""
        for client in (stream, waiting, idle):
            await client.aclose()


async def test_at_the_end_nothing_follows_what_a_slow_client_has_taken_in_part() -> None:
    async with served() as (port, echo, scope):
        slow = await _connect(port)
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await slow.send_all(b"POST /stream HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        with trio.move_on_after(1):
            while True:
                await echo.give.send(b"x" * 2**20)
        scope.cancel()
        assert (await _until(slow, b"never")).endswith(b"x")
        await slow.aclose()


async def test_clients_beyond_the_most_are_turned_away_until_others_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trioraft.etcd.port.CONNECTIONS_MAX", 10)
    async with served() as (port, _, _):
        clients = [await _connect(port) for _ in range(10)]
        with trio.fail_after(5):
            while port.connections < 10:
                await trio.sleep(0.01)
        async with await _connect(port) as other:
            assert await _until(other, b"never") == b""
        await clients.pop().aclose()
        with trio.fail_after(5):
            while port.connections == 10:
                await trio.sleep(0.01)
        async with await _connect(port) as other:
            await other.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"200" in await _until(other, b"GET ")
        for client in clients:
            await client.aclose()


async def test_a_port_that_is_taken_is_one_line_that_says_what_to_do() -> None:
    async with served() as (port, _, _):
        with pytest.raises(NodeError, match=f"CLIENT_BIND_PORT={port.number}.*a free TCP port"):
            Port("127.0.0.1", port.number, None)
