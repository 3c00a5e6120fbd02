"""etcd's requests in full: what is refused, what is bounded, and what etcd does that one would not guess.

What is said here of etcd was seen on a real one; ``tests/differential`` compares the store with it at random.
"""

from collections.abc import Sequence

import pytest

from trioraft.kv import (
    Compact,
    DeleteRange,
    Error,
    ErrorCode,
    EventKind,
    KeyValue,
    KeyValueStore,
    LeaseGrant,
    LeaseRevoke,
    Put,
    Range,
    WatchBatch,
    WatchHub,
    decode_command,
    decode_result,
    encode_command,
)
from trioraft.kv.checks import is_read_only, why_refused
from trioraft.kv.codec import encode_request, pack
from trioraft.kv.commands import LONG_MAX, Command, CompareOperator, CompareTarget, LeaseRecall
from trioraft.kv.evaluation import LOOKS_MAX
from trioraft.kv.requests import (
    NESTED_MAX,
    Alarm,
    AlarmAction,
    AlarmRequest,
    AlarmType,
    DeleteRangeRequest,
    EmptyRequest,
    PutRequest,
    RangeCompare,
    RangeRequest,
    Request,
    RequestOperation,
    SortOrder,
    SortTarget,
    TxnRequest,
)
from trioraft.kv.results import (
    AlarmResult,
    CompactResult,
    DeleteRangeResult,
    LeaseGrantResult,
    OperationResult,
    PutResult,
    RangeResult,
    Result,
    TxnResult,
)

VERSION = 6
LARGE = 3 * 2**18
LOCK_KEY = b"trioraft/locks/job/%016x" % 1


def store_with(*keys: bytes) -> KeyValueStore:
    """Return a store where each key was put once, from revision 2 on, with its own name for a value."""
    store = KeyValueStore()
    store.follow_version(VERSION)
    for key in keys:
        store.execute(Put(key, key))
    return store


def done(store: KeyValueStore, *operations: RequestOperation) -> tuple[OperationResult, ...]:
    """Carry out a transaction without conditions, and return the results of its operations."""
    result = ask(store, TxnRequest((), operations))
    assert isinstance(result, TxnResult), result
    return result.responses


def ask(store: KeyValueStore, command: Command | Request) -> Result:
    """Carry out a command as bytes; what is refused changes nothing."""
    before = store.digest()
    result = decode_result(store.apply(encode_command(command)))
    if isinstance(result, Error):
        assert store.digest() == before
    return result


def refused(store: KeyValueStore, command: Command | Request) -> ErrorCode:
    """Return why a command is refused."""
    result = ask(store, command)
    assert isinstance(result, Error), result
    return result.code


def nested(depth: int, *innermost: RequestOperation) -> TxnRequest:
    """Return transactions within each other."""
    txn = TxnRequest((), innermost)
    for _ in range(depth - 1):
        txn = TxnRequest((), (txn,))
    return txn


# --- a request alone ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (PutRequest(b""), ErrorCode.EMPTY_KEY),
        (PutRequest(b"a", b"1", ignore_value=True), ErrorCode.VALUE_PROVIDED),
        (PutRequest(b"a", lease=1, ignore_lease=True), ErrorCode.LEASE_PROVIDED),
        (RangeRequest(b""), ErrorCode.EMPTY_KEY),
        (DeleteRangeRequest(b"", b"a"), ErrorCode.EMPTY_KEY),
        (TxnRequest((RangeCompare(b""),)), ErrorCode.EMPTY_KEY),
        (TxnRequest((), (EmptyRequest(),)), ErrorCode.KEY_NOT_FOUND),
        (TxnRequest((), (), (PutRequest(b""),)), ErrorCode.EMPTY_KEY),
        (TxnRequest((), (RangeRequest(b"a"),) * 129), ErrorCode.TOO_MANY_OPERATIONS),
        (
            TxnRequest((), (nested(1, *(RangeRequest(b"a"),) * 127), RangeRequest(b"a"))),
            ErrorCode.TOO_MANY_OPERATIONS,
        ),
        (nested(NESTED_MAX + 1), ErrorCode.TOO_MANY_OPERATIONS),
        (TxnRequest((), (nested(1, *(RangeRequest(b"a"),) * 64),) * 64), ErrorCode.TOO_MANY_OPERATIONS),
        (TxnRequest((), (PutRequest(b"a"), PutRequest(b"a"))), ErrorCode.DUPLICATE_KEY),
        (TxnRequest((), (PutRequest(b"a"), nested(2, PutRequest(b"a")))), ErrorCode.DUPLICATE_KEY),
        (TxnRequest((), (nested(1, PutRequest(b"a")), nested(1, PutRequest(b"a")))), ErrorCode.DUPLICATE_KEY),
        (TxnRequest((), (PutRequest(b"b"), DeleteRangeRequest(b"a", b"c"))), ErrorCode.DUPLICATE_KEY),
        (TxnRequest((), (DeleteRangeRequest(b"a"), nested(1, PutRequest(b"a")))), ErrorCode.DUPLICATE_KEY),
        (TxnRequest((), (nested(1, DeleteRangeRequest(b"a")), nested(1, PutRequest(b"a")))), ErrorCode.DUPLICATE_KEY),
    ],
)
def test_what_is_wrong_in_a_request_itself_has_etcds_reason(request_: Request, reason: ErrorCode) -> None:
    assert why_refused(request_) == reason
    if request_ != nested(NESTED_MAX + 1):  # which cannot be read at all
        assert refused(store_with(b"a"), request_) == reason


@pytest.mark.parametrize(
    "operations",
    [
        (DeleteRangeRequest(b"a", b"c"), DeleteRangeRequest(b"b")),
        (TxnRequest((), (PutRequest(b"a"),), (PutRequest(b"a"),)),),
        (nested(1, PutRequest(b"a")), nested(1, DeleteRangeRequest(b"a"))),
        (PutRequest(b"b"), DeleteRangeRequest(b"a", b"\0")),
        (PutRequest(b"c"), DeleteRangeRequest(b"a", b"c"), DeleteRangeRequest(b"d", b"e")),
        (nested(NESTED_MAX - 1, *(RangeRequest(b"a"),) * (128 - NESTED_MAX + 1)),),
    ],
)
def test_what_etcd_does_not_mind_is_carried_out(operations: Sequence[RequestOperation]) -> None:
    assert done(store_with(b"a"), *operations)


def test_a_transaction_only_reads_if_no_branch_at_any_depth_changes_anything() -> None:
    assert is_read_only(TxnRequest((), (RangeRequest(b"a"), nested(3, RangeRequest(b"a")))))
    assert not is_read_only(TxnRequest((), (), (nested(3, DeleteRangeRequest(b"a")),)))


# --- what etcd does that one would not guess ------------------------------------------------------------------


def test_conditions_of_inner_transactions_look_at_the_state_before_the_outer_one() -> None:
    store = store_with(b"a")
    changed = RangeCompare(b"a", CompareTarget.VERSION, CompareOperator.EQUAL, 2)
    inner = TxnRequest((changed,), (PutRequest(b"b"),), (PutRequest(b"c"),))
    _, found = done(store, PutRequest(b"a"), inner)
    assert found == TxnResult(3, succeeded=False, responses=(PutResult(3),))


def test_each_operation_sees_those_before_it_and_has_the_revision_after_it() -> None:
    store = store_with(b"a", b"b")
    a, b = (store.query(Range(key)).kvs[0] for key in (b"a", b"b"))  # type: ignore[union-attr]
    everything = RangeRequest(b"a", b"\0")
    results = done(store, everything, DeleteRangeRequest(b"x"), DeleteRangeRequest(b"a"), everything)
    assert results[:2] == (RangeResult(3, (a, b), 2, more=False), DeleteRangeResult(3, 0))
    assert results[2:] == (DeleteRangeResult(4, 1), RangeResult(4, (b,), 1, more=False))
    before = done(store, PutRequest(b"a"), RangeRequest(b"a", revision=2), RangeRequest(b"a", revision=4))
    assert before[1:] == (RangeResult(5, (a,), 1, more=False), RangeResult(5, (), 0, more=False))


def test_a_key_may_change_twice_in_one_revision_and_a_watch_shows_both_with_what_was_before_it() -> None:
    store = store_with(b"a")
    hub = WatchHub(store)
    store.on_change = hub.publish
    watch = hub.watch(b"a", b"\0", wake=lambda: None)
    before = store.query(Range(b"a")).kvs[0]  # type: ignore[union-attr]
    done(store, PutRequest(b"a", b"2"), DeleteRangeRequest(b"a", b"\0"), nested(1, PutRequest(b"b")))
    taken = watch.take()
    assert isinstance(taken, WatchBatch)
    assert [(event.kind, event.kv.key, event.kv.mod_revision, event.prev_kv) for event in taken.events] == [
        (EventKind.PUT, b"a", 3, before),
        (EventKind.DELETE, b"a", 3, before),
        (EventKind.PUT, b"b", 3, None),
    ]
    restored = KeyValueStore()
    restored.follow_version(VERSION)
    restored.restore(store.snapshot())
    assert restored.digest() == store.digest()
    assert restored.query(Range(b"a", b"\0", revision=2)) == store.query(Range(b"a", b"\0", revision=2))


def test_a_key_that_is_deleted_and_put_in_one_revision_begins_anew() -> None:
    store = store_with(b"a")
    before = store.query(Range(b"a"))
    assert isinstance(before, RangeResult)
    hub = WatchHub(store)
    store.on_change = hub.publish
    watch = hub.watch(b"a", wake=lambda: None)
    deleted, put = done(store, DeleteRangeRequest(b"a", b"\0"), PutRequest(b"a", b"2", prev_kv=True))
    assert (deleted, put) == (DeleteRangeResult(3, 1), PutResult(3))
    found = store.query(Range(b"a"))
    assert isinstance(found, RangeResult)
    assert found.kvs == (KeyValue(b"a", b"2", 3, 3, 1),)
    taken = watch.take()
    assert isinstance(taken, WatchBatch)
    assert [event.prev_kv for event in taken.events] == [before.kvs[0], None]
    assert store.query(Range(b"a", revision=2)) == RangeResult(3, before.kvs, 1, more=False)


def test_a_condition_on_a_range_holds_if_it_does_for_every_key() -> None:
    store = store_with(b"a", b"b")

    def holds(target: CompareTarget, operator: CompareOperator, operand: int | bytes, key: bytes = b"a") -> bool:
        result = ask(store, TxnRequest((RangeCompare(key, target, operator, operand, b"c"),)))
        assert isinstance(result, TxnResult)
        return result.succeeded

    assert holds(CompareTarget.VERSION, CompareOperator.EQUAL, 1)
    assert holds(CompareTarget.CREATE, CompareOperator.LESS, 4)
    assert not holds(CompareTarget.CREATE, CompareOperator.LESS, 3)
    assert not holds(CompareTarget.VALUE, CompareOperator.EQUAL, b"a")
    assert holds(CompareTarget.VERSION, CompareOperator.EQUAL, 0, key=b"bb")
    assert not holds(CompareTarget.VALUE, CompareOperator.NOT_EQUAL, b"1", key=b"bb")


def test_a_key_keeps_its_value_or_lease_where_the_request_says_so() -> None:
    store = store_with(b"a")
    store.execute(LeaseGrant(60, -7))
    assert ask(store, PutRequest(b"a", lease=-7, ignore_value=True)) == PutResult(3)
    assert ask(store, PutRequest(b"a", b"2", ignore_lease=True)) == PutResult(4)
    item = store.query(Range(b"a")).kvs[0]  # type: ignore[union-attr]
    assert (item.value, item.lease, item.version) == (b"2", -7, 3)
    assert refused(store, PutRequest(b"b", ignore_lease=True)) == ErrorCode.KEY_NOT_FOUND
    assert refused(store, PutRequest(b"b", lease=8, ignore_value=True)) == ErrorCode.LEASE_NOT_FOUND
    in_txn = TxnRequest((), (PutRequest(b"b", lease=8, ignore_value=True),))
    assert refused(store, in_txn) == ErrorCode.KEY_NOT_FOUND
    assert ask(store, LeaseRecall(-7))
    assert store.query(Range(b"a")) == RangeResult(5, (), 0, more=False)


def test_a_sort_without_an_order_is_of_the_keys_that_the_limit_takes_and_one_more() -> None:
    store = store_with(b"c", b"b", b"a")

    def found(request: RangeRequest) -> list[bytes]:
        result = ask(store, request)
        assert isinstance(result, RangeResult)
        assert result == store.evaluate(request)
        assert (result.count, result.more) == (3, bool(request.limit))
        return [item.key for item in result.kvs]

    by_age = RangeRequest(b"a", b"\0", sort_target=SortTarget.CREATE)
    assert found(by_age) == [b"c", b"b", b"a"]
    by_age_1 = RangeRequest(b"a", b"\0", 1, sort_target=SortTarget.CREATE)
    assert found(by_age_1) == [b"b"]
    first = RangeRequest(b"a", b"\0", 1, 0, SortOrder.ASCEND, SortTarget.CREATE)
    assert found(first) == [b"c"]
    last = RangeRequest(b"a", b"\0", 1, 0, SortOrder.DESCEND)
    assert found(last) == [b"c"]


def test_bounds_of_revisions_leave_keys_out_that_count_all_the_same() -> None:
    store = store_with(b"a", b"b", b"c")
    result = ask(store, RangeRequest(b"a", b"\0", min_mod_revision=3, max_create_revision=3, keys_only=True))
    assert isinstance(result, RangeResult)
    assert ([item.key for item in result.kvs], result.count, result.more) == ([b"b"], 3, False)
    assert result.kvs[0].value == b""


def test_revisions_are_refused_as_etcd_does_it_also_below_zero() -> None:
    store = store_with(b"a", b"b")
    assert refused(store, RangeRequest(b"a", revision=4)) == ErrorCode.FUTURE_REVISION
    assert isinstance(ask(store, RangeRequest(b"a", revision=-9)), RangeResult)
    assert refused(store, TxnRequest((), (PutRequest(b"x"), RangeRequest(b"a", revision=4)))) == (
        ErrorCode.FUTURE_REVISION
    )
    assert done(store, RangeRequest(b"a", revision=-1))
    assert refused(store, TxnRequest((), (RangeRequest(b"a", revision=-2),))) == ErrorCode.COMPACTED
    assert ask(store, Compact(0)) == CompactResult(3)
    assert ask(store, Compact(3)) == CompactResult(3)
    assert refused(store, Compact(0)) == ErrorCode.COMPACTED
    assert refused(store, RangeRequest(b"a", revision=2)) == ErrorCode.COMPACTED
    assert refused(store, TxnRequest((), (RangeRequest(b"a", revision=-1),))) == ErrorCode.COMPACTED


# --- bounds, locks and the quota ------------------------------------------------------------------------------


def test_a_key_and_a_value_may_be_as_large_as_a_command_and_are_read_whole() -> None:
    store = store_with()
    put = PutRequest(bytes(2000), bytes(2 * LARGE - 2000))
    assert ask(store, put) == PutResult(2)
    found = store.query(Range(b"\0", b"\0"))
    assert isinstance(found, RangeResult)
    assert (found.kvs[0].value, found.more) == (put.value, False)
    restored = KeyValueStore()
    restored.follow_version(VERSION)
    ask(store, put)
    restored.restore(store.snapshot())
    assert restored.digest() == store.digest()
    with pytest.raises(ValueError, match=f"at most {LONG_MAX} are allowed"):
        encode_command(PutRequest(b"a", bytes(LONG_MAX - 5)))


def test_a_result_is_never_cut_short_but_refused_and_nothing_changes() -> None:
    store = store_with()
    for key in (b"a", b"b", b"c"):
        ask(store, PutRequest(key, bytes(LARGE)))
    everything = RangeRequest(b"a", b"\0")
    assert refused(store, TxnRequest((), (PutRequest(b"d"), everything))) == ErrorCode.TOO_LARGE
    assert refused(store, DeleteRangeRequest(b"a", b"\0", prev_kv=True)) == ErrorCode.TOO_LARGE
    assert isinstance(store.evaluate(everything), RangeResult), "on a node itself there is no such bound"


def test_a_request_deletes_and_looks_at_so_many_keys_at_most() -> None:
    store = store_with()
    for number in range(10_001):
        store.execute(Put(b"%05d" % number, b""))
    assert refused(store, DeleteRangeRequest(b"0", b"\0")) == ErrorCode.TOO_LARGE
    all_there = RangeCompare(b"0", CompareTarget.VERSION, CompareOperator.EQUAL, 1, b"\0")
    fewer = (all_there,) * (LOOKS_MAX // 10_001)
    assert isinstance(store.evaluate(TxnRequest(fewer)), TxnResult)
    assert refused(store, TxnRequest((*fewer, all_there))) == ErrorCode.TOO_LARGE
    assert ask(store, DeleteRangeRequest(b"00001", b"\0")) == DeleteRangeResult(10_003, 10_000)


def test_keys_of_locks_are_as_safe_from_these_requests_as_from_others() -> None:
    store = store_with()
    store.execute(LeaseGrant(60, 1))
    assert refused(store, PutRequest(LOCK_KEY)) == ErrorCode.LOCKED
    assert ask(store, PutRequest(LOCK_KEY, lease=1)) == PutResult(2)
    assert refused(store, TxnRequest((), (nested(2, DeleteRangeRequest(b"a", b"\0")),))) == ErrorCode.LOCKED
    assert ask(store, PutRequest(LOCK_KEY, b"x", ignore_lease=True)) == PutResult(3)


def test_the_quota_counts_what_a_whole_transaction_leaves() -> None:
    store = store_with(b"a")
    store.follow_quota(1000)
    assert refused(store, PutRequest(b"b", bytes(600))) == ErrorCode.NO_SPACE
    result = done(store, nested(1, PutRequest(b"b", bytes(600))), DeleteRangeRequest(b"a"))
    assert result[1] == DeleteRangeResult(3, 1)
    assert ask(store, DeleteRangeRequest(b"b")) == DeleteRangeResult(4, 1)


# --- alarms ---------------------------------------------------------------------------------------------------


def test_alarms_are_remembered_and_are_in_a_snapshot_only_where_there_are_some() -> None:
    store, empty = store_with(), store_with()
    alarm = Alarm(2**64 - 1, AlarmType.NOSPACE)
    assert ask(store, AlarmRequest(AlarmAction.ACTIVATE, alarm.member, alarm.alarm)) == AlarmResult(1, (alarm,))
    assert store.alarms == (alarm,)
    assert ask(store, AlarmRequest()) == AlarmResult(1, (alarm,))
    assert ask(store, AlarmRequest(alarm=AlarmType.CORRUPT)) == AlarmResult(1, ())
    restored = store_with()
    restored.restore(store.snapshot())
    assert restored.alarms == store.alarms
    assert ask(store, AlarmRequest(AlarmAction.DEACTIVATE, 1, alarm.alarm)) == AlarmResult(1, ())
    assert ask(store, AlarmRequest(AlarmAction.DEACTIVATE, alarm.member, alarm.alarm)) == AlarmResult(1, (alarm,))
    assert store.digest() == empty.digest()


# --- versions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        PutRequest(b"a"),
        RangeRequest(b"a"),
        DeleteRangeRequest(b"a"),
        TxnRequest(),
        nested(NESTED_MAX),
        AlarmRequest(),
        LeaseGrant(60, -1),
        LeaseRevoke(0),
        LeaseRecall(-1),
    ],
)
def test_before_the_version_a_request_is_no_command_at_all(command: Command | Request) -> None:
    store = KeyValueStore()
    data = encode_command(command)
    assert store.version_needed(data) == VERSION
    store.follow_version(VERSION - 1)
    assert refused(store, command) == ErrorCode.MALFORMED
    store.follow_version(VERSION)
    assert decode_command(data) == command
    result = ask(store, command)
    assert not isinstance(result, Error) or result.code == ErrorCode.LEASE_NOT_FOUND


def test_a_compaction_at_zero_and_a_larger_command_are_refused_before_the_version_as_they_were() -> None:
    store = store_with(b"a")
    store.follow_version(VERSION - 1)
    assert refused(store, Compact(0)) == ErrorCode.COMPACTED
    assert isinstance(error := decode_result(store.apply(bytes(LONG_MAX))), Error)
    assert error.code == ErrorCode.TOO_LARGE


def test_only_a_transaction_of_etcds_may_be_nested_deeper_than_ever() -> None:
    deep: list[object] = []
    for _ in range(8):
        deep = [deep]
    for command in ([1, b"a", b"", 0, False, deep], [3, b"a", b"", False, *[0] * 8, deep]):
        with pytest.raises(ValueError, match="depth"):
            decode_command(pack(command))
    head = b"\x98\x0d"  # an array of 13 items, not in the shortest way
    with pytest.raises(ValueError, match="depth"):
        decode_command(head + pack([1, b"a", b"", 0, False, *[0] * 7, deep])[1:])


def test_an_ordinary_put_is_a_command_of_every_version() -> None:
    assert encode_request(PutRequest(b"a", b"1", 5, prev_kv=True)) == encode_command(Put(b"a", b"1", 5, prev_kv=True))
    for put in (
        PutRequest(b"a", ignore_value=True),
        PutRequest(bytes(1537)),
        PutRequest(b"a", lease=-1),
        PutRequest(b""),
    ):
        assert encode_request(put) == encode_command(put)
    store = store_with(b"a")
    assert isinstance(ask(store, LeaseGrant(60, -(2**63))), LeaseGrantResult)
    assert [lease.id for lease in store.leases()] == [-(2**63)]
    assert isinstance(store.execute(DeleteRange(b"a")), DeleteRangeResult)
