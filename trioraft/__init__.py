"""Raft for Python, on trio and over UDP: a replicated log, leader election, exclusive leader work, a key-value store.

Everything that a program needs is here::

    from trioraft import ClientSettings, open_client

    async with open_client(ClientSettings.of(peers="127.0.0.1:7300")) as client:
        await client.put("greeting", "hello")

A node, and what it replicates
    `open_node`, `Node`, `NodeSettings`, `StateMachine`, `Queryable`, `Leadership`
A client
    `open_client`, `Client`, `ClientSettings`; :class:`trioraft.sync.Client` for programs without trio; and the
    settings of the cluster, `ClusterSettings` with its `ReadMode`
The key-value store
    `KeyValue`, `Event`, `EventKind`, and for transactions `Compare`, `Put`, `Range`, `DeleteRange`
Locks and leases
    `HeldLock`, `HeldLease`
Errors
    `SettingsError`; `NodeError`, `StorageError`; `ProposalError` with the kinds of it, `KeyValueError` with its
    `ErrorCode`, `NoAnswerError`, `LeaseLostError`, `LockHeldError`

Whatever else the submodules have may change from one version to the next.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from trioraft._version import __version__ as __version__

if TYPE_CHECKING:
    from trioraft.client.client import Client, NoAnswerError, open_client
    from trioraft.errors import (
        BatchError,
        BusyError,
        LimitError,
        NodeError,
        NotCommittedError,
        NotLeaderError,
        ProposalError,
        RefusedError,
        SessionEndedError,
        UnknownError,
    )
    from trioraft.hooks.bodies import Leadership
    from trioraft.kv.commands import Compare, DeleteRange, Event, EventKind, KeyValue, Put, Range
    from trioraft.kv.errors import KeyValueError
    from trioraft.kv.lock import HeldLease, HeldLock, LeaseLostError, LockHeldError
    from trioraft.kv.results import ErrorCode
    from trioraft.node.node import Node, open_node
    from trioraft.replica.machine import Queryable, StateMachine
    from trioraft.replica.settings import ClusterSettings, ReadMode
    from trioraft.settings.settings import ClientSettings, NodeSettings
    from trioraft.settings.variables import SettingsError
    from trioraft.storage.errors import StorageError

__all__ = [
    "BatchError",
    "BusyError",
    "Client",
    "ClientSettings",
    "ClusterSettings",
    "Compare",
    "DeleteRange",
    "ErrorCode",
    "Event",
    "EventKind",
    "HeldLease",
    "HeldLock",
    "KeyValue",
    "KeyValueError",
    "Leadership",
    "LeaseLostError",
    "LimitError",
    "LockHeldError",
    "NoAnswerError",
    "Node",
    "NodeError",
    "NodeSettings",
    "NotCommittedError",
    "NotLeaderError",
    "ProposalError",
    "Put",
    "Queryable",
    "Range",
    "ReadMode",
    "RefusedError",
    "SessionEndedError",
    "SettingsError",
    "StateMachine",
    "StorageError",
    "UnknownError",
    "open_client",
    "open_node",
]

# Loaded when they are asked for: a command that reads one key needs no node.
_HOMES: Final = {
    name: module
    for module, names in {
        "client.client": ("Client", "NoAnswerError", "open_client"),
        "replica.settings": ("ClusterSettings", "ReadMode"),
        "storage.errors": ("StorageError",),
        "errors": (
            "BatchError",
            "BusyError",
            "LimitError",
            "NodeError",
            "NotCommittedError",
            "NotLeaderError",
            "ProposalError",
            "RefusedError",
            "SessionEndedError",
            "UnknownError",
        ),
        "kv.errors": ("KeyValueError",),
        "kv.commands": ("Compare", "DeleteRange", "Event", "EventKind", "KeyValue", "Put", "Range"),
        "kv.lock": ("HeldLease", "HeldLock", "LeaseLostError", "LockHeldError"),
        "kv.results": ("ErrorCode",),
        "hooks.bodies": ("Leadership",),
        "replica.machine": ("Queryable", "StateMachine"),
        "node.node": ("Node", "open_node"),
        "settings.settings": ("ClientSettings", "NodeSettings"),
        "settings.variables": ("SettingsError",),
    }.items()
    for name in names
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"trioraft.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
