"""What a client waits for no more costs a node nothing; and how much it may wait for at once."""

from collections.abc import Awaitable, Callable

import trio
import trio.testing

from tests.unit.memory_client import KeyValueCluster, key_value_cluster, memory_client
from trioraft.client.client import Client
from trioraft.errors import LimitError
from trioraft.kv.lock import hold_lock
from trioraft.node.room import OF_ONE_CLIENT_MAX
from trioraft.versions import CANCELS_FROM, Versions


def under_way(cluster: KeyValueCluster) -> int:
    return sum(len(node._requests._desk._under_way) for node in cluster.nodes.values())


def watched(cluster: KeyValueCluster) -> int:
    return sum(len(service._waiting) + len(service.hub._watched) for service in cluster.services.values())


async def given_up(client: Client, call: Callable[[], Awaitable[object]], times: int) -> None:
    """Wait for something many times at once, and no more half a second later."""

    async def wait() -> None:
        await call()

    with trio.move_on_after(0.5):
        async with trio.open_nursery() as nursery:
            for _ in range(times):
                nursery.start_soon(wait)
    await trio.sleep(0.1)


async def test_watches_that_are_given_up_end_at_the_nodes(autojump_clock: trio.testing.MockClock) -> None:
    async with key_value_cluster(3, 1) as cluster, memory_client(cluster.network, cluster.addresses) as client:
        await client.put("k", "v")
        await given_up(client, lambda: client.watch("k").__anext__(), 100)
        assert (under_way(cluster), watched(cluster)) == (0, 0)
        cluster.network.loss = 0.2
        for _ in range(10):
            await given_up(client, lambda: client.watch("k").__anext__(), 4)
        assert under_way(cluster) < 12, "what a lost datagram told, the next one told again"


async def test_whatever_waits_for_a_quorum_leaves_no_trace_when_it_is_given_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with key_value_cluster(3, 2) as cluster, memory_client(cluster.network, cluster.addresses) as client:
        await client.put("k", "v")
        leader = await cluster.leader()
        cluster.network.carries = lambda source, to: not {source, to} <= set(cluster.addresses)
        node = cluster.nodes[leader]
        for call in (lambda: client.put("k", "w"), lambda: client.get("k"), lambda: client.lease_time_to_live(1)):
            with trio.move_on_after(0.5) as scope:
                await call()
            assert scope.cancelled_caught
            await trio.sleep(0.1)
            assert node._requests._desk._under_way == {}
        assert not any(tally.total for tally in node._requests._desk._room._tallies.values())


async def test_a_client_that_is_closed_leaves_no_trace(autojump_clock: trio.testing.MockClock) -> None:
    async with key_value_cluster(3, 3) as cluster:
        with trio.move_on_after(2):
            async with (
                memory_client(cluster.network, cluster.addresses) as client,
                hold_lock(client, "l", clock=trio.current_time),
            ):
                await given_up(client, client.watch("k").__anext__, 1)
                await client.watch("k").__anext__()
        await trio.sleep(0.1)
        assert (under_way(cluster), watched(cluster)) == (0, 0)


async def test_a_node_of_an_older_version_is_not_told(autojump_clock: trio.testing.MockClock) -> None:
    async with key_value_cluster(1, 4) as cluster:
        await cluster.kill(0)
        cluster.versions[0] = Versions(1, CANCELS_FROM - 1)
        cluster.disks[0] = type(cluster.disks[0])(cluster.disks[0].node_id)
        await cluster.start(0)
        await cluster.leader()
        async with memory_client(cluster.network, cluster.addresses) as client:
            await client.put("k", "v")
            await given_up(client, lambda: client.watch("k").__anext__(), 3)
            assert len(cluster.services[0]._waiting) == 3


async def test_too_many_watches_are_an_error_that_names_the_limit_and_locks_are_kept(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with key_value_cluster(1, 5) as cluster, memory_client(cluster.network, cluster.addresses) as client:
        refused: list[LimitError] = []

        async def watch() -> None:
            try:
                await client.watch("k", revision=2).__anext__()
            except LimitError as error:
                refused.append(error)

        async with hold_lock(client, "l", 3, clock=trio.current_time), trio.open_nursery() as nursery:
            for _ in range(OF_ONE_CLIENT_MAX + 3):
                nursery.start_soon(watch)
            with trio.fail_after(20):
                while len(refused) < 3:
                    await trio.sleep(0.1)
            assert f"this client has {OF_ONE_CLIENT_MAX} watches under way at this node" in str(refused[0])
            await trio.sleep(6)  # the lock's lease, twice
            with trio.fail_after(0.5):
                await client.put("other", "v")
                await client.get("other")
            assert len(refused) == 3
            nursery.cancel_scope.cancel()
        await trio.sleep(0.1)
        assert under_way(cluster) == 0
