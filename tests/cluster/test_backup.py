"""What a cluster is made of again, or not: backups, and nodes whose log was not synced."""

from pathlib import Path

import trio

from tests.cluster.harness import Cluster
from trioraft import cli


async def test_a_restored_cluster_has_everything_and_goes_on_above(tmp_path: Path) -> None:
    old, new, file = tmp_path / "old", tmp_path / "new", tmp_path / "file"
    async with Cluster(tmp_path, environment={"DATA_DIR": str(old), "SNAPSHOT_ENTRIES": "20"}) as cluster:
        before = await cluster.wait_leader()
        with trio.fail_after(30):
            for number in range(50):
                await cluster.client.put(b"key %d" % number, b"value %d" % number)
        for i in range(3):
            await cluster.stop(i)
    assert cli.run(["backup", str(file), "--data-dir", str(old)]) == 0
    assert cli.run(["restore", str(file), "--data-dir", str(new), "--members", "3"]) == 0
    async with Cluster(tmp_path, environment={"DATA_DIR": str(new)}) as cluster:
        after = await cluster.wait_leader()
        with trio.fail_after(30):
            for number in range(50):
                found = await cluster.client.get(b"key %d" % number)
                assert found is not None
                assert found.value == b"value %d" % number
            await cluster.client.put(b"key", b"more")
        assert after.status.term > before.status.term + 2**32
        assert after.status.cluster_id != before.status.cluster_id
        assert after.status.id != before.status.id


async def test_a_node_whose_log_was_not_synced_comes_back_as_another_and_the_others_go_on(tmp_path: Path) -> None:
    async with Cluster(tmp_path, environment={"DURABILITY": "memory"}) as cluster:
        leader = await cluster.wait_leader()
        with trio.fail_after(20):
            await cluster.client.put(b"key", b"value")
        index = cluster.index(leader)
        await cluster.kill(index)
        await cluster.start(index)
        seen = await cluster.wait_for(
            lambda seen: any(
                node.reachable and node.status.name == leader.status.name and node.status.id != leader.status.id
                for node in seen.nodes
            ),
            15,
        )
        [warning] = [line for line in cluster.logs(index) if "DURABILITY=memory" in line["event"]]
        assert warning["before"] == leader.status.id
        with trio.fail_after(20):
            found = await cluster.client.get(b"key")
        assert found is not None
        assert found.value == b"value"
        assert seen.nodes
