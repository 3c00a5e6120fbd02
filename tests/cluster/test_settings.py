"""The settings of the cluster on real processes: the command, and what clients see of reads by the lease."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import trio

from tests.cluster.harness import Cluster
from tests.cluster.recorded_clients import RecordedClients
from tests.cluster.test_kv import command, settings_of
from tests.linearizability import History, KeyValueModel, assert_linearizable
from trioraft.client.status import ClusterStatus
from trioraft.messages import Transfer
from trioraft.replica.settings import DEFAULT_QUOTA, ReadMode

SECONDS = float(os.environ.get("TRIORAFT_LEASE_READS_SECONDS", "6"))

QUOTA = {"quota": str(DEFAULT_QUOTA)}


def all_say(cluster: Cluster, **expected: str) -> Callable[[ClusterStatus], bool]:
    """Check whether the processes that run now all have applied these settings."""
    pids = {cluster.process(i).pid for i in range(cluster.size)}
    whole = {**expected, **QUOTA}

    def agreed(seen: ClusterStatus) -> bool:
        return {node.status.pid for node in seen.nodes if node.status.settings == whole} == pids

    return agreed


async def test_settings_are_changed_shown_and_kept_over_a_restart(tmp_path: Path) -> None:
    async with Cluster(tmp_path, size=3) as cluster:
        await cluster.wait_leader()
        assert await command(cluster, "settings") == (0, "reads: quorum\nquota: 67108864\n", "")
        assert await command(cluster, "settings", "--reads", "lease") == (0, "reads: lease\nquota: 67108864\n", "")
        assert (await command(cluster, "put", "a", "1"))[0] == 0
        assert await command(cluster, "get", "a") == (0, "1\n", "")
        for i in range(3):
            await cluster.kill(i)
        for i in range(3):
            await cluster.start(i)
        await cluster.wait_for(all_say(cluster, reads="lease"), 15)
        _, out, err = await command(cluster, "status", "--format", "json")
        assert err == ""
        assert [node["settings"] for node in json.loads(out)["nodes"]] == [{"reads": "lease", **QUOTA}] * 3
        assert "reads by lease" in (await command(cluster, "status"))[1]
        status, out, _ = await command(cluster, "settings", "--format", "json", "--reads", "quorum")
        assert (status, json.loads(out)) == (0, {"reads": "quorum", **QUOTA})

        await cluster.stop(0)
        await cluster.stop(1)
        status, out, err = await command(cluster, "settings", "--reads", "lease", "--timeout", "2")
        assert (status, out) == (1, "")
        assert err.startswith(("trioraft: not proposed: no ", "trioraft: unknown: "))
        assert err.endswith(" (waited 2 s)\n")


async def test_reads_by_the_lease_are_linearizable_while_leaders_are_paused_and_replaced(tmp_path: Path) -> None:
    async with Cluster(tmp_path, size=3) as cluster:
        await cluster.wait_leader()
        await cluster.client.change_cluster_settings(reads=ReadMode.LEASE)
        until = trio.current_time() + SECONDS
        clients = RecordedClients(settings_of(cluster), History(), until, anywhere=0.0)
        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(clients.run, number, 10 + number)
            while trio.current_time() < until - 4:
                leader = cluster.index(await cluster.wait_leader())
                cluster.pause(leader)
                await cluster.wait_leader(without=[leader])
                cluster.resume(leader)
                await cluster.wait_leader()
                await cluster.client.command(None, Transfer())
    assert len(clients.history.operations()) > 100
    assert_linearizable(KeyValueModel(), clients.history)
