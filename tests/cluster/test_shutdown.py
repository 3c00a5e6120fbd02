"""How a cluster ends, and comes back."""

import signal
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.cluster.harness import Cluster
from tests.unit.processes import write_script
from trioraft.messages import Transfer

SIZE = 3
# With these nobody would be elected within half a second unless the leader gave its leadership away.
SLOW = {
    "ELECTION_TIMEOUT_LOWER_MILLIS": "3000",
    "ELECTION_TIMEOUT_UPPER_MILLIS": "5000",
    "HEARTBEAT_REPEAT_MILLIS": "500",
}


def logged(cluster: Cluster, i: int, event: str) -> list[tuple[float, dict[str, Any]]]:
    """Return when a node has logged an event, in seconds since the epoch, and the lines."""
    return [
        (datetime.fromisoformat(line["timestamp"]).timestamp(), line)
        for line in cluster.logs(i)
        if line["event"] == event
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
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


async def test_a_leader_that_is_stopped_the_moment_it_leads_is_replaced_at_once(tmp_path: Path) -> None:
    async with Cluster(tmp_path, SIZE, SLOW) as cluster:
        leader = await cluster.wait_leader()
        await trio.sleep(1)
        chosen = next(i for i in range(SIZE) if i != cluster.index(leader))
        target = cluster.node(chosen)
        assert target is not None
        response = await cluster.client.command(leader.status.id, Transfer(int(target.status.id, 16)))
        assert response.done, response.detail
        assert await cluster.stop(chosen) == 0
        new = await cluster.wait_leader(10, without=[chosen])
        ((stopping, line),) = logged(cluster, chosen, "stopping")
        assert line["role"] == "leader"
        leading, _ = logged(cluster, cluster.index(new), "became leader")[-1]
        print(f"replaced after {leading - stopping:.3f} s")
        assert leading - stopping < 0.5


async def test_a_leader_that_is_stopped_while_it_hands_over_finishes_that_first(tmp_path: Path) -> None:
    ready = tmp_path / "ready"  # its shell needs a moment until it has set the trap
    script = write_script(tmp_path, f'trap "sleep 2; exit 0" TERM; touch {ready}; while :; do sleep 0.1; done')
    # Nobody would wait so long for a leader that does not say anything any more.
    environment = {"SCRIPT_LEADER_PATH": script, "HOOK_STOP_GRACE_MILLIS": "4000"}
    async with Cluster(tmp_path, SIZE, environment) as cluster:
        old = cluster.index(await cluster.wait_leader())
        with trio.fail_after(10):
            while not ready.exists():
                await trio.sleep(0.05)
        async with trio.open_nursery() as nursery:
            leader = cluster.node(old)
            assert leader is not None
            nursery.start_soon(cluster.client.command, leader.status.id, Transfer())
            await cluster.wait_for(lambda _: hook_state(cluster, old) == "ending", 10, "its script is ended")
            assert await cluster.stop(old) == 0
            nursery.cancel_scope.cancel()
        new = await cluster.wait_leader(10, without=[old])
        ((stopping, _),) = logged(cluster, old, "stopping")
        ((ended, _),) = logged(cluster, old, "script ended")
        leading, _ = logged(cluster, cluster.index(new), "became leader")[-1]
        print(f"its script ended after {ended - stopping:.3f} s, replaced {leading - ended:.3f} s later")
        assert ended - stopping > 1.5
        assert 0 < leading - ended < 0.5


def hook_state(cluster: Cluster, i: int) -> str:
    node = cluster.node(i)
    return node.status.hook.state if node is not None else ""


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
