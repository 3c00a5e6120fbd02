"""A snapshot that rots on the disk of a running node: nobody takes it over, and nobody waits for the next one."""

import shutil
from pathlib import Path

import trio

from tests.cluster.harness import Cluster

WRONG = 2


def flip_a_bit(path: Path) -> None:
    """Let one bit of a file be another, as a worn disk does."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        [byte] = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte ^ 8]))


def snapshot(cluster: Cluster, i: int) -> Path:
    """Find the snapshot of a node."""
    [path] = cluster.data_dir(i).glob("0/snapshot-*-*")
    return path


async def logged(cluster: Cluster, i: int, event: str, seconds: float = 10) -> None:
    with trio.fail_after(seconds):
        while not any(line["event"] == event for line in cluster.logs(i)):
            await trio.sleep(0.05)


async def test_a_follower_that_is_sent_a_rotten_snapshot_catches_up_although_nothing_is_written(
    tmp_path: Path,
) -> None:
    async with Cluster(tmp_path, 3, {"SNAPSHOT_ENTRIES": "20"}) as cluster:
        leader = cluster.index(await cluster.wait_leader())
        away = (leader + 1) % 3
        await cluster.kill(away)
        for number in range(30):
            with trio.fail_after(10):
                await cluster.client.put(f"key {number}".encode(), b"." * 50_000)
        await logged(cluster, leader, "snapshot taken")
        rotten = snapshot(cluster, leader)
        flip_a_bit(rotten)
        await cluster.start(away)
        await logged(cluster, away, "snapshot received")
        await cluster.same_state(10)
        [alert] = (line["text"] for line in cluster.logs(leader) if str(rotten) in line.get("text", ""))
        assert (
            alert
            == f"{rotten}: does not match its checksum; the node takes another snapshot in its place: check the disk"
        )
        await cluster.wait_for(
            lambda _: (node := cluster.node(leader)) is not None and alert in node.status.alerts, 5
        )
        await cluster.kill(leader)
        await cluster.start(leader)
        await cluster.wait_leader()


async def test_a_node_whose_own_snapshot_has_rotted_is_replaced_when_its_directory_is(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 3, {"SNAPSHOT_ENTRIES": "20", "DEAD_SERVER_MILLIS": "2000"}) as cluster:
        leader = cluster.index(await cluster.wait_leader())
        for number in range(30):
            with trio.fail_after(10):
                await cluster.client.put(f"key {number}".encode(), b"1")
        rotten = (leader + 1) % 3
        await logged(cluster, rotten, "snapshot taken")
        flip_a_bit(snapshot(cluster, rotten))
        await cluster.kill(rotten)
        await cluster.start(rotten)
        assert await cluster.ended(rotten, 15) == WRONG
        assert (
            "does not match its checksum; the disk is damaged: restore the directory, or remove it so that the"
            in str(cluster.logs(rotten)[-1]["event"])
        )
        shutil.rmtree(cluster.data_dir(rotten))
        await cluster.start(rotten)
        await logged(cluster, rotten, "snapshot received")
        await cluster.same_state(10)
