"""Nodes hash their replicated state for whoever asks."""

import itertools
from collections import Counter

import trio
import trio.testing

from tests.unit.memory_client import key_value_cluster, memory_client
from trioraft.client.client import Client
from trioraft.messages import StateDigested


async def digests(client: Client) -> set[StateDigested]:
    """Ask all nodes."""
    cluster = await client.statuses()
    assert len(cluster.nodes) == 3
    return {await client.state_digest(node.status.id) for node in cluster.nodes}


async def test_replicas_that_have_applied_the_same_have_the_same_digest(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with key_value_cluster(3, 1) as cluster, memory_client(cluster.network, cluster.addresses) as client:
        for number in range(50):
            await client.put(f"key-{number}", "x" * 10_000)
        await trio.sleep(5)
        (before,) = await digests(client)
        (again,) = await digests(client)
        assert again == before
        await client.put("key-0", "x" * 10_000)
        await trio.sleep(5)
        (after,) = await digests(client)
        assert after.index > before.index
        assert after.digest != before.digest


async def test_a_digest_is_of_one_moment_while_commands_are_applied(autojump_clock: trio.testing.MockClock) -> None:
    async with key_value_cluster(3, 2) as cluster, memory_client(cluster.network, cluster.addresses) as client:
        for number in range(50):
            await client.put(f"key-{number}", "x" * 10_000)

        async def put_more(other: Client) -> None:
            for number in itertools.count():
                await other.put(f"key-{number % 50}", "y" * 10_000)

        answers: set[tuple[str, StateDigested]] = set()

        async def ask(node_id: str) -> None:
            answers.add((node_id, await client.state_digest(node_id)))

        async with memory_client(cluster.network, cluster.addresses, 1) as other, trio.open_nursery() as nursery:
            nursery.start_soon(put_more, other)
            nodes = (await client.statuses()).nodes
            # The threads of snapshots take real time, in which the mocked one goes on: no number of rounds is enough.
            while indexes_of_several(answers) < 10:
                async with trio.open_nursery() as asking:
                    for node in nodes:
                        asking.start_soon(ask, node.status.id)
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        found = {answer for _, answer in answers}
        assert len(found) == len({answer.index for answer in found})


def indexes_of_several(answers: set[tuple[str, StateDigested]]) -> int:
    """Count the indexes at which more than one replica was hashed."""
    hashed = Counter(answer.index for _, answer in answers)
    return sum(times > 1 for times in hashed.values())
