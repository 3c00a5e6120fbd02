"""Who may take part: nodes with the same identity, another key, another cluster, another service."""

import shutil
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.cluster.harness import LOOPBACK, ROOT, Cluster, clean_environment, free_ports
from tests.cluster.test_members import command
from trioraft.client.client import NoAnswerError
from trioraft.client.status import ClusterStatus
from trioraft.consensus.hard import HardState
from trioraft.datagrams.keys import generate_key
from trioraft.messages import NodeStatus
from trioraft.settings.settings import ClientSettings
from trioraft.storage.database import SqliteDisk
from trioraft.sync import Client

SIZE = 3


def statuses(cluster: Cluster, nodes: Iterable[int]) -> list[NodeStatus]:
    """Return what is known of some nodes; a client may have heard of nodes of another cluster with the same names."""
    pids = {cluster.process(i).pid for i in nodes}
    return [node.status for node in cluster.client.nodes.values() if node.status.pid in pids]


def alerts(cluster: Cluster, nodes: Iterable[int]) -> list[str]:
    """Return what some nodes now say that somebody should look at."""
    return [text for status in statuses(cluster, nodes) for text in status.alerts]


def contents(cluster: Cluster, i: int) -> tuple[int, HardState, int]:
    """Return what is on the disk of a stopped node: its id, hard state and last entry."""
    disk = SqliteDisk(cluster.data_dir(i) / "0")
    disk.close()
    return disk.node_id, disk.hard, disk.log.last_index


def says(cluster: Cluster, i: int, text: str) -> bool:
    return any(text in line.get("text", "") for line in cluster.logs(i) if line["event"] == "alert")


def reports(cluster: Cluster, i: int, text: str, _: ClusterStatus) -> bool:
    return any(text in alert for alert in alerts(cluster, [i]))


async def test_of_a_node_and_its_copy_the_later_one_is_refused_and_ends_when_they_meet(tmp_path: Path) -> None:
    *ports, other = free_ports(SIZE + 1)
    peers = ",".join(f"{LOOPBACK}:{port}" for port in (*ports, other))
    key = {"CLUSTER_KEY": generate_key()}
    async with Cluster(tmp_path, SIZE, key, each=[{"PEERS": peers}] * SIZE, ports=ports) as cluster:
        leader = await cluster.wait_leader()
        copied = next(i for i in range(SIZE) if i != cluster.index(leader))
        others = [i for i in range(SIZE) if i != copied]
        node = cluster.node(copied)
        assert node is not None
        await cluster.stop(copied)
        directory = tmp_path / "copy"
        await trio.to_thread.run_sync(shutil.copytree, cluster.data_dir(copied), directory / "node-1")
        cluster.each[copied] = {"PEERS": cluster.peers}  # it does not know where its copy will be
        await cluster.start(copied)
        await cluster.wait_for(
            lambda _: any(s.uptime_seconds > 3 for s in statuses(cluster, [copied])), 20, "it is back"
        )
        # The copy of node-2 or node-3 is the first, and only, node of this one, and does not know of the first one.
        theirs = ",".join(map(cluster.address, others))
        copy = Cluster(directory, 1, key, each=[{"PEERS": theirs, "BOOTSTRAP_EXPECT": ""}], ports=[other])
        async with copy:
            text = f"two processes have the node id {node.status.id}"

            def is_reported(_: ClusterStatus) -> bool:
                seen = alerts(cluster, others)
                return any(text in alert and f":{other}" in alert for alert in seen)

            await cluster.wait_for(is_reported, 30, "the duplicate is reported")
            assert all(says(cluster, i, text) for i in others if any(text in a for a in alerts(cluster, [i])))
            # A client takes the one for the other, so this asks the other nodes only.
            after = await cluster.wait_leader(without=[copied])
            assert (after.status.id, after.status.term) == (leader.status.id, leader.status.term)
            # The one that was there first is heard, the other one is not.
            await cluster.wait_for(
                lambda _: all(
                    cluster.address(copied) in status.peers and copy.address(0) not in status.peers
                    for status in statuses(cluster, others)
                ),
                5,
                "the first one is heard",
            )
            # Now they meet: the one that has just been started ends, with one line, and nothing changes on its disk.
            await copy.stop(0)
            before = contents(copy, 0)
            copy.each[0]["PEERS"] = peers
            await copy.start(0)
            assert await copy.ended(0, 20) == 2
            line = copy.log_file(0).read_text().splitlines()[-1]
            where = cluster.address(copied)
            assert line.startswith(
                f"trioraft: another process, at {where}, has this node's id {node.status.id}: DATA_DIR="
            )
            assert contents(copy, 0) == before
        assert says(cluster, copied, f"another process, at {LOOPBACK}:{other}, has this node's id")
        after = await cluster.wait_leader()
        assert (after.status.id, after.status.term) == (leader.status.id, leader.status.term)


async def test_a_node_with_another_key_stays_out_and_says_why(tmp_path: Path) -> None:
    key, wrong = generate_key(), generate_key()
    ports = free_ports(SIZE + 1)
    peers = ",".join(f"{LOOPBACK}:{port}" for port in ports)
    common = {"PEERS": peers, "BOOTSTRAP_EXPECT": str(SIZE)}
    directory = tmp_path / "stranger"
    await trio.Path(directory).mkdir()
    async with (
        Cluster(tmp_path, SIZE, {**common, "CLUSTER_KEY": key}, ports=ports[:SIZE]) as cluster,
        Cluster(directory, 1, {**common, "CLUSTER_KEY": wrong}, ports=ports[SIZE:]) as stranger,
    ):
        leader = await cluster.wait_leader()
        why = "sealed under a key that this process does not have; give all nodes the same CLUSTER_KEY"
        await stranger.wait_for(lambda _: any(why in text for text in alerts(stranger, [0])), 15, "it says why")
        await cluster.wait_for(
            lambda _: any(why in text and f":{ports[SIZE]}" in text for text in alerts(cluster, range(SIZE))),
            15,
            "the others say so too",
        )
        alone = stranger.node(0)
        assert alone is not None
        assert (alone.status.role, alone.status.cluster_id, alone.status.peers) == ("forming", None, ())
        assert says(stranger, 0, why)
        seen = await cluster.statuses()
        assert {(n.status.term, n.status.leader) for n in seen.nodes} == {(leader.status.term, leader.status.id)}
        assert key not in stranger.log_file(0).read_text() + cluster.log_file(0).read_text()


async def test_a_node_without_a_key_stays_out_of_a_sealed_cluster(tmp_path: Path) -> None:
    ports = free_ports(SIZE + 1)
    peers = ",".join(f"{LOOPBACK}:{port}" for port in ports)
    common = {"PEERS": peers, "BOOTSTRAP_EXPECT": str(SIZE)}
    directory = tmp_path / "stranger"
    await trio.Path(directory).mkdir()
    async with (
        Cluster(tmp_path, SIZE, {**common, "CLUSTER_KEY": generate_key()}, ports=ports[:SIZE]) as cluster,
        Cluster(directory, 1, common, ports=ports[SIZE:]) as stranger,
    ):
        await cluster.wait_leader()
        await cluster.wait_for(
            lambda _: any("it is not sealed" in text for text in alerts(cluster, range(SIZE))), 15, "it is reported"
        )
        await stranger.wait_for(lambda seen: len(seen.nodes) == 1, 15, "it answers")
        alone = stranger.node(0)
        assert alone is not None
        assert (alone.status.role, alone.status.cluster_id, alone.status.peers) == ("forming", None, ())
        assert "no CLUSTER_KEY" in stranger.log_file(0).read_text()


async def test_two_clusters_of_one_service_refuse_each_other_loudly(tmp_path: Path) -> None:
    directories = [tmp_path / "one", tmp_path / "two"]
    ports = free_ports(2 * SIZE)
    for directory in directories:
        await trio.Path(directory).mkdir()
    async with Cluster(directories[0], SIZE, ports=ports[:SIZE]) as one:
        leader = await one.wait_leader()
        async with Cluster(directories[1], SIZE, ports=ports[SIZE:]) as two:
            other = await two.wait_leader()
            assert leader.status.cluster_id != other.status.cluster_id
            # Now somebody joins their networks.
            together = ",".join(f"{LOOPBACK}:{port}" for port in ports)
            moved = next(i for i in range(SIZE) if i != two.index(other))
            await two.stop(moved)
            two.each[moved] = {"PEERS": together}
            await two.start(moved)
            await refuse(one, range(SIZE), other.status)
            await refuse(two, [moved], leader.status)
            for cluster, before in ((one, leader.status), (two, other.status)):
                await cluster.wait_for(partial(all_follow, cluster, before), 15, f"all follow {before.id}")

            # And this node is started, by mistake, where it finds only the other cluster; its own would find it.
            for i in range(SIZE):
                await two.stop(i)
            before_it, members = contents(two, moved), await command(one, "members", "list", "--format", "json")
            two.each[moved] = {"PEERS": one.peers}
            await two.start(moved)
            await refuse(one, range(SIZE), other.status)
            await refuse(two, [moved], leader.status)
            await trio.sleep(2.5)  # two election timeouts
            shown = await command(one, "status")
            assert f"belongs to another cluster, {other.status.cluster_id}" in shown
            assert await command(one, "members", "list", "--format", "json") == members
            await one.wait_for(partial(all_follow, one, leader.status), 5, "its leader leads on")
            await two.stop(moved)
            assert contents(two, moved) == before_it


def all_follow(cluster: Cluster, leader: NodeStatus, _: ClusterStatus) -> bool:
    following = [(status.cluster_id, status.term, status.leader) for status in statuses(cluster, range(SIZE))]
    return following == [(leader.cluster_id, leader.term, leader.id)] * SIZE


async def refuse(cluster: Cluster, nodes: Iterable[int], foreign: NodeStatus) -> None:
    """Wait until each of some nodes reports another cluster."""
    text = f"belongs to another cluster, {foreign.cluster_id}"
    for i in nodes:
        await cluster.wait_for(partial(reports, cluster, i, text), 15, text)
        assert says(cluster, i, text)


async def test_clients_of_another_service_are_told_so_and_raise_no_alert(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 1, {"APP_NAME": "shop"}) as cluster:
        await cluster.wait_leader()
        where = cluster.address(0)
        environment = {
            **clean_environment(),
            "PYTHONPATH": str(ROOT),
            "APP_NAME": "web",
            "BIND_PORT": str(cluster.ports[0]),
        }
        met = f"at {where} is a node of service 'shop'"
        for arguments in (
            ("status", "--peers", where),
            ("put", "key", "value", "--timeout", "2", "--peers", where),
            ("healthcheck",),
        ):
            with trio.fail_after(30):
                done = await trio.run_process(
                    [sys.executable, "-m", "trioraft", *arguments],
                    env=environment,
                    capture_stdout=True,
                    capture_stderr=True,
                    check=False,
                )
            error = done.stderr.decode()
            assert (done.returncode, met in error, error.count("\n")) == (1, True, 1), error

        def put() -> None:
            with Client(ClientSettings.of(peers=where, app_name="web")) as client:
                client.put("key", "value", timeout=2)

        with pytest.raises(NoAnswerError, match=met):
            await trio.to_thread.run_sync(put)
        await cluster.statuses()
        assert alerts(cluster, [0]) == []
        assert not says(cluster, 0, "service")
