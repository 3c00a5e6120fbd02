"""A formation whose member was lost for good, and the way out of it."""

import sys
from pathlib import Path

import trio

from tests.cluster.harness import ROOT, Cluster, clean_environment
from trioraft.client.status import ClusterStatus
from trioraft.consensus.hard import FormationState, HardState
from trioraft.consensus.ledger import Write
from trioraft.messages import format_id
from trioraft.storage.database import SqliteDisk

FORMATION = 0xF0F0
LOST = 0x1057


async def promise_to_the_lost(cluster: Cluster, nodes: range) -> None:
    """Put a promise on the disks of some nodes: of a formation with one more member, which is gone."""
    directories = [cluster.data_dir(i) / "0" for i in nodes]
    for directory in directories:
        directory.mkdir(parents=True)
    disks = [SqliteDisk(directory) for directory in directories]
    members = tuple(sorted([*(disk.node_id for disk in disks), LOST]))
    for disk in disks:
        await disk.save(Write(1, HardState(formation=FormationState(promised=FORMATION, members=members))))
        disk.close()


async def abandon_formation(cluster: Cluster) -> str:
    """Run ``trioraft abandon-formation`` as an operator would."""
    command = [sys.executable, "-m", "trioraft", "abandon-formation", "--yes", "--peers", cluster.peers]
    environment = {**clean_environment(), "PYTHONPATH": str(ROOT)}
    done = await trio.run_process(command, env=environment, capture_stdout=True, capture_stderr=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


async def test_a_lost_member_is_named_and_its_formation_abandoned(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, 3)
    await promise_to_the_lost(cluster, range(2))

    def all_wait(found: ClusterStatus) -> bool:
        waiting = [node.status.forming for node in found.nodes if node.status.forming is not None]
        named = [forming for forming in waiting if format_id(LOST) in forming.missing]
        return len(waiting) == 3 and len(named) == 2 and all(forming.missing for forming in named)

    async with cluster:
        await cluster.wait_for(all_wait, 15, "two nodes name the lost one")
        await trio.sleep(2)
        found = await cluster.statuses()
        assert all_wait(found), "what was promised is not dropped by itself"
        told = await abandon_formation(cluster)
        assert format_id(FORMATION) in told
        await cluster.wait_leader()
        found = await cluster.statuses()
        assert found.cluster_id not in {None, format_id(FORMATION)}
        assert {node.status.cluster_id for node in found.nodes} == {found.cluster_id}
