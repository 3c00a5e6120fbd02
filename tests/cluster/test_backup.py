"""What a cluster is made of again, or not: backups, and nodes whose log was not synced."""

import sys
from collections.abc import Sequence
from pathlib import Path
from subprocess import CompletedProcess

import trio

from tests.cluster.harness import Cluster, clean_environment
from trioraft.cli import main as cli
from trioraft.client.status import ObservedNode
from trioraft.kv.codec import decode_result, encode_command
from trioraft.kv.commands import Range
from trioraft.kv.results import RangeResult
from trioraft.kv.service import KeyValueService
from trioraft.messages import Transfer, format_id
from trioraft.replica.sessions import Replica
from trioraft.storage.backup_file import read_about, read_chunks_of

WRITERS = 4


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


async def command(*arguments: str) -> "CompletedProcess[bytes]":
    """Run the command in a process of its own."""
    return await trio.run_process(
        [sys.executable, "-m", "trioraft", *arguments],
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        env={**clean_environment(), "PYTHONPATH": str(Path(__file__).parents[2])},
    )


async def count_up(cluster: Cluster, acknowledged: list[int], writer: int) -> None:
    """Write a number that grows, for ever, and note what is acknowledged."""
    while True:
        await cluster.client.put(f"counter {writer}", str(acknowledged[writer] + 1))
        acknowledged[writer] += 1


def being_made(directory: Path) -> list[Path]:
    """Find the backups that nodes are making."""
    return list(directory.glob("node-*/0/backup-*"))


async def fill(cluster: Cluster, values: Sequence[bytes]) -> None:
    async with trio.open_nursery() as nursery:
        for number, value in enumerate(values):
            nursery.start_soon(cluster.client.put, f"big {number:02}", value)


async def check_that_an_old_member_stays_out(cluster: Cluster, old: int, before: ObservedNode) -> None:
    """Wait until all nodes but the old one have an alert about it, and see that it is in its former cluster still."""
    seen = await cluster.wait_for(
        lambda seen: all(
            any(f"cluster, {before.status.cluster_id}, under the same" in alert for alert in node.status.alerts)
            for node in seen.nodes
            if cluster.index(node) != old
        ),
        10,
        "an alert about the old member at all nodes",
    )
    [member] = [node.status for node in seen.nodes if cluster.index(node) == old]
    assert (member.cluster_id, member.leader) == (before.status.cluster_id, None)


async def test_a_backup_of_a_running_cluster_has_all_that_was_acknowledged_and_makes_a_new_one(
    tmp_path: Path,
) -> None:
    old, new, file = tmp_path / "old", tmp_path / "new", tmp_path / "file"
    values = [bytes([number]) * 2**18 for number in range(80)]  # 20 MiB
    async with Cluster(tmp_path, environment={"DATA_DIR": str(old), "SNAPSHOT_BYTES": "8000000"}) as cluster:
        first = await cluster.wait_leader()
        acknowledged = [0] * WRITERS
        with trio.fail_after(60):
            await cluster.client.command(None, Transfer())  # so that the term is not the first one
            before = await cluster.wait_leader()
            await fill(cluster, values)
            async with trio.open_nursery() as nursery:
                for writer in range(WRITERS):
                    nursery.start_soon(count_up, cluster, acknowledged, writer)
                await trio.sleep(0.5)
                at_least = list(acknowledged)
                done = await command("backup", str(file), "--peers", cluster.peers)
                at_most = [number + 1 for number in acknowledged]
                nursery.cancel_scope.cancel()
        assert (done.returncode, done.stderr) == (0, b"")
        about = read_about(file)
        assert done.stdout.decode() == (
            f"{file}: cluster {before.status.cluster_id} up to entry {about.index}, {about.size} bytes\n"
        )
        assert about.size > 20 * 2**20
        assert before.status.term > first.status.term
        assert (format_id(about.cluster), about.term) == (before.status.cluster_id, before.status.term)
        made_by = {i: [line for line in cluster.logs(i) if line["event"] == "a backup is made"] for i in range(3)}
        assert not made_by[cluster.index(before)]
        assert sum(map(len, made_by.values())) == 1
        with trio.fail_after(10):
            while list(old.glob("*/backup-*")):
                await trio.sleep(0.05)

        again = await command("backup", str(file), "--peers", cluster.peers)
        assert again.returncode == 2
        assert again.stderr.decode() == f"trioraft: {file}: exists already; give another name, or remove it\n"
        for i in range(3):
            await cluster.stop(i)

    assert cli.run(["restore", str(file), "--data-dir", str(new), "--members", "3"]) == 0
    where = [{"DATA_DIR": str(new)}] * 3 + [{"DATA_DIR": str(old)}]  # the fourth is an old member
    async with Cluster(tmp_path, size=4, each=where) as cluster:
        after = await cluster.wait_leader(without=[3])
        assert after.status.term > before.status.term + 2**32
        assert after.status.cluster_id != before.status.cluster_id
        with trio.fail_after(30):
            found = await cluster.client.list("big ")
            counters = [await cluster.client.get(f"counter {writer}") for writer in range(WRITERS)]
            await cluster.client.put("counter", "1")
        assert [kv.value for kv in found] == values
        numbers = [int(kv.value) for kv in counters if kv is not None]
        assert len(numbers) == WRITERS
        for lower, number, upper in zip(at_least, numbers, at_most, strict=True):
            assert lower <= number <= upper
        await check_that_an_old_member_stays_out(cluster, 3, before)


async def test_a_backup_is_begun_anew_elsewhere_when_the_node_that_makes_it_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "file"
    values = [bytes([number]) * 2**18 for number in range(40)]
    async with Cluster(tmp_path) as cluster, trio.open_nursery() as nursery:
        await cluster.wait_leader()
        done: list[CompletedProcess[bytes]] = []

        async def back_up() -> None:
            done.append(await command("backup", str(file), "--peers", cluster.peers))

        with trio.fail_after(60):
            await fill(cluster, values)
            nursery.start_soon(back_up)
            while not (making := being_made(tmp_path)):
                await trio.sleep(0.005)
            killed = int(making[0].relative_to(tmp_path).parts[0].removeprefix("node-")) - 1
            await cluster.kill(killed)
            assert making[0].exists()
            await cluster.start(killed)
            while not done or making[0].exists():  # what the crash has left goes when the node is back
                await trio.sleep(0.05)
        assert done[0].returncode == 0, done[0].stderr
        [problem] = done[0].stderr.decode().splitlines()
        assert problem.startswith(f"trioraft: node-{killed + 1}: ")
        assert problem.endswith("; starting again")
        about = read_about(file)
        service = KeyValueService()
        Replica(service).restore(about.index, read_chunks_of(file, about))
        for number, value in enumerate(values):
            found = decode_result(service.query(encode_command(Range(b"big %02d" % number))))
            assert isinstance(found, RangeResult)
            assert [kv.value for kv in found.kvs] == [value]
