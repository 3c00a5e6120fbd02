"""Watches: every event once and in order, or an error that says where to start again."""

from hypothesis import given
from hypothesis import strategies as st

from trioraft.kv import (
    DeleteRange,
    Error,
    ErrorCode,
    Event,
    EventKind,
    HistoryLimits,
    KeyValue,
    KeyValueStore,
    LeaseGrant,
    LeaseRevoke,
    Put,
    Txn,
    Watch,
    WatchBatch,
    WatchHub,
    prefix_range,
)

ALL = prefix_range(b"")


class World:
    """A store with a hub, and a count of how often a watch was woken."""

    def __init__(self, limits: HistoryLimits | None = None) -> None:
        self.store = KeyValueStore(limits or HistoryLimits())
        self.hub = WatchHub(self.store)
        self.store.on_change = self.hub.publish
        self.woken = 0

    def watch(self, key: bytes, range_end: bytes = b"", revision: int = 0) -> Watch:
        return self.hub.watch(key, range_end, revision=revision, wake=self.wake)

    def wake(self) -> None:
        self.woken += 1

    def put(self, *keys: bytes) -> None:
        for key in keys:
            self.store.execute(Put(key, key))


def seen(watch: Watch, max_bytes: int = 2**20) -> list[tuple[int, bytes]]:
    """Take everything, as revisions and keys."""
    found = []
    while isinstance(batch := watch.take(max_bytes), WatchBatch):
        found += [(event.kv.mod_revision, event.kv.key) for event in batch.events]
    assert batch is None
    return found


def test_a_watch_gives_what_happens_to_its_keys_from_now_on() -> None:
    world = World()
    world.put(b"a")
    one, prefix, everything = world.watch(b"a"), world.watch(*prefix_range(b"b")), world.watch(*ALL)
    assert (one.take(), prefix.take(), everything.take(), world.woken) == (None, None, None, 0)
    world.put(b"a", b"b", b"bb", b"c")
    assert seen(one) == [(3, b"a")]
    assert seen(prefix) == [(4, b"b"), (5, b"bb")]
    assert seen(everything) == [(3, b"a"), (4, b"b"), (5, b"bb"), (6, b"c")]


def test_events_have_a_key_as_it_was_and_as_it_became() -> None:
    world = World()
    watch = world.watch(b"a")
    world.put(b"a")
    world.store.execute(DeleteRange(b"a"))
    first = KeyValue(b"a", b"a", 2, 2, 1)
    gone = KeyValue(b"a", b"", 0, 3, 0)
    events = (Event(EventKind.PUT, first), Event(EventKind.DELETE, gone, first))
    assert watch.take() == WatchBatch(3, events)


def test_the_keys_of_a_lease_are_seen_to_go_with_it() -> None:
    world = World()
    world.store.execute(LeaseGrant(5, id=1))
    world.store.execute(Put(b"a", b"", lease=1))
    watch = world.watch(*ALL)
    world.store.execute(LeaseRevoke(1))
    assert seen(watch) == [(3, b"a")]


def test_a_watch_wakes_once_until_everything_is_taken() -> None:
    world = World()
    watch = world.watch(b"a")
    world.put(b"a", b"other", b"a")
    assert world.woken == 1
    seen(watch)
    world.put(b"other")
    assert world.woken == 1
    world.put(b"a")
    assert world.woken == 2


def test_a_watch_can_start_in_the_past_and_in_the_future() -> None:
    world = World()
    world.put(b"a", b"a", b"a")  # revisions 2, 3, 4
    past, future = world.watch(b"a", revision=3), world.watch(b"a", revision=6)
    assert seen(past) == [(3, b"a"), (4, b"a")]
    world.put(b"a", b"a")
    assert seen(past) == [(5, b"a"), (6, b"a")]
    assert seen(future) == [(6, b"a")]


def test_events_come_in_batches_that_divide_no_revision_where_that_is_asked() -> None:
    world = World()
    watch = world.watch(*ALL)
    for _ in range(3):
        world.store.execute(Txn(success=(Put(b"a", bytes(60)), Put(b"b", bytes(60)))))
    batches = [watch.take(max_bytes=800), watch.take(max_bytes=800), watch.take(max_bytes=800)]
    assert [(batch.revision, len(batch.events)) for batch in batches if isinstance(batch, WatchBatch)] == [
        (3, 4),
        (4, 2),
    ]
    assert batches[2] is None


def test_a_batch_has_no_more_than_was_asked_for_and_may_end_within_a_change() -> None:
    world = World()
    world.store.execute(Put(b"a", bytes(500)))
    watch = world.hub.watch(*ALL, revision=3, given=0, wake=world.wake)
    world.store.execute(Txn(success=(Put(b"a", bytes(500)), Put(b"b", b""), Put(b"c", bytes(500)))))
    batches = [watch.take(max_bytes=700) for _ in range(4)]
    assert [
        (
            batch.revision,
            batch.given,
            [(event.kv.key, len(event.kv.value), bool(event.prev_kv)) for event in batch.events],
        )
        for batch in batches
        if isinstance(batch, WatchBatch)
    ] == [
        (2, 1, [(b"a", 500, False)]),
        (2, 4, [(b"a", 0, True), (b"b", 0, False)]),
        (3, 0, [(b"c", 500, False)]),
    ]
    late = world.hub.watch(*ALL, revision=3, given=4, wake=world.wake)
    assert late.take() == batches[2]


def test_a_revision_larger_than_the_history_can_be_watched_until_as_much_has_followed() -> None:
    world = World(HistoryLimits(bytes=2000))
    world.store.follow_version(3)
    watch = world.watch(*ALL)
    for number in range(9):
        world.store.execute(Put(b"k%d" % number, bytes(900)))
    world.store.execute(DeleteRange(*ALL))
    assert isinstance(watch.take(), Error)
    for _ in range(15):
        world.store.execute(Put(b"other", b""))
        restored = KeyValueStore(HistoryLimits(bytes=2000))
        restored.follow_version(3)
        restored.restore(world.store.snapshot())
        assert restored.digest() == world.store.digest()
        assert len(seen(world.watch(*prefix_range(b"k"), revision=11))) == 9
    for _ in range(5):
        world.store.execute(Put(b"other", bytes(500)))
    assert isinstance(world.watch(*prefix_range(b"k"), revision=11).take(), Error)


def test_before_version_3_no_history_has_a_revision_larger_than_itself() -> None:
    world = World(HistoryLimits(bytes=2000))
    for number in range(9):
        world.store.execute(Put(b"k%d" % number, bytes(900)))
    world.store.execute(DeleteRange(*ALL))
    assert world.store.oldest_revision == world.store.revision + 1


def test_a_slow_watch_goes_on_as_long_as_the_history_reaches_back() -> None:
    world = World(HistoryLimits(events=3))
    slow = world.watch(b"a")
    world.put(b"a", b"a", b"a")
    assert seen(slow) == [(2, b"a"), (3, b"a"), (4, b"a")]


def test_a_watch_that_is_too_slow_is_told_the_oldest_revision_and_ends() -> None:
    world = World(HistoryLimits(events=3))
    slow = world.watch(b"a")
    world.put(b"a", b"a", b"a", b"a")
    assert slow.next_revision == 2
    error = slow.take()
    assert isinstance(error, Error)
    assert (error.code, error.oldest_revision, error.revision) == (ErrorCode.COMPACTED, 3, 5)
    world.put(b"a")
    assert slow.take() is None
    assert world.woken == 1


def test_a_watch_from_a_compacted_revision_is_told_so_at_once() -> None:
    world = World(HistoryLimits(events=1))
    world.put(b"a", b"a")
    error = world.watch(b"a", revision=2).take()
    assert isinstance(error, Error)
    assert "the oldest that can be watched from is 3" in error.message
    assert seen(world.watch(b"a", revision=error.oldest_revision)) == [(3, b"a")]


def test_a_watch_of_quiet_keys_does_not_fall_behind() -> None:
    world = World(HistoryLimits(events=2))
    watch = world.watch(b"quiet")
    world.put(*[b"busy"] * 10)
    assert watch.next_revision == 12
    world.put(b"quiet")
    assert seen(watch) == [(12, b"quiet")]


def test_a_closed_watch_is_forgotten() -> None:
    world = World()
    for watch in (world.watch(b"a"), world.watch(*ALL)):
        watch.close()
        watch.close()
    world.put(b"a")
    assert world.woken == 0


def test_after_a_restore_a_watch_goes_on_where_it_was_or_is_told_that_it_cannot() -> None:
    ahead = World(HistoryLimits(events=2))
    ahead.put(b"a", b"a", b"b")  # revisions 2, 3, 4
    behind = World(HistoryLimits(events=2))
    early = behind.watch(b"a")
    behind.put(b"a")
    late, future = behind.watch(b"a"), behind.watch(b"a", revision=9)
    behind.store.restore(ahead.store.snapshot())
    assert isinstance(early.take(), Error)
    assert seen(late) == [(3, b"a")]
    assert seen(future) == []


@given(st.lists(st.sampled_from([b"a", b"b", b"ba", b"take"]), max_size=30), st.integers(1, 5))
def test_nothing_is_missed_and_nothing_comes_twice(steps: list[bytes], max_bytes: int) -> None:
    world = World()
    watch = world.watch(*prefix_range(b"b"))
    expected, found = [], []
    for step in steps:
        if step == b"take":
            found += seen(watch, max_bytes)
        else:
            world.put(step)
            if step.startswith(b"b"):
                expected.append((world.store.revision, step))
    assert found + seen(watch, max_bytes) == expected
