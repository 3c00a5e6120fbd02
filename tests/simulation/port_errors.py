"""Errors of the network: a machine without a process says so, and others say what is not true."""

from collections import deque
from typing import TYPE_CHECKING

from trioraft.datagrams.evidence import Evidence, PortError

if TYPE_CHECKING:
    from tests.simulation.faults import Faults
    from tests.simulation.host import Host, Process

_QUOTES = 50


def quote(sender: int, receiver: int, message: object, sent: float) -> bytes:
    """Make what stands for the bytes of a datagram."""
    return f"{sender} {receiver} {type(message).__name__} {sent!r}".encode()


def refuse(host: "Host", sender: int, receiver: int, message: object, sent: float) -> None:
    """Let a machine on which no process runs answer a datagram with an error, as its kernel may do."""
    world = host.world
    source = world.host_of(sender)
    if source is None or not receiver or world.random.random() >= world.profile.errors:
        return
    error = PortError(host.address, host.address.host, quote(sender, receiver, message, sent))
    deliver(host, source, error)


def deliver(host: "Host", source: "Host", error: PortError) -> None:
    """Carry an error from one machine to another as the network carries anything: late, twice or not at all."""
    world, weather = host.world, host.world.network.weather
    if world.network.blocked[host.index][source.index] or world.random.random() < weather.loss:
        return
    for _ in range(1 + (world.random.random() < weather.duplicate)):
        pause = weather.delay * (0.5 + world.random.random())
        if world.random.random() < weather.slow:
            pause += world.random.expovariate(1 / weather.held_up)
        world.loop.at(world.loop.now + pause, source.hear_error, error)


class Reports:
    """The errors that one process hears, and what it makes of them."""

    def __init__(self, process: "Process") -> None:
        self.process = process
        self.evidence = Evidence()
        self.quotes: deque[tuple[bytes, Host]] = deque(maxlen=_QUOTES)  # what the leader was sent, answered or not
        self.heard_at: dict[int, float] = {}
        self.gone: dict[int, int] = {}  # who is believed to be gone and was not heard since; the term then

    def sent(self, target: "Host", to: int, message: object) -> None:
        """Note what is sent to the leader."""
        if to == self.evidence.node:
            world = self.process.world
            datagram = quote(self.process.host.node, to, message, world.loop.now)
            self.evidence.unheard.append((datagram, target.address))
            self.quotes.append((datagram, target))

    def heard(self, sender: int) -> None:
        """Note that another node was heard."""
        self.heard_at[sender] = self.process.world.loop.now
        if self.gone.get(sender) == self.process.core.term:  # else a vote may have been given, and is repeated
            del self.gone[sender]
        if sender == self.evidence.node:
            self.evidence.unheard.clear()

    def look(self) -> None:
        """Watch the leader that was promised something last."""
        promised_to = self.process.core.promised_to
        if max(self.evidence.node, 0) != promised_to:
            self.evidence.watch(promised_to)

    def hear(self, error: PortError) -> None:
        """Take an error from anybody; one that is believed must be true."""
        process, world, node = self.process, self.process.world, self.evidence.node
        if not self.evidence.proves_gone(error):
            return
        world.count["errors believed"] += 1
        world.turn(f"{process.host.node} has an error of the port of {node}")
        world.checks.error_believed(node, self.heard_at.get(node, 0.0))
        self.believe(node)

    def believe(self, node: int) -> None:
        """Tell the core that the port of a node is gone."""
        self.gone.setdefault(node, self.process.core.term)
        self.process.core.port_gone(node, self.process.clock())
        self.process.settle()


def forge(faults: "Faults", host: "Host") -> bool:
    """Send a node an error about its leader that is wrong: in its quote, in its offender, or out of date.

    Where the network lies, the node is told what no error can tell it: that its leader is gone.
    """
    world, process = faults.world, host.process
    if process is None or process.paused or process.reports.evidence.node < 0:
        return False
    reports, chance = process.reports, world.random
    target = world.host_of(reports.evidence.node)
    if target is None:
        return False
    if world.profile.lies:
        reports.believe(reports.evidence.node)
        return True
    former = [
        datagram for datagram, _ in reports.quotes if (datagram, target.address) not in reports.evidence.unheard
    ]
    unheard = [datagram for datagram, _ in reports.evidence.unheard]
    other = chance.choice([each for each in world.hosts if each is not target] or [target])
    errors = [PortError(target.address, target.address.host, b"forged")]
    if former:
        errors.append(PortError(target.address, target.address.host, chance.choice(former)))
    if unheard and other is not target:
        errors.append(PortError(target.address, other.address.host, chance.choice(unheard)))
        errors.append(PortError(other.address, other.address.host, chance.choice(unheard)))
    host.hear_error(chance.choice(errors))
    return True
