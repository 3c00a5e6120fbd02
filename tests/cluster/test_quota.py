"""The quota of the key-value store on real processes: nodes that have 256 MiB each live on when it is full."""

import json
import os
from pathlib import Path

import trio

from tests.cluster.harness import Cluster
from tests.cluster.test_kv import command
from trioraft.cluster_settings import DEFAULT_QUOTA
from trioraft.kv.commands import VALUE_MAX
from trioraft.kv.errors import KeyValueError

# What the manifests in containers/ and compose.yaml give a node.
MEBIBYTES = 256
AT_ONCE = 4


def most_memory(cluster: Cluster) -> int:
    """Tell how much memory any of the processes had at most so far, in MiB."""
    sizes = []
    for i in range(cluster.size):
        lines = Path(f"/proc/{cluster.process(i).pid}/status").read_text().splitlines()
        (line,) = (line for line in lines if line.startswith("VmHWM:"))
        sizes.append(int(line.split()[1]) // 1024)
    return max(sizes)


async def fill(cluster: Cluster, first: int) -> int:
    """Put values of 1 MiB until one is refused; tell how many were put."""
    done = 0

    async def put(number: int) -> None:
        nonlocal done
        try:
            await cluster.client.put(f"k{number:03}", os.urandom(VALUE_MAX))
        except KeyValueError as error:
            assert str(error).startswith("the store is full")  # noqa: PT017 - any of them may be refused
        else:
            done += 1

    with trio.fail_after(120):
        for start in range(first, first + 200, AT_ONCE):
            before = done
            async with trio.open_nursery() as nursery:
                for number in range(start, start + AT_ONCE):
                    nursery.start_soon(put, number)
            if done - before < AT_ONCE:
                return done
    raise AssertionError("nothing is refused")


async def test_a_full_cluster_lives_on_within_the_memory_that_the_manifests_give(tmp_path: Path) -> None:
    async with Cluster(tmp_path, size=3) as cluster:
        await cluster.wait_leader()
        filled = await fill(cluster, 0)
        assert filled == DEFAULT_QUOTA // (VALUE_MAX + 300)
        status, out, err = await command(cluster, "put", "k999", "-", stdin=bytes(VALUE_MAX))
        assert (status, out, err.count("\n")) == (1, "", 1)
        assert "the store is full: its keys and leases take " in err
        _, out, _ = await command(cluster, "status", "--format", "json")
        for node in json.loads(out)["nodes"]:
            assert node["state_quota"] == DEFAULT_QUOTA
            assert node["state_bytes"] > 0.9 * DEFAULT_QUOTA
        _, out, _ = await command(cluster, "status")
        assert " of 64 MiB taken" in out
        assert "of its quota" in out

        assert (await command(cluster, "delete", "--prefix", "k00"))[1] == "deleted 10\n"
        assert (await command(cluster, "put", "k999", "-", stdin=bytes(VALUE_MAX)))[0] == 0
        assert await command(cluster, "lock", "job", "--", "true") == (0, "", "")
        await cluster.same_state(60)
        assert most_memory(cluster) < MEBIBYTES

        for i in range(3):
            await cluster.kill(i)
        for i in range(3):
            await cluster.start(i)
        assert await fill(cluster, 200) == 9
        assert (await command(cluster, "settings", "--quota", "65MiB"))[0] == 0
        await cluster.client.put("more", bytes(VALUE_MAX // 2))
        await cluster.same_state(60)
        assert most_memory(cluster) < MEBIBYTES
