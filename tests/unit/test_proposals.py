"""What becomes of commands and questions when leaders change, and when they, or the state machine, are no good."""

import random
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import cbor2
import pytest
import trio
import trio.testing

from tests.unit.memory_client import CLIENT_PORT, KeyValueCluster, key_value_cluster, memory_client
from tests.unit.memory_world import MemoryDisk, MemoryNetwork, memory_world
from trioraft.datagrams.endpoint import Peer
from trioraft.datagrams.wire import encode_message
from trioraft.dns.discovery import Answer
from trioraft.errors import ProposalError, RefusedError
from trioraft.kv.codec import encode_command
from trioraft.kv.commands import Put
from trioraft.messages import (
    ENTRY_MAX,
    FRAGMENTED_MAX,
    PAYLOAD_MAX,
    AppendEntriesRequest,
    ClientRequest,
    ClientResponse,
    Entry,
    EntryKind,
    Propose,
    Refusal,
)
from trioraft.node.node import open_node
from trioraft.node.room import Kind
from trioraft.node.session_room import OF_ONE_CLIENT_MAX
from trioraft.settings.settings import NodeSettings
from trioraft.versions import BATCHES_FROM, Versions


class Echo:
    """Gives back what it is given, as often as its first byte says."""

    def __init__(self) -> None:
        self.applied: list[bytes] = []

    def apply(self, command: bytes) -> bytes:
        self.applied.append(command)
        return command[1:] * command[0]

    def query(self, question: bytes) -> bytes:
        if question == b"nonsense":
            raise ValueError("this is nonsense")
        if question == b"bug":
            raise KeyError("account")
        return self.apply(question) if question else None  # type: ignore[return-value]

    def snapshot(self) -> Iterator[bytes]:
        return iter(())

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Do nothing."""


def let_echo(cluster: KeyValueCluster) -> list[Echo]:
    """Replace the state machines of a cluster in which nothing was proposed."""
    machines = [Echo() for _ in cluster.nodes]
    for node, machine in zip(cluster.nodes.values(), machines, strict=True):
        node._member.replica.machine = node._requests._commands._queryable = machine
    return machines


async def test_what_a_replaced_leader_had_proposed_is_proposed_again_although_nobody_writes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with key_value_cluster(3, 1) as cluster:
        old = await cluster.leader()
        cluster.cut_off.add(old)

        async def propose(number: int, patience: float) -> None:
            with trio.move_on_after(patience):
                await cluster.nodes[old].propose(encode_command(Put(b"%d" % number, b"x")))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(propose, 0, 0.05)  # else it would be proposed again, in the place of the next one
            await trio.sleep(0.01)
            for number in range(1, 4):
                nursery.start_soon(propose, number, float("inf"))
            await trio.sleep(0.1)
            await cluster.leader()
            cluster.cut_off.clear()
            with trio.fail_after(60):
                while nursery.child_tasks:
                    await trio.sleep(0.1)
        await cluster.same_state()
        items = list(cluster.services[old].store._state.items.values(b"", None))
        assert sorted((item.key, item.version) for item in items) == [(b"%d" % number, 1) for number in range(1, 4)]


@pytest.mark.parametrize("size", [PAYLOAD_MAX + 1, 8 * 1024 * 1024])
async def test_a_command_that_is_too_large_is_refused_and_stops_nothing(
    autojump_clock: trio.testing.MockClock, size: int
) -> None:
    async with key_value_cluster(3, 1) as cluster, memory_client(cluster.network, cluster.addresses) as client:
        let_echo(cluster)
        leader = await cluster.leader()
        text = rf"not proposed: the command has {size} bytes; at most {PAYLOAD_MAX} are allowed"
        with trio.fail_after(60):
            for proposer in (client, cluster.nodes[leader], cluster.nodes[(leader + 1) % 3]):
                with pytest.raises(RefusedError, match=text):
                    await proposer.propose(bytes(size))
            with pytest.raises(RefusedError, match=rf"the question has {size} bytes"):
                await client.query(bytes(size))
            assert await client.propose(b"\1a") == b"a"


def test_the_largest_command_fits_into_every_message_that_it_goes_through() -> None:
    largest, data = 2**62, bytes(PAYLOAD_MAX)
    command = Propose(largest, largest, largest, data)
    entry = Entry(largest, EntryKind.SESSION_COMMAND, cbor2.dumps((largest, largest, largest, data)))
    assert len(entry.data) <= ENTRY_MAX
    for message in (
        ClientRequest(largest, command),
        AppendEntriesRequest(largest, largest, 1e8, largest, largest, largest, (entry,)),
        ClientResponse(
            largest, done=True, leader=2**63 - 1, data=data, session=largest, term=largest, leader_address="x" * 255
        ),
    ):
        assert len(encode_message(message)) <= FRAGMENTED_MAX


async def test_a_result_that_is_too_large_is_told_as_such_and_applied_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with key_value_cluster(3, 1) as cluster, memory_client(cluster.network, cluster.addresses) as client:
        machines = let_echo(cluster)
        command = b"\3" + bytes(PAYLOAD_MAX // 2)
        with trio.fail_after(60):
            with pytest.raises(
                ProposalError, match="it was carried out, but its result of 3139584 bytes is more"
            ) as e:
                await client.propose(command)
            assert not isinstance(e.value, RefusedError)
            assert await client.propose(b"\1a") == b"a"
            while not all(machine.applied == [command, b"\1a"] for machine in machines):
                await trio.sleep(0.1)
            with pytest.raises(RefusedError, match="the answer has 3139584 bytes, more than the 2093056 allowed"):
                await client.query(command)


async def test_a_question_that_the_state_machine_cannot_answer_stops_no_node(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with key_value_cluster(3, 1) as cluster, memory_client(cluster.network, cluster.addresses) as client:
        let_echo(cluster)
        for stale in (False, True):
            with pytest.raises(RefusedError, match="does not take the question: this is nonsense"):
                await client.query(b"nonsense", stale=stale)
            with pytest.raises(RefusedError, match="failed at the question: KeyError: 'account'"):
                await client.query(b"bug", stale=stale)
            with pytest.raises(RefusedError, match="query must return bytes, and has returned NoneType"):
                await client.query(b"", stale=stale)
        assert len(cluster.nodes) == 3
        assert await client.query(b"\1a") == b"a"


async def test_what_apply_raises_comes_out_of_the_node_each_time_it_is_started(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Buggy(Echo):
        def apply(self, command: bytes) -> bytes:
            raise KeyError("account")

    chance, disk = random.Random(1), MemoryDisk(1)
    settings = NodeSettings(bind_port=7300, bootstrap_expect=1, data_dir=Path("/nowhere"), node_name="one")
    notes = set()

    async def run(network: MemoryNetwork, command: bytes) -> None:
        world = memory_world(network, disk, lambda: Answer(frozenset(), True, ()), chance=chance)
        async with open_node(settings, Buggy(), world=world) as node:
            if command:
                await node.propose(command)
            await trio.sleep(60)

    async with trio.open_nursery() as nursery:
        network = MemoryNetwork(nursery, chance)
        for command in (b"bug", b"", b""):
            with pytest.raises(KeyError, match="account") as caught:
                await run(network, command)
            notes.update(caught.value.__notes__)
    (note,) = notes
    assert re.search(r"Buggy\.apply failed at entry \d of the log, b'bug'$", note)


async def test_what_is_known_is_said_once(autojump_clock: trio.testing.MockClock) -> None:
    async with key_value_cluster(3, 1) as cluster, memory_client(cluster.network, cluster.addresses) as client:
        await client.put("a", "1")
        old = await cluster.leader()
        cluster.network.carries = lambda source, to: (
            min(source.port, to.port) - 7300 == old
            or 7300 + old
            not in {
                source.port,
                to.port,
            }
        )
        for other in range(3):
            if other != old:
                await cluster.kill(other)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.put, "a", "2")
            while "the leader changed" not in client._calls.problem:
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        assert client.problem == "unknown: the leader changed; the session makes the retry safe"


async def test_sessions_that_never_were_are_not_remembered(autojump_clock: trio.testing.MockClock) -> None:
    async with key_value_cluster(3, 1) as cluster, memory_client(cluster.network, cluster.addresses) as client:
        await client.put("a", "1")
        for number in range(OF_ONE_CLIENT_MAX - 1):
            assert client._session._open is not None
            client._session._open.number = 10**6 + number
            with pytest.raises(ProposalError, match="has ended"):
                await client.put("a", "2")
            await client.put("a", "3")
        for node in cluster.nodes.values():
            assert len(node._requests._sessions._silence._ends_at) <= OF_ONE_CLIENT_MAX


async def test_a_stale_list_in_parts_does_not_fail_at_a_node_that_is_behind(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trioraft.kv.store.RESULT_MAX", 300)  # two keys
    async with key_value_cluster(3, 1) as cluster, memory_client(cluster.network, cluster.addresses) as client:
        behind = 7300 + (await cluster.leader() + 1) % 3
        for number in range(7):
            await client.put(f"key-{number}", "old")
        await trio.sleep(2)  # until all have applied that
        cluster.network.carries = lambda source, to: (
            behind not in {source.port, to.port}
            or CLIENT_PORT
            in {
                source.port,
                to.port,
            }
        )
        for number in range(7):
            await client.put(f"key-{number}", "new")
        await trio.sleep(2)
        seen = set()
        for _ in range(10):
            with trio.fail_after(10):
                found = await client.list("key-", stale=True)
                await client.get(
                    "none", stale=True
                )  # so that another node is asked first, however many requests it took
            assert [kv.key for kv in found] == [b"key-%d" % number for number in range(7)]
            assert len({kv.value for kv in found}) == 1
            seen.add(found[0].value)
        assert seen == {b"old", b"new"}, "all nodes were asked"


async def test_a_new_leader_answers_no_read_before_it_has_committed_in_its_term(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with key_value_cluster(3, 1) as cluster, memory_client(cluster.network, cluster.addresses) as client:
        await client.put("a", "1")
        await cluster.kill(await cluster.leader())
        while not (leaders := cluster.leaders()):
            await trio.sleep(0.0005)
        for disk in cluster.disks:
            disk.stuck = True  # votes are on disk, the first entry of the term is not
        node = cluster.nodes[leaders[0]]
        assert node._core.state is not None
        committed = node._core.state.commit_index
        found: list[int | None] = []
        node._member.reads.start(found.append)
        node.soon()
        await trio.sleep(1)
        assert found == []
        for disk in cluster.disks:
            disk.stuck = False
        await trio.sleep(1)
        assert found[0] is not None
        assert found[0] > committed


async def test_what_may_still_arrive_late_is_not_said_to_be_not_proposed(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with key_value_cluster(1, 1) as cluster, memory_client(cluster.network, cluster.addresses) as client:
        await client.put("a", "1")
        cluster.network.delay = (3.0, 3.0)  # the first try is on its way for long ...
        async with trio.open_nursery() as nursery:

            async def put() -> None:
                with trio.move_on_after(2):
                    await client.put("a", "2")

            nursery.start_soon(put)
            await trio.sleep(0.05)
            cluster.network.delay = (0.001, 0.001)
            monkeypatch.setattr(Kind.OTHER, "most", 0)  # ... and overtaken by one that is refused
        assert client.problem.startswith("unknown: busy")
        monkeypatch.undo()
        await trio.sleep(3)
        kv = await client.get("a")
        assert kv is not None
        assert kv.value == b"2"


async def test_of_a_batch_of_which_a_part_is_in_the_log_no_leader_says_that_it_is_busy(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leader takes a batch apart while its cluster speaks an earlier version; here there is room for one part."""
    monkeypatch.setattr("trioraft.consensus.append_entries.UNCOMMITTED_BYTES_MAX", 100)
    answers: list[ClientResponse] = []
    async with trio.open_nursery() as nursery:
        cluster = KeyValueCluster(nursery, 3, 4)
        cluster.versions[1] = Versions(1, BATCHES_FROM - 1)
        await cluster.start()
        leader = await cluster.leader()
        assert leader != 1, "an older leader is asked for no batch"
        async with memory_client(cluster.network, cluster.addresses) as client:
            await client.put("a", "1")
            desk = cluster.nodes[leader]._requests._desk
            monkeypatch.setattr(desk, "_send", partial(_note_answer, answers, desk._send))
            with trio.fail_after(60):
                await client.put_many([("b", "x" * 90), ("c", "x" * 90)])
            assert answers[0].code == Refusal.UNKNOWN, "one is in the log"
            kept = [await client.get(key) for key in ("b", "c")]
            assert [kv.version for kv in kept if kv is not None] == [1, 1]
        nursery.cancel_scope.cancel()


def _note_answer(
    answers: list[ClientResponse], send: Callable[[Peer, ClientResponse], None], peer: Peer, response: ClientResponse
) -> None:
    answers.append(response)
    send(peer, response)
