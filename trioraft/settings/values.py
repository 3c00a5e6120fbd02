"""Parsers and checks for the text of an environment variable.

A *parser* turns text into a value and touches nothing; a *check* looks at the file system. Both raise
:class:`ValueError` with the reason alone; :mod:`trioraft.settings.variables` adds variable, value and what is
allowed.
"""

import ipaddress
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from trioraft.address import Address, PeerName

_LABEL: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_URL_PATH: Final = re.compile(r"(/[A-Za-z0-9._~-]+)*/?")
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+")


# --- parsers ------------------------------------------------------------------------------------------------


def whole_number(lowest: int, highest: int) -> Callable[[str], int]:
    """Return a parser for whole numbers.

    Parameters
    ----------
    lowest, highest : int
        The range, both ends included.

    Returns
    -------
    callable
        The parser.
    """

    def parse(text: str) -> int:
        # int() also takes "1_000", " 7 " and digits of other scripts.
        if not re.fullmatch(r"-?[0-9]+", text):
            raise ValueError("not a whole number")
        digits = text.lstrip("-").lstrip("0")
        if len(digits) > 18 or (value := int(text)) > highest:
            raise ValueError("too small" if text.startswith("-") else "too large")
        if value < lowest:
            raise ValueError("too small")
        return value

    return parse


def milliseconds(lowest: int, highest: int) -> Callable[[str], float]:
    """Return a parser for durations in milliseconds.

    Parameters
    ----------
    lowest, highest : int
        The range in milliseconds, both ends included.

    Returns
    -------
    callable
        The parser, whose values are seconds.
    """
    parse = whole_number(lowest, highest)
    return lambda text: parse(text) / 1000


def one_of(*choices: str, fold: Callable[[str], str] = str) -> Callable[[str], str]:
    """Return a parser for one of some words.

    Parameters
    ----------
    *choices : str
        The words.
    fold : callable, optional
        A function to apply to the text first, for instance ``str.upper``.

    Returns
    -------
    callable
        The parser.
    """

    def parse(text: str) -> str:
        if (folded := fold(text)) not in choices:
            raise ValueError("unknown")
        return folded

    return parse


def true_or_false(text: str) -> bool:
    """Parse a switch.

    Parameters
    ----------
    text : str
        ``true`` or ``false``, in any case.

    Returns
    -------
    bool
        Whether it is ``true``.
    """
    return one_of("true", "false", fold=str.lower)(text) == "true"


def free_text(text: str) -> str:
    """Parse any text that can be printed."""
    if len(text) > 10_000:
        raise ValueError("too long")
    if not text.replace("\n", "").replace("\t", "").isprintable():
        raise ValueError("has characters that cannot be printed")
    return text


def email(text: str) -> str:
    """Parse an e-mail address."""
    if len(text) > 254 or not _EMAIL.fullmatch(text) or not text.isprintable():
        raise ValueError("not an e-mail address")
    return text


def host_name(text: str) -> str:
    """Parse a DNS name, relative or absolute; SRV labels such as ``_raft`` are allowed."""
    labels = text.removesuffix(".").split(".")
    if len(text) > 253:
        raise ValueError("longer than 253 characters")
    for label in labels:
        if not label.strip():
            raise ValueError("empty, or has an empty part")
        if len(label) > 63:
            raise ValueError("has a part longer than 63 characters")
        if not _LABEL.fullmatch(label):
            raise ValueError(
                f"{_shown(label)} has characters that a name may not have, or in a place where it may not"
            )
    return text


def host_patterns(text: str) -> tuple[str, ...]:
    """Parse ``name,…`` into lower case, with ``*.name`` for all names under one and ``*`` for any."""
    patterns = []
    for item in _split(text):
        name = item.removeprefix("*.")
        try:
            patterns.append("*" if item == "*" else item.removesuffix(host_name(name)) + name.casefold().rstrip("."))
        except ValueError as error:
            raise ValueError(f"{_shown(item)}: {error}") from None
    return tuple(dict.fromkeys(patterns))


def origins(text: str) -> tuple[str, ...]:
    """Parse ``https://name,…`` into lower case, with ``*`` for any."""
    found = [item.lower().rstrip("/") for item in _split(text)]
    for item in found:
        scheme, _, rest = item.partition("://")
        if item != "*" and (scheme not in {"http", "https"} or not rest or "/" in rest):
            raise ValueError(f"{_shown(item)}: is no origin")
    return tuple(dict.fromkeys(found))


def client_url(text: str) -> str:
    """Parse ``http://host:port``; return it without a slash at its end."""
    scheme, _, rest = text.rstrip("/").partition("://")
    if scheme not in {"http", "https"}:
        raise ValueError("does not begin with http:// or https://")
    host, port = _split_port(rest)
    if not port:
        raise ValueError("has no port")
    port_number(port)
    if ":" in host:
        ip_address(host)
    else:
        host_name(host)
    return f"{scheme}://{rest}"


def ip_address(text: str) -> str:
    """Parse a numeric IPv4 or IPv6 address."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError("not a numeric address") from None


def _shown(item: str) -> str:
    return repr(item) if len(item) <= 60 else f"{item[:60]!r}…"


def _split(text: str) -> list[str]:
    items = [item.strip() for item in text.split(",")]
    if not all(items):
        raise ValueError("has an empty item")
    return items


def _split_port(item: str) -> tuple[str, str]:
    """Split ``host:port``, and remove the brackets of an IPv6 address."""
    if item.startswith("["):
        host, bracket, rest = item[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"{_shown(item)} has no closing bracket before its port")
        if ":" not in host:
            raise ValueError(f"{_shown(item)} has no IPv6 address in its brackets")
        return ip_address(host), rest[1:]
    if item.count(":") > 1:
        ipv6 = re.fullmatch(r"[0-9A-Fa-f:.]+", item)
        raise ValueError(f"{_shown(item)} {'needs brackets around its IPv6 address' if ipv6 else 'is not host:port'}")
    host, _, port = item.partition(":")
    return host, port


def port_number(text: str) -> int:
    """Parse a port from 1 to 65535."""
    try:
        return whole_number(1, 65535)(text)
    except ValueError:
        raise ValueError("not a port number") from None


def peer_names(text: str) -> tuple[PeerName, ...]:
    """Parse ``host:port,…``; equal items count once."""
    peers = []
    for item in _split(text):
        host, port = _split_port(item)
        if not host or not port:
            raise ValueError(f"{_shown(item)} has no {'port' if host else 'host'}")
        if ":" not in host:
            # A name that ends in a number is meant as an address, and 10.0.0.256 is not one.
            host = ip_address(host) if host.rpartition(".")[2].isdecimal() else host_name(host)
        try:
            peers.append(PeerName(host, port_number(port)))
        except ValueError as error:
            raise ValueError(f"{_shown(item)}: {error}") from None
    return tuple(dict.fromkeys(peers))


def dns_servers(text: str) -> tuple[Address, ...]:
    """Parse ``ip[:port],…``; the default port is 53."""
    servers = []
    for item in _split(text):
        bare_ipv6 = item.count(":") > 1 and not item.startswith("[")
        host, port = (item, "") if bare_ipv6 else _split_port(item)
        try:
            servers.append(Address.of(host, port_number(port) if port else 53))
        except ValueError as error:
            raise ValueError(f"{_shown(item)}: {error}" if port else f"{_shown(item)} is not an address") from None
    return tuple(dict.fromkeys(servers))


def url_path(text: str) -> str:
    """Parse a path that begins with a slash, and drop a slash at its end."""
    if len(text) > 200 or not _URL_PATH.fullmatch(text) or {".", ".."} & set(text.split("/")):
        raise ValueError("not a path of a web page")
    return text.rstrip("/")


def absolute_path(text: str) -> str:
    """Parse a path, and make it absolute."""
    if "\0" in text:
        raise ValueError("has a character that no path has")
    return os.path.abspath(text)


# --- checks -------------------------------------------------------------------------------------------------


def _stat(path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except FileNotFoundError:
        raise ValueError("does not exist") from None
    except OSError as error:
        raise ValueError(error.strerror or "cannot be reached") from None


def check_executable(path: str) -> None:
    """Check that a path is a file that can be run.

    Raises
    ------
    ValueError
        If it is not.
    """
    if not stat.S_ISREG(_stat(path).st_mode):
        raise ValueError("is not a file")
    if not os.access(path, os.X_OK):
        raise ValueError("is not executable by this user (chmod +x)")


def check_readable_directory(path: Path) -> None:
    """Check that a path is a directory that can be read.

    Raises
    ------
    ValueError
        If it is not.
    """
    if not stat.S_ISDIR(_stat(str(path)).st_mode):
        raise ValueError("is not a directory")
    if not os.access(path, os.R_OK | os.X_OK):
        raise ValueError("cannot be read by this user")


def check_writable_directory(path: Path) -> None:
    """Check that a directory can be written, or made, without making it.

    Raises
    ------
    ValueError
        If it cannot.
    """
    for place in (path, *path.parents):
        try:
            mode = os.stat(place).st_mode
        except (FileNotFoundError, NotADirectoryError):
            if place.is_symlink():
                raise ValueError(f"{str(place)!r} is a link to nowhere") from None
            continue
        except OSError as error:
            raise ValueError(error.strerror or "cannot be reached") from None
        which = "" if place == path else f"{str(place)!r} "
        if not stat.S_ISDIR(mode):
            raise ValueError(f"{which}is not a directory")
        if not os.access(place, os.W_OK | os.X_OK):
            raise ValueError(f"{which}cannot be written by this user")
        return
