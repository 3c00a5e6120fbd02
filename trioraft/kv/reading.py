"""Reading keys, now and at an older revision, within what a result can hold."""

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

from trioraft.kv.commands import DeleteRange, Event, KeyValue, Range
from trioraft.kv.results import RangeResult
from trioraft.kv.state import State

_ITEM_OVERHEAD: Final = 100  # counted for each key in a result, so that one of tiny keys is bounded as well


def bounds(request: Range | DeleteRange) -> tuple[bytes, bytes | None]:
    """Give the first key of a request, and the first one behind it; None where there is none."""
    if not request.range_end:
        return request.key, request.key + b"\0"
    return request.key, None if request.range_end == b"\0" else request.range_end


def size(item: KeyValue) -> int:
    """Tell how many bytes a key counts in a result."""
    return len(item.key) + len(item.value) + _ITEM_OVERHEAD


def read(state: State, request: Range, now: int, uncommitted: Sequence[Event], room: int) -> RangeResult:
    """Read keys.

    Parameters
    ----------
    state : State
        The state; the revision that is asked for is in its history.
    request : Range
        What to read.
    now : int
        The revision of what is in the state.
    uncommitted : sequence of Event
        What of it is not in its history yet.
    room : int
        How many bytes of keys and values the result may have.

    Returns
    -------
    RangeResult
        What was found.
    """
    changed: Mapping[bytes, KeyValue | None] = {}
    if 0 < request.revision < now:
        changed = state.history.undo(request.revision, uncommitted, *bounds(request))
    return read_before(state, request, now, changed, room)


def read_before(
    state: State, request: Range, now: int, changed: Mapping[bytes, KeyValue | None], room: int
) -> RangeResult:
    """Read keys as they were before some of them changed.

    Parameters
    ----------
    state : State
        The state.
    request : Range
        What to read.
    now : int
        The revision of what is in the state.
    changed : mapping of bytes to KeyValue or None
        What of the range has changed, as it was before; None where it was not there.
    room : int
        How many bytes of keys and values the result may have.

    Returns
    -------
    RangeResult
        What was found.
    """
    start, end = bounds(request)
    changed = {key: item for key, item in changed.items() if start <= key and (end is None or key < end)}
    found, count = state.items.values(start, end), state.items.count(start, end)
    if changed:
        count += sum((item is not None) - (state.items.get(key) is not None) for key, item in changed.items())
        found = _merge(found, changed)
    if request.count_only:
        return RangeResult(now, (), count, more=False)
    if request.limit:
        found = islice(found, request.limit)
    if request.keys_only:
        found = map(_without_value, found)
    kvs = tuple(_fitting(found, room))
    return RangeResult(now, kvs, count, more=len(kvs) < count)


def _merge(found: Iterator[KeyValue], changed: Mapping[bytes, KeyValue | None]) -> Iterator[KeyValue]:
    """Put in what was there before (None: nothing), and leave out what has replaced it."""
    # A heap rather than a sorted list, because few of them may fit into the result.
    before = [(key, item) for key, item in changed.items() if item is not None]
    heapq.heapify(before)
    for item in found:
        while before and before[0][0] <= item.key:
            yield heapq.heappop(before)[1]
        if item.key not in changed:
            yield item
    while before:
        yield heapq.heappop(before)[1]


def _without_value(item: KeyValue) -> KeyValue:
    return KeyValue(item.key, b"", item.create_revision, item.mod_revision, item.version, item.lease)


def _fitting(items: Iterable[KeyValue], room: int) -> Iterator[KeyValue]:
    for item in items:
        room -= size(item)
        if room < 0:
            return
        yield item
