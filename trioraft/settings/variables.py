"""The documented environment variables: names, meanings, defaults and allowed values, in one table."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from trioraft.datagrams.keys import KeyRing
from trioraft.messages import MEMBERS_MAX
from trioraft.settings import restart, values

_SHOWN_MAX: Final = 200  # characters of a wrong value in an error line


class SettingsError(Exception):
    """A wrong configuration; its text is one line that names variable, value and what is allowed."""


class Variable(Struct, frozen=True, kw_only=True):
    """One documented environment variable.

    Attributes
    ----------
    name : str
        The name of the variable.
    meaning : str
        The purpose, in a few words.
    default : str
        The value of an unset or empty variable, as a text; empty when there is none.
    allowed : str
        The allowed values, in words.
    used_by : tuple of str
        The programs that read it: ``node``, ``monitor``, ``commands``.
    field : str
        The field of the settings that it fills.
    parse : callable
        A parser of the text; it raises ValueError with a reason.
    check : callable
        A check of the value on this machine; it raises ValueError with a reason.
    unset : object
        The field's value when the variable is unset and has no default.
    secret : bool
        Whether the value must never be shown.
    """

    name: str
    meaning: str
    default: str
    allowed: str
    used_by: tuple[str, ...]
    field: str
    parse: Callable[[str], Any]
    check: Callable[[Any], None] | None = None
    unset: Any = None
    secret: bool = False

    def default_value(self) -> Any:
        """Return the field's value when the variable is unset.

        Returns
        -------
        object
            The parsed default, or `unset` when there is none.
        """
        return self.parse(self.default) if self.default else self.unset

    def read(self, text: str) -> Any:
        """Parse and check the variable's text.

        Parameters
        ----------
        text : str
            The variable's text; empty when it is unset.

        Returns
        -------
        object
            The field's value.

        Raises
        ------
        SettingsError
            If the text is not allowed.
        """
        try:
            value = self.parse(text) if text else self.default_value()
            if self.check is not None and value is not None:
                self.check(value)
        except ValueError as error:
            raise self.error(text, str(error)) from None
        return value

    def error(self, text: str, reason: str, allowed: str = "") -> SettingsError:
        """Make the error of a wrong value.

        Parameters
        ----------
        text : str
            The variable's text; empty when it is unset.
        reason : str
            The reason why it is wrong.
        allowed : str, optional
            The allowed values, where they differ from the table.

        Returns
        -------
        SettingsError
            The error, with one line of text.
        """
        if self.secret:
            shown = "(hidden)"
        elif text:
            shown = repr(text) if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]!r}…"
        else:
            shown = f"{self.default!r} (the default)"
        return SettingsError(f"{self.name}={shown}: {reason}; allowed: {allowed or self.allowed}")


DEFAULT_PORT: Final = 7300  # of nodes: at which they listen, and the one for A and AAAA records

_NODE: Final = ("node",)
_MONITOR: Final = ("monitor",)
_SERVERS: Final = ("node", "monitor")
_EVERYBODY: Final = ("node", "monitor", "commands")


def _variable(
    name: str, meaning: str, default: str, allowed: str, used_by: tuple[str, ...], parse: Any, **rest: Any
) -> Variable:
    field = rest.pop("field", name.removesuffix("_MILLIS").lower())
    return Variable(
        name=name,
        meaning=meaning,
        default=default,
        allowed=allowed,
        used_by=used_by,
        parse=parse,
        field=field,
        **rest,
    )


def _duration(name: str, meaning: str, default: str, used_by: tuple[str, ...], lowest: int = 1) -> Variable:
    highest = 3_600_000
    allowed = f"a whole number of milliseconds from {lowest} to {highest}"
    return _variable(name, meaning, default, allowed, used_by, values.milliseconds(lowest, highest))


def _script(name: str, meaning: str) -> Variable:
    allowed = "the path of an executable file"
    return _variable(name, meaning, "", allowed, _NODE, values.absolute_path, check=values.check_executable)


def _file(name: str, meaning: str) -> Variable:
    allowed = "the path of a PEM file"
    return _variable(name, meaning, "", allowed, _NODE, lambda text: Path(values.absolute_path(text)))


def _url_path(name: str, meaning: str, default: str) -> Variable:
    allowed = "a path that begins with '/', of letters, digits and -._~"
    return _variable(name, meaning, default, allowed, _MONITOR, values.url_path, unset="")


_NAME: Final = "a DNS name: letters, digits, '-' and '_' in parts separated by '.'"
_IP: Final = "a numeric IPv4 or IPv6 address of this machine, such as 127.0.0.1, 0.0.0.0 or ::"
_TEXT: Final = "printable text of at most 10000 characters"
_KEY: Final = "keys from 'trioraft keygen', separated by commas or line ends"

# fmt: off
VARIABLES: Final[tuple[Variable, ...]] = (
    _variable("APP_NAME", "the service name that all replicas share, looked up in DNS (SRV when it begins with '_')",
              "trioraft", _NAME, _EVERYBODY, values.host_name),
    _variable("PEERS", "addresses of nodes, for networks without DNS",
              "", "host:port, separated by commas, IPv6 addresses in brackets", _EVERYBODY,
              values.peer_names, unset=()),
    _variable("DNS_SERVERS", "DNS servers to ask instead of the system's",
              "", "ip or ip:port, separated by commas, IPv6 addresses with a port in brackets", _EVERYBODY,
              values.dns_servers, unset=()),
    _variable("MAX_DATAGRAM_BYTES", "how large datagrams are where the system does not know what the path takes",
              "1200", "a whole number from 548 to 65507", _EVERYBODY, values.whole_number(548, 65507)),
    _duration("DISCOVERY_INTERVAL_MILLIS", "how often nodes are looked for", "2000", _EVERYBODY, 100),
    _variable("CLUSTER_KEY", "the key that seals every datagram; the first seals, all open",
              "", _KEY, _EVERYBODY, KeyRing.parse, field="keys", secret=True),
    _variable("CLUSTER_KEY_FILE", "a file with that key", "", "the path of a readable file with " + _KEY,
              _EVERYBODY, values.absolute_path, field="keys"),
    _variable("LOGGING", "log level", "INFO", "DEBUG, INFO, WARNING, ERROR or CRITICAL", _SERVERS,
              values.one_of("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", fold=str.upper)),
    _variable("LOG_FORMAT", "how the log is written; auto means console on a terminal, else json",
              "auto", "auto, console or json", _SERVERS, values.one_of("auto", "console", "json")),
    _variable("BIND_HOST", "where a node listens (UDP), or the monitor (TCP)", "127.0.0.1", _IP, _SERVERS,
              values.ip_address),
    _variable("UNSEALED", "where a node without a key may listen: allowed means at any address", "loopback",
              "loopback or allowed", _NODE, values.one_of("loopback", "allowed")),
    _variable("BIND_PORT", "the node's UDP port", str(DEFAULT_PORT), "a port from 1 to 65535", _NODE,
              values.port_number),
    _variable("BIND_PORT", "the monitor's TCP port", "8000", "a port from 1 to 65535", _MONITOR,
              values.port_number),
    # --- nodes
    _variable("DATA_DIR", "what the node must remember; replicas on one host may share it",
              "trioraft-data", "a directory that can be written or made", _NODE,
              lambda text: Path(values.absolute_path(text)), check=values.check_writable_directory),
    _variable("BOOTSTRAP_EXPECT", "how many nodes without state form a cluster; unset: never form, only join",
              "", f"a whole number from 1 to {MEMBERS_MAX}", _NODE, values.whole_number(1, MEMBERS_MAX)),
    _variable("NODE_NAME", "the node's name for people; unset: from DNS, else the host's name", "", _NAME, _NODE,
              values.host_name, unset=""),
    _duration("ELECTION_TIMEOUT_LOWER_MILLIS", "shortest election timeout", "3000", _NODE),
    _duration("ELECTION_TIMEOUT_UPPER_MILLIS", "longest election timeout", "5000", _NODE),
    _duration("HEARTBEAT_REPEAT_MILLIS", "heartbeat interval", "500", _NODE),
    _script("SCRIPT_LEADER_PATH", "run on becoming leader"),
    _variable("SCRIPT_LEADER_RESTART", "whether a leader script that has ended is run again while its node leads",
              "never", restart.ALLOWED, _NODE, restart.restart_policy),
    _script("SCRIPT_FOLLOWER_PATH", "run on becoming follower"),
    _duration("HOOK_STOP_GRACE_MILLIS", "how long a script may take to end after SIGTERM", "5000", _NODE),
    _variable("HOOK_FAILURE", "what a leader does whose script fails", "ignore", "ignore or step-down", _NODE,
              values.one_of("ignore", "step-down")),
    _variable("DURABILITY", "memory: the log is not synced, and at each start a node comes back with a new id",
              "sync", "sync or memory", _NODE, values.one_of("sync", "memory")),
    _variable("TRACE_FILE", "where a node appends a line of JSON for each of its transitions; it grows without bound",
              "", "the path of a file", _NODE, lambda text: Path(values.absolute_path(text))),
    _variable("SNAPSHOT_ENTRIES", "a snapshot is taken when the log has grown by so many entries", "50000",
              "a whole number from 1 to 10000000", _NODE, values.whole_number(1, 10_000_000)),
    _variable("SNAPSHOT_BYTES", "a snapshot is taken when the log has grown by so many bytes", "16777216",
              "a whole number from 1 to 1000000000", _NODE, values.whole_number(1, 1_000_000_000)),
    _variable("AUTOPILOT", "off: members change by commands only", "on", "on or off", _NODE,
              values.one_of("on", "off")),
    _variable("MIN_VOTERS", "a voter that is gone is not removed below so many, only replaced", "3",
              f"a whole number from 1 to {MEMBERS_MAX}", _NODE, values.whole_number(1, MEMBERS_MAX)),
    _variable("MAX_VOTERS", "further nodes stay learners, which can take over", "7",
              f"a whole number from 1 to {MEMBERS_MAX}", _NODE, values.whole_number(1, MEMBERS_MAX)),
    _duration("DEAD_SERVER_MILLIS", "how long a member is silent and absent from DNS before it is gone", "60000",
              _NODE),
    _variable("LEAVE_ON_STOP", "true: a node that is stopped is removed first, if MIN_VOTERS remain", "false",
              "true or false", _NODE, values.true_or_false),
    # --- clients of etcd
    _variable("CLIENT_BIND_PORT", "the TCP port for clients of etcd, and for health and metrics; unset: none", "",
              "a port from 1 to 65535; etcd's is 2379", _NODE, values.port_number),
    _variable("CLIENT_BIND_HOST", "where that port is", "127.0.0.1", _IP, _NODE, values.ip_address),
    _variable("CLIENT_ADVERTISE_URL", "how clients reach that port; unset: by the node's own address", "",
              "http://host:port or https://host:port", _NODE, values.client_url, unset=""),
    _variable("CLIENT_API", "off: that port has health, versions and metrics only", "on", "on or off", _NODE,
              values.one_of("on", "off")),
    _variable("CLIENT_INSECURE", "yes: without a cluster key, others may use the API in the clear and without"
              " certificates", "no", "yes or no", _NODE, values.one_of("yes", "no")),
    _file("CLIENT_CERT_FILE", "the certificate of that port, for TLS; read again when it changes"),
    _file("CLIENT_KEY_FILE", "its key"),
    _file("CLIENT_TRUSTED_CA_FILE", "the authorities of clients' certificates"),
    _variable("CLIENT_CERT_AUTH", "whether clients need a certificate; unset: if there are authorities", "",
              "true or false", _NODE, values.true_or_false),
    _variable("CLIENT_CORS", "web pages that may use that port (Origin)", "",
              "origins such as https://example.org, separated by commas; * for all", _NODE, values.origins, unset=()),
    _variable("CLIENT_HOSTS", "names, beside those of nodes, under which that port may be asked (Host)", "",
              "names, separated by commas; *.example.org for all under one, * for any", _NODE,
              values.host_patterns, unset=()),
    # --- monitor
    _variable("RAFT_SERVICE_NAME", "the service name of the nodes to show; unset: APP_NAME", "", _NAME, _MONITOR,
              values.host_name, unset=""),
    _duration("REFRESH_RATE_MILLIS", "how often nodes are asked for their status", "1000", _MONITOR, 100),
    _variable("TEMPLATES_DIR", "page templates to use instead of the monitor's own", "", "a readable directory",
              _MONITOR, lambda text: Path(values.absolute_path(text)), check=values.check_readable_directory),
    _variable("HOSTNAME", "the monitor's name on its page; unset: the host's name", "", _TEXT, _MONITOR,
              values.free_text, unset=""),
    _variable("ALLOWED_HOSTS", "names, beside its own, under which the monitor may be asked (Host)",
              "", "names, separated by commas; *.example.org for all under one, * for any", _MONITOR,
              values.host_patterns, unset=()),
    _variable("API_TITLE", "title of the API documentation", "trioraft monitor", _TEXT, _MONITOR, values.free_text),
    _variable("API_MAINTAINER", "who maintains the API", "", _TEXT, _MONITOR, values.free_text, unset=""),
    _variable("API_EMAIL", "the maintainer's e-mail address", "", "an e-mail address", _MONITOR,
              values.email, unset=""),
    _variable("API_DESCRIPTION", "description in the API documentation", "The nodes of a Raft cluster, live.",
              _TEXT, _MONITOR, values.free_text),
    _url_path("OPENAPI_PATH", "where the OpenAPI document is", "/openapi.json"),
    _url_path("DOCS_PATH", "where the API documentation is", "/docs"),
    _url_path("API_PREFIX", "what all API paths begin with", "/api"),
    _url_path("ROOT_PATH", "the path under which a reverse proxy serves the monitor", ""),
)
# fmt: on

# The names of the predecessor, which its users can keep.
FORMER_NAMES: Final[Mapping[str, str]] = {
    "FASTAPI_TITLE": "API_TITLE",
    "FASTAPI_MAINT": "API_MAINTAINER",
    "FASTAPI_MAINTAINER": "API_MAINTAINER",
    "FASTAPI_EMAIL": "API_EMAIL",
    "FASTAPI_DESCR": "API_DESCRIPTION",
    "FASTAPI_DESCRIPTION": "API_DESCRIPTION",
    "FASTAPI_SCHEM": "OPENAPI_PATH",
    "FASTAPI_DOCS": "DOCS_PATH",
}


def find_variable(name: str, user: str) -> Variable:
    """Find a variable in the table.

    Parameters
    ----------
    name : str
        Its name.
    user : str
        The program that reads it: ``node``, ``monitor`` or ``commands``.

    Returns
    -------
    Variable
        The row of the table.
    """
    return next(variable for variable in VARIABLES if variable.name == name and user in variable.used_by)
