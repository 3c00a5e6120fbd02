"""Which requests are not taken, because a browser may have been made to send them.

Any web page can have a browser post JSON to an address of its user's network, loopback included. Such a request names
the page in ``Origin``. A page whose name was made to point at such an address (DNS rebinding) need not; but its own
name is in ``Host`` then, so only addresses and names that are known are taken there.
"""

import ipaddress
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Final

_OWN: Final = frozenset({"localhost"})


class Guard:
    """Decides which requests are taken.

    Parameters
    ----------
    cors : tuple of str
        The origins that may ask; ``*`` for all.
    hosts : tuple of str
        Names, beside addresses and those of `known`, by which this node may be asked; ``*.example.org`` for all under
        one, ``*`` for any.
    known : iterable of str
        Names that this node goes by.
    """

    def __init__(self, cors: tuple[str, ...], hosts: tuple[str, ...], known: Iterable[str] = ()) -> None:
        self._cors = frozenset(cors)
        self._hosts = hosts
        self._known = {name.lower() for name in known} | _OWN
        self._taken: dict[str, bool] = {}

    def allows_origin(self, origin: str) -> bool:
        """Check whether pages of an origin may ask.

        Parameters
        ----------
        origin : str
            The header.

        Returns
        -------
        bool
            Whether they may.
        """
        return "*" in self._cors or origin.lower().rstrip("/") in self._cors

    def why_not(self, headers: dict[str, str]) -> str:
        """Return why a request is not taken.

        Parameters
        ----------
        headers : dict of str to str
            Its headers.

        Returns
        -------
        str
            The reason; empty where it is taken.
        """
        origin = headers.get("origin")
        if origin is not None and not self.allows_origin(origin):
            return f"requests of the origin {origin[:100]!r} are not taken: CLIENT_CORS does not name it"
        host = headers.get("host", "")
        taken = self._taken.get(host)
        if taken is None:
            taken = self._takes(host)
            if len(self._taken) < 1000:
                self._taken[host] = taken
        if not taken:
            return f"the name {host[:100]!r} in the header Host is not known: CLIENT_HOSTS does not name it"
        return ""

    def _takes(self, host: str) -> bool:
        name = host_name(host)
        if not name:
            return True  # HTTP/1.0; a browser always names it
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._known or any(fnmatchcase(name, pattern) for pattern in self._hosts)
        return True


def host_name(host: str) -> str:
    """Return the name or address of a header ``Host``, without the port and in lower case."""
    name = host.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0].partition("%")[0]
    return name.partition(":")[0].rstrip(".")
