"""Leases, watches and locks of clients, over the real node code in memory; an hour takes a second."""

import pytest
import trio
import trio.testing

from tests.unit.memory_client import CLIENT_PORT, cut, key_value_cluster, memory_client
from trioraft.client.client import KeyValueError
from trioraft.kv.commands import Event
from trioraft.kv.lock import LeaseLostError, hold_lease, hold_lock
from trioraft.kv.results import ErrorCode

SEEDS = range(3)


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_lease_lives_as_long_as_it_is_kept_alive(autojump_clock: trio.testing.MockClock, seed: int) -> None:
    async with key_value_cluster(3, seed) as cluster, memory_client(cluster.network, cluster.addresses) as client:
        lease = (await client.lease_grant(10)).id
        await client.put("a", "1", lease=lease)
        for _ in range(10):
            await trio.sleep(9)
            assert await client.lease_keep_alive(lease) == 10
        await trio.sleep(9.5)
        assert await client.get("a") is not None
        assert (await client.lease_time_to_live(lease, keys=True)).keys == (b"a",)
        await trio.sleep(1.5)
        assert await client.get("a") is None
        with pytest.raises(KeyValueError) as caught:
            await client.lease_keep_alive(lease)
        assert caught.value.code == ErrorCode.LEASE_NOT_FOUND
        assert await client.leases() == ()


async def test_a_new_leader_gives_leases_their_full_time(autojump_clock: trio.testing.MockClock) -> None:
    async with key_value_cluster(3, 1) as cluster, memory_client(cluster.network, cluster.addresses) as client:
        lease = (await client.lease_grant(20)).id
        await client.put("a", "1", lease=lease)
        await trio.sleep(15)
        await cluster.kill(await cluster.leader())
        await cluster.leader()
        assert 19 < (await client.lease_time_to_live(lease)).remaining < 20.001
        await trio.sleep(19)
        assert await client.get("a") is not None
        await trio.sleep(3)
        assert await client.get("a") is None


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_watch_gives_every_change_once_and_in_order_although_nodes_are_killed(
    autojump_clock: trio.testing.MockClock, seed: int
) -> None:
    async with (
        key_value_cluster(3, seed) as cluster,
        memory_client(cluster.network, cluster.addresses, 0) as writer,
        memory_client(cluster.network, cluster.addresses, 1) as reader,
    ):
        events: list[Event] = []
        watcher = reader.watch("k", prefix=True)
        await watcher.start()

        async def follow() -> None:
            async for event in watcher:
                events.append(event)
                if event.kv.value == b"last":
                    return

        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            for number in range(40):
                await writer.put(f"k{number % 3}", str(number))
                await writer.put("other", "x")
                await trio.sleep(1)
                if number in {10, 25}:
                    killed = number % 3
                    await cluster.kill(killed)
                if number in {20, 35}:
                    await cluster.start(killed)
            await writer.delete("k0")
            await writer.put("k", "last")
        assert [event.kv.value for event in events] == [*(str(n).encode() for n in range(40)), b"", b"last"]
        assert [event.kv.mod_revision for event in events] == sorted({event.kv.mod_revision for event in events})


async def test_a_watch_that_comes_too_late_says_so(autojump_clock: trio.testing.MockClock) -> None:
    async with key_value_cluster(1, 1) as cluster, memory_client(cluster.network, cluster.addresses) as client:
        for number in range(5):
            last = await client.put("a", str(number))
        await client.compact(last.revision)
        with pytest.raises(KeyValueError) as caught:
            await client.watch("a", revision=2).__anext__()
        assert (caught.value.code, caught.value.oldest_revision) == (ErrorCode.COMPACTED, last.revision)


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_lock_has_one_holder_at_a_time_and_growing_tokens(
    autojump_clock: trio.testing.MockClock, seed: int
) -> None:
    async with key_value_cluster(3, seed) as cluster:
        cluster.network.loss = 0.05
        holders: list[int] = []
        tokens: list[int] = []

        async def work(number: int) -> None:
            async with memory_client(cluster.network, cluster.addresses, number) as client:
                for _ in range(3):
                    async with hold_lock(client, "job", 10, clock=trio.current_time) as lock:
                        holders.append(number)
                        tokens.append(lock.fencing_token)
                        assert len(holders) == 1
                        await trio.sleep(5)
                        holders.remove(number)

        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(work, number)
        assert len(tokens) == 12
        assert tokens == sorted(set(tokens))


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_holder_that_is_cut_off_ends_before_the_next_one_begins(
    autojump_clock: trio.testing.MockClock, seed: int
) -> None:
    async with (
        key_value_cluster(3, seed) as cluster,
        memory_client(cluster.network, cluster.addresses, 0) as first,
        memory_client(cluster.network, cluster.addresses, 1) as second,
    ):
        ended_at, began_at = 0.0, 0.0

        async def hold() -> None:
            nonlocal ended_at
            async with hold_lock(first, "job", 10, clock=trio.current_time):
                try:
                    await trio.sleep(3.7)
                    cut(cluster, CLIENT_PORT)
                    await trio.sleep_forever()
                finally:
                    ended_at = trio.current_time()

        async def lose() -> None:
            with pytest.raises(LeaseLostError):
                await hold()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(lose)
            await trio.sleep(2)
            async with hold_lock(second, "job", 10, clock=trio.current_time):
                began_at = trio.current_time()
            assert 0 < ended_at < began_at


async def test_a_holder_loses_a_lease_that_another_client_revokes(autojump_clock: trio.testing.MockClock) -> None:
    async with key_value_cluster(3, 1) as cluster, memory_client(cluster.network, cluster.addresses) as client:

        async def hold() -> None:
            async with hold_lease(client, 10, clock=trio.current_time) as lease:
                await client.lease_revoke(lease.id)
                await trio.sleep_forever()

        with pytest.raises(LeaseLostError, match="there is no lease"):
            await hold()
