"""The key-value store against the simplest thing that could be called one, and against a second replica of itself."""

import operator
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from trioraft.kv import (
    Change,
    Command,
    Compact,
    Compare,
    CompareOperator,
    CompareTarget,
    DeleteRange,
    DeleteRangeResult,
    Error,
    ErrorCode,
    Event,
    EventKind,
    HistoryLimits,
    KeyValue,
    KeyValueStore,
    LeaseExpire,
    LeaseGrant,
    LeaseRecall,
    LeaseRevoke,
    Put,
    PutResult,
    Range,
    RangeResult,
    Result,
    Txn,
    TxnResult,
    Watch,
    WatchBatch,
    WatchHub,
    decode_result,
    encode_command,
    prefix_range,
)
from trioraft.kv.requests import (
    DeleteRangeRequest,
    PutRequest,
    RangeCompare,
    RangeRequest,
    Request,
    TxnRequest,
)
from trioraft.replica.settings import DEFAULT_QUOTA

LIMITS = HistoryLimits(events=12)
ALL = prefix_range(b"")
Contents: TypeAlias = dict[bytes, KeyValue]

LOCK_KEYS: Final = {b"trioraft/locks/job/%016x" % lease: lease for lease in (1, 2)}
NO_LOCK: Final = b"trioraft/locks/job"
# The versions with locks and the refusals that protect their keys, with a quota, and with etcd's requests.
LATER: Final = 3
WITH_QUOTA: Final = 4
WITH_REQUESTS: Final = 6
# The bytes that a key counts besides its own, those of a lease, and the additional part of the quota for locks.
KEY_BYTES: Final = 256
LEASE_BYTES: Final = 512
LOCKS_SHARE: Final = 16

keys = st.binary(min_size=1, max_size=2).map(lambda key: bytes(b"abc"[byte % 3] for byte in key)) | st.sampled_from(
    [*LOCK_KEYS, NO_LOCK]
)
ends = st.sampled_from([b"", b"\0", b"b", b"bb", b"c"])
leases = st.integers(0, 3)
locking = st.sampled_from(list(LOCK_KEYS.items())).map(lambda item: Put(item[0], b"", item[1]))
values = st.binary(max_size=2) | st.sampled_from([bytes(100), bytes(400)])
puts = st.builds(Put, keys, values, leases, st.booleans()) | locking
deletes = st.builds(DeleteRange, keys, ends, st.booleans())
ranges = st.builds(Range, keys, ends, st.integers(0, 2))
operations = st.lists(puts | deletes | ranges, max_size=4)
conditions = st.builds(
    Compare,
    keys,
    st.sampled_from([target for target in CompareTarget if target is not CompareTarget.VALUE]),
    st.sampled_from(CompareOperator),
    st.integers(0, 3),
) | st.builds(Compare, keys, st.just(CompareTarget.VALUE), st.sampled_from(CompareOperator), st.binary(max_size=1))

Operation: TypeAlias = Put | DeleteRange | Range
HOLDS: Final[dict[CompareOperator, Callable[[Any, Any], bool]]] = {
    CompareOperator.EQUAL: operator.eq,
    CompareOperator.NOT_EQUAL: operator.ne,
    CompareOperator.GREATER: operator.gt,
    CompareOperator.LESS: operator.lt,
}


def inside(key: bytes, start: bytes, end: bytes) -> bool:
    return key == start if not end else start <= key and (end == b"\0" or key < end)


class Model:
    """A dictionary for every revision that there ever was, and the list of all events."""

    def __init__(self) -> None:
        self.revisions: list[Contents] = [{}, {}]
        self.events: list[Event] = []
        self.leases: set[int] = set()
        self.version = 1
        self.quota = DEFAULT_QUOTA

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

    def holds(self, compare: Compare) -> bool:
        item = self.now.get(compare.key, KeyValue(compare.key, b"", 0, 0, 0))
        found = {
            CompareTarget.VERSION: item.version,
            CompareTarget.CREATE: item.create_revision,
            CompareTarget.MOD: item.mod_revision,
            CompareTarget.LEASE: item.lease,
            CompareTarget.VALUE: item.value,
        }[compare.target]
        is_there = compare.key in self.now or compare.target is not CompareTarget.VALUE
        return is_there and HOLDS[compare.operator](found, compare.operand)

    def run(self, operations: Sequence[Operation]) -> tuple[PutResult | DeleteRangeResult | RangeResult, ...]:
        """Do operations in order as one revision, and return the result of each."""
        states = [dict(self.now)]
        for operation in operations:
            states.append(dict(states[-1]))
            if not isinstance(operation, Range):
                self.edit(operation)(states[-1], len(self.revisions))
        self.change(*(self.edit(operation) for operation in operations if not isinstance(operation, Range)))
        return tuple(map(self._found, operations, states))

    def _found(self, operation: Operation, before: Contents) -> PutResult | DeleteRangeResult | RangeResult:
        revision = len(self.revisions) - 1
        if isinstance(operation, Put):
            return PutResult(revision, before.get(operation.key) if operation.prev_kv else None)
        found = [item for key, item in sorted(before.items()) if inside(key, operation.key, operation.range_end)]
        if isinstance(operation, DeleteRange):
            return DeleteRangeResult(revision, len(found), tuple(found) if operation.prev_kv else ())
        shown = found[: operation.limit or None]
        return RangeResult(revision, tuple(shown), len(found), more=len(shown) < len(found))

    def allows(self, operations: Sequence[Operation]) -> bool:
        """Check whether all leases of operations exist, and no key of a lock is changed except by locking."""
        if not {operation.lease for operation in operations if isinstance(operation, Put)} <= self.leases | {0}:
            return False
        return self.fits(operations) and (self.version < LATER or not any(map(self.meets_lock, operations)))

    def size(self, contents: Contents) -> int:
        """Count keys and leases as the quota does."""
        return LEASE_BYTES * len(self.leases) + sum(
            KEY_BYTES + len(k) + len(item.value) for k, item in contents.items()
        )

    def fits(self, operations: Sequence[Operation]) -> bool:
        """Check whether operations leave the store no larger, or small enough."""
        after = dict(self.now)
        for operation in operations:
            if not isinstance(operation, Range):
                self.edit(operation)(after, len(self.revisions))
        put = [operation for operation in operations if isinstance(operation, Put)]
        locks = all(operation.lease == LOCK_KEYS.get(operation.key) for operation in put)
        return self.has_room(self.size(after) - self.size(self.now), locks=locks)

    def has_room(self, grows: int, *, locks: bool) -> bool:
        """Check whether the store may grow by so many bytes, all of them for locks or not."""
        if self.version < WITH_QUOTA or grows <= 0 or self.size(self.now) + grows <= self.quota:
            return True
        of_locks = {key: item for key, item in self.now.items() if self.goes_with_lock(key)}
        return locks and self.size(of_locks) + grows <= self.quota // LOCKS_SHARE

    def meets_lock(self, operation: Operation) -> bool:
        """Check whether an operation would change a key of a lock, or put a key among them."""
        match operation:
            case Put(key=key, lease=lease):
                return key.startswith(b"trioraft/locks/") and LOCK_KEYS.get(key, -1) != lease
            case DeleteRange(key=start, range_end=end):
                return any(inside(key, start, end) and self.goes_with_lock(key) for key in LOCK_KEYS)
            case Range():
                return False

    def goes_with_lock(self, key: bytes) -> bool:
        """Check whether there is such a key, and it is that of a lock."""
        return key in self.now and self.now[key].lease == LOCK_KEYS.get(key, -1)


def overlap(operations: Sequence[Operation]) -> bool:
    """Check whether a key is put twice, or put and deleted."""
    put = [operation.key for operation in operations if isinstance(operation, Put)]
    deleted = [operation for operation in operations if isinstance(operation, DeleteRange)]
    return len(put) > len(set(put)) or any(inside(key, d.key, d.range_end) for key in put for d in deleted)


def as_request(operation: Operation) -> PutRequest | DeleteRangeRequest | RangeRequest:
    """Return the request of etcd's that does what an operation does."""
    match operation:
        case Put(key=key, value=value, lease=lease, prev_kv=prev_kv):
            return PutRequest(key, value, lease, prev_kv)
        case DeleteRange(key=key, range_end=end, prev_kv=prev_kv):
            return DeleteRangeRequest(key, end, prev_kv)
        case Range(key=key, range_end=end, limit=limit):
            return RangeRequest(key, end, limit)


def as_compare(compare: Compare) -> RangeCompare:
    """Return the condition of etcd's that holds when another one does."""
    return RangeCompare(compare.key, compare.target, compare.operator, compare.operand)


@dataclass
class Watching:
    """A watch, the place from which it has to give events, and whether it has given all of them."""

    key: bytes
    range_end: bytes
    cursor: int
    watch: Watch | None = None
    woken: int = 0
    idle: bool = False

    def wake(self) -> None:
        self.woken += 1


class StoreComparison(RuleBasedStateMachine):
    """Does the same to the model, to a store, and to a replica that gets encoded commands."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.changes: list[Event] = []
        self.store = KeyValueStore(LIMITS, on_change=self.note)
        self.replica = KeyValueStore(LIMITS)
        self.reading: tuple[Iterator[bytes], str] | None = None
        self.reading_version = 1
        self.hub = WatchHub(self.store)
        self.watching: list[Watching] = []
        self.eager = Watching(b"a", b"\0", 1)

    def note(self, change: Change) -> None:
        self.changes += sorted(change.events, key=lambda event: event.kv.key)
        self.hub.publish(change)

    def both(self, command: Command | Request) -> Result:
        result = self.store.execute(command)
        assert decode_result(self.replica.apply(encode_command(command))) == result
        assert result.revision == self.store.revision
        return result

    def done(self, command: Command | Request) -> bool:
        return not isinstance(self.both(command), Error)

    @rule(compare=st.lists(conditions, max_size=2), success=operations, failure=operations)
    def transact(self, compare: list[Compare], success: list[Operation], failure: list[Operation]) -> None:
        holds = all(map(self.model.holds, compare))
        taken = success if holds else failure
        result = self.both(Txn(tuple(compare), tuple(success), tuple(failure)))
        if overlap(success) or overlap(failure) or not self.model.allows(taken):
            assert isinstance(result, Error)
            return
        responses = self.model.run(taken)
        assert result == TxnResult(len(self.model.revisions) - 1, holds, responses)

    @precondition(lambda self: self.model.version >= WITH_REQUESTS)
    @rule(compare=st.lists(conditions, max_size=2), success=operations, failure=operations)
    def request(self, compare: list[Compare], success: list[Operation], failure: list[Operation]) -> None:
        """Do it by one of etcd's requests, the operations in a transaction within it."""
        if overlap(success) or overlap(failure):
            return  # where etcd does not see that, a key changes twice
        holds = all(map(self.model.holds, compare))
        taken = success if holds else failure
        inner = TxnRequest((), tuple(map(as_request, success)))
        result = self.both(TxnRequest(tuple(map(as_compare, compare)), (inner,), tuple(map(as_request, failure))))
        if not self.model.allows(taken):
            assert isinstance(result, Error)
            return
        before = len(self.model.revisions) - 1
        responses = self.model.run(taken)
        assert isinstance(result, TxnResult)
        assert (result.revision, result.succeeded) == (len(self.model.revisions) - 1, holds)
        nested = result.responses[0] if holds else result
        assert isinstance(nested, TxnResult)
        assert (
            tuple(msgspec.structs.replace(each, revision=result.revision) for each in nested.responses) == responses
        )
        seen = [each.revision for each in nested.responses]
        assert seen == sorted(seen)
        assert {before, result.revision} >= set(seen)

    @rule(command=puts | deletes | ranges)
    def alone(self, command: Operation) -> None:
        result = self.both(command)
        if self.model.allows([command]):
            assert (result,) == self.model.run([command])
        else:
            assert isinstance(result, Error)

    @rule(lease=st.integers(1, 3))
    def grant(self, lease: int) -> None:
        may_be = lease not in self.model.leases and self.model.has_room(LEASE_BYTES, locks=True)
        assert self.done(LeaseGrant(5, id=lease)) == may_be
        if may_be:
            self.model.leases.add(lease)

    @rule(lease=st.integers(1, 3))
    def revoke(self, lease: int) -> None:
        assert self.done(LeaseRevoke(lease)) == (lease in self.model.leases)
        self.end(lease)

    @rule(to=st.sampled_from([LATER, WITH_QUOTA, WITH_REQUESTS]))
    def upgrade(self, to: int) -> None:
        """Let the cluster speak a later version of the protocol."""
        self.model.version = max(to, self.model.version)
        self.store.follow_version(self.model.version)
        self.replica.follow_version(self.model.version)

    @rule(quota=st.sampled_from([1, 600, 1200, 2400, 25_000, DEFAULT_QUOTA]))
    def change_quota(self, quota: int) -> None:
        """Change the quota, even to less than the store takes."""
        self.model.quota = quota
        self.store.follow_quota(quota)
        self.replica.follow_quota(quota)

    @rule(lease=st.integers(1, 3))
    def recall(self, lease: int) -> None:
        """Recall a lease: one by which a lock is held stays until its holder is done."""
        command = LeaseRecall(lease)
        if self.model.version < LATER:
            error = decode_result(self.replica.apply(encode_command(command)))
            assert isinstance(error, Error)
            assert error.code == ErrorCode.MALFORMED
            return
        is_there = lease in self.model.leases
        assert self.done(command) == is_there
        if not any(item.lease == lease == LOCK_KEYS.get(key) for key, item in self.model.now.items()):
            self.end(lease)
        elif is_there:
            found = self.store.lease(lease)
            assert found is not None
            assert found.grant == 0, "it is kept alive no more"

    @rule(lease=st.integers(1, 3), late=st.booleans())
    def expire(self, lease: int, late: bool) -> None:
        """Let a lease end because nobody kept it alive; or one that was granted again since, which lives on."""
        granted = self.store.lease(lease)
        grant = granted.grant if granted else 1
        told = LeaseExpire(lease, grant - late if grant else int(late))
        assert self.done(told) == (lease in self.model.leases and not late)
        if not late:
            self.end(lease)

    def end(self, lease: int) -> None:
        self.model.leases.discard(lease)
        attached = [DeleteRange(key) for key, item in self.model.now.items() if item.lease == lease]
        self.model.change(*map(Model.edit, attached))

    # --- watches ------------------------------------------------------------------------------------------

    @initialize()
    def watch_from_the_beginning(self) -> None:
        """Watch everything twice: one watch is looked at after each step, the other one now and then."""
        self.eager = self.begin_watch(b"a", b"\0", 1)
        self.watching.append(self.begin_watch(b"a", b"\0", 1))

    def begin_watch(self, key: bytes, end: bytes, revision: int) -> Watching:
        watching = Watching(key, end, revision)
        watching.idle = revision > self.store.revision
        watching.watch = self.hub.watch(key, end, revision=revision, wake=watching.wake)
        return watching

    @precondition(lambda self: len(self.watching) < 4)
    @rule(key=keys, end=ends, back=st.integers(-2, 8))
    def watch(self, key: bytes, end: bytes, back: int) -> None:
        """Watch from an earlier or later revision on."""
        self.watching.append(self.begin_watch(key, end, max(1, self.store.revision - back)))

    @precondition(lambda self: self.watching)
    @rule(pick=st.integers(0, 3), max_bytes=st.sampled_from([1, 5, 2**20]))
    def take(self, pick: int, max_bytes: int) -> None:
        watching = self.watching[pick % len(self.watching)]
        if not self.gives_all(watching, max_bytes):
            self.watching.remove(watching)

    def gives_all(self, watching: Watching, max_bytes: int = 2**20) -> bool:
        """Take all events, each once and in order; return False if the history has lost some of them."""
        assert watching.watch is not None
        expected = [
            event
            for event in self.model.events
            if event.kv.mod_revision >= watching.cursor and inside(event.kv.key, watching.key, watching.range_end)
        ]
        assert watching.woken == (watching.idle and bool(expected))
        found: list[Event] = []
        while isinstance(batch := watching.watch.take(max_bytes), WatchBatch):
            found += batch.events
        if batch is not None:
            assert batch.code == ErrorCode.COMPACTED
            assert watching.cursor < self.store.oldest_revision == batch.oldest_revision
            return False
        assert sorted(found, key=lambda event: (event.kv.mod_revision, event.kv.key)) == expected
        assert [event.kv.mod_revision for event in found] == [event.kv.mod_revision for event in expected]
        watching.cursor = max(watching.cursor, self.store.revision + 1)
        watching.idle, watching.woken = True, 0
        return True

    @precondition(lambda self: self.watching)
    @rule(pick=st.integers(0, 3))
    def stop_watching(self, pick: int) -> None:
        watching = self.watching.pop(pick % len(self.watching))
        assert watching.watch is not None
        watching.watch.close()
        assert watching.watch.take() is None

    @rule(back=st.integers(0, 8))
    def compact(self, back: int) -> None:
        revision = max(0, self.store.revision - back)
        if self.done(Compact(revision)):
            assert self.store.oldest_revision == max(revision, 1)
            assert revision or self.model.version >= WITH_REQUESTS, "nothing could be compacted, which etcd allows"

    @rule()
    def begin_snapshot(self) -> None:
        self.reading = self.store.snapshot(), self.store.digest()
        self.reading_version = self.model.version

    @precondition(lambda self: self.reading is not None)
    @rule()
    def finish_snapshot(self) -> None:
        """Compare a snapshot with the store at the time when it was taken, whatever has changed since."""
        assert self.reading is not None
        chunks, digest = self.reading
        restored = KeyValueStore(LIMITS)
        restored.follow_version(self.reading_version)
        restored.restore(chunks)
        assert restored.digest() == digest
        self.reading = None

    @rule()
    def continue_elsewhere(self) -> None:
        """Replace the replica by one that is restored from a snapshot, which must make no difference."""
        restored = KeyValueStore(LIMITS)
        restored.follow_version(self.model.version)
        restored.follow_quota(self.model.quota)
        restored.restore(self.store.snapshot())
        self.replica = restored

    @rule()
    def start_again(self) -> None:
        """Restart the node: its store takes over its own snapshot, and watches go on where they were."""
        self.store.restore(list(self.store.snapshot()))

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
    def the_size_is_that_of_what_is_there(self) -> None:
        assert self.store.size == self.model.size(self.model.now)
        assert self.store.quota == (self.model.quota if self.model.version >= WITH_QUOTA else 0)

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
        largest = max(Counter(event.kv.mod_revision for event in found).values(), default=0)
        assert len(found) <= LIMITS.events + (largest if self.model.version >= LATER else 0)
        assert isinstance(self.store.events_since(oldest - 1), Error)

    @invariant()
    def a_watch_that_keeps_up_gives_everything(self) -> None:
        if not self.gives_all(self.eager):  # one command had more events than the history keeps
            self.eager = self.begin_watch(b"a", b"\0", self.store.revision + 1)

    @invariant()
    def replicas_are_equal(self) -> None:
        assert self.replica.digest() == self.store.digest()


TestStoreComparison = StoreComparison.TestCase
TestStoreComparison.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
