"""The real node code under trio's mocked clock: long lives of a cluster in seconds.

Only the world around the nodes is in memory (:mod:`tests.unit.memory_world`). A failing test prints its seed.
"""

import random
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.unit.memory_cluster import MINUTES, cluster_of
from tests.unit.memory_world import MemoryDisk, MemoryNetwork, MemorySocket, memory_world
from trioraft.address import Address
from trioraft.consensus import Role
from trioraft.consensus.hard import FormationState, HardState
from trioraft.datagrams.keys import KeyRing
from trioraft.dns.discovery import Answer
from trioraft.errors import NodeError
from trioraft.messages import format_id
from trioraft.node.node import Node
from trioraft.replica.machine import NothingToReplicate
from trioraft.settings.settings import NodeSettings
from trioraft.versions import ENDS_FROM

LOWER, UPPER, HEARTBEAT, GRACE = 3.0, 5.0, 0.5, 5.0


SEEDS = range(5)


@pytest.mark.parametrize("seed", SEEDS)
async def test_three_nodes_form_one_cluster_and_elect_one_leader(
    autojump_clock: trio.testing.MockClock, seed: int
) -> None:
    async with cluster_of(3, seed) as cluster:
        await cluster.start()
        await cluster.leader(within=10)
        assert len({node.status().cluster_id for node in cluster.nodes.values()}) == 1
        assert cluster.terms() == {1}


async def test_a_life_without_faults_is_one_term_and_no_write(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster_of(3, 1) as cluster:
        await cluster.start()
        await cluster.leader()
        await trio.sleep(60)
        writes = [disk.writes for disk in cluster.disks]
        await trio.sleep(60 * MINUTES)
        assert cluster.terms() == {1}
        assert [disk.writes for disk in cluster.disks] == writes


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_killed_leader_is_replaced_within_an_election_timeout(
    autojump_clock: trio.testing.MockClock, seed: int
) -> None:
    async with cluster_of(3, seed) as cluster:
        await cluster.start()
        old = await cluster.leader()
        await trio.sleep(20)
        killed_at = trio.current_time()
        await cluster.kill(old)
        await cluster.leader()
        assert trio.current_time() - killed_at <= UPPER + 0.5


async def test_a_node_that_stops_writes_all_that_has_gathered(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster_of(3, 1, durability="memory") as cluster:
        await cluster.start()
        leader = await cluster.leader()
        await trio.sleep(20)
        disk = cluster.disks[leader]
        before = disk.log.last_index
        await cluster.nodes[leader].propose(b"a")
        assert disk.log.last_index == before
        await cluster.kill(leader)
        await trio.sleep(disk.latency)
        assert disk.log.last_index > before


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_transfer_costs_a_round_trip(autojump_clock: trio.testing.MockClock, seed: int) -> None:
    async with cluster_of(3, seed) as cluster:
        await cluster.start()
        old = await cluster.leader()
        await trio.sleep(20)
        began = trio.current_time()
        await cluster.nodes[old].step_aside("test")
        assert await cluster.leader() != old
        assert trio.current_time() - began < 0.5
        assert cluster.terms() == {2}


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_follower_that_was_cut_off_does_not_raise_the_term(
    autojump_clock: trio.testing.MockClock, seed: int
) -> None:
    async with cluster_of(3, seed) as cluster:
        await cluster.start()
        leader = await cluster.leader()
        follower = (leader + 1) % 3
        cluster.cut_off = {follower}
        await trio.sleep(300)
        assert cluster.nodes[follower].role is Role.PRE_CANDIDATE
        cluster.cut_off = set()
        assert await cluster.leader() == leader
        assert cluster.terms() == {1}


async def test_a_leader_without_a_quorum_steps_down_before_another_is_elected(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster_of(3, 3) as cluster:
        await cluster.start()
        old = await cluster.leader()
        await trio.sleep(20)
        cluster.cut_off = {old}
        while cluster.leaders() == [old]:
            await trio.sleep(0.01)
        assert cluster.leaders() == []
        assert await cluster.leader() != old


async def test_all_nodes_restarted_keep_their_cluster_and_their_promise(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster_of(3, 4) as cluster:
        await cluster.start()
        old = await cluster.leader()
        await trio.sleep(10)
        before = {node.status().cluster_id for node in cluster.nodes.values()}
        for index in range(3):
            await cluster.kill(index)
            cluster.disks[index].place = "the host was started again"
        began = trio.current_time()
        await cluster.start()
        await cluster.leader()
        assert trio.current_time() - began >= LOWER
        assert {node.status().cluster_id for node in cluster.nodes.values()} == before
        assert old in range(3)


async def test_where_the_leader_is_started_again_in_its_place_nobody_waits_for_what_its_process_did(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster_of(3, 4) as cluster:
        await cluster.start()
        old = await cluster.leader()
        while any(node.status().cluster_version < ENDS_FROM for node in cluster.nodes.values()):
            await trio.sleep(0.1)
        await cluster.kill(old)
        began = trio.current_time()
        await cluster.start(old)
        while not any(cluster.launchers[leader].runs[-1].role == "leader" for leader in cluster.leaders()):
            assert trio.current_time() - began < LOWER / 2
            await trio.sleep(0.01)


async def test_what_is_promised_after_a_pause_counts_from_after_the_pause(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster_of(3, 4) as cluster:
        await cluster.start()
        leader = await cluster.leader()
        follower = cluster.nodes[(leader + 1) % 3]
        paused = trio.Event()

        class PausedSocket(MemorySocket):
            """One whose node is paused for 2 s just before it receives."""

            def receive(self) -> list[tuple[bytes, Address]]:
                if self._arrived and not paused.is_set():
                    autojump_clock.jump(2)
                    paused.set()
                return super().receive()

        follower._socket.__class__ = PausedSocket
        await paused.wait()
        state = follower._core.state
        assert state is not None
        assert state.refuse_until >= trio.current_time() + LOWER - 0.1


async def test_a_promise_is_counted_from_when_the_process_before_has_surely_ended(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        network = MemoryNetwork(nursery, random.Random(1))
        disk = MemoryDisk(node_id=1)
        disk.hard = HardState(promise=LOWER, formation=FormationState(cluster=7, members=(1, 2, 3)))

        def open_late(_: NodeSettings) -> MemoryDisk:
            autojump_clock.jump(2)  # the process before has its directory, and promises, until just now
            return disk

        world = memory_world(network, disk, lambda: Answer(frozenset(), True, ()), chance=random.Random(1))
        node = Node(
            NodeSettings(data_dir=Path("/nowhere")), replace(world, open_disk=open_late), NothingToReplicate()
        )
        state = node._core.state
        assert state is not None
        assert state.refuse_until == trio.current_time() + LOWER


async def test_a_leader_whose_disk_is_stuck_steps_down(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster_of(3, 5) as cluster:
        await cluster.start()
        first = await cluster.leader()
        await trio.sleep(20)
        for disk in cluster.disks:
            disk.stuck = True
        await cluster.kill(first)
        await trio.sleep(60)
        assert cluster.leaders() == []
        assert any(node.status().disk_stuck for node in cluster.nodes.values())
        for disk in cluster.disks:
            disk.stuck = False
        await cluster.leader()


async def test_a_failed_write_stops_the_node(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(Exception, match="no space left"), flatten_subgroups=True):
        async with cluster_of(3, 6) as cluster:
            cluster.disks[0].fails = True
            await cluster.start()
            await trio.sleep(60)


async def test_a_node_that_only_joins_never_forms(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster_of(3, 7, bootstrap_expect=None) as cluster:
        await cluster.start()
        await trio.sleep(600)
        forming = [node.status().forming for node in cluster.nodes.values()]
        assert all(why is not None and "BOOTSTRAP_EXPECT is not set" in why.waiting_for for why in forming)


@pytest.mark.parametrize("hindrance", ["slow answers", "DNS that fails at first"])
async def test_a_replica_added_to_a_cluster_of_one_joins_it_however_busy_the_machine_is(
    autojump_clock: trio.testing.MockClock, hindrance: str
) -> None:
    # Each would form a cluster by itself, had it not heard of the other one.
    async with cluster_of(2, 11, bootstrap_expect=1) as cluster:
        cluster.answer = lambda: Answer(frozenset({cluster.address(0)}), complete=True)
        await cluster.start(0)
        await cluster.leader(within=10)
        cluster.answer = cluster.everybody
        if hindrance == "slow answers":
            cluster.network.delay = (0.4, 0.5)
        else:
            known_after = trio.current_time() + 1.5
            nobody = Answer(addresses=frozenset(), complete=False, problems=("no answer in time",))
            cluster.answer = lambda: cluster.everybody() if trio.current_time() > known_after else nobody
        await cluster.start(1)
        with trio.fail_after(20):
            while len({node.status().cluster_id for node in cluster.nodes.values()}) > 1:
                await trio.sleep(0.1)


async def test_a_single_node_forms_its_cluster_although_addresses_never_answer(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster_of(1, 12, bootstrap_expect=1) as cluster:
        others = [Address("127.0.0.1", 9000 + number) for number in range(50)]
        cluster.answer = (
            lambda: Answer(  # one more at each look-up
                frozenset(others[: 1 + round(trio.current_time())]), complete=True
            )
        )
        await cluster.start()
        await cluster.leader(within=20)


async def test_two_of_three_expected_nodes_wait_and_the_third_completes_them(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster_of(3, 8) as cluster:
        await cluster.start(0, 1)
        await trio.sleep(600)
        assert {node.role for node in cluster.nodes.values()} == {Role.FORMING}
        await cluster.start(2)
        await cluster.leader(within=10)


async def test_a_late_node_without_state_waits_to_be_joined(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster_of(4, 9, bootstrap_expect=3, autopilot="off") as cluster:
        await cluster.start(0, 1, 2)
        await cluster.leader()
        await cluster.start(3)
        await trio.sleep(60)
        forming = cluster.nodes[3].status().forming
        assert forming is not None
        assert f"cluster {cluster.nodes[0].status().cluster_id} to let it join" in forming.waiting_for


async def test_a_node_of_another_cluster_is_refused_loudly(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster_of(4, 10, bootstrap_expect=3) as cluster:
        await cluster.start(0, 1, 2)
        leader = await cluster.leader()
        cluster.cut_off = {3}
        await cluster.start(3, bootstrap_expect=1)
        await trio.sleep(30)
        assert cluster.nodes[3].role is Role.LEADER
        cluster.cut_off = set()
        await trio.sleep(30)
        assert all(any("belongs to another cluster" in a for a in n.status().alerts) for n in cluster.nodes.values())
        assert {cluster.nodes[index].status().leader for index in range(3)} == {format_id(leader + 1)}


async def test_of_two_processes_with_one_id_the_later_one_ends_and_never_votes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster_of(4, 17, bootstrap_expect=3, keys=KeyRing.parse("4b" * 32)) as cluster:
        await cluster.start(0, 1, 2)
        leader = await cluster.leader()
        copied = next(index for index in range(3) if index != leader)
        cluster.disks[3] = deepcopy(cluster.disks[copied])
        await trio.sleep(60)
        hard = cluster.disks[3].hard
        with trio.fail_after(3), pytest.raises(NodeError) as caught:  # within its promise not to vote
            await cluster.run_alone(3)
        where = cluster.address(copied)
        assert str(caught.value).startswith(
            f"another process, at {where}, has this node's id {format_id(copied + 1)}"
        )
        assert "this node stops, because the other one was there before" in str(caught.value)
        assert cluster.disks[3].hard == hard
        await trio.sleep(1)
        assert any("has this node's id" in alert for alert in cluster.nodes[copied].status().alerts)
        assert await cluster.leader() == leader
        assert cluster.terms() == {1}


async def test_without_a_key_nobody_ends_a_node_by_saying_to_have_its_id(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster_of(4, 17, bootstrap_expect=3) as cluster:
        await cluster.start(0, 1, 2)
        leader = await cluster.leader()
        copied = next(index for index in range(3) if index != leader)
        cluster.disks[3] = deepcopy(cluster.disks[copied])
        await trio.sleep(60)
        await cluster.start(3)
        await trio.sleep(60)
        assert len(cluster.nodes) == 4
        for index in (copied, 3):
            assert any("has this node's id" in alert for alert in cluster.nodes[index].status().alerts)
        for index in {0, 1, 2} - {copied}:
            assert any("two processes have the node id" in alert for alert in cluster.nodes[index].status().alerts)
        assert cluster.nodes[3].status().leader is None
        assert {cluster.nodes[index].status().leader for index in range(3)} == {format_id(leader + 1)}
        assert {cluster.nodes[index].status().term for index in range(3)} == {1}


async def test_of_two_processes_with_one_id_that_meet_late_none_ends(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster_of(4, 18, bootstrap_expect=3) as cluster:
        await cluster.start(0, 1, 2)
        leader = await cluster.leader()
        copied = next(index for index in range(3) if index != leader)
        cluster.disks[3] = deepcopy(cluster.disks[copied])
        cluster.cut_off = {3}
        await cluster.start(3)
        await trio.sleep(60)
        cluster.cut_off = set()
        await trio.sleep(60)
        assert len(cluster.nodes) == 4
        for index in (copied, 3):
            assert any("has this node's id" in alert for alert in cluster.nodes[index].status().alerts)
        assert cluster.nodes[3].status().leader is None  # all others listen to the first one
        assert {cluster.nodes[index].status().leader for index in range(3)} == {format_id(leader + 1)}


async def test_members_are_shown_by_the_names_that_they_have_now(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster_of(3, 19) as cluster:
        await cluster.start()
        leader = await cluster.leader()
        renamed, gone = (index for index in range(3) if index != leader)
        await cluster.kill(renamed)
        await cluster.kill(gone)
        await cluster.start(renamed, node_name="renamed")
        leader = await cluster.leader()
        await trio.sleep(30)
        shown = {member.id: member for member in cluster.nodes[leader].status().members}
        assert shown[format_id(renamed + 1)].name == "renamed"
        assert shown[format_id(leader + 1)].silent_seconds == 0
        silent = shown[format_id(gone + 1)].silent_seconds
        assert silent is not None
        assert 30 <= silent <= 60
        assert shown[format_id(gone + 1)].name == f"node-{gone + 1}"


async def test_dns_that_forgets_everybody_does_not_disturb(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster_of(3, 11) as cluster:
        answers = [cluster.everybody()]
        cluster.answer = lambda: answers[0]
        await cluster.start()
        await cluster.leader()
        for problems, complete in (((), True), (("DNS does not answer",), False)):
            answers[0] = Answer(addresses=frozenset(), complete=complete, problems=problems)
            await trio.sleep(30 * MINUTES)
        assert cluster.terms() == {1}


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_bad_network_changes_no_leader(autojump_clock: trio.testing.MockClock, seed: int) -> None:
    async with cluster_of(3, seed) as cluster:
        await cluster.start()
        await cluster.leader()
        cluster.network.loss, cluster.network.duplication = 0.3, 0.2
        cluster.network.delay = (0.05, 0.15)
        await trio.sleep(600)
        assert cluster.terms() == {1}


async def test_a_port_that_is_taken_is_one_clear_line(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster_of(2, 12) as cluster:
        await cluster.start(0)
        with pytest.RaisesGroup(
            pytest.RaisesExc(NodeError, match="BIND_PORT=7300: Address already in use"), flatten_subgroups=True
        ):
            async with cluster_of(1, 12) as other:
                other.network.sockets = cluster.network.sockets
                await other.start()
