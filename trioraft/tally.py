"""Counts what each client and each address has of something, so that nobody has all of it.

A client is a process, known by a random id that it chooses itself. Somebody who makes many clients in order to have
more reaches the limit of their address. Many clients may be behind one address, because a proxy or a translation of
addresses gives it to all of them; so an address may have far more than a client, and never all.
"""

import ipaddress
from collections import Counter
from functools import lru_cache
from typing import Final, NamedTuple, Self, TypeVar

# A host that has one IPv6 address usually has all that begin with the same bits.
_SITE_BITS: Final = 64

_T = TypeVar("_T", bytes, str)


class Asker(NamedTuple):
    """The client that asks for something, as far as it is counted.

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
        """Make the asker of a process at an address.

        Parameters
        ----------
        host : str
            Its numeric address.
        process : bytes
            Its random id.

        Returns
        -------
        Asker
            The asker.
        """
        return cls(process, _site(host))


@lru_cache(maxsize=4096)
def _site(host: str) -> str:
    if ":" not in host:
        return host
    return str(ipaddress.ip_network((host.partition("%")[0], _SITE_BITS), strict=False))


class Limit(NamedTuple):
    """A limit that somebody has passed, or :data:`NO_LIMIT`.

    Attributes
    ----------
    text : str
        The limit, in words; empty where none is passed.
    is_own : bool
        Whether it is the limit of the client, and not that of its address.
    """

    text: str
    is_own: bool


NO_LIMIT: Final = Limit("", is_own=False)


class Tally:
    """The number of things of one kind that each client and each address has."""

    def __init__(self) -> None:
        self.total = 0
        self._of_process: Counter[bytes] = Counter()
        self._of_site: Counter[str] = Counter()

    def add(self, who: Asker) -> None:
        """Count one more of a client."""
        self.total += 1
        self._of_process[who.process] += 1
        self._of_site[who.site] += 1

    def remove(self, who: Asker) -> None:
        """Count one less of a client that has some."""
        self.total -= 1
        _take_one(self._of_process, who.process)
        _take_one(self._of_site, who.site)

    def why_none(self, who: Asker, what: str, of_one: int, of_site: int) -> Limit:
        """Find the limit that a client has passed by what was counted.

        Parameters
        ----------
        who : Asker
            The client.
        what : str
            The name of the things in the plural, and where they are.
        of_one, of_site : int
            The most that one client may have, and all clients at one address.

        Returns
        -------
        Limit
            The limit.
        """
        if self._of_process[who.process] > of_one:
            text = f"this client has {of_one} {what}, the most that one client may have"
            return Limit(f"{text}: end some, or use more clients", is_own=True)
        if self._of_site[who.site] > of_site:
            text = f"the clients at {who.site or 'this node'} have {of_site} {what}, the most for one address"
            return Limit(f"{text}: end some, or try again", is_own=False)
        return NO_LIMIT


def _take_one(counter: Counter[_T], key: _T) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
