"""DNS that fails or lies: nobody becomes a member, and nobody ceases to be one.

The answers are those that the real discovery makes of what a real DNS server says; the nodes are the real ones, under
trio's mocked clock. In each world one voter is silent all the time, so that a wrong answer could have it removed, and
one node waits that a wrong answer could let in. At the end DNS tells the truth, and then both happens: what did not
happen before could have. The full version is an hour of each way to go wrong::

    TRIORAFT_DNS_MINUTES=60 python -m pytest tests/unit/test_dns_members.py
"""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import product
from typing import Any

import pytest
import trio
import trio.testing

from tests.unit.dns_server import Behaviour, open_dns_server
from tests.unit.memory_cluster import MemoryCluster, cluster_of
from tests.unit.memory_world import MemoryDisk
from trioraft.dns.discovery import Answer, Discovery
from trioraft.messages import EntryKind, format_id
from trioraft.versions import SPOKEN

NAME = "_trioraft._udp.service.test"
MINUTES = int(os.environ.get("TRIORAFT_DNS_MINUTES", "5"))
VOTERS = 3
NEWCOMER = VOTERS  # the index of a node that is started at the end
DEAD_AFTER = 60.0
# An hour has fewer steps then.
SLOW: dict[str, Any] = {
    "bootstrap_expect": VOTERS,
    "min_voters": 2,
    "dead_server": DEAD_AFTER,
    "heartbeat_repeat": 4.0,
    "election_timeout_lower": 24.0,
    "election_timeout_upper": 40.0,
    "discovery_interval": 8.0,
}
PORTS = tuple(range(7300, 7300 + VOTERS + 1))
MOVED = 100  # so much higher is the port of a node that has moved
STRANGERS = (7500, 7501, 7502)  # where nodes of others listen
NOBODY = tuple(range(7700, 7705))

Dns = Callable[..., Answer]


def truth(silent: int, moved: int | None = None) -> tuple[int, ...]:
    """List the ports of all nodes that run at the end."""
    return tuple(PORTS[i] + (MOVED if i == moved else 0) for i in range(VOTERS + 1) if i != silent)


def without_newcomer(silent: int) -> tuple[int, ...]:
    """List the ports of the nodes that run while there is no newcomer."""
    return truth(silent)[:-1]


@pytest.fixture(scope="module")
def dns() -> Dns:
    """Return what discovery finds at a DNS server that has records of some ports, or behaves in some way."""
    known: dict[object, Answer] = {}
    everybody = range(VOTERS)
    records = [
        PORTS[:VOTERS],
        STRANGERS,
        NOBODY,
        *((port,) for port in PORTS),
        *((port, *STRANGERS) for port in PORTS),
        *(without_newcomer(silent) for silent in everybody),
        *(truth(silent, moved) for silent, moved in product(everybody, (None, *everybody)) if silent != moved),
    ]

    async def ask() -> None:
        async with open_dns_server() as server:
            server.set("host.test", "A", ["127.0.0.1"])
            discovery = Discovery(NAME, (), 7300, (server.address,), 0.5)
            for ports in records:
                server.set(NAME, "SRV", [f"0 0 {port} host.test." for port in ports])
                known[ports] = await discovery.look_up()
                assert known[ports].complete
                assert {address.port for address in known[ports].addresses} == {*ports}
            for behaviour in Behaviour:
                server.behave(behaviour)
                known[behaviour] = await discovery.look_up()

    trio.run(ask)
    return known.__getitem__


class Service:
    """A cluster of three voters, one of which is silent.

    Attributes
    ----------
    cluster : MemoryCluster
        Its nodes.
    leading, silent : int
        The indexes of the leader and of the silent voter.
    """

    def __init__(self, cluster: MemoryCluster, leading: int, silent: int) -> None:
        self.cluster = cluster
        self.leading = leading
        self.silent = silent

    def says(self, answer: Answer) -> None:
        """Make DNS answer this to all nodes."""
        self.cluster.answer = lambda: answer

    def says_to(self, index: int, answer: Answer) -> None:
        """Make DNS answer this to one node."""
        self.cluster.answers[index] = lambda: answer

    def members(self) -> dict[int, frozenset[tuple[str, str]]]:
        """Return the members as each node knows them."""
        return {
            index: frozenset((member.id, member.kind) for member in node.status().members)
            for index, node in self.cluster.nodes.items()
        }

    def changes(self) -> dict[int, list[int]]:
        """Return the indexes of the entries in each node's log that change the members."""
        return {index: changes_in(self.cluster, index) for index in self.cluster.nodes}

    async def nothing_changes(self, minutes: int = MINUTES) -> None:
        members, changes = self.members(), self.changes()
        voters = frozenset((format_id(disk.node_id), "voter") for disk in self.cluster.disks[:VOTERS])
        assert set(members.values()) == {voters}
        for _ in range(minutes):
            await trio.sleep(60)
            assert self.members() == members
        assert self.changes() == changes
        assert self.cluster.leaders() == [self.leading]

    async def then_the_truth_changes_all(self, answer: Answer) -> None:
        """Start another node, and let DNS tell the truth: that node takes the place of the silent one."""
        before = self.changes()
        await self.cluster.start(NEWCOMER, bootstrap_expect=None)
        self.cluster.answers.clear()
        self.says(answer)
        live = frozenset((format_id(self.cluster.disks[i].node_id), "voter") for i in self.cluster.nodes)
        with trio.move_on_after(2 * DEAD_AFTER):
            while set(self.members().values()) != {live}:
                await trio.sleep(1)
            assert len(self.changes()[self.leading]) > len(before[self.leading])
            return
        raise AssertionError(f"{self.members()}; {self.cluster.nodes[self.leading].status().autopilot}")


def changes_in(cluster: MemoryCluster, index: int) -> list[int]:
    """Return the indexes of the entries in a node's log that change the members."""
    log = cluster.disks[index].log
    assert log.base_index == 0, "nothing of it was left out"
    entries = enumerate(log.entries(1, log.last_index), 1)
    return [at for at, entry in entries if entry.kind == EntryKind.CONFIGURATION]


@asynccontextmanager
async def service(seed: int) -> AsyncIterator[Service]:
    """Run a cluster of three that DNS knows well, then kill one that does not lead."""
    async with cluster_of(VOTERS + 1, seed, dns_name=NAME, **SLOW) as cluster:
        await cluster.start(*range(VOTERS))
        leading = await cluster.leader(within=200)
        await trio.sleep(60)
        silent = next(i for i in range(VOTERS) if i != leading)
        await cluster.kill(silent)
        yield Service(cluster, leading, silent)


async def live_in(ours: Service, others: MemoryCluster) -> None:
    """Start nodes of others in the network of a service."""
    others.network = ours.cluster.network
    others.disks = [MemoryDisk(node_id=101 + index) for index in range(len(STRANGERS))]
    for index, port in enumerate(STRANGERS):
        await others.start(index, bind_port=port)


# --- the faults ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [Behaviour.SERVFAIL, Behaviour.SILENT, Behaviour.NXDOMAIN, Behaviour.GARBAGE])
async def test_dns_that_fails_at_the_leader_only(
    dns: Dns, autojump_clock: trio.testing.MockClock, how: Behaviour
) -> None:
    async with service(1) as ours:
        ours.says(dns(without_newcomer(ours.silent)))  # so it would be removed, by any other node
        ours.says_to(ours.leading, dns(how))
        await ours.nothing_changes()
        await ours.then_the_truth_changes_all(dns(truth(ours.silent)))


@pytest.mark.parametrize("has_the_leader", [False, True])
async def test_the_addresses_of_other_services_in_dns_change_nothing(
    dns: Dns, autojump_clock: trio.testing.MockClock, has_the_leader: bool
) -> None:
    other: dict[str, Any] = {"app_name": "other", **SLOW, "bootstrap_expect": None}
    async with cluster_of(len(STRANGERS), 2, **other) as strangers, service(2) as ours:
        # They wait for a cluster to take them in.
        await live_in(ours, strangers)
        ours.says(dns((PORTS[ours.leading], *STRANGERS) if has_the_leader else STRANGERS))
        await ours.nothing_changes()
        assert {node.status().role for node in strangers.nodes.values()} == {"forming"}
        await ours.then_the_truth_changes_all(dns(truth(ours.silent)))
        assert {node.status().role for node in strangers.nodes.values()} == {"forming"}


async def test_stale_addresses_where_the_silent_one_and_one_that_has_moved_once_were(
    dns: Dns, autojump_clock: trio.testing.MockClock
) -> None:
    async with service(3) as ours:
        moved = next(i for i in range(VOTERS) if i not in {ours.leading, ours.silent})
        await ours.cluster.kill(moved)
        await ours.cluster.start(moved, bind_port=PORTS[moved] + MOVED)
        ours.says(dns(PORTS[:VOTERS]))
        await trio.sleep(60)
        await ours.nothing_changes()
        await ours.then_the_truth_changes_all(dns(truth(ours.silent, moved)))


async def test_stale_addresses_at_which_nobody_is_any_more(dns: Dns, autojump_clock: trio.testing.MockClock) -> None:
    async with service(4) as ours:
        ours.says(dns(NOBODY))
        await ours.nothing_changes()
        await ours.then_the_truth_changes_all(dns(truth(ours.silent)))


@pytest.mark.parametrize("has_the_leader", [False, True])
async def test_the_addresses_of_another_cluster_of_the_same_name(
    dns: Dns, autojump_clock: trio.testing.MockClock, has_the_leader: bool
) -> None:
    other: dict[str, Any] = {"dns_name": NAME, **SLOW, "bootstrap_expect": len(STRANGERS)}
    async with cluster_of(len(STRANGERS), 5, **other) as theirs, service(5) as ours:
        theirs.answer = lambda: dns(STRANGERS)
        await live_in(ours, theirs)
        await theirs.leader(within=200)
        while any(node.status().cluster_version != SPOKEN.highest for node in theirs.nodes.values()):
            await trio.sleep(1)  # to raise it is an entry of the same kind
        before = [changes_in(theirs, index) for index in theirs.nodes]
        # DNS takes each for the other.
        ours.says(dns((PORTS[ours.leading], *STRANGERS) if has_the_leader else STRANGERS))
        theirs.answer = lambda: dns(without_newcomer(ours.silent))
        await ours.nothing_changes()
        assert [changes_in(theirs, index) for index in theirs.nodes] == before
        clusters = {node.status().cluster_id for node in (*ours.cluster.nodes.values(), *theirs.nodes.values())}
        assert len(clusters) == 2
        assert any(node.status().alerts for node in ours.cluster.nodes.values()), "it is told of"
        for index in list(theirs.nodes):
            await theirs.kill(index)  # they would take in the newcomer as well
        await ours.then_the_truth_changes_all(dns(truth(ours.silent)))


async def test_no_such_name_for_long(dns: Dns, autojump_clock: trio.testing.MockClock) -> None:
    async with service(6) as ours:
        ours.says(dns(Behaviour.NXDOMAIN))
        await ours.nothing_changes(3 * MINUTES)
        await ours.then_the_truth_changes_all(dns(truth(ours.silent)))


async def test_only_the_leader_is_known_to_dns(dns: Dns, autojump_clock: trio.testing.MockClock) -> None:
    async with service(7) as ours:
        ours.says(dns((PORTS[ours.leading],)))
        await ours.nothing_changes()
        await ours.then_the_truth_changes_all(dns(truth(ours.silent)))
