"""Entries that are larger than a datagram, between real endpoints: with the real core, and on real sockets."""

import random

import trio

from tests.driving import member_around
from tests.unit.endpoint_network import CLUSTER
from tests.unit.slow_network import SlowNetwork
from trioraft.address import Address
from trioraft.consensus import Core, HardState, Role, Timing
from trioraft.consensus.hard import FormationState
from trioraft.consensus.log import Log
from trioraft.datagrams.client_loop import ClientLoop
from trioraft.datagrams.endpoint import Domain, Endpoint, Event, Identity, PeerConfirmed, Received
from trioraft.datagrams.keys import KeyRing
from trioraft.datagrams.socket import UdpSocket, open_udp
from trioraft.messages import AppendEntriesRequest, ConsensusMessage, Entry, EntryKind, Message
from trioraft.node.member import Member

MIB = 1024 * 1024
KEY = "4b" * 32
NEVER = float("inf")


class Cluster:
    """Three cores, each behind its endpoint, on a bad network."""

    def __init__(self, loss: float, seed: int) -> None:
        chance = random.Random(seed)
        self.network = SlowNetwork(chance=chance, on_event=self._handle)
        self.cores: dict[int, Core] = {}
        self.members: dict[int, Member] = {}
        self.endpoints: dict[int, Endpoint] = {}
        self.applied: dict[int, list[bytes]] = {1: [], 2: [], 3: []}
        formation = FormationState(cluster=CLUSTER, members=(1, 2, 3))
        addresses = {node: Address(f"192.0.2.{node}", 7300) for node in (1, 2, 3)}
        for node, address in addresses.items():
            self.endpoints[node] = self.network.add(address, node, KEY)
            self.cores[node] = Core(
                node,
                HardState(formation=formation),
                Log(),
                Timing(lower=1.0, upper=2.0, heartbeat=0.2),
                expect=3,
                random_source=chance,
                now=self.network.now,
            )
            self.members[node] = member_around(self.cores[node], lambda: self.network.now)
        for node, address in addresses.items():
            for other in range(node + 1, 4):
                self.network.shake_hands(address, addresses[other])
        self.network.flown.clear()
        self.network.loss = loss
        self.sent_bytes: dict[int, int] = {}

    def _handle(self, endpoint: Endpoint, event: Event) -> None:
        if isinstance(event, Received):
            assert isinstance(event.message, ConsensusMessage)
            member = self.members[endpoint.identity.node_id]
            member.take(event.peer.node_id, event.cluster_id, event.message, self.network.now)

    def live(self, seconds: float) -> None:
        """Advance the time in steps that the timers of the cores ask for; disks write at once."""
        end = self.network.now + seconds
        while self.network.now < end:
            wake_at = {node: self._settle(node, member) for node, member in self.members.items()}
            due = min([*wake_at.values(), self.network.next_time(), end])
            self.network.live(max(0.0, due - self.network.now))
            for node, member in self.members.items():
                if wake_at[node] <= self.network.now:
                    member.handle_timer(self.network.now)

    def _settle(self, node: int, member: Member) -> float:
        """Take turns until nothing is left to do, and return when there is something to do next."""
        while True:
            turn = member.turn(self.network.now)
            for receivers, message in turn.send:
                for to in receivers:
                    self._send(node, to, message)
            if turn.write is not None:
                member.persisted(turn.write.number, self.network.now)
            self.applied[node] += [entry.data for _, entry in turn.apply if entry.kind is EntryKind.COMMAND]
            member.apply(turn.apply)
            if not member.wants_turn:
                return turn.wake_at

    def _send(self, node: int, to: int, message: Message) -> None:
        peer = self.endpoints[node].peer(to)
        assert peer is not None
        if isinstance(message, AppendEntriesRequest):
            size = sum(len(entry.data) for entry in message.entries)
            self.sent_bytes[to] = self.sent_bytes.get(to, 0) + size
        self.endpoints[node].send(peer, message, self.network.now)

    def leader(self) -> Core:
        while not (leaders := [core for core in self.cores.values() if core.role is Role.LEADER]):
            self.live(0.1)
        return leaders[0]


def test_an_entry_of_a_mebibyte_is_committed_on_a_network_that_loses_every_tenth_datagram() -> None:
    for seed in range(3):
        cluster = Cluster(0.1, seed)
        leader = cluster.leader()
        cluster.live(1.0)
        data = random.Random(seed).randbytes(MIB)
        assert leader.propose(EntryKind.COMMAND, data, cluster.network.now) is not None
        start = cluster.network.now
        while not all(data in applied for applied in cluster.applied.values()):
            cluster.live(0.01)
            assert cluster.network.now - start < 2.0
        assert cluster.leader() is leader
        cluster.live(2.0)
        assert set(cluster.sent_bytes.values()) == {MIB}  # nobody was sent a second copy


def test_a_follower_that_was_away_does_not_get_copy_after_copy() -> None:
    cluster = Cluster(0.1, 1)
    leader = cluster.leader()
    away = next(node for node in cluster.cores if node != leader.id)
    address = Address(f"192.0.2.{away}", 7300)
    cluster.network.passes = lambda flight: address not in {flight.source, flight.target}
    for number in range(3):
        assert leader.propose(EntryKind.COMMAND, bytes([number]) * MIB, cluster.network.now) is not None
        cluster.live(2.0)
    cluster.live(20.0)
    while_away = cluster.sent_bytes[away]
    assert while_away <= 3 * MIB
    cluster.network.passes = lambda flight: True
    cluster.live(5.0)
    assert len(cluster.applied[away]) == 3
    assert cluster.sent_bytes[away] <= while_away + 6 * MIB


# --- on real sockets ----------------------------------------------------------------------------------------


class Process:
    """An endpoint on a socket."""

    def __init__(self, node: int, sock: UdpSocket) -> None:
        self.endpoint = Endpoint(Identity(node, "web", ""), KeyRing.parse(KEY), cluster_id=CLUSTER)
        self.endpoint.use_path_bytes(sock.path_bytes)
        self.loop = ClientLoop(sock, self.endpoint, self._handle)
        self.sock = sock
        self.received: list[ConsensusMessage] = []
        self.changed = trio.Event()

    def _handle(self, event: Event, now: float) -> None:
        if isinstance(event, Received):
            self.received.append(event.message)  # type: ignore[arg-type]
        if isinstance(event, Received | PeerConfirmed):
            self.changed.set()


async def _send_over_loopback(host: str, path_bytes: int | None) -> tuple[float, Process]:
    a, b = Process(1, await open_udp(host, 0)), Process(2, await open_udp(host, 0))
    if path_bytes is not None:
        a.endpoint.use_path_bytes(lambda address: path_bytes)
    message = AppendEntriesRequest(7, 1, 3.0, 1, 1, 1, (Entry(term=7, kind=EntryKind.COMMAND, data=bytes(MIB)),))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.loop.run)
        nursery.start_soon(b.loop.run)
        with trio.fail_after(20):
            a.endpoint.greet(b.sock.address, Domain.CONSENSUS, trio.current_time())
            a.loop.flush()
            await b.changed.wait()
            b.changed = trio.Event()
            peer = a.endpoint.peer(2)
            assert peer is not None
            start = trio.current_time()
            a.endpoint.send(peer, message, start)
            a.loop.flush()
            await b.changed.wait()
        seconds = trio.current_time() - start
        nursery.cancel_scope.cancel()
    assert b.received == [message]
    a.sock.close()
    b.sock.close()
    return seconds, a


async def test_a_mebibyte_crosses_loopback_in_few_large_datagrams() -> None:
    seconds, a = await _send_over_loopback("127.0.0.1", None)
    assert seconds < 2
    assert a.endpoint.counters["sent"] < 200


async def test_a_mebibyte_crosses_loopback_in_many_small_datagrams() -> None:
    seconds, a = await _send_over_loopback("127.0.0.1", 1200)
    assert seconds < 2
    assert a.endpoint.counters["sent"] > 900
