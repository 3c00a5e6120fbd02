"""The requests that the monitor answers, and how many at once.

A page of another site, open in a browser that reaches the monitor, must learn nothing from it. The browser keeps
answers from the page as long as their origins differ. But the owner of that site owns the name in the page's address
too, and can let it point to the monitor meanwhile (DNS rebinding). Such a request has that name in ``Host``, so the
monitor answers only requests for its own names. It also refuses requests that come from another site according to the
browser: nothing in the answer would reach that site, but each of its streams of events would take the place of
another one.
"""

import ipaddress
import re
import socket
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

from msgspec import Struct

from .connections import Connection, present
from .notices import Notice

REQUESTS_MAX: Final = 256
STREAMS_MAX: Final = 100
RETRY_AFTER: Final = 5  # seconds
_AUTHORITY: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:/@\[\]\s]+)(:[0-9]*)?")
_SHOWN_MAX: Final = 100  # characters of a name in a log line


class Refusal(Struct, frozen=True):
    """The refusal of a request.

    Attributes
    ----------
    status : http.HTTPStatus
        The status of the answer.
    text : str
        The reason, in one line.
    retry_after : int or None
        The seconds after which to try again; None when that would not help.
    """

    status: HTTPStatus
    text: str
    retry_after: int | None = None


class Hosts:
    """The names of the monitor.

    Addresses are always among them, because nobody can let an address point elsewhere.

    Parameters
    ----------
    allowed : iterable of str
        Further names; ``*.example.org`` stands for all names under one, ``*`` for any.
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
        """Check whether a host is the monitor.

        Parameters
        ----------
        authority : str
            The host, with or without a port, as ``Host`` has it.

        Returns
        -------
        bool
            Whether it is a name of the monitor, or an address.
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
    """The admission of requests, before the application sees them.

    Parameters
    ----------
    hosts : Hosts
        The names of the monitor.
    requests : int
        The number of requests that may be under way beside the streams of events.
    """

    def __init__(self, hosts: Hosts, requests: int) -> None:
        self._hosts = hosts
        self._requests_max = requests
        self._requests = 0
        self.streams_max = max(1, min(STREAMS_MAX, requests // 2))
        self._streams: dict[int, Connection | None] = {}
        self._misdirected = Notice("a request for a host that is not the monitor was refused")

    def refusal(self, scope: Mapping[str, Any]) -> Refusal | None:
        """Check whether the monitor answers a request.

        Parameters
        ----------
        scope : mapping
            The request, as ASGI has it.

        Returns
        -------
        Refusal or None
            The refusal; None for a request that is answered.
        """
        headers: dict[bytes, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value.decode("latin-1").strip())
        hosts = headers.get(b"host", [])
        if not scope["path"].startswith("/"):  # a request in the form for proxies names a host in its path
            hosts.append(_host_of(scope["path"]))
        # Only HTTP/1.0 has requests without a host. Browsers do not speak it, the health checks of load balancers do.
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
            return True  # a link from there may be followed
        return any(not self._hosts.has(_host_of(origin)) for origin in headers.get(b"origin", []))

    def enter(self) -> Refusal | None:
        """Count a request that begins, or refuse it; :meth:`leave` counts its end."""
        if self._requests - len(self._streams) >= self._requests_max:
            return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "The monitor answers too many requests at present.", 1)
        self._requests += 1
        return None

    def leave(self, scope: object) -> None:
        """Count the end of a request, and of its stream of events if it had one."""
        self._requests -= 1
        connection = self._streams.pop(id(scope), None)
        if connection is not None:
            connection.streams -= 1

    def open_stream(self, scope: object) -> Refusal | None:
        """Count a request as a stream of events, for as long as it lasts, or refuse it."""
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
