"""The UDP socket: drained after one wake-up, never blocked by a send, survivor of every error."""

import errno
import socket
import sys
import time
from collections import Counter
from typing import Any, Final, Protocol

import trio

from trioraft.address import Address

DATAGRAM_MAX: Final = 65535
BATCH_MAX: Final = 256
RECEIVE_BUFFER_BYTES: Final = 4 * 1024 * 1024
SEND_BUFFER_BYTES: Final = 1024 * 1024
_CACHED_MAX: Final = 4096

# Linux's numbers, for which Python 3.11 has no names; and what the headers of IP and UDP take.
_IP_MTU: Final = 14
_IPV6_MTU: Final = 24
_HEADERS_V4: Final = 20 + 8
_HEADERS_V6: Final = 40 + 8
# UDP over IPv4 carries so many bytes; every path of IPv4 carries datagrams of 576 bytes with their headers.
_PATH_BYTES_MAX: Final = 65507
_PATH_BYTES_MIN: Final = 576 - _HEADERS_V4
# The system learns of a narrower path when a router says so.
_PATH_LASTS: Final = 10.0


class DatagramSocket(Protocol):
    """What a node, client or monitor needs of a socket.

    Attributes
    ----------
    address : Address
        Where it is bound.
    counters : Counter
        ``receive_…`` and ``send_…`` for each error met, by its name.
    """

    address: Address
    counters: Counter[str]

    async def wait_readable(self) -> None:
        """Wait until there is something to receive."""

    def receive(self) -> list[tuple[bytes, Address]]:
        """Take what is there, at most 256 datagrams, without waiting."""

    def send(self, data: bytes, address: Address) -> None:
        """Send a datagram without waiting, or drop and count it."""

    def path_bytes(self, address: Address) -> int | None:
        """Tell how large a datagram to an address may be, None where that is not known."""

    def close(self) -> None:
        """Close the socket."""


class UdpSocket:
    """A UDP socket of the system; :func:`open_udp` makes one.

    Parameters
    ----------
    bound : socket.socket
        A bound datagram socket; closed with this object.

    Attributes
    ----------
    address : Address
        Where it is bound.
    counters : Counter
        ``receive_…`` and ``send_…`` for each error met, by its name in lower case, such as ``send_enetunreach``.
        ``send_eagain`` means that the send buffer was full.
    """

    def __init__(self, bound: socket.socket) -> None:
        bound.setblocking(False)
        self._socket = bound
        self.counters: Counter[str] = Counter()
        # Looking an address up costs more than sending to it.
        self._known: dict[Any, Address] = {}
        self._targets: dict[Address, Any] = {}
        self._paths: dict[Address, tuple[int | None, float]] = {}
        self.address = self._address_of(bound.getsockname())

    async def wait_readable(self) -> None:
        """Wait until there is something to receive.

        Raises
        ------
        trio.ClosedResourceError
            If the socket is closed meanwhile.
        """
        await trio.lowlevel.wait_readable(self._socket)

    def receive(self) -> list[tuple[bytes, Address]]:
        """Take what is there, without waiting.

        Returns
        -------
        list of (bytes, Address)
            At most 256 datagrams and where they came from; empty when nothing is there, or only errors.
        """
        received: list[tuple[bytes, Address]] = []
        for _ in range(BATCH_MAX):
            try:
                data, source = self._socket.recvfrom(DATAGRAM_MAX)
            except BlockingIOError:
                break
            except OSError as error:
                self._count("receive", error)
                continue
            received.append((data, self._known.get(source) or self._address_of(source)))
        return received

    def send(self, data: bytes, address: Address) -> None:
        """Send a datagram without waiting; what cannot be sent is dropped and counted.

        Parameters
        ----------
        data : bytes
            The datagram.
        address : Address
            Where it goes.
        """
        try:
            self._socket.sendto(data, self._targets.get(address) or self._target_of(address))
        except OSError as error:
            self._count("send", error)
            if error.errno == errno.EMSGSIZE:
                self._narrow(address, len(data))

    def path_bytes(self, address: Address) -> int | None:
        """Tell how large a datagram to an address may be.

        Asks the system for the path's MTU, and remembers that for 10 s. A datagram that the system refused as too
        large makes it smaller.

        Parameters
        ----------
        address : Address
            Where it would go.

        Returns
        -------
        int or None
            Bytes, without the headers of IP and UDP; None where the system does not tell.
        """
        known, until = self._paths.get(address, (None, float("-inf")))
        now = time.monotonic()
        if now < until:
            return known
        if len(self._paths) >= _CACHED_MAX:
            self._paths.clear()
        path_bytes = _ask_path_bytes(address)
        self._paths[address] = (path_bytes, now + _PATH_LASTS)
        return path_bytes

    def _narrow(self, address: Address, refused: int) -> None:
        """Note that a datagram of so many bytes is too large for a path."""
        told = _ask_path_bytes(address)
        smaller = told if told is not None and told < refused else refused * 3 // 4
        self._paths[address] = (max(smaller, _PATH_BYTES_MIN), time.monotonic() + 6 * _PATH_LASTS)

    def close(self) -> None:
        """Close the socket; who waits for it gets :class:`trio.ClosedResourceError`."""
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()

    def _count(self, doing: str, error: OSError) -> None:
        name = errno.errorcode.get(error.errno or 0, type(error).__name__)
        self.counters[f"{doing}_{name.lower()}"] += 1

    def _address_of(self, source: Any) -> Address:
        if len(self._known) >= _CACHED_MAX:
            self._known.clear()
        self._known[source] = address = Address.of(source[0], source[1])
        return address

    def _target_of(self, address: Address) -> Any:
        if len(self._targets) >= _CACHED_MAX:
            self._targets.clear()
        # Numeric only, so no name is ever looked up here; an IPv6 socket reaches IPv4 at ::ffff:0:0/96.
        flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV | socket.AI_V4MAPPED
        found = socket.getaddrinfo(address.host, address.port, self._socket.family, socket.SOCK_DGRAM, flags=flags)
        self._targets[address] = target = found[0][4]
        return target


def _ask_path_bytes(address: Address) -> int | None:
    """Ask the system for the MTU of the path to an address; it tells that of connected sockets only."""
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
        An address of this machine, or a name of one. ``::`` means all, IPv4 too; it becomes ``0.0.0.0`` on a
        system without IPv6.
    port : int
        The port; 0 takes a free one.

    Returns
    -------
    UdpSocket
        The socket.

    Raises
    ------
    OSError
        If that cannot be bound; the text says where and why, in one line.
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
        # The system gives what it allows. Room for a burst matters: a paused process finds all of it at once.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        bound.bind(address)
        return UdpSocket(bound)
    except BaseException:
        bound.close()
        raise
