"""Checks of transactions: whether conditions hold, and whether operations contradict each other."""

from collections.abc import Sequence

from trioraft.kv.commands import Compare, CompareOperator, CompareTarget, DeleteRange, KeyValue, Operation, Put
from trioraft.kv.reading import bounds
from trioraft.kv.requests import RangeCompare


def holds(compare: Compare | RangeCompare, item: KeyValue | None) -> bool:
    """Check whether a condition holds.

    Parameters
    ----------
    compare : Compare or RangeCompare
        The condition.
    item : KeyValue or None
        Its key, or one of its keys, as it is now; None where there is none.

    Returns
    -------
    bool
        Whether it holds.
    """
    if item is None and compare.target == CompareTarget.VALUE:
        return False
    order = _order(_actual(item, compare.target), compare.operand)
    match compare.operator:
        case CompareOperator.EQUAL:
            return order == 0
        case CompareOperator.GREATER:
            return order > 0
        case CompareOperator.LESS:
            return order < 0
        case CompareOperator.NOT_EQUAL:
            return order != 0


def _actual(item: KeyValue | None, target: CompareTarget) -> int | bytes:
    if item is None:
        return 0
    match target:
        case CompareTarget.VERSION:
            return item.version
        case CompareTarget.CREATE:
            return item.create_revision
        case CompareTarget.MOD:
            return item.mod_revision
        case CompareTarget.VALUE:
            return item.value
        case CompareTarget.LEASE:
            return item.lease


def _order(left: int | bytes, right: int | bytes) -> int:
    # Compare makes sure that both are of one type.
    return (left > right) - (left < right)  # type: ignore[operator]


def has_overlaps(operations: Sequence[Operation]) -> bool:
    """Check whether operations would put a key twice, or put and delete it: a key changes once in a revision.

    Parameters
    ----------
    operations : sequence of Put, Range and DeleteRange
        The operations of one branch.

    Returns
    -------
    bool
        Whether they would.
    """
    keys = [operation.key for operation in operations if isinstance(operation, Put)]
    if len(set(keys)) < len(keys):
        return True
    deleted = [bounds(operation) for operation in operations if isinstance(operation, DeleteRange)]
    return any(start <= key and (end is None or key < end) for key in keys for start, end in deleted)
