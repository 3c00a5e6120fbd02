"""One life of one cluster, from nodes without state to the leader that they must agree on when all is well."""

import random
import time
import traceback
from collections import Counter
from unittest import mock

from msgspec import Struct

from tests.simulation.checks import Checks, ViolationError
from tests.simulation.faults import Faults
from tests.simulation.host import Host
from tests.simulation.loop import Loop
from tests.simulation.network import Machine, Network
from tests.simulation.profile import RATE_MAX, ROGUE, Profile, draw, with_rogue
from tests.simulation.replicas import SMALL_PART
from tests.simulation.service import Service
from tests.simulation.store import StoreMachine
from tests.simulation.trace import Trace, name, outline
from tests.simulation.workload import Workload
from trioraft.consensus import Core, Role, snapshots
from trioraft.consensus.observer import Observer

# How many messages before a violation are shown.
_SHOWN = 60


class Result(Struct, frozen=True):
    """What came of one life."""

    seed: int
    profile: str
    asked_for: str  # the profile that this one was drawn from
    events: int
    seconds: float  # of the cluster's life
    processor_seconds: float
    count: dict[str, int]
    violation: str = ""
    trace: tuple[str, ...] = ()


class Simulation:
    """A cluster, its network, and what happens to both."""

    def __init__(
        self,
        seed: int,
        profile: str = "mixed",
        *,
        nodes: int = 0,
        whole: bool = False,
        rogue: bool | None = None,  # whether a member sends numbers that nobody can mean; None leaves it to chance
    ) -> None:
        self.seed = seed
        self.asked_for = profile
        self.loop = Loop(seed)
        self.random = self.loop.random
        self.profile: Profile = draw(self.random, profile, nodes)
        own_chance = random.Random(seed)  # a life without is the same as if there were no such thing
        if own_chance.random() < 0.5 if rogue is None else rogue:
            self.profile = with_rogue(self.profile, own_chance)
        self.trace = Trace(None if whole else 20 * _SHOWN)
        for line in outline(self.profile):
            self.turn(line)
        self.count: Counter[str] = Counter()
        self.observer: Observer | None = None  # of all cores that are made from now on
        self.checks = Checks(self)
        machines = self.profile.nodes + 2 * self.profile.follows  # a stranger's, and that of ghosts
        clients = self.profile.clients + 1
        self.network = Network(self.loop, self.trace, machines, clients, self.profile.unit, self.profile.commands)
        self.network.weather = self.profile.weather
        self.hosts = [
            Host(self, index, self._rate(), self.random.uniform(10, 10**5)) for index in range(self.profile.nodes)
        ]
        self._by_node = {host.node: host for host in self.hosts}
        self._newest_node = self.profile.nodes
        self.faults = Faults(self)
        self.workload = Workload(self, machines)

    def _rate(self) -> float:
        match self.profile.clock:
            case "exact":
                return 1.0
            case "random":
                return 1 + self.random.uniform(-RATE_MAX, RATE_MAX)
            case _:
                return 1 + self.random.choice((-RATE_MAX, RATE_MAX))

    # --- what the parts of the world ask for ----------------------------------------------------------------

    def turn(self, text: str) -> None:
        """Write something into the trace."""
        self.trace.turn(self.loop.now, text)

    def host_of(self, node: int) -> Host | None:
        """Find a node's machine; None when its disk was lost."""
        return self._by_node.get(node)

    @property
    def service(self) -> Service | None:
        """The service that the members follow, where they do."""
        return self.faults.operator if isinstance(self.faults.operator, Service) else None

    def listed(self) -> None:
        """Let DNS know that a process has started or ended."""
        if self.service is not None:
            self.service.listed()

    def place_of(self, node: int) -> Machine | None:
        """Find where a node is, also one of another cluster."""
        other = None if self.service is None else self.service.place_of(node)
        return self.host_of(node) if other is None else other

    def expected_by(self, host: Host) -> int:
        """Tell how many nodes have to see each other before this one forms a cluster; 0 where it only joins."""
        joins = host.index >= self.profile.nodes - self.profile.spares
        joins = joins or (self.service is not None and not self.service.expects(host))
        return 0 if joins else self.profile.expect

    def is_lost(self, node: int) -> bool:
        """Tell whether a node never comes back."""
        host = self.host_of(node)
        return host is None or host.disk.is_damaged

    def replace_node(self, host: Host) -> None:
        """Give a new id to a machine whose disk is empty now."""
        del self._by_node[host.node]
        self._newest_node += 1
        host.node = self._newest_node
        self._by_node[host.node] = host

    def disk_seconds(self) -> float:
        """Draw how long a write takes."""
        return self.profile.disk * (0.5 + self.random.random())

    def ending_part(self) -> float:
        """Draw which part of the time that it may take leader work takes to end."""
        match self.profile.ending:
            case "quick":
                return 0.0
            case "random":
                return self.random.random()
            case _:
                return 1.0 if self.random.random() < 0.7 else self.random.random()

    # --- a life ---------------------------------------------------------------------------------------------

    def run(self) -> Result:
        """Live, and tell what came of it."""
        violation = ""
        started = time.process_time()
        try:
            with mock.patch.object(snapshots, "PART_BYTES", SMALL_PART):
                self._live()
                self._recover()
        except ViolationError as broken:
            violation = str(broken)
        except Exception:  # whatever the core raises is a violation too; the trace shows how it came to that
            violation = traceback.format_exc()
        self._count_network()
        lines = tuple(self.trace.lines(_SHOWN)) if violation else ()
        return Result(
            seed=self.seed,
            profile=self.profile.name,
            asked_for=self.asked_for,
            events=self.loop.events,
            seconds=self.loop.now,
            processor_seconds=time.process_time() - started,
            count=dict(self.count),
            violation=violation,
            trace=lines,
        )

    def _count_network(self) -> None:
        network = self.network
        self.count["formations proposed"] = len(self.checks.proposed)
        self.count["formations refused"] = len(self.checks.refused)
        self.count["datagrams"] = network.sent
        self.count["fault: datagram lost"] = network.lost
        self.count["fault: datagram repeated"] = network.duplicated
        self.count["fault: datagram held up"] = network.held_up
        self.count["fault: datagram cut off"] = network.cut_off

    def _live(self) -> None:
        for host in self.hosts:
            self.loop.at(self.random.random() * self.profile.unit, host.start)
        self.faults.begin()
        if self.service is not None:
            self.service.begin()
        self.workload.begin()
        if self.profile.until_formed:
            while self.loop.events < self.profile.events and not self.checks.cluster:
                self.loop.run(until=float("inf"), events=self.loop.events + 50)
            self.loop.run(until=float("inf"), events=self.loop.events + self.random.choice((0, 50, 200)))
        else:
            self.loop.run(until=float("inf"), events=self.profile.events)

    def _recover(self) -> None:
        """Let all faults be over: a formation must complete, and a leader be agreed on, in a bounded time."""
        self.turn("all faults are over")
        self.faults.end()
        self.workload.end()
        longest = max([3.0, *(max(t.upper, t.work_claim) for t in self.profile.timings)])
        bound = self.loop.now + 10 * longest + 60 * self.profile.unit + 4 * self.profile.dead_after
        trouble = ""
        while self.loop.now < bound:
            self.loop.run(until=self.loop.now + self.profile.unit, events=self.loop.events + 10**6)
            self.faults.abandon()
            trouble = self._trouble()
            if not trouble:
                break
        if trouble == _NO_QUORUM:
            self.count["lives without a quorum"] += 1
        elif trouble:
            self.checks.fail(f"when all faults had been over for long, {trouble}")
        else:
            self._stay()
        self.checks.store.conclude()

    def _stay(self) -> None:
        """On a good network, with everybody well, the leader must stay, whatever numbers a rogue member sends."""
        self.checks.settled = True
        if ROGUE in self.profile.rates:
            for host in self.hosts:
                for turn in (3, 4):
                    self.faults.after(turn * self.profile.unit, self.faults.send_rogue_numbers, host, 1000)
                    self.faults.after(turn * self.profile.unit, self.faults.send_second_leader, host)
        self.loop.run(until=self.loop.now + 10 * self.profile.unit, events=self.loop.events + 10**6)

    def _trouble(self) -> str:
        """Tell what is not as it must be in the end; nothing when all is well."""
        cores = {host.node: host.process.core for host in self.hosts if host.process is not None}
        changes = self.checks.changes
        configuration = changes.newest_committed()
        members = configuration.members
        there = [cores[member] for member in members if member in cores]
        if not members:
            return "no cluster was formed"
        alive = list(cores)
        if any(not changes.is_quorum(perhaps, alive) for perhaps in changes.perhaps_in_force()):
            return _NO_QUORUM
        forming = [name(core.id) for core in there if core.role is Role.FORMING]
        if forming:
            return f"{forming} do not know that they are members"
        if configuration.is_joint or any(core.configuration != there[0].configuration for core in there):
            return "a change of the members is not completed, or some do not know of it"
        waiting = [core for node, core in cores.items() if node not in members and not core.hard.formation.cluster]
        if any(
            core.formation.heard_cluster != self.checks.cluster or core.hard.formation.promised for core in waiting
        ):
            return "a node that is no member does not know of the cluster"
        departed = [node for node in changes.ever - {*members} if node in cores and not cores[node].hard.removed]
        if any(self._can_be_told(cores[node], there) for node in departed):
            return f"{departed} do not know that they were removed"
        leaders = {core.leader for core in there}
        terms = {core.term for core in there}
        if len(leaders) != 1 or len(terms) != 1 or 0 in leaders:
            return f"the nodes know the leaders {sorted(leaders)} in the terms {sorted(terms)}"
        if any(core.state is not None and core.state.handover is not None for core in there):
            return "leadership is being given away for ever"
        working = [host.node for host in self.checks.running.values()]
        if working != list(leaders):
            return f"work runs on {working}, and {sorted(leaders)} leads"
        following = "" if self.service is None else self.service.trouble(configuration)
        return following or self.workload.trouble or self._difference(there)

    @staticmethod
    def _can_be_told(core: Core, there: list[Core]) -> bool:
        """Tell whether a removed node must get to know it: it knew itself a member, and has no newer term."""
        was_member = core.state is not None and core.state.was_member
        return was_member and core.term <= max(member.term for member in there)

    def _difference(self, cores: list[Core]) -> str:
        """Tell how the replicas differ, when they do."""
        keepers = [
            host.process.keeper for host in self.hosts if host.process is not None and host.process.core in cores
        ]
        committed = len(self.checks.log.committed)
        applied = [keeper.replica.applied_index for keeper in keepers]
        if any(index != committed for index in applied):
            return f"{committed} entries are committed, and the nodes have applied {applied}"
        if any(core.state is None or core.state.log.last_index != committed for core in cores):
            return f"{committed} entries are committed, and some nodes have more"
        if len({b"".join(keeper.replica.snapshot()) for keeper in keepers}) > 1:
            return "the replicas differ"
        machine = keepers[0].machine
        return (
            self.workload.store.trouble(machine) if isinstance(machine, StoreMachine) and self.workload.store else ""
        )


_NO_QUORUM = "the members that are left are no quorum"
