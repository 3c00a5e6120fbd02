"""etcd's requests in full, as commands of the store: since version 6 of the protocol.

Names, fields and meanings are those of etcd 3.5. The commands of :mod:`~trioraft.kv.commands` are the common part of
them, which earlier versions had; they stay for what they can do. Here keys and values may together have as many bytes
as etcd allows, and leases any id of 64 bits. Nothing is checked when a request is made:
:func:`~trioraft.kv.checks.why_refused` does what etcd checks in it.
"""

import enum
from typing import Annotated, Final, TypeAlias, Union

from msgspec import Meta, Struct

from trioraft.kv.commands import (
    KEY_MAX,
    LONG_FROM,
    VALUE_MAX,
    Command,
    CompareOperator,
    CompareTarget,
    LeaseExpire,
    LeaseGrant,
    LeaseRecall,
    LeaseRevoke,
    LongBytes,
    Put,
    SignedNumber,
)
from trioraft.messages import FIRST_VERSION

# So deep may transactions be within each other, and so many operations and conditions may one request have in all of
# them. (etcd bounds only those of each transaction, and with them the depth.)
NESTED_MAX: Final = 32
IN_ALL_MAX: Final = 4096


MemberNumber = Annotated[int, Meta(ge=0)]  # etcd's have 64 bits, and so has a number in CBOR


class SortOrder(enum.IntEnum):
    """The order of the keys in an answer; the numbers are etcd's."""

    NONE = 0
    ASCEND = 1
    DESCEND = 2


class SortTarget(enum.IntEnum):
    """The part of a key that keys are sorted by; the numbers are etcd's."""

    KEY = 0
    VERSION = 1
    CREATE = 2
    MOD = 3
    VALUE = 4


class PutRequest(Struct, frozen=True, array_like=True, tag=10):
    """Set the value of a key, or its lease, or both.

    Attributes
    ----------
    key, value : bytes
        The key and its value.
    lease : int
        The lease to attach the key to; with 0 it is attached to none.
    prev_kv : bool
        Whether the result includes the key as it was before.
    ignore_value, ignore_lease : bool
        Whether the key, which must exist, keeps its value or its lease.
    """

    key: LongBytes
    value: LongBytes = b""
    lease: SignedNumber = 0
    prev_kv: bool = False
    ignore_value: bool = False
    ignore_lease: bool = False


class RangeRequest(Struct, frozen=True, array_like=True, tag=11):
    """Read keys.

    Attributes
    ----------
    key, range_end : bytes
        As in :class:`~trioraft.kv.commands.Range`.
    limit : int
        Return at most so many keys; 0 or less for no limit.
    revision : int
        Read the store as it was at that revision; 0 or less for now.
    sort_order : SortOrder
        The order. Where it is ``NONE`` and `sort_target` is not ``KEY``, it is ascending, and the limit is for the
        keys that are sorted, as in etcd.
    sort_target : SortTarget
        What is sorted by. Equal keys stay in the order of their names.
    keys_only : bool
        Leave the values empty.
    count_only : bool
        Only count the keys.
    min_mod_revision, max_mod_revision, min_create_revision, max_create_revision : int
        Leave out keys whose revisions are smaller or larger; 0 for no bound. They count all the same.
    """

    key: LongBytes
    range_end: LongBytes = b""
    limit: SignedNumber = 0
    revision: SignedNumber = 0
    sort_order: SortOrder = SortOrder.NONE
    sort_target: SortTarget = SortTarget.KEY
    keys_only: bool = False
    count_only: bool = False
    min_mod_revision: SignedNumber = 0
    max_mod_revision: SignedNumber = 0
    min_create_revision: SignedNumber = 0
    max_create_revision: SignedNumber = 0


class DeleteRangeRequest(Struct, frozen=True, array_like=True, tag=12):
    """Delete keys; refused when there are more than :data:`~trioraft.kv.commands.DELETED_MAX`.

    Attributes
    ----------
    key, range_end : bytes
        As in :class:`~trioraft.kv.commands.Range`.
    prev_kv : bool
        Whether the result includes the deleted keys; refused when a result cannot hold them.
    """

    key: LongBytes
    range_end: LongBytes = b""
    prev_kv: bool = False


class RangeCompare(Struct, frozen=True, array_like=True):
    """A condition on a key, or on every key of a range.

    For a range without keys, version, revisions and lease are 0, and no condition on its value holds.

    Attributes
    ----------
    key : bytes
        The key, or the start of the range.
    target : CompareTarget
        The part that is compared.
    operator : CompareOperator
        The operator.
    operand : int or bytes
        What it is compared with: bytes for the value, else a number.
    range_end : bytes
        The end of the range, as in :class:`~trioraft.kv.commands.Range`.
    """

    key: LongBytes
    target: CompareTarget = CompareTarget.VERSION
    operator: CompareOperator = CompareOperator.EQUAL
    operand: SignedNumber | LongBytes = 0
    range_end: LongBytes = b""

    def __post_init__(self) -> None:
        if isinstance(self.operand, bytes) != (self.target == CompareTarget.VALUE):
            raise ValueError("a value is compared with bytes, everything else with a number")


class TxnRequest(Struct, frozen=True, array_like=True, tag=13):
    """Do several things at one revision, depending on conditions.

    Attributes
    ----------
    compare : tuple of RangeCompare
        The conditions. Those of all transactions within each other are decided on the state before the first one.
    success, failure : tuple of requests
        The operations, in this order, when all conditions hold, and otherwise.
    """

    compare: tuple[RangeCompare, ...] = ()
    success: tuple["RequestOperation", ...] = ()
    failure: tuple["RequestOperation", ...] = ()


class EmptyRequest(Struct, frozen=True, array_like=True, tag=14):
    """Stand for an operation that says nothing, which etcd refuses."""


class AlarmAction(enum.IntEnum):
    """What is to be done with an alarm; the numbers are etcd's."""

    GET = 0
    ACTIVATE = 1
    DEACTIVATE = 2


class AlarmType(enum.IntEnum):
    """The kind of an alarm; the numbers are etcd's."""

    NONE = 0
    NOSPACE = 1
    CORRUPT = 2


class Alarm(Struct, frozen=True, array_like=True, order=True):
    """An alarm that a member has raised.

    Attributes
    ----------
    member : int
        The member, as etcd numbers it.
    alarm : AlarmType
        The kind.
    """

    member: MemberNumber
    alarm: AlarmType


class AlarmRequest(Struct, frozen=True, array_like=True, tag=15):
    """Raise an alarm, end one, or list them.

    The store only remembers alarms; they are for those who serve etcd's clients.

    Attributes
    ----------
    action : AlarmAction
        What is to be done.
    member : int
        The member; those of all members are listed.
    alarm : AlarmType
        The kind; ``NONE`` to list all kinds.
    """

    action: AlarmAction = AlarmAction.GET
    member: MemberNumber = 0
    alarm: AlarmType = AlarmType.NONE


# This is no `|`, because the name of a transaction is not known yet where the alias is made.
RequestOperation: TypeAlias = Union[PutRequest, RangeRequest, DeleteRangeRequest, TxnRequest, EmptyRequest]  # noqa: UP007
Request: TypeAlias = PutRequest | RangeRequest | DeleteRangeRequest | TxnRequest | AlarmRequest


def version_needed(command: Command | Request) -> int:
    """Return the version of the protocol that a command needs, for itself, its fields and their bounds.

    An older command may do something new from a version on. That does not count here: the store looks at its own
    :attr:`~trioraft.kv.store.KeyValueStore.version` then.

    Parameters
    ----------
    command : Command or Request
        The command.

    Returns
    -------
    int
        The version (:mod:`trioraft.versions`).
    """
    if isinstance(command, Request):
        return LONG_FROM
    match command:
        case LeaseGrant(id=lease) if lease < 0:
            return LONG_FROM
        case LeaseRevoke(id=lease) | LeaseRecall(id=lease) | LeaseExpire(id=lease) if lease < 1:
            return LONG_FROM
        case LeaseRecall():
            return 3
        case _:
            return FIRST_VERSION


def to_command(request: Request) -> Command | Request:
    """Return the shortest command for a request: an ordinary put is one of every version.

    Parameters
    ----------
    request : Request
        The request.

    Returns
    -------
    Command or Request
        The command, which has the same result.
    """
    if not isinstance(request, PutRequest) or request.ignore_value or request.ignore_lease or request.lease < 0:
        return request
    if not 0 < len(request.key) <= KEY_MAX or len(request.value) > VALUE_MAX:
        return request
    return Put(request.key, request.value, request.lease, request.prev_kv)
