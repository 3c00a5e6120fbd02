"""How stale the view of a client that observes a cluster is at most, counted over many random lives.

In a life, nodes stop, start again as themselves or as others, lose their membership, and change or swap their
addresses, at any moment, and take addresses that others had before. Each is a real endpoint in a network in memory.
The full version is::

    TRIORAFT_OBSERVER_LIVES=1000 python -m pytest tests/unit/test_observer_lives.py
"""

import os
import random
from typing import Final

import msgspec
import trio
import trio.testing

from tests.unit.memory_client import memory_client
from tests.unit.memory_world import MemoryNetwork
from tests.unit.node_double import make_status
from trioraft.address import Address
from trioraft.client.client import Client
from trioraft.datagrams.endpoint import Endpoint, Identity, Peer, Received
from trioraft.messages import MemberStatus, Status, StatusRequest, format_id

REFRESH: Final = 1.0
LIVES: Final = int(os.environ.get("TRIORAFT_OBSERVER_LIVES", "200"))
CHANGES: Final = 3
STALE_MAX: Final = 6 * REFRESH  # as monitor/README.md says

LISTED: Final = [Address("127.0.0.1", 7300 + i) for i in range(3)]  # where the client looks
OTHERS: Final = [Address("127.0.0.1", 7400 + i) for i in range(3)]  # known only from nodes that name them


class Node:
    """One process of a node, at an address of the network or, for a moment, at none."""

    def __init__(self, network: MemoryNetwork, number: int, name: str, chance: random.Random) -> None:
        self.id = format_id(number)
        self.name = name
        self.address: Address | None = None
        self.joins = chance.random() < 0.8  # others are not let in, so that nobody names them
        self.status = make_status(number, name=name, service="trioraft")
        self._network = network
        self._endpoint = Endpoint(Identity(number, "trioraft", name), None, entropy=chance.randbytes)
        self._listeners: dict[bytes, Peer] = {}

    def move(self, address: Address | None) -> None:
        if self.address is not None:
            del self._network.sockets[self.address]
        self.address = address
        if address is not None:
            self._network.sockets[address] = self  # type: ignore[assignment] # all that the network needs is arrive

    def arrive(self, data: bytes, source: Address) -> None:
        now = trio.current_time()
        match self._endpoint.receive_datagram_untrusted(data, source, now):
            case Received(peer=peer, message=StatusRequest()):
                self._listeners[peer.process] = peer
                self._endpoint.send(peer, Status(self.status), now)
        self._flush()

    def tell(self, **facts: object) -> None:
        """Change the status, and push it where nodes do."""
        before, self.status = self.status, msgspec.structs.replace(self.status, **facts)
        if any(getattr(before, name) != getattr(self.status, name) for name in ("role", "term", "leader")):
            for peer in self._listeners.values():
                self._endpoint.send(peer, Status(self.status), trio.current_time())
            self._flush()

    def _flush(self) -> None:
        for data, address in self._endpoint.datagrams_to_send():
            if self.address is not None:
                self._network.carry(data, self.address, address)


class Door:
    """One of several addresses of a node, which answers where it was asked."""

    def __init__(self, node: Node, address: Address) -> None:
        self._node = node
        self._address = address

    def arrive(self, data: bytes, source: Address) -> None:
        self._node.address = self._address
        self._node.arrive(data, source)


class Life:
    """Three nodes, what happens to them, and what they know of each other."""

    def __init__(self, network: MemoryNetwork, chance: random.Random) -> None:
        self.changed_at = trio.current_time()
        self.log: list[str] = []
        self._network = network
        self._chance = chance
        self._last_number = 0
        self._term = 1
        self._known: dict[str, Address] = {}  # the members, by id, and where they were last
        self.nodes = [self._make(f"node-{i + 1}") for i in range(3)]
        for node in self.nodes:
            self._place(node)

    def _make(self, name: str, number: int | None = None) -> Node:
        self._last_number += 1
        return Node(self._network, number or self._last_number, name, self._chance)

    @property
    def running(self) -> list[Node]:
        return [node for node in self.nodes if node.address is not None]

    def _place(self, node: Node, before: Address | None = None) -> None:
        """Make a node at a free address; one is always where the client looks."""
        free = [address for address in (*LISTED, *OTHERS) if address not in self._network.sockets]
        others = {other.address for other in self.running if other is not node}
        if not others & {*LISTED}:
            free = [address for address in free if address in LISTED]
        there = before if before in free and self._chance.random() < 0.5 else self._chance.choice(free)
        node.move(there)

    async def change(self) -> None:
        """Change something about one or two of the nodes."""
        what = self._chance.choice((self._stop, self._restart, self._restart, self._move, self._swap, self._remove))
        await what(self._chance.randrange(3))
        self.changed_at = trio.current_time()
        nodes = [(node.id[-2:], node.joins, str(node.address)) for node in self.nodes]
        self.log.append(f"{self.changed_at:.1f} {what.__name__} {nodes}")

    async def _stop(self, i: int) -> None:
        if len(self.running) > 1:
            self.nodes[i].move(None)
            if not {node.address for node in self.running} & {*LISTED}:
                self._place(self.running[0])
        await trio.lowlevel.checkpoint()

    async def _restart(self, i: int) -> None:
        former = self.nodes[i]
        before = former.address
        former.move(None)
        await trio.sleep(self._chance.choice((0.0, self._chance.uniform(0, 3 * REFRESH))))
        self.nodes[i] = self._make(former.name, int(former.id, 16) if self._chance.random() < 0.5 else None)
        self._place(self.nodes[i], before)

    async def _move(self, i: int) -> None:
        if self.nodes[i].address is not None:
            self.nodes[i].move(None)
            self._place(self.nodes[i])
        await trio.lowlevel.checkpoint()

    async def _swap(self, i: int) -> None:
        one, other = self.nodes[i], self.nodes[i - 1]
        here, there = one.address, other.address
        one.move(None)
        other.move(here)
        one.move(there)
        await trio.lowlevel.checkpoint()

    async def _remove(self, i: int) -> None:
        self._known.pop(self.nodes[i].id, None)
        await trio.lowlevel.checkpoint()

    async def learn(self) -> None:
        """Find each other, elect a leader, and add and remove members, as nodes do in a moment."""
        leader: Node | None = None
        while True:
            await trio.sleep(self._chance.uniform(0, REFRESH))
            before = {**self._known}
            for node in self.running:
                if node.id in self._known or (node.joins and self._chance.random() < 0.3):
                    self._known[node.id] = node.address or LISTED[0]
            present = {node.id for node in self.nodes}
            self._known = {
                one: known for one, known in self._known.items() if one in present or self._chance.random() < 0.7
            }
            if self._known != before:
                self.changed_at = trio.current_time()
            members = [node for node in self.running if node.id in self._known]
            if leader not in members:
                leader = members[0] if members else None
                self._term += 1
            listed = tuple(MemberStatus(one, "", "voter", None) for one in self._known)
            for node in self.running:
                others = tuple(str(where) for one, where in self._known.items() if one != node.id)
                node.tell(
                    role="leader" if node is leader else "follower",
                    leader=leader.id if leader else None,
                    term=self._term,
                    peers=others if node in members else (),
                    members=listed if node in members else (),
                )

    def is_shown_by(self, client: Client) -> bool:
        """Check whether a client sees which nodes run and where, and of the others the members at most."""
        nodes = client.cluster().nodes
        reachable = {(node.status.id, node.address) for node in nodes if node.reachable}
        silent = {node.status.id for node in nodes if not node.reachable}
        running = {(node.id, node.address) for node in self.nodes if node.address is not None}
        found = {(one, where) for one, where in running if where in LISTED}
        if members := any(one in self._known for one, _ in found):  # these name each other, and one leads
            found |= running & {*self._known.items()}
        may_be_silent = {*self._known} if members else silent
        can_be_asked = {format_id(number) for number in client.reachable_nodes()}
        there = {one for one, _ in found}
        return found <= reachable <= running and there <= can_be_asked and silent <= may_be_silent - there


async def staleness(seed: int) -> float:
    """Live once, and tell for how long after the last change the client's view was not what is true."""
    chance = random.Random(seed)
    async with trio.open_nursery() as nursery:
        network = MemoryNetwork(nursery, chance)
        network.loss = chance.choice((0.0, 0.0, 0.05))
        life = Life(network, chance)
        nursery.start_soon(life.learn)
        async with memory_client(network, LISTED) as client:
            await client.observe(REFRESH)
            for _ in range(CHANGES):
                await trio.sleep(chance.choice((chance.uniform(0, 2 * REFRESH), chance.uniform(0, 5 * REFRESH))))
                await life.change()
            stale = 0.0
            with trio.move_on_after(100 * REFRESH):
                right_since = None
                while right_since is None or trio.current_time() < right_since + 2 * REFRESH:
                    if life.is_shown_by(client):
                        right_since = right_since or trio.current_time()
                    else:
                        right_since, stale = None, trio.current_time() - life.changed_at
                    await trio.sleep(0.1 * REFRESH)
        if stale > STALE_MAX:
            seen = [(node.status.id[-2:], str(node.address), node.reachable) for node in client.cluster().nodes]
            print(f"seed {seed}: stale for {stale:.1f} s", *life.log, f"seen: {seen}", sep="\n")
        nursery.cancel_scope.cancel()
    return stale


async def test_a_view_is_stale_for_a_few_refresh_intervals_at_most(autojump_clock: trio.testing.MockClock) -> None:
    stale = sorted([await staleness(seed) for seed in range(LIVES)])
    print(f"stale for {stale[-1]:.2f} s at most, {stale[LIVES // 2]:.2f} s in the median")
    assert stale[-1] <= STALE_MAX


async def test_a_node_with_two_addresses_is_shown_at_one_of_them(autojump_clock: trio.testing.MockClock) -> None:
    chance = random.Random(1)
    async with trio.open_nursery() as nursery:
        network = MemoryNetwork(nursery, chance)
        node = Node(network, 1, "node-1", chance)
        for address in LISTED[:2]:
            network.sockets[address] = Door(node, address)  # type: ignore[assignment]
        async with memory_client(network, LISTED[:2]) as client:
            await client.observe(REFRESH)
            await trio.sleep(3 * REFRESH)
            (first,) = client.cluster().nodes
            for _ in range(300):
                await trio.sleep(0.1 * REFRESH)
                (now,) = client.cluster().nodes
                assert now.reachable
                assert now.address == first.address
            del network.sockets[first.address]
            await trio.sleep(STALE_MAX)
            (now,) = client.cluster().nodes
            assert now.reachable
            assert now.address != first.address
        nursery.cancel_scope.cancel()
