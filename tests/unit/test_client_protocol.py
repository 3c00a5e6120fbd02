"""Clients, sessions, reads, leases and watches, over the real node code in memory; an hour takes a second."""

from contextlib import AsyncExitStack

import pytest
import trio
import trio.testing

from tests.unit.memory_client import CLIENT_PORT, cut, cut_between, key_value_cluster, memory_client
from tests.unit.memory_cluster import cluster_of
from trioraft.client.client import Client, SessionEndedError
from trioraft.errors import BusyError, RefusedError
from trioraft.kv.codec import decode_result, encode_command
from trioraft.kv.commands import Compare, CompareOperator, CompareTarget, Put
from trioraft.kv.results import PutResult
from trioraft.messages import Propose
from trioraft.replica.session_clock import SESSION_SECONDS

SEEDS = range(3)


# --- once ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
async def test_commands_are_carried_out_once_whatever_is_lost_doubled_and_killed(
    autojump_clock: trio.testing.MockClock, seed: int
) -> None:
    async with key_value_cluster(3, seed) as cluster, AsyncExitStack() as stack:
        cluster.network.loss, cluster.network.duplication = 0.2, 0.2
        clients = [
            await stack.enter_async_context(memory_client(cluster.network, cluster.addresses, i)) for i in range(3)
        ]

        async def count_up(client: Client, name: str) -> None:
            for _ in range(20):
                while True:  # reads its own value, so that a command carried out twice shows
                    kv = await client.get(name)
                    before = int(kv.value) if kv else 0
                    if await client.cas_revision(name, kv.mod_revision if kv else 0, str(before + 1)):
                        break
                    raise AssertionError("nobody else writes this key, so it was written twice")
                await trio.sleep(1)  # so that it takes as long as the nodes are killed and started again

        async with trio.open_nursery() as nursery:
            for number, client in enumerate(clients):
                nursery.start_soon(count_up, client, f"counter-{number}")
            for _ in range(2):
                await trio.sleep(3)
                old = await cluster.leader()
                await cluster.kill(old)
                await trio.sleep(8)
                await cluster.start(old)
        cluster.network.loss = 0.0
        assert [kv.value for kv in await clients[0].list("counter-")] == [b"20"] * 3
        assert {kv.version for kv in await clients[0].list("counter-")} == {20}
        await cluster.same_state()


async def test_a_command_that_comes_again_after_it_was_applied_gets_its_result_without_the_log(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with key_value_cluster(3, 5) as cluster, memory_client(cluster.network, cluster.addresses) as client:
        written = await client.put("key", "1")
        log = cluster.nodes[await cluster.leader()]._core.state.log  # type: ignore[union-attr]
        before = log.last_index
        session = client._session._open
        assert session is not None
        again = Propose(session.number, session.last_command, session.last_command, b"whatever it says this time")
        response = await client.command(None, again)
        assert response.done
        assert decode_result(response.data) == written
        assert log.last_index == before


async def test_many_commands_at_once_have_their_own_results(autojump_clock: trio.testing.MockClock) -> None:
    async with key_value_cluster(3, 5) as cluster, memory_client(cluster.network, cluster.addresses) as client:
        cluster.network.loss = 0.1
        revisions: dict[int, int] = {}

        async def put(number: int) -> None:
            revisions[number] = (await client.put(f"key-{number}", str(number))).revision

        async with trio.open_nursery() as nursery:
            for number in range(1500):  # more than a session keeps results
                nursery.start_soon(put, number)
        found = {kv.key.decode(): kv.mod_revision for kv in await client.list("key-")}
        assert found == {f"key-{number}": revision for number, revision in revisions.items()}


async def test_large_results_that_fill_a_session_do_not_stop_it(autojump_clock: trio.testing.MockClock) -> None:
    async with (
        key_value_cluster(3, 6, max_datagram_bytes=16_000) as cluster,
        memory_client(cluster.network, cluster.addresses, max_datagram_bytes=16_000) as client,
    ):
        value = bytes(1024 * 1024)
        await client.put("big", value)

        async def read_through_the_log() -> None:
            result = await client.put("big", value, prev_kv=True)
            assert result.prev_kv is not None
            assert result.prev_kv.value == value

        with trio.fail_after(600):
            async with trio.open_nursery() as nursery:
                for _ in range(6):  # of which four fill a session
                    nursery.start_soon(read_through_the_log)


# --- sessions -----------------------------------------------------------------------------------------------


async def test_an_idle_client_keeps_its_session(autojump_clock: trio.testing.MockClock) -> None:
    async with key_value_cluster(3, 1) as cluster, memory_client(cluster.network, cluster.addresses) as client:
        await client.put("a", "1")
        sessions = cluster.nodes[0]._member.replica.sessions
        await trio.sleep(2 * SESSION_SECONDS)
        assert cluster.nodes[0]._member.replica.sessions == sessions
        await client.put("a", "2")
        assert cluster.nodes[0]._member.replica.sessions == sessions


async def test_the_session_of_a_silent_client_ends_and_its_commands_are_refused(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with key_value_cluster(3, 2) as cluster, memory_client(cluster.network, cluster.addresses) as client:
        await client.put("a", "1")
        cut(cluster, CLIENT_PORT)
        failures: list[Exception] = []

        async def put_while_cut_off() -> None:
            with pytest.raises(SessionEndedError, match="not known") as caught:
                await client.put("a", "2")
            failures.append(caught.value)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(put_while_cut_off)
            await trio.sleep(SESSION_SECONDS + 20)
            assert all(not node._member.replica.sessions for node in cluster.nodes.values())
            cut(cluster)
        assert len(failures) == 1
        kv = await client.get("a")
        assert kv is not None
        assert kv.value == b"1", "a command of a session that has ended is never carried out"
        await client.put("a", "3")  # another command, so another session


async def test_a_new_leader_gives_sessions_their_full_time(autojump_clock: trio.testing.MockClock) -> None:
    async with key_value_cluster(3, 3) as cluster, memory_client(cluster.network, cluster.addresses) as client:
        await client.put("a", "1")
        cut(cluster, CLIENT_PORT)
        await trio.sleep(SESSION_SECONDS - 20)
        old = await cluster.leader()
        await cluster.nodes[old].step_aside("test")
        await cluster.leader()
        await trio.sleep(SESSION_SECONDS - 20)
        cut(cluster)
        await client.put("a", "2")  # raises if the session has ended


async def test_a_client_that_closes_ends_its_session(autojump_clock: trio.testing.MockClock) -> None:
    async with key_value_cluster(3, 4) as cluster:
        async with memory_client(cluster.network, cluster.addresses) as client:
            await client.put("a", "1")
            assert len(cluster.nodes[0]._member.replica.sessions) == 1
            client.end_session()
            await trio.sleep(1)
        assert all(not node._member.replica.sessions for node in cluster.nodes.values())


async def test_an_abandoned_command_is_not_carried_out_after_the_next_one(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with key_value_cluster(3, 7) as cluster, memory_client(cluster.network, cluster.addresses) as client:
        await client.put("a", "1")
        await client.put("a", "2")
        with trio.move_on_after(0):
            await client.put("a", "abandoned")
        await client.put("a", "3")
        await trio.sleep(60)
        kv = await client.get("a")
        assert kv is not None
        assert kv.value == b"3"


# --- what is known ------------------------------------------------------------------------------------------


async def test_a_client_learns_that_there_is_no_quorum(autojump_clock: trio.testing.MockClock) -> None:
    async with key_value_cluster(5, 1) as cluster, memory_client(cluster.network, cluster.addresses) as client:
        await client.put("a", "1")
        leader = await cluster.leader()
        followers = [index for index in range(5) if index != leader]
        for index in followers[:3]:
            await cluster.kill(index)
        await trio.sleep(15)
        with trio.move_on_after(5):
            await client.put("a", "2")
        assert client.problem == "not proposed: no quorum: 2 of 5 reachable"
        with trio.move_on_after(5):
            await client.get("a")
        assert client.problem == "no quorum: 2 of 5 reachable"
        kv = await client.get("a", stale=True)
        assert kv is not None
        assert kv.value == b"1"


async def test_a_command_that_was_sent_and_not_answered_is_unknown(autojump_clock: trio.testing.MockClock) -> None:
    async with key_value_cluster(3, 1) as cluster, memory_client(cluster.network, cluster.addresses) as client:
        await client.put("a", "1")
        cut(cluster, CLIENT_PORT)
        with trio.move_on_after(5) as scope:
            await client.put("a", "2")
        assert scope.cancelled_caught
        assert client.problem == "unknown: no answer in time"


async def test_nonsense_is_refused(autojump_clock: trio.testing.MockClock) -> None:
    async with key_value_cluster(1, 1) as cluster, memory_client(cluster.network, cluster.addresses) as client:
        for nonsense in (b"", b"\xff", b"\x81\x18\x63"):
            for answer in (await client.propose(nonsense), await client.query(nonsense)):
                assert "malformed" in str(decode_result(answer))
            assert b"malformed" in await client.ask(nonsense)


async def test_a_state_machine_that_answers_no_questions_says_so(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster_of(3, 1, script_leader_path=None, script_follower_path=None) as cluster:
        await cluster.start()
        await cluster.leader()
        async with memory_client(cluster.network, [cluster.address(0)]) as client:
            for stale in (False, True):
                with pytest.raises(RefusedError, match="this cluster's state machine answers no questions"):
                    await client.query(b"?", stale=stale)
            assert await client.propose(b"!") == b""


async def test_a_full_store_of_sessions_is_busy(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trioraft.replica.sessions.SESSIONS_MAX", 1)
    async with key_value_cluster(3, 1) as cluster, memory_client(cluster.network, cluster.addresses) as client:
        await client.put("a", "1")
        async with memory_client(cluster.network, cluster.addresses, 1) as other:
            with trio.move_on_after(5):
                await other.put("a", "2")
            assert "there are 1 sessions already" in other.problem
            client.end_session()
            await other.put("a", "3")


async def test_a_client_learns_that_too_much_is_not_committed(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trioraft.consensus.append_entries.UNCOMMITTED_BYTES_MAX", 2000)
    async with key_value_cluster(3, 1) as cluster, memory_client(cluster.network, cluster.addresses) as client:
        leader = await cluster.leader()
        node = cluster.nodes[leader]
        await client.put("a", "1")
        ports = {7300, 7301, 7302}
        cluster.network.carries = lambda source, to: not {source.port, to.port} <= ports  # the client reaches all
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.propose, encode_command(Put(b"b", b"." * 1500)))
            await trio.sleep(0.01)
            with pytest.raises(BusyError, match=r"^busy: too much is not committed yet"):
                await node.propose(encode_command(Put(b"b", b"." * 1500)))
            with trio.move_on_after(0.2):
                await client.put("b", "." * 1500)
            assert client.problem.startswith("not proposed: busy: too much is not committed yet")
            cut(cluster)
        assert (await client.put("b", "2")).revision == 4
        await cluster.same_state()


# --- nodes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_follower_proposes_through_the_leader(autojump_clock: trio.testing.MockClock, seed: int) -> None:
    async with key_value_cluster(3, seed) as cluster:
        cluster.network.loss = 0.2
        leader = await cluster.leader()
        for index in range(3):
            result = decode_result(await cluster.nodes[index].propose(encode_command(Put(b"%d" % index, b"x"))))
            assert isinstance(result, PutResult)
            await cluster.nodes[(index + 1) % 3].read_barrier()
            assert [kv.version for kv in cluster.services[(index + 1) % 3].store._state.items.values(b"", None)] == (
                [1] * (index + 1)
            )
        assert len(cluster.nodes[leader]._member.replica.sessions) == 2


async def test_a_follower_proposes_although_the_leader_is_replaced(autojump_clock: trio.testing.MockClock) -> None:
    async with key_value_cluster(3, 2) as cluster:
        old = await cluster.leader()
        follower = (old + 1) % 3
        done = 0

        async def propose() -> None:
            nonlocal done
            for number in range(30):
                await cluster.nodes[follower].propose(encode_command(Put(b"n", b"%d" % number)))
                done += 1
                await trio.sleep(0.5)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(propose)
            await trio.sleep(3)
            await cluster.kill(old)
        assert done == 30
        (kv,) = cluster.services[follower].store._state.items.values(b"", None)
        assert kv.version == 30, "each once"


# --- reads --------------------------------------------------------------------------------------------------


async def test_a_follower_answers_linearizable_reads_for_a_client_that_cannot_reach_the_leader(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with (
        key_value_cluster(3, 1) as cluster,
        memory_client(cluster.network, cluster.addresses, 0) as writer,
        memory_client(cluster.network, cluster.addresses, 1) as reader,
    ):
        leader = await cluster.leader()
        cut_between(cluster, CLIENT_PORT + 1, 7300 + leader)
        for number in range(20):
            await writer.put("a", str(number))
            with trio.fail_after(5):
                kv = await reader.get("a")
            assert kv is not None
            assert kv.value == str(number).encode()


async def test_a_follower_that_is_cut_off_answers_only_stale_reads(autojump_clock: trio.testing.MockClock) -> None:
    async with key_value_cluster(3, 1) as cluster:
        leader = await cluster.leader()
        follower = (leader + 1) % 3
        async with (
            memory_client(cluster.network, cluster.addresses, 0) as writer,
            memory_client(cluster.network, [cluster.addresses[follower]], 1) as reader,
        ):
            await writer.put("a", "old")
            await reader.get("a")
            others = {7300 + index for index in range(3) if index != follower}
            alone = {CLIENT_PORT + 1, 7300 + follower}
            cluster.network.carries = lambda source, to: (
                not ({source.port, to.port} & alone and {source.port, to.port} & others)
            )
            await writer.put("a", "new")
            kv = await reader.get("a", stale=True)
            assert kv is not None
            assert kv.value == b"old"
            with trio.move_on_after(60) as scope:
                await reader.get("a")
            assert scope.cancelled_caught


async def test_a_leader_that_was_replaced_unnoticed_answers_no_linearizable_read(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with key_value_cluster(3, 4) as cluster:
        old = await cluster.leader()
        async with (
            memory_client(cluster.network, [cluster.addresses[i] for i in range(3) if i != old], 0) as writer,
            memory_client(cluster.network, [cluster.addresses[old]], 1) as reader,
        ):
            await writer.put("a", "old")
            await reader.get("a")
            with_old = {7300 + old, CLIENT_PORT + 1}
            cluster.network.carries = lambda source, to: (source.port in with_old) == (to.port in with_old)
            answers: list[bytes] = []

            async def read() -> None:
                while True:
                    kv = await reader.get("a")
                    answers.append(kv.value if kv else b"")

            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                await writer.put("a", "new")
                answers.clear()
                await trio.sleep(60)
                nursery.cancel_scope.cancel()
            assert answers == []


async def test_reads_at_once_share_their_rounds(autojump_clock: trio.testing.MockClock) -> None:
    async with key_value_cluster(3, 1) as cluster, memory_client(cluster.network, cluster.addresses) as client:
        await client.put("a", "1")
        sent = cluster.nodes[await cluster.leader()]._core.state.sequence  # type: ignore[union-attr]
        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(client.get, "a")
        rounds = cluster.nodes[await cluster.leader()]._core.state.sequence - sent  # type: ignore[union-attr]
        assert rounds < 50


# --- the rest of the store ----------------------------------------------------------------------------------


async def test_the_methods_do_what_they_say(autojump_clock: trio.testing.MockClock) -> None:
    async with key_value_cluster(3, 1) as cluster, memory_client(cluster.network, cluster.addresses) as client:
        assert await client.get("a") is None
        first = await client.put("a", "ä")
        kv = await client.get(b"a")
        assert kv is not None
        assert (kv.key, kv.value, kv.version) == (b"a", "ä".encode(), 1)
        assert await client.cas("a", "wrong", "2") == 0
        assert await client.cas("a", "ä", "2") == first.revision + 1
        assert await client.cas("a", None, "3") == 0
        assert await client.cas("b", None, "3") == first.revision + 2
        old = await client.get("a", revision=first.revision)
        assert old is not None
        assert old.value == "ä".encode()
        result = await client.txn(
            (Compare(b"a", CompareTarget.VERSION, CompareOperator.EQUAL, 2),), (Put(b"c", b"yes"),), ()
        )
        assert result.succeeded
        assert [kv.key for kv in await client.list()] == [b"a", b"b", b"c"]
        assert [kv.key for kv in await client.list(limit=2)] == [b"a", b"b"]
        assert [kv.value for kv in await client.list("b", keys_only=True)] == [b""]
        assert (await client.delete("a")).deleted == 1
        assert (await client.delete("", prefix=True)).deleted == 2
        assert await client.list() == ()


async def test_more_keys_than_fit_into_one_answer_are_all_listed(autojump_clock: trio.testing.MockClock) -> None:
    async with key_value_cluster(1, 1) as cluster, memory_client(cluster.network, cluster.addresses) as client:
        for number in range(5):
            await client.put(f"k{number}", bytes(600_000))
        assert [kv.key for kv in await client.list("k", limit=4)] == [b"k0", b"k1", b"k2", b"k3"]
        assert len(await client.list("k")) == 5


async def test_a_program_without_such_questions_refuses_them(autojump_clock: trio.testing.MockClock) -> None:
    async with key_value_cluster(1, 1) as cluster, memory_client(cluster.network, cluster.addresses) as client:
        cluster.nodes[0]._requests._commands.on_ask = None
        with pytest.raises(RefusedError, match="answers no such questions"):
            await client.ask(b"?")
