"""Endpoints that exchange datagrams in memory, on a clock that the test sets."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from trioraft.address import Address
from trioraft.datagrams.endpoint import Domain, Endpoint, Event, Identity, Peer, PeerConfirmed, Received
from trioraft.datagrams.keys import KeyRing
from trioraft.messages import AppendEntriesRequest

KEY = "4b" * 32
CLUSTER = 0x3333333333333333
ONE, TWO, THREE = 0x1111111111111111, 0x2222222222222222, 0x4444444444444444
A, B, C = Address("192.0.2.1", 7300), Address("192.0.2.2", 7300), Address("2001:db8::3", 7300)
both_modes = pytest.mark.parametrize("keys", [None, KEY], ids=["unsealed", "sealed"])
HEARTBEAT = AppendEntriesRequest(7, 42, 3.25, 12, 6, 12)


@dataclass(frozen=True)
class Flight:
    """A datagram on its way."""

    data: bytes
    source: Address
    target: Address


@dataclass
class Network:
    """Delivers everything at once, unless `passes` says no; remembers all of it."""

    now: float = 1000.0
    at: dict[Address, Endpoint] = field(default_factory=dict)
    flown: list[Flight] = field(default_factory=list)
    events: list[tuple[Endpoint, Event]] = field(default_factory=list)
    passes: Callable[[Flight], bool] = lambda flight: True
    entropy: random.Random = field(default_factory=lambda: random.Random(1))

    def add(
        self,
        address: Address,
        node_id: int,
        keys: str | None = KEY,
        *,
        service: str = "web",
        name: str = "",
        cluster_id: int = CLUSTER,
    ) -> Endpoint:
        endpoint = Endpoint(
            Identity(node_id, service, name or f"name-{node_id:x}"[:8]),
            KeyRing.parse(keys) if keys else None,
            entropy=self.entropy.randbytes,
            cluster_id=cluster_id,
        )
        self.at[address] = endpoint
        return endpoint

    def run(self) -> list[Event]:
        """Deliver until nothing is on its way any more, and return the new events."""
        before = len(self.events)
        for _ in range(200):
            flights = self.collect()
            if not flights:
                return [event for _, event in self.events[before:]]
            for flight in flights:
                if self.passes(flight):
                    self.deliver(flight)
        raise AssertionError("the endpoints never stop talking")

    def collect(self) -> list[Flight]:
        flights = [
            Flight(data, source, target)
            for source, endpoint in list(self.at.items())
            for data, target in endpoint.datagrams_to_send()
        ]
        self.flown += flights
        return flights

    def deliver(self, flight: Flight) -> Event | None:
        endpoint = self.at.get(flight.target)
        if endpoint is None:
            return None
        event = endpoint.receive_datagram_untrusted(flight.data, flight.source, self.now)
        if event is not None:
            self.events.append((endpoint, event))
        return event

    def shake_hands(self, a: Address, b: Address, domain: Domain = Domain.CONSENSUS) -> tuple[Peer, Peer]:
        """Greet `b` from `a`, and return the peer that each has of the other, first that of `a`."""
        before = len(self.events)
        self.at[a].greet(b, domain, self.now)
        self.run()
        confirmed = {
            id(endpoint): event.peer for endpoint, event in self.events[before:] if isinstance(event, PeerConfirmed)
        }
        return confirmed[id(self.at[a])], confirmed[id(self.at[b])]


def received(network: Network, endpoint: Endpoint) -> list[object]:
    return [e.message for who, e in network.events if who is endpoint and isinstance(e, Received)]


def pair(keys: str | None) -> tuple[Network, Endpoint, Endpoint]:
    network = Network()
    return network, network.add(A, ONE, keys), network.add(B, TWO, keys)
