"""A process that stood still, because it or its host was stopped, concludes nothing from the silence of others."""

import time

import structlog.testing
import trio
import trio.testing

from tests.unit.memory_cluster import cluster_of
from tests.unit.test_client import FOLLOWER, LEADER, doubles_and_client, until
from trioraft.replica.session_clock import SESSION_SECONDS, SessionClock
from trioraft.standstill import Standstill


def test_only_a_look_that_comes_late_tells_of_a_standstill() -> None:
    standstill = Standstill(5.0)
    assert [standstill.look(now) for now in (100.0, 104.0, 109.0, 114.1, 115.0)] == [False, False, False, True, False]
    assert standstill.ended_at == 114.1


async def test_nodes_that_stood_still_raise_no_alerts_and_find_each_other(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster_of(3, 1) as cluster:
        for index in range(3):
            await cluster.start(index)
        await cluster.leader()
        await trio.sleep(40)
        with structlog.testing.capture_logs() as logs:
            autojump_clock.jump(90)
            await trio.sleep(60)
        assert [line for line in logs if line["event"] == "alert"] == []
        await cluster.leader()


async def test_a_client_that_stood_still_takes_no_node_for_unreachable() -> None:
    async with doubles_and_client(LEADER, FOLLOWER) as (client, _), trio.open_nursery() as nursery:
        await client.observe(0.2)
        await until(lambda: len(client.cluster().nodes) == 2)
        lost: list[str] = []

        async def watch() -> None:
            while True:
                await client.changed()
                lost.extend(node.status.id for node in client.cluster().nodes if not node.reachable)

        nursery.start_soon(watch)
        await trio.sleep(0.5)
        time.sleep(2.5)  # noqa: ASYNC251 - so it stands still
        await trio.sleep(0.3)
        assert lost == []
        nursery.cancel_scope.cancel()


def test_a_leader_that_stood_still_gives_sessions_their_full_time_again() -> None:
    clock = SessionClock()
    for now in range(0, 200, 5):
        assert clock.due(3, [7], now) == []
    back = 200 + 2 * SESSION_SECONDS
    for seconds in range(0, int(SESSION_SECONDS), 5):
        assert clock.due(3, [7], back + seconds) == []
    assert clock.due(3, [7], back + SESSION_SECONDS) == [7]
