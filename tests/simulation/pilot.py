"""A process that follows its service: the real address book and autopilot, with DNS and sessions of the simulator."""

from typing import TYPE_CHECKING, Any, Final

import structlog

from tests.simulation.network import Greeting, Machine
from tests.simulation.trace import name
from trioraft.address import Address
from trioraft.consensus import Role
from trioraft.datagrams.endpoint import Domain, Peer
from trioraft.dns.discovery import Answer
from trioraft.members.autopilot import Declined
from trioraft.members.notes import Notes
from trioraft.members.steering import Steering
from trioraft.messages import AppendEntriesResponse
from trioraft.node.address_book import AddressBook, Alerts
from trioraft.settings.settings import NodeSettings
from trioraft.versions import Versions

if TYPE_CHECKING:
    from tests.simulation.host import Process
    from tests.simulation.service import Service

# For so many heartbeats a peer counts as reachable after it was heard, and so often it is looked whom to greet, in
# seconds at most; as a node does.
_PEER_LASTS: Final = 20
_GREETING_INTERVAL: Final = 1.0


class _Greeter:
    """Makes the greetings of a process."""

    def __init__(self, process: "Process") -> None:
        self._process = process

    def greet(self, address: Address, _domain: Domain, now: float) -> None:
        """Ask who is at an address."""
        process = self._process
        assert process.pilot is not None
        place = process.pilot.service.at(address)
        if place is process.host:
            process.pilot.reflected(address, now)
        elif place is not None:
            process.post(place, 0, Greeting(1, process.versions))


class Pilot:
    """Looks up the service, greets who is there, knows where they are, and changes the members while it leads."""

    def __init__(self, process: "Process") -> None:
        self.process = process
        self.world = process.world
        self.core = process.core
        self.peers: dict[int, Peer] = {}
        # node: when, in true time, its last answer to this leader came, and when that had been sent
        self.answered: dict[int, float] = {}
        self.said: dict[int, float] = {}
        self.led_since = float("-inf")  # in true time
        self.leaving = 0  # whom the leader is just asked to let leave
        self._book = AddressBook(_Greeter(process), Alerts(lambda _text, _minor: None))
        profile, timing = self.world.profile, process.timing
        self.pause: Final = min(_GREETING_INTERVAL, timing.heartbeat)
        self._settings = NodeSettings(
            dns_name="service",
            election_timeout_lower=timing.lower,
            election_timeout_upper=timing.upper,
            heartbeat_repeat=timing.heartbeat,
            min_voters=profile.min_voters,
            max_voters=profile.max_voters,
            dead_server=profile.dead_after,
        )
        log = structlog.wrap_logger(None, processors=[self._tell])
        self._steering = Steering(self.core, self._settings, self.peers.values, self._names, Notes(log))

    @property
    def service(self) -> "Service":
        """The service that is followed."""
        assert self.world.service is not None
        return self.world.service

    def _tell(self, _logger: object, _method: str, event: Any) -> Any:
        """Write what the autopilot says into the trace."""
        self.world.turn(f"{name(self.process.host.node)}: {event['event']}: {event['reason']}")
        raise structlog.DropEvent

    def _names(self) -> dict[int, str]:
        return {node: name(node) for node in (*self.peers, self.process.host.node)}

    # --- DNS ------------------------------------------------------------------------------------------------

    def look_up(self) -> None:
        """Ask DNS, again and again; an answer comes a little later, or when the process runs again."""
        process = self.process
        if process.host.process is not process:
            return
        loop, unit = self.world.loop, self.world.profile.unit
        loop.at(loop.now + 0.5 * unit * self.world.random.uniform(0.5, 1), self.look_up)
        if not process.paused:
            answer = self.service.dns.answer(process.host)
            loop.at(loop.now + 0.05 * unit * self.world.random.random(), process.call, self._discovered, answer)

    def _discovered(self, answer: Answer) -> None:
        now = self.process.clock()
        self._book.discovered(answer, now)
        self._greet(now)
        self._steering.discovered(answer, self._book.own, now)

    def reflected(self, address: Address, now: float) -> None:
        """Find that a greeting came back: this process is at that address."""
        self._book.is_own(address, now)

    # --- who is where ---------------------------------------------------------------------------------------

    def greet(self) -> None:
        """Greet whoever is due, and tell the core who is there."""
        self._greet(self.process.clock())

    def _greet(self, now: float) -> None:
        self._book.greet(now, pause=self.pause)
        lately = now - _PEER_LASTS * self._settings.heartbeat_repeat
        self.core.peers_changed(frozenset(node for node, peer in self.peers.items() if peer.heard_at > lately))

    def place_of(self, node: int) -> Machine | None:
        """Find which machine is at the address where a node was last met, if there is one."""
        peer = self.peers.get(node)
        return None if peer is None else self.service.at(peer.address)

    def confirmed(self, place: Machine, cluster: int, versions: Versions) -> None:
        """Meet a node at its address."""
        now = self.process.clock()
        address = self.service.address_of(place)
        label = name(place.node)
        self.peers[place.node] = Peer(
            place.node, b"", Domain.CONSENSUS, "service", label, address, cluster, now, now, versions
        )
        self._book.answered(address, now)

    def knows_otherwise(self, node: int, address: Address) -> bool:
        """Tell whether this process takes a node for being elsewhere, or another one for being where it is."""
        peer = self.peers.get(node)
        if peer is not None:
            return peer.address != address
        return any(other.address == address for other in self.peers.values())

    def hears(self, sender: int, cluster: int, message: object, sent: float) -> bool:
        """Note that a node is heard; one whose address is not confirmed is greeted first, and not listened to."""
        place, peer = self.world.place_of(sender), self.peers.get(sender)
        if place is not None and (peer is None or peer.address != self.service.address_of(place)):
            self.process.post(place, 0, Greeting(1, self.process.versions))
            return False
        if peer is None:
            return False
        peer.heard_at, peer.cluster_id = self.process.clock(), cluster
        if type(message) is AppendEntriesResponse and message.term == self.core.term:
            self.answered[sender] = self.world.loop.now
            self.said[sender] = max(sent, self.said.get(sender, sent))
        return True

    # --- the autopilot --------------------------------------------------------------------------------------

    def elected(self) -> None:
        """Note that this process leads from now on."""
        self.led_since = self.world.loop.now
        self.answered.clear()
        self.said.clear()

    def steer(self) -> None:
        """Make the next change, if there is one to make; a node may be struck then."""
        could = self.core.can_change_members
        self._steering.steer(self.process.clock())
        if could and not self.core.can_change_members:
            self.world.faults.tempt(self.process.host)

    def let_leave(self, node: int) -> Declined | None:
        """Let a member leave, as a leader that is asked for it."""
        now = self.process.clock()
        if self.core.can_change_members and node not in self.core.configuration.members:
            self.core.tell_departed(node, now)
            declined = None
        elif self.core.role is not Role.LEADER:
            declined = Declined("this node is not the leader", for_now=True)
        else:
            self.leaving = node
            declined = self._steering.let_leave(node, now)
        self.process.settle()
        self.leaving = 0
        return declined
