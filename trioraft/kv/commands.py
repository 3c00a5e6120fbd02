"""What the store is made of, what it can be asked to do, and the bounds of both.

Names and meanings are etcd's. Every struct is an array in CBOR; commands and results start with a tag. Revisions,
versions and lease ids are whole numbers below 2**63; 0 stands for "none", and for "now" where a revision is asked.
"""

import enum
from typing import Annotated, Final, Literal, Self, TypeAlias

from msgspec import Meta, Struct

from trioraft.arguments import check_text_or_bytes
from trioraft.messages import FIRST_VERSION

# What the kind of this state is called (:attr:`trioraft.replica.machine.StateMachine`).
STATE_KIND: Final = "key-value store"

KEY_MAX: Final = 1536
VALUE_MAX: Final = 2**20
# Of one encoded command, and of all keys and values in one result: room for one pair of the largest key and value.
COMMAND_MAX: Final = 3 * 2**19
RESULT_MAX: Final = 3 * 2**19
# By one command; also how many keys may be attached to one lease. A node does nothing else meanwhile.
DELETED_MAX: Final = 10_000
OPERATIONS_MAX: Final = 128  # etcd's default for one transaction
TTL_MAX: Final = 9_000_000_000  # etcd's
LARGEST: Final = 2**63 - 1

Key = Annotated[bytes, Meta(min_length=1, max_length=KEY_MAX)]
# Where a range starts or ends; the successor of the largest key is one byte longer.
Bound = Annotated[bytes, Meta(min_length=1, max_length=KEY_MAX + 1)]
OptionalBound = Annotated[bytes, Meta(max_length=KEY_MAX + 1)]
Value = Annotated[bytes, Meta(max_length=VALUE_MAX)]
Number = Annotated[int, Meta(ge=0, le=LARGEST)]
LeaseId = Annotated[int, Meta(ge=1, le=LARGEST)]
TimeToLive = Annotated[int, Meta(ge=1, le=TTL_MAX)]


def prefix_range(prefix: bytes) -> tuple[bytes, bytes]:
    """Give the range of all keys that start with a prefix.

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
    """Give bytes as they are, and text as its UTF-8; refuse anything else, by what it is called."""
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
        When the key was last created; 0 where it was deleted.
    mod_revision : int
        When it was last changed or deleted.
    version : int
        How often it was put since it was created; 0 where it was deleted.
    lease : int
        The lease that it is attached to, or 0.
    """

    key: Key
    value: Value
    create_revision: Number
    mod_revision: Number
    version: Number
    lease: Number = 0


class EventKind(enum.IntEnum):
    """What happened to a key."""

    PUT = 0
    DELETE = 1


class Event(Struct, frozen=True, array_like=True, gc=False):
    """A change of one key. A key changes at most once in a revision.

    Attributes
    ----------
    kind : EventKind
        Put or deleted.
    kv : KeyValue
        What it became.
    prev_kv : KeyValue or None
        What it was before, None where there was no such key.
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
        For how many seconds it lives on after a keep-alive.
    grant : int
        Counts all grants of the store from 1 on: tells a lease from an earlier one of the same id. With 0 the lease
        was recalled, and is kept alive no more.
    """

    id: LeaseId
    ttl: TimeToLive
    grant: Number


class Put(Struct, frozen=True, array_like=True, tag=1):
    """Give a key a value.

    Attributes
    ----------
    key, value : bytes
        1 to 1,536 bytes, and at most 1 MiB.
    lease : int
        The lease to attach the key to; with 0 it is attached to none, whatever it was before.
    prev_kv : bool
        Whether the result shall have what was there before.
    """

    key: Key
    value: Value
    lease: Number = 0
    prev_kv: bool = False

    @classmethod
    def of(cls, key: str | bytes, value: str | bytes, *, lease: int = 0) -> Self:
        """Make one of text or bytes; text stands for its UTF-8."""
        return cls(to_bytes(key, "key"), to_bytes(value, "value"), lease)


class Range(Struct, frozen=True, array_like=True, tag=2):
    r"""Read keys, in ascending order.

    A result has at most 1.5 MiB; where that is less than what was asked for, `more` is true in it, and the rest
    follows from ``last_key + b"\0"`` at the revision of the first part.

    Attributes
    ----------
    key, range_end : bytes
        The single `key` where `range_end` is empty; else the keys from `key` on that are smaller than `range_end`,
        or all of them where that is ``b"\0"``. See :func:`prefix_range`.
    limit : int
        Give at most so many keys; 0 for no limit.
    revision : int
        Read the store as it was at that revision; 0 for now.
    keys_only : bool
        Leave the values empty.
    count_only : bool
        Only count.
    """

    key: Bound
    range_end: OptionalBound = b""
    limit: Number = 0
    revision: Number = 0
    keys_only: bool = False
    count_only: bool = False

    @classmethod
    def of(cls, key: str | bytes, *, prefix: bool = False, limit: int = 0) -> Self:
        """Make one of a key, or of a prefix; text stands for its UTF-8."""
        return cls(*_range(key, prefix=prefix), limit)


class DeleteRange(Struct, frozen=True, array_like=True, tag=3):
    """Delete keys, at most :data:`DELETED_MAX` of them in one command; refused when there are more.

    Attributes
    ----------
    key, range_end : bytes
        As in :class:`Range`.
    prev_kv : bool
        Whether the result shall have what was deleted; refused when that is more than a result can hold.
    """

    key: Bound
    range_end: OptionalBound = b""
    prev_kv: bool = False

    @classmethod
    def of(cls, key: str | bytes, *, prefix: bool = False) -> Self:
        """Make one of a key, or of a prefix; text stands for its UTF-8."""
        return cls(*_range(key, prefix=prefix))


class CompareTarget(enum.IntEnum):
    """What of a key is compared; the numbers are etcd's."""

    VERSION = 0
    CREATE = 1
    MOD = 2
    VALUE = 3
    LEASE = 4


class CompareOperator(enum.IntEnum):
    """How it is compared; the numbers are etcd's."""

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

    A key that is not there has the version, revisions and lease 0, and fulfils no condition on its value.

    Attributes
    ----------
    key : bytes
        The key.
    target : CompareTarget
        What of it is compared.
    operator : CompareOperator
        How.
    operand : int or bytes
        With what: bytes for the value, else a number.
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
        """Compare the lease that a key goes with."""
        return cls(to_bytes(key, "key"), CompareTarget.LEASE, _operator(comparison), lease)

    @classmethod
    def exists(cls, key: str | bytes) -> Self:
        """Ask that there is such a key."""
        return cls.version(key, ">", 0)

    @classmethod
    def missing(cls, key: str | bytes) -> Self:
        """Ask that there is no such key."""
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
        What to do, in this order, when all of them hold.
    failure : tuple of Put, Range and DeleteRange
        What to do otherwise. In neither a key may be put twice, or put and deleted.
    """

    compare: Annotated[tuple[Compare, ...], Meta(max_length=OPERATIONS_MAX)] = ()
    success: Operations = ()
    failure: Operations = ()


class LeaseGrant(Struct, frozen=True, array_like=True, tag=5):
    """Make a lease.

    Attributes
    ----------
    ttl : int
        For how many seconds it lives on after a keep-alive, at least 1.
    id : int
        Its id; with 0 the store chooses one that no lease has had.
    """

    ttl: TimeToLive
    id: Number = 0


class LeaseRevoke(Struct, frozen=True, array_like=True, tag=6):
    """End a lease, and delete the keys that are attached to it; said by its holder.

    Attributes
    ----------
    id : int
        The lease.
    """

    id: LeaseId


class LeaseExpire(Struct, frozen=True, array_like=True, tag=7):
    """End a lease whose time is up; proposed by the leader.

    Attributes
    ----------
    id, grant : int
        The lease. Another lease that has got the same id since is left alone.
    """

    id: LeaseId
    grant: Number


class Compact(Struct, frozen=True, array_like=True, tag=8):
    """Forget what was before a revision.

    Attributes
    ----------
    revision : int
        The oldest revision that can be read afterwards.
    """

    revision: Number


class LeaseRecall(Struct, frozen=True, array_like=True, tag=9):
    """End a lease as :class:`LeaseRevoke` does; but one that a lock goes with is only kept alive no more.

    It ends when its holder, who learns of it by that, revokes it, or when its time is up. Since version 3.

    Attributes
    ----------
    id : int
        The lease.
    """

    id: LeaseId


Command: TypeAlias = Operation | Txn | LeaseGrant | LeaseRevoke | LeaseRecall | LeaseExpire | Compact


def version_needed(command: Command) -> int:
    """Tell which version of the protocol a command needs, for itself, its fields and their bounds.

    What it does anew from a version on that it also did before is no matter of this function: the store goes by
    :attr:`~trioraft.kv.store.KeyValueStore.version` there.

    Parameters
    ----------
    command : Command
        The command.

    Returns
    -------
    int
        The version (:mod:`trioraft.versions`).
    """
    match command:
        case Txn(success=success, failure=failure):
            return max(map(version_needed, (*success, *failure)), default=FIRST_VERSION)
        case LeaseRecall():
            return 3
        case _:
            return FIRST_VERSION
