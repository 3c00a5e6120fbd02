"""Locks and leases held by clients, when something gets in the way: over the real node code, in memory."""

import pytest
import trio
import trio.testing

from tests.unit.memory_client import KeyValueCluster, key_value_cluster, memory_client
from trioraft.consensus.hard import FormationState, HardState
from trioraft.kv.lock import LeaseLostError, hold_lease, hold_lock
from trioraft.kv.lock_keys import LOCKS
from trioraft.messages import TERM_LEAP


async def cut_off_majority(cluster: KeyValueCluster, seconds: float) -> None:
    """Let the cluster do nothing for a while."""
    cluster.cut_off.update(range(3))
    await trio.sleep(seconds)
    cluster.cut_off.clear()


async def test_a_lock_is_free_as_soon_as_its_holder_is_cancelled_together_with_its_client(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with key_value_cluster(3, 1) as cluster, memory_client(cluster.network, cluster.addresses, 1) as second:
        held = trio.Event()

        async def first() -> None:
            async with (
                memory_client(cluster.network, cluster.addresses, 0) as client,
                hold_lock(client, "job", 1000, clock=trio.current_time),
            ):
                held.set()
                await trio.sleep_forever()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(first)
            await held.wait()
            nursery.cancel_scope.cancel()
        with trio.fail_after(1):
            async with hold_lock(second, "job", 10, clock=trio.current_time):
                pass
        assert await second.leases() == ()
        assert len(cluster.nodes[0]._member.replica.sessions) == 1, "the first client has ended its session, too"


async def test_a_lease_is_held_although_its_grant_took_longer_than_its_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with key_value_cluster(3, 1) as cluster, memory_client(cluster.network, cluster.addresses) as client:
        await client.put("a", "1")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cut_off_majority, cluster, 20)
            await trio.sleep(0.01)
            started = trio.current_time()
            async with hold_lease(client, 5, clock=trio.current_time) as lease:
                assert trio.current_time() - started > 10
                assert lease.held_until > trio.current_time() + 3
                await trio.sleep(20)
                assert lease.held_until > trio.current_time()


async def test_fencing_tokens_grow_although_the_history_is_forgotten_and_the_leader_replaced(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with key_value_cluster(3, 1) as cluster, memory_client(cluster.network, cluster.addresses) as client:
        tokens = []
        for _ in range(3):
            async with hold_lock(client, "job", 10, clock=trio.current_time) as lock:
                tokens.append(lock.fencing_token)
                kv = await client.get(f"{LOCKS}job/{lock.lease.id:016x}")
                assert kv is not None
                assert kv.create_revision == kv.mod_revision == lock.fencing_token
            await client.compact((await client.put("other", "x")).revision)
            leader = await cluster.leader()
            await cluster.kill(leader)
            await cluster.leader()
            await cluster.start(leader)
        assert tokens == sorted(set(tokens))


async def test_names_of_locks_may_be_any_bytes_and_do_not_collide(autojump_clock: trio.testing.MockClock) -> None:
    names = ("a", "a/b", "a/0123456789abcdef", "a/", "\udcff", "ä" * 500)
    async with key_value_cluster(1, 1) as cluster, memory_client(cluster.network, cluster.addresses) as client:
        async with trio.open_nursery() as nursery:
            held: set[str] = set()

            async def hold(name: str) -> None:
                async with hold_lock(client, name, 10, clock=trio.current_time):
                    held.add(name)
                    await trio.sleep_forever()

            for name in names:
                nursery.start_soon(hold, name)
            with trio.fail_after(5):
                while held != set(names):
                    await trio.sleep(0.1)
            nursery.cancel_scope.cancel()
        for name in ("", "ä" * 501):
            with pytest.raises(ValueError, match="a lock's name has 1 to 1000 bytes"):
                await hold_lock(client, name).__aenter__()


async def test_a_waiter_for_a_lock_that_loses_its_lease_gets_an_error(autojump_clock: trio.testing.MockClock) -> None:
    async with key_value_cluster(1, 1) as cluster, memory_client(cluster.network, cluster.addresses) as client:
        async with hold_lock(client, "job", 10, clock=trio.current_time) as lock:

            async def wait() -> None:
                with pytest.raises(LeaseLostError):
                    await hold_lock(client, "job", 10, clock=trio.current_time).__aenter__()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await trio.sleep(1)
                (other,) = set(await client.leases()) - {lock.lease.id}
                await client.lease_revoke(other)
        assert await client.leases() == ()


async def test_fencing_tokens_grow_although_a_restored_backup_has_fewer_revisions(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def take_lock(restored_term: int, puts: int) -> int:
        async with trio.open_nursery() as nursery:
            cluster = KeyValueCluster(nursery, 3, 1)
            if restored_term:
                formation = FormationState(cluster=99, members=(1, 2, 3))
                for disk in cluster.disks:
                    disk.hard = HardState(term=restored_term, formation=formation)
            await cluster.start()
            await cluster.leader()
            async with memory_client(cluster.network, cluster.addresses) as client:
                for number in range(puts):
                    await client.put("a", str(number))
                async with hold_lock(client, "job", 10, clock=trio.current_time) as lock:
                    token = lock.fencing_token
            nursery.cancel_scope.cancel()
        return token

    # The cluster is not restored, restored from a backup that lacks the puts, and restored once more.
    tokens = [await take_lock(0, 20), await take_lock(3 + TERM_LEAP, 0), await take_lock(9 + 2 * TERM_LEAP, 0)]
    assert tokens == sorted(set(tokens))
