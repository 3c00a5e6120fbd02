"""Endpoints on a network that takes its time, loses, reorders, repeats and refuses; on a clock of its own."""

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.unit.endpoint_network import Flight, Network
from trioraft.datagrams.endpoint import Endpoint, Event

NEVER = float("inf")


@dataclass
class SlowNetwork(Network):
    """Carries every datagram by itself.

    `loss` and `duplication` are chances, `delay` and `jitter` seconds; `datagram_max` is what goes through.
    """

    loss: float = 0.0
    duplication: float = 0.0
    delay: float = 0.005
    jitter: float = 0.0
    datagram_max: int = 65507
    chance: random.Random = field(default_factory=lambda: random.Random(1))
    carried: int = 0
    carried_bytes: int = 0
    on_event: Callable[[Endpoint, Event], None] = lambda endpoint, event: None
    _under_way: list[tuple[float, int, Flight]] = field(default_factory=list)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def depart(self) -> None:
        """Take the datagrams that the endpoints have ready."""
        for flight in self.collect():
            self.flown.clear()
            self.carried += 1
            self.carried_bytes += len(flight.data)
            if len(flight.data) > self.datagram_max:
                continue
            for _ in range(1 + (self.chance.random() < self.duplication)):
                if self.chance.random() >= self.loss and self.passes(flight):
                    arrival = self.now + self.delay + self.chance.uniform(0, self.jitter)
                    heapq.heappush(self._under_way, (arrival, next(self._numbers), flight))

    def arrive(self) -> None:
        """Deliver what arrives until now, all of it at one wake-up of each endpoint."""
        while self._under_way and self._under_way[0][0] <= self.now:
            _, _, flight = heapq.heappop(self._under_way)
            before = len(self.events)
            self.deliver(flight)
            target = self.at[flight.target]
            self.events += [(target, event) for event in target.further_events()]
            for endpoint, event in self.events[before:]:
                self.on_event(endpoint, event)

    def next_time(self) -> float:
        arrival = self._under_way[0][0] if self._under_way else NEVER
        return min(arrival, *(endpoint.next_deadline() for endpoint in self.at.values()))

    def live(self, seconds: float, until: Callable[[], bool] = lambda: False) -> float:
        """Advance the time until `until` is true, within a bound, and return how much has passed."""
        start = self.now
        self.depart()
        while not until():
            next_time = self.next_time()
            if next_time > start + seconds:
                self.now = start + seconds
                break
            self.now = max(self.now, next_time)
            self.arrive()
            for endpoint in self.at.values():
                endpoint.handle_timer(self.now)
            self.depart()
        return self.now - start
