"""The settings of a cluster: in the log, in snapshots and backups, the same on all nodes."""

import json
from collections.abc import Iterable
from pathlib import Path

import cbor2
import pytest
import trio
import trio.testing

from tests.unit.memory_client import CLIENT_PORT, key_value_cluster, memory_client
from tests.unit.memory_cluster import cluster_of
from tests.unit.test_backups import Words, ignore, node
from trioraft.errors import RefusedError
from trioraft.kv.commands import Range
from trioraft.kv.results import RangeResult
from trioraft.messages import Entry, EntryKind
from trioraft.node.node import Node
from trioraft.replica.machine import NothingToReplicate
from trioraft.replica.sessions import Replica, Result
from trioraft.replica.settings import DEFAULT_QUOTA, ClusterSettings, ReadMode, encode_change, why_unknown
from trioraft.storage.backups import back_up, restore
from trioraft.storage.database import open_disk
from trioraft.storage.snapshots import read_chunks

SESSION = 1
QUOTA = {"quota": str(DEFAULT_QUOTA)}
LEASE = {"reads": "lease", **QUOTA}
QUORUM = {"reads": "quorum", **QUOTA}


def changing(number: int, change: bytes) -> Entry:
    """Make the entry of a change in the first session."""
    return Entry(1, EntryKind.SETTINGS, cbor2.dumps([SESSION, number, 1, change]))


def replica_with(*changes: bytes) -> Replica:
    replica = Replica(NothingToReplicate())
    replica.apply(1, Entry(1, EntryKind.OPEN_SESSION))
    for number, change in enumerate(changes, 1):
        replica.apply(1 + number, changing(number, change))
    return replica


# --- what a change does -------------------------------------------------------------------------------------


def test_at_first_reads_ask_a_quorum() -> None:
    assert replica_with().settings.shown() == QUORUM


def test_a_change_that_comes_again_does_not_undo_a_later_one() -> None:
    replica = replica_with(encode_change(reads="lease"), encode_change(reads="quorum"))
    again = replica.apply(9, changing(1, encode_change(reads="lease")))
    assert again == Result(data=encode_change(reads="lease")), "the first result"
    assert replica.settings.reads is ReadMode.QUORUM


def test_a_change_of_a_session_that_has_ended_is_refused() -> None:
    replica = replica_with()
    replica.apply(2, Entry(1, EntryKind.END_SESSION, SESSION.to_bytes(8, "big")))
    assert replica.apply(3, changing(1, encode_change(reads="lease"))).code == "session-ended"
    assert replica.settings.reads is ReadMode.QUORUM


def test_settings_of_a_newer_version_are_kept_and_not_followed() -> None:
    newer = json.dumps({"reads": "follower-lease", "compression": {"level": 3}}).encode()
    replica = replica_with(encode_change(reads="lease"), newer)
    assert replica.settings.reads is ReadMode.QUORUM
    assert replica.settings.values == {"reads": "follower-lease", "compression": {"level": 3}}
    assert replica.settings.shown() == {**QUORUM, "compression": "{'level': 3}"}

    replica.apply(9, changing(3, encode_change(reads="lease")))
    assert replica.settings.values == {"reads": "lease", "compression": {"level": 3}}


@pytest.mark.parametrize("change", [b"", b"\xff", b"[1]", b'{"reads": ', b"[" * 100_000], ids=repr)
def test_anything_but_a_change_of_settings_changes_nothing(change: bytes) -> None:
    replica = replica_with(encode_change(reads="lease"), change[:200_000])
    assert replica.settings.values == {"reads": "lease"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (b"", "it names no setting"),
        (b"{}", "it names no setting"),
        (b'{"writes": "fast"}', "there is no setting 'writes'; known: reads, quota"),
        (b'{"quota": 1}', "quota='1': must be a number of bytes from 4194304 to 1099511627776"),
        (b'{"reads": "lease", "quota": "1 GiB"}', "quota='1 GiB': must be a number of bytes from 4194304 to"),
        (b'{"reads": "fast"}', "reads='fast': unknown; allowed: quorum or lease"),
        (b'{"reads": ["lease"]}', "reads=\"['lease']\": unknown; allowed: quorum or lease"),
    ],
)
def test_settings_that_this_version_does_not_know_are_not_proposed(change: bytes, reason: str) -> None:
    assert why_unknown(change).startswith(reason)


# --- where they are kept ------------------------------------------------------------------------------------


def test_snapshots_have_the_settings() -> None:
    replica = replica_with(b'{"reads": "lease", "new": [1, 2]}')
    restored = Replica(NothingToReplicate())
    restored.restore(2, replica.snapshot())
    assert restored.settings == replica.settings
    assert restored.sessions == {SESSION}
    assert b"".join(restored.snapshot()) == b"".join(replica.snapshot())


def test_a_snapshot_without_settings_is_as_it_was_before_there_were_any() -> None:
    session = cbor2.dumps([SESSION, 1, {1: b"result"}])
    before = len(session).to_bytes(4, "big") + session + bytes(4)
    replica = replica_with(encode_change(reads="lease"))
    replica.restore(5, iter([before, b"state"]))
    assert replica.sessions == {SESSION}
    assert replica.settings == ClusterSettings()
    assert b"".join(replica.snapshot()) == before


def test_further_records_in_a_snapshot_of_a_newer_version_are_ignored() -> None:
    further = cbor2.dumps({"settings": encode_change(reads="lease"), "new": [1]})
    replica = replica_with()
    replica.restore(5, iter([len(further).to_bytes(4, "big") + further + bytes(4)]))
    assert replica.settings.shown() == LEASE


def test_backups_have_the_settings(tmp_path: Path) -> None:
    entries = [Entry(3, EntryKind.OPEN_SESSION), changing(1, encode_change(reads="lease"))]
    node(tmp_path / "data", 3, entries).close()
    back_up(tmp_path / "file", tmp_path / "data", Words(), ignore)
    restore(tmp_path / "file", tmp_path / "new", 1, ignore)
    disk = open_disk(tmp_path / "new")
    assert disk.snapshot is not None
    replica = Replica(Words())
    replica.restore(disk.snapshot.index, read_chunks(disk.directory, disk.snapshot))
    disk.close()
    assert replica.settings.shown() == LEASE


# --- a cluster ----------------------------------------------------------------------------------------------


def heartbeats(leader: Node) -> int:
    """Count the messages that a leader has numbered, heartbeats included."""
    state = leader._core.state
    assert state is not None
    return state.sequence


async def settings_everywhere(nodes: Iterable[Node], expected: dict[str, str]) -> None:
    with trio.fail_after(5):
        while any(one.status().settings != expected for one in nodes):
            await trio.sleep(0.01)


async def test_a_change_reaches_all_nodes_and_outlives_their_restart(autojump_clock: trio.testing.MockClock) -> None:
    async with key_value_cluster(3, 1) as cluster, memory_client(cluster.network, cluster.addresses) as client:
        assert (await client.cluster_settings()).reads is ReadMode.QUORUM
        assert (await client.change_cluster_settings(reads=ReadMode.LEASE)).reads is ReadMode.LEASE
        await settings_everywhere(cluster.nodes.values(), LEASE)
        for index in range(3):
            await cluster.kill(index)
        await cluster.start()
        await cluster.leader()
        await settings_everywhere(cluster.nodes.values(), LEASE)
        assert (await client.cluster_settings()).reads is ReadMode.LEASE


async def test_a_restarted_leader_follows_the_settings_in_its_snapshot(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster_of(3, 1) as cluster:
        await cluster.start()
        leader = await cluster.leader()
        core = cluster.nodes[leader]._core
        cluster.nodes[leader]._member.replica.settings = ClusterSettings(LEASE)
        with cluster.nodes[leader]._member.applying.held():
            pass
        assert core.state is not None
        assert core.state.reads_by_lease


async def test_reads_by_the_lease_cost_no_round(autojump_clock: trio.testing.MockClock) -> None:
    async with key_value_cluster(3, 1) as cluster, memory_client(cluster.network, cluster.addresses) as client:
        leader = cluster.nodes[await cluster.leader()]
        await client.put("a", "1")
        counts = []
        for reads in (ReadMode.QUORUM, ReadMode.LEASE, ReadMode.QUORUM):
            await client.change_cluster_settings(reads=reads)
            before, began = heartbeats(leader), trio.current_time()
            for _ in range(50):
                await client.get("a")
            regular = (trio.current_time() - began) / 0.5
            counts.append(heartbeats(leader) - before - regular)
        assert counts[0] >= 49
        assert counts[1] <= 3
        assert counts[2] >= 49


async def test_a_follower_asks_the_leader_only(autojump_clock: trio.testing.MockClock) -> None:
    async with key_value_cluster(3, 1) as cluster:
        leader = await cluster.leader()
        follower = (leader + 1) % 3
        async with memory_client(cluster.network, cluster.addresses, 0) as writer:
            await writer.change_cluster_settings(reads=ReadMode.LEASE)
            for number in range(20):
                await writer.put("a", str(number))
                before = heartbeats(cluster.nodes[leader])
                await cluster.nodes[follower].read_barrier()
                assert heartbeats(cluster.nodes[leader]) - before <= 1
                result = cluster.services[follower].store.query(Range(b"a"))
                assert isinstance(result, RangeResult)
                (kv,) = result.kvs
                assert kv.value == str(number).encode()


@pytest.mark.parametrize("seed", range(4))
async def test_a_leader_that_was_replaced_unnoticed_answers_no_read_by_a_lease(
    autojump_clock: trio.testing.MockClock, seed: int
) -> None:
    async with key_value_cluster(3, seed) as cluster:
        old = await cluster.leader()
        async with (
            memory_client(cluster.network, [cluster.addresses[i] for i in range(3) if i != old], 0) as writer,
            memory_client(cluster.network, [cluster.addresses[old]], 1) as reader,
        ):
            await writer.change_cluster_settings(reads=ReadMode.LEASE)
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
                assert answers, "until then its lease ran"
                assert set(answers) == {b"old"}
                answers.clear()
                await trio.sleep(60)
                nursery.cancel_scope.cancel()
            assert answers == []


async def test_a_change_that_no_node_understands_is_refused(autojump_clock: trio.testing.MockClock) -> None:
    async with key_value_cluster(3, 1) as cluster, memory_client(cluster.network, cluster.addresses) as client:
        with pytest.raises(RefusedError, match="there is no setting 'writes'; known: reads, quota"):
            await client._change_settings(encode_change(writes="fast"))
        await client.change_cluster_settings(reads=ReadMode.LEASE)
