"""A cluster that finds itself by DNS does not notice what becomes of DNS afterwards, and nor do its members change.

The full version treats each way of going wrong for 8 s, so that addresses have to be confirmed without DNS::

    TRIORAFT_DNS_SECONDS=8 python -m pytest -s tests/cluster/test_dns.py
"""

import os
import socket
from pathlib import Path

import pytest
import trio

from tests.cluster.harness import LOOPBACK, Cluster, free_ports
from tests.unit.dns_server import Behaviour, DnsServer, open_dns_server
from trioraft.client.client import open_client
from trioraft.settings.settings import ClientSettings

SECONDS = float(os.environ.get("TRIORAFT_DNS_SECONDS", "2"))
NAME = "cluster.test"
NODES = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
MOVED = "127.0.0.4"
OTHER_SERVICE, NOBODY = "127.0.0.9", "127.0.0.77"
INTERVAL = 0.3
ENVIRONMENT = {"APP_NAME": NAME, "PEERS": "", "DISCOVERY_INTERVAL_MILLIS": f"{INTERVAL * 1000:.0f}"}


def free_port_of_all(*hosts: str) -> int:
    """Find a UDP port that is free at several addresses."""
    for port in free_ports(20):
        try:
            for host in hosts:
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                    probe.bind((host, port))
        except OSError:
            continue
        return port
    raise AssertionError("no port is free at all of these addresses")


class Watch:
    """Remembers which leaders and terms, and which alerts, were ever seen."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.led: set[tuple[int, str | None]] = set()
        self.alerts: set[str] = set()

    async def run(self) -> None:
        while True:
            seen = self.cluster.client.version
            for node in self.cluster.client.nodes.values():
                self.led.add((node.status.term, node.status.leader))
                self.alerts.update(node.status.alerts)
            await self.cluster.client.changed(seen)


async def go_wrong(server: DnsServer, what: Behaviour | list[str] | None) -> None:
    """Let DNS go wrong for a while: behave in some way, lie, or disappear."""
    asked = len(server.queries)
    if what is None:
        server.stop()
    elif isinstance(what, Behaviour):
        server.behave(what)
    else:
        server.set(NAME, "A", what)
    await trio.sleep(SECONDS)
    if what is None:
        await server.start()
    else:
        # All three nodes went on asking, though perhaps not as often as they are told to.
        assert len(server.queries) - asked > SECONDS
    server.behave(Behaviour.ANSWER)


@pytest.mark.timeout(120 + 20 * SECONDS)
async def test_the_cluster_does_not_notice_what_becomes_of_dns(tmp_path: Path) -> None:
    port = free_port_of_all(*NODES, MOVED, OTHER_SERVICE, NOBODY)
    async with open_dns_server() as server:
        server.set(NAME, "A", NODES)
        environment = {**ENVIRONMENT, "DNS_SERVERS": str(server.address)}
        each = [{"BIND_HOST": host} for host in NODES]
        other = {"APP_NAME": "other.test", "PEERS": f"{OTHER_SERVICE}:{port}", "BIND_HOST": OTHER_SERVICE}
        await trio.Path(tmp_path, "other").mkdir()
        async with (
            Cluster(tmp_path / "other", 1, each=[other], ports=[port]) as stranger,
            Cluster(tmp_path, len(NODES), environment, each=each, ports=[port] * len(NODES)) as cluster,
            trio.open_nursery() as nursery,
        ):
            await stranger.wait_leader()
            leader = await cluster.wait_leader()
            assert cluster.client.cluster().cluster_id != stranger.client.cluster().cluster_id
            watch = Watch(cluster)
            nursery.start_soon(watch.run)
            nowhere = [f"127.0.1.{number}" for number in range(1, 41)]
            for what in (
                [OTHER_SERVICE, NOBODY],
                Behaviour.SILENT,
                Behaviour.TRUNCATED,
                Behaviour.TRUNCATED_WITHOUT_TCP,
                Behaviour.NXDOMAIN,
                Behaviour.SERVFAIL,
                Behaviour.GARBAGE,
                None,
                [*nowhere, OTHER_SERVICE, NOBODY],
            ):
                await go_wrong(server, what)
            with trio.fail_after(30):  # that it is silent is told after ten seconds
                while not any(f"nothing answers at {NOBODY}:{port}" in alert for alert in watch.alerts):
                    await trio.sleep(0.1)
            assert any(f"{OTHER_SERVICE}:{port}" in alert and "other.test" in alert for alert in watch.alerts)
            # A node that comes back elsewhere, without DNS, is found by the others.
            moved = next(i for i in range(len(NODES)) if i != cluster.index(leader))
            before = cluster.node(moved)
            assert before is not None
            await cluster.stop(moved)
            cluster.each[moved] = {"BIND_HOST": MOVED, "DNS_SERVERS": NOBODY}
            server.set(NAME, "A", [MOVED, *(host for i, host in enumerate(NODES) if i != moved)])
            await cluster.start(moved)
            await cluster.wait_for(lambda _: address_of(cluster, moved) == f"{MOVED}:{port}", 15, "it is found")
            after = await cluster.wait_leader()
            again = cluster.node(moved)
            assert again is not None
            assert again.status.id == before.status.id
            # All of that has cost no election.
            assert (after.status.id, after.status.term) == (leader.status.id, leader.status.term)
            assert watch.led <= {(leader.status.term, leader.status.id), (leader.status.term, None)}
            nursery.cancel_scope.cancel()


def address_of(cluster: Cluster, i: int) -> str:
    node = cluster.node(i)
    return str(node.address) if node is not None and node.reachable else ""


# --- who is a member ----------------------------------------------------------------------------------------

DEAD_AFTER = 0.8
STALE = ("127.0.0.44", "127.0.0.45")
MEMBERS = {
    **ENVIRONMENT,
    "DEAD_SERVER_MILLIS": f"{DEAD_AFTER * 1000:.0f}",
    "MIN_VOTERS": "2",
    "DISCOVERY_INTERVAL_MILLIS": "200",
}


def changes(cluster: Cluster, nodes: list[int]) -> list[dict[str, object]]:
    """List all changes of the members that some nodes have written into their logs."""
    return [line for i in nodes for line in cluster.logs(i) if line["event"] == "members"]


async def members(cluster: Cluster, nodes: list[int]) -> set[frozenset[tuple[str, str]]]:
    """Return the members by what each of some nodes says."""
    await cluster.statuses()
    found = [node for i in nodes if (node := cluster.node(i)) is not None]
    assert len(found) == len(nodes)
    return {frozenset((member.id, member.kind) for member in node.status.members) for node in found}


@pytest.mark.timeout(120 + 10 * SECONDS)
async def test_dns_that_fails_or_lies_makes_and_ends_no_membership(tmp_path: Path) -> None:
    port = free_port_of_all(*NODES, OTHER_SERVICE, MOVED, NOBODY, *STALE)
    # Of another service, and waiting to be taken in; and of the same name, but of another cluster.
    others = [
        {"APP_NAME": "other.test", "BIND_HOST": OTHER_SERVICE, "BOOTSTRAP_EXPECT": "", "PEERS": f"{NOBODY}:{port}"},
        {"APP_NAME": NAME, "BIND_HOST": MOVED, "BOOTSTRAP_EXPECT": "1", "PEERS": f"{NOBODY}:{port}"},
    ]
    await trio.Path(tmp_path, "others").mkdir()
    async with open_dns_server() as first, open_dns_server() as second, open_dns_server() as third:
        servers = [first, second, third]  # each node asks its own
        each = [
            {"BIND_HOST": host, "DNS_SERVERS": str(server.address)}
            for host, server in zip(NODES, servers, strict=True)
        ]
        for server in servers:
            server.set(NAME, "A", NODES)
        async with (
            Cluster(tmp_path / "others", 2, each=others, ports=[port] * 2),
            Cluster(tmp_path, len(NODES), MEMBERS, each=each, ports=[port] * len(NODES)) as cluster,
        ):
            leader = cluster.index(await cluster.wait_leader())
            silent = next(i for i in range(len(NODES)) if i != leader)
            live = [i for i in range(len(NODES)) if i != silent]
            await cluster.kill(silent)
            before, changed = await members(cluster, live), changes(cluster, live)
            assert [len(each) for each in before] == [len(NODES)]
            without = [NODES[i] for i in live]
            for at_leader, elsewhere in (
                (Behaviour.SERVFAIL, without),
                ([NODES[leader], OTHER_SERVICE, NOBODY],) * 2,
                ([NODES[leader], NODES[silent], *STALE],) * 2,
                ([*STALE, NOBODY],) * 2,
                ([NODES[leader], MOVED],) * 2,
                (Behaviour.NXDOMAIN,) * 2,
            ):
                for i, server in enumerate(servers):
                    says = at_leader if i == leader else elsewhere
                    server.behave(says if isinstance(says, Behaviour) else Behaviour.ANSWER)
                    server.set(NAME, "A", NODES if isinstance(says, Behaviour) else says)
                await trio.sleep(max(3 * DEAD_AFTER, 0.5 * SECONDS))
                assert await members(cluster, live) == before, at_leader
            assert changes(cluster, live) == changed
            assert cluster.index(await cluster.wait_leader(without=[silent])) == leader
            # What did not happen would have: the truth has the silent one removed.
            for server in servers:
                server.behave(Behaviour.ANSWER)
                server.set(NAME, "A", without)
            with trio.fail_after(DEAD_AFTER + 10):
                while {len(each) for each in await members(cluster, live)} != {len(live)}:
                    await trio.sleep(0.1)
            assert len(changes(cluster, live)) > len(changed)


async def test_a_status_waits_for_a_slow_dns_and_says_whom_it_has_asked() -> None:
    async with open_dns_server() as server:
        server.set("slow", "A", [LOOPBACK])
        server.delay = 0.3
        settings = ClientSettings.of(app_name="slow", dns_servers=str(server.address))
        async with open_client(settings) as client:
            assert not (await client.statuses(0.1)).nodes
            assert client.why_silent().startswith(f"no node answers at {LOOPBACK}:")
