"""A client that reaches a follower, but not the leader."""

import re
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from tests.unit.memory_client import CLIENT_PORT, key_value_cluster, memory_client
from trioraft.address import Address
from trioraft.client.client import Client, NoAnswerError
from trioraft.kv.lock import hold_lock
from trioraft.messages import StepDown


async def _hold(client: Client) -> None:
    async with hold_lock(client, "l", clock=trio.current_time):
        pass


CALLS: dict[str, Callable[[Client], Awaitable[object]]] = {
    "put": lambda client: client.put("k", "v"),
    "cas": lambda client: client.cas("k", None, "v"),
    "lease": lambda client: client.lease_time_to_live(1),
    "lock": _hold,
}


async def test_the_text_says_who_was_reached_and_where_the_leader_is(autojump_clock: trio.testing.MockClock) -> None:
    async with key_value_cluster(3, 1) as cluster:
        leader = await cluster.leader()
        follower = (leader + 1) % 3
        here = Address("127.0.0.1", CLIENT_PORT)
        reached = cluster.address(follower)
        cluster.network.carries = lambda source, to: here not in {source, to} or reached in {source, to}
        where = f"node-{leader + 1} at {cluster.address(leader)}"
        expected = f"node node-{follower + 1} at {reached} answers, but does not lead; the leader is node {where}"
        async with memory_client(cluster.network, [reached]) as client:
            for call in CALLS.values():
                with trio.move_on_after(6) as scope:
                    await call(client)
                assert scope.cancelled_caught
                assert expected in client.problem
                assert re.match("(not proposed: )?node node-", client.problem), client.problem
            with pytest.raises(NoAnswerError, match=re.escape(expected)):
                await client.command(None, StepDown(), 2)
            assert expected in client.trouble()
            assert await client.get("k", stale=True) is None
            assert await client.get("k") is None, "a follower answers for the leader"
            cluster.network.carries = lambda source, to: True
            with trio.fail_after(10):
                await client.put("k", "v")
                while client.trouble():  # until the leader's status has been heard, too
                    await client.changed()
