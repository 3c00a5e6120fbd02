"""The content of the store, its commands, and the bounds of both.

Names and meanings are etcd's. Every struct is an array in CBOR; commands and results start with a tag. Revisions,
versions and lease ids are whole numbers below 2**63; 0 stands for "none", and for "now" where a revision is asked.
"""

import enum
from typing import Annotated, Final, Literal, Self, TypeAlias

from msgspec import Meta, Struct

from trioraft.arguments import check_text_or_bytes

# The name of this kind of state (:class:`trioraft.replica.machine.StateMachine`).
STATE_KIND: Final = "key-value store"

KEY_MAX: Final = 1536
VALUE_MAX: Final = 2**20
# The size of one encoded command, and of all keys and values in one result: room for one largest key and value.
COMMAND_MAX: Final = 3 * 2**19
RESULT_MAX: Final = 3 * 2**19
# So many keys may one command delete, and be attached to one lease: a node does nothing else meanwhile.
DELETED_MAX: Final = 10_000
OPERATIONS_MAX: Final = 128  # etcd's default for one transaction
TTL_MAX: Final = 9_000_000_000  # etcd's
LARGEST: Final = 2**63 - 1
# etcd's bound of keys and values is that of a request, counted in its own encoding; a command may have a bit more.
LONG_MAX: Final = COMMAND_MAX + 2**16
# The version of the protocol from which on keys and values may be so long, and leases have any id.
LONG_FROM: Final = 6

Key = Annotated[bytes, Meta(min_length=1, max_length=KEY_MAX)]
# The start or end of a range; the successor of the largest key is one byte longer.
Bound = Annotated[bytes, Meta(min_length=1, max_length=KEY_MAX + 1)]
OptionalBound = Annotated[bytes, Meta(max_length=KEY_MAX + 1)]
Value = Annotated[bytes, Meta(max_length=VALUE_MAX)]
Number = Annotated[int, Meta(ge=0, le=LARGEST)]
LongBytes = Annotated[bytes, Meta(max_length=LONG_MAX)]
SignedNumber = Annotated[int, Meta(ge=-LARGEST - 1, le=LARGEST)]
TimeToLive = Annotated[int, Meta(ge=1, le=TTL_MAX)]


def prefix_range(prefix: bytes) -> tuple[bytes, bytes]:
    """Compute the range of all keys that start with a prefix.

    Parameters
    ----------
    prefix : bytes
        The prefix; empty for every key.

    Returns
    -------
    tuple of bytes
        `key` and `range_end` as the commands take them.
    """
    stem = prefix.rstrip(b"\xff")
    end = stem[:-1] + bytes([stem[-1] + 1]) if stem else b"\0"
    return prefix or b"\0", end


def to_bytes(text: str | bytes, name: str = "a key or a value") -> bytes:
    """Return bytes as they are, and text as UTF-8; refuse anything else, with the name of the argument."""
    return check_text_or_bytes(name, text)


def _range(key: str | bytes, *, prefix: bool) -> tuple[bytes, bytes]:
    return prefix_range(to_bytes(key, "key")) if prefix else (to_bytes(key, "key"), b"")


class KeyValue(Struct, frozen=True, array_like=True, gc=False):
    """A key as it was at one revision.

    Attributes
    ----------
    key, value : bytes
        The key and its value; the value is empty where the key was deleted.
    create_revision : int
        The revision at which the key was last created; 0 where it was deleted.
    mod_revision : int
        The revision at which it was last changed or deleted.
    version : int
        The number of puts since it was created; 0 where it was deleted.
    lease : int
        The lease that it is attached to, or 0.
    """

    key: LongBytes
    value: LongBytes
    create_revision: Number
    mod_revision: Number
    version: Number
    lease: SignedNumber = 0


class EventKind(enum.IntEnum):
    """The kind of a change."""

    PUT = 0
    DELETE = 1


class Event(Struct, frozen=True, array_like=True, gc=False):
    """A change of one key. A key changes at most once in a revision.

    Attributes
    ----------
    kind : EventKind
        Put or deleted.
    kv : KeyValue
        The key after the change.
    prev_kv : KeyValue or None
        The key before it; None where there was no such key.
    """

    kind: EventKind
    kv: KeyValue
    prev_kv: KeyValue | None = None


class Lease(Struct, frozen=True, array_like=True, gc=False):
    """A lease that is granted.

    Attributes
    ----------
    id : int
        Its id.
    ttl : int
        Its time to live after a keep-alive, in seconds.
    grant : int
        The number of the grant, counted over all grants of the store from 1 on, which tells a lease from an earlier
        one with the same id. It is 0 for a lease that was recalled, which cannot be kept alive.
    """

    id: SignedNumber
    ttl: TimeToLive
    grant: Number


class Put(Struct, frozen=True, array_like=True, tag=1):
    """Set the value of a key.

    Attributes
    ----------
    key, value : bytes
        1 to 1,536 bytes, and at most 1 MiB.
    lease : int
        The lease to attach the key to; with 0 it is detached from its former lease and attached to none.
    prev_kv : bool
        Whether the result includes the key as it was before.
    """

    key: Key
    value: Value
    lease: Number = 0
    prev_kv: bool = False

    @classmethod
    def of(cls, key: str | bytes, value: str | bytes, *, lease: int = 0) -> Self:
        """Make a put of text or bytes; text stands for its UTF-8."""
        return cls(to_bytes(key, "key"), to_bytes(value, "value"), lease)


class Range(Struct, frozen=True, array_like=True, tag=2):
    r"""Read keys, in ascending order.

    A result has at most 1.5 MiB. Where the keys do not fit, `more` is true in it, and the rest can be read from
    ``last_key + b"\0"`` on, at the revision of the first part.

    Attributes
    ----------
    key, range_end : bytes
        The single `key` where `range_end` is empty; else the keys from `key` on that are smaller than `range_end`,
        or all of them where `range_end` is ``b"\0"``. See :func:`prefix_range`.
    limit : int
        Return at most so many keys; 0 for no limit.
    revision : int
        Read the store as it was at that revision; 0 for now.
    keys_only : bool
        Leave the values empty.
    count_only : bool
        Only count the keys.
    """

    key: Bound
    range_end: OptionalBound = b""
    limit: Number = 0
    revision: Number = 0
    keys_only: bool = False
    count_only: bool = False

    @classmethod
    def of(cls, key: str | bytes, *, prefix: bool = False, limit: int = 0) -> Self:
        """Make a range of a key, or of a prefix; text stands for its UTF-8."""
        return cls(*_range(key, prefix=prefix), limit)


class DeleteRange(Struct, frozen=True, array_like=True, tag=3):
    """Delete keys; refused when there are more than :data:`DELETED_MAX`.

    Attributes
    ----------
    key, range_end : bytes
        As in :class:`Range`.
    prev_kv : bool
        Whether the result includes the deleted keys; refused when a result cannot hold them.
    """

    key: Bound
    range_end: OptionalBound = b""
    prev_kv: bool = False

    @classmethod
    def of(cls, key: str | bytes, *, prefix: bool = False) -> Self:
        """Make a deletion of a key, or of a prefix; text stands for its UTF-8."""
        return cls(*_range(key, prefix=prefix))


class CompareTarget(enum.IntEnum):
    """The part of a key that is compared; the numbers are etcd's."""

    VERSION = 0
    CREATE = 1
    MOD = 2
    VALUE = 3
    LEASE = 4


class CompareOperator(enum.IntEnum):
    """The operator of a comparison; the numbers are etcd's."""

    EQUAL = 0
    GREATER = 1
    LESS = 2
    NOT_EQUAL = 3


Comparison: TypeAlias = Literal["=", "!=", ">", "<"]
_OPERATORS: Final[dict[Comparison, CompareOperator]] = {
    "=": CompareOperator.EQUAL,
    "!=": CompareOperator.NOT_EQUAL,
    ">": CompareOperator.GREATER,
    "<": CompareOperator.LESS,
}


def _operator(comparison: Comparison) -> CompareOperator:
    if comparison not in _OPERATORS:
        raise ValueError(f"comparison must be one of {' '.join(_OPERATORS)}, not {comparison!r}")
    return _OPERATORS[comparison]


class Compare(Struct, frozen=True, array_like=True):
    """A condition on one key.

    For a key that does not exist, version, revisions and lease are 0, and no condition on its value holds.

    Attributes
    ----------
    key : bytes
        The key.
    target : CompareTarget
        The part of it that is compared.
    operator : CompareOperator
        The operator.
    operand : int or bytes
        What it is compared with: bytes for the value, else a number.
    """

    key: Key
    target: CompareTarget
    operator: CompareOperator
    operand: Number | Value

    def __post_init__(self) -> None:
        if isinstance(self.operand, bytes) != (self.target == CompareTarget.VALUE):
            raise ValueError("a value is compared with bytes, everything else with a number")

    @classmethod
    def value(cls, key: str | bytes, comparison: Comparison, value: str | bytes) -> Self:
        """Compare a key's value, as in ``Compare.value("colour", "=", "red")``; text stands for its UTF-8."""
        return cls(to_bytes(key, "key"), CompareTarget.VALUE, _operator(comparison), to_bytes(value, "value"))

    @classmethod
    def version(cls, key: str | bytes, comparison: Comparison, version: int) -> Self:
        """Compare how often a key was put since it was created."""
        return cls(to_bytes(key, "key"), CompareTarget.VERSION, _operator(comparison), version)

    @classmethod
    def mod_revision(cls, key: str | bytes, comparison: Comparison, revision: int) -> Self:
        """Compare the revision at which a key was last changed."""
        return cls(to_bytes(key, "key"), CompareTarget.MOD, _operator(comparison), revision)

    @classmethod
    def create_revision(cls, key: str | bytes, comparison: Comparison, revision: int) -> Self:
        """Compare the revision at which a key was created."""
        return cls(to_bytes(key, "key"), CompareTarget.CREATE, _operator(comparison), revision)

    @classmethod
    def lease(cls, key: str | bytes, comparison: Comparison, lease: int) -> Self:
        """Compare the lease that a key is attached to."""
        return cls(to_bytes(key, "key"), CompareTarget.LEASE, _operator(comparison), lease)

    @classmethod
    def exists(cls, key: str | bytes) -> Self:
        """Require that there is such a key."""
        return cls.version(key, ">", 0)

    @classmethod
    def missing(cls, key: str | bytes) -> Self:
        """Require that there is no such key."""
        return cls.version(key, "=", 0)


Operation: TypeAlias = Put | Range | DeleteRange
Operations = Annotated[tuple[Operation, ...], Meta(max_length=OPERATIONS_MAX)]


class Txn(Struct, frozen=True, array_like=True, tag=4):
    """Do several things at one revision, depending on conditions.

    Attributes
    ----------
    compare : tuple of Compare
        The conditions.
    success : tuple of Put, Range and DeleteRange
        The operations, in this order, when all conditions hold.
    failure : tuple of Put, Range and DeleteRange
        The operations otherwise. Neither may put a key twice, or put and delete it.
    """

    compare: Annotated[tuple[Compare, ...], Meta(max_length=OPERATIONS_MAX)] = ()
    success: Operations = ()
    failure: Operations = ()


class LeaseGrant(Struct, frozen=True, array_like=True, tag=5):
    """Make a lease.

    Attributes
    ----------
    ttl : int
        Its time to live after a keep-alive, in seconds, at least 1.
    id : int
        Its id, which may be negative since version 6; with 0 the store chooses one that no lease has had.
    """

    ttl: TimeToLive
    id: SignedNumber = 0


class LeaseRevoke(Struct, frozen=True, array_like=True, tag=6):
    """End a lease, and delete the keys that are attached to it; for its holder.

    Attributes
    ----------
    id : int
        The lease.
    """

    id: SignedNumber


class LeaseExpire(Struct, frozen=True, array_like=True, tag=7):
    """End a lease whose time is up; proposed by the leader.

    Attributes
    ----------
    id, grant : int
        The lease. A later lease with the same id is left alone.
    """

    id: SignedNumber
    grant: Number


class Compact(Struct, frozen=True, array_like=True, tag=8):
    """Drop everything before a revision.

    Attributes
    ----------
    revision : int
        The oldest revision that can be read afterwards.
    """

    revision: Number


class LeaseRecall(Struct, frozen=True, array_like=True, tag=9):
    """End a lease as :class:`LeaseRevoke` does, unless a lock is held by it: then only refuse to keep it alive.

    Such a lease ends when its holder, whose keep-alives are refused, revokes it, or when its time is up. Since
    version 3.

    Attributes
    ----------
    id : int
        The lease.
    """

    id: SignedNumber


Command: TypeAlias = Operation | Txn | LeaseGrant | LeaseRevoke | LeaseRecall | LeaseExpire | Compact
