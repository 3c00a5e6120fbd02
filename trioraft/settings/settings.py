"""Configuration from the environment.

The table in :mod:`trioraft.settings.variables` is the one place for names, meanings, defaults and allowed values: the
structs take their defaults from it, and :func:`load` reads by it. Durations are milliseconds in the environment
and seconds here. An empty variable counts as unset, because Compose passes ``${NAME:-}``.

A program makes settings from keyword arguments, named as the variables in lower case, or from the environment::

    NodeSettings.of(peers="10.0.0.1:7300,10.0.0.2:7300", bootstrap_expect=2, data_dir="data")
    ClientSettings.from_environ()
"""

import difflib
import os
import re
import socket
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, Self, TypeVar, Unpack

from msgspec import Struct

from trioraft.address import Address, PeerName, is_loopback
from trioraft.datagrams.keys import KeyRing
from trioraft.datagrams.sealing import Domain
from trioraft.settings.client_port import check_client_port
from trioraft.settings.options import ClientOptions, NodeOptions, as_environ
from trioraft.settings.restart import RestartPolicy
from trioraft.settings.variables import DEFAULT_PORT, FORMER_NAMES, VARIABLES, SettingsError, Variable, find_variable

__all__ = [
    "DEFAULT_PORT",
    "FORMER_NAMES",
    "VARIABLES",
    "ClientSettings",
    "MonitorSettings",
    "NodeSettings",
    "PeerName",
    "SettingsError",
    "Variable",
    "key_warning",
    "load",
    "settings_warnings",
]

_KEY_FILE_MAX: Final = 64 * 1024


def _default(name: str, user: str = "node") -> Any:
    return find_variable(name, user).default_value()


class _Settings(Struct, frozen=True, kw_only=True):
    """The settings that every program needs to find and ask nodes."""

    USER: ClassVar[str]

    dns_name: str = ""
    peers: tuple[PeerName, ...] = ()
    dns_servers: tuple[Address, ...] = ()
    discovery_interval: float = _default("DISCOVERY_INTERVAL_MILLIS")
    max_datagram_bytes: int = _default("MAX_DATAGRAM_BYTES")
    keys: KeyRing | None = None
    key_file: str = ""  # the file that the keys are from; not a variable of its own

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read the environment and check it.

        Parameters
        ----------
        environ : mapping, optional
            The environment, instead of ``os.environ``. An empty variable counts as unset.

        Returns
        -------
        Self
            The configuration.

        Raises
        ------
        SettingsError
            If a variable has a wrong value; the text is one line that says which, and what is allowed.
        """
        return load(cls, os.environ if environ is None else environ)


class ClientSettings(_Settings, frozen=True, kw_only=True):
    """The settings of a client: made by :meth:`of` or :meth:`from_environ`.

    One node's address is enough to find the others. The leader carries out commands, so it must be reachable. Without
    an address and a service name, the address is 127.0.0.1:7300.

    Attributes
    ----------
    app_name : str
        ``APP_NAME``; empty when it is not set.
    dns_name : str
        The name to look up in DNS; empty when there is none, or when ``PEERS`` has the addresses.
    peers : tuple of PeerName
        ``PEERS``.
    dns_servers : tuple of Address
        ``DNS_SERVERS``; empty for the system's.
    discovery_interval : float
        ``DISCOVERY_INTERVAL_MILLIS``, in seconds.
    keys : KeyRing or None
        From ``CLUSTER_KEY`` or ``CLUSTER_KEY_FILE``; None when datagrams are not sealed.
    """

    USER: ClassVar[str] = "commands"

    app_name: str = ""

    @classmethod
    def of(cls, **options: Unpack[ClientOptions]) -> Self:
        """Make settings of keyword arguments; the environment is not read.

        Parameters
        ----------
        **options
            Named as the environment variables, in lower case: ``peers="10.0.0.1:7300"``, or a list of such texts.

        Returns
        -------
        ClientSettings
            The configuration.

        Raises
        ------
        SettingsError
            If a value is wrong; the text is one line that says which, and what is allowed.
        """
        return load(cls, as_environ(cls.USER, options))


class NodeSettings(_Settings, frozen=True, kw_only=True):
    """The settings of a node: made by :meth:`of` or :meth:`from_environ`.

    Each field is the variable of its name; durations are seconds.

    Attributes
    ----------
    app_name : str
        The service name, which nodes of one cluster share.
    dns_name : str
        The name to look up in DNS: `app_name`, or empty when only ``PEERS`` is set.
    data_dir : pathlib.Path
        An absolute path, which need not exist yet.
    bootstrap_expect : int or None
        The number of nodes that form a cluster; None to join one only.
    script_leader_path, script_follower_path : str or None
        Absolute paths of files that were executable when loaded.
    script_leader_arguments : tuple of str or None
        The arguments of `script_leader_path`, where that is a command; not a variable.
    script_leader_output : {'log', 'streams'}
        Whether its output goes to the log, or to the standard streams of the process; not a variable.
    durability : {'sync', 'memory'}
        Whether the log is synced; where it is not, a restarted node takes a new id.
    trace_file : pathlib.Path or None
        The absolute path of the file in which transitions are recorded.
    unsealed : {'loopback', 'allowed'}
        The addresses at which the node may listen without keys.
    keys : KeyRing or None
        From ``CLUSTER_KEY`` or ``CLUSTER_KEY_FILE``; None when datagrams are not sealed.
    """

    USER: ClassVar[str] = "node"

    app_name: str = _default("APP_NAME")
    node_name: str = _default("NODE_NAME")
    logging: str = _default("LOGGING")
    log_format: str = _default("LOG_FORMAT")
    bind_host: str = _default("BIND_HOST")
    unsealed: Literal["loopback", "allowed"] = _default("UNSEALED")
    bind_port: int = _default("BIND_PORT")
    data_dir: Path = _default("DATA_DIR")
    bootstrap_expect: int | None = _default("BOOTSTRAP_EXPECT")
    election_timeout_lower: float = _default("ELECTION_TIMEOUT_LOWER_MILLIS")
    election_timeout_upper: float = _default("ELECTION_TIMEOUT_UPPER_MILLIS")
    heartbeat_repeat: float = _default("HEARTBEAT_REPEAT_MILLIS")
    script_leader_path: str | None = _default("SCRIPT_LEADER_PATH")
    script_follower_path: str | None = _default("SCRIPT_FOLLOWER_PATH")
    script_leader_arguments: tuple[str, ...] | None = None
    script_leader_output: Literal["log", "streams"] = "log"
    script_leader_restart: RestartPolicy = _default("SCRIPT_LEADER_RESTART")
    hook_stop_grace: float = _default("HOOK_STOP_GRACE_MILLIS")
    hook_failure: str = _default("HOOK_FAILURE")
    durability: Literal["sync", "memory"] = _default("DURABILITY")
    trace_file: Path | None = _default("TRACE_FILE")
    snapshot_entries: int = _default("SNAPSHOT_ENTRIES")
    snapshot_bytes: int = _default("SNAPSHOT_BYTES")
    autopilot: Literal["on", "off"] = _default("AUTOPILOT")
    min_voters: int = _default("MIN_VOTERS")
    max_voters: int = _default("MAX_VOTERS")
    dead_server: float = _default("DEAD_SERVER_MILLIS")
    leave_on_stop: bool = _default("LEAVE_ON_STOP")
    client_bind_port: int | None = _default("CLIENT_BIND_PORT")
    client_bind_host: str = _default("CLIENT_BIND_HOST")
    client_advertise_url: str = _default("CLIENT_ADVERTISE_URL")
    client_api: Literal["on", "off"] = _default("CLIENT_API")
    client_insecure: Literal["yes", "no"] = _default("CLIENT_INSECURE")
    client_cert_file: Path | None = _default("CLIENT_CERT_FILE")
    client_key_file: Path | None = _default("CLIENT_KEY_FILE")
    client_trusted_ca_file: Path | None = _default("CLIENT_TRUSTED_CA_FILE")
    client_cert_auth: bool | None = _default("CLIENT_CERT_AUTH")
    client_cors: tuple[str, ...] = _default("CLIENT_CORS")
    client_hosts: tuple[str, ...] = _default("CLIENT_HOSTS")

    @property
    def exposed(self) -> bool:
        """Whether the node listens without a key where other machines may reach it."""
        return self.keys is None and not is_loopback(self.bind_host)

    @classmethod
    def of(cls, **options: Unpack[NodeOptions]) -> Self:
        """Make settings of keyword arguments; the environment is not read.

        Parameters
        ----------
        **options
            Named as the environment variables, in lower case: ``bind_port=7301``, ``data_dir="data"``,
            ``peers="10.0.0.1:7300,10.0.0.2:7300"`` or a list of such texts, ``heartbeat_repeat_millis=100``.

        Returns
        -------
        NodeSettings
            The configuration.

        Raises
        ------
        SettingsError
            If a value is wrong; the text is one line that says which, and what is allowed.
        """
        return load(cls, as_environ(cls.USER, options))


class MonitorSettings(_Settings, frozen=True, kw_only=True):
    """The settings of the monitor. Each field is the variable of its name; durations are seconds.

    Attributes
    ----------
    raft_service_name : str
        ``RAFT_SERVICE_NAME``, else ``APP_NAME``, else ``trioraft``.
    dns_name : str
        The name to look up in DNS: `raft_service_name`, or empty when only ``PEERS`` is set.
    templates_dir : pathlib.Path or None
        The directory of the templates; None for the monitor's own.
    hostname : str
        ``HOSTNAME``, else the name of the host when loaded.
    allowed_hosts : tuple of str
        ``ALLOWED_HOSTS``, in lower case.
    openapi_path, docs_path, api_prefix, root_path : str
        Paths that begin with a slash and do not end with one; `api_prefix` and `root_path` may be empty.
    """

    USER: ClassVar[str] = "monitor"

    raft_service_name: str = _default("APP_NAME")
    logging: str = _default("LOGGING")
    log_format: str = _default("LOG_FORMAT")
    bind_host: str = _default("BIND_HOST")
    bind_port: int = _default("BIND_PORT", "monitor")
    refresh_rate: float = _default("REFRESH_RATE_MILLIS", "monitor")
    templates_dir: Path | None = _default("TEMPLATES_DIR", "monitor")
    hostname: str = _default("HOSTNAME", "monitor")
    allowed_hosts: tuple[str, ...] = _default("ALLOWED_HOSTS", "monitor")
    api_title: str = _default("API_TITLE", "monitor")
    api_maintainer: str = _default("API_MAINTAINER", "monitor")
    api_email: str = _default("API_EMAIL", "monitor")
    api_description: str = _default("API_DESCRIPTION", "monitor")
    openapi_path: str = _default("OPENAPI_PATH", "monitor")
    docs_path: str = _default("DOCS_PATH", "monitor")
    api_prefix: str = _default("API_PREFIX", "monitor")
    root_path: str = _default("ROOT_PATH", "monitor")

    def client(self) -> ClientSettings:
        """Return the settings of the monitor's client.

        Returns
        -------
        ClientSettings
            The settings with the same service, peers, DNS servers and keys.
        """
        return ClientSettings(
            app_name=self.raft_service_name,
            dns_name=self.dns_name,
            peers=self.peers,
            dns_servers=self.dns_servers,
            discovery_interval=self.discovery_interval,
            max_datagram_bytes=self.max_datagram_bytes,
            keys=self.keys,
        )


_SomeSettings = TypeVar("_SomeSettings", bound=_Settings)


def load(cls: type[_SomeSettings], environ: Mapping[str, str]) -> _SomeSettings:
    """Read and check a configuration.

    Parameters
    ----------
    cls : type
        :class:`NodeSettings`, :class:`MonitorSettings` or :class:`ClientSettings`.
    environ : mapping
        The environment, such as ``os.environ``. An empty variable counts as unset.

    Returns
    -------
    NodeSettings, MonitorSettings or ClientSettings
        The configuration.

    Raises
    ------
    SettingsError
        If a variable has a wrong value; the text is one line that says which, and what is allowed.
    """
    environ = _with_former_names(environ)
    values = {
        variable.field: variable.read(environ.get(variable.name, ""))
        for variable in VARIABLES
        if cls.USER in variable.used_by and variable.field != "keys"
    }
    values["keys"] = _load_keys(environ, Domain.CONSENSUS if cls is NodeSettings else Domain.STATUS)
    values["key_file"] = environ.get("CLUSTER_KEY_FILE", "")
    if cls is NodeSettings:
        _check_timeouts(environ, values)
        check_client_port(values)
    elif cls is MonitorSettings:
        _check_paths(environ, values)
        values["hostname"] = values["hostname"] or socket.gethostname()
        values["raft_service_name"] = values["raft_service_name"] or values["app_name"]
        del values["app_name"]
    elif not environ.get("APP_NAME"):
        values["app_name"] = ""
        values["peers"] = values["peers"] or (PeerName("127.0.0.1", DEFAULT_PORT),)
    return cls(dns_name=_dns_name(cls, environ, values), **values)


def _dns_name(cls: type[_Settings], environ: Mapping[str, str], values: Mapping[str, Any]) -> str:
    """Choose the name to look up; a default name beside ``PEERS`` would only cause warnings where there is no DNS."""
    if cls is ClientSettings:
        return "" if values["peers"] else str(values["app_name"])
    name = values["raft_service_name" if cls is MonitorSettings else "app_name"]
    is_set = environ.get("APP_NAME") or (cls is MonitorSettings and environ.get("RAFT_SERVICE_NAME"))
    return str(name) if is_set or not values["peers"] else ""


def _with_former_names(environ: Mapping[str, str]) -> Mapping[str, str]:
    given = {new: environ[old] for old, new in FORMER_NAMES.items() if environ.get(old)}
    return {**given, **{name: text for name, text in environ.items() if text}}


def _load_keys(environ: Mapping[str, str], domain: Domain) -> KeyRing | None:
    """Read the keys, which must be good for a domain, without ever showing one."""
    inline, file = find_variable("CLUSTER_KEY", "node"), find_variable("CLUSTER_KEY_FILE", "node")
    text, path = environ.get(inline.name, ""), environ.get(file.name, "")
    if text and path:
        raise inline.error(text, "CLUSTER_KEY_FILE is set too", "one of CLUSTER_KEY and CLUSTER_KEY_FILE")
    if not text and not path:
        return None
    if _is_key(path):
        raise SettingsError(f"{file.name}=(hidden): is a key, not a file; allowed: {file.allowed}")
    try:
        keys = KeyRing.parse(text or _read_key_file(path))
        if not keys.can(domain):
            raise ValueError(f"a derived key is not good for {domain.label} traffic")
    except ValueError as error:
        raise (inline.error(text, str(error)) if text else file.error(path, str(error))) from None
    return keys


def _is_key(text: str) -> bool:
    try:
        KeyRing.parse(text)
    except ValueError:
        return False
    return True


def _read_key_file(path: str) -> str:
    try:
        # To open a FIFO would wait for a writer; and the file that is checked must be the file that is read.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ValueError("is not a file")
            data = os.read(descriptor, _KEY_FILE_MAX + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    if len(data) > _KEY_FILE_MAX or not data.isascii():
        raise ValueError("does not hold keys")
    if not data.strip():
        raise ValueError("is empty")
    return data.decode("ascii")


def _check_timeouts(environ: Mapping[str, str], values: Mapping[str, Any]) -> None:
    """Check that the three times fit each other; the error names a variable that was set."""
    lower, upper, heartbeat = (
        find_variable(name, "node")
        for name in (
            "ELECTION_TIMEOUT_LOWER_MILLIS",
            "ELECTION_TIMEOUT_UPPER_MILLIS",
            "HEARTBEAT_REPEAT_MILLIS",
        )
    )

    def refuse(short: Variable, long: Variable, below: str, above: str) -> None:
        blamed, other, relation = (short, long, below) if environ.get(short.name) else (long, short, above)
        other_millis = round(values[other.field] * 1000)
        raise blamed.error(
            environ.get(blamed.name, ""),
            f"does not fit {other.name} ({other_millis})",
            f"{blamed.allowed}, and {relation} {other.name}",
        )

    if values[lower.field] >= values[upper.field]:
        refuse(lower, upper, "below", "above")
    if values[heartbeat.field] > values[lower.field] / 2:
        refuse(heartbeat, lower, "at most half of", "at least twice")


def _check_paths(environ: Mapping[str, str], values: Mapping[str, Any]) -> None:
    """Check that no two pages of the monitor have the same path."""
    prefix = values["api_prefix"]
    taken = {"", "/nodes", "/healthz", "/static", *(f"{prefix}/{page}" for page in ("nodes", "cluster", "events"))}
    for name in ("OPENAPI_PATH", "DOCS_PATH"):
        variable = find_variable(name, "monitor")
        path = values[variable.field]
        if path in taken:
            allowed = f"{variable.allowed}, that no other page of the monitor has"
            raise variable.error(environ.get(name, ""), f"{path or '/'!r} is another page", allowed)
        taken.add(path)


_OURS: Final = re.compile(r"(ELECTION|HEARTBEAT|BOOTSTRAP|DISCOVERY|HOOK|SCRIPT|CLUSTER_KEY).*|.*_MILLIS")


def key_warning(keys: KeyRing | None) -> str:
    """Warn of a key that must be derived anew before the next release.

    Parameters
    ----------
    keys : KeyRing or None
        The keys of the configuration.

    Returns
    -------
    str
        One line, without any key in it; empty without a reason to warn.
    """
    if keys is None or not keys.former:
        return ""
    label = keys.former[0]
    better = "status" if label == "status" else "reader, client or admin"
    return (
        f"CLUSTER_KEY or CLUSTER_KEY_FILE: a {label} key of the release before, which the next release refuses;"
        f" make a new one of the cluster key: `trioraft keygen --derive` {better}"
    )


def settings_warnings(environ: Mapping[str, str]) -> list[str]:
    """Find variables whose names are probably mistakes.

    Parameters
    ----------
    environ : mapping
        The environment.

    Returns
    -------
    list of str
        A line for all former names, and a line for each name that is nearly that of a variable. Values are never
        shown.
    """
    warnings = []
    names = {variable.name for variable in VARIABLES}
    present = sorted(name for name, text in environ.items() if text)
    if former := [name for name in present if name in FORMER_NAMES]:
        renamed = ", ".join(f"{name} is now {FORMER_NAMES[name]}" for name in former)
        warnings.append(f"former names of variables are set: {renamed}")
    for name in present:
        if name in names or not _OURS.fullmatch(name):
            continue
        near = [name + end for end in ("_MILLIS", "_PATH") if name + end in names]
        if near := near or difflib.get_close_matches(name, names, 1, 0.85):
            warnings.append(f"{name} is not a variable of trioraft and is ignored; did you mean {near[0]}?")
    return warnings
