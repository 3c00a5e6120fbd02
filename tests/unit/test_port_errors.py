"""Errors of the network about ports: what the system reports, which are believed, and that none costs a datagram."""

import socket
import struct
import sys
from collections.abc import Sequence

import pytest
import trio

from tests.unit.endpoint_network import HEARTBEAT, THREE, TWO, A, B, C, Network, both_modes, pair
from trioraft.address import Address
from trioraft.datagrams.endpoint import Endpoint, Peer
from trioraft.datagrams.evidence import Evidence, PortError
from trioraft.datagrams.socket import UdpSocket, open_udp, port_unreachable_by
from trioraft.messages import Probe

HERE = Address("192.0.2.1", 7300)
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux reports errors to who sent the datagram")
_IP_RECVERR, _IPV6_RECVERR = 11, 25


def _sent(*datagrams: bytes, to: Address = HERE) -> Evidence:
    evidence = Evidence()
    evidence.watch(1)
    evidence.unheard.extend((datagram, to) for datagram in datagrams)
    return evidence


# --- which errors are believed ------------------------------------------------------------------------------


def test_an_error_counts_that_quotes_a_datagram_and_comes_from_where_it_went() -> None:
    assert _sent(b"one", b"two").proves_gone(PortError(HERE, HERE.host, b"one"))


@pytest.mark.parametrize(
    "error",
    [
        PortError(HERE, HERE.host, b"another"),
        PortError(HERE, HERE.host, b"on"),
        PortError(HERE, HERE.host, b"one and more"),
        PortError(HERE, HERE.host, b""),
        PortError(HERE, "192.0.2.9", b"one"),
        PortError(Address("192.0.2.9", 7300), "192.0.2.9", b"one"),
        PortError(Address(HERE.host, 7301), HERE.host, b"one"),
    ],
    ids=["another", "a part", "more", "nothing", "another host", "another receiver", "another port"],
)
def test_no_other_error_counts(error: PortError) -> None:
    assert not _sent(b"one").proves_gone(error)


def test_nothing_counts_about_a_node_that_is_not_watched_any_more() -> None:
    evidence = _sent(b"one")
    evidence.watch(2)
    assert not evidence.proves_gone(PortError(HERE, HERE.host, b"one"))


@both_modes
def test_what_is_sent_to_the_watched_node_counts_until_that_is_heard(keys: str | None) -> None:
    network, a, b = pair(keys)
    to_b, to_a = network.shake_hands(A, B)
    a.watch(TWO)
    first = _last_sent(network, a, to_b)
    assert a.proves_gone(first)
    assert not a.proves_gone(first._replace(quote=first.quote[:-1] + bytes([first.quote[-1] ^ 1])))
    b.send(to_a, HEARTBEAT, network.now)
    network.run()
    assert not a.proves_gone(first), "the node was heard since"
    second = _last_sent(network, a, to_b)
    assert a.proves_gone(second)
    assert not a.proves_gone(first)
    assert a.counters["port_errors"] == 2
    assert a.counters["dropped_port_errors"] == 3


@both_modes
def test_a_new_process_of_the_watched_node_is_heard_by_its_handshake(keys: str | None) -> None:
    network, a, _b = pair(keys)
    to_b, _ = network.shake_hands(A, B)
    a.watch(TWO)
    error = _last_sent(network, a, to_b)
    network.add(B, TWO, keys)
    network.shake_hands(B, A)
    assert not a.proves_gone(error)


@both_modes
def test_what_is_sent_to_any_other_node_does_not_count(keys: str | None) -> None:
    network, a, _ = pair(keys)
    network.add(C, THREE, keys)
    to_b, _ = network.shake_hands(A, B)
    network.shake_hands(A, C)
    a.watch(THREE)
    assert not a.proves_gone(_last_sent(network, a, to_b))


def test_an_unsealed_datagram_that_may_be_sent_again_as_it_is_does_not_count() -> None:
    network, a, _b = pair(None)
    to_b, _ = network.shake_hands(A, B)
    a.watch(TWO)
    a.send(to_b, HEARTBEAT, network.now)
    flight = network.collect()[-1]
    assert not a.proves_gone(PortError(flight.target, flight.target.host, flight.data))


def _last_sent(network: Network, endpoint: Endpoint, peer: Peer) -> PortError:
    """Send a probe, which is lost, and return the error that a kernel would make of it."""
    endpoint.send(peer, Probe(7, network.entropy.getrandbits(62)), network.now)
    flight = network.collect()[-1]
    return PortError(flight.target, flight.target.host, flight.data)


# --- how the system says it ---------------------------------------------------------------------------------


def _extended(origin: int, kind: int, code: int, sockaddr: bytes) -> bytes:
    return struct.pack("=IBBBxII", 111, origin, kind, code, 0, 0) + sockaddr


_V4 = struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton("192.0.2.1"))
_V6 = struct.pack("=HHI16sI", socket.AF_INET6, 0, 0, socket.inet_pton(socket.AF_INET6, "2001:db8::1"), 0)
_MAPPED = struct.pack("=HHI16sI", socket.AF_INET6, 0, 0, socket.inet_pton(socket.AF_INET6, "::ffff:192.0.2.1"), 0)
_NONE = struct.pack("=HH12x", socket.AF_UNSPEC, 0)


@pytest.mark.parametrize(
    ("ancillary", "host"),
    [
        ([(socket.IPPROTO_IP, _IP_RECVERR, _extended(2, 3, 3, _V4))], "192.0.2.1"),
        ([(socket.IPPROTO_IPV6, _IPV6_RECVERR, _extended(3, 1, 4, _V6))], "2001:db8::1"),
        ([(socket.IPPROTO_IPV6, _IPV6_RECVERR, _extended(2, 3, 3, _MAPPED))], "192.0.2.1"),
        ([(socket.IPPROTO_IP, _IP_RECVERR, _extended(2, 3, 1, _V4))], None),
        ([(socket.IPPROTO_IP, _IP_RECVERR, _extended(2, 3, 0, _V4))], None),
        ([(socket.IPPROTO_IP, _IP_RECVERR, _extended(2, 3, 13, _V4))], None),
        ([(socket.IPPROTO_IP, _IP_RECVERR, _extended(2, 11, 3, _V4))], None),
        ([(socket.IPPROTO_IPV6, _IPV6_RECVERR, _extended(3, 1, 3, _V6))], None),
        ([(socket.IPPROTO_IP, _IP_RECVERR, _extended(1, 3, 3, _V4))], None),
        ([(socket.IPPROTO_IP, _IP_RECVERR, _extended(2, 3, 3, _NONE))], None),
        ([(socket.IPPROTO_IP, _IP_RECVERR, _extended(2, 3, 3, b""))], None),
        ([(socket.IPPROTO_IPV6, _IPV6_RECVERR, _extended(3, 1, 4, _V6[:12]))], None),
        ([(socket.IPPROTO_IP, _IP_RECVERR, b"short")], None),
        ([(socket.IPPROTO_IP, 8, _extended(2, 3, 3, _V4))], None),
        ([], None),
    ],
)
def test_only_an_unreachable_port_is_read_out_of_what_the_system_says(
    ancillary: Sequence[tuple[int, int, bytes]], host: str | None
) -> None:
    assert port_unreachable_by(ancillary) == host


# --- real sockets -------------------------------------------------------------------------------------------


async def _closed_port(host: str) -> Address:
    """Find a port of loopback that nobody has."""
    gone = await open_udp(host, 0)
    gone.close()
    return gone.address


async def _errors(sock: UdpSocket) -> list[PortError]:
    """Wait for the next errors."""
    with trio.fail_after(5):
        while True:
            await sock.wait_readable()
            assert sock.receive() == []
            if errors := sock.errors():
                return list(errors)


@LINUX
@pytest.mark.parametrize(("bound", "host"), [("127.0.0.1", "127.0.0.1"), ("::", "127.0.0.1"), ("::", "::1")])
async def test_the_kernel_says_that_nobody_has_a_port(bound: str, host: str) -> None:
    sock = await open_udp(bound, 0)
    sock.report_errors()
    nobody = await _closed_port(host)
    sock.send(b"x" * 100, nobody)
    assert await _errors(sock) == [PortError(nobody, host, b"x" * 100)]
    assert sock.errors() == ()
    sock.close()


@LINUX
async def test_the_quote_of_a_large_datagram_is_a_part_of_it() -> None:
    sock = await open_udp("127.0.0.1", 0)
    sock.report_errors()
    nobody = await _closed_port("127.0.0.1")
    sock.send(b"x" * 1000, nobody)
    [error] = await _errors(sock)
    assert 0 < len(error.quote) < 1000
    assert not _sent(b"x" * 1000, to=nobody).proves_gone(error)
    sock.close()


@LINUX
async def test_an_error_about_one_receiver_costs_another_one_no_datagram() -> None:
    sock, other = await open_udp("::", 0), await open_udp("127.0.0.1", 0)
    sock.report_errors()
    nobody = await _closed_port("127.0.0.1")
    for number in range(50):
        sock.send(b"nobody", nobody)
        sock.send(b"%d" % number, other.address)
    received: list[bytes] = []
    with trio.fail_after(5):
        while len(received) < 50:
            await other.wait_readable()
            received += [data for data, _ in other.receive()]
    assert received == [b"%d" % number for number in range(50)]
    assert "send_econnrefused" not in sock.counters
    sock.close()
    other.close()


@LINUX
async def test_errors_wake_a_process_once_and_not_again_and_again() -> None:
    sock = await open_udp("127.0.0.1", 0)
    sock.report_errors()
    nobody = await _closed_port("127.0.0.1")
    for _ in range(20):
        sock.send(b"x", nobody)
    await _errors(sock)
    with trio.move_on_after(0.2) as waited:
        await sock.wait_readable()
    assert waited.cancelled_caught
    sock.close()


async def test_who_did_not_ask_for_errors_gets_none() -> None:
    sock = await open_udp("127.0.0.1", 0)
    sock.send(b"x", await _closed_port("127.0.0.1"))
    with trio.move_on_after(0.1) as waited:
        await sock.wait_readable()
    assert waited.cancelled_caught
    assert sock.errors() == ()
    sock.close()
