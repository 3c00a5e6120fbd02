"""Leader work and scripts of the real node code under trio's mocked clock."""

from itertools import pairwise

import pytest
import trio
import trio.testing

from tests.unit.memory_cluster import MINUTES, MemoryCluster, cluster_of
from tests.unit.memory_launcher import Behaviour

LOWER, UPPER, HEARTBEAT, GRACE = 3.0, 5.0, 0.5, 5.0


def work_intervals(cluster: MemoryCluster) -> list[tuple[float, float, int]]:
    """List when leader scripts ran, on whichever node, and with which token."""
    runs = [run for launcher in cluster.launchers for run in launcher.runs if run.role == "leader"]
    return sorted((run.started, run.ended, run.token) for run in runs)


def check_exclusive(cluster: MemoryCluster) -> None:
    intervals = work_intervals(cluster)
    for (_, ended, token), (started, _, next_token) in pairwise(intervals):
        assert ended <= started, intervals
        assert token < next_token, intervals


async def running_leader_script(cluster: MemoryCluster) -> int:
    """Wait until the leader's script runs, and give the leader."""
    with trio.fail_after(60):
        while True:
            leader = await cluster.leader()
            if any(run.role == "leader" for run in cluster.launchers[leader].running()):
                return leader
            await trio.sleep(0.05)


@pytest.mark.parametrize("seed", range(2))
async def test_leader_work_is_exclusive_whatever_fails_one_after_the_other(
    autojump_clock: trio.testing.MockClock, seed: int
) -> None:
    """Have a random fault, for a random time, one after the other."""
    async with cluster_of(3, seed) as cluster:
        for launcher in cluster.launchers:
            launcher.behaviours["/leader"] = Behaviour(stops_in=cluster.chance.uniform(0, 2 * GRACE))
        await cluster.start()
        await cluster.leader()
        while trio.current_time() < 60 * MINUTES:
            await trio.sleep(cluster.chance.uniform(0, 20))
            node = cluster.chance.randrange(3)
            fault = cluster.chance.choice(["kill", "cut", "transfer", "stuck", "loss"])
            lasts = cluster.chance.uniform(0.1, 15)
            if fault == "kill":
                await cluster.kill(node)
                await trio.sleep(lasts)
                await cluster.start(node)
            elif fault == "cut":
                cluster.cut_off = {node}
                await trio.sleep(lasts)
                cluster.cut_off = set()
            elif fault == "transfer":
                await cluster.nodes[node].step_aside("test")
            elif fault == "stuck":
                cluster.disks[node].stuck = True
                await trio.sleep(lasts)
                cluster.disks[node].stuck = False
            else:
                cluster.network.loss = 0.5
                await trio.sleep(lasts)
                cluster.network.loss = 0.0
        await running_leader_script(cluster)
        check_exclusive(cluster)
        assert len(work_intervals(cluster)) > MINUTES // 4


async def test_a_crashed_leaders_work_is_waited_for_and_a_transferred_one_is_not(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster_of(3, 1) as cluster:
        await cluster.start()
        first = await running_leader_script(cluster)
        began = trio.current_time()
        await cluster.nodes[first].step_aside("test")
        second = await running_leader_script(cluster)
        assert trio.current_time() - began < 1
        began = trio.current_time()
        await cluster.kill(second)
        await running_leader_script(cluster)
        assert LOWER + GRACE < trio.current_time() - began + HEARTBEAT < LOWER + GRACE + UPPER + 2
        check_exclusive(cluster)


async def test_the_follower_script_runs_once_as_a_member_and_after_each_end_of_leader_work(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster_of(3, 2) as cluster:
        await cluster.start()
        first = await running_leader_script(cluster)
        await trio.sleep(60)
        for index, launcher in enumerate(cluster.launchers):
            roles = [run.role for run in launcher.runs]
            assert roles in (["follower", "leader"], ["leader"]) if index == first else roles == ["follower"]
        await cluster.nodes[first].step_aside("test")
        await running_leader_script(cluster)
        await trio.sleep(60)
        assert [run.role for run in cluster.launchers[first].runs][-2:] == ["leader", "follower"]


@pytest.mark.parametrize("failure", ["ignore", "step-down"])
async def test_a_leader_whose_script_fails_steps_down_only_where_that_is_set(
    autojump_clock: trio.testing.MockClock, failure: str
) -> None:
    async with cluster_of(3, 3, hook_failure=failure) as cluster:
        for launcher in cluster.launchers[:2]:
            launcher.behaviours["/leader"] = Behaviour(lifetime=1, exit_status=7)
        await cluster.start()
        await cluster.leader()
        await trio.sleep(55)
        if failure == "ignore":
            assert cluster.terms() == {1}
        else:  # whoever failed is the last choice for a minute, so the only one that works leads, and stays
            assert await cluster.leader() == 2
            assert max(cluster.terms()) <= 3
            await trio.sleep(600)
            assert await cluster.leader() == 2


async def test_a_node_that_loses_its_supervisor_steps_down(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster_of(3, 4) as cluster:
        await cluster.start()
        first = await running_leader_script(cluster)
        link = cluster.launchers[first].link
        assert link is not None
        link.lose()
        await trio.sleep(1)
        assert await running_leader_script(cluster) != first
        check_exclusive(cluster)
