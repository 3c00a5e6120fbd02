"""Members come and go in a cluster of real processes, by the commands that people have."""

import json
import subprocess
import sys
from pathlib import Path

import trio

from tests.cluster.harness import ROOT, Cluster, clean_environment
from trioraft.client.status import ClusterStatus

SIZE = 4
# The fourth node only ever joins, and nothing happens by itself.
EACH = [{"BOOTSTRAP_EXPECT": "3", "AUTOPILOT": "off"}] * 3 + [{"BOOTSTRAP_EXPECT": "", "AUTOPILOT": "off"}]


async def command(cluster: Cluster, *arguments: str) -> str:
    """Run a command against the cluster, and return what it printed."""
    done = await trio.run_process(
        [sys.executable, "-m", "trioraft", *arguments, "--peers", cluster.peers],
        capture_stdout=True,
        stderr=subprocess.STDOUT,
        env={**clean_environment(), "PYTHONPATH": str(ROOT)},
        check=False,
    )
    text = done.stdout.decode()
    assert done.returncode == 0, text
    return text


def kinds(cluster: ClusterStatus) -> dict[str, str]:
    """Tell what the leader takes the members for, by name."""
    leader = cluster.leader
    names = {node.status.id: node.status.name for node in cluster.nodes}
    return {names.get(m.id, m.id): m.kind for m in leader.status.members} if leader is not None else {}


async def test_a_node_is_added_promoted_and_removed_and_comes_back_as_another(tmp_path: Path) -> None:
    async with Cluster(tmp_path, SIZE, each=EACH) as cluster:
        leader = await cluster.wait_leader(without=[3])
        for number in range(2):
            await command(cluster, "put", f"key{number}", "value")
        waiting = await cluster.wait_for(lambda _: cluster.node(3) is not None, 10, "the fourth node answers")
        assert kinds(waiting) == {"node-1": "voter", "node-2": "voter", "node-3": "voter"}
        assert "survives 1 failure" in await command(cluster, "status")

        assert "add is done" in await command(cluster, "members", "add", "node-4")
        await cluster.wait_for(lambda c: role(cluster, 3) == "learner" and len(kinds(c)) == 4, 10, "it is a learner")
        assert (await command(cluster, "get", "key1")).strip() == "value"
        assert "promote is done" in await command(cluster, "members", "promote", "node-4")
        await cluster.wait_for(lambda _: role(cluster, 3) == "follower", 10, "it is a voter")
        listed = json.loads(await command(cluster, "members", "list", "--format", "json"))
        assert [(member["name"], member["kind"]) for member in sorted(listed, key=lambda m: m["name"])] == [
            (f"node-{number}", "voter") for number in range(1, 5)
        ]

        # The leader itself goes; it gives its leadership to another node.
        gone = cluster.index(leader)
        await command(cluster, "members", "remove", leader.status.name)
        await cluster.wait_for(lambda _: role(cluster, gone) == "removed", 15, "it knows that it is removed")
        after = await cluster.wait_leader(without=[gone])
        assert after.status.id != leader.status.id
        assert len(kinds(await cluster.statuses())) == 3

        # It comes back as another node, which waits for the cluster, and is let in.
        await cluster.stop(gone)
        await cluster.start(gone)
        await cluster.wait_for(
            lambda _: any(node.status.role == "forming" for node in cluster.client.nodes.values()), 15, "it is back"
        )
        found = next(n for n in (await cluster.statuses()).nodes if n.status.role == "forming")
        assert found.status.id != leader.status.id
        await command(cluster, "members", "add", found.status.id)
        await cluster.wait_for(
            lambda c: any(n.status.id == found.status.id and n.status.role == "learner" for n in c.nodes),
            15,
            "joined",
        )
        assert (await command(cluster, "get", "key0")).strip() == "value"

        before = cluster.client.cluster().leader
        await command(cluster, "step-down")
        await cluster.wait_for(
            lambda c: c.leader is not None and before is not None and c.leader.status.id != before.status.id,
            15,
            "another leader",
        )


def role(cluster: Cluster, i: int) -> str:
    """Tell what a node says it is."""
    node = cluster.node(i)
    return node.status.role if node is not None else ""


async def test_a_node_that_was_removed_while_it_was_away_begins_anew_by_itself(tmp_path: Path) -> None:
    each = [{"BOOTSTRAP_EXPECT": "4", "AUTOPILOT": "off"}] * SIZE
    async with Cluster(tmp_path, SIZE, each=each) as cluster:
        await cluster.wait_for(lambda c: c.leader is not None and len(kinds(c)) == SIZE, 15, "all are members")
        leader = cluster.index(await cluster.wait_leader())
        away = next(i for i in range(SIZE) if i != leader)
        before = cluster.node(away)
        assert before is not None
        await cluster.stop(away)
        await command(cluster, "members", "remove", before.status.id)
        await cluster.start(away)
        await cluster.wait_for(
            lambda _: any(n.status.role == "forming" for n in cluster.client.nodes.values()), 20, "another node waits"
        )
        after = (await cluster.statuses()).leader
        assert after is not None
        assert before.status.id not in {member.id for member in after.status.members}


async def test_nodes_that_are_started_later_join_and_vote_by_themselves(tmp_path: Path) -> None:
    each = [{"BOOTSTRAP_EXPECT": "1"}] + [{"BOOTSTRAP_EXPECT": ""}] * 3
    async with Cluster(tmp_path, SIZE, each=each) as cluster:
        await cluster.wait_for(lambda c: sorted(kinds(c).values()) == ["learner"] + ["voter"] * 3, 30, "three voters")
        assert "survives 1 failure" in await command(cluster, "members")
        assert "autopilot, changed" in await command(cluster, "status")
        await command(cluster, "put", "key", "value")
        roles = ["follower", "follower", "leader", "learner"]
        await cluster.wait_for(lambda c: sorted(node.status.role for node in c.nodes) == roles, 10, "all are in")
