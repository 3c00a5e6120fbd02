"""Counting what each client has, and each address, so that none of them has all there is for all.

A client is a process by its random id, which it chooses itself: whoever wants to have more makes more of them, and so
comes to the bound of its address. Many clients may be behind one address, which a proxy or a translation of addresses
gives all of them; so an address may have far more than a client, and never all.
"""

import ipaddress
from collections import Counter
from functools import lru_cache
from typing import Final, NamedTuple, Self, TypeVar

# Whoever has one IPv6 address has as many as begin with the same bits.
_SITE_BITS: Final = 64

_T = TypeVar("_T", bytes, str)


class Asker(NamedTuple):
    """Who asks for something, as far as it is counted.

    Attributes
    ----------
    process : bytes
        The random id of its process.
    site : str
        Its address, without the port; of an IPv6 address the first half.
    """

    process: bytes
    site: str

    @classmethod
    def at(cls, host: str, process: bytes) -> Self:
        """Tell who a process at an address is.

        Parameters
        ----------
        host : str
            Its numeric address.
        process : bytes
            Its random id.

        Returns
        -------
        Asker
            Who it is.
        """
        return cls(process, _site(host))


@lru_cache(maxsize=4096)
def _site(host: str) -> str:
    if ":" not in host:
        return host
    return str(ipaddress.ip_network((host.partition("%")[0], _SITE_BITS), strict=False))


class Tally:
    """Counts how many things of one kind each client and each address has."""

    def __init__(self) -> None:
        self.total = 0
        self._of_process: Counter[bytes] = Counter()
        self._of_site: Counter[str] = Counter()

    def add(self, who: Asker) -> None:
        """Count one more."""
        self.total += 1
        self._of_process[who.process] += 1
        self._of_site[who.site] += 1

    def remove(self, who: Asker) -> None:
        """Count one less of somebody who has some."""
        self.total -= 1
        _take_one(self._of_process, who.process)
        _take_one(self._of_site, who.site)

    def why_none(self, who: Asker, what: str, of_one: int, of_site: int) -> tuple[str, bool]:
        """Tell why somebody may not have what was counted.

        Parameters
        ----------
        who : Asker
            Who has it.
        what : str
            What it is called, and where it is.
        of_one, of_site : int
            How many one client may have, and all clients at one address.

        Returns
        -------
        tuple of str and bool
            Which limit is passed, empty where none is; and whether it is that of the client.
        """
        if self._of_process[who.process] > of_one:
            text = f"this client has {of_one} {what}, the most that one client may have"
            return f"{text}: end some, or use more clients", True
        if self._of_site[who.site] > of_site:
            text = f"the clients at {who.site or 'this node'} have {of_site} {what}, the most for one address"
            return f"{text}: end some, or try again", False
        return "", False


def _take_one(counter: Counter[_T], key: _T) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
