"""The built-in key-value store, with etcd's data model.

Every change makes a new *revision* of the whole store, even a change of several keys; an empty store is at revision
1. A key has the revisions at which it was created and last changed, its *version* (how often it was put since then),
and the *lease* that it is attached to, with which it ends. A bounded history of the last revisions can be watched and
read; what is older is *compacted*.

``commands``, ``results``     the commands of every version, the results, and the bounds of both
``requests``    etcd's requests in full, since version 6; ``checks`` is what etcd checks in them alone
``codec``       commands and results as bytes; ``short`` does the most frequent ones
``store``       the state machine
``state``       the state: ``sorted_map`` and ``history``
``quota``       how large the store may become
``reading``, ``conditions``   how ranges are read, and when a transaction's conditions hold
``operations``  the operations of every version, as one revision
``evaluation``  requests, on a ``draft`` of the next revision; ``selection`` filters and sorts what a range has
``refusals``    why a command is refused
``snapshot``    the state as a stream
``lessor``      the leader's clock of leases
``watch``       watches; ``watched`` finds those of a key
``questions``, ``service``    what is asked beside the log, and the store as a node's state machine
``local``       reads of any size, for what serves clients in the node's process
``keys``, ``leases``, ``lock``, ``client``    what a client can do with it

Everything but the clock is deterministic, and nothing here does I/O or knows the time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from trioraft.kv.codec import decode_command, decode_result, encode_command, encode_result
    from trioraft.kv.commands import (
        Command,
        Compact,
        Compare,
        CompareOperator,
        CompareTarget,
        DeleteRange,
        Event,
        EventKind,
        KeyValue,
        Lease,
        LeaseExpire,
        LeaseGrant,
        LeaseRecall,
        LeaseRevoke,
        Operation,
        Put,
        Range,
        Txn,
        prefix_range,
    )
    from trioraft.kv.history import HistoryLimits
    from trioraft.kv.lessor import Lessor
    from trioraft.kv.results import (
        CompactResult,
        DeleteRangeResult,
        Error,
        ErrorCode,
        LeaseGrantResult,
        LeaseRevokeResult,
        OperationResult,
        PutResult,
        RangeResult,
        Result,
        TxnResult,
    )
    from trioraft.kv.snapshot import SnapshotError, SnapshotReader
    from trioraft.kv.store import Change, KeyValueStore
    from trioraft.kv.watch import Watch, WatchBatch, WatchHub

__all__ = [
    "Change",
    "Command",
    "Compact",
    "CompactResult",
    "Compare",
    "CompareOperator",
    "CompareTarget",
    "DeleteRange",
    "DeleteRangeResult",
    "Error",
    "ErrorCode",
    "Event",
    "EventKind",
    "HistoryLimits",
    "KeyValue",
    "KeyValueStore",
    "Lease",
    "LeaseExpire",
    "LeaseGrant",
    "LeaseGrantResult",
    "LeaseRecall",
    "LeaseRevoke",
    "LeaseRevokeResult",
    "Lessor",
    "Operation",
    "OperationResult",
    "Put",
    "PutResult",
    "Range",
    "RangeResult",
    "Result",
    "SnapshotError",
    "SnapshotReader",
    "Txn",
    "TxnResult",
    "Watch",
    "WatchBatch",
    "WatchHub",
    "decode_command",
    "decode_result",
    "encode_command",
    "encode_result",
    "prefix_range",
]

# A name is loaded when it is first used: a command that reads one key needs no store.
_HOMES: Final = {
    name: module
    for module, names in {
        "codec": (
            "decode_command",
            "decode_result",
            "encode_command",
            "encode_result",
        ),
        "commands": (
            "Command",
            "Compact",
            "Compare",
            "CompareOperator",
            "CompareTarget",
            "DeleteRange",
            "Event",
            "EventKind",
            "KeyValue",
            "Lease",
            "LeaseExpire",
            "LeaseGrant",
            "LeaseRecall",
            "LeaseRevoke",
            "Operation",
            "Put",
            "Range",
            "Txn",
            "prefix_range",
        ),
        "history": ("HistoryLimits",),
        "lessor": ("Lessor",),
        "results": (
            "CompactResult",
            "DeleteRangeResult",
            "Error",
            "ErrorCode",
            "LeaseGrantResult",
            "LeaseRevokeResult",
            "OperationResult",
            "PutResult",
            "RangeResult",
            "Result",
            "TxnResult",
        ),
        "snapshot": (
            "SnapshotError",
            "SnapshotReader",
        ),
        "store": (
            "Change",
            "KeyValueStore",
        ),
        "watch": (
            "Watch",
            "WatchBatch",
            "WatchHub",
        ),
    }.items()
    for name in names
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"trioraft.kv.{_HOMES[name]}"), name)
