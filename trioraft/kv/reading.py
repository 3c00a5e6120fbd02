"""Reading keys, now and at an older revision, within what a result can hold."""

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, Protocol

from msgspec import Struct

from trioraft.kv.commands import RESULT_MAX, Event, KeyValue, Range
from trioraft.kv.results import RangeResult
from trioraft.kv.state import State

_ITEM_OVERHEAD: Final = 100  # counted for each key, so that a result of tiny keys is bounded as well


class Keys(Protocol):
    """A key or a range of keys, as the commands have them."""

    @property
    def key(self) -> bytes:
        """The key, or the first one."""

    @property
    def range_end(self) -> bytes:
        r"""The end of the range; empty for the single key, and ``b"\0"`` where there is no end."""


class Found(Struct):
    """The keys of a range.

    Attributes
    ----------
    items : iterator of KeyValue
        The keys, in ascending order.
    count : int
        How many they are.
    """

    items: Iterator[KeyValue]
    count: int


def bounds(request: Keys) -> tuple[bytes, bytes | None]:
    """Return the first key of a request, and the first key after it, which is None where there is no end."""
    if not request.range_end:
        return request.key, request.key + b"\0"
    return request.key, None if request.range_end == b"\0" else request.range_end


def size(item: KeyValue) -> int:
    """Compute how many bytes a key counts in a result."""
    return len(item.key) + len(item.value) + _ITEM_OVERHEAD


def read(state: State, request: Range, now: int, uncommitted: Sequence[Event], room: int) -> RangeResult:
    """Read keys.

    Parameters
    ----------
    state : State
        The state; its history has the revision of the request.
    request : Range
        What to read.
    now : int
        The revision of the state.
    uncommitted : sequence of Event
        The events of that revision that are not in the history yet.
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
        The revision of the state.
    changed : mapping of bytes to KeyValue or None
        The keys that have changed, as they were before; None where a key did not exist.
    room : int
        How many bytes of keys and values the result may have.

    Returns
    -------
    RangeResult
        What was found.
    """
    all_found = find(state, request, changed)
    found, count = all_found.items, all_found.count
    if request.count_only:
        return RangeResult(now, (), count, more=False)
    if request.limit:
        found = islice(found, request.limit)
    if request.keys_only:
        found = map(_without_value, found)
    kvs = tuple(_fitting(found, room))
    return RangeResult(now, kvs, count, more=len(kvs) < count)


def find(state: State, request: Keys, changed: Mapping[bytes, KeyValue | None]) -> Found:
    """Find the keys of a range as they are where some of them are something else than in the state.

    Parameters
    ----------
    state : State
        The state.
    request : Keys
        The range.
    changed : mapping of bytes to KeyValue or None
        What is something else; None where there is no such key.

    Returns
    -------
    Found
        The keys, to be consumed before anything changes.
    """
    if not request.range_end:
        single = changed[request.key] if request.key in changed else state.items.get(request.key)
        return Found(iter((single,) if single is not None else ()), int(single is not None))
    start, end = bounds(request)
    found, count = state.items.values(start, end), state.items.count(start, end)
    changed = {key: item for key, item in changed.items() if start <= key and (end is None or key < end)}
    if changed:
        count += sum((item is not None) - (state.items.get(key) is not None) for key, item in changed.items())
        found = _merge(found, changed)
    return Found(found, count)


def _merge(found: Iterator[KeyValue], changed: Mapping[bytes, KeyValue | None]) -> Iterator[KeyValue]:
    """Replace keys by what they were before (None: nothing)."""
    # This is a heap and no sorted list, because only few of them may fit into the result.
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
    """Yield the items that have room; the first one always, where nothing else is in the result."""
    left = room
    for item in items:
        left -= size(item)
        if left < 0 and not (room == RESULT_MAX == left + size(item)):
            return
        yield item
