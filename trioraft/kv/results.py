"""The results of commands."""

import enum
from typing import TypeAlias, Union

from msgspec import Struct

from trioraft.kv.commands import KeyValue, Number, SignedNumber, TimeToLive
from trioraft.kv.requests import Alarm


class PutResult(Struct, frozen=True, array_like=True, tag=1):
    """Answer a :class:`~trioraft.kv.commands.Put`.

    Attributes
    ----------
    revision : int
        The store's revision after the command, the same in every result; in a transaction of etcd's the one after the
        operation.
    prev_kv : KeyValue or None
        The key as it was before, where the command asked for it.
    """

    revision: Number
    prev_kv: KeyValue | None = None


class RangeResult(Struct, frozen=True, array_like=True, tag=2):
    """Answer a :class:`~trioraft.kv.commands.Range`.

    Attributes
    ----------
    revision : int
        The store's present revision, not that of the request.
    kvs : tuple of KeyValue
        The keys.
    count : int
        The number of keys in the range, whatever the limit.
    more : bool
        Whether `kvs` has fewer keys than the range.
    """

    revision: Number
    kvs: tuple[KeyValue, ...]
    count: Number
    more: bool


class DeleteRangeResult(Struct, frozen=True, array_like=True, tag=3):
    """Answer a :class:`~trioraft.kv.commands.DeleteRange`.

    Attributes
    ----------
    revision : int
        The store's revision.
    deleted : int
        The number of keys that were deleted; when it is 0 the revision stays.
    prev_kvs : tuple of KeyValue
        These keys as they were, where the command asked for them.
    """

    revision: Number
    deleted: Number
    prev_kvs: tuple[KeyValue, ...] = ()


class TxnResult(Struct, frozen=True, array_like=True, tag=4):
    """Answer a :class:`~trioraft.kv.commands.Txn`.

    Attributes
    ----------
    revision : int
        The store's revision.
    succeeded : bool
        Whether the conditions held.
    responses : tuple of results
        The results of the operations that were carried out.
    """

    revision: Number
    succeeded: bool
    responses: tuple["OperationResult", ...]


# This is no `|`, because the name of a transaction's result is not known yet where the alias is made.
OperationResult: TypeAlias = Union[PutResult, RangeResult, DeleteRangeResult, TxnResult]  # noqa: UP007


class LeaseGrantResult(Struct, frozen=True, array_like=True, tag=5):
    """Answer a :class:`~trioraft.kv.commands.LeaseGrant`.

    Attributes
    ----------
    revision : int
        The store's revision.
    id, ttl : int
        The lease's id, and its time to live in seconds.
    """

    revision: Number
    id: SignedNumber
    ttl: TimeToLive


class LeaseRevokeResult(Struct, frozen=True, array_like=True, tag=6):
    """Answer a :class:`~trioraft.kv.commands.LeaseRevoke` or :class:`~trioraft.kv.commands.LeaseExpire`.

    Attributes
    ----------
    revision : int
        The store's revision.
    deleted : int
        The number of keys that were deleted with the lease.
    """

    revision: Number
    deleted: Number


class CompactResult(Struct, frozen=True, array_like=True, tag=7):
    """Answer a :class:`~trioraft.kv.commands.Compact`.

    Attributes
    ----------
    revision : int
        The store's revision.
    """

    revision: Number


class ErrorCode(enum.StrEnum):
    """The reason why a command was refused, for programs.

    ``TOO_LARGE``: the command is too large, or what it changes or finds; or the store has reached its quota.
    ``LEASE_EXISTS``: there is such a lease already; or the command would change the key of a lock, whose lease
    exists. (Locks and the quota have no codes of their own, because clients of earlier releases could not read them.
    The requests of version 6 have: ``LOCKED`` and ``NO_SPACE``. And what is wrong in a request itself has a code for
    each text of etcd's.)
    """

    MALFORMED = "malformed"
    TOO_LARGE = "too-large"
    COMPACTED = "compacted"
    FUTURE_REVISION = "future-revision"
    DUPLICATE_KEY = "duplicate-key"
    LEASE_NOT_FOUND = "lease-not-found"
    LEASE_EXISTS = "lease-exists"
    LOCKED = "locked"
    NO_SPACE = "no-space"
    EMPTY_KEY = "empty-key"
    KEY_NOT_FOUND = "key-not-found"
    VALUE_PROVIDED = "value-provided"
    LEASE_PROVIDED = "lease-provided"
    TOO_MANY_OPERATIONS = "too-many-operations"


class Error(Struct, frozen=True, array_like=True, tag=8):
    """Refuse a command; nothing was changed.

    Attributes
    ----------
    revision : int
        The store's revision.
    code : ErrorCode
        The reason.
    message : str
        The reason, in words.
    oldest_revision : int
        With ``compacted``: the oldest revision that can still be read, or watched from; else 0.
    """

    revision: Number
    code: ErrorCode
    message: str
    oldest_revision: Number = 0


class AlarmResult(Struct, frozen=True, array_like=True, tag=9):
    """Answer an :class:`~trioraft.kv.requests.AlarmRequest`.

    Attributes
    ----------
    revision : int
        The store's revision.
    alarms : tuple of Alarm
        Those that the request has raised or ended, or that there are.
    """

    revision: Number
    alarms: tuple[Alarm, ...]


Result: TypeAlias = OperationResult | LeaseGrantResult | LeaseRevokeResult | CompactResult | AlarmResult | Error
