"""The UDP socket, on loopback."""

import errno
import os
import socket
import sys
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import pytest
import trio

from trioraft.address import Address
from trioraft.datagrams.socket import BATCH_MAX, DatagramSocket, UdpSocket, open_udp

IP_RECVERR = 11  # Linux; Python has no name for it


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this system has no IPv6")


async def receive(sock: UdpSocket) -> list[tuple[bytes, Address]]:
    with trio.fail_after(5):
        while True:
            await sock.wait_readable()
            if received := sock.receive():
                return received


@pytest.mark.parametrize("host", ["127.0.0.1", pytest.param("::1", marks=needs_ipv6)])
async def test_a_datagram_arrives_with_the_address_of_its_sender(host: str) -> None:
    a, b = await open_udp(host, 0), await open_udp(host, 0)
    assert a.address.host == host
    a.send(b"hello", b.address)
    assert await receive(b) == [(b"hello", a.address)]
    b.send(b"", a.address)
    assert await receive(a) == [(b"", b.address)]
    a.close()
    b.close()


@needs_ipv6
async def test_a_dual_stack_socket_shows_ipv4_as_ipv4() -> None:
    both, four, six = await open_udp("::", 0), await open_udp("127.0.0.1", 0), await open_udp("::1", 0)
    port = both.address.port
    four.send(b"four", Address("127.0.0.1", port))
    assert await receive(both) == [(b"four", four.address)]
    six.send(b"six", Address("::1", port))
    assert await receive(both) == [(b"six", six.address)]
    both.send(b"to four", four.address)
    assert await receive(four) == [(b"to four", Address("127.0.0.1", port))]
    both.send(b"to six", six.address)
    assert await receive(six) == [(b"to six", Address("::1", port))]
    assert not both.counters
    for sock in (both, four, six):
        sock.close()


on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells it to a socket")

# --- hosts with several addresses ---------------------------------------------------------------------------


@on_linux
@pytest.mark.parametrize("host", ["0.0.0.0", pytest.param("::", marks=needs_ipv6)])  # noqa: S104
async def test_each_answer_leaves_from_where_it_was_asked_for(host: str) -> None:
    asked, asker, other = await open_udp(host, 0), await open_udp("127.0.0.1", 0), await open_udp("127.0.0.1", 0)
    port = asked.address.port
    hosts = ["127.0.0.2", "127.0.0.3", "127.0.0.2", "127.0.0.1", "127.0.0.3"]
    for number, to in enumerate(hosts):
        asker.send(b"%d" % number, Address(to, port))
    other.send(b"other", Address("127.0.0.4", port))
    answers: list[tuple[bytes, Address]] = []
    while len(answers) <= len(hosts):
        for data, source in await receive(asked):  # sent before the next is taken, as nodes do
            asked.send(data, source)
        for sock in (asker, other):
            answers += sock.receive()
    expected = {(b"%d" % number, Address(host, port)) for number, host in enumerate(hosts)}
    assert set(answers) == expected | {(b"other", Address("127.0.0.4", port))}
    asked.send(b"later", asker.address)
    assert (await receive(asker))[0][1] in {address for _, address in expected}
    for sock in (asked, asker, other):
        assert not sock.counters
        sock.close()


@on_linux
@pytest.mark.parametrize("host", ["127.0.0.1", pytest.param("::1", marks=needs_ipv6)])
async def test_the_system_chooses_when_the_address_that_was_asked_is_gone(host: str) -> None:
    asked, asker = await open_udp("::" if ":" in host else "0.0.0.0", 0), await open_udp(host, 0)  # noqa: S104
    asker.send(b"question", Address(host, asked.address.port))
    await receive(asked)
    gone = (
        bytes([32, 1, 13, 184, *range(12), *bytes(4)])
        if ":" in host
        else bytes([*bytes(4), 192, 0, 2, 77, *bytes(4)])
    )
    asked._remotes[asker.address].turn_to(gone)
    for number in (b"1", b"2"):
        asked.send(number, asker.address)
        assert await receive(asker) == [(number, Address(host, asked.address.port))]
    assert not asked.counters
    asked.close()
    asker.close()


@on_linux
async def test_the_system_chooses_where_nothing_comes_back_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("trioraft.datagrams.socket.time.monotonic", lambda: now)
    asked, asker = await open_udp("0.0.0.0", 0), await open_udp("127.0.0.1", 0)  # noqa: S104
    there = Address("127.0.0.2", asked.address.port)

    async def source_after(seconds: float) -> str:
        nonlocal now
        now += seconds
        asked.send(b"answer", asker.address)
        return (await receive(asker))[0][1].host

    for _ in range(2):
        asker.send(b"question", there)
        await receive(asked)
        assert await source_after(60.0) == there.host, "an answer may take long"
        assert await source_after(1.5) == there.host
        assert await source_after(1.5) == "127.0.0.1"
        assert await source_after(60.0) == "127.0.0.1"
    asked.close()
    asker.close()


def link_local() -> str | None:
    """Find an address of this host that is good on one link only."""
    try:
        lines = Path("/proc/net/if_inet6").read_text("ascii").splitlines()
    except FileNotFoundError:
        return None
    for host, _index, _prefix, scope, flags, name in map(str.split, lines):
        if scope == "20" and not int(flags, 16) & 0x40:  # not while it is looked whether another host has it
            return f"{IPv6Address(bytes.fromhex(host))}%{name}"
    return None


@pytest.mark.skipif(link_local() is None, reason="this host has no address of one link")
async def test_an_address_of_one_link_keeps_its_zone() -> None:
    host = link_local()
    assert host is not None
    ip, _, name = host.partition("%")
    asked, asker = await open_udp("::", 0), await open_udp(host, 0)
    assert asker.address.host == host
    asker.send(b"question", Address.of(f"{ip}%{socket.if_nametoindex(name)}", asked.address.port))
    assert await receive(asked) == [(b"question", asker.address)]
    asked.send(b"answer", asker.address)
    assert await receive(asker) == [(b"answer", Address(host, asked.address.port))]
    asked.close()
    asker.close()


async def test_all_interfaces_are_bound_where_there_is_no_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def without_ipv6(family: int = -1, *rest: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, *rest)

    monkeypatch.setattr("trioraft.datagrams.socket.socket.socket", without_ipv6)
    sock = await open_udp("::", 0)
    assert sock.address.host == "0.0.0.0"  # noqa: S104
    sock.close()


async def test_one_wake_up_drains_the_socket_up_to_a_bound() -> None:
    a, b = await open_udp("127.0.0.1", 0), await open_udp("127.0.0.1", 0)
    for number in range(BATCH_MAX + 10):
        a.send(number.to_bytes(2), b.address)
    first, second = await receive(b), await receive(b)
    assert [int.from_bytes(data) for data, _ in first] == list(range(BATCH_MAX))
    assert [int.from_bytes(data) for data, _ in second] == list(range(BATCH_MAX, BATCH_MAX + 10))
    assert b.receive() == []
    a.close()
    b.close()


@pytest.mark.parametrize(
    ("data", "to", "counted"),
    [
        (bytes(65508), Address("127.0.0.1", 9), "send_emsgsize"),
        (b"x", Address("::1", 9), "send_gaierror"),
        (b"x", Address("255.255.255.255", 9), "send_eacces"),
        (b"x", Address("127.0.0.1", 0), "send_einval"),
        (b"x", Address("no-number.invalid", 9), "send_gaierror"),
    ],
)
async def test_a_datagram_that_cannot_be_sent_is_counted_and_dropped(data: bytes, to: Address, counted: str) -> None:
    sock, other = await open_udp("127.0.0.1", 0), await open_udp("127.0.0.1", 0)
    sock.send(data, to)
    assert sock.counters == {counted: 1}
    sock.send(b"still alive", other.address)
    assert (await receive(other))[0][0] == b"still alive"
    sock.close()
    other.close()


class Failing(socket.socket):
    """A bound socket whose first calls fail, with errors that loopback never has."""

    def __init__(self, *errors: int) -> None:
        super().__init__(socket.AF_INET, socket.SOCK_DGRAM)
        self.bind(("127.0.0.1", 0))
        self.sends, self.receipts = list(errors), list(errors)

    def sendto(self, *args: Any) -> int:
        if self.sends:
            raise _os_error(self.sends.pop())
        return super().sendto(*args)

    def recvmsg(self, *args: Any) -> tuple[bytes, list[tuple[int, int, bytes]], int, Any]:
        if self.receipts:
            raise _os_error(self.receipts.pop())
        return super().recvmsg(*args)


def _os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


async def test_every_other_error_is_survived_and_counted_by_its_name() -> None:
    errors = ["EHOSTUNREACH", "ENETUNREACH", "ENETDOWN", "ENOBUFS", "ENOMEM", "EPERM", "EIO"]
    sock = UdpSocket(Failing(*(getattr(errno, name) for name in errors)))
    for _ in errors:
        sock.send(b"lost", sock.address)
    sock.send(b"kept", sock.address)
    assert sock.receive() == [(b"kept", sock.address)]
    assert sock.counters == {f"{doing}_{name.lower()}": 1 for name in errors for doing in ("send", "receive")}
    sock.close()


async def test_a_full_send_buffer_drops_and_does_not_block() -> None:
    sock = UdpSocket(Failing(errno.EAGAIN))
    sock.send(b"lost", sock.address)
    assert sock.counters == {"send_eagain": 1}
    sock.close()


async def test_errors_that_the_network_reports_back_are_survived() -> None:
    sock, other = await open_udp("127.0.0.1", 0), await open_udp("127.0.0.1", 0)
    sock._socket.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
    closed = other.address
    other.close()
    sock.send(b"x", closed)
    with trio.fail_after(5):
        while not sock.counters["receive_econnrefused"]:
            await sock.wait_readable()
            assert sock.receive() == []
    # The error of one datagram may also come back from sending the next.
    sock.send(b"y", closed)
    sock.send(b"z", closed)
    third = await open_udp("127.0.0.1", 0)
    third.send(b"after all that", sock.address)
    assert (await receive(sock))[0][0] == b"after all that"
    sock.close()
    third.close()


async def test_a_port_that_is_taken_is_reported_in_one_line() -> None:
    first = await open_udp("127.0.0.1", 0)
    port = first.address.port
    with pytest.raises(
        OSError, match=f"^.*cannot bind the UDP socket 127.0.0.1:{port}: Address already in use$"
    ) as caught:
        await open_udp("127.0.0.1", port)
    assert caught.value.errno == errno.EADDRINUSE
    first.close()


async def test_an_address_of_another_machine_is_reported_in_one_line() -> None:
    with pytest.raises(OSError, match=r"cannot bind the UDP socket 192\.0\.2\.1:0: Cannot assign"):
        await open_udp("192.0.2.1", 0)


async def test_closing_wakes_the_task_that_waits() -> None:
    sock = await open_udp("127.0.0.1", 0)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await sock.wait_readable()

            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            sock.close()
    sock.close()


async def test_the_receive_buffer_is_as_large_as_the_system_allows() -> None:
    sock: DatagramSocket = await open_udp("127.0.0.1", 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        usual = plain.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    assert isinstance(sock, UdpSocket)
    assert sock._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) > usual
    sock.close()


async def test_many_strange_senders_do_not_fill_the_memory() -> None:
    sock = await open_udp("127.0.0.1", 0)
    for number in range(10_000):
        sock.send(b"", Address(f"127.1.{number % 250}.{number // 250 + 1}", 9))
    assert len(sock._remotes) <= 4096
    sock.close()


# --- the size of datagrams ----------------------------------------------------------------------------------


@on_linux
@pytest.mark.parametrize("host", ["127.0.0.1", pytest.param("::1", marks=needs_ipv6)])
async def test_the_system_says_how_large_datagrams_may_be(host: str) -> None:
    a, b = await open_udp(host, 0), await open_udp(host, 0)
    size = a.path_bytes(b.address)
    assert size is not None
    a.send(bytes(size), b.address)
    assert await receive(b) == [(bytes(size), a.address)]
    a.close()
    b.close()


@on_linux
async def test_nothing_is_known_of_an_unreachable_path() -> None:
    a = await open_udp("127.0.0.1", 0)
    assert a.path_bytes(Address("255.255.255.255", 9)) is None
    a.close()


@on_linux
async def test_a_datagram_that_was_refused_as_too_large_makes_the_path_narrower() -> None:
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.bind(("127.0.0.1", 0))
    a, b = UdpSocket(bound), await open_udp("127.0.0.1", 0)
    before = a.path_bytes(b.address)
    assert before is not None
    for _ in range(50):
        a.send(bytes(before + 1), b.address)
    assert a.counters["send_emsgsize"] == 50
    after = a.path_bytes(b.address)
    assert after is not None
    assert 548 <= after <= before
    a.close()
    b.close()
