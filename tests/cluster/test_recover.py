"""A quorum is lost for good: a new cluster is made of what the last node has, and the old members stay out."""

import json
import shutil
from pathlib import Path

import pytest
import trio

from tests.cluster.harness import Cluster
from tests.cluster.test_backup import command
from trioraft.client.status import ClusterStatus, ObservedNode
from trioraft.kv import ErrorCode
from trioraft.kv.errors import KeyValueError
from trioraft.kv.lock import LeaseLostError
from trioraft.storage.database import SqliteDisk

KEYS = 40


async def fencing_token(cluster: Cluster) -> int:
    with trio.fail_after(20):
        async with cluster.client.lock("job", ttl=2) as lock:
            return lock.fencing_token


async def lose_all(cluster: Cluster) -> None:
    """Kill all nodes at once."""
    for i in range(cluster.size):
        cluster.process(i).kill()
    for i in range(cluster.size):
        await cluster.ended(i, 15)


def three_voters(seen: ClusterStatus) -> bool:
    leader = seen.leader
    return leader is not None and [member.kind for member in leader.status.members] == ["voter"] * 3


async def check_that_an_old_member_stays_out(
    cluster: Cluster, old: int, before: ObservedNode, after: ObservedNode
) -> None:
    """Start a member of the former cluster; both clusters must notice, and neither change."""
    kept = SqliteDisk(cluster.data_dir(old) / "0")
    kept.close()
    await cluster.start(old)
    text = f"another cluster, {before.status.cluster_id}, under the same service name"
    seen = await cluster.wait_for(
        lambda seen: all(
            any(text in alert for node in seen.nodes for alert in node.status.alerts if cluster.index(node) == i)
            for i in range(3)
            if i != old
        ),
        20,
        "both say that an old member is there",
    )
    assert three_voters(seen)
    await trio.sleep(2.5)  # two election timeouts
    status = json.loads((await command("status", "--peers", cluster.peers, "--format", "json")).stdout)
    [member] = [node for node in status["nodes"] if node["id"] == f"{kept.node_id:016x}"]
    assert (member["cluster_id"], member["leader"]) == (before.status.cluster_id, None)
    assert member["term"] == kept.hard.term
    assert any(str(after.status.cluster_id) in alert and "refused" in alert for alert in member["alerts"])


async def test_what_the_last_node_has_makes_a_new_cluster_that_old_members_cannot_join(tmp_path: Path) -> None:
    async with Cluster(tmp_path, environment={"SNAPSHOT_ENTRIES": "25"}) as cluster:
        before = await cluster.wait_leader()
        token = await fencing_token(cluster)
        with trio.fail_after(30):
            for number in range(KEYS):
                await cluster.client.put(f"key {number}", f"value {number}")
        await cluster.same_state()
        last = cluster.index(before)  # the others are lost, all at once
        gone, other = (i for i in range(3) if i != last)
        await lose_all(cluster)
        old = tmp_path / "old"
        shutil.move(cluster.data_dir(gone), old)
        shutil.rmtree(cluster.data_dir(other))

        directory = str(cluster.data_dir(last))
        told = await command("recover", "--data-dir", directory)
        assert told.returncode == 2
        assert f"node {before.status.id} of cluster {before.status.cluster_id}" in told.stdout.decode()
        done = await command("recover", "--data-dir", directory, "--force-new-cluster", "--yes")
        assert (done.returncode, done.stderr) == (0, b"")

        # The node leads alone, and two that have nothing join it.
        await cluster.start(last)
        alone = await cluster.wait_leader(without=[gone, other])
        assert alone.status.cluster_id not in {None, before.status.cluster_id}
        assert alone.status.id != before.status.id
        assert alone.status.term > before.status.term + 2**32
        await cluster.start(gone)
        await cluster.start(other)
        await cluster.wait_for(three_voters, 30, "three voters again")
        with trio.fail_after(30):
            found = {kv.key: kv.value for kv in await cluster.client.list("key ")}
        assert found == {b"key %d" % number: b"value %d" % number for number in range(KEYS)}
        await cluster.same_state()
        assert await fencing_token(cluster) > token

        # One of the lost ones is found after all, and started.
        await cluster.stop(gone)
        shutil.rmtree(cluster.data_dir(gone))
        shutil.move(old, cluster.data_dir(gone))
        await check_that_an_old_member_stays_out(cluster, gone, before, alone)
        with trio.fail_after(20):
            await cluster.client.put("key", "goes on")


async def hold_a_lock(cluster: Cluster, *, task_status: trio.TaskStatus[None]) -> None:
    async with cluster.client.lock("held", ttl=60):
        task_status.started()
        await trio.sleep_forever()


async def test_clients_that_watch_or_hold_a_lock_learn_of_the_new_cluster(tmp_path: Path) -> None:
    async def hold(*, task_status: trio.TaskStatus[None]) -> None:
        with pytest.raises(LeaseLostError, match="the cluster was restored or recovered, and may have lost"):
            await hold_a_lock(cluster, task_status=task_status)

    async def watch(*, task_status: trio.TaskStatus[None]) -> None:
        watcher = cluster.client.watch("key")
        await watcher.start()
        task_status.started()
        with pytest.raises(KeyValueError, match="the cluster was restored or recovered since") as caught:
            await watcher.__anext__()
        assert caught.value.code is ErrorCode.COMPACTED

    async with Cluster(tmp_path) as cluster:
        last = cluster.index(await cluster.wait_leader())
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                await nursery.start(hold)
                await nursery.start(watch)
                await lose_all(cluster)
                directory = str(cluster.data_dir(last))
                done = await command("recover", "--data-dir", directory, "--force-new-cluster", "--yes")
                assert done.returncode == 0
                await cluster.start(last)
                await cluster.client.put("key", "value")
