"""Nodes that leave the cluster when they are stopped: real nodes under trio's mocked clock."""

import math

import pytest
import structlog.testing
import trio
import trio.testing

from tests.unit.memory_cluster import MemoryCluster, cluster_of
from tests.unit.memory_launcher import Behaviour
from tests.unit.test_steering import grown, leader, members, settled, voters
from trioraft.dns.discovery import Answer

LEAVES = {"dns_name": "service", "leave_on_stop": True, "script_leader_path": None, "script_follower_path": None}
# Docker gives a container so long to stop.
DOCKERS_PATIENCE = 10.0


async def stop(cluster: MemoryCluster, *indices: int, patience: float = DOCKERS_PATIENCE) -> dict[int, float]:
    """Stop some nodes at the same moment, as the daemon does; return after how many seconds each has ended."""
    began = trio.current_time()
    took: dict[int, float] = {}

    async def stop_one(index: int) -> None:
        await cluster.nodes[index].step_aside("test")
        await cluster.kill(index)
        took[index] = trio.current_time() - began

    async with trio.open_nursery() as nursery:
        for index in indices:
            nursery.start_soon(stop_one, index)
    assert max(took.values()) < patience
    return took


def whoever_runs(cluster: MemoryCluster) -> Answer:
    """Answer as Docker's DNS does."""
    return Answer(frozenset(map(cluster.address, cluster.nodes)), complete=True)


async def formed(cluster: MemoryCluster, size: int) -> int:
    """Wait until all nodes are voters, and return the leader."""
    cluster.answer = lambda: whoever_runs(cluster)
    await cluster.start()
    await cluster.leader()
    await settled(cluster, voters(*range(1, size + 1)), 20)
    return await cluster.leader()


def told(logs: list[structlog.typing.EventDict], event: str) -> list[str]:
    """List the reasons of all log lines of one kind."""
    return [entry.get("reason", "") for entry in logs if entry["event"] == event]


@pytest.mark.parametrize("autopilot", ["on", "off"])
async def test_a_follower_that_is_stopped_is_removed_first_and_remembers_it(
    autojump_clock: trio.testing.MockClock, autopilot: str
) -> None:
    async with cluster_of(5, 1, **LEAVES, autopilot=autopilot) as cluster:
        leading = await formed(cluster, 5)
        first, second = [index for index in range(5) if index != leading][:2]
        with structlog.testing.capture_logs() as logs:
            await stop(cluster, first)
            assert first + 1 not in members(cluster)
            await stop(cluster, second)
        await settled(cluster, voters(*({1, 2, 3, 4, 5} - {first + 1, second + 1})), 5)
        assert cluster.disks[first].hard.removed
        assert cluster.disks[second].hard.removed
        assert told(logs, "left the cluster") == ["", ""]
        assert any("leaves" in note.text for note in leader(cluster).autopilot)


async def test_a_leader_that_is_stopped_gives_its_leadership_away_and_is_removed_then(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster_of(5, 2, **LEAVES) as cluster:
        leading = await formed(cluster, 5)
        took = await stop(cluster, leading)
        assert took[leading] < 2
        await cluster.leader()
        assert leading + 1 not in members(cluster)
        assert cluster.disks[leading].hard.removed


@pytest.mark.parametrize(("grace", "patience"), [(5.0, DOCKERS_PATIENCE), (20.0, 23.0)])
async def test_a_leader_whose_script_does_not_end_is_removed_in_time(
    autojump_clock: trio.testing.MockClock, grace: float, patience: float
) -> None:
    settings = {**LEAVES, "script_leader_path": "/leader", "hook_stop_grace": grace}
    async with cluster_of(5, 11, **settings) as cluster:
        for launcher in cluster.launchers:
            launcher.behaviours["/leader"] = Behaviour(stops_in=math.inf)
        leading = await formed(cluster, 5)
        while cluster.nodes[leading].status().hook.state != "running":
            await trio.sleep(0.1)
        took = await stop(cluster, leading, patience=patience)
        assert took[leading] > grace
        assert cluster.disks[leading].hard.removed


async def test_four_of_seven_that_are_stopped_at_once_are_all_removed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    for seed in range(6):
        async with cluster_of(7, seed, **LEAVES) as cluster:
            leading = await formed(cluster, 7)
            # As `docker compose up --scale` does it, the leader among them or not.
            chosen = [leading, *(index for index in range(7) if index != leading)][seed % 2 :][:4]
            await stop(cluster, *chosen)
            await cluster.leader()
            await settled(cluster, voters(*(index + 1 for index in range(7) if index not in chosen)), 1)
            assert all(cluster.disks[index].hard.removed for index in chosen)


async def test_a_node_stops_as_a_member_where_too_few_voters_would_be_left_and_says_why(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster_of(3, 3, **LEAVES) as cluster:
        leading = await formed(cluster, 3)
        with structlog.testing.capture_logs() as logs:
            took = await stop(cluster, leading)
        assert took[leading] < 2
        assert told(logs, "stops but stays a member") == ["2 voters would be left, fewer than 3"]
        await cluster.leader(5)
        assert members(cluster) == voters(1, 2, 3)
        assert not cluster.disks[leading].hard.removed
        assert any("stops but stays a member" in note.text for note in leader(cluster).autopilot)
        await cluster.start(leading)
        await trio.sleep(10)
        assert members(cluster) == voters(1, 2, 3)


async def test_a_learner_takes_the_place_of_a_voter_that_leaves_even_when_the_leader_is_new(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster_of(4, 4, **{**LEAVES, "bootstrap_expect": 3}) as cluster:
        cluster.answer = lambda: whoever_runs(cluster)
        await grown(cluster, first=3)
        await settled(cluster, {**voters(1, 2, 3), 4: "learner"}, 10)
        leading = await cluster.leader()
        await stop(cluster, leading)
        await settled(cluster, voters(*({1, 2, 3, 4} - {leading + 1})), 2)


async def test_a_learner_that_is_stopped_is_removed(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster_of(4, 5, **{**LEAVES, "bootstrap_expect": 3}) as cluster:
        cluster.answer = lambda: whoever_runs(cluster)
        await grown(cluster, first=3)
        await settled(cluster, {**voters(1, 2, 3), 4: "learner"}, 10)
        await stop(cluster, 3)
        assert members(cluster) == voters(1, 2, 3)
        assert cluster.disks[3].hard.removed


async def test_a_node_without_a_quorum_ends_in_time_and_says_what_it_waited_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster_of(5, 6, **LEAVES) as cluster:
        leading = await formed(cluster, 5)
        for index in [index for index in range(5) if index != leading][:3]:
            await cluster.kill(index)
        await trio.sleep(20)
        with structlog.testing.capture_logs() as logs:
            await stop(cluster, *cluster.nodes)
        reasons = told(logs, "stops but may stay a member")
        assert len(reasons) == 2
        assert all(reason.endswith("within 8.0 s") for reason in reasons)
        assert any("no quorum: 2 of 5 reachable" in reason for reason in reasons)


async def test_a_node_that_is_cut_off_ends_in_time(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster_of(5, 7, **LEAVES) as cluster:
        leading = await formed(cluster, 5)
        for chosen in (leading, (leading + 1) % 5):
            cluster.cut_off.add(chosen)
            with structlog.testing.capture_logs() as logs:
                await stop(cluster, chosen)
            assert told(logs, "stops but may stay a member")
            await cluster.leader()


@pytest.mark.parametrize("size", [1, 2, 3, 5])
async def test_a_cluster_that_is_stopped_as_a_whole_ends_and_comes_back(
    autojump_clock: trio.testing.MockClock, size: int
) -> None:
    async with cluster_of(size, 8, **LEAVES) as cluster:
        await formed(cluster, size)
        await stop(cluster, *range(size))
        stayed = [index for index in range(size) if not cluster.disks[index].hard.removed]
        assert len(stayed) >= min(size, 3)
        await cluster.start(*stayed)
        await cluster.leader()
        assert {*members(cluster)} == {index + 1 for index in stayed}


async def test_a_node_leaves_although_the_leader_is_killed_meanwhile(autojump_clock: trio.testing.MockClock) -> None:
    for seed in range(6):
        async with cluster_of(5, seed, **LEAVES) as cluster:
            leading = await formed(cluster, 5)
            chosen = (leading + 1) % 5
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stop, cluster, chosen)
                await trio.sleep(cluster.chance.uniform(0, 0.05))
                await cluster.kill(leading)
            await cluster.leader()
            assert chosen + 1 not in members(cluster)
            assert cluster.disks[chosen].hard.removed


async def test_by_default_a_node_that_is_stopped_stays_a_member(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster_of(5, 9, **{**LEAVES, "leave_on_stop": False}) as cluster:
        leading = await formed(cluster, 5)
        await stop(cluster, (leading + 1) % 5)
        await trio.sleep(10)
        assert members(cluster) == voters(1, 2, 3, 4, 5)


async def test_a_node_that_has_left_and_runs_on_is_not_taken_for_a_new_node_by_later_leaders(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster_of(5, 10, **LEAVES) as cluster:
        left = (await formed(cluster, 5) + 1) % 5
        await cluster.nodes[left].step_aside("test")
        for index in [index for index in range(5) if index != left]:
            await cluster.kill(index)
            await cluster.start(index)
            await trio.sleep(10)
        await trio.sleep(30)
        assert left + 1 not in members(cluster)
        assert cluster.nodes[left].status().role == "removed"
