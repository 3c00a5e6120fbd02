"""What the store answers."""

import enum
from typing import TypeAlias

from msgspec import Struct

from trioraft.kv.commands import KeyValue, LeaseId, Number, TimeToLive


class PutResult(Struct, frozen=True, array_like=True, tag=1):
    """Answer a :class:`~trioraft.kv.commands.Put`.

    Attributes
    ----------
    revision : int
        The store's revision after the command; the same in every result.
    prev_kv : KeyValue or None
        What was there before, where that was asked for.
    """

    revision: Number
    prev_kv: KeyValue | None = None


class RangeResult(Struct, frozen=True, array_like=True, tag=2):
    """Answer a :class:`~trioraft.kv.commands.Range`.

    Attributes
    ----------
    revision : int
        The store's revision; not the one that was asked for.
    kvs : tuple of KeyValue
        What was found.
    count : int
        How many keys are in the range, whatever the limit.
    more : bool
        Whether `kvs` has fewer than that.
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
        How many keys were deleted; the revision stays when there was none.
    prev_kvs : tuple of KeyValue
        Them, where that was asked for.
    """

    revision: Number
    deleted: Number
    prev_kvs: tuple[KeyValue, ...] = ()


OperationResult: TypeAlias = PutResult | RangeResult | DeleteRangeResult


class TxnResult(Struct, frozen=True, array_like=True, tag=4):
    """Answer a :class:`~trioraft.kv.commands.Txn`.

    Attributes
    ----------
    revision : int
        The store's revision.
    succeeded : bool
        Whether the conditions held.
    responses : tuple of results
        Those of the operations that were carried out.
    """

    revision: Number
    succeeded: bool
    responses: tuple[OperationResult, ...]


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
    id: LeaseId
    ttl: TimeToLive


class LeaseRevokeResult(Struct, frozen=True, array_like=True, tag=6):
    """Answer a :class:`~trioraft.kv.commands.LeaseRevoke` or :class:`~trioraft.kv.commands.LeaseExpire`.

    Attributes
    ----------
    revision : int
        The store's revision.
    deleted : int
        How many keys were deleted with the lease.
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
    """Why a command was refused.

    ``TOO_LARGE``: the command, or what it changes or finds; or the store, which has reached its quota.
    ``LEASE_EXISTS``: there is such a lease already; or one that a lock goes with, whose key was to be changed.
    (Neither that nor the quota has a code of its own, because clients of earlier releases could not read it.)
    """

    MALFORMED = "malformed"
    TOO_LARGE = "too-large"
    COMPACTED = "compacted"
    FUTURE_REVISION = "future-revision"
    DUPLICATE_KEY = "duplicate-key"
    LEASE_NOT_FOUND = "lease-not-found"
    LEASE_EXISTS = "lease-exists"


class Error(Struct, frozen=True, array_like=True, tag=8):
    """Refuse a command; nothing was changed.

    Attributes
    ----------
    revision : int
        The store's revision.
    code : ErrorCode
        Why.
    message : str
        Why, in words.
    oldest_revision : int
        With ``compacted``: the oldest revision that can still be read, or watched from; else 0.
    """

    revision: Number
    code: ErrorCode
    message: str
    oldest_revision: Number = 0


Result: TypeAlias = OperationResult | TxnResult | LeaseGrantResult | LeaseRevokeResult | CompactResult | Error
