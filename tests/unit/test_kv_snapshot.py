"""Snapshots: frozen while the store goes on, whole or not at all."""

import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioraft.kv import (
    Change,
    DeleteRange,
    Error,
    HistoryLimits,
    KeyValueStore,
    LeaseGrant,
    Put,
    Range,
    SnapshotError,
    prefix_range,
)
from trioraft.kv.commands import VALUE_MAX
from trioraft.kv.snapshot import CHUNK_MAX
from trioraft.kv.sorted_map import SortedMap
from trioraft.versions import SPOKEN

ALL = prefix_range(b"")


def filled(keys: int = 2000, value_bytes: int = 100) -> KeyValueStore:
    store = KeyValueStore(HistoryLimits(events=500))
    store.execute(LeaseGrant(60, id=5))
    for number in range(keys):
        store.execute(Put(b"%06d" % (number * 7919 % keys), bytes(value_bytes), lease=5 if number % 10 == 0 else 0))
    return store


def restored(chunks: Iterator[bytes] | list[bytes]) -> KeyValueStore:
    store = KeyValueStore(HistoryLimits(events=500))
    store.restore(chunks)
    return store


def disturb(store: KeyValueStore, random: Random) -> None:
    """Change, make and delete keys, here and there."""
    number = random.randrange(2000)
    store.execute(Put(b"%06d" % random.randrange(2000), b"disturbed"))
    store.execute(Put(b"%06d-new" % random.randrange(2000), b"new"))
    store.execute(DeleteRange(b"%06d" % number, b"%06d" % (number + 3)))
    store.execute(LeaseGrant(60))


def test_a_snapshot_shows_the_moment_it_was_taken_however_much_changes_while_it_is_read() -> None:
    store, random = filled(value_bytes=400), Random(1)
    digest = store.digest()
    expected = list(store.snapshot())
    iterators = [store.snapshot(), store.snapshot()]
    chunks: list[list[bytes]] = [[], []]
    for _ in expected:
        for iterator, found in zip(iterators, chunks, strict=True):
            disturb(store, random)
            found.append(next(iterator))
    assert len(expected) > 10
    assert chunks == [expected, expected]
    assert [next(iterator, None) for iterator in iterators] == [None, None]
    assert restored(expected).digest() == digest != store.digest()


def test_a_snapshot_outlives_a_restore_and_the_deletion_of_everything() -> None:
    store = filled()
    digest, before, after = store.digest(), store.snapshot(), KeyValueStore().snapshot()
    store.execute(DeleteRange(*ALL))
    store.restore(after)
    assert restored(before).digest() == digest


def test_chunks_are_bounded_even_for_the_largest_values() -> None:
    store = KeyValueStore()
    for key in (b"a", b"a", b"b"):
        store.execute(Put(key, bytes(VALUE_MAX)))
    chunks = list(store.snapshot())
    assert max(map(len, chunks)) == CHUNK_MAX
    copy = KeyValueStore()
    copy.restore(chunks)
    assert copy.digest() == store.digest()


def test_taking_a_snapshot_copies_next_to_nothing() -> None:
    large = filled(keys=50_000, value_bytes=10)
    tracemalloc.start()
    try:
        snapshot = large.snapshot()
        next(snapshot)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000  # references to 50,000 keys and values alone would take as much
    assert len(list(snapshot)) > 10


def test_a_restored_store_goes_on_like_the_original() -> None:
    store, random = filled(), Random(2)
    copy = restored(store.snapshot())
    assert copy.oldest_revision == store.oldest_revision > 1
    for replica in (store, copy):
        random.seed(3)
        for _ in range(50):
            disturb(replica, random)
    assert copy.digest() == store.digest()
    assert copy.leases() == store.leases()
    assert copy.lease_keys(5) == store.lease_keys(5)
    oldest = store.oldest_revision
    assert copy.query(Range(*ALL, revision=oldest)) == store.query(Range(*ALL, revision=oldest))
    events, copied = store.events_since(oldest), copy.events_since(oldest)
    assert not isinstance(events, Error)
    assert not isinstance(copied, Error)
    assert list(copied) == list(events)


def test_a_restored_store_reports_that_everything_was_replaced() -> None:
    told: list[Change] = []
    store = KeyValueStore(on_change=told.append)
    store.restore(filled(keys=10).snapshot())
    assert told == [Change(11, restored=True)]


@given(st.lists(st.integers(1, 40_000), min_size=1, max_size=10))
def test_a_stream_may_be_cut_anywhere(cuts: list[int]) -> None:
    store = filled(keys=200)
    data = b"".join(store.snapshot())
    edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    copy = restored([data[start:end] for start, end in pairwise(edges)])
    assert copy.digest() == store.digest()


DATA = b"".join(filled(keys=50).snapshot())


@given(
    st.one_of(
        st.integers(0, len(DATA) - 1).map(lambda end: DATA[:end]),
        st.binary(min_size=1, max_size=9).map(lambda more: DATA + more),
        st.binary(min_size=4, max_size=90),
        st.just(DATA + DATA),
    )
)
def test_a_stream_that_is_not_whole_is_refused_and_the_state_stays(data: bytes) -> None:
    store = filled(keys=3)
    before = store.digest()
    with pytest.raises(SnapshotError, match="the snapshot is"):
        store.restore([data])
    assert store.digest() == before


def test_values_that_a_view_has_kept_are_released_with_it() -> None:
    numbers: SortedMap[int, str] = SortedMap()
    numbers.put(1, "one")
    abandoned, view = numbers.freeze(), numbers.freeze()
    del abandoned
    numbers.put(1, "changed")
    numbers.put(2, "two")
    assert list(view) == ["one"]
    numbers.remove(1)
    assert list(numbers.freeze()) == ["two"]


@given(st.lists(st.tuples(st.integers(0, 700), st.booleans()), max_size=60), st.integers(0, 60))
def test_a_view_read_in_part_before_the_changes_is_still_complete(edits: list[tuple[int, bool]], pause: int) -> None:
    numbers: SortedMap[int, int] = SortedMap()
    for number in range(0, 700, 2):
        numbers.put(number, number)
    view = iter(numbers.freeze())
    found = [next(view) for _ in range(pause)]
    for number, put in edits:
        if put:
            numbers.put(number, -1)
        elif numbers.get(number) is not None:
            numbers.remove_range(number, number + 5)
    found += view
    assert found == list(range(0, 700, 2))


def test_a_history_that_was_kept_by_an_earlier_version_s_limits_is_restored_whole() -> None:
    """From version 3 on a history drops what is old as soon as it reaches its limits, and not when it passes them."""
    limits = HistoryLimits(events=5)
    store = KeyValueStore(limits)
    for number in range(limits.events):
        store.execute(Put(b"%d" % number, b"1"))
    store.follow_version(SPOKEN.highest)
    copy = KeyValueStore(limits)
    copy.follow_version(SPOKEN.highest)
    copy.restore(store.snapshot())
    assert copy.digest() == store.digest()
    question = Range(*ALL, revision=1)
    assert copy.execute(question) == store.execute(question)
    for each in (store, copy):
        each.execute(Put(b"a", b"1"))
    assert copy.digest() == store.digest()
