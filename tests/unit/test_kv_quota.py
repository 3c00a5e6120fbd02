"""The quota of the key-value store: what is refused when it is full, what goes through, and that replicas agree."""

import cbor2
import msgspec
import pytest
import trio
import trio.testing

from tests.unit.memory_client import key_value_cluster, memory_client
from tests.unit.memory_world import MemoryDisk
from trioraft.kv.codec import decode_result, encode_command
from trioraft.kv.commands import (
    Command,
    Compact,
    DeleteRange,
    LeaseGrant,
    LeaseRevoke,
    Put,
    Range,
    Txn,
)
from trioraft.kv.errors import KeyValueError
from trioraft.kv.lock import hold_lock
from trioraft.kv.quota import KEY_BYTES, LEASE_BYTES
from trioraft.kv.results import Error, ErrorCode, LeaseGrantResult, Result, TxnResult
from trioraft.kv.store import KeyValueStore
from trioraft.messages import Entry, EntryKind
from trioraft.replica.sessions import Replica
from trioraft.replica.settings import DEFAULT_QUOTA, QUOTA_MIN, ClusterSettings, encode_change
from trioraft.versions import SPOKEN, Versions

QUOTA = 100_000
LARGE = bytes(10_000)
EACH = KEY_BYTES + 3 + len(LARGE)


def full_store(version: int = SPOKEN.highest, quota: int = QUOTA) -> KeyValueStore:
    """Make a store that has no room for another large value."""
    store = KeyValueStore()
    store.follow_version(version)
    store.follow_quota(quota)
    for number in range(QUOTA // EACH):
        assert not isinstance(store.execute(Put(b"k%02d" % number, LARGE)), Error)
    return store


def why_refused(result: Result) -> str:
    assert isinstance(result, Error)
    assert result.code is ErrorCode.TOO_LARGE
    return result.message


# --- what is refused, and what is not -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        Put(b"new", LARGE),
        Put(b"k00", LARGE + bytes(9000)),
        Txn(success=(Put(b"new", LARGE),)),
        Txn(success=(Put(b"new", LARGE + bytes(9000)), DeleteRange(b"k00"), DeleteRange(b"k00", b"k01"))),
    ],
    ids=["put", "put more", "transaction", "transaction that frees less"],
)
def test_a_change_that_makes_a_full_store_larger_is_refused_and_the_error_says_what_to_do(command: Command) -> None:
    store = full_store()
    before = store.digest()
    text = why_refused(store.execute(command))
    assert f"take {9 * EACH} bytes" in text
    assert f"the quota is {QUOTA}" in text
    assert "delete keys, or raise it with `trioraft settings --quota`" in text
    assert store.digest() == before


@pytest.mark.parametrize(
    "command",
    [
        DeleteRange(b"k00"),
        DeleteRange(b"a", b"\0"),
        Put(b"k00", LARGE),
        Put(b"k00", b""),
        Txn(success=(DeleteRange(b"k00"), Put(b"new", LARGE))),
        Compact(9),
        LeaseGrant(10),
        Range(b"a", b"\0"),
    ],
    ids=lambda command: type(command).__name__,
)
def test_a_change_that_makes_a_full_store_no_larger_is_carried_out(command: Command) -> None:
    assert not isinstance(full_store().execute(command), Error)


def test_a_deletion_makes_room_at_once() -> None:
    store = full_store()
    for number in range(50):
        why_refused(store.execute(Put(b"new", LARGE)))
        store.execute(DeleteRange(b"k%02d" % (number % 9)))
        assert not isinstance(store.execute(Put(b"k%02d" % (number % 9), LARGE)), Error)
    assert store.size == 9 * EACH


def test_a_full_store_has_room_for_locks_and_leases_are_bounded() -> None:
    store = full_store()
    store.execute(Put(b"rest", bytes(QUOTA - store.size - KEY_BYTES - 4)))
    assert store.size == QUOTA
    granted = store.execute(LeaseGrant(10))
    assert isinstance(granted, LeaseGrantResult)
    why_refused(store.execute(Put(b"a", b"", granted.id)))
    lock = b"trioraft/locks/job/%016x" % granted.id
    assert not isinstance(store.execute(Put(lock, b"", granted.id)), Error)
    leases = 1
    while not isinstance(store.execute(LeaseGrant(10)), Error):
        leases += 1
    assert leases == (QUOTA // 16 - KEY_BYTES - len(lock)) // LEASE_BYTES
    assert not isinstance(store.execute(LeaseRevoke(granted.id)), Error)
    assert not isinstance(store.execute(LeaseGrant(10)), Error)


def test_leases_alone_reach_the_quota_too() -> None:
    store = KeyValueStore()
    store.follow_version(SPOKEN.highest)
    store.follow_quota(QUOTA)
    results = [store.execute(LeaseGrant(10)) for _ in range(2 * QUOTA // LEASE_BYTES)]
    assert sum(not isinstance(result, Error) for result in results) == QUOTA // LEASE_BYTES


def test_the_history_gives_way_and_its_newest_revision_can_always_be_watched() -> None:
    store = full_store()
    for _ in range(50):
        store.execute(Put(b"k00", LARGE))
        assert store.oldest_revision <= store.revision
    assert store.oldest_revision >= store.revision - 1, "each revision has two large values"
    store.execute(DeleteRange(b"a", b"\0"))
    events = store.events_since(store.revision)
    assert not isinstance(events, Error)
    assert len(next(events)) == 9, "as many as were deleted, though they are more than the history may have"


# --- before there is a quota, and after ---------------------------------------------------------------------


def test_there_is_no_quota_before_version_4_and_a_store_that_is_too_large_by_then_can_be_made_smaller() -> None:
    store = full_store(version=3)
    for number in range(20):
        assert not isinstance(store.execute(Put(b"more%02d" % number, LARGE)), Error)
    assert store.quota == 0
    store.follow_version(4)
    assert store.size > 2 * store.quota
    why_refused(store.execute(Put(b"a", b"")))
    assert not isinstance(store.execute(Put(b"more00", b"")), Error)
    assert not isinstance(store.execute(DeleteRange(b"k", b"l")), Error)
    assert not isinstance(store.execute(DeleteRange(b"m", b"n")), Error)
    assert not isinstance(store.execute(Put(b"a", b"")), Error)


def test_a_store_from_a_snapshot_is_as_large_and_has_nothing_twice() -> None:
    store = full_store(quota=10 * QUOTA)
    store.execute(Put(b"k00", LARGE))
    restored = KeyValueStore()
    restored.follow_version(SPOKEN.highest)
    restored.follow_quota(10 * QUOTA)
    restored.restore(store.snapshot())
    assert (restored.size, restored.digest()) == (store.size, store.digest())
    events = [event for revision in restored._state.history.since(restored.oldest_revision) for event in revision]
    for event in events:
        now = restored._state.items.get(event.kv.key)
        assert event.kv is now or event.kv != now
    assert len({id(kv) for event in events for kv in (event.kv, event.prev_kv) if kv is not None}) == 10


def changing(number: int, **values: str | int) -> Entry:
    return Entry(1, EntryKind.SETTINGS, cbor2.dumps([1, number, 1, encode_change(**values)]))


def test_the_state_machine_follows_the_quota_in_the_log_and_in_a_snapshot() -> None:
    replica = Replica(KeyValueStore())
    replica.restore(1, Replica(KeyValueStore()).snapshot(), version=SPOKEN.highest)
    assert replica.machine.quota == DEFAULT_QUOTA  # type: ignore[attr-defined]
    replica.apply(1, Entry(1, EntryKind.OPEN_SESSION))
    replica.apply(2, changing(1, quota=QUOTA_MIN))
    assert replica.machine.quota == QUOTA_MIN  # type: ignore[attr-defined]
    for number in range(5):
        put = cbor2.dumps([1, 2 + number, 1, encode_command(Put(b"%d" % number, bytes(2**20)))])
        result = decode_result(replica.apply(3 + number, Entry(1, EntryKind.SESSION_COMMAND, put)).data)
        assert isinstance(result, Error) == (number >= 3)
    replica.apply(9, changing(9, quota="much"))
    assert replica.machine.quota == DEFAULT_QUOTA, "what no release knows is the default"  # type: ignore[attr-defined]
    replica.apply(10, changing(10, quota=QUOTA_MIN))
    restored = Replica(KeyValueStore())
    restored.restore(10, replica.snapshot(), version=SPOKEN.highest)
    assert restored.machine.quota == QUOTA_MIN  # type: ignore[attr-defined]
    assert ClusterSettings({"quota": True}).quota == DEFAULT_QUOTA


# --- a cluster ----------------------------------------------------------------------------------------------


async def test_a_full_cluster_refuses_puts_takes_deletes_and_its_replicas_agree(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with (
        key_value_cluster(3, 1, max_datagram_bytes=16_000) as cluster,
        memory_client(cluster.network, cluster.addresses, max_datagram_bytes=16_000) as client,
    ):
        await client.change_cluster_settings(quota=QUOTA_MIN)
        for number in range(3):
            await client.put(f"k{number}", bytes(2**20))
        with pytest.raises(KeyValueError, match=r"the store is full: .* delete keys"):
            await client.put("more", bytes(2**20))
        with pytest.raises(KeyValueError, match="the store is full"):
            await client.txn((), [Put(b"more", bytes(2**20))])
        await client.put("small", bytes(800_000))
        statuses = {index: node.status() for index, node in cluster.nodes.items()}
        assert {status.state_quota for status in statuses.values()} == {QUOTA_MIN}
        leader = statuses[await cluster.leader()]
        assert QUOTA_MIN * 0.9 < leader.state_bytes < QUOTA_MIN
        assert any("% of its quota of 4194304 bytes" in alert for alert in leader.alerts)
        assert sum("of its quota" in alert for status in statuses.values() for alert in status.alerts) == 1
        async with hold_lock(client, "job"):
            pass
        await cluster.same_state()
        for index in range(3):
            await cluster.kill(index)
        await cluster.start()
        await cluster.leader()
        with pytest.raises(KeyValueError, match="the store is full"):
            await client.put("more", bytes(2**20))
        assert (await client.delete("k0")).deleted == 1
        assert isinstance(await client.txn((), [Put(b"more", bytes(2**20))]), TxnResult)
        await cluster.same_state()


async def test_a_cluster_that_is_too_large_when_it_is_upgraded_starts_and_can_be_made_smaller(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with (
        key_value_cluster(3, 2, max_datagram_bytes=16_000) as cluster,
        memory_client(cluster.network, cluster.addresses, max_datagram_bytes=16_000) as client,
    ):
        for index in range(3):
            cluster.versions[index] = Versions(1, 3)
            await cluster.kill(index)
        for disk in range(3):
            cluster.disks[disk] = MemoryDisk(node_id=disk + 1)
        await cluster.start()
        await cluster.leader()
        await client.change_cluster_settings(quota=QUOTA_MIN)
        for number in range(6):
            await client.put(f"k{number}", bytes(2**20))
        for index in range(3):
            cluster.versions[index] = SPOKEN
            await cluster.kill(index)
            await cluster.start(index)
            await cluster.leader()
        with trio.fail_after(30):
            while any(node.status().state_quota != QUOTA_MIN for node in cluster.nodes.values()):
                await trio.sleep(0.1)
        with pytest.raises(KeyValueError, match="the store is full"):
            await client.put("more", b"")
        assert (await client.delete("k0", prefix=False)).deleted == 1
        assert (await client.delete("k", prefix=True)).deleted == 5
        await client.put("more", bytes(2**20))
        await cluster.same_state()


def test_the_errors_that_old_clients_read_are_as_they_were() -> None:
    """Clients of the release before could not read an error with a code or field that they do not know."""
    assert msgspec.to_builtins(Error(1, ErrorCode.TOO_LARGE, "text")) == [8, 1, "too-large", "text", 0]
