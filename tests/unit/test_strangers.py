"""Strangers that shake hands with a client or a node, and answer unasked, are not believed; over real sockets.

The strangers hold the same key as their victim, or none where nothing is sealed. Most are told every request by whom
it was sent to, at once, so that they can answer first.
"""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from structlog.testing import capture_logs

from tests.cluster.harness import free_ports
from tests.unit.node_double import SERVICE, make_status
from trioraft.address import Address
from trioraft.client.client import Client, open_client
from trioraft.datagrams.client_loop import ClientLoop
from trioraft.datagrams.endpoint import Domain, Endpoint, Event, Identity, Peer, PeerConfirmed, Received
from trioraft.datagrams.keys import KeyRing, derive_key, generate_key
from trioraft.datagrams.socket import UdpSocket, open_udp
from trioraft.messages import (
    AppendEntriesRequest,
    ClientRequest,
    ClientRequests,
    ClientResponse,
    Message,
    NodeStatus,
    ReadIndexRequest,
    ReadIndexResponse,
    Status,
    StatusRequest,
    format_id,
)
from trioraft.node.node import Node, open_node
from trioraft.settings.settings import ClientSettings, NodeSettings, PeerName

KEY = generate_key()
FIRST_OF, FIRST_CLIENT = "4b" * 32, "client:3343e0002d237b41a618bf7444f4f1894cea00918d20fb7f479d02bb55ec5443"
ANSWERS = 1000
AT_ONCE = 25
RIGHT, WRONG = b"right", b"wrong"
LEADER, FOLLOWER, STRANGER = 1, 2, 3


class Party:
    """A process that hands the messages it receives to `hear`, and can greet others."""

    def __init__(
        self, number: int, socket: UdpSocket, keys: KeyRing | None, *, process: bytes | None = None, cluster: int = 0
    ) -> None:
        self.number = number
        self.address = Address.of("127.0.0.1", socket.address.port)
        self.hear: Callable[[Peer, Message], None] = lambda peer, message: None
        self.peers: dict[bytes, Peer] = {}
        self.greeted = 0
        identity = Identity(number, SERVICE, f"party-{number}")
        self._make = partial(Endpoint, identity, keys, process_id=process, cluster_id=cluster)
        self.loop = ClientLoop(socket, self._make(), self._handle)

    @property
    def endpoint(self) -> Endpoint:
        return self.loop.endpoint

    def _handle(self, event: Event, now: float) -> None:
        match event:
            case PeerConfirmed(peer=peer):
                self.peers[peer.process] = peer
            case Received(peer=peer, message=ClientRequests(requests=requests)):
                for request in requests:
                    self.hear(peer, request)
            case Received(peer=peer, message=message):
                self.hear(peer, message)

    def send(self, peer: Peer, message: Message) -> None:
        self.endpoint.send(peer, message, trio.current_time())

    def tell_all(self, message: Message) -> None:
        for peer in self.peers.values():
            self.send(peer, message)
        self.loop.flush()

    async def greet(self, address: Address, domain: Domain, *, anew: bool = False) -> None:
        """Greet a process again and again, each time as another process if `anew`."""
        while True:
            if anew:
                self.loop.endpoint = self._make()
                self.peers.clear()
            self.endpoint.greet(address, domain, trio.current_time())
            self.loop.flush()
            self.greeted += 1
            await trio.sleep(0.02)


async def ask_often(ask: Callable[[], Awaitable[bytes]]) -> Counter[bytes]:
    """Ask a thousand times, some at once, and count the answers."""
    answers: Counter[bytes] = Counter()

    async def ask_some() -> None:
        for _ in range(ANSWERS // AT_ONCE):
            answers[await ask()] += 1

    with trio.fail_after(50):
        async with trio.open_nursery() as nursery:
            for _ in range(AT_ONCE):
                nursery.start_soon(ask_some)
    return answers


# --- a client -----------------------------------------------------------------------------------------------


class Cluster:
    """A leader that answers, and others that answer in its place."""

    def __init__(self, nursery: trio.Nursery, leader: Party, others: list[Party]) -> None:
        self.others = others
        self._nursery = nursery
        self._leader = leader
        leader.hear = self._hear

    def _hear(self, peer: Peer, message: Message) -> None:
        tell_status(self._leader, make_status(LEADER, role="leader", leader=format_id(LEADER)))(peer, message)
        if isinstance(message, ClientRequest):
            for other in self.others:
                other.tell_all(ClientResponse(message.request, done=True, data=WRONG, leader=other.number, term=9))
            self._nursery.start_soon(self._answer, peer, message)

    async def _answer(self, peer: Peer, request: ClientRequest) -> None:
        await trio.sleep(0.002)
        self._leader.send(peer, ClientResponse(request.request, done=True, data=RIGHT, leader=LEADER, term=4))
        self._leader.loop.flush()


def tell_status(party: Party, status: NodeStatus) -> Callable[[Peer, Message], None]:
    """Make what answers questions for a status."""

    def hear(peer: Peer, message: Message) -> None:
        if isinstance(message, StatusRequest):
            party.send(peer, Status(status))

    return hear


@asynccontextmanager
async def client_among_strangers(keys: tuple[str, str] | None) -> AsyncIterator[tuple[Client, Cluster]]:
    node_keys, client_keys = map(KeyRing.parse, keys) if keys else (None, None)
    async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
        sockets = [await open_udp("127.0.0.1", 0) for _ in range(6)]
        for socket in sockets:
            stack.callback(socket.close)
        leader, follower = Party(LEADER, sockets[0], node_keys), Party(FOLLOWER, sockets[1], node_keys)
        follower.hear = tell_status(follower, make_status(FOLLOWER, leader=format_id(LEADER)))
        same_node = Party(LEADER, sockets[2], client_keys)
        same_process = Party(LEADER, sockets[3], client_keys, process=leader.endpoint.process)
        third = Party(STRANGER, sockets[4], client_keys)
        claim = make_status(STRANGER, role="leader", leader=format_id(STRANGER), term=9)
        third.hear = tell_status(third, claim)
        parties = [leader, follower, same_node, same_process, third]
        settings = ClientSettings(
            app_name=SERVICE, peers=tuple(PeerName(*party.address) for party in parties[:2]), keys=client_keys
        )
        for party in parties:
            nursery.start_soon(party.loop.run)
        async with open_client(settings, Domain.CLIENT) as client:
            victim = Address.of("127.0.0.1", client._socket.address.port)
            await client.statuses()
            for party in (same_node, same_process, third):
                nursery.start_soon(party.greet, victim, Domain.CLIENT)
                party.hear = tell_status(party, claim)
            yield client, Cluster(nursery, leader, parties[1:])
            assert all(party.greeted > 5 for party in (same_node, same_process, third))
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "keys",
    [None, (KEY, derive_key(KEY, "client")), (FIRST_OF, FIRST_CLIENT)],
    ids=["unsealed", "sealed", "sealed with a key of the release before"],
)
async def test_a_client_accepts_answers_only_from_the_node_it_asked(keys: tuple[str, str] | None) -> None:
    async with client_among_strangers(keys) as (client, _):
        assert await ask_often(lambda: client.query(b"")) == {RIGHT: ANSWERS}
        assert set(client.nodes) == {format_id(LEADER), format_id(FOLLOWER)}
        leader = client.cluster().leader
    assert leader is not None
    assert leader.status.id == format_id(LEADER)


# --- a node -------------------------------------------------------------------------------------------------


class Sum:
    """Counts commands."""

    def __init__(self) -> None:
        self.count = 0

    def apply(self, command: bytes) -> bytes:
        self.count += 1
        return RIGHT

    def snapshot(self) -> Iterator[bytes]:
        yield b"%d" % self.count

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.count = int(b"".join(chunks))


@asynccontextmanager
async def three_nodes(directory: Path, keys: KeyRing | None) -> AsyncIterator[tuple[list[Node], list[Sum]]]:
    """Run three nodes, the leader first."""
    ports = free_ports(3)
    machines = [Sum() for _ in ports]
    async with AsyncExitStack() as stack:
        nodes = []
        for i, port in enumerate(ports):
            settings = NodeSettings(
                app_name=SERVICE,
                bind_host="127.0.0.1",
                bind_port=port,
                data_dir=directory / str(i),
                bootstrap_expect=3,
                peers=tuple(PeerName("127.0.0.1", each) for each in ports),
                keys=keys,
                autopilot="off",  # which would let a stranger in that has the key, or needs none
                election_timeout_lower=0.6,
                election_timeout_upper=1.2,
                heartbeat_repeat=0.1,
            )
            nodes.append(await stack.enter_async_context(open_node(settings, machines[i])))
        with trio.fail_after(20):
            while not any(node.leads_in for node in nodes) or any(node.status().leader is None for node in nodes):
                await trio.sleep(0.01)
        first = next(i for i, node in enumerate(nodes) if node.leads_in)
        yield nodes[first:] + nodes[:first], machines[first:] + machines[:first]


class Impostors:
    """Three strangers that answer, in the place of a leader, what it is asked and what they are asked."""

    def __init__(
        self, leader: Node, sockets: list[UdpSocket], keys: KeyRing | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.term = leader.leads_in
        self._leader = leader
        self._carry_out = leader._requests.receive
        cluster = int(leader.status().cluster_id or "", 16)
        self.same_node = Party(leader.id, sockets[0], keys, cluster=cluster)
        self.same_process = Party(leader.id, sockets[1], keys, cluster=cluster, process=leader._endpoint.process)
        self.third = Party(STRANGER, sockets[2], keys, cluster=cluster)
        for party in self.all:
            party.hear = partial(self._hear, party)
        monkeypatch.setattr(leader._requests, "receive", self._overhear)

    @property
    def all(self) -> tuple[Party, ...]:
        return self.same_node, self.same_process, self.third

    def _hear(self, party: Party, peer: Peer, message: Message) -> None:
        if isinstance(message, ClientRequest):
            party.tell_all(self._answer(message, self._leader.id))
        elif isinstance(message, ReadIndexRequest):
            party.send(peer, ReadIndexResponse(message.read, done=True, index=0))

    def _overhear(self, peer: Peer, request: ClientRequest) -> None:
        # One that copies a process's id, and speaks from elsewhere, may be that process: it has to hear the request.
        for party in (self.same_node, self.third):
            party.tell_all(self._answer(request, party.number))
        self._carry_out(peer, request)

    def _answer(self, request: ClientRequest, leader: int) -> ClientResponse:
        return ClientResponse(request.request, done=True, data=WRONG, leader=leader, term=self.term)


@pytest.mark.parametrize("key", [None, KEY], ids=["unsealed", "sealed"])
async def test_a_node_accepts_answers_only_from_the_node_it_asked(
    tmp_path: Path, key: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = None if key is None else KeyRing.parse(key)
    async with three_nodes(tmp_path, keys) as (nodes, machines), AsyncExitStack() as stack:
        leader, asking = nodes[:2]
        sockets = [await open_udp("127.0.0.1", 0) for _ in range(3)]
        for socket in sockets:
            stack.callback(socket.close)
        impostors = Impostors(leader, sockets, keys, monkeypatch)
        term = impostors.term
        victim = Address("127.0.0.1", asking._neighbours.bound.port)
        async with trio.open_nursery() as nursery:
            for party in impostors.all:
                nursery.start_soon(party.loop.run)
                nursery.start_soon(partial(party.greet, victim, Domain.CONSENSUS, anew=party is impostors.same_node))
            await trio.sleep(0.3)
            late = 0
            acknowledged = 0

            async def propose() -> bytes:
                nonlocal late, acknowledged
                result = await asking.propose(b"")
                acknowledged += 1
                if acknowledged % 20 == 0:
                    shown = acknowledged
                    await asking.read_barrier()
                    late += machines[1].count < shown
                    impostors.third.tell_all(AppendEntriesRequest(term + 1, 1, 0.0, 0, 0, 0))
                return result

            answers = await ask_often(propose)
            assert all(party.greeted > 5 for party in impostors.all)
            nursery.cancel_scope.cancel()
        assert (answers, late) == ({RIGHT: ANSWERS}, 0)
        assert [node.status().term for node in nodes] == [term] * 3, "nobody has deposed the leader"
        assert leader.leads_in == term


async def test_strangers_fill_neither_the_log_nor_the_status_of_a_node(tmp_path: Path) -> None:
    number = 60

    def written() -> int:
        return sum(line.get("peer_name", "").startswith("party") or line["event"] == "alert" for line in lines)

    def missing() -> int:
        return sum(line.get("lines", 0) for line in lines)

    with capture_logs() as lines:
        async with three_nodes(tmp_path, None) as (nodes, _), AsyncExitStack() as stack:
            node = nodes[0]
            cluster = int(node.status().cluster_id or "", 16)
            victim = Address("127.0.0.1", node._neighbours.bound.port)
            began = trio.current_time()
            async with trio.open_nursery() as nursery:
                for i in range(number):
                    socket = await open_udp("127.0.0.1", 0)
                    stack.callback(socket.close)
                    party = Party(100 + i, socket, None, cluster=cluster if i % 2 else 77)
                    nursery.start_soon(party.loop.run)
                    nursery.start_soon(party.greet, victim, Domain.CONSENSUS)
                with trio.fail_after(20):
                    while len(node._endpoint.peers) < number + 2:
                        await trio.sleep(0.01)
                    node._neighbours.alerts.raise_alert("disk", "what matters", node.now())
                    while missing() + written() < number * 3 // 2:  # a line for each, and an alert for every other
                        await trio.sleep(0.01)
                nursery.cancel_scope.cancel()
            seconds = trio.current_time() - began
            status = node.status()
            members = {str(Address("127.0.0.1", each._neighbours.bound.port)) for each in nodes[1:]}
    assert set(status.peers[:2]) == members
    assert len(status.peers) == 2 + 16
    assert status.alerts[0] == "what matters"
    assert written() <= 10 * (seconds + 2) + 1
    assert missing()
