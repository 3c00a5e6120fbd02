"""When something goes wrong, and what: each kind by chance, at its own rate, until the last phase of a life."""

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec

from tests.simulation.mixed import upgrade
from tests.simulation.profile import RATE_MAX, ROGUE
from tests.simulation.rogue import rogue_messages, second_leader
from tests.simulation.service import Service
from tests.simulation.trace import name
from tests.simulation.upkeep import Operator
from trioraft.consensus import Role
from trioraft.consensus.numbers import TERM_STEP
from trioraft.messages import ConsensusMessage

if TYPE_CHECKING:
    from tests.simulation.host import Host, Process
    from tests.simulation.simulation import Simulation


class Faults:
    """All that goes wrong in one life."""

    def __init__(self, world: "Simulation") -> None:
        self.world = world
        self.unit = world.profile.unit
        self.over = False
        self.wipes_left = world.profile.wipes
        self.ambushes = world.profile.ambush
        self.operator = Service(self) if world.profile.follows else Operator(self)
        self.is_lossy = False  # whether a member was lost
        self._still_since: dict[int, float] = {}  # host: when its machine stood still
        self._kinds: dict[str, Callable[[Host], bool]] = {
            "isolate": self._isolate,
            "split": self._split,
            "one-way": self._one_way,
            "partial": self._partial,
            "flap": self._flap,
            "storm": self._storm,
            "pause": self._pause,
            "crash": self._crash,
            "restart": self._restart,
            "reconfigure": self._reconfigure,
            "restart all": self._restart_all,
            "rolling restart": self._rolling_restart,
            "upgrade": self._upgrade,
            "transfer": self._transfer,
            "change": self.operator.change,
            "stop": self._stop,
            "work failure": self._work_failure,
            "disk stall": self._disk_stall,
            "full disk": self._full_disk,
            "disk error": self._disk_error,
            "damage": self._damage,
            "rot": self._rot,
            "slow node": self._slow_node,
            "clock drift": self._clock_drift,
            "clock leap": self._clock_leap,
            "wipe": self._wipe,
            "abandon": self.abandon,
            "freeze": self._freeze,
            ROGUE: self._rogue_numbers,
        }
        if isinstance(self.operator, Service):
            self._kinds |= self.operator.kinds

    def begin(self) -> None:
        """Arrange the first fault of each kind."""
        for kind in self._kinds:
            if kind in self.world.profile.rates:
                self._arrange(kind)

    def tempt(self, host: "Host") -> None:
        """Perhaps strike a node that has just done something that matters, or strike it a moment later."""
        if not self.over and self.world.random.random() < self.ambushes:
            self.after(
                self.world.random.choice((0.0, 0.001, 0.01, 0.1)) * self.unit * self.world.random.random(),
                self._ambush,
                host,
            )

    def silence(self, host: "Host") -> None:
        """Perhaps let nothing that a leader says get out any more, and let it crash a moment later."""
        if not self.over and self.world.random.random() < self.world.profile.silence:
            self.world.count["fault: silence"] += 1
            self.world.turn(f"nothing that {name(host.node)} says gets out")
            pairs = [pair for pair in self._pairs() if pair[0] == host.index]
            for pair in pairs:
                self.world.network.block(*pair)
            self.after(0.02 * self.unit * (1 + self.world.random.random()), self._silenced, host, pairs)

    def _silenced(self, host: "Host", pairs: list[tuple[int, int]]) -> None:
        if not self.over:
            self._crash(host)
            self._uncut(pairs)

    def _ambush(self, host: "Host") -> None:
        if not self.over:
            self.world.count["fault: ambush"] += 1
            self.world.random.choice((self._crash, self._restart, self._pause, self._isolate, self._disk_stall))(host)

    def _arrange(self, kind: str) -> None:
        pause = self.world.random.expovariate(self.world.profile.rates[kind] / self.unit)
        self.world.loop.at(self.world.loop.now + pause, self._strike, kind)

    def _strike(self, kind: str) -> None:
        if self.over:
            return
        if self._kinds[kind](self._some_host()):
            self.world.count[f"fault: {kind}"] += 1
        self._arrange(kind)

    def end(self) -> None:
        """Let everything be well again."""
        self.over = True
        world = self.world
        if world.service is not None:
            world.service.end()
        world.network.heal()
        calm = min(world.network.weather.delay, 0.02 * self.unit)
        world.network.weather = type(world.network.weather)(delay=calm)
        for host in world.hosts:
            host.be_well()
            self._thaw(host)
            if upgrade(host):  # a rolling upgrade is completed some time
                host.crash()
            host.start()

    # --- chance ---------------------------------------------------------------------------------------------

    def a_while(self) -> float:
        """Draw for how long something lasts; most are short."""
        return self.unit * self.world.random.choice((0.1, 0.5, 1.0, 2.0, 4.0)) * (0.5 + self.world.random.random())

    def after(self, seconds: float, call: Callable[..., object], *arguments: object) -> None:
        """Arrange something."""
        self.world.loop.at(self.world.loop.now + seconds, call, *arguments)

    def _some_host(self) -> "Host":
        """Draw a host; leaders are drawn more often than others, for what happens to them matters most."""
        leading = [h for h in self.world.hosts if h.process is not None and h.process.core.role is Role.LEADER]
        if leading and self.world.random.random() < 0.4:
            return leading[-1]
        return self.world.random.choice(self.world.hosts)

    # --- the network ----------------------------------------------------------------------------------------

    def _cut(self, pairs: list[tuple[int, int]], what: str) -> bool:
        """Block links for a while."""
        if not pairs:
            return False
        self.world.turn(f"{what}: {', '.join(f'{self._at(a)} ↛ {self._at(b)}' for a, b in pairs)}")
        for a, b in pairs:
            self.world.network.block(a, b)
        self.after(self.a_while(), self._uncut, pairs)
        return True

    def _at(self, index: int) -> str:
        return name(self.world.hosts[index].node)

    def _uncut(self, pairs: list[tuple[int, int]]) -> None:
        if not self.over:
            self.world.turn(f"again: {', '.join(f'{self._at(a)} → {self._at(b)}' for a, b in pairs)}")
            for a, b in pairs:
                self.world.network.unblock(a, b)

    def _pairs(self) -> list[tuple[int, int]]:
        hosts = range(len(self.world.hosts))
        return [(a, b) for a in hosts for b in hosts if a != b]

    def _isolate(self, host: "Host") -> bool:
        one = host.index
        way = self.world.random.choice(("both", "both", "in", "out"))
        pairs = [p for p in self._pairs() if (p[0] == one and way != "in") or (p[1] == one and way != "out")]
        return self._cut(pairs, "isolation")

    def cut_off(self, host: "Host", seconds: float) -> None:
        """Let nothing pass to and from a machine for a while."""
        if self.over:
            return
        pairs = [pair for pair in self._pairs() if host.index in pair]
        for pair in pairs:
            self.world.network.block(*pair)
        self.world.turn(f"{name(host.node)} is cut off for {seconds:.3f} s")
        self.after(seconds, self._uncut, pairs)

    def _split(self, _: "Host") -> bool:
        side = {h.index for h in self.world.hosts if self.world.random.random() < 0.5}
        return self._cut([(a, b) for a, b in self._pairs() if (a in side) != (b in side)], "split")

    def _one_way(self, _: "Host") -> bool:
        pairs = self._pairs()
        return self._cut([self.world.random.choice(pairs)] if pairs else [], "one way")

    def _partial(self, _: "Host") -> bool:
        chance = self.world.random.random
        return self._cut([pair for pair in self._pairs() if chance() < 0.3], "partial partition")

    def _flap(self, _: "Host") -> bool:
        pairs = self._pairs()
        if not pairs:
            return False
        pair = self.world.random.choice(pairs)
        for turn in range(6):
            self.after(turn * 0.3 * self.unit, self._flap_once, pair)
        return True

    def _flap_once(self, pair: tuple[int, int]) -> None:
        if not self.over:
            self.world.network.block(*pair)
            self.after(0.15 * self.unit, self._uncut, [pair])

    def _storm(self, _: "Host") -> bool:
        """Make the network much worse for a while."""
        usual = self.world.network.weather
        worse = msgspec.structs.replace(usual, loss=0.5, duplicate=0.2, slow=0.3)
        self.world.turn("the network is bad")
        self.world.network.weather = worse
        self.after(self.a_while(), self._calm_down)
        return usual != worse

    def _calm_down(self) -> None:
        if not self.over:
            self.world.turn("the network is as usual")
            self.world.network.weather = self.world.profile.weather

    # --- processes ------------------------------------------------------------------------------------------

    def _pause(self, host: "Host") -> bool:
        process = host.process
        if process is None or process.paused:
            return False
        process.pause()
        self.after(self.a_while(), self._resume, process)
        return True

    def _resume(self, process: "Process") -> None:
        if not process.host.supervisor.frozen:
            process.resume()

    def _crash(self, host: "Host") -> bool:
        return self._down(host, self.a_while())

    def _restart(self, host: "Host") -> bool:
        return self._down(host, 0.01 * self.unit)

    def _down(self, host: "Host", seconds: float) -> bool:
        if not self._end(host):
            return False
        self.after(seconds, host.start)
        return True

    def _end(self, host: "Host") -> bool:
        """End a process; one with ``DURABILITY=memory`` comes back as another, so it has to be one that may go."""
        if host.process is None:
            return False
        if not self.world.profile.memory:
            host.crash()
        elif self.operator.may_lose(host):
            self._note_loss()
            host.wipe()
        else:
            return False
        return True

    def _note_loss(self) -> None:
        """Count a node that is lost before there is a cluster, and have one that is lost later replaced."""
        if not self.world.checks.cluster:
            self.wipes_left -= 1
        if not self.is_lossy:
            self.is_lossy = True
            self.after(self.a_while(), self.operator.replace_lost)

    def _reconfigure(self, host: "Host") -> bool:
        if not self._end(host):
            return False
        self.after(0.02 * self.unit, host.start, self.world.random.choice(self.world.profile.timings))
        return True

    def _upgrade(self, host: "Host") -> bool:
        return upgrade(host) and self._restart(host)

    def _restart_all(self, _: "Host") -> bool:
        for host in self.world.hosts:
            self._down(host, self.world.random.random() * 0.1 * self.unit)
        return True

    def _rolling_restart(self, _: "Host") -> bool:
        """Restart one node after the other, the next one when it may be back."""
        for turn, host in enumerate(self.world.random.sample(self.world.hosts, len(self.world.hosts))):
            self.after(turn * 0.4 * self.unit, self._restart_in_turn, host)
        return True

    def _restart_in_turn(self, host: "Host") -> None:
        if not self.over:
            self._down(host, 0.1 * self.unit)

    def start_later(self, host: "Host") -> None:
        """Have somebody start a node again that has stopped by itself."""
        self.after(self.a_while(), host.start)

    def _slow_node(self, host: "Host") -> bool:
        """Let a machine take long for everything for a while."""
        if host.slow:
            return False
        host.slow = self.unit * self.world.random.choice((0.0003, 0.002, 0.01))
        self.world.turn(f"{name(host.node)} becomes slow: {host.slow:.6f} s for each message")
        self.after(2 * self.a_while(), host.be_fast)
        return True

    # --- clocks ---------------------------------------------------------------------------------------------

    def _clock_drift(self, host: "Host") -> bool:
        """Let a clock go at another rate, within what is allowed."""
        rate = 1 + self.world.random.choice((-RATE_MAX, RATE_MAX, self.world.random.uniform(-RATE_MAX, RATE_MAX)))
        self.world.turn(f"the clock of {name(host.node)} goes at {rate:.4f}")
        host.change_clock(rate=rate)
        return True

    def _clock_leap(self, host: "Host") -> bool:
        """Let a clock leap forward, or stand still together with its machine; both are worse than what is allowed."""
        seconds = self.a_while()
        if self.world.random.random() < 0.5:
            self.world.turn(f"the clock of {name(host.node)} leaps by {seconds:.3f} s")
            host.change_clock(ahead=seconds)
            return True
        if not self._stand_still(host):
            return False
        self.world.turn(f"and so does its clock, for {seconds:.3f} s")
        self.after(seconds, self._go_on_with_clock, host, self.world.loop.now)
        return True

    def _go_on_with_clock(self, host: "Host", since: float) -> None:
        if self._still_since.get(host.index) == since and host.supervisor.frozen:
            host.change_clock(ahead=(since - self.world.loop.now) * host.rate)
            self._thaw(host)

    # --- machines -------------------------------------------------------------------------------------------

    def _freeze(self, host: "Host") -> bool:
        """Let a whole machine stand still: node, supervisor and work."""
        if not self._stand_still(host):
            return False
        self.after(self.a_while() * 2, self._thaw, host)
        return True

    def _stand_still(self, host: "Host") -> bool:
        if host.process is None or host.process.paused:
            return False
        host.process.pause()
        host.supervisor.freeze()
        self._still_since[host.index] = self.world.loop.now
        return True

    def _thaw(self, host: "Host") -> None:
        if host.supervisor.frozen:
            host.supervisor.thaw()
        if host.process is not None:
            host.process.resume()

    # --- leadership -----------------------------------------------------------------------------------------

    def leader(self) -> "Process | None":
        """Draw one that leads, most often there is one; None where there is none, or it is paused."""
        processes = [host.process for host in self.world.hosts if host.process is not None]
        leading = [p for p in processes if p.core.role is Role.LEADER and not p.paused]
        return self.world.random.choice(leading) if leading else None

    def _transfer(self, _: "Host") -> bool:
        leader = self.leader()
        if leader is None:
            return False
        target = self.world.random.choice((0, *leader.core.configuration.members))
        refusal = leader.core.transfer(target, leader.clock())
        self.world.turn(f"{name(leader.host.node)} shall give the leadership to {name(target)}: {refusal or 'yes'}")
        leader.settle()
        return refusal is None

    def _stop(self, _: "Host") -> bool:
        """Stop a leader as SIGTERM does: it gives its leadership away, then ends."""
        leader = self.leader()
        if leader is None or leader.core.transfer(0, leader.clock()) is not None:
            return False
        self.world.turn(f"{name(leader.host.node)} is told to stop")
        leader.settle()
        self.after(self.a_while(), self._stopped, leader)
        return True

    def _stopped(self, process: "Process") -> None:
        if process.host.process is process and not self.over:
            self._down(process.host, self.a_while())

    def _work_failure(self, _: "Host") -> bool:
        leader = self.leader()
        if leader is None or leader.host.supervisor.process is not leader:
            return False
        self.world.turn(f"work fails on {name(leader.host.node)}")
        leader.core.work_failed(leader.clock())
        leader.settle()
        return True

    def _rogue_numbers(self, host: "Host") -> bool:
        """Let a member that has gone wrong send another one numbers that nobody can mean."""
        return self.send_rogue_numbers(host, 10)

    def send_rogue_numbers(self, host: "Host", most: int) -> bool:
        """Send a node some of them, under any member's name: whoever has the key can say that it is another one.

        But far terms have one sender in a life. Who speaks for most of a cluster can lead it wherever it wants.
        """
        process = host.process
        if process is None:
            return False
        world = self.world
        messages = rogue_messages(process.core, world.random)
        for message in messages if most >= len(messages) else world.random.sample(messages, most):
            sender = world.random.choice(world.hosts)
            if getattr(message, "term", 0) > process.core.term + TERM_STEP:
                sender = world.hosts[-1]
            self._send_as(sender, process, message)
        return True

    def send_second_leader(self, host: "Host") -> None:
        """Let a node that knows its leader hear, while all is well, from somebody who did not win that term.

        It hears it at once: a node that has forgotten the leader until the message comes has no way to know better.
        """
        process, world = host.process, self.world
        if process is None or process.paused or not process.core.leader:
            return
        others = [other for other in world.hosts if other.node not in {process.core.leader, host.node}]
        if others:
            world.count["rogue numbers"] += 1
            sender, message, now = world.random.choice(others).node, second_leader(process.core), world.loop.now
            world.trace.message(now, now, sender, host.node, message, "")
            process.receive(sender, process.core.cluster or world.checks.cluster, message, now)

    def _send_as(self, sender: "Host", process: "Process", message: ConsensusMessage) -> None:
        host, world = process.host, self.world
        if sender is not host:
            world.count["rogue numbers"] += 1
            world.network.send(sender, host, host.node, process.core.cluster or world.checks.cluster, message)

    # --- disks ----------------------------------------------------------------------------------------------

    def _disk_stall(self, host: "Host") -> bool:
        host.stalled_until = self.world.loop.now + self.a_while()
        self.world.turn(f"the disk of {name(host.node)} is stuck until {host.stalled_until:.6f}")
        return True

    def _wipe(self, host: "Host") -> bool:
        """Lose a disk, which is allowed only before a cluster stands on it."""
        if self.world.checks.cluster or not self.operator.may_lose(host):
            return False
        self._note_loss()
        host.wipe()
        self.after(self.a_while(), host.start)
        return True

    def _full_disk(self, host: "Host") -> bool:
        """Let there be no room on a disk for a while."""
        if host.is_full:
            return False
        self.world.turn(f"the disk of {name(host.node)} is full")
        host.is_full = True
        self.after(2 * self.a_while(), self._make_room, host)
        return True

    def _make_room(self, host: "Host") -> None:
        if host.is_full:
            self.world.turn(f"the disk of {name(host.node)} has room")
            host.is_full = False

    def _disk_error(self, host: "Host") -> bool:
        """Let the next write fail."""
        host.fails = True
        return True

    def _damage(self, host: "Host") -> bool:
        """Crash a node, and flip a bit on its disk meanwhile."""
        if host.process is None or not self.operator.may_lose(host):
            return False
        self._note_loss()
        host.crash()
        self.world.turn(f"a bit of {host.disk.flip_a_bit(self.world.random)} is flipped on {name(host.node)}")
        self.after(self.a_while(), host.start)
        return True

    def _rot(self, host: "Host") -> bool:
        """Flip a bit of a snapshot under a node that runs on; should it end before the next one, it is lost."""
        if host.process is None or host.disk.snapshot is None or not self.operator.may_lose(host):
            return False
        self._note_loss()
        host.disk.rot(self.world.random)
        self.world.turn(f"a bit of the snapshot is flipped under {name(host.node)}")
        return True

    def refused(self, host: "Host", why: str) -> None:
        """Replace the directory of a node that refuses to start with it, as it says that one should."""
        self.world.turn(f"{name(host.node)} refuses to start: {why}")
        self.world.count["damaged disks refused"] += 1
        host.wipe()
        self.after(0.1 * self.unit, host.start)

    def abandon(self, _: "Host | None" = None) -> bool:
        """Give a formation up, as an operator may: whoever is left lacks the promise of a member that is lost."""
        lost = {*self.world.checks.lost}
        waiting = [h.process for h in self.world.hosts if h.process is not None and not h.process.paused]
        if self.world.checks.cluster or len(waiting) < len(self.world.hosts) or self._are_to_be_heard(lost):
            return False
        completed = {process.core.formation.state.cluster for process in waiting}  # perhaps not on its disk yet
        for process in waiting:
            formation = process.core.formation
            if formation.state.promised in completed:
                continue
            lacking = [
                lost & {*other.core.formation.missing}
                for other in waiting
                if other.core.formation.state.promised == formation.state.promised
            ]
            if lost & {*formation.missing} and all(lacking):
                self.world.turn(f"{name(process.host.node)} gives up the formation that misses a lost node")
                process.core.abandon_formation(formation.state.promised, process.clock())
                process.settle()
                return True
        return False

    def _are_to_be_heard(self, nodes: set[int]) -> bool:
        """Tell whether messages of nodes that are lost may still be on their way; those to them do not matter."""
        # In what a message arrives with, the receiver's id is followed by the sender's.
        return any(
            nodes & {sender for before, sender in pairwise(arguments) if type(before) is type(sender) is int}
            for arguments in self.world.loop.waiting()
        )
