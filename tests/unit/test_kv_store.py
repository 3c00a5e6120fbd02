"""The key-value store's commands: etcd's data model, and errors that change nothing."""

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioraft.kv import (
    Command,
    Compact,
    CompactResult,
    Compare,
    CompareOperator,
    CompareTarget,
    DeleteRange,
    DeleteRangeResult,
    Error,
    ErrorCode,
    HistoryLimits,
    KeyValue,
    KeyValueStore,
    LeaseExpire,
    LeaseGrant,
    LeaseGrantResult,
    LeaseRevoke,
    LeaseRevokeResult,
    Put,
    PutResult,
    Range,
    RangeResult,
    Txn,
    TxnResult,
    decode_command,
    decode_result,
    encode_command,
    encode_result,
    prefix_range,
)
from trioraft.kv.commands import COMMAND_MAX, DELETED_MAX, KEY_MAX, RESULT_MAX, VALUE_MAX

ALL = prefix_range(b"")


def store_with(*keys: bytes) -> KeyValueStore:
    """Make a store with keys, put one after the other from revision 2 on, each with itself as its value."""
    store = KeyValueStore()
    for key in keys:
        store.execute(Put(key, key))
    return store


def keys_of(result: RangeResult | Error) -> list[bytes]:
    assert isinstance(result, RangeResult)
    return [item.key for item in result.kvs]


def get(store: KeyValueStore, key: bytes, revision: int = 0) -> KeyValue | None:
    result = store.query(Range(key, revision=revision))
    assert isinstance(result, RangeResult)
    return result.kvs[0] if result.kvs else None


def assert_refused(store: KeyValueStore, command: Command, code: ErrorCode, *, oldest: int = 0) -> None:
    before = store.digest()
    result = decode_result(store.apply(encode_command(command)))
    assert isinstance(result, Error)
    assert (result.code, result.revision, result.oldest_revision) == (code, store.revision, oldest)
    assert store.digest() == before


# --- put and range ------------------------------------------------------------------------------------------


def test_an_empty_store_is_at_revision_1() -> None:
    assert KeyValueStore().query(Range(*ALL)) == RangeResult(1, (), 0, more=False)


def test_a_key_knows_its_revisions_and_its_version() -> None:
    store = store_with(b"a", b"b")
    assert store.execute(Put(b"a", b"new")) == PutResult(4)
    assert get(store, b"a") == KeyValue(b"a", b"new", create_revision=2, mod_revision=4, version=2)
    store.execute(DeleteRange(b"a"))
    store.execute(Put(b"a", b"again"))
    assert get(store, b"a") == KeyValue(b"a", b"again", create_revision=6, mod_revision=6, version=1)


def test_a_put_returns_the_previous_value_only_when_asked() -> None:
    store = store_with(b"a")
    assert store.execute(Put(b"a", b"2")) == PutResult(3)
    assert store.execute(Put(b"a", b"3", prev_kv=True)) == PutResult(4, KeyValue(b"a", b"2", 2, 3, 2))
    assert store.execute(Put(b"new", b"", prev_kv=True)) == PutResult(5)


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (Range(b"b"), [b"b"]),
        (Range(b"missing"), []),
        (Range(b"b", b"d"), [b"b", b"ba", b"c"]),
        (Range(b"d", b"b"), []),
        (Range(b"c", b"\0"), [b"c", b"\xff", b"\xff\xff"]),
        (Range(*prefix_range(b"b")), [b"b", b"ba"]),
        (Range(*prefix_range(b"\xff")), [b"\xff", b"\xff\xff"]),
        (Range(*ALL), [b"a", b"b", b"ba", b"c", b"\xff", b"\xff\xff"]),
    ],
)
def test_a_range_is_in_the_order_of_its_keys(request_: Range, expected: list[bytes]) -> None:
    store = store_with(b"c", b"\xff\xff", b"a", b"ba", b"b", b"\xff")
    result = store.query(request_)
    assert keys_of(result) == expected
    assert isinstance(result, RangeResult)
    assert (result.count, result.more) == (len(expected), False)


@given(st.binary(max_size=4), st.binary(min_size=1, max_size=5))
def test_the_range_of_a_prefix_has_the_keys_that_start_with_it(prefix: bytes, key: bytes) -> None:
    assert bool(keys_of(store_with(key).query(Range(*prefix_range(prefix))))) == key.startswith(prefix)


def test_a_limit_cuts_the_result_but_not_the_count() -> None:
    store = store_with(b"a", b"b", b"c")
    result = store.query(Range(*ALL, limit=2))
    assert keys_of(result) == [b"a", b"b"]
    assert isinstance(result, RangeResult)
    assert (result.count, result.more) == (3, True)
    assert store.query(Range(*ALL, limit=3)) == store.query(Range(*ALL))


def test_keys_only_leaves_out_the_values_and_count_only_everything() -> None:
    store = store_with(b"a", b"b")
    only_keys = store.query(Range(*ALL, keys_only=True))
    assert isinstance(only_keys, RangeResult)
    assert only_keys.kvs == (KeyValue(b"a", b"", 2, 2, 1), KeyValue(b"b", b"", 3, 3, 1))
    assert store.query(Range(*ALL, count_only=True)) == RangeResult(3, (), 2, more=False)


def test_a_result_that_would_be_too_large_ends_early_and_can_be_continued() -> None:
    store = KeyValueStore()
    for number in range(5):
        store.execute(Put(b"%d" % number, bytes(VALUE_MAX // 2)))
    found, start = [], b"\0"
    while True:
        result = store.query(Range(start, b"\0"))
        assert isinstance(result, RangeResult)
        assert sum(len(item.value) for item in result.kvs) <= RESULT_MAX
        found += [item.key for item in result.kvs]
        if not result.more:
            break
        start = found[-1] + b"\0"
    assert found == [b"0", b"1", b"2", b"3", b"4"]


def test_the_largest_key_and_value_fit_into_a_command_and_into_a_result() -> None:
    store = KeyValueStore()
    key, value = bytes(KEY_MAX), bytes(VALUE_MAX)
    assert decode_result(store.apply(encode_command(Put(key, value)))) == PutResult(2)
    result = decode_result(encode_result(store.query(Range(*ALL))))
    assert result == RangeResult(2, (KeyValue(key, value, 2, 2, 1),), 1, more=False)


# --- older revisions ----------------------------------------------------------------------------------------


def test_an_older_revision_reads_as_it_was() -> None:
    store = store_with(b"a", b"b", b"c")  # revisions 2, 3, 4
    store.execute(Put(b"a", b"new"))
    store.execute(DeleteRange(b"b"))
    assert get(store, b"a", revision=4) == KeyValue(b"a", b"a", 2, 2, 1)
    expected = {1: [], 2: [b"a"], 3: [b"a", b"b"], 4: [b"a", b"b", b"c"], 5: [b"a", b"b", b"c"], 6: [b"a", b"c"]}
    for revision, keys in expected.items():
        result = store.query(Range(*ALL, revision=revision))
        assert keys_of(result) == keys
        assert isinstance(result, RangeResult)
        assert (result.revision, result.count) == (6, len(keys))
    assert keys_of(store.query(Range(*ALL, revision=5, limit=2))) == [b"a", b"b"]


def test_a_revision_to_come_cannot_be_read() -> None:
    assert_refused(store_with(b"a"), Range(b"a", revision=3), ErrorCode.FUTURE_REVISION)


def test_after_compaction_older_revisions_are_gone_and_the_error_names_the_oldest() -> None:
    store = store_with(b"a", b"b", b"c")
    assert store.execute(Compact(3)) == CompactResult(4)
    assert_refused(store, Range(*ALL, revision=2), ErrorCode.COMPACTED, oldest=3)
    assert keys_of(store.query(Range(*ALL, revision=3))) == [b"a", b"b"]
    assert_refused(store, Compact(3), ErrorCode.COMPACTED, oldest=3)
    assert_refused(store, Compact(2), ErrorCode.COMPACTED, oldest=3)
    assert_refused(store, Compact(5), ErrorCode.FUTURE_REVISION)


@pytest.mark.parametrize("limits", [HistoryLimits(events=3), HistoryLimits(bytes=3 * 103)])
def test_history_is_bounded_by_events_and_by_bytes(limits: HistoryLimits) -> None:
    store = KeyValueStore(limits)
    for key in (b"a", b"b", b"c", b"d", b"e"):  # revisions 2 to 6; those of 4 to 6 fit
        store.execute(Put(key, b"12"))
    assert store.oldest_revision == 4
    assert keys_of(store.query(Range(*ALL, revision=3))) == [b"a", b"b"]
    assert_refused(store, Range(*ALL, revision=2), ErrorCode.COMPACTED, oldest=3)


def test_a_revision_larger_than_the_whole_history_is_not_kept() -> None:
    store = KeyValueStore(HistoryLimits(events=1))
    store.execute(Txn(success=(Put(b"a", b""), Put(b"b", b""))))
    assert store.oldest_revision == 3
    assert keys_of(store.query(Range(*ALL, revision=2))) == [b"a", b"b"]
    store.execute(Put(b"c", b""))
    assert keys_of(store.query(Range(*ALL, revision=2))) == [b"a", b"b"]


# --- delete -------------------------------------------------------------------------------------------------


def test_a_delete_counts_and_returns_what_it_deleted() -> None:
    store = store_with(b"a", b"b", b"c")
    assert store.execute(DeleteRange(b"a", b"c", prev_kv=True)) == DeleteRangeResult(
        5, 2, (KeyValue(b"a", b"a", 2, 2, 1), KeyValue(b"b", b"b", 3, 3, 1))
    )
    assert store.execute(DeleteRange(b"c")) == DeleteRangeResult(6, 1)
    assert keys_of(store.query(Range(*ALL))) == []


def test_deleting_nothing_makes_no_revision() -> None:
    store = store_with(b"a")
    assert store.execute(DeleteRange(b"b", b"z", prev_kv=True)) == DeleteRangeResult(2, 0)
    assert store.execute(DeleteRange(b"z", b"a")) == DeleteRangeResult(2, 0)


def test_a_delete_is_refused_when_a_result_cannot_hold_the_previous_values() -> None:
    store = KeyValueStore()
    for key in (b"a", b"b"):
        store.execute(Put(key, bytes(VALUE_MAX)))
    assert_refused(store, DeleteRange(*ALL, prev_kv=True), ErrorCode.TOO_LARGE)
    assert store.execute(DeleteRange(*ALL)) == DeleteRangeResult(4, 2)


# --- transactions -------------------------------------------------------------------------------------------


def test_a_transaction_makes_one_revision_and_sees_its_own_changes() -> None:
    store = store_with(b"a", b"b")
    operations = (Put(b"c", b"3"), DeleteRange(b"a"), Range(*ALL), Range(*ALL, revision=3), Put(b"d", b"4"))
    result = store.execute(Txn(success=operations))
    assert isinstance(result, TxnResult)
    assert (result.revision, result.succeeded) == (4, True)
    assert {response.revision for response in result.responses} == {4}
    inside, before = result.responses[2], result.responses[3]
    assert isinstance(inside, RangeResult)
    assert isinstance(before, RangeResult)
    assert keys_of(inside) == [b"b", b"c"]
    assert keys_of(before) == [b"a", b"b"]
    assert (inside.count, before.count) == (2, 2)
    assert get(store, b"c") == KeyValue(b"c", b"3", 4, 4, 1)


def test_a_transaction_that_changes_nothing_makes_no_revision() -> None:
    store = store_with(b"a")
    result = store.execute(Txn(success=(Range(b"a"), DeleteRange(b"z"))))
    assert isinstance(result, TxnResult)
    assert result.revision == store.revision == 2


EQUAL, GREATER, LESS, NOT_EQUAL = CompareOperator
VERSION, CREATE, MOD, VALUE, LEASE = CompareTarget


@pytest.mark.parametrize(
    ("target", "low", "actual", "high"),
    [(VERSION, 1, 2, 3), (CREATE, 2, 3, 4), (MOD, 3, 4, 5), (VALUE, b"a", b"b", b"ba"), (LEASE, 76, 77, 78)],
)
def test_every_target_compares_in_every_way(
    target: CompareTarget, low: int | bytes, actual: int | bytes, high: int | bytes
) -> None:
    store = store_with(b"other")
    store.execute(LeaseGrant(10, id=77))
    store.execute(Put(b"k", b"a"))
    store.execute(Put(b"k", b"b", lease=77))
    expected = {EQUAL: (False, True, False), NOT_EQUAL: (True, False, True)}
    expected |= {GREATER: (True, False, False), LESS: (False, False, True)}
    for operator, answers in expected.items():
        for operand, answer in zip((low, actual, high), answers, strict=True):
            result = store.execute(Txn((Compare(b"k", target, operator, operand),)))
            assert isinstance(result, TxnResult)
            assert result.succeeded == answer, (target, operator, operand)


@pytest.mark.parametrize("target", [VERSION, CREATE, MOD, LEASE])
def test_a_missing_key_compares_as_0(target: CompareTarget) -> None:
    result = KeyValueStore().execute(Txn((Compare(b"k", target, EQUAL, 0),)))
    assert result == TxnResult(1, succeeded=True, responses=())


@pytest.mark.parametrize("operator", CompareOperator)
def test_no_condition_on_the_value_of_a_missing_key_holds(operator: CompareOperator) -> None:
    result = KeyValueStore().execute(Txn((Compare(b"k", VALUE, operator, b""),)))
    assert result == TxnResult(1, succeeded=False, responses=())


def test_all_conditions_must_hold_else_the_other_branch_is_carried_out() -> None:
    store = store_with(b"a")
    conditions = (Compare(b"a", VERSION, EQUAL, 1), Compare(b"b", VERSION, EQUAL, 1))
    result = store.execute(Txn(conditions, success=(DeleteRange(b"a"),), failure=(Put(b"b", b""),)))
    assert result == TxnResult(3, succeeded=False, responses=(PutResult(3),))
    result = store.execute(Txn(conditions, success=(DeleteRange(b"a"),), failure=(Put(b"b", b""),)))
    assert result == TxnResult(4, succeeded=True, responses=(DeleteRangeResult(4, 1),))


@pytest.mark.parametrize(
    ("operations", "code"),
    [
        ((Put(b"a", b"1"), Put(b"a", b"2")), ErrorCode.DUPLICATE_KEY),
        ((Put(b"b", b"1"), DeleteRange(b"a", b"c")), ErrorCode.DUPLICATE_KEY),
        ((Put(b"c", b"1"), Put(b"d", b"1", lease=5)), ErrorCode.LEASE_NOT_FOUND),
        ((Put(b"c", b"1"), Range(b"a", revision=9)), ErrorCode.FUTURE_REVISION),
        ((DeleteRange(b"a"), Range(b"a", revision=2)), ErrorCode.COMPACTED),
    ],
)
def test_one_wrong_operation_refuses_the_whole_transaction(
    operations: tuple[Put | Range, ...], code: ErrorCode
) -> None:
    store = store_with(b"a", b"b")
    store.execute(Compact(3))
    assert_refused(store, Txn(success=operations), code, oldest=3 if code == ErrorCode.COMPACTED else 0)


def test_deletes_of_one_transaction_may_overlap() -> None:
    store = store_with(b"a", b"b")
    result = store.execute(Txn(success=(DeleteRange(b"a"), DeleteRange(*ALL))))
    assert result == TxnResult(4, succeeded=True, responses=(DeleteRangeResult(4, 1), DeleteRangeResult(4, 1)))


def test_previous_values_and_ranges_of_a_transaction_share_the_room_of_its_result() -> None:
    store = KeyValueStore()
    for key in (b"a", b"b"):
        store.execute(Put(key, bytes(VALUE_MAX)))
    assert_refused(
        store, Txn(success=(Put(b"a", b"", prev_kv=True), Put(b"b", b"", prev_kv=True))), ErrorCode.TOO_LARGE
    )
    result = store.execute(Txn(success=(Range(b"a"), Range(b"b"))))
    assert isinstance(result, TxnResult)
    first, second = result.responses
    assert isinstance(first, RangeResult)
    assert isinstance(second, RangeResult)
    assert (len(first.kvs), first.more) == (1, False)
    assert (len(second.kvs), second.count, second.more) == (0, 1, True)


# --- leases -------------------------------------------------------------------------------------------------


def test_a_lease_takes_its_keys_with_it_in_one_revision() -> None:
    store = store_with(b"other")
    assert store.execute(LeaseGrant(10, id=7)) == LeaseGrantResult(2, 7, 10)
    store.execute(Put(b"b", b"", lease=7))
    store.execute(Put(b"a", b"", lease=7))
    assert store.lease_keys(7) == [b"a", b"b"]
    assert store.execute(LeaseRevoke(7)) == LeaseRevokeResult(5, 2)
    assert keys_of(store.query(Range(*ALL))) == [b"other"]
    assert_refused(store, LeaseRevoke(7), ErrorCode.LEASE_NOT_FOUND)


def test_the_last_put_says_which_lease_a_key_is_attached_to() -> None:
    store = KeyValueStore()
    store.execute(LeaseGrant(10, id=1))
    store.execute(LeaseGrant(10, id=2))
    store.execute(Put(b"moved", b"", lease=1))
    store.execute(Put(b"moved", b"", lease=2))
    store.execute(Put(b"detached", b"", lease=1))
    store.execute(Put(b"detached", b""))
    store.execute(Put(b"deleted", b"", lease=1))
    store.execute(DeleteRange(b"deleted"))
    assert (store.lease_keys(1), store.lease_keys(2)) == ([], [b"moved"])
    assert store.execute(LeaseRevoke(1)) == LeaseRevokeResult(store.revision, 0)
    assert keys_of(store.query(Range(*ALL))) == [b"detached", b"moved"]


def test_the_store_chooses_ids_that_no_lease_has_had() -> None:
    store, ids = KeyValueStore(), set()
    for _ in range(1000):
        result = store.execute(LeaseGrant(10))
        assert isinstance(result, LeaseGrantResult)
        ids.add(result.id)
        store.execute(LeaseRevoke(result.id))
    assert len(ids) == 1000


def test_a_chosen_id_makes_way_for_one_that_is_taken() -> None:
    first = KeyValueStore().execute(LeaseGrant(10))
    assert isinstance(first, LeaseGrantResult)
    store = KeyValueStore()
    store.execute(LeaseGrant(10, id=_second_choice()))
    result = store.execute(LeaseGrant(10))
    assert isinstance(result, LeaseGrantResult)
    assert result.id not in {first.id, _second_choice()}
    assert len(store.leases()) == 2


def _second_choice() -> int:
    store = KeyValueStore()
    store.execute(LeaseGrant(10))
    result = store.execute(LeaseGrant(10))
    assert isinstance(result, LeaseGrantResult)
    return result.id


def test_a_lease_must_be_new_when_granted_and_there_when_used() -> None:
    store = KeyValueStore()
    store.execute(LeaseGrant(10, id=7))
    assert_refused(store, LeaseGrant(20, id=7), ErrorCode.LEASE_EXISTS)
    assert_refused(store, Put(b"a", b"", lease=8), ErrorCode.LEASE_NOT_FOUND)


def test_an_expiry_that_comes_late_spares_a_new_lease_of_the_same_id() -> None:
    store = KeyValueStore()
    store.execute(LeaseGrant(10, id=7))
    late = LeaseExpire(7, store.leases()[0].grant)
    store.execute(LeaseRevoke(7))
    store.execute(LeaseGrant(10, id=7))
    assert_refused(store, late, ErrorCode.LEASE_NOT_FOUND)
    assert store.execute(LeaseExpire(7, store.leases()[0].grant)) == LeaseRevokeResult(1, 0)


# --- what is no command -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        Put(b"", b""),
        Put(bytes(KEY_MAX + 1), b""),
        Put(b"a", bytes(VALUE_MAX + 1)),
        Put(b"a", b"", lease=-1),
        Range(b""),
        Range(b"a", revision=-1),
        LeaseGrant(0),
        LeaseGrant(10**10),
        LeaseGrant(10, id=2**63),
        LeaseRevoke(2**63),
        Txn(success=(Range(b"a"),) * 129),
    ],
)
def test_a_field_out_of_bounds_is_refused_on_either_side(command: Command) -> None:
    with pytest.raises(ValueError, match=r"^[A-Z]\w+\.\w+: expected "):
        encode_command(command)
    store = store_with(b"a")
    before = store.digest()
    result = decode_result(store.apply(encode_result(command)))  # type: ignore[arg-type]  # encodes without a check
    assert isinstance(result, Error)
    assert result.code == ErrorCode.MALFORMED
    assert store.digest() == before


def test_a_condition_out_of_bounds_is_named() -> None:
    with pytest.raises(ValueError, match=r"^Txn\.compare\.Compare\.key: expected bytes of length >= 1$"):
        encode_command(Txn(compare=(Compare.missing(b"a"), Compare.value("", "=", "1"))))


def test_conditions_and_operations_are_made_of_text() -> None:
    assert Compare.value("ä", "=", "ö") == Compare(
        "ä".encode(), CompareTarget.VALUE, CompareOperator.EQUAL, "ö".encode()
    )
    assert Compare.mod_revision(b"a", "<", 7) == Compare(b"a", CompareTarget.MOD, CompareOperator.LESS, 7)
    assert Compare.create_revision("a", ">", 7) == Compare(b"a", CompareTarget.CREATE, CompareOperator.GREATER, 7)
    assert Compare.lease("a", "!=", 7) == Compare(b"a", CompareTarget.LEASE, CompareOperator.NOT_EQUAL, 7)
    assert Range.of("a", prefix=True, limit=3) == Range(b"a", b"b", 3)
    assert DeleteRange.of("a") == DeleteRange(b"a")
    store = store_with(b"a")
    moved = store.execute(Txn((Compare.exists("a"), Compare.missing("b")), (Put.of("b", "1"), DeleteRange.of("a"))))
    assert isinstance(moved, TxnResult)
    assert moved.succeeded
    again = store.execute(Txn((Compare.exists("a"),), (Put.of("b", "2"),)))
    assert isinstance(again, TxnResult)
    assert not again.succeeded


def test_a_command_that_is_too_large_is_refused_on_either_side() -> None:
    command = Txn(success=(Put(b"a", bytes(VALUE_MAX)), Put(b"b", bytes(VALUE_MAX))))
    with pytest.raises(ValueError, match="at most 1572864"):
        encode_command(command)
    result = decode_result(KeyValueStore().apply(bytes(COMMAND_MAX + 1)))
    assert isinstance(result, Error)
    assert result.code == ErrorCode.TOO_LARGE


@pytest.mark.parametrize(("target", "operand"), [(VALUE, 1), (MOD, b"1")])
def test_a_value_is_compared_with_bytes_and_all_else_with_numbers(
    target: CompareTarget, operand: int | bytes
) -> None:
    with pytest.raises(ValueError, match="compared with"):
        Compare(b"a", target, EQUAL, operand)


PUT = encode_command(Put(b"a", b"b"))


@given(
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from([PUT + b"\0", PUT[:-1], b"\xc1" + PUT, b"\x9f" + PUT[1:] + b"\xff", b"\x81" * 1000]),
        st.recursive(st.integers() | st.binary() | st.text() | st.none(), st.lists, max_leaves=8).map(cbor2.dumps),
    )
)
def test_anything_but_a_command_gives_an_error_and_changes_nothing(data: bytes) -> None:
    store = store_with(b"a")
    before = store.digest()
    result = decode_result(store.apply(data))
    try:
        decode_command(data)
    except ValueError:
        assert isinstance(result, Error)
        assert result.code == ErrorCode.MALFORMED
        assert store.digest() == before


# --- what one command may delete ----------------------------------------------------------------------------


def test_too_many_keys_are_not_deleted_by_one_command() -> None:
    store = KeyValueStore()
    for number in range(DELETED_MAX + 1):
        store.execute(Put(b"%05d" % number, b""))
    assert_refused(store, DeleteRange(*ALL), ErrorCode.TOO_LARGE)
    halves = (DeleteRange(b"0", b"05000"), DeleteRange(b"05000", b"\0"))
    assert_refused(store, Txn((), halves, ()), ErrorCode.TOO_LARGE)
    result = store.execute(DeleteRange(b"00001", b"\0"))
    assert isinstance(result, DeleteRangeResult)
    assert result.deleted == DELETED_MAX
    assert keys_of(store.execute(Range(*ALL))) == [b"00000"]  # type: ignore[arg-type]


def test_a_lease_takes_no_more_keys_than_one_command_may_delete() -> None:
    store = KeyValueStore()
    store.execute(LeaseGrant(60, 7))
    for number in range(DELETED_MAX):
        store.execute(Put(b"%05d" % number, b"", 7))
    assert_refused(store, Put(b"one more", b"", 7), ErrorCode.TOO_LARGE)
    assert isinstance(store.execute(Put(b"00000", b"again", 7)), PutResult)
    result = store.execute(LeaseRevoke(7))
    assert isinstance(result, LeaseRevokeResult)
    assert result.deleted == DELETED_MAX
