"""Running clusters under a flood of datagrams that are not what they should be.

The full version sends 100,000 to each cluster::

    TRIORAFT_FLOOD=100000 python -m pytest -s tests/cluster/test_flood.py
"""

import os
import random
import resource
import socket
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import trio

from tests.cluster.harness import LOOPBACK, Cluster, free_ports
from tests.cluster.hostile import Hostile, Kind
from tests.cluster.relay import Relay, open_relay
from tests.cluster.test_rogue_numbers import numbers_of, rogue_dropped, send_all
from trioraft.client.status import ObservedNode
from trioraft.clock import boottime
from trioraft.datagrams.endpoint import Domain, Endpoint, Identity, PeerConfirmed
from trioraft.datagrams.keys import KeyRing, derive_key, generate_key
from trioraft.datagrams.socket import open_udp
from trioraft.messages import VoteRequest

DATAGRAMS = int(os.environ.get("TRIORAFT_FLOOD", "10000"))
SIZE = 3
TIMES = {
    "ELECTION_TIMEOUT_LOWER_MILLIS": "1000",
    "ELECTION_TIMEOUT_UPPER_MILLIS": "2000",
    "HEARTBEAT_REPEAT_MILLIS": "100",
}
# How many come from one address, and how many a node may have waiting when the next ones are sent.
CHUNK = 60
QUEUED_MAX = 256 * 1024
# How often a stranger copies what it sees, and what a rogue member says in one session.
COPIES = 3
ROGUE_CHUNK = 100
GROWTH_MAX = 4 * 1024 * 1024
# Dropped for what they are, so that nothing that a node or client sends is ever counted there.
REASONS = frozenset(f"dropped_{reason}" for reason in ("malformed", "version", "unknown_key", "unsealed", "unopened"))


class Flood:
    """Sends datagrams to the nodes of a cluster, as fast as they are taken."""

    def __init__(self, cluster: Cluster, relay: Relay, hostile: Hostile, chance: random.Random) -> None:
        self.cluster = cluster
        self.relay = relay
        self.hostile = hostile
        self.chance = chance
        self.sent: list[Counter[str]] = [Counter() for _ in range(SIZE)]
        self.bytes_sent = self.bytes_back = 0
        self._open: deque[socket.socket] = deque()

    async def send(self, kinds: tuple[Kind, ...], count: int) -> None:
        """Send datagrams of these kinds, in turn, to each node in turn."""
        for first in range(0, count, CHUNK):
            source = self._new_source()
            for number in range(first, min(first + CHUNK, count)):
                kind, node = kinds[number // SIZE % len(kinds)], number % SIZE
                data = kind.make()
                source.sendto(data, (LOOPBACK, self.cluster.ports[node]))
                self.sent[node][kind.name] += 1
                self.bytes_sent += len(data)
            await self._taken()

    async def replay(self, count: int) -> None:
        """Send recorded datagrams from where, and to where, they were sent; or back, to who sent them."""
        for number in range(count):
            i, j, data = self.chance.choice(self.relay.recorded)
            if self.chance.random() < 0.2:
                i, j = j, i
            assert self.relay.inject(i, j, data)
            self.sent[j]["replayed"] += 1
            if number % CHUNK == 0:
                await self._taken()
        await self._taken()

    @contextmanager
    def copies_first(self) -> Iterator[None]:
        """Let each datagram that a node sends to another one arrive from a stranger before it comes from the node."""

        def copy(node: int, data: bytes) -> None:
            if self.chance.random() < 0.05 or not self._open:
                self._new_source()
            for source in list(self._open)[-COPIES:]:
                source.sendto(data, (LOOPBACK, self.cluster.ports[node]))
                self.sent[node]["copied first"] += 1
                self.bytes_sent += len(data)

        self.relay.eavesdrop = copy
        try:
            yield
        finally:
            self.relay.eavesdrop = None

    async def rogue_numbers(self, key: str | None, count: int) -> None:
        """Send numbers that no member can mean, as somebody who shakes hands as one does, and has the key."""
        status = next(iter(self.cluster.client.nodes.values())).status
        assert status.cluster_id is not None
        some = numbers_of(status.term)
        for _ in range(0, count, ROGUE_CHUNK * SIZE):
            rogue = self.chance.getrandbits(62) + 1  # a second process of one node would be a rival of the first
            messages = [self.chance.choice(some) for _ in range(ROGUE_CHUNK)]
            await send_all(self.cluster, key, int(status.cluster_id, 16), messages, rogue)
            for each in self.sent:
                each["rogue numbers"] += ROGUE_CHUNK
            await self._taken()

    def _new_source(self) -> socket.socket:
        source = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        source.setblocking(False)
        source.bind((f"127.{self.chance.randrange(1, 255)}.{self.chance.randrange(256)}.1", 0))
        self._open.append(source)
        if len(self._open) > 50:
            self.close(self._open.popleft())
        return source

    def close(self, source: socket.socket) -> None:
        """Close a socket, and count what came back to it."""
        while True:
            try:
                self.bytes_back += len(source.recv(65536))
            except BlockingIOError:
                break
        source.close()

    def close_all(self) -> None:
        while self._open:
            self.close(self._open.popleft())

    async def _taken(self) -> None:
        with trio.fail_after(10):
            while max(queue_of(port)[0] for port in self.cluster.ports) > QUEUED_MAX:
                await trio.sleep(0.002)
        await trio.sleep(0.002)


def queue_of(port: int) -> tuple[int, int]:
    """Return how many bytes wait in the socket at a port of loopback, and how many datagrams it has dropped."""
    for line in Path("/proc/net/udp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1] == f"0100007F:{port:04X}":
            return int(fields[4].partition(":")[2], 16), int(fields[-1])
    raise AssertionError(f"nothing listens at UDP port {port}")


def resident(pid: int) -> int:
    """Return the memory of a process, in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


async def counters(cluster: Cluster) -> list[Counter[str]]:
    """Ask the nodes, once they have taken everything, for their counters."""
    with trio.fail_after(20):
        while any(queue_of(port)[0] for port in cluster.ports):
            await trio.sleep(0.01)
        nodes: dict[int, ObservedNode] = {}
        while len(nodes) < SIZE:  # what was asked before may be answered from before: ask, and wait for all answers
            nodes = {cluster.index(node): node for node in (await cluster.statuses()).nodes if node.reachable}
    return [Counter(nodes[i].status.counters) for i in range(SIZE)]


async def vote_as_a_client(cluster: Cluster, node: int, key: str | None) -> None:
    """Shake hands as a monitor, and then ask for a vote."""
    keys = None if key is None else KeyRing.parse(derive_key(key, "status"))
    endpoint = Endpoint(Identity(node_id=0, service="trioraft", name="thief"), keys)
    udp = await open_udp(LOOPBACK, 0)
    try:
        (address,) = {peer.address for peer in cluster.client.nodes.values() if cluster.index(peer) == node}
        endpoint.greet(address, Domain.STATUS, boottime())
        with trio.fail_after(5):
            while True:
                for datagram, to in endpoint.datagrams_to_send():
                    udp.send(datagram, to)
                await udp.wait_readable()
                for data, source in udp.receive():
                    event = endpoint.receive_datagram_untrusted(data, source, boottime())
                    if isinstance(event, PeerConfirmed):
                        endpoint.send(event.peer, VoteRequest(10**6, 0, 0, True), boottime())
                        for datagram, to in endpoint.datagrams_to_send():
                            udp.send(datagram, to)
                        return
    finally:
        udp.close()


class Account:
    """What the nodes have counted, and the kernel dropped, since a moment."""

    def __init__(self, flood: Flood) -> None:
        self._flood = flood
        self._sent = [each.total() for each in flood.sent]
        self._relayed = flood.relay.relayed
        self._drops = [queue_of(port)[1] for port in flood.cluster.ports]
        self._began = trio.current_time()
        self._before: list[Counter[str]] = []

    async def open(self) -> "Account":
        self._before = await counters(self._flood.cluster)
        return self

    @property
    def lost(self) -> list[int]:
        """How many datagrams the kernel has dropped, for each node."""
        return [queue_of(port)[1] - had for port, had in zip(self._flood.cluster.ports, self._drops, strict=True)]

    def sent(self) -> list[int]:
        return [each.total() - had for each, had in zip(self._flood.sent, self._sent, strict=True)]

    async def counted(self) -> list[Counter[str]]:
        after = await counters(self._flood.cluster)
        return [now - had for now, had in zip(after, self._before, strict=True)]

    def check_received(self, counted: list[Counter[str]]) -> None:
        """See that what was received is what was sent, what the nodes said, and some questions of the client.

        The nodes do not stop talking while they are asked, so it cannot be said to the last datagram.
        """
        received = sum(each["received"] for each in counted)
        others = sum(self.sent()) - sum(self.lost) + self._flood.relay.relayed - self._relayed
        assert -100 <= received - others <= 100 + 50 * (trio.current_time() - self._began)

    def check_reasons(self, counted: list[Counter[str]]) -> None:
        """See that all that was sent was dropped for what it is."""
        for sent, lost, each in zip(self.sent(), self.lost, counted, strict=True):
            assert sent - lost <= sum(each[reason] for reason in REASONS) <= sent


@asynccontextmanager
async def open_flood(directory: Path, key: str | None, seed: int) -> AsyncIterator[Flood]:
    """Start a cluster behind a relay, record what its nodes say, and see in the end that nothing has changed."""
    chance, ports = random.Random(seed), free_ports(SIZE)
    async with open_relay(ports, seed) as relay:
        relay.recording = True
        each = [{"PEERS": relay.peers_of(i)} for i in range(SIZE)]
        environment = {**TIMES, "CLUSTER_KEY": key or ""}
        async with Cluster(directory, SIZE, environment, each=each, ports=ports) as cluster:
            leader = await cluster.wait_leader()
            await trio.sleep(2)
            relay.recording = False
            pids = [cluster.process(i).pid for i in range(SIZE)]
            flood = Flood(cluster, relay, Hostile(chance, [data for _, _, data in relay.recorded], key), chance)
            yield flood
            flood.close_all()
            now = await cluster.statuses()
            assert {(n.status.term, n.status.leader) for n in now.nodes} == {(leader.status.term, leader.status.id)}
            assert [cluster.process(i).pid for i in range(SIZE) if cluster.process(i).poll() is None] == pids
            lines = [line for i in range(SIZE) for line in cluster.logs(i)]
            events = Counter(line["event"] for line in lines)
            assert (events["became leader"], events["stepped down"]) == (1, 0)
            assert not any("exception" in line for line in lines)


@pytest.mark.timeout(120 + DATAGRAMS // 200)
@pytest.mark.parametrize("key", [None, generate_key()], ids=["unsealed", "sealed"])
async def test_a_flood_changes_nothing(tmp_path: Path, key: str | None) -> None:
    seed = random.randrange(10**6)
    began = trio.current_time()
    async with open_flood(tmp_path, key, seed) as flood:
        cluster, hostile = flood.cluster, flood.hostile
        pids = [cluster.process(i).pid for i in range(SIZE)]

        # Enough for every table, buffer and cache to have been filled once.
        await flood.send(hostile.certain, DATAGRAMS // 5)
        await flood.send(hostile.uncertain, DATAGRAMS // 20)
        await flood.replay(DATAGRAMS // 20)
        await flood.rogue_numbers(key, DATAGRAMS // 20)
        warm = [resident(pid) for pid in pids]

        account = await Account(flood).open()
        await flood.send(hostile.certain, DATAGRAMS // 2)
        account.check_reasons(await account.counted())
        with flood.copies_first():
            await flood.send(hostile.uncertain, DATAGRAMS // 10)
            await flood.replay(DATAGRAMS // 10)
            await flood.rogue_numbers(key, DATAGRAMS // 10)
            await trio.sleep(3)
        for i in range(SIZE):
            await vote_as_a_client(cluster, i, key)
        counted = await account.counted()
        hot = [resident(pid) for pid in pids]

        dropped = sum(counted, Counter[str]())
        kinds = sum(flood.sent, Counter[str]())
        print(f"seed {seed}: {kinds.total()} datagrams in {trio.current_time() - began:.0f} s: {dict(kinds)}")
        print(f"dropped by the kernel: {account.lost}; by the nodes: {dict(sorted(dropped.items()))}")
        print(f"memory: {[size // 1024 for size in warm]} KiB, and then {[size // 1024 for size in hot]} KiB")
        account.check_received(counted)
        assert all(each["dropped_not_allowed"] == 1 for each in counted)
        assert kinds["copied first"] > 100
        assert rogue_dropped(dropped) > DATAGRAMS // 10 * 0.9
        if key is not None:
            assert dropped["dropped_replayed"] > DATAGRAMS // 20
        assert all(grown - had <= GROWTH_MAX for grown, had in zip(hot, warm, strict=True))
        flood.close_all()
        print(f"{flood.bytes_sent} bytes sent from unknown addresses, {flood.bytes_back} came back")
        assert flood.bytes_back <= flood.bytes_sent
