"""Whose requests the monitor answers, and that no number of others keeps it from answering."""

import json
import resource
import socket
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Final

import h2.config
import h2.connection
import h2.events
import pytest
import trio
import trio.testing

from tests.unit.test_monitor import QuietClient, connect, free_port, monitor_process, settings_for
from trioraft.monitor import connections, create_app
from trioraft.monitor.admission import STREAMS_MAX, Hosts
from trioraft.monitor.connection import given_up_when_slow
from trioraft.monitor.connections import Connection, Connections
from trioraft.settings.settings import MonitorSettings, SettingsError, load

FILES_LOW: Final = 64


def status_of(client: socket.socket) -> int:
    """Read the beginning of an answer."""
    return int(client.recv(4096).split(b" ", 2)[1])


def health_of(port: int) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=3) as response:
        return json.load(response)


@pytest.fixture(scope="module")
def monitor() -> Iterator[int]:
    """Run a monitor for whom the system keeps few descriptors ready, unless it asks for more."""
    port = free_port()
    soft = "import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (64, r.getrlimit(r.RLIMIT_NOFILE)[1]))"
    with monitor_process(port, before=soft):
        connect(port, "/healthz").close()
        yield port


# --- how many -----------------------------------------------------------------------------------------------


def test_streams_have_a_bound_and_health_is_answered_beside_them(monitor: int) -> None:
    with ExitStack() as stack:
        listeners = [stack.enter_context(connect(monitor, "/api/events")) for _ in range(150)]
        answers = [listener.recv(4096) for listener in listeners]
        assert [b" 200 " in answer[:20] for answer in answers] == [True] * STREAMS_MAX + [False] * 50
        assert all(answer.startswith(b"HTTP/1.1 503 ") for answer in answers[STREAMS_MAX:])
        assert all(b"\r\nretry-after: 5\r\n" in answer.lower() for answer in answers[STREAMS_MAX:])
        assert health_of(monitor) == {"status": "ok"}
        for listener in listeners[:3]:
            listener.close()
        until = time.monotonic() + 5
        while status_of(again := stack.enter_context(connect(monitor, "/api/events"))) != 200:
            assert time.monotonic() < until
            again.close()


@contextmanager
def crowded(port: int, count: int) -> Iterator[list[socket.socket]]:
    """Open connections that ask nothing."""
    with ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection(("127.0.0.1", port), 5)) for _ in range(count)]


def test_with_few_descriptors_health_is_answered_beside_streams_and_silent_connections() -> None:
    port = free_port()
    low = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({FILES_LOW}, {FILES_LOW}))"
    with monitor_process(port, before=low) as process, ExitStack() as stack:
        listeners, statuses = [], []
        for _ in range(30):
            listeners.append(stack.enter_context(connect(port, "/api/events")))
            statuses.append(status_of(listeners[-1]))
        assert 1 <= statuses.count(200) < FILES_LOW / 4
        assert set(statuses) == {200, 503}
        for _ in range(3):
            with crowded(port, FILES_LOW):
                assert health_of(port) == {"status": "ok"}
        # Those who listen are not the ones who make room.
        listening = [listener for listener, status in zip(listeners, statuses, strict=True) if status == 200]
        for listener in listening:
            assert b"event: cluster" in listener.recv(65536)
        process.terminate()
        output, _ = process.communicate(timeout=10)
    assert "Traceback" not in output
    assert "the limit of open files is low" in output


def test_a_system_without_descriptors_is_told_once_and_not_for_each_connection() -> None:
    port = free_port()
    with monitor_process(port) as process:
        connect(port, "/healthz").close()
        before = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (3, before[1]))
        with crowded(port, 5):
            time.sleep(1)  # ten attempts
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, before)
            assert health_of(port) == {"status": "ok"}
        process.terminate()
        output, _ = process.communicate(timeout=10)
    assert output.count("cannot take connections") == 1
    assert "too many open files" in output.lower()
    assert "Traceback" not in output


async def test_a_peer_that_takes_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_SLOWEST", 0.2)
    ours, theirs = trio.socket.socketpair()
    with ours, theirs:
        connection = Connection(trio.SocketStream(ours))
        with trio.fail_after(5), pytest.raises(trio.BrokenResourceError):
            await connection.send_all(b"x" * 10_000_000)
        assert ours.fileno() == -1


async def test_an_answer_of_which_nothing_is_taken_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    async def never(message: Any) -> None:
        await trio.sleep_forever()

    began = trio.current_time()
    with trio.CancelScope() as patience:
        await given_up_when_slow(never, patience)({})
        raise AssertionError("the answer goes on")
    assert trio.current_time() - began == pytest.approx(30)


async def test_a_write_that_nothing_can_cancel_ends_when_all_are_cut_off() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    ended = trio.Event()
    taken = Connections(listener, 4)

    async def write(connection: Connection) -> None:
        with trio.CancelScope(shield=True), suppress(trio.ClosedResourceError):  # as hypercorn does
            await connection.send_all(b"x" * 10_000_000)
        ended.set()

    with socket.create_connection(listener.getsockname()):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(taken.take, nursery, write)
            await trio.sleep(0.2)
            assert not ended.is_set()
            taken.cut_off()
            with trio.fail_after(5):
                await ended.wait()
            nursery.cancel_scope.cancel()


# --- whose --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("192.0.2.7:8000", 200),
        ("[::1]", 200),
        ("[2001:db8::7]:8000", 200),
        ("localhost", 200),
        ("LocalHost.:8000", 200),
        ("app.localhost:8000", 200),
        ("watchtower", 200),  # the monitor's HOSTNAME
        ("WATCHTOWER:8000", 200),
        ("raft.example.org", 200),
        ("Raft.Example.Org.:443", 200),
        ("a.b.example.net", 200),
        ("rebound.example.com", 421),
        ("127.0.0.1.example.com", 421),
        ("localhost.example.com", 421),
        ("example.net", 421),
        ("evilexample.net", 421),
        ("more.raft.example.org", 421),
        ("localhost:80@example.com", 421),
        ("::1", 421),
        (".", 421),
        ("", 421),
    ],
)
async def test_only_names_of_the_monitor_are_answered(host: str, status: int) -> None:
    settings = settings_for(allowed_hosts=("raft.example.org", "*.example.net"))
    client = create_app(settings, QuietClient()).test_client()
    for path in ("/", "/api/nodes", "/healthz", "/static/monitor.js"):
        answer = await client.get(path, headers={"Host": host})
        assert answer.status_code == status, path
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        if status == 421:
            assert "ALLOWED_HOSTS" in await answer.get_data(as_text=True)


def test_what_is_no_host_is_none_of_the_monitors() -> None:
    hosts = Hosts(("*.example.net",), "watchtower")
    assert hosts.has("[::1]")
    for text in ("[::1", "[localhost]", "[::1]x", "::1", "localhost:x", "a b.example.net", "a@b.example.net", ":80"):
        assert not hosts.has(text), text


async def test_the_host_of_this_machine_is_a_name_and_a_star_allows_any() -> None:
    client = create_app(settings_for(), QuietClient()).test_client()
    assert (await client.get("/", headers={"Host": socket.gethostname()})).status_code == 200
    client = create_app(settings_for(allowed_hosts=("*",)), QuietClient()).test_client()
    assert (await client.get("/", headers={"Host": "rebound.example.com"})).status_code == 200


def test_allowed_hosts_are_read() -> None:
    settings = load(MonitorSettings, {"ALLOWED_HOSTS": "Raft.example.org., *.Example.net,*"})
    assert settings.allowed_hosts == ("raft.example.org", "*.example.net", "*")
    assert load(MonitorSettings, {}).allowed_hosts == ()
    for wrong in ("example.org:8000", "a,,b", "a.*.org", "**", "http://example.org"):
        with pytest.raises(SettingsError, match="ALLOWED_HOSTS="):
            load(MonitorSettings, {"ALLOWED_HOSTS": wrong})


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://rebound.example.com"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://[::1"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Origin": "http://localhost:8000"}, 200),
        ({"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}, 200),
    ],
)
async def test_what_another_site_makes_a_browser_ask_is_refused(headers: dict[str, str], status: int) -> None:
    client = create_app(settings_for(), QuietClient()).test_client()
    for path in ("/api/cluster", "/static/monitor.js"):
        assert (await client.get(path, headers=headers)).status_code == status
    assert (await client.post("/api/cluster", headers=headers)).status_code == (403 if status == 403 else 405)


def ask_raw(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 5) as client:
        client.sendall(request)
        answer = b""
        with suppress(TimeoutError):
            while data := client.recv(65536):
                answer += data
        return answer


def status_over_http2(port: int, *hosts: tuple[str, str]) -> int:
    """Ask for the nodes with these pseudo-headers and headers."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(validate_outbound_headers=False))
    connection.initiate_connection()
    connection.send_headers(
        1, [(":method", "GET"), (":scheme", "http"), (":path", "/api/nodes"), *hosts], end_stream=True
    )
    with socket.create_connection(("127.0.0.1", port), 5) as client:
        client.sendall(connection.data_to_send())
        while data := client.recv(65536):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived):
                    return int(dict(event.headers or ())[b":status"])
    return 0


def test_every_version_of_http_is_looked_at_and_a_check_without_a_host_is_answered(monitor: int) -> None:
    assert ask_raw(monitor, b"GET /healthz HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    assert ask_raw(monitor, b"GET / HTTP/1.0\r\nHost: rebound.example.com\r\n\r\n").startswith(b"HTTP/1.1 421 ")
    head = ask_raw(monitor, b"HEAD / HTTP/1.1\r\nHost: a.example.com\r\nConnection: close\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 421 ")
    assert head.endswith(b"\r\n\r\n")
    proxied = b"GET http://a.example.com/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert ask_raw(monitor, proxied).startswith(b"HTTP/1.1 421 ")
    socket_upgrade = (
        b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert ask_raw(monitor, socket_upgrade).startswith(b"HTTP/1.1 403 ")
    assert status_over_http2(monitor, (":authority", "localhost")) == 200
    assert status_over_http2(monitor, (":authority", "rebound.example.com")) == 421
    assert status_over_http2(monitor) != 200
