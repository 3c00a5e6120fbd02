"""The service: replicas that come, move, are replaced, leave and go, and the members that are to follow them."""

import random
from typing import TYPE_CHECKING, Final

from tests.simulation.dns import Dns
from tests.simulation.network import Greeting, Machine
from tests.simulation.pilot_checks import PilotChecks
from tests.simulation.trace import name
from tests.simulation.upkeep import Operator
from trioraft.address import Address
from trioraft.consensus import HardState, Role
from trioraft.consensus.configuration import Configuration
from trioraft.consensus.hard import FormationState
from trioraft.messages import AppendEntriesRequest

if TYPE_CHECKING:
    from tests.simulation.faults import Faults
    from tests.simulation.host import Host, Process
    from tests.simulation.simulation import Simulation

_OTHER_CLUSTER: Final = 0xF0 << 56
_OTHER_NODE: Final = 900
_FIRST_GHOST: Final = 1000
# How likely ghosts come, how many in one go, and how often.
_HAUNTED: Final = 0.4
_GHOSTS: Final = 12
_HAUNTINGS: Final = 3
# How long a replica that stops asks to leave, and how soon it asks again, in lower election timeouts.
_LEAVING_PATIENCE: Final = 3.0
_ASK_AGAIN: Final = 0.15


class Stranger:
    """A node of another cluster, at an address that DNS may bring in; it answers greetings, and nothing else."""

    def __init__(self, world: "Simulation", index: int) -> None:
        self.world = world
        self.index = index
        self.node = _OTHER_NODE
        self.address = Address("10.9.0.1", 7300)

    def arrive(self, _receiver: int, sender: int, _cluster: int, message: object, _sent: float) -> None:
        """Answer a greeting."""
        place = self.world.place_of(sender)
        if type(message) is AppendEntriesRequest:
            self.world.checks.fail(f"{name(sender)} leads a node of another cluster")
        if type(message) is Greeting and message.step < 3 and place is not None:
            greeting = Greeting(message.step + 1, message.versions)
            self.world.network.send(self, place, sender, _OTHER_CLUSTER, greeting)


class Ghost:
    """What somebody makes up: nodes that say that they are of the service, under ever new ids, and do nothing."""

    def __init__(self, world: "Simulation", index: int) -> None:
        self.world = world
        self.index = index
        self.node = _FIRST_GHOST
        self.address = Address("10.9.0.3", 7300)

    def arrive(self, _receiver: int, sender: int, _cluster: int, message: object, _sent: float) -> None:
        """Answer a greeting as a node without a cluster."""
        place = self.world.place_of(sender)
        if type(message) is Greeting and message.step < 3 and place is not None:
            self.world.network.send(self, place, sender, 0, Greeting(message.step + 1, message.versions))

    def haunt(self, times: int) -> None:
        """Greet everybody, as another node each time."""
        self.node += 1
        self.world.count["ghosts"] += 1
        for host in self.world.hosts:
            self.world.network.send(self, host, host.node, 0, Greeting(1))
        if times > 1:
            self.world.faults.after(0.3 * self.world.profile.unit, self._again, times - 1)

    def _again(self, times: int) -> None:
        if not self.world.faults.over:
            self.haunt(times)


class Service(Operator):
    """Looks after the replicas, and leaves the members to the autopilot."""

    def __init__(self, faults: "Faults") -> None:
        super().__init__(faults)
        world, profile = self.world, self.world.profile
        self.random = world.random
        self.dns = Dns(self)
        self.checks = PilotChecks(self)
        self.originals = profile.nodes - profile.spares
        for host in world.hosts[self.originals :]:
            host.is_there = False
        self.stranger = Stranger(world, profile.nodes)
        self.ghost = Ghost(world, profile.nodes + 1)
        # At the second one there is no node at all that would answer: it is of another service.
        self.other_addresses = [self.stranger.address, Address("10.9.0.2", 7300)]
        self.listing: dict[int, tuple[Address, float]] = {}  # node: where DNS has it in truth, and since when
        self.stopping: dict[int, Process] = {}  # machine: the process that is told to stop
        self._declined: set[Process] = set()
        self._newest_address = profile.nodes
        self.kinds: Final = {
            "scale up": self._scale_up,
            "scale down": self._scale_down,
            "replace": self._replace,
            "move": self._move,
            "leave": self._leave,
            "hide": self._hide,
            "dns": self._mislead,
            "forsake": self._forsake,
        }

    # --- which addresses there are --------------------------------------------------------------------------

    def listed(self) -> None:
        """Let DNS know, in truth, which replicas there are."""
        now = self.world.loop.now
        there = [host for host in self.world.hosts if self._is_listed(host)]
        self.listing = {
            host.node: self.listing[host.node]
            if self.listing.get(host.node, (None, 0.0))[0] == host.address
            else (host.address, now)
            for host in there
        }
        self.dns.changed(frozenset(host.address for host in there))

    def _is_listed(self, host: "Host") -> bool:
        return host.is_there and not host.is_hidden and (host.process is not None or self.world.profile.lingers)

    def at(self, address: Address) -> "Machine | None":
        """Find the machine at an address."""
        for other in (self.stranger, self.ghost):
            if address == other.address:
                return other
        return next((host for host in self.world.hosts if host.is_there and host.address == address), None)

    def address_of(self, place: Machine) -> Address:
        """Tell where a machine is."""
        for other in (self.stranger, self.ghost):
            if place is other:
                return other.address
        return self.world.hosts[place.index].address

    def place_of(self, node: int) -> Machine | None:
        """Find what is no replica, and has a node's id now."""
        return next((other for other in (self.stranger, self.ghost) if other.node == node), None)

    def begin(self) -> None:
        """Let ghosts come in some lives; the others are as if there were none."""
        chance = random.Random(self.world.seed)
        if chance.random() < _HAUNTED:
            for _ in range(_HAUNTINGS):
                self.faults.after(self.unit * chance.uniform(3, 60), self._haunt)

    def _haunt(self) -> None:
        if not self.faults.over:
            self.world.turn("ghosts come")
            self.ghost.haunt(_GHOSTS)

    @staticmethod
    def is_ghost(node: int) -> bool:
        """Tell whether somebody made a node up."""
        return node > _FIRST_GHOST

    def _new_address(self) -> Address:
        """Give an address that nobody has: a new one, or one that somebody had."""
        taken = {host.address for host in self.world.hosts if host.is_there}
        before = [Address(f"10.0.0.{number}", 7300) for number in range(1, self._newest_address + 1)]
        free = [address for address in before if address not in taken]
        if free and self.random.random() < 0.5:
            return self.random.choice(free)
        self._newest_address += 1
        return Address(f"10.0.0.{self._newest_address}", 7300)

    def expects(self, host: "Host") -> bool:
        """Tell whether a node may form a cluster: those that come later only join."""
        return host.node <= self.originals

    # --- replicas come and go -------------------------------------------------------------------------------

    def _scale_up(self, _: "Host") -> bool:
        absent = [host for host in self.world.hosts if not host.is_there]
        if not absent:
            return False
        host = self.random.choice(absent)
        host.be_well()
        host.is_there, host.is_hidden = True, False
        host.address = self._new_address()
        self.world.turn(f"scaled up: {name(host.node)} at {host.address}")
        host.start()
        return True

    def _scale_down(self, host: "Host") -> bool:
        """Let a replica go for good: it stops and may ask to leave, or it is just gone."""
        if sum(other.is_there for other in self.world.hosts) < 2 or not self.may_lose(host):
            return False
        if self.random.random() < self.world.profile.leaves:
            return self._stop(host, for_good=True)
        self._go(host)
        return True

    def _go(self, host: "Host") -> None:
        host.wipe()
        host.is_there = False
        self.listed()
        self.world.turn(f"scaled down: nobody is at {host.address} any more")

    def _replace(self, host: "Host") -> bool:
        """Put a replica without data into the place of one."""
        if not self.may_lose(host):
            return False
        host.wipe()
        self.faults.after(self.faults.a_while(), host.start)
        return True

    def _move(self, host: "Host") -> bool:
        """Restart a replica at another address."""
        if host.process is None or host.index in self.stopping:
            return False
        host.crash()
        host.address = self._new_address()
        self.world.turn(f"{name(host.node)} moves to {host.address}")
        self.listed()
        self.faults.after(0.1 * self.faults.a_while(), host.start)
        return True

    def _leave(self, host: "Host") -> bool:
        """Restart a replica that asks to leave when it stops, and so comes back as another; others may be silent."""
        others = self._followers(host)
        silent = self.random.sample(others, min(len(others), self.random.choice((0, 1, 1, 2))))
        for other in silent:
            self.faults.cut_off(other, 4 * self.unit)
        self.faults.after(1.3 * self.unit if silent else 0.0, self._let_stop, host)
        return True

    def _followers(self, host: "Host") -> "list[Host]":
        """List the other replicas that do not lead."""
        there = [other for other in self.world.hosts if other.is_there and other is not host]
        return [other for other in there if other.process is None or other.process.core.role is not Role.LEADER]

    def _let_stop(self, host: "Host") -> None:
        if not self.faults.over:
            self._stop(host, for_good=False)

    def may_lose(self, host: "Host") -> bool:
        """Tell whether a node may be lost for ever: a quorum of all members that there may be must be left."""
        world = self.world
        if not world.checks.cluster or not host.is_there or host.index in self.stopping:
            return False
        left = [h.node for h in world.hosts if h.is_there and not h.disk.is_damaged and h is not host]
        changes = world.checks.changes
        return all(changes.is_quorum(configuration, left) for configuration in changes.perhaps_in_force())

    def replace_lost(self) -> None:
        """Leave it to the autopilot to replace who is lost."""

    # --- stopping -------------------------------------------------------------------------------------------

    def _stop(self, host: "Host", *, for_good: bool) -> bool:
        process = host.process
        if process is None or process.paused or host.index in self.stopping:
            return False
        self.world.turn(f"{name(host.node)} is told to stop, and asks to leave")
        self.stopping[host.index] = process
        process.core.be_last_choice(process.clock())
        if process.core.role is Role.LEADER:
            process.core.transfer(0, process.clock())
        process.settle()
        until = self.world.loop.now + _LEAVING_PATIENCE * self.unit
        self.faults.after(_ASK_AGAIN * self.unit, self._ask_to_leave, process, until, for_good)
        return True

    def _ask_to_leave(self, process: "Process", until: float, for_good: bool) -> None:
        host = process.host
        is_over = self.world.loop.now > until or process in self._declined or host.disk.hard.removed
        if is_over or host.process is not process:
            self._stopped(process, for_good)
            return
        leader = self.world.host_of(process.core.leader)
        if leader is not None and not process.paused:
            self.world.workload.send(leader, self._asked_to_leave, process)
        self.faults.after(_ASK_AGAIN * self.unit, self._ask_to_leave, process, until, for_good)

    def _asked_to_leave(self, leader: "Host", process: "Process") -> None:
        assert leader.process is not None
        assert leader.process.pilot is not None
        declined = leader.process.pilot.let_leave(process.host.node)
        if declined is not None and not declined.for_now:
            self._declined.add(process)

    def _stopped(self, process: "Process", for_good: bool) -> None:
        host = process.host
        del self.stopping[host.index]
        if host.disk.hard.removed:
            self.world.count["replicas left"] += 1
        if for_good and self.may_lose(host):
            self._go(host)
        elif host.process is process:
            host.crash()
            self.faults.after(self.faults.a_while(), host.start)

    # --- removed nodes --------------------------------------------------------------------------------------

    def removed(self, process: "Process") -> None:
        """Let a node that was removed begin anew, as another; it is a replica of the service all the same."""
        seconds = 0.5 * self.unit if self.faults.over else self.faults.a_while()
        self.faults.after(seconds, self._renew, process.host, process.host.node)

    def _renew(self, host: "Host", node: int) -> None:
        if host.node != node or not host.is_there:
            return
        if not host.disk.hard.removed or host.supervisor.token or host.index in self.stopping:
            self.faults.after(0.2 * self.unit, self._renew, host, node)
            return
        host.wipe()
        host.disk.hard = HardState(formation=FormationState(heard=self.world.checks.cluster))
        self.faults.after(0.1 * self.unit, host.start)

    # --- DNS ------------------------------------------------------------------------------------------------

    def _hide(self, host: "Host") -> bool:
        """Let DNS not have a replica that runs, as when it is not ready."""
        hidden = self.random.choice([host, *self._followers(host)])
        if hidden.is_hidden or not hidden.is_there:
            return False
        hidden.is_hidden = True
        self.listed()
        self.world.turn(f"DNS does not have {name(hidden.node)}")
        self.faults.after(self.world.profile.dead_after * self.random.uniform(0.5, 2.5), self._show, hidden)
        return True

    def _show(self, host: "Host") -> None:
        host.is_hidden = False
        self.listed()
        if not self.faults.over and self.random.random() < 0.5:
            # That it was not in DNS before shall not count when it becomes silent a little later.
            self._lose_sight_of(host, later=0.2 * self.world.profile.dead_after)

    def _mislead(self, host: "Host") -> bool:
        """Let DNS say something else to one machine, or to all, for a while."""
        some = [host] if self.random.random() < 0.7 else self.world.hosts
        self.dns.mislead(some, self.dns.draw(), self.world.profile.dead_after * self.random.uniform(0.1, 1.5))
        return True

    def _forsake(self, host: "Host") -> bool:
        """Let a replica that does not lead be silent, and DNS lie, for about as long as it takes to be gone."""
        others = self._followers(host)
        return bool(others) and self._lose_sight_of(self.random.choice(others))

    def _lose_sight_of(self, host: "Host", later: float = 0.0) -> bool:
        dead_after = self.world.profile.dead_after
        if self.random.random() < 0.8:
            self.dns.mislead(self.world.hosts, self.dns.draw(), 2 * dead_after, without=host.address)
        self.faults.after(later, self.faults.cut_off, host, dead_after * self.random.uniform(0.8, 1.8))
        return True

    # --- the end --------------------------------------------------------------------------------------------

    def end(self) -> None:
        """Let DNS tell the truth from now on."""
        for host in self.world.hosts:
            host.is_hidden = False
        self.listed()

    def trouble(self, configuration: Configuration) -> str:
        """Tell how the members are not those that they must be in the end."""
        if self.stopping:
            return "a replica is about to stop"
        return self.checks.trouble(configuration)
