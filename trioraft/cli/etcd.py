"""``trioraft etcd``: a node that is started as etcd is, by the same flags and ``ETCD_…`` variables.

It translates them into the variables of a node, and becomes that node. Peer URLs give the hosts and UDP ports of the
nodes.
"""

import ipaddress
import os
import sys
from collections.abc import Mapping
from typing import Final, NoReturn
from urllib.parse import urlsplit

from trioraft.address import is_loopback
from trioraft.cli.exits import WRONG, CommandError

_TRUE: Final = frozenset({"", "true", "1", "t"})
_FALSE: Final = frozenset({"false", "0", "f"})

_DEFAULTS: Final = {
    "name": "default",
    "listen-peer-urls": "http://localhost:2380",
    "listen-client-urls": "http://localhost:2379",
    "initial-cluster-state": "new",
    "heartbeat-interval": "100",
    "election-timeout": "1000",
}

# Flags that are read below.
_READ: Final = frozenset(
    {
        *_DEFAULTS,
        "advertise-client-urls",
        "cert-file",
        "client-cert-auth",
        "cors",
        "data-dir",
        "host-whitelist",
        "initial-cluster",
        "key-file",
        "log-level",
        "snapshot-count",
        "trusted-ca-file",
    }
)
_SWITCHES: Final = frozenset(
    {
        "client-cert-auth",
        "debug",
        "enable-pprof",
        "enable-v2",
        "pre-vote",
        "strict-reconfig-check",
        "experimental-initial-corrupt-check",
        "auto-tls",
        "peer-auto-tls",
        "peer-client-cert-auth",
        "force-new-cluster",
        "unsafe-no-fsync",
    }
)
# Flags that ask for nothing that a node would not do anyway, or that only say how it logs.
_WITHOUT_EFFECT: Final = frozenset(
    {
        "debug",
        "enable-pprof",
        "enable-v2",
        "experimental-initial-corrupt-check",
        "experimental-watch-progress-notify-interval",
        "initial-advertise-peer-urls",
        "initial-cluster-token",
        "log-format",
        "log-outputs",
        "log-package-levels",
        "logger",
        "max-snapshots",
        "max-wals",
        "metrics",
        "pre-vote",
        "strict-reconfig-check",
    }
)
_PEERS_ARE_SEALED: Final = "datagrams are sealed by a key: `trioraft keygen --output FILE`, and set CLUSTER_KEY_FILE"
# Why a node does not do what the others ask for, and what to do instead.
_REFUSED: Final = {
    "auto-compaction-mode": "what is older than the history's bound is compacted by itself",
    "auto-compaction-retention": "what is older than the history's bound is compacted by itself",
    "auto-tls": "make a certificate, and give it as --cert-file and --key-file",
    "discovery": "give --initial-cluster",
    "discovery-srv": "set APP_NAME, and start `trioraft node`",
    "force-new-cluster": "`trioraft recover` does that",
    "listen-metrics-urls": "metrics are at /metrics of the client URL",
    "max-request-bytes": "requests have at most 1.5 MiB",
    "max-txn-ops": "transactions have at most 128 operations",
    "peer-auto-tls": _PEERS_ARE_SEALED,
    "peer-cert-file": _PEERS_ARE_SEALED,
    "peer-client-cert-auth": _PEERS_ARE_SEALED,
    "peer-key-file": _PEERS_ARE_SEALED,
    "peer-trusted-ca-file": _PEERS_ARE_SEALED,
    "quota-backend-bytes": "the quota is the cluster's: `trioraft settings --quota`",
    "unsafe-no-fsync": "DURABILITY=memory is for clusters that may lose everything",
    "wal-dir": "all data is in --data-dir",
}
# Values that ask for nothing.
_NOTHING: Final = frozenset({"", "0", "0s", "false"})

_LEVELS: Final = {"debug": "DEBUG", "info": "INFO", "warn": "WARNING", "error": "ERROR", "panic": "CRITICAL"}


def become_node(arguments: list[str]) -> NoReturn:
    """Become the node that flags and variables of etcd describe.

    Parameters
    ----------
    arguments : list of str
        The flags.
    """
    environment = translate(arguments, os.environ)
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, "-P", "-m", "trioraft", "node"], environment)  # noqa: S606


def translate(arguments: list[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Translate flags and variables of etcd into the environment of a node.

    Parameters
    ----------
    arguments : list of str
        The flags.
    environ : mapping
        The environment; what it sets of a node's own variables stays.

    Returns
    -------
    dict of str to str
        The environment of ``trioraft node``.

    Raises
    ------
    CommandError
        If a flag is not known, has a wrong value, or asks for what a node does not do; one line.
    """
    flags = {**_DEFAULTS, **_from_environ(environ), **_from_arguments(arguments)}
    for name, value in flags.items():
        if name in _REFUSED and value.lower() not in _NOTHING:
            raise CommandError(f"--{name}={value[:100]!r}: {_REFUSED[name]}", WRONG)
    translated = {**_peers(flags), **_clients(flags), **_timing(flags)}
    translated["NODE_NAME"] = flags["name"]
    translated["DATA_DIR"] = flags.get("data-dir") or f"{flags['name']}.etcd"
    if flags.get("snapshot-count"):
        translated["SNAPSHOT_ENTRIES"] = flags["snapshot-count"]
    if flags.get("log-level"):
        translated["LOGGING"] = _LEVELS.get(flags["log-level"], flags["log-level"])
    own = {name: value for name, value in environ.items() if not name.startswith("ETCD_") and value}
    return {**translated, **own}


def _from_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """Read ``ETCD_LISTEN_PEER_URLS`` and the like; as etcd does, leave alone those that are no flags."""
    named = {
        name.removeprefix("ETCD_").lower().replace("_", "-"): value
        for name, value in environ.items()
        if name.startswith("ETCD_") and value
    }
    return {name: value for name, value in named.items() if _is_known(name)}


def _is_known(name: str) -> bool:
    return name in _READ or name in _WITHOUT_EFFECT or name in _REFUSED


def _from_arguments(arguments: list[str]) -> dict[str, str]:
    flags: dict[str, str] = {}
    rest = iter(arguments)
    for argument in rest:
        name, given, value = argument.lstrip("-").partition("=")
        if not argument.startswith("-") or not _is_known(name):
            raise CommandError(f"{argument[:100]!r} is no flag that `trioraft etcd` knows", WRONG)
        if not given and name not in _SWITCHES:
            following = next(rest, None)
            if following is None:
                raise CommandError(f"--{name} needs a value", WRONG)
            value = following
        flags[name] = value or ("true" if name in _SWITCHES else "")
    return flags


def _peers(flags: Mapping[str, str]) -> dict[str, str]:
    """Translate the URLs of peers."""
    host, port, scheme = _url("listen-peer-urls", flags["listen-peer-urls"])
    if scheme != "http":
        raise CommandError(f"--listen-peer-urls={flags['listen-peer-urls'][:100]!r}: {_PEERS_ARE_SEALED}", WRONG)
    translated = {"BIND_HOST": host, "BIND_PORT": str(port)}
    members = [member.partition("=") for member in flags.get("initial-cluster", "").split(",") if member]
    if any(not found for _, found, _ in members):
        shown = flags["initial-cluster"][:100]
        raise CommandError(f"--initial-cluster={shown!r}: allowed: name=http://host:port, separated by commas", WRONG)
    urls = [urlsplit(url) for _, _, url in members]
    translated["PEERS"] = ",".join(url.netloc for url in urls) if urls else _address(host, port)
    if flags["initial-cluster-state"] == "new":
        translated["BOOTSTRAP_EXPECT"] = str(len({name for name, _, _ in members}) or 1)
    elif flags["initial-cluster-state"] != "existing":
        shown = flags["initial-cluster-state"][:100]
        raise CommandError(f"--initial-cluster-state={shown!r}: allowed: new or existing", WRONG)
    if not is_loopback(host):
        translated["UNSEALED"] = "allowed"
    return translated


def _clients(flags: Mapping[str, str]) -> dict[str, str]:
    """Translate what is said of the port for clients."""
    urls = {_url("listen-client-urls", url) for url in flags["listen-client-urls"].split(",")}
    if len(urls) > 1:
        shown = flags["listen-client-urls"][:100]
        raise CommandError(
            f"--listen-client-urls={shown!r}: a node listens at one; http://0.0.0.0:2379 is all IPv4 addresses", WRONG
        )
    ((host, port, scheme),) = urls
    translated = {"CLIENT_BIND_HOST": host, "CLIENT_BIND_PORT": str(port)}
    if flags.get("advertise-client-urls"):
        translated["CLIENT_ADVERTISE_URL"] = flags["advertise-client-urls"].split(",")[0].rstrip("/")
    if scheme == "http":
        translated["CLIENT_INSECURE"] = "yes"
        return translated | _limits(flags)
    if not flags.get("cert-file") or not flags.get("key-file"):
        raise CommandError("--listen-client-urls with https needs --cert-file and --key-file", WRONG)
    translated |= {"CLIENT_CERT_FILE": flags["cert-file"], "CLIENT_KEY_FILE": flags["key-file"]}
    if flags.get("trusted-ca-file"):
        translated["CLIENT_TRUSTED_CA_FILE"] = flags["trusted-ca-file"]
    wants = _switch("client-cert-auth", flags.get("client-cert-auth", "false"))
    translated["CLIENT_CERT_AUTH"] = "true" if wants else "false"
    if not wants:
        translated["CLIENT_INSECURE"] = "yes"
    return translated | _limits(flags)


def _limits(flags: Mapping[str, str]) -> dict[str, str]:
    names = {"cors": "CLIENT_CORS", "host-whitelist": "CLIENT_HOSTS"}
    return {variable: flags[name] for name, variable in names.items() if flags.get(name)}


def _timing(flags: Mapping[str, str]) -> dict[str, str]:
    election = flags["election-timeout"]
    if not election.isdigit() or not 0 < int(election) <= 50_000:
        raise CommandError(f"--election-timeout={election[:100]!r}: allowed: milliseconds from 1 to 50000", WRONG)
    return {
        "HEARTBEAT_REPEAT_MILLIS": flags["heartbeat-interval"],
        "ELECTION_TIMEOUT_LOWER_MILLIS": election,
        "ELECTION_TIMEOUT_UPPER_MILLIS": str(2 * int(election)),
    }


def _switch(name: str, value: str) -> bool:
    if value.lower() in _TRUE | _FALSE:
        return value.lower() in _TRUE
    raise CommandError(f"--{name}={value[:100]!r}: allowed: true or false", WRONG)


def _url(flag: str, url: str) -> tuple[str, int, str]:
    """Return the numeric host, the port and the scheme of a URL where a node is to listen."""
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if not host or not port or parts.scheme not in {"http", "https"}:
        raise CommandError(f"--{flag}={url[:100]!r}: allowed: http://host:port or https://host:port", WRONG)
    if host == "localhost":
        return "127.0.0.1", port, parts.scheme
    try:
        return str(ipaddress.ip_address(host)), port, parts.scheme
    except ValueError:
        text = "a node listens at a numeric address, such as http://0.0.0.0:2379"
        raise CommandError(f"--{flag}={url[:100]!r}: {text}", WRONG) from None


def _address(host: str, port: int) -> str:
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared with, not bound
    return f"[{shown}]:{port}" if ":" in shown else f"{shown}:{port}"
