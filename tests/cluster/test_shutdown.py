"""How a cluster ends, and comes back."""

import signal
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.cluster.harness import Cluster

SIZE = 3
# With these nobody would be elected within half a second unless the leader gave its leadership away.
SLOW = {
    "ELECTION_TIMEOUT_LOWER_MILLIS": "3000",
    "ELECTION_TIMEOUT_UPPER_MILLIS": "5000",
    "HEARTBEAT_REPEAT_MILLIS": "500",
}


def logged(cluster: Cluster, i: int, event: str) -> list[tuple[float, dict[str, Any]]]:
    """Give when a node has logged an event, in seconds since the epoch, and the lines."""
    return [
        (datetime.fromisoformat(line["timestamp"]).timestamp(), line)
        for line in cluster.logs(i)
        if line["event"] == event
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_leader_that_is_stopped_is_replaced_at_once(tmp_path: Path, number: signal.Signals) -> None:
    async with Cluster(tmp_path, SIZE, SLOW) as cluster:
        leader = await cluster.wait_leader()
        old = cluster.index(leader)
        # Within a heartbeat or two it knows that the others are there.
        await trio.sleep(1)
        assert await cluster.kill(old, number) == 0
        new = await cluster.wait_leader(10, without=[old])
        ((stopping, line),) = logged(cluster, old, "stopping")
        assert (line["reason"], line["role"]) == (number.name, "leader")
        ((leading, line),) = logged(cluster, cluster.index(new), "became leader")
        assert line["term"] == leader.status.term + 1
        print(f"{number.name}: replaced after {leading - stopping:.3f} s")
        assert leading - stopping < 0.5


async def test_a_leader_that_is_stopped_just_after_its_election_is_replaced_soon(tmp_path: Path) -> None:
    async with Cluster(tmp_path, SIZE, SLOW) as cluster:
        leader = await cluster.wait_leader()
        old = cluster.index(leader)
        assert await cluster.stop(old) == 0
        await cluster.wait_leader(10, without=[old])


async def test_a_cluster_that_is_stopped_as_a_whole_ends_soon_and_comes_back_as_it_was(tmp_path: Path) -> None:
    async with Cluster(tmp_path, SIZE, SLOW) as cluster:
        await cluster.wait_leader()
        await trio.sleep(1)
        before = await cluster.statuses()
        began = trio.current_time()
        for i in range(SIZE):
            cluster.process(i).terminate()
        assert [await cluster.ended(i, 10) for i in range(SIZE)] == [0] * SIZE
        took = trio.current_time() - began
        print(f"all have ended after {took:.3f} s")
        assert took < 4
        for i in range(SIZE):
            await cluster.start(i)
        await cluster.wait_for(
            lambda seen: all(
                (node := cluster.node(i)) is not None and node.status.pid == cluster.process(i).pid
                for i in range(SIZE)
            ),
            10,
            "all nodes are back",
        )
        leader = await cluster.wait_leader()
        after = await cluster.statuses()
        assert [(n.status.name, n.status.id) for n in after.nodes] == [
            (n.status.name, n.status.id) for n in before.nodes
        ]
        assert after.cluster_id == before.cluster_id is not None
        assert leader.status.term > before.term
        assert not any(line.get("level") == "error" for i in range(SIZE) for line in cluster.logs(i))


async def test_a_node_that_is_alone_ends_at_once(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 1, SLOW) as cluster:
        await cluster.wait_leader()
        began = trio.current_time()
        assert await cluster.stop(0) == 0
        assert trio.current_time() - began < 2
