"""A cluster that finds itself by DNS does not notice what becomes of DNS afterwards.

The full version treats each way of going wrong for 8 s, so that addresses have to be confirmed without DNS::

    TRIORAFT_DNS_SECONDS=8 python -m pytest -s tests/cluster/test_dns.py
"""

import os
import socket
from pathlib import Path

import pytest
import trio

from tests.cluster.harness import Cluster, free_ports
from tests.unit.dns_server import Behaviour, DnsServer, open_dns_server

SECONDS = float(os.environ.get("TRIORAFT_DNS_SECONDS", "3"))
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
            assert any(f"nothing answers at {NOBODY}:{port}" in alert for alert in watch.alerts), watch.alerts
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
