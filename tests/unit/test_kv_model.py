"""The key-value store against the simplest thing that could be called one, and against a second replica of itself."""

from collections.abc import Callable, Iterator
from typing import TypeAlias

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from trioraft.kv import (
    Change,
    Command,
    Compact,
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
    Range,
    RangeResult,
    Txn,
    decode_result,
    encode_command,
    prefix_range,
)

LIMITS = HistoryLimits(events=12)
ALL = prefix_range(b"")
Contents: TypeAlias = dict[bytes, KeyValue]

keys = st.binary(min_size=1, max_size=2).map(lambda key: bytes(b"abc"[byte % 3] for byte in key))
ends = st.sampled_from([b"", b"\0", b"b", b"bb", b"c"])
leases = st.integers(0, 3)
puts = st.builds(Put, keys, st.binary(max_size=2), leases, st.booleans())
deletes = st.builds(DeleteRange, keys, ends, st.booleans())


def inside(key: bytes, start: bytes, end: bytes) -> bool:
    return key == start if not end else start <= key and (end == b"\0" or key < end)


class Model:
    """A dictionary for every revision there ever was, and the list of all events."""

    def __init__(self) -> None:
        self.revisions: list[Contents] = [{}, {}]
        self.events: list[Event] = []
        self.leases: set[int] = set()

    @property
    def now(self) -> Contents:
        return self.revisions[-1]

    def change(self, *edits: Callable[[Contents, int], None]) -> None:
        revision = len(self.revisions)
        after = dict(self.now)
        for edit in edits:
            edit(after, revision)
        changed = [key for key in sorted(after.keys() | self.now.keys()) if after.get(key) != self.now.get(key)]
        for key in changed:
            kv = after.get(key)
            kind = EventKind.PUT if kv else EventKind.DELETE
            self.events.append(Event(kind, kv or KeyValue(key, b"", 0, revision, 0), self.now.get(key)))
        if changed:
            self.revisions.append(after)

    @staticmethod
    def edit(command: Put | DeleteRange) -> Callable[[Contents, int], None]:
        def put(contents: Contents, revision: int) -> None:
            assert isinstance(command, Put)
            old = contents.get(command.key)
            created, version = (old.create_revision, old.version + 1) if old else (revision, 1)
            contents[command.key] = KeyValue(command.key, command.value, created, revision, version, command.lease)

        def delete(contents: Contents, _: int) -> None:
            assert isinstance(command, DeleteRange)
            for key in [key for key in contents if inside(key, command.key, command.range_end)]:
                del contents[key]

        return put if isinstance(command, Put) else delete


class StoreComparison(RuleBasedStateMachine):
    """Does the same to the model, to a store, and to a replica that is told of it in bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.changes: list[Event] = []
        self.store = KeyValueStore(LIMITS, on_change=self.note)
        self.replica = KeyValueStore(LIMITS)
        self.reading: tuple[Iterator[bytes], str] | None = None

    def note(self, change: Change) -> None:
        self.changes += sorted(change.events, key=lambda event: event.kv.key)

    def both(self, command: Command) -> bool:
        result = self.store.execute(command)
        assert decode_result(self.replica.apply(encode_command(command))) == result
        assert result.revision == self.store.revision
        return not isinstance(result, Error)

    @rule(operations=st.lists(puts | deletes, max_size=4))
    def transact(self, operations: list[Put | DeleteRange]) -> None:
        put = [operation.key for operation in operations if isinstance(operation, Put)]
        deleted = [operation for operation in operations if isinstance(operation, DeleteRange)]
        leases_used = {operation.lease for operation in operations if isinstance(operation, Put)} - {0}
        allowed = (
            len(put) == len(set(put))
            and not any(inside(key, delete.key, delete.range_end) for key in put for delete in deleted)
            and leases_used <= self.model.leases
        )
        assert self.both(Txn(success=tuple(operations))) == allowed
        if allowed:
            self.model.change(*map(Model.edit, operations))

    @rule(command=puts | deletes)
    def change(self, command: Put | DeleteRange) -> None:
        allowed = isinstance(command, DeleteRange) or command.lease in self.model.leases | {0}
        assert self.both(command) == allowed
        if allowed:
            self.model.change(Model.edit(command))

    @rule(lease=st.integers(1, 3))
    def grant(self, lease: int) -> None:
        assert self.both(LeaseGrant(5, id=lease)) == (lease not in self.model.leases)
        self.model.leases.add(lease)

    @rule(lease=st.integers(1, 3))
    def revoke(self, lease: int) -> None:
        assert self.both(LeaseRevoke(lease)) == (lease in self.model.leases)
        self.model.leases.discard(lease)
        attached = [DeleteRange(key) for key, item in self.model.now.items() if item.lease == lease]
        self.model.change(*map(Model.edit, attached))

    @rule(back=st.integers(0, 8))
    def compact(self, back: int) -> None:
        revision = max(0, self.store.revision - back)
        if self.both(Compact(revision)):
            assert self.store.oldest_revision == revision

    @rule()
    def begin_snapshot(self) -> None:
        self.reading = self.store.snapshot(), self.store.digest()

    @precondition(lambda self: self.reading is not None)
    @rule()
    def finish_snapshot(self) -> None:
        """Compare it with what the store was when it was taken, whatever was done since."""
        assert self.reading is not None
        chunks, digest = self.reading
        restored = KeyValueStore(LIMITS)
        restored.restore(chunks)
        assert restored.digest() == digest
        self.reading = None

    @rule()
    def continue_elsewhere(self) -> None:
        """Replace the replica by one that is restored from a snapshot; nobody must be able to tell."""
        restored = KeyValueStore(LIMITS)
        restored.restore(self.store.snapshot())
        self.replica = restored

    @invariant()
    def contents_are_equal(self) -> None:
        result = self.store.query(Range(*ALL))
        expected = tuple(item for _, item in sorted(self.model.now.items()))
        assert result == RangeResult(len(self.model.revisions) - 1, expected, len(expected), more=False)
        for lease in range(1, 4):
            attached = sorted(key for key, item in self.model.now.items() if item.lease == lease)
            assert self.store.lease_keys(lease) == attached
        assert [lease.id for lease in self.store.leases()] == sorted(self.model.leases)

    @invariant()
    def every_revision_that_can_be_read_is_equal(self) -> None:
        for revision in range(1, self.store.revision + 1):
            result = self.store.query(Range(b"a", b"bb", revision=revision, limit=2))
            if isinstance(result, Error):
                assert result.code == ErrorCode.COMPACTED
                assert revision < result.oldest_revision <= self.store.oldest_revision
                continue
            contents = self.model.revisions[revision]
            expected = [item for key, item in sorted(contents.items()) if inside(key, b"a", b"bb")]
            assert (result.kvs, result.count) == (tuple(expected[:2]), len(expected))

    @invariant()
    def events_are_equal(self) -> None:
        assert self.changes == self.model.events
        oldest = self.store.oldest_revision
        kept = self.store.events_since(oldest)
        assert not isinstance(kept, Error)
        found = [event for events in kept for event in sorted(events, key=lambda event: event.kv.key)]
        assert found == [event for event in self.model.events if event.kv.mod_revision >= oldest]
        assert len(found) <= LIMITS.events
        assert isinstance(self.store.events_since(oldest - 1), Error)

    @invariant()
    def replicas_are_equal(self) -> None:
        assert self.replica.digest() == self.store.digest()


TestStoreComparison = StoreComparison.TestCase
TestStoreComparison.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
