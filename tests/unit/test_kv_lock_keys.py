"""Keys of locks that somebody else puts or deletes, and leases of locks that somebody else revokes, in memory."""

import pytest
import trio
import trio.testing

from tests.unit.memory_client import KeyValueCluster, key_value_cluster, memory_client
from trioraft.client.client import Client
from trioraft.kv import (
    Compare,
    DeleteRange,
    Error,
    ErrorCode,
    KeyValueStore,
    LeaseGrant,
    LeaseRecall,
    Put,
    Range,
    Txn,
    decode_result,
    encode_command,
    prefix_range,
)
from trioraft.kv.commands import Operation
from trioraft.kv.errors import KeyValueError
from trioraft.kv.lock import LeaseLostError, hold_lock
from trioraft.kv.lock_keys import LOCKS
from trioraft.versions import SPOKEN, Versions

HELD = f"{LOCKS}job/{7:016x}".encode()
OTHER = f"{LOCKS}job/{8:016x}".encode()
MEET: list[Operation] = [
    Put(HELD, b""),
    Put(HELD, b"", 8),
    Put(f"{LOCKS}job/x".encode(), b""),
    Put(f"{LOCKS}job/{9:016x}".encode(), b""),
    DeleteRange(HELD),
    DeleteRange(*prefix_range(b"")),
    DeleteRange(*prefix_range(LOCKS.encode())),
    DeleteRange(b"a", HELD + b"\0"),
    DeleteRange(HELD, b"\0"),
]


def store_with_a_lock(version: int) -> KeyValueStore:
    store = KeyValueStore()
    store.follow_version(version)
    for command in (LeaseGrant(10, 7), LeaseGrant(10, 8), Put(HELD, b"", 7), Put(b"a", b"1"), Put(b"z", b"1", 7)):
        assert not isinstance(store.execute(command), Error)
    return store


@pytest.mark.parametrize("operation", MEET)
def test_changes_that_touch_the_key_of_a_lock_are_refused_from_version_3_on(operation: Operation) -> None:
    for command in (operation, Txn((), (Range(b"a"), operation)), Txn((Compare.exists("no"),), (), (operation,))):
        store = store_with_a_lock(3)
        before = store.digest()
        result = store.execute(command)
        assert isinstance(result, Error)
        assert result.code == ErrorCode.LEASE_EXISTS
        assert store.digest() == before
        assert not isinstance(store_with_a_lock(2).execute(command), Error), "as the release before"


def test_the_changes_of_locks_and_those_that_touch_none_are_carried_out() -> None:
    store = store_with_a_lock(3)
    for command in (
        Put(OTHER, b"", 8),
        Put(HELD, b"", 7),
        DeleteRange(b"a", b"trioraft/locks"),
        DeleteRange(b"trioraft/locks0", b"\0"),
        DeleteRange(f"{LOCKS}another/".encode(), HELD),
    ):
        assert not isinstance(store.execute(command), Error)
    # Keys that an earlier release let people put there can be removed.
    earlier = store_with_a_lock(2)
    stray = f"{LOCKS}job/{9:016x}".encode()
    for key in (stray, f"{LOCKS}x".encode()):
        earlier.execute(Put(key, b""))
        earlier.follow_version(3)
        assert not isinstance(earlier.execute(DeleteRange(key)), Error)
        earlier.follow_version(2)


def test_a_recalled_lease_without_a_lock_ends_at_once() -> None:
    store = store_with_a_lock(3)
    store.execute(LeaseRecall(8))
    assert store.lease(8) is None
    store.execute(LeaseRecall(7))
    assert store.lease_keys(7) == [HELD, b"z"]
    restored = KeyValueStore()
    restored.follow_version(3)
    restored.restore(store.snapshot())
    lease = restored.lease(7)
    assert lease is not None
    assert (lease.grant, restored.digest()) == (0, store.digest())
    result = decode_result(store_with_a_lock(2).apply(encode_command(LeaseRecall(7))))
    assert isinstance(result, Error)
    assert result.code == ErrorCode.MALFORMED


# --- with holders -------------------------------------------------------------------------------------------


async def lease_of_holder(client: Client) -> int:
    (kv,) = await client.list(LOCKS, keys_only=True)
    return kv.lease


async def test_a_holder_whose_lease_is_revoked_is_told_and_the_lock_is_free_when_it_has_ended(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with (
        key_value_cluster(3, 1) as cluster,
        memory_client(cluster.network, cluster.addresses, 0) as holder,
        memory_client(cluster.network, cluster.addresses, 1) as other,
    ):
        ended = float("inf")
        held = trio.Event()

        async def hold() -> None:
            nonlocal ended
            async with hold_lock(holder, "job", 20, clock=trio.current_time):
                held.set()
                try:
                    await trio.sleep_forever()
                finally:
                    with trio.CancelScope(shield=True):
                        await trio.sleep(3)  # the holder takes that long to end
                    ended = trio.current_time()

        async def be_told() -> None:
            with pytest.raises(LeaseLostError, match="was revoked"):
                await hold()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(be_told)
            await held.wait()
            assert await other.lease_revoke(await lease_of_holder(other)) == 0
            with pytest.raises(KeyValueError, match="is that of a lock"):
                await other.delete("", prefix=True)
            revoked = trio.current_time()
            async with hold_lock(other, "job", 20, clock=trio.current_time):
                now = trio.current_time()
        assert ended <= now < ended + 1, "it has said so"
        assert now - revoked < 10


async def test_a_silent_holder_keeps_its_lease_for_its_whole_time_even_under_another_leader(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with key_value_cluster(3, 1) as cluster, memory_client(cluster.network, cluster.addresses) as client:
        lease = (await client.lease_grant(10)).id
        await client.put(f"{LOCKS}job/{lease:016x}", b"", lease=lease)
        await trio.sleep(5)
        kept = trio.current_time()
        assert await client.lease_keep_alive(lease) == 10
        await client.lease_revoke(lease)
        with pytest.raises(KeyValueError, match="was revoked"):
            await client.lease_keep_alive(lease)
        leader = await cluster.leader()
        await cluster.kill(leader)
        await cluster.leader()
        with pytest.raises(KeyValueError, match="was revoked"):
            await client.lease_keep_alive(lease)
        async with hold_lock(client, "job", 10, clock=trio.current_time):
            assert 10 <= trio.current_time() - kept < 25


async def test_a_lease_is_revoked_at_once_in_a_cluster_that_speaks_an_earlier_version(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        cluster = KeyValueCluster(nursery, 3, 1)
        cluster.versions = [Versions(SPOKEN.lowest, 2), SPOKEN, SPOKEN]
        await cluster.start()
        await cluster.leader()
        async with memory_client(cluster.network, cluster.addresses) as client:
            lease = (await client.lease_grant(10)).id
            await client.put(f"{LOCKS}job/{lease:016x}", b"", lease=lease)
            assert await client.lease_revoke(lease) == 1
            assert await client.list() == ()
            assert await cluster.same_state()
        nursery.cancel_scope.cancel()
