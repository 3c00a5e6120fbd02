"""What the checker is compared with: every order, on a store with concrete revisions, with no rule to save work."""

from collections.abc import Iterator, Sequence

import msgspec

from tests.linearizability.history import Operation
from tests.linearizability.models import (
    Cas,
    CasRevision,
    Delete,
    Deleted,
    Found,
    Get,
    KeyValueInput,
    KeyValueOutput,
    Put,
    Swapped,
    Written,
)

KeyValueOperation = Operation[KeyValueInput, KeyValueOutput]
_Key = tuple[str | None, int]  # value, and the revision of the latest change


def brute_force(operations: Sequence[KeyValueOperation]) -> bool:
    """Tell whether some order of the operations on one key explains every answer.

    An unseen change takes every revision in turn, up to one above all that were seen for each operation.
    """
    seen = [op.output.revision or 0 for op in operations if op.output is not None]
    asked = [op.input.expected for op in operations if isinstance(op.input, CasRevision)]
    highest = max(seen + asked, default=0) + len(operations) + 1
    return _possible(list(operations), (None, 0), highest)


def _possible(left: list[KeyValueOperation], state: _Key, highest: int) -> bool:
    if all(op.returned is None for op in left):
        return True
    for index, op in enumerate(left):
        if any(other.returned is not None and other.returned < op.called for other in left):
            continue
        rest = left[:index] + left[index + 1 :]
        if any(
            (op.returned is None or _matches(op.output, answer)) and _possible(rest, after, highest)
            for answer, after in _outcomes(op.input, state, highest)
        ):
            return True
    return False


def _matches(told: KeyValueOutput | None, answer: KeyValueOutput) -> bool:
    if told is not None and told.revision is None:
        return told == msgspec.structs.replace(answer, revision=None)
    return told == answer


def _outcomes(asked: KeyValueInput, state: _Key, highest: int) -> Iterator[tuple[KeyValueOutput, _Key]]:
    value, revision = state
    later = range(revision + 1, highest + 1)
    mod_revision = 0 if value is None else revision
    match asked:
        case Get():
            yield Found(value, mod_revision or None), state
        case Put(_, new):
            yield from ((Written(number), (new, number)) for number in later)
        case Delete() if value is None:
            yield Deleted(False), state
        case Delete():
            yield from ((Deleted(True, number), (None, number)) for number in later)
        case Cas(_, expected, new) if expected == value:
            yield from ((Swapped(True, number), (new, number)) for number in later)
        case CasRevision(_, expected, new) if expected == mod_revision:
            yield from ((Swapped(True, number), (new, number)) for number in later)
        case Cas() | CasRevision():
            yield Swapped(False), state
