"""Membership that follows the service: real nodes under trio's mocked clock, DNS and network in memory."""

import pytest
import trio
import trio.testing

from tests.unit.memory_cluster import MemoryCluster, cluster_of
from tests.unit.memory_world import MemoryDisk
from trioraft.dns.discovery import Answer
from trioraft.messages import NodeStatus

DNS = {"dns_name": "service"}


def leader(cluster: MemoryCluster) -> NodeStatus:
    """Return the status of the node that leads in the highest term."""
    statuses = [node.status() for node in cluster.nodes.values()]
    return max((one for one in statuses if one.role == "leader"), key=lambda one: one.term)


def members(cluster: MemoryCluster) -> dict[int, str]:
    """Return the members as the leader knows them."""
    return {int(member.id, 16): member.kind for member in leader(cluster).members}


async def settled(cluster: MemoryCluster, wanted: dict[int, str], within: float) -> None:
    """Wait until the members are these."""
    with trio.move_on_after(within):
        while not cluster.leaders() or members(cluster) != wanted:
            await trio.sleep(0.1)
        return
    raise AssertionError(f"{members(cluster)}, not {wanted}; {leader(cluster).autopilot}")


def voters(*nodes: int) -> dict[int, str]:
    return dict.fromkeys(nodes, "voter")


async def grown(cluster: MemoryCluster, *, first: int) -> None:
    """Start the first nodes, then the others, which join."""
    for index in range(first):
        await cluster.start(index)
    await cluster.leader()
    for index in range(first, len(cluster.disks)):
        await cluster.start(index, bootstrap_expect=None)


async def test_the_cluster_grows_from_one_to_three_to_five(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster_of(5, 1, **{**DNS, "bootstrap_expect": 1}) as cluster:
        cluster.answer = lambda: Answer(frozenset(map(cluster.address, cluster.nodes)), complete=True)
        await cluster.start(0)
        await cluster.leader()
        for index in (1, 2):
            await cluster.start(index, bootstrap_expect=None)
        await settled(cluster, voters(1, 2, 3), 10)
        await cluster.start(3, bootstrap_expect=None)
        await settled(cluster, {**voters(1, 2, 3), 4: "learner"}, 10)
        await cluster.start(4, bootstrap_expect=None)
        await settled(cluster, voters(1, 2, 3, 4, 5), 10)
        assert {node.status().role for node in cluster.nodes.values()} == {"leader", "follower"}


async def test_a_voter_that_is_gone_is_replaced_by_a_node_that_comes(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster_of(4, 2, **{**DNS, "bootstrap_expect": 3}) as cluster:
        cluster.answer = lambda: Answer(frozenset(map(cluster.address, cluster.nodes)), complete=True)
        for index in range(3):
            await cluster.start(index)
        await cluster.leader()
        dead = next(index for index in range(3) if index not in cluster.leaders())
        await cluster.kill(dead)
        await trio.sleep(100)
        assert members(cluster) == voters(1, 2, 3), "there would be fewer than three"
        assert any("stays a voter" in note.text for note in leader(cluster).autopilot)
        await cluster.start(3, bootstrap_expect=None)
        await settled(cluster, voters(*({1, 2, 3} - {dead + 1} | {4})), 15)


async def test_five_voters_become_three_when_two_are_gone(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster_of(5, 3, **DNS) as cluster:
        cluster.answer = lambda: Answer(frozenset(map(cluster.address, cluster.nodes)), complete=True)
        await cluster.start()
        leading = await cluster.leader()
        gone = [index for index in range(5) if index != leading][:2]
        for index in gone:
            await cluster.kill(index)
        await trio.sleep(50)
        assert len(members(cluster)) == 5
        await settled(cluster, voters(*(index + 1 for index in range(5) if index not in gone)), 30)


async def test_a_node_that_lost_its_data_comes_back_as_another_and_takes_the_place_of_the_old_one(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster_of(3, 5, **DNS) as cluster:
        await cluster.start()
        leading = await cluster.leader()
        lost = (leading + 1) % 3
        await cluster.kill(lost)
        cluster.disks[lost] = MemoryDisk(node_id=9)
        await cluster.start(lost)
        # Its address is in DNS all the time, but another node answers there.
        await settled(cluster, voters(*({1, 2, 3} - {lost + 1} | {9})), 90)


async def test_absence_from_dns_while_a_member_spoke_does_not_count_when_it_becomes_silent(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster_of(3, 8, **{**DNS, "min_voters": 2}) as cluster:
        there = {0, 1, 2}
        cluster.answer = lambda: Answer(frozenset(map(cluster.address, there)), complete=True)
        await cluster.start()
        leading = await cluster.leader()
        unready = (leading + 1) % 3
        there.remove(unready)
        await trio.sleep(200)
        assert members(cluster) == voters(1, 2, 3)
        # Then it is ready, but DNS fails, so that nobody hears of it, and after a while it cannot be reached.
        cluster.answer = lambda: Answer(frozenset(), complete=False, problems=("no server answers",))
        await trio.sleep(5)
        cluster.cut_off = {unready}
        await trio.sleep(100)
        assert members(cluster) == voters(1, 2, 3)
        # It is gone as soon as DNS has lacked it for long enough.
        cluster.answer = lambda: Answer(frozenset(map(cluster.address, there)), complete=True)
        await settled(cluster, voters(*({1, 2, 3} - {unready + 1})), 70)


async def test_an_autopilot_that_is_off_leaves_everything_to_commands(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster_of(4, 6, **{**DNS, "bootstrap_expect": 3, "autopilot": "off"}) as cluster:
        await grown(cluster, first=3)
        await trio.sleep(100)
        assert members(cluster) == voters(1, 2, 3)
        assert cluster.nodes[3].status().role == "forming"


@pytest.mark.parametrize(("size", "kinds"), [(1, "v"), (2, "vv"), (4, "vvvl"), (6, "vvvvvl")])
async def test_single_and_even_clusters_work(autojump_clock: trio.testing.MockClock, size: int, kinds: str) -> None:
    async with cluster_of(size, 7, **DNS, script_leader_path=None, script_follower_path=None) as cluster:
        await cluster.start()
        leading = await cluster.leader()
        await trio.sleep(20)
        # Where the number is even, one node stays a learner: as a voter it would not help to survive more failures.
        assert sorted(kind[0] for kind in members(cluster).values()) == sorted(kinds)
        await cluster.nodes[leading].propose(b"command")
        survived = (kinds.count("v") - 1) // 2
        for down in range(1, size):
            victim = next(i for i in cluster.nodes if i != leading and members(cluster)[i + 1] == "voter")
            await cluster.kill(victim)
            if down > survived:
                break
            leading = await cluster.leader()
            await cluster.nodes[leading].propose(b"command")
        if size > 1:
            await trio.sleep(30)
            assert not cluster.leaders(), "no quorum is left"
            await cluster.start(victim)
        leading = await cluster.leader()
        await cluster.nodes[leading].propose(b"command")


# --- what somebody made up ----------------------------------------------------------------------------------


async def ghosts_come(cluster: MemoryCluster, chosen: list[int]) -> None:
    """Let nodes without data come, become members as soon as possible, and fall silent for ever."""
    for index in chosen:
        await cluster.start(index, bootstrap_expect=None)
    with trio.fail_after(30):
        while not {index + 1 for index in chosen} <= set(members(cluster)):
            await trio.sleep(0.05)
    for index in chosen:
        await cluster.kill(index)


@pytest.mark.parametrize("dns", [{}, DNS], ids=["PEERS only", "DNS"])
async def test_a_learner_that_nobody_has_named_and_that_is_silent_goes(
    autojump_clock: trio.testing.MockClock, dns: dict[str, object]
) -> None:
    async with cluster_of(5, 11, **{**dns, "bootstrap_expect": 3, "max_voters": 3}) as cluster:
        cluster.answer = lambda: Answer(frozenset(map(cluster.address, range(3))), complete=True)
        for index in range(3):
            await cluster.start(index)
        await cluster.leader()
        cluster.answer = lambda: Answer(frozenset(map(cluster.address, range(5))), complete=True)
        await ghosts_come(cluster, [3, 4])
        cluster.answer = lambda: Answer(frozenset(map(cluster.address, range(3))), complete=True)
        await trio.sleep(50)
        assert members(cluster) == {**voters(1, 2, 3), 4: "learner", 5: "learner"}
        await settled(cluster, voters(1, 2, 3), 30)


async def test_a_voter_stays_where_nobody_asks_dns(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster_of(5, 12) as cluster:
        await cluster.start()
        leading = await cluster.leader()
        await cluster.kill((leading + 1) % 5)
        await trio.sleep(200)
        assert members(cluster) == voters(1, 2, 3, 4, 5)
