"""Where a datagram comes from or goes to."""

import ipaddress
from typing import NamedTuple, Self


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
        equal addresses compare equal.

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
        return cls(str(ip), port)
