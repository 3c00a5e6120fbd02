"""The UDP socket, which is drained after one wake-up, never blocks on a send, and survives every error.

A socket that is bound to all addresses of its host answers from the one where it was asked. The asker, and each
firewall on the way, expects an answer from there; by itself the system would take the address that is first on the
way back.
"""

import errno
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import Any, Final, NamedTuple, Protocol

import trio

from trioraft.address import Address
from trioraft.clock import LONG_AGO
from trioraft.datagrams.headers import Datagram
from trioraft.forks import keep_from_forks
from trioraft.messages import Instant

DATAGRAM_MAX: Final = 65535
BATCH_MAX: Final = 256
RECEIVE_BUFFER_BYTES: Final = 4 * 1024 * 1024
SEND_BUFFER_BYTES: Final = 1024 * 1024
_CACHED_MAX: Final = 4096

# Numbers of Linux for which Python 3.11 has no names.
_IP_MTU: Final = 14
_IPV6_MTU: Final = 24
_IP_PKTINFO: Final = 8
# The bytes that say where a datagram was sent to: a header of 16, and 20 that are padded.
_ANCILLARY_BYTES: Final = 40
# The headers of IP and UDP.
_HEADERS_V4: Final = 20 + 8
_HEADERS_V6: Final = 40 + 8
# The most that UDP over IPv4 carries, and what every path of IPv4 carries: 576 bytes with the headers.
_PATH_BYTES_MAX: Final = 65507
_PATH_BYTES_MIN: Final = 576 - _HEADERS_V4
# How long the limit of a path counts; the system learns of a narrower path when a router says so.
_PATH_LASTS: Final = 10.0
# A receiver that answers nothing for this long, although datagrams are sent to it all the time, may no longer be
# reached from the address where it asked; the system knows other ways.
_UNANSWERED_SECONDS: Final = 2.0
_BACKLOG: Final = frozenset({errno.EAGAIN, errno.EMSGSIZE, errno.ENOBUFS, errno.ENOMEM})


class DatagramSocket(Protocol):
    """The part of a socket that nodes, clients and monitors use.

    Attributes
    ----------
    address : Address
        Where it is bound.
    counters : Counter
        The errors met, by name: ``receive_…`` and ``send_…``.
    """

    address: Address
    counters: Counter[str]

    async def wait_readable(self) -> None:
        """Wait until there is something to receive."""

    def receive(self) -> list[Datagram]:
        """Receive the datagrams that are there, at most 256, without waiting."""

    def send(self, data: bytes, address: Address) -> None:
        """Send a datagram without waiting, or drop and count it."""

    def path_bytes(self, address: Address) -> int | None:
        """Return how large a datagram to an address may be; None where that is not known."""

    def close(self) -> None:
        """Close the socket."""


class _Remote:
    """The other end at an address, and the address of this host at which it was heard last."""

    __slots__ = ("address", "ancillary", "asked", "batch", "sent_at", "target", "unanswered_since")

    def __init__(self, address: Address, target: Any) -> None:
        self.address = address
        self.target = target  # its address, as the system wants it
        self.asked = b""  # where it was heard, as the system says it
        self.ancillary: tuple[tuple[int, int, bytes], ...] = ()  # what makes the system send from there
        self.batch = 0
        self.sent_at = self.unanswered_since = LONG_AGO

    def is_unanswered(self, now: Instant) -> bool:
        """Note that a datagram is sent, and check whether nothing has come back for some time."""
        if now - self.sent_at > _UNANSWERED_SECONDS:
            self.unanswered_since = now
        self.sent_at = now
        return now - self.unanswered_since > _UNANSWERED_SECONDS

    def turn_to(self, asked: bytes) -> None:
        """Note where it was heard; empty lets the system choose where to send from."""
        self.asked = asked
        self.ancillary = (_origin_at(asked),) if asked else ()


def _origin_at(asked: bytes) -> tuple[int, int, bytes]:
    """Make the ancillary data that sends from where a datagram arrived; it leaves the interface open."""
    if len(asked) == 12:  # the interface, the address of this host, what the datagram was sent to
        return socket.IPPROTO_IP, _IP_PKTINFO, bytes(4) + asked[4:8] + bytes(4)
    # The address and the interface, without which an address of one link means nothing.
    is_link_local = asked[0] == 0xFE and asked[1] & 0xC0 == 0x80
    return socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, asked[:16] + (asked[16:] if is_link_local else bytes(4))


class _PathLimit(NamedTuple):
    """The size of the largest datagram on a path, None where it is not known, and until when that counts."""

    size: int | None
    until: Instant


class UdpSocket:
    """A UDP socket of the system; :func:`open_udp` makes one.

    Parameters
    ----------
    bound : socket.socket
        A bound datagram socket, which is closed with this object.

    Attributes
    ----------
    address : Address
        Where it is bound.
    counters : Counter
        The errors met, by name in lower case: ``receive_…`` and ``send_…``, such as ``send_enetunreach``.
        ``send_eagain`` means that the send buffer was full.
    """

    def __init__(self, bound: socket.socket) -> None:
        bound.setblocking(False)
        self._socket = bound
        self.counters: Counter[str] = Counter()
        # Kept because looking an address up costs more than sending to it.
        self._by_source: dict[Any, _Remote] = {}
        self._remotes: dict[Address, _Remote] = {}
        self._paths: dict[Address, _PathLimit] = {}
        self.address = Address.of_sockaddr(bound.getsockname())
        self._ancillary_bytes = _tell_where_asked(bound) if self.address.host in {"0.0.0.0", "::"} else 0  # noqa: S104
        self._batch = 0
        self._held: list[tuple[bytes, bytes, Any]] = []

    async def wait_readable(self) -> None:
        """Wait until there is something to receive.

        Raises
        ------
        trio.ClosedResourceError
            If the socket is closed meanwhile.
        """
        if self._held:
            await trio.lowlevel.checkpoint()
        else:
            await trio.lowlevel.wait_readable(self._socket)

    def receive(self) -> list[Datagram]:
        """Receive the datagrams that are there, without waiting.

        Datagrams that one sender has sent to different addresses of this host are not returned at once: the answers
        to the first ones are sent before the next ones are returned, and so from the right address.

        Returns
        -------
        list of (bytes, Address)
            At most 256 datagrams and where they came from; empty when there is nothing, or only errors.
        """
        received: list[Datagram] = []
        self._batch = batch = self._batch + 1
        held, self._held = self._held, []
        for data, asked, source in chain(held, self._read(BATCH_MAX - len(held))):
            remote = self._by_source.get(source) or self._heard_of(source)
            if asked != remote.asked:
                if remote.batch == batch:
                    self._held.append((data, asked, source))
                    continue
                remote.turn_to(asked)
            remote.batch = batch
            remote.sent_at = LONG_AGO
            received.append((data, remote.address))
        return received

    def _read(self, most: int) -> Iterator[tuple[bytes, bytes, Any]]:
        """Read datagrams: the bytes, the address of this host at which they arrived, and where they came from."""
        for _ in range(most):
            try:
                data, ancillary, _flags, source = self._socket.recvmsg(DATAGRAM_MAX, self._ancillary_bytes)
            except BlockingIOError:
                break
            except OSError as error:
                self._count("receive", error)
                continue
            yield data, ancillary[0][2] if ancillary else b"", source

    def send(self, data: bytes, address: Address) -> None:
        """Send a datagram without waiting. One that cannot be sent is dropped and counted.

        Where this socket is bound to several addresses, it leaves from the one at which the receiver was heard last.

        Parameters
        ----------
        data : bytes
            The datagram.
        address : Address
            Where it goes.
        """
        try:
            remote = self._remotes.get(address) or self._remote_at(address)
            if not remote.ancillary or not self._sends_from_there(data, remote):
                self._socket.sendto(data, remote.target)
        except OSError as error:
            self._count("send", error)
            if error.errno == errno.EMSGSIZE:
                self._narrow(address, len(data))

    def _sends_from_there(self, data: bytes, remote: _Remote) -> bool:
        """Send from where the receiver was heard; where that cannot be done, let the system choose from now on."""
        if not remote.is_unanswered(time.monotonic()):
            try:
                self._socket.sendmsg((data,), remote.ancillary, 0, remote.target)
            except OSError as error:
                if error.errno in _BACKLOG:
                    raise
            else:
                return True
        remote.turn_to(b"")  # that address is not this host's any more, or leads nowhere
        return False

    def path_bytes(self, address: Address) -> int | None:
        """Return how large a datagram to an address may be.

        The system is asked for the MTU of the path, which counts for 10 s. A datagram that the system has refused as
        too large makes it smaller.

        Parameters
        ----------
        address : Address
            The address.

        Returns
        -------
        int or None
            The size in bytes, without the headers of IP and UDP; None where the system does not know it.
        """
        now = time.monotonic()
        known = self._paths.get(address)
        if known is not None and now < known.until:
            return known.size
        if len(self._paths) >= _CACHED_MAX:
            self._paths.clear()
        path_bytes = _ask_path_bytes(address)
        self._paths[address] = _PathLimit(path_bytes, now + _PATH_LASTS)
        return path_bytes

    def _narrow(self, address: Address, refused: int) -> None:
        """Note that a datagram of a given size is too large for a path."""
        told = _ask_path_bytes(address)
        smaller = told if told is not None and told < refused else refused * 3 // 4
        self._paths[address] = _PathLimit(max(smaller, _PATH_BYTES_MIN), time.monotonic() + 6 * _PATH_LASTS)

    def close(self) -> None:
        """Close the socket; a task that waits for it gets :class:`trio.ClosedResourceError`."""
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()

    def _count(self, doing: str, error: OSError) -> None:
        name = errno.errorcode.get(error.errno or 0, type(error).__name__)
        self.counters[f"{doing}_{name.lower()}"] += 1

    def _heard_of(self, source: Any) -> _Remote:
        address = Address.of_sockaddr(source)
        self._by_source[source] = remote = self._remotes.get(address) or self._remember(_Remote(address, source))
        return remote

    def _remote_at(self, address: Address) -> _Remote:
        # The host is numeric, so no name is ever looked up here; an IPv6 socket reaches IPv4 at ::ffff:0:0/96.
        flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV | socket.AI_V4MAPPED
        found = socket.getaddrinfo(address.host, address.port, self._socket.family, socket.SOCK_DGRAM, flags=flags)
        return self._remember(_Remote(address, found[0][4]))

    def _remember(self, remote: _Remote) -> _Remote:
        if len(self._remotes) >= _CACHED_MAX:
            self._remotes.clear()
            self._by_source.clear()
        self._remotes[remote.address] = remote
        return remote


def _tell_where_asked(bound: socket.socket) -> int:
    """Make the system say with each datagram where it was sent to, and return how many bytes that takes."""
    if sys.platform != "linux":
        return 0
    if bound.family == socket.AF_INET6:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        bound.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    return _ANCILLARY_BYTES


def _ask_path_bytes(address: Address) -> int | None:
    """Ask the system for the MTU of the path to an address, which it says of connected sockets only."""
    if sys.platform != "linux":
        return None
    is_v6 = ":" in address.host
    family, headers = (socket.AF_INET6, _HEADERS_V6) if is_v6 else (socket.AF_INET, _HEADERS_V4)
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address.host, address.port))
            mtu = probe.getsockopt(*(socket.IPPROTO_IPV6, _IPV6_MTU) if is_v6 else (socket.IPPROTO_IP, _IP_MTU))
    except OSError:
        return None
    return min(max(mtu - headers, _PATH_BYTES_MIN), _PATH_BYTES_MAX)


async def open_udp(host: str, port: int) -> UdpSocket:
    """Bind a UDP socket.

    Parameters
    ----------
    host : str
        An address of this machine, or its name. ``::`` stands for all addresses, those of IPv4 too, and becomes
        ``0.0.0.0`` on a system without IPv6.
    port : int
        The port; 0 takes a free one.

    Returns
    -------
    UdpSocket
        The socket.

    Raises
    ------
    OSError
        If the address cannot be bound; the text says in one line which and why.
    """
    try:
        return await _bind(host, port)
    except OSError as error:
        if host == "::" and error.errno in {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}:
            return await open_udp("0.0.0.0", port)  # noqa: S104 - the caller asked for all interfaces
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        raise OSError(error.errno, f"cannot bind the UDP socket {where}: {error.strerror or error}") from error


async def _bind(host: str, port: int) -> UdpSocket:
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    bound = socket.socket(family, kind, protocol)
    try:
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != "::")
        # The system grants as much as it allows. Room for a burst matters: a paused process finds all of it at once.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        keep_from_forks(bound)
        bound.bind(address)
        return UdpSocket(bound)
    except BaseException:
        bound.close()
        raise
