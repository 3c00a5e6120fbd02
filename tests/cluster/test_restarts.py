"""Replicas that are restarted at other addresses, all at once, or without their data, and found by DNS."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import trio

from tests.cluster.harness import Cluster
from tests.cluster.test_dns import ENVIRONMENT, NAME, NODES, free_port_of_all
from tests.unit.dns_server import DnsServer, open_dns_server
from trioraft.client.status import ClusterStatus

MOVED = ("127.0.0.2", "127.0.0.3", "127.0.0.4")  # two of them were other nodes' addresses before
OTHER_SERVICE = "127.0.0.9"
DEAD_AFTER = 3.0


def members(cluster: ClusterStatus) -> dict[str, str]:
    """Return what the leader takes the members for, by id."""
    leader = cluster.leader
    return {member.id: member.kind for member in leader.status.members} if leader is not None else {}


def has_leader(cluster: ClusterStatus) -> bool:
    return cluster.leader is not None


async def restart_all(cluster: Cluster, server: DnsServer, hosts: Sequence[str]) -> None:
    """Kill all nodes, and start them at other addresses."""
    for i in range(cluster.size):
        cluster.process(i).kill()
    for i, host in enumerate(hosts):
        await cluster.ended(i, 15)
        cluster.each[i]["BIND_HOST"] = host
    server.set(NAME, "A", hosts)
    for i in range(cluster.size):
        await cluster.start(i)


async def test_nodes_come_back_at_other_addresses_and_one_without_its_data_is_replaced(tmp_path: Path) -> None:
    port = free_port_of_all(*NODES, *MOVED)
    async with open_dns_server() as server:
        server.set(NAME, "A", NODES)
        dead = f"{DEAD_AFTER * 1000:.0f}"
        environment = {**ENVIRONMENT, "DNS_SERVERS": str(server.address), "DEAD_SERVER_MILLIS": dead}
        each = [{"BIND_HOST": host} for host in NODES]
        async with Cluster(tmp_path, 3, environment, each=each, ports=[port] * 3) as cluster:
            before = await cluster.wait_leader()
            same = members(await cluster.wait_for(lambda seen: len(members(seen)) == 3, 15, "three members"))
            with trio.fail_after(20):
                await cluster.client.put("key", "value")

            await restart_all(cluster, server, MOVED)
            after = await cluster.wait_for(
                lambda seen: (
                    seen.leader is not None
                    and seen.leader.status.pid in {cluster.process(i).pid for i in range(3)}
                    and {str(node.address) for node in seen.nodes if node.reachable} == {f"{h}:{port}" for h in MOVED}
                ),
                30,
                "all are found where they are now",
            )
            assert after.cluster_id == before.status.cluster_id
            assert members(after) == same
            assert after.leader is not None
            lost = next(i for i in range(3) if i != cluster.index(after.leader))
            with trio.fail_after(20):
                found = await cluster.client.get("key")
            assert found is not None
            assert found.value == b"value"

            # One loses its data: it comes back as another node, and takes the place of what it was.
            was = cluster.node(lost)
            assert was is not None
            await cluster.kill(lost)
            shutil.rmtree(cluster.data_dir(lost))
            await cluster.start(lost)
            replaced = await cluster.wait_for(
                lambda seen: (
                    len(members(seen)) == 3
                    and was.status.id not in members(seen)
                    and set(members(seen).values()) == {"voter"}
                ),
                DEAD_AFTER + 20,
                "three voters, without the one that is gone",
            )
            assert len(members(replaced).keys() & same.keys()) == 2
            assert replaced.leader is not None
            assert any(f"({was.status.id}) is gone: " in note.text for note in replaced.leader.status.autopilot)
            await cluster.same_state()


async def test_dns_that_gives_another_services_nodes_lets_nobody_join_them(tmp_path: Path) -> None:
    port = free_port_of_all(*NODES, OTHER_SERVICE)
    async with open_dns_server() as server:
        server.set(NAME, "A", NODES[:1])
        server.set("other.test", "A", [OTHER_SERVICE])
        environment = {"DNS_SERVERS": str(server.address)}
        each = [{"BIND_HOST": NODES[0], "BOOTSTRAP_EXPECT": "1"}, {"BIND_HOST": NODES[1], "BOOTSTRAP_EXPECT": ""}]
        theirs = {**ENVIRONMENT, **environment, "APP_NAME": "other.test"}
        await trio.Path(tmp_path, "other").mkdir()
        async with (
            Cluster(tmp_path / "other", 1, theirs, each=[{"BIND_HOST": OTHER_SERVICE}], ports=[port]) as other,
            Cluster(tmp_path, 2, {**ENVIRONMENT, **environment}, each=each, ports=[port] * 2) as cluster,
        ):
            foreign = await other.wait_leader()
            # What was seen changes as more is heard, so it is looked at at once.
            joined = members(
                await cluster.wait_for(lambda seen: len(members(seen)) == 2, 20, "the second has joined")
            )
            # DNS mixes the two names up, and there is a new node, where nobody has been before.
            await cluster.stop(1)
            shutil.rmtree(cluster.data_dir(1))
            cluster.each[1]["BIND_HOST"] = NODES[2]
            server.set(NAME, "A", [OTHER_SERVICE])
            server.set("other.test", "A", [NODES[0], NODES[2]])
            await cluster.start(1)
            text = f"{OTHER_SERVICE}:{port} is a node of service 'other.test', not of this one: ignored"

            def says(i: int) -> bool:
                return any(text in line.get("text", "") for line in cluster.logs(i))

            with trio.fail_after(20):
                while not (says(0) and says(1)):
                    await trio.sleep(0.05)
                while not any(f"is a node of service '{NAME}'" in line.get("text", "") for line in other.logs(0)):
                    await trio.sleep(0.05)
            await trio.sleep(2)
            seen = await other.wait_for(has_leader, 15, "the other cluster's leader answers")
            assert members(seen) == {foreign.status.id: "voter"}
            assert (seen.cluster_id, seen.term) == (foreign.status.cluster_id, foreign.status.term)
            assert members(await cluster.wait_for(has_leader, 15, "the leader answers")).keys() == joined.keys()
            # Once DNS is right, the new node joins its own cluster, and nobody else's.
            server.set(NAME, "A", [NODES[0], NODES[2]])
            server.set("other.test", "A", [OTHER_SERVICE])
            await cluster.wait_for(lambda seen: len(members(seen)) == 3, 20, "the new node has joined")
            seen = await other.wait_for(has_leader, 15, "the other cluster's leader answers")
            assert members(seen) == {foreign.status.id: "voter"}
