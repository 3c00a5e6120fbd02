"""What etcd checks in a request alone, before it looks at any key, with etcd's order and etcd's gaps.

A key may change twice in one revision, in the order of the operations, where etcd does not see it: when it is deleted
by a range up to the last key, or by a transaction that comes, within the same one, after one that puts it.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Final

from trioraft.kv.commands import OPERATIONS_MAX
from trioraft.kv.requests import (
    IN_ALL_MAX,
    NESTED_MAX,
    DeleteRangeRequest,
    EmptyRequest,
    PutRequest,
    RangeRequest,
    Request,
    RequestOperation,
    TxnRequest,
)
from trioraft.kv.results import ErrorCode

_REASONS: Final = {
    ErrorCode.EMPTY_KEY: "the key is empty",
    ErrorCode.KEY_NOT_FOUND: "an operation of a transaction is empty",
    ErrorCode.VALUE_PROVIDED: "a value is given with ignore_value",
    ErrorCode.LEASE_PROVIDED: "a lease is given with ignore_lease",
    ErrorCode.TOO_MANY_OPERATIONS: (
        f"it has more than {OPERATIONS_MAX} operations or conditions, {IN_ALL_MAX} with those within it,"
        f" or more than {NESTED_MAX} transactions are within each other"
    ),
    ErrorCode.DUPLICATE_KEY: "a key is put twice, or put and deleted, in one transaction",
}


def why_refused(request: Request) -> ErrorCode | None:
    """Find out why a request is refused whatever the store holds.

    Parameters
    ----------
    request : Request
        The request.

    Returns
    -------
    ErrorCode or None
        The reason; None where there is none.
    """
    match request:
        case PutRequest() | RangeRequest() | DeleteRangeRequest():
            return _why_not_alone(request)
        case TxnRequest():
            reason = _why_not_in(request, OPERATIONS_MAX, NESTED_MAX)
            if reason is None and _in_all(request) > IN_ALL_MAX:
                reason = ErrorCode.TOO_MANY_OPERATIONS
            return reason or _why_contradictory(request)
        case _:
            return None


def in_words(code: ErrorCode) -> str:
    """Return a reason of :func:`why_refused` in words."""
    return _REASONS[code]


def is_read_only(txn: TxnRequest) -> bool:
    """Check whether no branch of a transaction changes anything.

    Parameters
    ----------
    txn : TxnRequest
        The transaction.

    Returns
    -------
    bool
        Whether it only reads.
    """
    operations = (*txn.success, *txn.failure)
    return all(
        is_read_only(operation) if isinstance(operation, TxnRequest) else isinstance(operation, RangeRequest)
        for operation in operations
    )


def _why_not_alone(request: PutRequest | RangeRequest | DeleteRangeRequest) -> ErrorCode | None:
    if not request.key:
        return ErrorCode.EMPTY_KEY
    if isinstance(request, PutRequest):
        if request.ignore_value and request.value:
            return ErrorCode.VALUE_PROVIDED
        if request.ignore_lease and request.lease:
            return ErrorCode.LEASE_PROVIDED
    return None


def _why_not_in(txn: TxnRequest, operations_max: int, nested_max: int) -> ErrorCode | None:
    """Find out why a transaction is refused; what it has counts for the transactions in it too."""
    count = max(len(txn.compare), len(txn.success), len(txn.failure))
    if count > operations_max or not nested_max:
        return ErrorCode.TOO_MANY_OPERATIONS
    if not all(compare.key for compare in txn.compare):
        return ErrorCode.EMPTY_KEY
    for operation in (*txn.success, *txn.failure):
        match operation:
            case TxnRequest():
                reason = _why_not_in(operation, operations_max - count, nested_max - 1)
            case EmptyRequest():
                reason = ErrorCode.KEY_NOT_FOUND
            case _:
                reason = _why_not_alone(operation)
        if reason is not None:
            return reason
    return None


def _why_contradictory(txn: TxnRequest) -> ErrorCode | None:
    try:
        _Changes(txn.success)
        _Changes(txn.failure)
    except _DuplicateKeyError:
        return ErrorCode.DUPLICATE_KEY
    return None


def _in_all(txn: TxnRequest) -> int:
    """Count the conditions and operations of a transaction and of all transactions within it."""
    operations = (*txn.success, *txn.failure)
    inner = (operation for operation in operations if isinstance(operation, TxnRequest))
    return len(txn.compare) + len(operations) + sum(map(_in_all, inner))


class _Spans:
    """The ranges of keys that are deleted, merged where they overlap."""

    def __init__(self) -> None:
        self._starts: list[bytes] = []
        self._ends: list[bytes] = []

    def __contains__(self, key: bytes) -> bool:
        place = bisect_right(self._starts, key)
        return place > 0 and key < self._ends[place - 1]

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(list(zip(self._starts, self._ends, strict=True)))

    def add(self, start: bytes, end: bytes) -> None:
        """Add a range; one that ends before it starts, as etcd takes one to the last key for, has no keys."""
        if end <= start:
            return
        first, after = bisect_left(self._ends, start), bisect_right(self._starts, end)
        if first < after:
            start, end = min(start, self._starts[first]), max(end, self._ends[after - 1])
        self._starts[first:after] = [start]
        self._ends[first:after] = [end]


class _DuplicateKeyError(Exception):
    """A key is put twice, or put and deleted."""


class _Changes:
    """What the operations of one branch put and delete, those of transactions within it included.

    Parameters
    ----------
    operations : sequence of requests
        The operations.

    Raises
    ------
    _DuplicateKeyError
        If they contradict each other, as far as etcd sees it.
    """

    def __init__(self, operations: Sequence[RequestOperation]) -> None:
        self.puts: set[bytes] = set()
        self.deletes = _Spans()
        for operation in operations:
            if isinstance(operation, DeleteRangeRequest):
                self.deletes.add(operation.key, operation.range_end or operation.key + b"\0")
        for operation in operations:
            if isinstance(operation, TxnRequest):
                self._add_txn(operation)
        for operation in operations:
            if isinstance(operation, PutRequest):
                self._add_puts({operation.key})

    def _add_txn(self, txn: TxnRequest) -> None:
        """Add both branches of a transaction, of which only one is carried out."""
        success, failure = _Changes(txn.success), _Changes(txn.failure)
        self._add_puts(success.puts | failure.puts)
        for branch in (success, failure):
            for start, end in branch.deletes:
                self.deletes.add(start, end)

    def _add_puts(self, keys: set[bytes]) -> None:
        if not self.puts.isdisjoint(keys) or any(key in self.deletes for key in keys):
            raise _DuplicateKeyError
        self.puts |= keys
