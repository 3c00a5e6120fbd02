"""A node is a nursery: one task for each concern, and the cancellation of one is the end of all.

The loop (:mod:`trioraft.node.loop`) takes in datagrams, what the disk has written and what is due, and takes turns of
the member. Every other task feeds something to the core or the endpoint and wants a turn soon.
"""

import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Final, get_args

import structlog
import trio
from structlog.typing import FilteringBoundLogger

from trioraft.address import Address
from trioraft.arguments import check_bytes, check_function, check_is, check_methods, check_name, check_number
from trioraft.asking import waiting
from trioraft.asking.calls import FIRST_NUMBER_MAX, Calls
from trioraft.asking.session import Session
from trioraft.consensus import Core, Role, Timing
from trioraft.consensus.events import (
    Event,
)
from trioraft.consensus.ledger import Write
from trioraft.datagrams.batches import Batches
from trioraft.datagrams.endpoint import (
    Domain,
    Endpoint,
    Identity,
    Peer,
    Received,
    encode_message,
)
from trioraft.datagrams.endpoint import (
    Event as EndpointEvent,
)
from trioraft.dns.discovery import Answer
from trioraft.errors import NodeError, NotCommittedError, NotLeaderError, ProposalError
from trioraft.hooks.bodies import Leadership, OnOverrun
from trioraft.hooks.hooks import HookContext
from trioraft.members.steering import Steering
from trioraft.members.upgrades import Upgrades
from trioraft.messages import (
    REQUESTS_TAG,
    RESPONSES_TAG,
    ClientRequest,
    ClientRequests,
    ClientResponse,
    ClientResponses,
    EntryKind,
    Hello,
    InstallSnapshotRequest,
    Message,
    NodeStatus,
    ReadIndexRequest,
    ReadIndexResponse,
    Status,
    StatusRequest,
    format_id,
)
from trioraft.node.acting import Acting, too_old
from trioraft.node.around import Around
from trioraft.node.backups import BackupServer
from trioraft.node.commands import AskHandler
from trioraft.node.digests import StateDigests
from trioraft.node.loop import Loop, Wake
from trioraft.node.member import Member
from trioraft.node.neighbours import Neighbours
from trioraft.node.pauses import Pauses
from trioraft.node.proposals import Outcome
from trioraft.node.replicated import Replicated
from trioraft.node.requests import Requests
from trioraft.node.snapshots import Snapshotter
from trioraft.node.stalls import LoopWatch
from trioraft.node.status import Account
from trioraft.node.stopping import Stopping
from trioraft.node.trace import recording
from trioraft.node.work import LeaderWork
from trioraft.node.world import World
from trioraft.nurseries import bare_errors
from trioraft.replica.machine import KIND_MAX, NothingToReplicate, StateMachine, state_kind
from trioraft.replica.sessions import Replica, Result
from trioraft.settings.key_files import key_file_warning
from trioraft.settings.settings import NodeSettings

_log: Final[FilteringBoundLogger] = structlog.get_logger("trioraft.node")

# Where tasks that propose take long, the node looks so many times within a heartbeat interval what has come in.
_LOOKS: Final = 4


class Node:
    """One node, from its socket to its scripts.

    Parameters
    ----------
    settings : NodeSettings
        Its configuration.
    world : World
        The clock, chance, socket, disk and launcher that it uses.
    machine : StateMachine
        What is replicated.
    on_overrun : {'exit', 'log'}
        What happens when a body of leader work has not ended when it must be over.
    """

    def __init__(
        self, settings: NodeSettings, world: World, machine: StateMachine, on_overrun: OnOverrun = "exit"
    ) -> None:
        self.settings = settings
        self.stopping = False
        self._world = world
        self._disk = world.open_disk(settings)
        self.id = self._disk.node_id
        self._name = settings.node_name or world.host_name
        self._log = _log.bind(node=format_id(self.id), name=self._name)
        self._wake = Wake()
        self._loop: Loop | None = None
        self._changed = trio.Event()
        self._core = self._new_core()
        self._endpoint = Endpoint(
            Identity(self.id, settings.app_name, self._name, world.versions),
            settings.keys,
            entropy=world.entropy,
            cluster_id=self._core.cluster,
            datagram_bytes=settings.max_datagram_bytes,
        )
        self._neighbours = Neighbours(self._core, self._endpoint, settings, world, self._log)
        nodes, names = self._neighbours.nodes, self._neighbours.names
        self._upgrades = Upgrades(self._core, 2 * settings.election_timeout_upper, world.clock, nodes, names)
        self._steering = Steering(self._core, settings, nodes, names)
        self._work = LeaderWork(
            self._core,
            settings,
            self._disk.directory,
            self._hook_context,
            world,
            on_overrun,
            self.soon,
            self._now_log,
        )
        # No others know from where this process counts; its id stands in every datagram.
        first_read, first_request = (int.from_bytes(world.entropy(8), "big") % FIRST_NUMBER_MAX for _ in range(2))
        parts = Replicated.of(
            self._core, Replica(machine), world.clock, first_read=first_read, require=self._upgrades.require
        )
        pauses = Pauses(parts.applying, self.soon)
        self._snapshots = self._new_snapshotter(parts, pauses)
        self._backups = BackupServer(self._core, parts.replica, self._disk.directory, world, self.soon)
        self._digests = StateDigests(parts.replica, pauses)
        self._requests = Requests(
            parts,
            Around(self._neighbours, self._upgrades, self._steering),
            self._backups,
            self._digests,
            send=self._answer,
            clock=world.clock,
            soon=self.soon,
        )
        self._member = Member(parts, self._requests)
        self._acting = Acting(
            self._core,
            self._endpoint,
            self._neighbours,
            self._work,
            self._snapshots,
            world.versions,
            settings.app_name,
            self._now_log,
        )
        self._questions = Batches(lambda: self._endpoint, REQUESTS_TAG)
        self._answers = Batches(lambda: self._endpoint, RESPONSES_TAG)
        self._calls = Calls(self, world.clock, self.soon, first_request)
        self._session = Session(self._calls, world.clock)
        self._stopping = Stopping(
            self._core, settings, self._calls, world.clock, self.soon, self._role_changed, self._acting.removed
        )
        self._loop_watch = LoopWatch(settings.heartbeat_repeat)
        self._account = Account(
            self._core,
            settings,
            self._neighbours,
            self._work.hooks,
            parts.replica,
            self._snapshots,
            self._steering,
            counters=self._counters,
            clock=world.clock,
        )
        self._own_peer = self._new_own_peer()

    def _new_core(self) -> Core:
        """Make the consensus of what is on disk, unless that is of later software."""
        settings, world = self.settings, self._world
        core = Core(
            self.id,
            self._disk.hard,
            self._disk.log,
            Timing(
                lower=settings.election_timeout_lower,
                upper=settings.election_timeout_upper,
                heartbeat=settings.heartbeat_repeat,
                stop_grace=settings.hook_stop_grace,
            ),
            snapshot=self._disk.snapshot,
            log_waits=settings.durability == "sync",
            expect=settings.bootstrap_expect or 0,
            random_source=world.random,
            now=world.clock(),  # not from before the directory was taken: until then an earlier process may promise
        )
        core.versions = world.versions
        if core.version > world.versions.highest:
            self._disk.close()
            raise NodeError(f"{self._disk.directory}: {too_old(core.version, world.versions)}")
        return core

    def _new_snapshotter(self, parts: Replicated, pauses: Pauses) -> Snapshotter:
        return Snapshotter(
            self._core,
            parts.applying,
            pauses,
            self._disk.directory,
            self._world.clock,
            self.soon,
            alert=lambda text: self._neighbours.alerts.raise_alert("snapshot", text, self._world.clock()),
            entries_max=self.settings.snapshot_entries,
            bytes_max=self.settings.snapshot_bytes,
        )

    def _new_own_peer(self) -> Peer:
        """Make what this node is to itself, where its own program asks it for something."""
        now = self._world.clock()
        return Peer(
            node_id=self.id,
            process=self._endpoint.process,
            domain=Domain.CONSENSUS,
            service=self.settings.app_name,
            name=self._name,
            address=Address("", 0),
            cluster_id=0,
            confirmed_at=now,
            heard_at=now,
        )

    def _now_log(self) -> FilteringBoundLogger:
        return self._log

    def _counters(self) -> Counter[str]:
        sent = self._socket.counters if self._loop is not None else Counter[str]()
        return self._endpoint.counters + sent + self._loop_watch.counters + self._acting.counters

    @property
    def must_begin_anew(self) -> trio.Event:
        """Set where this node was removed while it was away, so that it may begin as another one."""
        return self._acting.must_begin_anew

    def soon(self) -> None:
        """Have a turn follow at the end of this pass of the scheduler."""
        self._wake.soon()

    # --- the tasks ------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the node until it is cancelled.

        Parameters
        ----------
        task_status : trio.TaskStatus
            Told the address of the socket once the node takes part.
        """
        try:
            self._socket = await self._world.open_socket(self.settings.bind_host, self.settings.bind_port)
        except OSError as error:
            self._disk.close()
            raise NodeError(
                f"BIND_HOST={self.settings.bind_host} BIND_PORT={self.settings.bind_port}:"
                f" {error.strerror or error}; choose an address of this machine and a free UDP port"
            ) from error
        self._endpoint.use_path_bytes(self._socket.path_bytes)
        self._neighbours.bound = self._socket.address
        try:
            with bare_errors(), recording(self._core, self.settings.trace_file):
                async with trio.open_nursery() as nursery:
                    if self._world.watchdog_clock is not None:
                        trio.lowlevel.add_instrument(self._loop_watch)
                    await self._snapshots.restore()
                    await nursery.start(self._work.hooks.run)
                    loop = self._loop = Loop(
                        self._member,
                        self._endpoint,
                        self._socket,
                        self._disk,
                        self,
                        self._wake,
                        self._world.clock,
                        self.settings.heartbeat_repeat / _LOOKS,
                    )
                    for task in self._tasks(loop):
                        nursery.start_soon(task)
                    self._start_up()
                    loop.turn()
                    task_status.started(self._socket.address)
        finally:
            with suppress(KeyError):
                trio.lowlevel.remove_instrument(self._loop_watch)
            self._work.bodies.close()
            self._socket.close()
            self._disk.close()

    def _tasks(self, loop: Loop) -> tuple[Callable[[], Awaitable[None]], ...]:
        return (
            loop.receive,
            loop.keep_time,
            loop.write,
            self._snapshots.take,
            self._snapshots.receive,
            self._snapshots.clean_up,
            self._backups.run,
            self._digests.run,
            self._discover,
            self._greet,
        )

    def _start_up(self) -> None:
        if self.settings.keys is None:
            self._log.warning(
                "no CLUSTER_KEY: datagrams are neither secret nor authentic;"
                " make one with `trioraft keygen --output FILE`"
            )
        if warning := key_file_warning(self.settings.key_file):
            self._log.warning(warning)
        self._log.info(
            "node started", address=str(self._socket.address), service=self.settings.app_name, role=self._core.role
        )
        if self._core.cluster:
            self._work.become_follower()
        self._neighbours.tell_core(self._world.clock())

    async def _discover(self) -> None:
        """Ask DNS again and again; what it says, or that it is silent, never disturbs a running cluster."""
        await self._world.open_discovery(self.settings).run(self._discovered)

    def _discovered(self, answer: Answer) -> None:
        self._neighbours.discovered(answer)
        self._steering.discovered(answer, self.address, self._world.clock())
        self.soon()

    async def _greet(self) -> None:
        """Greet whoever is due, see to the members, and find out what this node is called."""
        named: Address | None = None
        while True:
            self._neighbours.own_found = trio.Event()
            now = self._world.clock()
            self._neighbours.greet(now)
            self._upgrades.drive()
            self._member.proposals.name_kind()
            self._steering.steer(now)
            self.soon()
            own = self.address
            if own is not None and own != named and not self.settings.node_name:
                named = own
                if name := await self._neighbours.find_name(own):
                    self._log = self._log.bind(name=name)
                    self.soon()
            with trio.move_on_after(self._neighbours.greeting_pause):
                await self._neighbours.own_found.wait()

    # --- what the loop drives -------------------------------------------------------------------------------

    def handle(self, event: EndpointEvent, now: float) -> None:
        """Take what the endpoint has read from a datagram."""
        if isinstance(event, Received):
            self._receive_message(event.peer, event.cluster_id, event.message, now)
            return
        try:
            self._neighbours.handle(event, now)
        except NodeError as error:
            self.say_farewell(str(error))
            raise

    def _receive_message(self, peer: Peer, cluster: int, message: Message, now: float) -> None:
        match message:
            case StatusRequest(subscribe=seconds):
                self._account.subscribe(peer, seconds, now)
            case ClientRequest():
                self._requests.add(peer, message)
            case ClientRequests(requests=requests):
                for request in requests:
                    self._requests.add(peer, request)
            case ClientResponse():
                self._calls.receive(peer.node_id, message)
            case ClientResponses(responses=responses):
                for response in responses:
                    self._calls.receive(peer.node_id, response)
            case Hello() | Status():
                pass  # not for a node
            case _ if isinstance(message, ReadIndexRequest | ReadIndexResponse) or self._neighbours.may_say(
                peer, message, now
            ):
                self._member.take(peer.node_id, cluster, message, now)
            case _:
                self._endpoint.counters["dropped_not_a_member"] += 1

    def act_on(self, event: Event, now: float) -> None:
        """Act on what a turn says has happened."""
        try:
            self._acting.act_on(event, now)
        except NodeError as error:
            self.say_farewell(str(error))
            raise

    def fill(self, to: int, part: InstallSnapshotRequest) -> InstallSnapshotRequest | None:
        """Read the bytes of a snapshot's part that leaves."""
        return self._snapshots.fill(to, part)

    def turned(self, now: float) -> None:
        """Show what has changed, and hand to the endpoint what else is to leave."""
        self._snapshots.look()
        if self._account.has_changed(self._log, now):
            self._changed.set()
            self._changed = trio.Event()
            self._account.push(now)
            self._calls.learn_leader(self._core.term, self._core.leader)
        if self.next_deadline() <= now:
            self.handle_timer(now)
        self._questions.flush(now)
        self._answers.flush(now)

    def next_deadline(self) -> float:
        """Return when :meth:`handle_timer` wants to be called, in seconds."""
        return min(self._session.next_deadline(), self._calls.next_deadline())

    def handle_timer(self, now: float) -> None:
        """Ask for what this node's own program wants, and ask again."""
        self._session.handle_timer(now)
        self._calls.handle_timer(now)

    def written(self, write: Write) -> None:
        """Act on what is on disk now."""
        self._acting.written(write)

    async def _role_changed(self) -> None:
        await self._changed.wait()

    def say_farewell(self, failure: str) -> None:
        """Tell whoever watches why this node is about to stop: nothing else tells them."""
        self._account.failure = failure
        self._account.push(self._world.clock())
        if self._loop is not None:
            self._loop.send_datagrams()

    # --- what one may look at -------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """What people call it."""
        return self._endpoint.name

    @property
    def address(self) -> Address | None:
        """Where other nodes reach this one, once that is known."""
        return self._neighbours.own

    @property
    def role(self) -> Role:
        """What the node is to its cluster."""
        return self._core.role

    def _hook_context(self) -> HookContext:
        return HookContext(
            node_id=format_id(self.id),
            node_name=self.name,
            cluster_id=format_id(self._core.cluster),
            term=self._core.term,
            leader_id=format_id(self._core.leader) if self._core.leader else "",
        )

    def status(self) -> NodeStatus:
        """Give the node's account of itself.

        Returns
        -------
        NodeStatus
            What ``trioraft status`` and the monitor show.
        """
        return self._account.status()

    # --- the replicated state -------------------------------------------------------------------------------

    async def propose(self, command: bytes) -> bytes:
        """Have a command committed and applied, once, whichever node leads.

        Parameters
        ----------
        command : bytes
            The command.

        Returns
        -------
        bytes
            What the state machine's ``apply`` returned.

        Raises
        ------
        ProposalError
            If it was not carried out, or that is not known; the text says which. When the wait is cancelled, it is
            not known.
        """
        command = check_bytes("command", command)
        self._look_around()
        while self._core.role is Role.LEADER:
            try:
                return (await self._propose_here(EntryKind.COMMAND, command)).data
            except (NotCommittedError, NotLeaderError):
                continue  # that one never will be carried out; so try again, perhaps elsewhere
        return await waiting.propose(self._session, command)

    async def _propose_here(self, kind: EntryKind, data: bytes) -> Result:
        """Have an entry committed and applied by this leader, and wait for that."""
        ended = trio.Event()
        outcomes: list[Outcome] = []

        def done(outcome: Outcome) -> None:
            outcomes.append(outcome)
            ended.set()

        placed = self._member.proposals.submit(kind, data, done)
        self.soon()
        try:
            await ended.wait()
        finally:
            self._member.proposals.forget(placed)
        if isinstance(outcomes[0], ProposalError):
            raise outcomes[0]
        return outcomes[0]

    def _look_around(self) -> None:
        if self._loop is not None:
            self._loop.look_around()

    async def read_barrier(self) -> None:
        """Wait until the state machine of this node shows everything that was acknowledged before the call."""
        while True:
            answered = trio.Event()
            found: list[int | None] = []

            def confirmed(
                index: int | None, answered: trio.Event = answered, found: list[int | None] = found
            ) -> None:
                found.append(index)
                answered.set()

            self._look_around()
            self._member.reads.start(confirmed)
            self.soon()
            await answered.wait()
            if found[0] is not None:
                applied = trio.Event()
                self._member.applying.when_applied(found[0], applied.set)
                await applied.wait()
                return
            with trio.move_on_after(self.settings.heartbeat_repeat):
                await self._changed.wait()

    def answer_questions(
        self, handler: AskHandler, only_reads: Callable[[bytes], bool] = lambda question: False
    ) -> None:
        """Let the program around the state machine answer what clients ask it (:meth:`Client.ask`).

        Parameters
        ----------
        handler : callable
            Called with a question, and whom to tell the answer, now or later.
        only_reads : callable
            Tells whether a question changes nothing, and may so be asked with a reader key.
        """
        self._requests.answer_questions(
            check_function("handler", handler, is_async=False),
            check_function("only_reads", only_reads, is_async=False),
        )

    # --- leadership -----------------------------------------------------------------------------------------

    def leadership(self) -> AbstractAsyncContextManager[Leadership]:
        """Wait until this node may do leader work, and run a block as such.

        The block is cancelled at its next checkpoint when leadership is lost. If it has not ended when leader work
        must be over, the process is ended.

        Returns
        -------
        async context manager of Leadership
            The block's leadership, with its fencing token.
        """
        return self._work.bodies.leadership(_caller())

    async def run_while_leader(self, function: Callable[[Leadership], Awaitable[object]]) -> None:
        """Run a function at each promotion of this node, for ever.

        Parameters
        ----------
        function : callable
            An async function of the leadership. It is cancelled as the body of :meth:`leadership` is; when it
            returns, it is done until the next promotion.
        """
        check_function("function", function)
        await self._work.bodies.run_while_leader(getattr(function, "__qualname__", repr(function)), function)

    @property
    def leads_in(self) -> int:
        """The term in which this node leads, 0 when it does not."""
        return self._core.term if self._core.role is Role.LEADER else 0

    def now(self) -> float:
        """Tell the time in seconds, on the clock that deadlines are counted on."""
        return self._world.clock()

    def propose_in_term(self, term: int, command: bytes) -> None:
        """Propose a command here if this node leads in a term, and wait for nothing; it may come to nothing.

        Parameters
        ----------
        term : int
            The term.
        command : bytes
            The command.
        """
        command = check_bytes("command", command)
        if check_number("term", term) and self.leads_in == term:
            with suppress(ProposalError):
                self._member.proposals.submit(EntryKind.COMMAND, command, lambda outcome: None)
            self.soon()

    # --- reaching other nodes, for what this one asks of the leader -----------------------------------------

    def send_request(self, node: int, request: ClientRequest) -> bool:
        """Send a request to a node; False where there is no way to it now."""
        if node == self.id:
            self._requests.receive(self._own_peer, request)
            return True
        peer = self._endpoint.peer(node)
        if peer is not None:
            self._questions.add(peer, encode_message(request))
        return peer is not None

    def highest_version(self, node: int) -> int:
        """Give the highest version of the protocol that a node speaks; 0 where there is no way to it now."""
        peer = self._own_peer if node == self.id else self._endpoint.peer(node)
        return peer.versions.highest if peer is not None else 0

    def reachable_nodes(self) -> list[int]:
        """Give the nodes that can be sent something now."""
        return [peer.node_id for peer in self._neighbours.nodes()]

    def meet(self, node: int, address: str) -> None:
        """Do nothing: nodes meet by discovery and greetings."""

    def _answer(self, peer: Peer, response: ClientResponse) -> None:
        if peer is self._own_peer:
            self._calls.receive(self.id, response)
        else:
            self._answers.add(peer, encode_message(response))

    # --- stopping -------------------------------------------------------------------------------------------

    async def step_aside(self, reason: str) -> None:
        """Give leadership to another node before this one stops, and leave the cluster if it is to; bounded.

        Parameters
        ----------
        reason : str
            Why the node stops, for the log.
        """
        check_is("reason", reason, str)
        self.stopping = True
        await self._stopping.step_aside(self._log, reason)


def _caller() -> str:
    """Say where the body of a leadership block stands, for whoever has to find it."""
    code = sys._getframe(2).f_code
    return f"{code.co_qualname} ({code.co_filename}:{sys._getframe(2).f_lineno})"


@asynccontextmanager
async def open_node(
    settings: NodeSettings,
    machine: StateMachine | None = None,
    *,
    on_overrun: OnOverrun = "exit",
    world: World | None = None,
) -> AsyncIterator[Node]:
    """Run a node for as long as the block lasts.

    Parameters
    ----------
    settings : NodeSettings
        Its configuration.
    machine : StateMachine, optional
        What is replicated; nothing by default.
    on_overrun : {'exit', 'log'}
        What happens when a body of leader work has not ended when it must be over: the process is ended, or
        (unsafe!) it is only logged.
    world : World, optional
        The clock, chance, socket, disk and launcher that it uses; the real ones by default.

    Yields
    ------
    Node
        The node, once it takes part.

    Raises
    ------
    NodeError, StorageError
        If it cannot start or go on; the block is cancelled then. One line that says what to do. A node without a
        key starts on loopback only, unless ``UNSEALED`` is ``allowed``.
    """
    check_is("settings", settings, NodeSettings)
    if machine is not None:
        optional = [method for method in ("query", "version_needed", "follow_version") if hasattr(machine, method)]
        check_methods("machine", machine, "apply", "snapshot", "restore", *optional)
        check_name("machine.state_kind", state_kind(machine), KIND_MAX)
    if on_overrun not in get_args(OnOverrun):
        raise ValueError(f"on_overrun must be {' or '.join(get_args(OnOverrun))}, not {on_overrun!r}")
    if settings.exposed and settings.unsealed != "allowed":
        raise NodeError(
            f"BIND_HOST={settings.bind_host}: without a key, whoever can reach a node reads and changes everything;"
            " make a key with `trioraft keygen --output FILE`, and give it to all nodes as CLUSTER_KEY_FILE,"
            " or set UNSEALED=allowed"
        )
    node = Node(settings, world or World.real(), NothingToReplicate() if machine is None else machine, on_overrun)
    with bare_errors():
        async with trio.open_nursery() as nursery:
            await nursery.start(node.run)
            yield node
            nursery.cancel_scope.cancel()
