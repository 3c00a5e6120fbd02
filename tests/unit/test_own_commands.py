"""Commands of a node's own program: gathered into batches on the leader, carried out elsewhere by another node."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import trio
import trio.testing

from tests.unit.memory_cluster import MemoryCluster, cluster_of
from trioraft import BatchError, ProposalError, RefusedError
from trioraft.errors import NotCommittedError
from trioraft.messages import COMMANDS_MAX, PAYLOAD_MAX, Entry, EntryKind
from trioraft.node.node import Node
from trioraft.replica.machine import NothingToReplicate


class Listing(NothingToReplicate):
    """Remembers every command, and gives it back."""

    def __init__(self) -> None:
        self.applied: list[bytes] = []

    def apply(self, command: bytes) -> bytes:
        self.applied.append(command)
        return b"did " + command

    def snapshot(self) -> Iterator[bytes]:
        return iter(())

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Do nothing."""


async def listing(cluster: MemoryCluster) -> tuple[int, list[Listing]]:
    """Start a cluster of such machines; return which node leads, once the cluster speaks the newest version."""
    machines = [Listing() for _ in cluster.disks]
    cluster.machine = lambda index: machines[index]
    await cluster.start()
    leader = await cluster.leader()
    await trio.sleep(30)
    return leader, machines


def batches(node: Node) -> list[Entry]:
    """List the batches in a node's log."""
    log = node._core.state.log if node._core.state is not None else None
    assert log is not None
    return [entry for entry in log.entries(log.base_index + 1, log.last_index) if entry.kind is EntryKind.BATCH]


async def settled(machines: list[Listing], number: int) -> None:
    """Wait until all machines have applied so many commands, and check that they are the same."""
    with trio.fail_after(60):
        while any(len(machine.applied) < number for machine in machines):
            await trio.sleep(0.1)
    assert all(machine.applied == machines[0].applied for machine in machines)


@pytest.mark.parametrize("away", [0, 1])
async def test_many_commands_are_carried_out_in_order_and_in_few_entries(
    autojump_clock: trio.testing.MockClock, away: int
) -> None:
    async with cluster_of(3, 1) as cluster:
        leader, machines = await listing(cluster)
        node = cluster.nodes[(leader + away) % 3]
        commands = [b"%d" % number for number in range(2 * COMMANDS_MAX + 1)]
        assert await node.propose_many(commands) == [b"did " + command for command in commands]
        applied = machines[leader].applied
        assert (sorted(applied, key=int) if away else applied) == commands, "the order is that of a leader only"
        assert len(batches(cluster.nodes[leader])) in {2, 3}
        await settled(machines, len(commands))
        assert await node.propose_many([]) == []


async def test_tasks_that_propose_at_one_time_share_an_entry(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster_of(3, 2) as cluster:
        leader, machines = await listing(cluster)
        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(cluster.nodes[leader].propose, b"%d" % number)
        assert len(batches(cluster.nodes[leader])) == 1
        await settled(machines, 50)


async def test_what_is_submitted_is_answered_once_and_may_submit_the_next_command(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster_of(3, 3) as cluster:
        leader, machines = await listing(cluster)
        node, answers = cluster.nodes[leader], Counter[bytes]()

        def done(outcome: bytes | ProposalError) -> None:
            assert isinstance(outcome, bytes)
            answers[outcome] += 1
            if answers.total() <= 100:
                node.submit(b"more %d" % answers.total(), done)

        for number in range(10):
            node.submit(b"%d" % number, done)
            assert not answers, "never before submit has returned"
        await settled(machines, 110)
        assert set(answers.values()) == {1}
        assert answers.total() == 110


async def test_what_is_submitted_when_an_outcome_is_told_overtakes_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster_of(3, 5) as cluster:
        leader, machines = await listing(cluster)
        node, told = cluster.nodes[leader], list[bytes]()
        assert node._loop is not None
        node._loop._look_interval = -1.0  # as if each pass of the scheduler took very long

        def done(outcome: bytes | ProposalError) -> None:
            assert isinstance(outcome, bytes)
            told.append(outcome)
            if len(told) <= 200:
                node.submit(b"more %d" % len(told), done)

        others = {0, 1, 2} - {leader}
        cluster.cut_off |= others
        for number in range(200):  # more entries than are applied in one turn
            node.submit(b"%d" % number, done)
        await trio.sleep(0.1)
        cluster.cut_off -= others
        await settled(machines, 400)
        assert told == [b"did " + command for command in machines[leader].applied]


async def test_a_command_that_is_too_large_keeps_all_of_its_batch_from_being_proposed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster_of(3, 4) as cluster:
        leader, machines = await listing(cluster)
        for away in (0, 1):
            node = cluster.nodes[(leader + away) % 3]
            with pytest.raises(RefusedError, match=r"not proposed: the command has 2\d+ bytes"):
                await node.propose_many([b"a", bytes(PAYLOAD_MAX + 1), b"b"])
            with pytest.raises(RefusedError):
                node.submit(bytes(PAYLOAD_MAX + 1), print)
        await trio.sleep(10)
        assert not any(machine.applied for machine in machines)


async def test_what_was_given_up_before_it_was_proposed_is_never_carried_out(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster_of(3, 5) as cluster:
        leader, machines = await listing(cluster)
        with trio.CancelScope() as scope:
            scope.cancel()
            await cluster.nodes[leader].propose_many([b"a", b"b"])
        await cluster.nodes[leader].propose(b"c")
        await settled(machines, 1)
        assert machines[leader].applied == [b"c"]


async def test_a_deposed_leader_has_its_commands_carried_out_by_the_next_one_each_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster_of(3, 6) as cluster:
        leader, machines = await listing(cluster)
        cluster.cut_off.add(leader)
        results: list[bytes] = []

        async def propose() -> None:
            results.extend(await cluster.nodes[leader].propose_many([b"%d" % number for number in range(300)]))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(propose)
            await trio.sleep(60)
            assert not results
            cluster.cut_off.clear()
        assert results == [b"did %d" % number for number in range(300)]
        await settled(machines, 300)
        assert sorted(machines[0].applied, key=int) == [b"%d" % number for number in range(300)]


async def test_an_error_of_some_names_the_first_and_keeps_the_outcomes_of_all(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cluster_of(1, 7) as cluster:
        leader, _ = await listing(cluster)
        node = cluster.nodes[leader]
        begin = node._own_commands.begin

        def fail_some(command: bytes, done: Any) -> Any:
            if command == b"bad":
                return begin(command, lambda outcome: done(NotCommittedError("not committed")))
            return begin(command, done)

        monkeypatch.setattr(node._own_commands, "begin", fail_some)
        with pytest.raises(BatchError, match="command 2 of 3: not committed") as caught:
            await node.propose_many([b"a", b"bad", b"c"])
        first, second, third = caught.value.outcomes
        assert (first, third) == (b"did a", b"did c")
        assert isinstance(second, NotCommittedError)
