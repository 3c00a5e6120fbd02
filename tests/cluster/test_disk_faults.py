"""Disks that fail, really: the node stops with one line that says why, or steps down; the others go on.

A full disk and one that is read-only are small file systems in memory; errors and delays of the system calls are
strace's. What was acknowledged is there afterwards.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import trio

from tests.cluster.disks import NoDiskError, can_tamper, fill, small_disk, tampered
from tests.cluster.harness import Cluster

pytestmark = pytest.mark.skipif(not can_tamper(), reason="needs root, to mount and to trace, and strace")

WRONG = 2


@contextmanager
def disk(path: Path, size: str) -> Iterator[None]:
    """Have a small file system in a directory."""
    try:
        with small_disk(path, size):
            yield
    except NoDiskError as error:
        pytest.skip(str(error))


def last_line(cluster: Cluster, i: int) -> str:
    return str(cluster.logs(i)[-1]["event"])


async def logged(cluster: Cluster, i: int, event: str) -> None:
    with trio.fail_after(10):
        while not any(str(line["event"]).startswith(event) for line in cluster.logs(i)):
            await trio.sleep(0.05)


async def shown(cluster: Cluster, i: int, text: str) -> None:
    """Wait until whoever watches the cluster, as the page does, is told something of a node."""

    def is_told(_: object) -> bool:
        node = cluster.node(i)
        return node is not None and any(text in alert for alert in node.status.alerts)

    await cluster.wait_for(is_told, 10, text)


async def put(cluster: Cluster, key: str, value: str, seconds: float = 20) -> None:
    with trio.fail_after(seconds):
        await cluster.client.put(key.encode(), value.encode())


async def check(cluster: Cluster, expected: dict[str, str]) -> None:
    for key, value in expected.items():
        with trio.fail_after(20):
            found = await cluster.client.get(key.encode())
        assert found is not None
        assert found.value == value.encode()


async def test_a_leader_whose_disk_is_full_stops_and_the_others_go_on(tmp_path: Path) -> None:
    with ExitStack() as disks:
        for i in range(3):
            disks.enter_context(disk(tmp_path / f"node-{i + 1}", "2m"))
        async with Cluster(tmp_path) as cluster:
            leader = cluster.index(await cluster.wait_leader())
            await put(cluster, "before", "1")
            ballast = cluster.data_dir(leader) / "ballast"
            fill(ballast)
            await put(cluster, "during", "2" * 50_000)
            assert await cluster.ended(leader, 15) == WRONG
            assert "trioraft.db: database or disk is full (SQLITE_FULL); the node stops" in last_line(cluster, leader)
            await shown(cluster, leader, "trioraft.db: database or disk is full (SQLITE_FULL); the node stops")
            await put(cluster, "after", "3")
            ballast.unlink()
            await cluster.start(leader)
            await cluster.wait_leader()
            await check(cluster, {"before": "1", "during": "2" * 50_000, "after": "3"})


async def test_a_node_that_finds_no_room_at_all_says_so(tmp_path: Path) -> None:
    with disk(tmp_path / "node-1", "64k"):
        fill(tmp_path / "node-1" / "ballast")
        async with Cluster(tmp_path, 1) as cluster:
            assert await cluster.ended(0, 15) == WRONG
            [line] = cluster.logs(0)
            assert "DATA_DIR" in line["event"] or "trioraft.db" in line["event"]
            assert "full" in line["event"] or "No space left" in line["event"]


async def test_a_read_only_disk_is_refused_at_the_start_in_one_line(tmp_path: Path) -> None:
    with disk(tmp_path / "node-1", "2m"):
        async with Cluster(tmp_path, 1) as cluster:
            await cluster.wait_leader()
            await put(cluster, "before", "1")
            await cluster.stop(0)
            await trio.run_process(["mount", "-o", "remount,ro", str(cluster.data_dir(0))])
            lines = len(cluster.logs(0))
            await cluster.start(0)
            assert await cluster.ended(0, 15) == WRONG
            [line] = cluster.logs(0)[lines:]
            assert f"DATA_DIR={cluster.data_dir(0)}" in line["event"].replace("'", "")
            await trio.run_process(["mount", "-o", "remount,rw", str(cluster.data_dir(0))])
            await cluster.start(0)
            await cluster.wait_leader()
            await check(cluster, {"before": "1"})


@pytest.mark.parametrize(
    ("injection", "line"),
    [
        ("fdatasync:error=EIO", "disk I/O error (SQLITE_IOERR_FSYNC); the node stops"),
        ("pwrite64:error=EROFS", "(SQLITE_IOERR_WRITE); the node stops"),
    ],
)
async def test_a_leader_whose_disk_gives_errors_stops_and_the_others_go_on(
    tmp_path: Path, injection: str, line: str
) -> None:
    async with Cluster(tmp_path) as cluster:
        leader = cluster.index(await cluster.wait_leader())
        await put(cluster, "before", "1")
        async with tampered(cluster.process(leader).pid, injection):
            await put(cluster, "during", "2")
            assert await cluster.ended(leader, 15) == WRONG
        assert line in last_line(cluster, leader)
        await shown(cluster, leader, line)
        assert "trioraft.db" in last_line(cluster, leader)
        await cluster.start(leader)
        await cluster.wait_leader()
        await check(cluster, {"before": "1", "during": "2"})


async def test_a_leader_whose_disk_hangs_steps_down_until_it_works_again(tmp_path: Path) -> None:
    async with Cluster(tmp_path) as cluster:
        leader = cluster.index(await cluster.wait_leader())
        await put(cluster, "before", "1")
        async with tampered(cluster.process(leader).pid, "fdatasync:delay_enter=6s"):
            await put(cluster, "during", "2", seconds=30)
            seen = await cluster.wait_for(
                lambda seen: seen.leader is not None and cluster.index(seen.leader) != leader, 15, "another leader"
            )
            assert seen.leader is not None
            await cluster.wait_for(
                lambda _: (node := cluster.node(leader)) is not None and node.status.disk_stuck, 10, "a stuck disk"
            )
        assert any(line["event"] == "stepped down" and "disk" in line["reason"] for line in cluster.logs(leader))
        await cluster.wait_leader(30)
        await check(cluster, {"before": "1", "during": "2"})


async def test_a_node_that_finds_no_room_for_a_snapshot_goes_on_without(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 1, {"SNAPSHOT_ENTRIES": "20"}) as cluster:
        await cluster.wait_leader()
        async with tampered(cluster.process(0).pid, "fsync:error=ENOSPC"):
            for number in range(30):
                await put(cluster, f"key {number}", "1")
            await logged(cluster, 0, "no snapshot was taken")
            await shown(cluster, 0, "no snapshot was taken")
        assert not list(cluster.data_dir(0).glob("0/snapshot-*"))
        for number in range(30):
            await put(cluster, f"key {number}", "2")
        await logged(cluster, 0, "snapshot taken")
        await cluster.kill(0)
        await cluster.start(0)
        await cluster.wait_leader()
        await check(cluster, {"key 0": "2", "key 29": "2"})
