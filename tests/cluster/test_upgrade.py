"""Rolling upgrades, and rolling changes of the timeouts, of real processes under a writer."""

import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

from tests.cluster import stand_in
from tests.cluster.harness import Cluster
from tests.cluster.test_kv import command, settings_of
from trioraft.client.client import open_client
from trioraft.client.status import ClusterStatus, ObservedNode
from trioraft.datagrams.keys import generate_key
from trioraft.errors import RefusedError
from trioraft.kv.errors import KeyValueError
from trioraft.messages import Transfer
from trioraft.replica.settings import DEFAULT_QUOTA
from trioraft.versions import SPOKEN

SIZE = 3
OLDER = "tests.cluster.older"
STAND_IN = "tests.cluster.stand_in"
NEWER = "trioraft"
NEEDS = "refused: the cluster speaks version 1 of the protocol, and this needs 2; upgrade first: "
GONE_ON = "the cluster speaks another version of the protocol"
# The whole range by TRIORAFT_SHORT_TIMEOUT_MILLIS=300; by default one that a busy machine keeps.
SHORTEST = int(os.environ.get("TRIORAFT_SHORT_TIMEOUT_MILLIS", "600"))
SHORT = {
    "ELECTION_TIMEOUT_LOWER_MILLIS": str(SHORTEST),
    "ELECTION_TIMEOUT_UPPER_MILLIS": str(SHORTEST * 5 // 3),
    "HEARTBEAT_REPEAT_MILLIS": str(SHORTEST // 6),
}
LONG = {
    "ELECTION_TIMEOUT_LOWER_MILLIS": "3000",
    "ELECTION_TIMEOUT_UPPER_MILLIS": "5000",
    "HEARTBEAT_REPEAT_MILLIS": "500",
}


@dataclass
class Writer:
    """Writes one value after the other, and fails when one of them is not written in time."""

    written: int = 0
    longest: float = 0.0
    took: list[float] = field(default_factory=list)

    async def write(self, cluster: Cluster) -> None:
        async with open_client(settings_of(cluster)) as client:
            while True:
                began = trio.current_time()
                with trio.fail_after(10):
                    await client.put("written", str(self.written + 1))
                self.longest = max(self.longest, trio.current_time() - began)
                self.written += 1
                await trio.sleep(0.01)


@asynccontextmanager
async def writing(cluster: Cluster) -> AsyncIterator[Writer]:
    """Write for as long as the block lasts, and see then that the last value is there."""
    writer = Writer()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.write, cluster)
        yield writer
        nursery.cancel_scope.cancel()
    kv = await cluster.client.get("written")
    assert kv is not None
    assert int(kv.value) in {writer.written, writer.written + 1}
    print(f"{writer.written} values written, the slowest in {writer.longest:.3f} s")


async def restart(cluster: Cluster, i: int) -> ObservedNode:
    """Stop a node as SIGTERM does and start it again; return the leader, once the node follows it with all it has."""
    assert await cluster.stop(i) == 0
    await cluster.start(i)
    await cluster.wait_for(lambda _: has_all(cluster, i), 20, f"node-{i + 1} is back")
    return await cluster.wait_leader(20)


def has_all(cluster: Cluster, i: int) -> bool:
    node, leader = cluster.node(i), cluster.client.cluster().leader
    if node is None or leader is None or node.status.pid != cluster.process(i).pid:
        return False
    return node.status.leader == leader.status.id and node.status.applied_index + 50 > leader.status.commit_index


def speaks(version: int, nodes: int = SIZE) -> Callable[[ClusterStatus], bool]:
    def all_do(seen: ClusterStatus) -> bool:
        return [node.status.cluster_version for node in seen.nodes if node.status.cluster_id] == [version] * nodes

    return all_do


async def lead(cluster: Cluster, i: int) -> None:
    """Let a node lead."""
    node, leader = cluster.node(i), await cluster.wait_leader()
    assert node is not None
    if leader.status.id != node.status.id:
        await cluster.client.command(None, Transfer(int(node.status.id, 16)))
    assert cluster.index(await cluster.wait_leader()) == i


async def test_a_rolling_upgrade_stops_no_writer(tmp_path: Path) -> None:
    key = {"CLUSTER_KEY": generate_key()}  # so they agree on keys with some, and with others they do not
    async with Cluster(tmp_path, SIZE, key, modules=[OLDER] * SIZE) as cluster:
        await cluster.wait_leader()
        async with writing(cluster) as writer:
            status, out, err = await command(cluster, "settings", "--reads", "lease", "--timeout", "5")
            assert (status, out) == (1, "")
            assert "speaks version 1 of the protocol and does not know this command (17); upgrade it first" in err
            for i in range(SIZE):
                before = writer.written
                cluster.modules[i] = NEWER
                await restart(cluster, i)
                with trio.fail_after(10):  # a write that waits for its answer meanwhile may be the only one
                    while writer.written == before:
                        await trio.sleep(0.05)
                if i < SIZE - 1:
                    await lead(cluster, i)
                    assert speaks(1)(await cluster.statuses())
                    older = ", ".join(f"node-{number} (speaks 1)" for number in range(i + 2, SIZE + 1))
                    assert await command(cluster, "settings", "--reads", "lease", "--timeout", "5") == (
                        1,
                        "",
                        f"trioraft: {NEEDS}{older}\n",
                    )
                    assert "version 1 of the protocol until all are upgraded" in (await command(cluster, "status"))[1]
            await cluster.wait_for(speaks(SPOKEN.highest), 10, "the cluster goes on")
            shown = f"reads: lease\nquota: {DEFAULT_QUOTA}\n"
            assert await command(cluster, "settings", "--reads", "lease") == (0, shown, "")
            assert "until all are upgraded" not in (await command(cluster, "status"))[1]
            assert f"({SPOKEN})" in (await command(cluster, "members"))[1]
        await cluster.same_state()
        for i in range(SIZE):
            assert [line["version"] for line in cluster.logs(i) if line["event"] == GONE_ON] == [SPOKEN.highest]


async def test_a_command_of_the_next_version_waits_until_all_nodes_know_it(tmp_path: Path) -> None:
    """Nobody carries it out before all nodes can, and all of them do from the same entry of the log on."""
    each = [stand_in.OLDER] * SIZE
    async with Cluster(tmp_path, SIZE, {"SNAPSHOT_ENTRIES": "10"}, each=each, modules=[STAND_IN] * SIZE) as cluster:
        await cluster.wait_leader()
        await cluster.wait_for(speaks(stand_in.NEEDED - 1), 20, "the cluster speaks what its nodes do")
        async with open_client(settings_of(cluster)) as client:
            for i in range(SIZE):
                # A leader of the release before puts it into the log, where it means nothing to anybody.
                await lead(cluster, SIZE - 1)
                with pytest.raises(KeyValueError, match="this is no command of the key-value store"):
                    await client.put(stand_in.KEY + b"early", b"%d" % i)
                cluster.each[i] = {}
                if i == SIZE - 1:
                    await cluster.stop(i)
                    await cluster.start(i)
                    break
                await restart(cluster, i)
                await lead(cluster, i)
                older = ", ".join(
                    f"node-{number} (speaks {stand_in.NEEDED - 1})" for number in range(i + 2, SIZE + 1)
                )
                with pytest.raises(
                    RefusedError, match=f"and this needs {stand_in.NEEDED}; upgrade first: {re.escape(older)}$"
                ):
                    await client.put(stand_in.KEY + b"early", b"0")
                await cluster.same_state()
            await cluster.wait_for(speaks(stand_in.NEEDED), 20, "the cluster goes on")
            await client.put(stand_in.KEY + b"late", b"1")
            found = await client.list(stand_in.KEY)
            assert [kv.key for kv in found] == [stand_in.KEY + b"late"]
        await cluster.same_state()
        for i in range(SIZE):  # also from a snapshot, and where the log is applied anew
            await restart(cluster, i)
        await cluster.same_state()


async def test_a_downgrade_is_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    each = [{"BOOTSTRAP_EXPECT": "3"}] * SIZE + [{"BOOTSTRAP_EXPECT": ""}]
    modules = [NEWER] * SIZE + [OLDER]
    async with Cluster(tmp_path, SIZE + 1, {"AUTOPILOT": "on"}, each=each, modules=modules) as cluster:
        waits = SIZE
        await cluster.wait_for(speaks(SPOKEN.highest), 20, "the cluster goes on")
        async with writing(cluster):
            # What has no data is refused by the others, and by itself.
            refusal = f"refused; upgrade node-{waits + 1}"
            await cluster.wait_for(
                lambda seen: (
                    seen.leader is not None and any(text.endswith(refusal) for text in seen.leader.status.alerts)
                ),
                20,
                "the leader says who must be upgraded",
            )
            await cluster.wait_for(
                lambda _: (
                    (waiting := cluster.node(waits)) is not None
                    and waiting.status.role == "forming"
                    and any(f"{refusal} (this node)" in text for text in waiting.status.alerts)
                ),
                20,
                "the one that waits says so itself",
            )

            # What has data does not start: the kind of the state, at least, is in its log.
            victim = next(i for i in range(SIZE) if (node := cluster.node(i)) and node.status.role != "leader")
            await cluster.wait_for(lambda _: has_all(cluster, victim), 20, "it has all")
            await cluster.stop(victim)
            cluster.modules[victim] = OLDER
            await cluster.start(victim)
            assert await cluster.ended(victim, 20) == 2
            assert "which this version does not know; run the version that has written" in (
                cluster.log_file(victim).read_text()
            )
            cluster.modules[victim] = NEWER
            await cluster.start(victim)
            await cluster.wait_for(lambda _: has_all(cluster, victim), 20, "it is back")

            cluster.modules[waits] = NEWER
            await cluster.stop(waits)
            await cluster.start(waits)
            await cluster.wait_for(speaks(SPOKEN.highest, SIZE + 1), 20, "it joins")
        await cluster.same_state()


async def test_a_rolling_change_of_the_timeouts_deposes_no_leader(tmp_path: Path) -> None:
    async with Cluster(tmp_path, SIZE, LONG) as cluster:
        await cluster.wait_leader()
        await cluster.wait_for(speaks(SPOKEN.highest), 20, "the cluster goes on")
        async with writing(cluster):
            for timeouts in (SHORT, LONG):
                for i in range(SIZE):
                    before = await cluster.wait_leader()
                    cluster.each[i] = timeouts
                    await restart(cluster, i)
                    await trio.sleep(1.5)  # more than an election timeout, of those that are short
                    after = await cluster.wait_leader()
                    moved = cluster.index(before) == i
                    assert after.status.term == before.status.term + moved, "somebody else was elected"
