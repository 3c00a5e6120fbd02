"""A machine with its clock and its disk, and the process on it: a node layer around the real core."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from tests.simulation.disk import Disk
from tests.simulation.gathering import Gathering
from tests.simulation.mixed import check_asked, check_new_enough, check_understood, first_versions
from tests.simulation.network import Greeting, Machine
from tests.simulation.pilot import Pilot
from tests.simulation.replicas import Keeper
from tests.simulation.supervision import Supervisor
from tests.simulation.trace import describe, name
from trioraft.address import Address
from trioraft.consensus import Core, Role, Timing, Turn
from trioraft.consensus.events import (
    BecameLeader,
    EndWork,
    ExtendWork,
    Formed,
    Joined,
    ReadFailed,
    ReadReady,
    Removed,
    StartWork,
    SteppedDown,
    StorePart,
)
from trioraft.consensus.ledger import Write
from trioraft.consensus.log import Log
from trioraft.datagrams.sessions import Peer
from trioraft.messages import (
    AppendEntriesRequest,
    ClientRequest,
    ClientResponse,
    InstallSnapshotRequest,
    LeadershipEnded,
)
from trioraft.storage.errors import DamagedError
from trioraft.versions import Versions

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

NEVER: Final = float("inf")
# What waits longer than this on a slow machine, in lower election timeouts, has no room in the socket's buffer.
_BUFFER: Final = 0.5
# A turn is followed by another one while there is more to do, up to so often.
_TURNS_MAX: Final = 1000


class Host:
    """A machine: an address, a clock, a disk, at most one process, and the supervisor of its leader work."""

    def __init__(self, world: "Simulation", index: int, rate: float, offset: float) -> None:
        self.world = world
        self.index = index
        self.node = index + 1
        self.rate = rate
        self.offset = offset
        self.timing = world.profile.timings[0]
        self.place = f"place {index}"
        self.versions = first_versions(world)
        self.disk = Disk()
        self.writing: Write | None = None
        self.stalled_until = 0.0
        self.is_full = False  # the disk
        self.fails = False  # the disk, at the next write
        self.slow = 0.0  # seconds that each message takes
        self.busy_until = 0.0
        self.process: Process | None = None
        self.supervisor = Supervisor(world, self)
        self.is_there = True  # whether the service has this replica
        self.is_hidden = False  # whether DNS does not have it, although it runs
        self.address = Address(f"10.0.0.{index + 1}", 7300)

    def local(self, now: float) -> float:
        """Read this machine's clock at a true time."""
        return self.offset + now * self.rate

    def true(self, local: float) -> float:
        """Tell the true time at which this machine's clock will show something."""
        return (local - self.offset) / self.rate

    def change_clock(self, *, rate: float | None = None, ahead: float = 0.0) -> None:
        """Let the clock go faster or slower from now on, or leap."""
        now = self.world.loop.now
        shown = self.local(now) + ahead
        self.rate = rate or self.rate
        self.offset = shown - now * self.rate
        if self.process is not None:
            self.process.clock_changed()
        self.supervisor.clock_changed()

    def disk_seconds(self) -> float:
        """Draw how long a write takes."""
        return self.world.disk_seconds() * (5 if self.slow else 1)

    # --- the process ----------------------------------------------------------------------------------------

    def start(self, timing: Timing | None = None) -> None:
        """Start a process, unless there is one, or the disk turns out to be damaged."""
        if self.process is not None or not self.is_there:
            return
        try:
            self.disk.read()
        except DamagedError as error:
            self.world.faults.refused(self, str(error))
            return
        self.timing = timing or self.timing
        self.world.turn(f"{name(self.node)} starts with {describe(self.timing)}, {describe(self.disk.hard)}")
        self.process = Process(self.world, self)
        self.world.listed()
        self.process.begin()

    def crash(self, *, wrote: bool | None = None) -> None:
        """End the process; a write under way may or may not be on disk afterwards, unless it is told which."""
        if self.process is None:
            return
        if self.supervisor.frozen:
            self.supervisor.thaw()  # nothing crashes on a machine that stands still
        write, self.writing = self.writing, None
        if write is not None:
            luck = self.world.random.random()
            if (luck < 0.5) if wrote is None else wrote:
                self.put(write)
            elif luck > 0.7:
                self.world.count["fault: write torn"] += 1
                self.disk.tear(write, self.world.random)
        process, self.process = self.process, None
        self.world.turn(f"{name(self.node)} crashes")
        self.world.listed()
        self.supervisor.orphaned(process)

    def wipe(self) -> None:
        """Lose the disk: the next process here is another node."""
        log = self.log
        if self.process is not None and self.process.gathering is not None:
            self.process.gathering.stop()
        self.crash()
        self.world.checks.wiped(self, self.disk.hard, log)
        self.disk = Disk()
        self.world.replace_node(self)
        self.world.turn(f"the disk is lost; {name(self.node)} is next")

    def disk_failed(self, why: str) -> None:
        """Stop, as a node does whose write has failed, and be started again."""
        self.world.turn(f"{name(self.node)} cannot write: {why}")
        self.crash(wrote=False if self.is_full else None)
        self.fails = False
        self.world.faults.start_later(self)

    def be_fast(self) -> None:
        """Be slow no more."""
        self.slow = 0.0

    def be_well(self) -> None:
        """Let the disk work again, also on the write that it is stuck with, and the processor be fast."""
        self.stalled_until = self.slow = self.busy_until = 0.0
        self.is_full = self.fails = False
        if self.process is not None and self.writing is not None:
            self.world.loop.at(self.world.loop.now, self.process.written, self.writing)

    @property
    def log(self) -> Disk | Log:
        """The log where it counts: on the disk, or with ``DURABILITY=memory`` in the process."""
        state = self.process.core.state if self.world.profile.memory and self.process is not None else None
        return self.disk if state is None else state.log

    def holds(self, index: int, term: int) -> bool:
        """Tell whether an entry is where it counts, or a snapshot that covers it."""
        if not self.world.profile.memory:
            return self.disk.holds(index, term)
        return self.process is not None and (index < self.log.base_index or self.log.term_at(index) == term)

    def put(self, write: Write) -> None:
        """Let a write be on disk."""
        checks, old = self.world.checks, self.disk.hard
        checks.log.write(self, write)
        self.disk.put(write)
        checks.log.written(self, write)
        checks.on_disk(self, old, write.hard)

    def arrive(self, receiver: int, sender: int, cluster: int, message: object, sent: float) -> None:
        """Take a message from the network; on a slow machine it has to wait for its turn."""
        if not self.slow or self.process is None:
            self._take(self.process, receiver, sender, cluster, message, sent)
            return
        world = self.world
        now = world.loop.now
        self.busy_until = max(now, self.busy_until) + self.slow
        if self.busy_until - now > _BUFFER * world.profile.unit:
            self.busy_until -= self.slow
            world.count["fault: no room in a buffer"] += 1
            world.trace.message(now, sent, sender, receiver, message, "no room in the buffer")
        else:
            world.loop.at(self.busy_until, self._take, self.process, receiver, sender, cluster, message, sent)

    def _take(
        self, process: "Process | None", receiver: int, sender: int, cluster: int, message: object, sent: float
    ) -> None:
        world = self.world
        now = world.loop.now
        if process is None or process is not self.process or receiver not in {self.node, 0}:
            world.trace.message(now, sent, sender, receiver, message, "nobody is there")
        elif process.paused:
            process.inbox.append((self.arrive, (receiver, sender, cluster, message, sent)))
        else:
            world.trace.message(now, sent, sender, self.node, message, "")
            process.receive(sender, cluster, message, sent)


class Process:
    """One run of a node, between a start and a crash."""

    def __init__(self, world: "Simulation", host: Host) -> None:
        self.world = world
        self.host = host
        self.timing = host.timing
        self.paused = False
        self.inbox: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self.known: dict[int, Machine] = {}  # who has a session with this process, and where
        self.speaks: dict[int, int] = {}  # the highest version that each of them speaks
        self.receipts: dict[tuple[int, int], float] = {}  # when each heartbeat came whose answer has not left
        self.timer_at = NEVER
        self.fired = (0.0, 0)
        self.greetings = 0
        self.committed = 0 if host.disk.snapshot is None else host.disk.snapshot.index
        self.term = host.disk.hard.term
        self.led = (0, 0, 0)  # as a leader: the term, and the index and term of the last entry
        self.core = Core(
            host.node,
            host.disk.hard,
            host.disk.log(),
            host.timing,
            snapshot=host.disk.snapshot,
            log_waits=not world.profile.memory,
            expect=world.expected_by(host),
            random_source=world.random,
            now=self.clock(),
        )
        self.core.versions = host.versions
        self.core.run_at(host.place, self.clock())
        self.keeper = Keeper(self)
        self.member = self.keeper.member
        self.wake_at = NEVER
        self.turning = False
        self.again = False  # whether something wants another turn while one is being taken
        self.pilot = Pilot(self) if world.profile.follows else None
        self.gathering = Gathering(self) if world.profile.memory else None
        if world.observer is not None:
            self.core.observe(world.observer)
        self.keeper.begin()

    def clock(self) -> float:
        """Read the machine's clock."""
        return self.host.local(self.world.loop.now)

    def begin(self) -> None:
        """Greet the others, and set the timer."""
        if self.core.cluster:  # perhaps known since a write that was under way at the crash
            members = self.host.disk.hard.formation.members
            if members:
                self.world.checks.formed(self, self.core.cluster, members)
        if self.host.disk.hard.removed:
            self.world.faults.operator.removed(self)
        if self.pilot is not None:
            self.pilot.look_up()
        self.greet()
        self.settle()
        self.host.supervisor.watch_earlier(self)

    # --- what comes from outside ----------------------------------------------------------------------------

    def receive(self, sender: int, cluster: int, message: Any, sent: float) -> None:
        """Hand a message to the core."""
        if type(message) is ClientRequest:
            self._asked(sender, message, sent)
            return
        if type(message) is Greeting:
            self._greeted(sender, cluster, message.step, message.versions)
            return
        if self.pilot is not None and not self.pilot.hears(sender, cluster, message, sent):
            return
        if type(message) is AppendEntriesRequest:
            self.receipts.setdefault((message.term, message.sequence), self.clock())
        check_understood(self.host, message)
        if type(message) is LeadershipEnded:
            self.world.checks.endings.heard(self, message)
        self.member.take(sender, cluster, message, self.clock())
        self.settle()

    def _asked(self, sender: int, request: ClientRequest, sent: float) -> None:
        client = self.world.workload.client(sender)
        check_asked(self.host, request)
        if client.is_new(self.host.node, request, sent):
            self.keeper.requests.add(client.peer, request)
            self.settle()

    def answer(self, peer: Peer, response: ClientResponse) -> None:
        """Send a client an answer."""
        client = self.world.workload.client_at(peer)
        self.world.network.send(self.host, client, client.node, 0, response)

    def _place_of(self, node: int) -> Machine | None:
        """Find where a node is, as far as this process knows."""
        return self.known.get(node) if self.pilot is None else self.pilot.place_of(node)

    def timer(self) -> None:
        """Call the core's timer if it is due; the deadline may have moved since this was arranged."""
        if self.host.process is not self or self.paused or self.timer_at > self.world.loop.now:
            self.world.loop.events -= 1
            return
        self.timer_at = NEVER
        now = self.clock()
        if self.wake_at <= now + 1e-9:
            self._check_spinning()
            self.member.handle_timer(max(now, self.wake_at))
            self.settle()
        else:
            self.world.loop.events -= 1
            self._arm()

    def _check_spinning(self) -> None:
        now = self.world.loop.now
        since, times = self.fired
        self.fired = (now, times + 1 if since == now else 1)
        if self.fired[1] > 100:
            self.world.checks.fail(f"the timer of {name(self.host.node)} fires again and again")

    def written(self, write: Write) -> None:
        """Let a write be done: on disk, and told to the core."""
        if self.host.process is not self or self.host.writing is not write:
            return
        if self.host.is_full or self.host.fails:
            self.host.disk_failed("the disk is full" if self.host.is_full else "input/output error")
        else:
            self.host.writing = None
            self.host.put(write)
            self.call(self._tell_written, write.number)

    def _tell_written(self, number: int) -> None:
        self.member.persisted(number, self.clock())

    def work_ended(self) -> None:
        """Hear from the supervisor that leader work has ended, after it was told to."""
        self.call(self._tell_work_ended)

    def _tell_work_ended(self) -> None:
        self.core.work_ended(self.clock())

    def scripts_ended(self) -> None:
        """Hear from the supervisor that no work of an earlier process is left."""
        self.call(self._tell_scripts_ended)

    def _tell_scripts_ended(self) -> None:
        self.core.scripts_ended(self.clock())

    def call(self, call: Callable[..., None], *arguments: Any) -> None:
        """Do something in the process, at once or when it runs again, unless it ends before."""
        if self.host.process is not self:
            return
        if self.paused:
            self.inbox.append((self.call, (call, *arguments)))
        else:
            call(*arguments)
            if self.host.process is self:  # it may have ended with this
                self.settle()

    def clock_changed(self) -> None:
        """Look at the clock again."""
        self.timer_at = NEVER
        if not self.paused:
            self._arm()

    def pause(self) -> None:
        """Stop the process alone."""
        self.paused = True
        self.world.turn(f"{name(self.host.node)} is paused")

    def resume(self) -> None:
        """Let the process run again: all that has come meanwhile comes in a burst."""
        if self.host.process is not self or not self.paused:
            return
        self.paused = False
        self.world.turn(f"{name(self.host.node)} runs again, with {len(self.inbox)} waiting")
        inbox, self.inbox = self.inbox, []
        self.timer_at = NEVER
        if self.world.random.random() < 0.5:
            self.member.handle_timer(self.clock())
            self.settle()
        for call, arguments in inbox:
            call(*arguments)
        if self.host.process is self:
            self.settle()

    # --- greetings: who is there ----------------------------------------------------------------------------

    def greet(self) -> None:
        """Greet those who have no session with this process, and all of them now and then."""
        if self.host.process is not self:
            return
        world = self.world
        often = world.profile.unit if self.pilot is None else self.pilot.pause
        world.loop.at(world.loop.now + often * world.random.uniform(0.5, 1), self.greet)
        if self.paused:
            return
        if self.pilot is None:
            self._greet_all()
        else:
            self.pilot.greet()
        self.core.raise_version(self.speaks, self.clock())
        if self.pilot is not None:
            self.pilot.steer()
        self.settle()

    def _greet_all(self) -> None:
        self.greetings += 1
        there = set() if self.greetings % 10 == 0 else {id(host) for host in self.known.values()}
        for host in self.world.hosts:
            if host is not self.host and id(host) not in there:
                self.post(host, 0, Greeting(1, self.versions))

    @property
    def versions(self) -> Versions:
        """Which versions of the protocol this process speaks, as a member of its cluster."""
        return self.core.versions.within(self.core.version)

    def _greeted(self, sender: int, cluster: int, step: int, versions: Versions) -> None:
        place = self.world.place_of(sender)
        if place is None:
            return
        if step < 3:
            self.post(place, sender, Greeting(step + 1, self.versions))
        if not versions.overlaps(self.versions):
            self.known.pop(sender, None)
            self.core.hear_of_cluster(sender, cluster, self.clock())
        elif step > 1:
            self.speaks[sender] = versions.highest
            if self.pilot is None:
                self.known[sender] = place
                self.core.peers_changed(frozenset(self.known))
            else:
                self.pilot.confirmed(place, cluster, versions)
            self.core.hear_of_cluster(sender, cluster, self.clock())
            self.settle()

    # --- what a turn wants done -----------------------------------------------------------------------------

    def settle(self) -> None:
        """Take turns until there is nothing to be done any more, and check what must hold."""
        if self.turning:  # what happens in a turn is a matter of the next one
            self.again = True
            return
        self.turning = True
        try:
            for _ in range(_TURNS_MAX):
                self.again = False
                turn = self.member.turn(self.clock())
                self._do(turn)
                self.wake_at = turn.wake_at
                if self.host.process is not self:
                    return
                if not (self.again or self.member.wants_turn):
                    break
            else:
                self.world.checks.fail(f"{name(self.host.node)} takes turn after turn")
        finally:
            self.turning = False
        state = self.core.state
        if state is not None and state.role is Role.LEADER:
            self.world.checks.leading(self, state)
            self.world.checks.log.leading(self, state)
        if self.gathering is not None:
            self.gathering.look()
        self._arm()

    def _do(self, turn: Turn) -> None:
        """Do what a turn says, in its order."""
        for event in turn.events:
            self._carry_out(event)
        core = self.core
        if core.term != self.term:
            self.world.checks.term_changes(self)
        state = core.state
        if state is not None:
            if state.commit_index != self.committed:
                self.world.checks.log.committing(self, state)
            state.batch_bytes = self.world.profile.batch_bytes
        for receivers, message in turn.send:
            for to in receivers:
                self._send(to, message)
        if turn.write is not None:
            self._write(turn.write)
        self.keeper.apply(turn.apply)

    def _send(self, to: int, message: Any) -> None:
        world = self.world
        world.checks.leaving(self, to, message)
        sent = self.keeper.fill(to, message) if type(message) is InstallSnapshotRequest else message
        if sent is None:
            return
        target = self._place_of(to)
        if target is None:
            world.trace.message(world.loop.now, world.loop.now, self.host.node, to, sent, "no session")
        else:
            self.post(target, to, sent)

    def post(self, target: Machine, to: int, message: object) -> None:
        """Send a message to a machine."""
        cluster = self.core.cluster
        if cluster not in {0, self.host.disk.hard.formation.cluster}:
            self.world.checks.fail(f"{name(self.host.node)} speaks for a cluster, and that is not on its disk")
        self.world.network.send(self.host, target, to, cluster, message)

    def _write(self, write: Write) -> None:
        world = self.world
        self.host.writing = write
        disk = self.host.disk.hard
        if disk.voted_for != write.hard.voted_for or disk.formation != write.hard.formation:
            world.faults.tempt(self.host)
        done = max(world.loop.now, self.host.stalled_until) + self.host.disk_seconds()
        world.loop.at(done, self.written, write)

    def _arm(self) -> None:
        due = (self.wake_at - self.host.offset) / self.host.rate
        if due < self.timer_at:
            world = self.world
            due = max(due, world.loop.now)
            late = world.profile.late + 5 * self.host.slow
            if late:
                due += late * world.random.random()
            if due < self.timer_at:
                self.timer_at = due
                world.loop.at(due, self.timer)

    def _carry_out(self, event: object) -> None:
        world = self.world
        if isinstance(event, ExtendWork):
            self.host.supervisor.extend(self, event.deadline)
            return
        if isinstance(event, ReadReady):
            self.world.checks.log.confirmed(self, event)
            return
        if isinstance(event, StorePart):
            self.keeper.store(event)
            return
        if isinstance(event, ReadFailed):
            return
        world.turn(f"{name(self.host.node)}: {describe(event)}")
        check_new_enough(self.host, event)
        if isinstance(event, StartWork):
            self.host.supervisor.start(self, event.token, event.deadline)
            world.faults.tempt(self.host)
        elif isinstance(event, EndWork):
            self.host.supervisor.end(self)
        elif isinstance(event, BecameLeader):
            world.checks.elected(self, event.term)
            world.faults.tempt(self.host)
            world.faults.silence(self.host)
        elif isinstance(event, SteppedDown):
            world.count["stepped down"] += 1
        elif isinstance(event, Formed):
            world.checks.formed(self, event.cluster, event.members)
        elif isinstance(event, Joined):
            world.checks.joined(self, event.cluster)
        elif isinstance(event, Removed):
            world.count["nodes removed"] += 1
            world.faults.operator.removed(self)
