"""UDP addresses, and host names with ports."""

import ipaddress
import socket
from contextlib import suppress
from typing import Any, NamedTuple, Self


def is_loopback(host: str) -> bool:
    """Check whether what is sent to an address never leaves this machine.

    Parameters
    ----------
    host : str
        A numeric address. One that stands for all addresses of a machine is no loopback address.

    Returns
    -------
    bool
        Whether it is one of 127.0.0.0/8 or ``::1``.
    """
    return ipaddress.ip_address(Address.of(host, 1).host).is_loopback


class Address(NamedTuple):
    """A numeric UDP address.

    Attributes
    ----------
    host : str
        An IPv4 or IPv6 address in its shortest form, with the zone (``%eth0``) where there is one.
    port : int
        The UDP port, 1 to 65535.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def of(cls, host: str, port: int) -> Self:
        """Make an address in its one canonical form.

        An IPv4 address that a dual-stack socket shows as ``::ffff:192.0.2.1`` becomes ``192.0.2.1``, so that
        equal addresses compare equal. The zone ``%2`` becomes ``%eth0``, if that is the name of the interface.

        Parameters
        ----------
        host : str
            A numeric address.
        port : int
            The UDP port.

        Returns
        -------
        Address
            The address.

        Raises
        ------
        ValueError
            If `host` is not numeric.
        """
        ip = ipaddress.ip_address(host)
        if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        if isinstance(ip, ipaddress.IPv6Address) and ip.scope_id is not None and ip.scope_id.isdecimal():
            with suppress(OSError, OverflowError):
                zone = socket.if_indextoname(int(ip.scope_id))
                return cls(f"{str(ip).partition('%')[0]}%{zone}", port)
        return cls(str(ip), port)

    @classmethod
    def of_sockaddr(cls, sockaddr: Any) -> Self:
        """Make an address from the form in which sockets have it.

        Parameters
        ----------
        sockaddr : tuple
            An address of ``AF_INET`` or ``AF_INET6``; the latter names the interface where it is good on one only.

        Returns
        -------
        Address
            The address.
        """
        host, port, *rest = sockaddr
        scope = rest[1] if rest else 0
        return cls.of(f"{host}%{scope}" if scope and "%" not in host else host, port)


class PeerName(NamedTuple):
    """A host that may have to be looked up, and a UDP port; one item of ``PEERS``.

    Attributes
    ----------
    host : str
        A host name, or an IPv4 or IPv6 address (without brackets).
    port : int
        The UDP port.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
