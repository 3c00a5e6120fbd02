"""Whose requests the monitor answers, and how many at once.

A page of somebody else, open in a browser that reaches the monitor, must learn nothing from it. That browser keeps
answers from the page as long as their origins differ; but the name in the page's address belongs to its owner, who
can let it point to the monitor meanwhile (DNS rebinding). Such a request carries that name in ``Host``, so only names
that are the monitor's are answered. Requests that a browser says another site has made are refused as well: nothing
in the answer would reach that site, but each of its streams of events would take one from somebody else.
"""

import ipaddress
import re
import socket
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

from msgspec import Struct

from monitor.connections import Connection, present
from monitor.notices import Notice

REQUESTS_MAX: Final = 256
STREAMS_MAX: Final = 100
RETRY_AFTER: Final = 5  # seconds
_AUTHORITY: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:/@\[\]\s]+)(:[0-9]*)?")
_SHOWN_MAX: Final = 100  # characters of a name that a log line repeats


class Refusal(Struct, frozen=True):
    """Why a request is not answered.

    Attributes
    ----------
    status : http.HTTPStatus
        The status to answer with.
    text : str
        One line for whoever asked.
    retry_after : int or None
        After how many seconds it may be tried again; None when that would not help.
    """

    status: HTTPStatus
    text: str
    retry_after: int | None = None


class Hosts:
    """The names under which the monitor may be asked.

    Addresses are always among them, for nobody can let an address point elsewhere.

    Parameters
    ----------
    allowed : iterable of str
        Further names; ``*.example.org`` for all names under one, ``*`` for any.
    hostname : str
        The monitor's name for people (``HOSTNAME``).
    """

    def __init__(self, allowed: Iterable[str], hostname: str) -> None:
        own = socket.gethostname().casefold()
        self._names = {"localhost", own, own.partition(".")[0], hostname.casefold()}
        self._parents = [".localhost"]
        for name in allowed:
            if name.startswith("*"):
                self._parents.append(name[1:])
            else:
                self._names.add(name)

    def has(self, authority: str) -> bool:
        """Look whether a request for a host is meant for the monitor.

        Parameters
        ----------
        authority : str
            The host, with or without a port, as ``Host`` has it.

        Returns
        -------
        bool
            Whether it is one of the names, or an address.
        """
        found = _AUTHORITY.fullmatch(authority)
        if found is None:
            return False
        name = found[1].casefold().removesuffix(".")
        if not name:
            return False
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return name in self._names or any(name.endswith(parent) for parent in self._parents)
        return True


class Admission:
    """Decides about requests before the application sees them.

    Parameters
    ----------
    hosts : Hosts
        The names of the monitor.
    requests : int
        How many requests may be under way beside the streams of events.
    """

    def __init__(self, hosts: Hosts, requests: int) -> None:
        self._hosts = hosts
        self._requests_max = requests
        self._requests = 0
        self.streams_max = max(1, min(STREAMS_MAX, requests // 2))
        self._streams: dict[int, Connection | None] = {}
        self._misdirected = Notice("a request for a host that is not the monitor was refused")

    def refusal(self, scope: Mapping[str, Any]) -> Refusal | None:
        """Look whether a request may be answered.

        Parameters
        ----------
        scope : mapping
            The request, as ASGI has it.

        Returns
        -------
        Refusal or None
            None when it may be.
        """
        headers: dict[bytes, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value.decode("latin-1").strip())
        hosts = headers.get(b"host", [])
        if not scope["path"].startswith("/"):  # a request as proxies get them names a host of its own
            hosts.append(_host_of(scope["path"]))
        # Only HTTP/1.0 has requests without a host. Browsers do not speak it, the checks of load balancers do.
        strange = [host for host in hosts if not self._hosts.has(host)]
        if strange or not (hosts or scope["http_version"] == "1.0"):
            host = strange[0][:_SHOWN_MAX] if strange else ""
            self._misdirected.write(host=ascii(host), hint="names of the monitor go into ALLOWED_HOSTS")
            return Refusal(
                HTTPStatus.MISDIRECTED_REQUEST,
                "This host is not one of the monitor's. If it should be, set ALLOWED_HOSTS for the monitor.",
            )
        if self._is_of_another_site(headers):
            return Refusal(HTTPStatus.FORBIDDEN, "The monitor does not answer requests that another site makes.")
        return None

    def _is_of_another_site(self, headers: dict[bytes, list[str]]) -> bool:
        sites, modes = headers.get(b"sec-fetch-site", []), headers.get(b"sec-fetch-mode", [])
        if {"cross-site", "same-site"} & set(sites) and modes != ["navigate"]:
            return True  # to follow a link from there is no harm
        return any(not self._hosts.has(_host_of(origin)) for origin in headers.get(b"origin", []))

    def enter(self) -> Refusal | None:
        """Begin a request; :meth:`leave` ends it, unless it is refused."""
        if self._requests - len(self._streams) >= self._requests_max:
            return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "The monitor answers too many requests at present.", 1)
        self._requests += 1
        return None

    def leave(self, scope: object) -> None:
        """End a request, and its stream of events if it had one."""
        self._requests -= 1
        connection = self._streams.pop(id(scope), None)
        if connection is not None:
            connection.streams -= 1

    def open_stream(self, scope: object) -> Refusal | None:
        """Let a request become a stream of events, for as long as it lasts."""
        if len(self._streams) >= self.streams_max:
            text = f"The monitor has {self.streams_max} listeners already. Ask again later, or ask for documents."
            return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, text, RETRY_AFTER)
        connection = self._streams[id(scope)] = present.get()
        if connection is not None:
            connection.streams += 1
        return None


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).netloc
    except ValueError:
        return ""
