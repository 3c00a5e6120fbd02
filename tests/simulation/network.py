"""A virtual network: datagrams that are lost, repeated, late, out of order, or cut off."""

from typing import Final, Protocol

from msgspec import Struct

from tests.simulation.checks import ViolationError
from tests.simulation.loop import Loop
from tests.simulation.trace import Trace
from trioraft.versions import SPOKEN, Versions


class Machine(Protocol):
    """Where datagrams come from and go to."""

    @property
    def index(self) -> int:
        """Its place among all machines."""

    @property
    def node(self) -> int:
        """The node that is there."""

    def arrive(self, receiver: int, sender: int, cluster: int, message: object, sent: float) -> None:
        """Take a message."""


class Weather(Struct, frozen=True):
    """What the network does to each datagram: probabilities, and seconds."""

    loss: float = 0.0
    duplicate: float = 0.0
    slow: float = 0.0  # how many are held up
    delay: float = 0.001  # the mean of all others
    held_up: float = 0.1  # the mean of those


class Greeting(Struct, frozen=True):
    """What a session layer says: who is there, and that the other's greeting was heard."""

    step: int  # 1 asks, 2 answers and asks, 3 answers
    versions: Versions = SPOKEN


class Network:
    """Carries messages between hosts."""

    def __init__(self, loop: Loop, trace: Trace, hosts: int, clients: int, unit: float, commands: float) -> None:
        self.loop = loop
        self.trace = trace
        self.weather = Weather()
        # how many reasons there are that nothing passes from one host to another, or a client
        self.blocked: Final = [[0] * (hosts + clients) for _ in range(hosts + clients)]
        self.sent = 0
        self.unit = unit
        # how many are too many in a lower election timeout, when they were last counted, and when they are again
        self.most = 1000 + 200 * (hosts * (hosts - 1) + clients) + int(60 * hosts * commands)
        self.counted_at = 0.0
        self.allowed = self.most
        self.lost = 0
        self.duplicated = 0
        self.held_up = 0
        self.cut_off = 0

    def send(self, source: Machine, target: Machine, receiver: int, cluster: int, message: object) -> None:
        """Carry a message, or not."""
        loop = self.loop
        now = loop.now
        weather = self.weather
        chance = loop.random.random
        self.sent += 1
        if self.sent > self.allowed:
            self._check_storm(now)
        if self.blocked[source.index][target.index]:
            self.cut_off += 1
            self.trace.message(now, now, source.node, receiver, message, "cut off")
            return
        luck = chance() - weather.loss
        if luck < 0:
            self.lost += 1
            self.trace.message(now, now, source.node, receiver, message, "lost")
            return
        arrival = now + weather.delay * (0.5 + chance())
        if luck < weather.slow:
            self.held_up += 1
            arrival += loop.random.expovariate(1 / weather.held_up)
        elif luck < weather.slow + weather.duplicate:
            self.duplicated += 1
            again = arrival + loop.random.expovariate(1 / weather.held_up)
            loop.at(again, target.arrive, receiver, source.node, cluster, message, now)
        loop.at(arrival, target.arrive, receiver, source.node, cluster, message, now)

    def _check_storm(self, now: float) -> None:
        """Check that nodes do not answer one another without end."""
        if now - self.counted_at < self.unit:
            raise ViolationError(f"{self.most} datagrams in {now - self.counted_at:.6f} s")
        self.counted_at = now
        self.allowed = self.sent + self.most

    def block(self, source: int, target: int) -> None:
        """Let nothing pass from one host to another any more."""
        self.blocked[source][target] += 1

    def unblock(self, source: int, target: int) -> None:
        """Take one reason away that nothing passes."""
        if self.blocked[source][target]:
            self.blocked[source][target] -= 1

    def heal(self) -> None:
        """Let everything pass."""
        for row in self.blocked:
            row[:] = [0] * len(row)
