"""The quota of the key-value store on real processes: nodes that have 256 MiB each live on when it is full."""

import json
import os
from pathlib import Path

import trio

from tests.cluster.harness import Cluster
from tests.cluster.test_kv import command
from trioraft.kv.commands import VALUE_MAX
from trioraft.kv.errors import KeyValueError
from trioraft.replica.settings import DEFAULT_QUOTA

# What the manifests in containers/ and compose.yaml give a node.
MEBIBYTES = 256
MIB = 2**20


def most_memory(cluster: Cluster) -> int:
    """Tell how much memory any of the processes had at most so far, in MiB."""
    sizes = []
    for i in range(cluster.size):
        lines = Path(f"/proc/{cluster.process(i).pid}/status").read_text().splitlines()
        (line,) = (line for line in lines if line.startswith("VmHWM:"))
        sizes.append(int(line.split()[1]) // 1024)
    return max(sizes)


async def fill(cluster: Cluster, first: int) -> int:
    """Put values of 1 MiB, one after the other, until one is refused; return how many were put."""
    with trio.fail_after(120):
        for done in range(200):
            try:
                await cluster.client.put(f"k{first + done:03}", os.urandom(VALUE_MAX))
            except KeyValueError as error:
                assert str(error).startswith("the store is full")  # noqa: PT017 - any of them may be the one
                return done
    raise AssertionError("nothing is refused")


async def test_a_full_cluster_refuses_puts_takes_deletes_and_starts_again(tmp_path: Path) -> None:
    async with Cluster(tmp_path, size=3) as cluster:
        await cluster.wait_leader()
        assert (await command(cluster, "settings", "--quota", "8MiB"))[0] == 0
        assert await fill(cluster, 0) == 7
        status, out, err = await command(cluster, "put", "k999", "-", stdin=bytes(VALUE_MAX))
        assert (status, out, err.count("\n")) == (1, "", 1)
        assert "the store is full: its keys and leases take " in err
        _, out, _ = await command(cluster, "status", "--format", "json")
        for node in json.loads(out)["nodes"]:
            assert (node["state_bytes"] >> 20, node["state_quota"]) == (7, 8 * MIB)
        assert ", 7 of 8 MiB taken" in (await command(cluster, "status"))[1]

        assert (await command(cluster, "delete", "k001"))[1] == "deleted 1\n"
        assert await fill(cluster, 100) == 1
        assert await command(cluster, "lock", "job", "--", "true") == (0, "", "")
        await cluster.same_state(60)
        for i in range(3):
            await cluster.kill(i)
        for i in range(3):
            await cluster.start(i)
        assert await fill(cluster, 200) == 0
        assert (await command(cluster, "settings", "--quota", "10MiB"))[0] == 0
        assert await fill(cluster, 300) == 2
        await cluster.same_state(60)


async def test_a_full_node_lives_on_within_the_memory_that_the_manifests_give(tmp_path: Path) -> None:
    async with Cluster(tmp_path, size=1) as cluster:
        await cluster.wait_leader()
        assert await fill(cluster, 0) == DEFAULT_QUOTA // (VALUE_MAX + 300)
        assert most_memory(cluster) < MEBIBYTES
        assert "% of its quota of" in (await command(cluster, "status"))[1]
        await cluster.kill(0)
        await cluster.start(0)
        assert await fill(cluster, 200) == 0
        assert most_memory(cluster) < MEBIBYTES
