"""Settings as a program writes them: keyword arguments with the names of the environment variables, in lower case.

The same table reads them and the environment, so there is one set of names, values and error lines.
"""

import difflib
import os
from collections.abc import Iterable, Mapping
from typing import Final, Literal, TypeAlias, TypedDict

from trioraft.settings.variables import VARIABLES

StrPath: TypeAlias = str | os.PathLike[str]
# Items of a list: one text as in the environment, or one text for each item.
Items: TypeAlias = str | Iterable[str]

# A program that is built around a node or client decides itself how it logs.
_OF_THE_PROGRAM: Final = frozenset({"logging", "log_format"})


class ClientOptions(TypedDict, total=False):
    """The options of :meth:`trioraft.ClientSettings.of`; VARIABLES.md says what each means."""

    app_name: str
    peers: Items
    dns_servers: Items
    max_datagram_bytes: int
    discovery_interval_millis: int
    cluster_key: str
    cluster_key_file: StrPath


class NodeOptions(ClientOptions, total=False):
    """The options of :meth:`trioraft.NodeSettings.of`; VARIABLES.md says what each means."""

    bind_host: str
    unsealed: Literal["loopback", "allowed"]
    bind_port: int
    data_dir: StrPath
    bootstrap_expect: int | None
    node_name: str
    election_timeout_lower_millis: int
    election_timeout_upper_millis: int
    heartbeat_repeat_millis: int
    script_leader_path: StrPath
    script_leader_restart: str
    script_follower_path: StrPath
    hook_stop_grace_millis: int
    hook_failure: Literal["ignore", "step-down"]
    durability: Literal["sync", "memory"]
    trace_file: StrPath
    snapshot_entries: int
    snapshot_bytes: int
    autopilot: Literal["on", "off"]
    min_voters: int
    max_voters: int
    dead_server_millis: int
    leave_on_stop: bool
    client_bind_port: int | None
    client_bind_host: str
    client_advertise_url: str
    client_api: Literal["on", "off"]
    client_insecure: Literal["yes", "no"]
    client_cert_file: StrPath
    client_key_file: StrPath
    client_trusted_ca_file: StrPath
    client_cert_auth: bool
    client_cors: Items
    client_hosts: Items


def option_names(user: str) -> list[str]:
    """List the names of the options of a user.

    Parameters
    ----------
    user : str
        ``node`` or ``commands``.

    Returns
    -------
    list of str
        The names of the table's variables, in lower case.
    """
    names = (variable.name.lower() for variable in VARIABLES if user in variable.used_by)
    return [name for name in names if name not in _OF_THE_PROGRAM]


def as_environ(user: str, options: Mapping[str, object]) -> dict[str, str]:
    """Write options as the environment would have them.

    Parameters
    ----------
    user : str
        The user of the options: ``node`` or ``commands``.
    options : mapping
        The options; None counts as absent.

    Returns
    -------
    dict of str to str
        The variables.

    Raises
    ------
    TypeError
        If there is no such option.
    """
    known = option_names(user)
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"there is no setting {name!r}{hint}")
    return {name.upper(): _as_text(value) for name, value in options.items() if value is not None}


def _as_text(value: object) -> str:
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ",".join(map(str, value))
    return str(value)
