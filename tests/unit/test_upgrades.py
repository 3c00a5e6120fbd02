"""Rolling upgrades and rolling changes of the timeouts, with the real node code under trio's mocked clock."""

from collections.abc import Iterator

import cbor2
import pytest
import structlog
import trio
import trio.testing
from structlog.testing import capture_logs

from tests.cluster import stand_in
from tests.unit.entries import put_in_log
from tests.unit.memory_cluster import MemoryCluster, cluster_of
from trioraft.asking import waiting
from trioraft.consensus.configuration import Configuration, encode_configuration
from trioraft.errors import NodeError, RefusedError
from trioraft.kv import (
    Command,
    Error,
    ErrorCode,
    KeyValueStore,
    Put,
    PutResult,
    Result,
    TxnResult,
    decode_result,
    encode_command,
)
from trioraft.kv.requests import PutRequest, TxnRequest
from trioraft.messages import Entry, EntryKind, ReadSettings, UnknownCommand, format_id
from trioraft.node.node import Node
from trioraft.replica.machine import StateMachine
from trioraft.replica.sessions import Replica
from trioraft.replica.settings import encode_change
from trioraft.versions import SPOKEN, Versions

OLD, FUTURE = Versions(1, 1), Versions(2, SPOKEN.highest + 1)
SHORT = {"election_timeout_lower": 0.3, "election_timeout_upper": 0.5, "heartbeat_repeat": 0.05}
LONG = {"election_timeout_lower": 3.0, "election_timeout_upper": 5.0, "heartbeat_repeat": 0.5}


@pytest.fixture
def logs() -> Iterator[list[dict[str, object]]]:
    with capture_logs() as captured:
        yield captured  # type: ignore[misc]
    structlog.reset_defaults()


def _versions(cluster: MemoryCluster) -> set[int]:
    return {node.status().cluster_version for node in cluster.nodes.values()}


async def _settle(cluster: MemoryCluster) -> int:
    leader = await cluster.leader(20)
    await trio.sleep(5)
    return leader


async def _change_settings(node: Node) -> bytes:
    """Change a setting as a leader does for a client, but in no session, so that the change is refused in the end."""
    command = cbor2.dumps([1, 1, 1, encode_change(reads="lease")])
    return (await put_in_log(node, EntryKind.SETTINGS, command)).data


async def _restart(cluster: MemoryCluster, index: int, **changes: object) -> None:
    """Stop a node as SIGTERM does, and start it again."""
    await cluster.nodes[index].step_aside("test")
    await cluster.kill(index)
    await cluster.start(index, **changes)


async def test_a_cluster_of_new_nodes_goes_on_to_their_version_by_itself(
    autojump_clock: trio.testing.MockClock, logs: list[dict[str, object]]
) -> None:
    async with cluster_of(3, 1) as cluster:
        await cluster.start()
        await _settle(cluster)
        assert _versions(cluster) == {SPOKEN.highest}
        said = [line for line in logs if line["event"] == "the cluster speaks another version of the protocol"]
        assert [line["version"] for line in said] == [SPOKEN.highest] * 3
        length = len(cluster.disks[0].log.entries(1, 99))
        await trio.sleep(60)
        assert len(cluster.disks[0].log.entries(1, 99)) == length


async def test_a_rolling_upgrade_raises_the_version_with_the_last_node(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster_of(3, 2) as cluster:
        cluster.versions = [OLD] * 3
        await cluster.start()
        await _settle(cluster)
        assert _versions(cluster) == {1}
        for index in range(3):
            cluster.versions[index] = SPOKEN
            await _restart(cluster, index)
            leader = await _settle(cluster)
            if index == 2:
                break
            assert _versions(cluster) == {1}
            older = ", ".join(f"node-{number} (speaks 1)" for number in range(index + 2, 4))
            with pytest.raises(RefusedError, match="speaks version 1 of the protocol, and this needs 2") as refused:
                await _change_settings(cluster.nodes[leader])
            assert str(refused.value).endswith(f"; upgrade first: {older}")
        assert _versions(cluster) == {SPOKEN.highest}
        await _change_settings(cluster.nodes[await cluster.leader()])


class _Before:
    """The key-value store of the release before, which knows nothing of versions."""

    def __init__(self, store: KeyValueStore) -> None:
        self.apply, self.snapshot, self.restore = store.apply, store.snapshot, store.restore


async def test_a_command_of_the_next_version_means_the_same_on_each_release(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leader of the release before puts it into the log; one of this release refuses it until all nodes know it.

    Both a command that only the test knows, and one of etcd's requests, which is as new.
    """
    monkeypatch.setattr("trioraft.kv.store.version_needed", stand_in.version_needed)
    before = Versions(1, stand_in.NEEDED - 1)
    stores: dict[int, KeyValueStore] = {}

    def machine(index: int) -> StateMachine:
        stores[index] = KeyValueStore()
        return stores[index] if cluster.versions[index] == SPOKEN else _Before(stores[index])

    def digests() -> set[str]:
        return {stores[index].digest() for index in cluster.nodes}

    async def execute(command: Command | TxnRequest) -> Result:
        node = cluster.nodes[await cluster.leader()]
        return decode_result(await node.propose(encode_command(command)))

    async def put(key: bytes) -> Result:
        return await execute(Put(key, b"1"))

    request = TxnRequest((), (PutRequest(b"by a request"),))
    async with cluster_of(3, 10) as cluster:
        cluster.machine = machine
        cluster.versions = [before] * 3
        await cluster.start()
        await _settle(cluster)
        for index in range(3):
            cluster.versions[index] = SPOKEN
            await _restart(cluster, index)
            leader = await _settle(cluster)
            if index == 2:
                break
            await put(b"another")
            if cluster.versions[leader] == before:
                for error in (await put(stand_in.KEY), await execute(request)):
                    assert isinstance(error, Error)
                    assert error.code is ErrorCode.MALFORMED
            else:
                needs = (
                    f"speaks version {stand_in.NEEDED - 1} of the protocol, and this needs {stand_in.NEEDED}; upgrade"
                )
                with pytest.raises(RefusedError, match=needs):
                    await put(stand_in.KEY)
                with pytest.raises(RefusedError, match=needs):
                    await execute(request)
            await trio.sleep(1)
            assert len(digests()) == 1
        assert isinstance(await put(stand_in.KEY), PutResult)
        assert isinstance(await execute(request), TxnResult)
        for index in range(3):  # even where the log is applied anew
            await _restart(cluster, index)
            await _settle(cluster)
            assert isinstance(await put(stand_in.KEY), PutResult)
        await trio.sleep(1)
        assert len(digests()) == 1


def test_a_replica_follows_the_version_that_the_log_has_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trioraft.kv.store.version_needed", stand_in.version_needed)
    replica = Replica(KeyValueStore())

    def apply(kind: EntryKind, data: bytes) -> bytes:
        return replica.apply(replica.applied_index + 1, Entry(1, kind, data)).data

    def raise_to(version: int) -> None:
        apply(EntryKind.CONFIGURATION, encode_configuration(Configuration((1,), version=version)))

    command = encode_command(Put(stand_in.KEY, b"1"))
    assert isinstance(decode_result(apply(EntryKind.COMMAND, command)), Error)
    raise_to(stand_in.NEEDED - 1)
    early = b"".join(replica.snapshot())
    assert isinstance(decode_result(apply(EntryKind.COMMAND, command)), Error)
    assert b"".join(replica.snapshot()) == early
    raise_to(stand_in.NEEDED)
    assert isinstance(decode_result(apply(EntryKind.COMMAND, command)), PutResult)
    for version, kind in ((stand_in.NEEDED, PutResult), (stand_in.NEEDED - 1, Error)):
        replica = Replica(KeyValueStore())
        replica.restore(9, [early], version)
        assert isinstance(decode_result(apply(EntryKind.COMMAND, command)), kind)


async def test_a_member_that_is_silent_is_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster_of(3, 3) as cluster:
        cluster.versions = [OLD] * 3
        await cluster.start()
        leader = await _settle(cluster)
        away = (leader + 1) % 3
        await cluster.kill(away)
        cluster.versions = [SPOKEN] * 3
        for index in {0, 1, 2} - {away}:
            await _restart(cluster, index)
            await _settle(cluster)
        assert _versions(cluster) == {1}
        with pytest.raises(RefusedError, match=r"upgrade first: \S+ \(silent\)$"):
            await _change_settings(cluster.nodes[await cluster.leader()])
        await cluster.start(away)
        await _settle(cluster)
        assert _versions(cluster) == {SPOKEN.highest}


async def test_older_software_refuses_to_start_on_newer_data_and_loses_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster_of(3, 4) as cluster:
        await cluster.start()
        await _settle(cluster)
        await cluster.kill(0)
        disk = cluster.disks[0]
        before = (disk.hard, disk.log.entries(1, 99))
        cluster.versions[0] = OLD
        with pytest.raises(
            NodeError,
            match=rf"speaks version {SPOKEN.highest} of the protocol, and this software .* version 1; nothing",
        ):
            await cluster.run_alone(0)
        assert (disk.hard, disk.log.entries(1, 99)) == before


async def test_a_node_put_back_at_the_wrong_moment_stops(autojump_clock: trio.testing.MockClock) -> None:
    """It lacks the entry that raised the version, and takes part until that comes."""
    async with cluster_of(3, 5) as cluster:
        cluster.versions[2] = OLD
        await cluster.start()
        await _settle(cluster)
        await cluster.kill(2)
        leader = await cluster.leader()

        async def go_on() -> None:
            """Let the leader rely on what it heard from the node before that was put back."""
            await _settle(cluster)
            assert _versions(cluster) == {1}
            peer = cluster.nodes[leader]._endpoint.peer(3)
            assert peer is not None
            peer.versions = SPOKEN

        async with trio.open_nursery() as nursery:
            nursery.start_soon(go_on)
            with (
                trio.fail_after(60),
                pytest.raises(NodeError, match=rf"speaks version {SPOKEN.highest} .*newer software"),
            ):
                await cluster.run_alone(2)
        assert cluster.disks[2].log.configuration.version == 1
        await trio.sleep(5)
        assert {cluster.nodes[index].status().cluster_version for index in (0, 1)} == {SPOKEN.highest}


async def test_a_node_that_is_too_old_does_not_join_and_both_sides_say_who_must_be_upgraded(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster_of(4, 6) as cluster:
        cluster.versions[3] = OLD
        for index in range(3):
            await cluster.start(index, bootstrap_expect=3)
        leader = await _settle(cluster)
        await cluster.start(3, bootstrap_expect=1)  # it must not form a cluster of its own
        await trio.sleep(30)
        old, leading = cluster.nodes[3].status(), cluster.nodes[leader].status()
        assert old.role == "forming"
        assert old.cluster_id is None
        assert len(leading.members) == 3
        assert any(
            f"speaks version 1 of the protocol, and this node {SPOKEN.highest}: refused" in text
            for text in leading.alerts
        )
        assert any(text.endswith("upgrade node-4") for text in leading.alerts)
        assert any("refused; upgrade node-4 (this node)" in text for text in old.alerts)

        cluster.versions[3] = SPOKEN
        await _restart(cluster, 3, bootstrap_expect=1)
        await trio.sleep(30)
        assert cluster.nodes[3].status().cluster_id == leading.cluster_id
        assert len(cluster.nodes[leader].status().members) == 4
        await trio.sleep(60)
        assert not any("refused" in text for text in cluster.nodes[leader].status().alerts)


async def test_an_old_node_that_waits_is_left_behind_when_the_cluster_goes_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster_of(4, 7, autopilot="off") as cluster:
        cluster.versions = [OLD] * 4
        for index in range(3):
            await cluster.start(index, bootstrap_expect=3)
        await cluster.start(3, bootstrap_expect=None)
        await trio.sleep(10)
        for index in range(3):
            cluster.versions[index] = SPOKEN
            await _restart(cluster, index)
            await trio.sleep(10)
        (leader,) = cluster.leaders()
        await trio.sleep(30)
        assert _versions(cluster) == {SPOKEN.highest, 0}
        assert any(text.endswith("upgrade node-4") for text in cluster.nodes[leader].status().alerts)
        assert cluster.nodes[leader]._upgrades.why_not_join(4) is None, "there is no session with it"
        assert 4 not in cluster.nodes[leader].reachable_nodes()


async def test_software_that_has_left_a_version_behind_refuses_nodes_that_speak_nothing_else(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster_of(3, 8) as cluster:
        cluster.versions = [OLD] * 3
        await cluster.start()
        await _settle(cluster)
        cluster.versions[1] = FUTURE
        await _restart(cluster, 1)
        await trio.sleep(10)
        assert any(text.endswith("upgrade node-1") for text in cluster.nodes[1].status().alerts)
        assert any("upgrade node-1 (this node)" in text for text in cluster.nodes[0].status().alerts)
        for index in (0, 2):  # but all of them at one time can go on
            cluster.versions[index] = FUTURE
            await cluster.kill(index)
        await cluster.start(0, 2)
        await _settle(cluster)
        assert _versions(cluster) == {FUTURE.highest}


async def test_a_command_of_a_later_version_is_refused(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster_of(1, 9) as cluster:
        await cluster.start()
        await _settle(cluster)
        node = cluster.nodes[0]
        response = await waiting.call(node._calls, lambda: UnknownCommand(99))
        assert not response.done
        assert response.detail == (
            f"node {format_id(node.id)} speaks version {SPOKEN} of the protocol and does not know this command (99);"
            " upgrade it first"
        )
        assert (await waiting.call(node._calls, ReadSettings)).done


@pytest.mark.parametrize("seed", [20, 21])
async def test_a_rolling_change_of_the_timeouts_deposes_no_leader(
    autojump_clock: trio.testing.MockClock, seed: int
) -> None:
    """From 3000/5000 to 300/500 and back, node by node: there is no election but those after a leader that stops."""
    async with cluster_of(3, seed, **LONG) as cluster:
        await cluster.start()
        await _settle(cluster)
        for timing in (SHORT, LONG):
            for index in cluster.chance.sample(range(3), 3):
                term, was_leader = max(cluster.terms()), cluster.leaders() == [index]
                await _restart(cluster, index, **timing)
                await _settle(cluster)
                await trio.sleep(8)
                assert cluster.terms() == {term + was_leader}
