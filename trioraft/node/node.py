"""A node is a nursery: one task for each concern, and the cancellation of one is the end of all.

::

    socket ──▶ endpoint ──▶ core ──▶ disk (hard state) ──▶ core ──▶ endpoint ──▶ socket
    timer  ────────────────▶ core ──▶ hooks (leader work) ──▶ core
    discovery ─▶ address book ─▶ greetings ─▶ endpoint

Every task feeds something to the core or the endpoint and then calls :meth:`Node._flush`, which sends, in one
go and without a checkpoint for each datagram, whatever came out. All deadlines are on one clock
(``CLOCK_BOOTTIME``).
"""

import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from typing import Final, get_args

import structlog
import trio

from trioraft._version import __version__
from trioraft.address import Address
from trioraft.arguments import check_bytes, check_function, check_is, check_methods, check_name, check_number
from trioraft.asking import waiting
from trioraft.asking.calls import FIRST_NUMBER_MAX, Calls
from trioraft.asking.session import Session
from trioraft.consensus import Core, Role, Timing
from trioraft.consensus.configuration import Configuration
from trioraft.consensus.events import (
    BecameLeader,
    ConfigurationChanged,
    EndWork,
    Event,
    ExtendWork,
    ForeignCluster,
    FormationEnded,
    Formed,
    Joined,
    NotMeant,
    ReadFailed,
    ReadReady,
    Removed,
    StartWork,
    SteppedDown,
    StorePart,
    TooOld,
)
from trioraft.datagrams.batches import Batches
from trioraft.datagrams.endpoint import (
    Domain,
    EncodedMessage,
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
from trioraft.hooks.bodies import Bodies, Leadership, OnOverrun
from trioraft.hooks.hooks import HookContext, Hooks
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
from trioraft.node.apply import Applier
from trioraft.node.backups import BackupServer
from trioraft.node.neighbours import Neighbours
from trioraft.node.reads import Reads
from trioraft.node.request_queue import RequestQueue
from trioraft.node.requests import AskHandler, Requests
from trioraft.node.snapshots import Snapshotter
from trioraft.node.stalls import LoopWatch
from trioraft.node.status import Account
from trioraft.node.stopping import Stopping
from trioraft.node.trace import recording
from trioraft.node.world import World
from trioraft.nurseries import bare_errors
from trioraft.replica.machine import KIND_MAX, NothingToReplicate, StateMachine, state_kind
from trioraft.replica.sessions import Replica
from trioraft.settings.key_files import key_file_warning
from trioraft.settings.settings import NodeSettings
from trioraft.storage.errors import StorageError
from trioraft.versions import Versions

_log: Final = structlog.get_logger("trioraft.node")

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
        self._world = world
        self._disk = world.open_disk(settings)
        self.id = self._disk.node_id
        name = settings.node_name or world.host_name
        self._log = _log.bind(node=format_id(self.id), name=name)
        self._core = Core(
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
        self._core.versions = world.versions
        self._see_that_it_speaks(self._core.version)
        self._endpoint = Endpoint(
            Identity(self.id, settings.app_name, name, world.versions),
            settings.keys,
            entropy=world.entropy,
            cluster_id=self._core.cluster,
            datagram_bytes=settings.max_datagram_bytes,
        )
        self._neighbours = Neighbours(self._core, self._endpoint, settings, world, self._log)
        self._hooks = Hooks(
            settings,
            self._disk.directory,
            self._hook_context,
            launcher=world.launcher,
            on_work_ended=self._scripts_ended,
            on_work_failed=self._work_failed,
        )
        self._applier = Applier(self._core, Replica(machine), world.clock, self._flush)
        self._snapshots = Snapshotter(
            self._core,
            self._applier,
            self._disk.directory,
            world.clock,
            self._flush,
            alert=lambda text: self._neighbours.alerts.raise_alert("snapshot", text, world.clock()),
            entries_max=settings.snapshot_entries,
            bytes_max=settings.snapshot_bytes,
        )
        # No others know from where this process counts; its id stands in every datagram.
        first_read, first_request = (int.from_bytes(world.entropy(8), "big") % FIRST_NUMBER_MAX for _ in range(2))
        self._reads = Reads(self._core, world.clock, self._send_to_node, self._flush, first_read)
        self._backups = BackupServer(self._core, self._applier, self._disk.directory, world, self._flush)
        self._requests = Requests(
            self._core,
            self._applier,
            self._reads,
            self._backups,
            world.clock,
            send=self._answer,
            address_of=self._neighbours.address_of,
            reachable=self._neighbours.reachable_voters,
            flush=self._flush,
        )
        self._request_queue = RequestQueue(self._requests.receive, world.clock, self._flush)
        self._requests.names = self._neighbours.names
        self._upgrades = Upgrades(
            self._core,
            2 * settings.election_timeout_upper,
            world.clock,
            self._neighbours.nodes,
            self._neighbours.names,
        )
        self._requests.why_not_join = self._upgrades.why_not_join
        self._applier.require = self._requests.require = self._upgrades.require
        self._steering = Steering(self._core, settings, self._neighbours.nodes, self._neighbours.names)
        self._requests.let_leave = self._steering.let_leave
        self._questions = Batches(lambda: self._endpoint, REQUESTS_TAG)
        self._answers = Batches(lambda: self._endpoint, RESPONSES_TAG)
        self._asking = waiting.Timer(world.clock)
        self._calls = Calls(self, world.clock, self._asking.soon, first_request)
        self._session = Session(self._calls, world.clock)
        self._removed = trio.Event()
        self._stopping = Stopping(
            self._core, settings, self._calls, world.clock, self._flush, self._role_changed, self._removed
        )
        self._loop_watch = LoopWatch(settings.heartbeat_repeat)
        self._account = Account(
            self._core,
            settings,
            self._neighbours,
            self._hooks,
            self._applier,
            self._snapshots,
            self._steering,
            counters=lambda: (
                self._endpoint.counters + self._socket.counters + self._loop_watch.counters + self._not_meant
            ),
            clock=world.clock,
        )
        self._scripts_run = False
        self._bodies = Bodies(world.watchdog_clock, settings.hook_stop_grace, self._work_ended, on_overrun)
        self._own_peer = Peer(
            node_id=self.id,
            process=self._endpoint.process,
            domain=Domain.CONSENSUS,
            service=settings.app_name,
            name=name,
            address=Address("", 0),
            cluster_id=0,
            confirmed_at=world.clock(),
            heard_at=world.clock(),
        )
        self._not_meant: Counter[str] = Counter()
        self._was_removed_while_away = False
        self.must_begin_anew = trio.Event()
        self._disk_wanted = trio.Event()
        self._noted_written = 0
        self._changed = trio.Event()
        self._timer = trio.CancelScope()
        self._failure: NodeError | None = None
        self._looked_at = float("-inf")  # when the socket was looked at last
        self._look_interval = settings.heartbeat_repeat / _LOOKS
        self.stopping = False

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
                    await nursery.start(self._hooks.run)
                    for task in self._tasks():
                        nursery.start_soon(task)
                    self._start_up()
                    task_status.started(self._socket.address)
        finally:
            with suppress(KeyError):
                trio.lowlevel.remove_instrument(self._loop_watch)
            self._bodies.close()
            self._socket.close()
            self._disk.close()

    def _tasks(self) -> tuple[Callable[[], Awaitable[None]], ...]:
        return (
            self._receive,
            self._keep_time,
            self._write,
            self._applier.run,
            self._reads.run,
            self._requests.run,
            self._request_queue.run,
            partial(self._asking.run, self._ask_nodes),
            self._snapshots.take,
            self._snapshots.receive,
            self._snapshots.clean_up,
            self._backups.run,
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
            self._hooks.become_follower()
        self._neighbours.tell_core(self._world.clock())
        self._flush()

    async def _receive(self) -> None:
        """Drain the socket on each wake-up, feed everything, then send what came out.

        The clock is read after the socket: what a node promises its leader, it promises from the receipt on. A time
        from before a pause would let that end too early.
        """
        while True:
            await self._socket.wait_readable()
            self._take_in()
            self._request_queue.carry_out_some()
            self._flush()

    def _take_in(self) -> None:
        """Hear the disk and drain the socket; what clients ask for waits for its turn."""
        self._note_written()
        datagrams = self._socket.receive()
        now = self._looked_at = self._world.clock()
        for data, source in datagrams:
            event = self._endpoint.receive_datagram_untrusted(data, source, now)
            if event is not None:
                self._handle(event, now)
        for further in self._endpoint.further_events():
            self._handle(further, now)

    def _look_around(self) -> None:
        """Let the node do its own business, in the midst of a turn of trio's loop, when that takes long.

        Trio looks at sockets and clocks once all tasks that can run have run, and thousands of them may propose in
        one turn. The heartbeats of a leader, a follower's answers to them, and those of the disk do not wait for all.
        """
        if self._world.clock() - self._looked_at > self._look_interval:
            try:
                self._keep_up()
            except NodeError as error:  # not for whoever proposes
                self._failure = error
                self._timer.cancel()

    async def _keep_time(self) -> None:
        """Wake the core at its deadlines."""
        while True:
            with self._timer:
                await trio.sleep_forever()
            self._timer = trio.CancelScope()
            if self._failure is not None:
                raise self._failure
            self._keep_up()

    def _keep_up(self) -> None:
        """Take what has come in, and then do what is due."""
        self._take_in()
        now = self._world.clock()
        self._core.handle_timer(now)
        self._endpoint.handle_timer(now)
        self._flush()
        self._request_queue.leave_to_run()

    async def _write(self) -> None:
        """Write the hard state, one write at a time; the newest one is written when several wait."""
        while True:
            await self._disk_wanted.wait()
            self._disk_wanted = trio.Event()
            while (write := self._core.to_persist()) is not None:
                try:
                    await self._disk.save(write)
                except StorageError as error:
                    self._say_farewell(str(error))
                    raise
                self._note_written()
                self._flush()
                if write.hard.removed:
                    self._removed.set()
                    if self._was_removed_while_away:
                        self.must_begin_anew.set()
                if write.snapshot is not None:
                    self._snapshots.is_valid(write.snapshot)

    def _note_written(self) -> None:
        """Tell the core what the disk has written by now."""
        if self._disk.written > self._noted_written:
            self._noted_written = self._disk.written
            self._core.persisted(self._noted_written, self._world.clock())

    async def _discover(self) -> None:
        """Ask DNS again and again; what it says, or that it is silent, never disturbs a running cluster."""
        await self._world.open_discovery(self.settings).run(self._discovered)

    def _discovered(self, answer: Answer) -> None:
        self._neighbours.discovered(answer)
        self._steering.discovered(answer, self.address, self._world.clock())
        self._flush()

    async def _greet(self) -> None:
        """Greet whoever is due, see to the members, and find out what this node is called."""
        named: Address | None = None
        while True:
            self._neighbours.own_found = trio.Event()
            now = self._world.clock()
            self._neighbours.greet(now)
            self._upgrades.drive()
            self._applier.name_kind()
            self._steering.steer(now)
            self._flush()
            own = self.address
            if own is not None and own != named and not self.settings.node_name:
                named = own
                if name := await self._neighbours.find_name(own):
                    self._log = self._log.bind(name=name)
                    self._flush()
            with trio.move_on_after(self._neighbours.greeting_pause):
                await self._neighbours.own_found.wait()

    # --- what comes in --------------------------------------------------------------------------------------

    def _handle(self, event: EndpointEvent, now: float) -> None:
        if isinstance(event, Received):
            self._receive_message(event.peer, event.cluster_id, event.message, now)
            return
        try:
            self._neighbours.handle(event, now)
        except NodeError as error:
            self._say_farewell(str(error))
            raise

    def _see_that_it_speaks(self, version: int) -> None:
        """Refuse to start with software that is older than what the cluster speaks."""
        speaks = self._world.versions
        if version > speaks.highest:
            self._disk.close()
            raise NodeError(f"{self._disk.directory}: {_too_old(version, speaks)}")

    def _receive_message(self, peer: Peer, cluster: int, message: Message, now: float) -> None:
        match message:
            case StatusRequest(subscribe=seconds):
                self._account.subscribe(peer, seconds, now)
            case ClientRequest():
                self._request_queue.add(peer, message)
            case ClientRequests(requests=requests):
                for request in requests:
                    self._request_queue.add(peer, request)
            case ClientResponse():
                self._calls.receive(peer.node_id, message)
            case ClientResponses(responses=responses):
                for response in responses:
                    self._calls.receive(peer.node_id, response)
            case ReadIndexRequest() | ReadIndexResponse():
                if cluster == self._core.cluster:
                    self._reads.receive(peer.node_id, message)
            case Hello() | Status():
                pass  # not for a node
            case _ if self._neighbours.may_say(peer, message, now):
                self._core.receive(peer.node_id, cluster, message, now)
            case _:
                self._endpoint.counters["dropped_not_a_member"] += 1

    # --- what goes out --------------------------------------------------------------------------------------

    def _flush(self) -> None:
        """Act on everything that the core and the endpoint have ready."""
        now = self._world.clock()
        for event in self._core.events():
            self._act_on(event, now)
        outgoing = self._core.to_send()
        encoded: dict[int, EncodedMessage] = {}  # the regular heartbeat is one message to all: encode it once
        for to, message in outgoing:
            peer = self._endpoint.peer(to)
            if isinstance(message, InstallSnapshotRequest):
                part = self._snapshots.fill(to, message)
                if part is not None and peer is not None:
                    self._endpoint.send(peer, encode_message(part), now)
            elif peer is not None:
                if id(message) not in encoded:
                    encoded[id(message)] = encode_message(message)
                self._endpoint.send(peer, encoded[id(message)], now)
        self._send_datagrams()
        if self._core.wants_disk:
            self._disk_wanted.set()
        if self._core.has_committed:
            self._applier.apply_some()
        self._show_change(now)
        self._questions.flush(now)
        self._answers.flush(now)
        self._send_datagrams()
        wanted = min(self._core.next_deadline(), self._endpoint.next_deadline())
        deadline = trio.current_time() + (wanted - now)
        # To set it costs time. One that has moved away is noticed when the timer wakes for nothing.
        if deadline < self._timer.deadline:  # noqa: PLR1730
            self._timer.deadline = deadline

    def _send_datagrams(self) -> None:
        for data, address in self._endpoint.datagrams_to_send():
            self._socket.send(data, address)

    def _act_on(self, event: Event, now: float) -> None:
        match event:
            case Formed() | Joined() | ConfigurationChanged() | Removed() | FormationEnded() | ForeignCluster():
                self._note_membership(event, now)
            case TooOld(version=version):
                failure = _too_old(version, self._world.versions)
                self._say_farewell(failure)
                raise NodeError(failure)
            case NotMeant():
                self._note_not_meant(event, now)
            case BecameLeader(term=term):
                self._log.info("became leader", term=term)
            case SteppedDown(term=term, reason=reason):
                self._log.warning("stepped down", term=term, reason=reason)
                self._hooks.become_follower()
            case StartWork(token=token, deadline=deadline):
                self._hooks.start_work(token, deadline)
                self._bodies.start_work(token, deadline)
            case ExtendWork(deadline=deadline):
                self._hooks.extend_work(deadline)
                self._bodies.extend_work(deadline)
            case EndWork():
                self._scripts_run = True
                self._hooks.end_work()
                self._bodies.end_work()
            case StorePart():
                self._snapshots.store(event)
            case ReadReady(read=read, index=index):
                self._reads.confirmed(read, index)
            case ReadFailed(read=read):
                self._reads.confirmed(read, None)

    def _note_membership(self, event: Event, now: float) -> None:
        """Act on what changes who is a member of which cluster."""
        match event:
            case Formed(cluster=cluster, members=members):
                self._endpoint.cluster_id = cluster
                self._log.info("cluster formed", cluster=format_id(cluster), members=len(members))
                self._hooks.become_follower()
            case Joined(cluster=cluster):
                self._endpoint.cluster_id = cluster
                self._log.info("joined", cluster=format_id(cluster))
                self._hooks.become_follower()
            case ConfigurationChanged(configuration=configuration, committed=committed):
                self._log.info("members", committed=committed, **_in_words(configuration, self._neighbours.names()))
                if committed:
                    self._follow_version(configuration.version)
                    self._requests.members_changed(configuration)
            case Removed(while_away=while_away):
                self._was_removed_while_away = while_away
                self._log.warning("this node was removed; when it is started again, it joins as another one")
            case FormationEnded(formation=formation, reason=reason):
                self._log.warning("formation ended", formation=format_id(formation), reason=reason)
            case ForeignCluster(node=node, cluster=cluster):
                self._neighbours.alerts.raise_alert(
                    f"foreign {node}",
                    f"node {format_id(node)} belongs to another cluster, {format_id(cluster)}, under the same"
                    f" service name {self.settings.app_name!r}: refused; give it another APP_NAME or other data",
                    now,
                    minor=self._neighbours.is_stranger(node),
                )

    def _note_not_meant(self, dropped: NotMeant, now: float) -> None:
        """Count a message that no member can have meant, and say whose it was."""
        self._not_meant["dropped_not_meant"] += 1
        name = self._neighbours.names().get(dropped.node, "")
        sender = f"{name} ({format_id(dropped.node)})" if name else f"node {format_id(dropped.node)}"
        where = self._neighbours.address_of(dropped.node)
        self._neighbours.alerts.raise_alert(
            f"not meant {dropped.node}",
            f"{sender}{where and f' at {where}'} sent what no member can mean, and it is dropped: {dropped.kind} with"
            f" {dropped.what}; find out what runs there, and whether somebody else has the key",
            now,
        )

    def _follow_version(self, version: int) -> None:
        """Speak to those only who speak what the cluster does, once that cannot be taken back."""
        before = self._endpoint.versions
        self._endpoint.versions = self._world.versions.within(version)
        if self._endpoint.versions != before:
            self._log.info("the cluster speaks another version of the protocol", version=self._core.version)

    def _scripts_ended(self) -> None:
        self._scripts_run = False
        self._work_ended()

    def _work_ended(self) -> None:
        """Tell the core when neither a script nor a body is left of leader work."""
        if not self._scripts_run and not self._bodies.running:
            self._core.work_ended(self._world.clock())
            self._flush()

    def _work_failed(self, reason: str) -> None:
        self._log.error("leader work failed", reason=reason)
        self._core.work_failed(self._world.clock())
        self._flush()

    def _show_change(self, now: float) -> None:
        """Tell whoever watches, and who waits for it here, that a role, the term, the leader or a setting changed."""
        if not self._account.has_changed(self._log, now):
            return
        self._changed.set()
        self._changed = trio.Event()
        self._account.push(now)
        self._requests.conclude()
        self._reads.leader_changed()
        self._calls.learn_leader(self._core.term, self._core.leader)

    async def _role_changed(self) -> None:
        await self._changed.wait()

    def _say_farewell(self, failure: str) -> None:
        """Tell whoever watches why this node is about to stop: nothing else tells them."""
        self._account.failure = failure
        self._account.push(self._world.clock())
        self._send_datagrams()

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
                return (await self._applier.propose(EntryKind.COMMAND, command)).data
            except (NotCommittedError, NotLeaderError):
                continue  # that one never will be carried out; so try again, perhaps elsewhere
        return await waiting.propose(self._session, command)

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
            self._reads.start(confirmed)
            self._flush()
            await answered.wait()
            if found[0] is not None:
                await self._applier.wait_applied(found[0])
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
        self._requests.on_ask = check_function("handler", handler, is_async=False)
        self._requests.only_reads = check_function("only_reads", only_reads, is_async=False)

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
        return self._bodies.leadership(_caller())

    async def run_while_leader(self, function: Callable[[Leadership], Awaitable[object]]) -> None:
        """Run a function at each promotion of this node, for ever.

        Parameters
        ----------
        function : callable
            An async function of the leadership. It is cancelled as the body of :meth:`leadership` is; when it
            returns, it is done until the next promotion.
        """
        check_function("function", function)
        await self._bodies.run_while_leader(getattr(function, "__qualname__", repr(function)), function)

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
                self._applier.submit(EntryKind.COMMAND, command, lambda outcome: None)
            self._flush()

    # --- reaching other nodes, for what this one asks of the leader -----------------------------------------

    def _ask_nodes(self) -> float:
        """Send what is due of that, and return when something is due next."""
        now = self._world.clock()
        self._session.handle_timer(now)
        self._calls.handle_timer(now)
        self._flush()
        return min(self._session.next_deadline(), self._calls.next_deadline())

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

    def _send_to_node(self, node: int, message: Message) -> bool:
        peer = self._endpoint.peer(node)
        if peer is not None:
            self._endpoint.send(peer, message, self._world.clock())
        return peer is not None

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


def _too_old(version: int, speaks: Versions) -> str:
    """Say that this node cannot take part, and what to do."""
    cluster = f"version {version}" if version else "a later version"
    return (
        f"the cluster speaks {cluster} of the protocol, and this software (trioraft {__version__}) version {speaks};"
        " nothing was changed: run the newer software again"
    )


def _in_words(configuration: Configuration, names: Mapping[int, str]) -> dict[str, str]:
    """Write a configuration for the log."""
    groups = {"voters": configuration.voters, "old": configuration.old_voters, "learners": configuration.learners}
    return {
        group: " ".join(names.get(node) or configuration.name(node) or format_id(node) for node in nodes)
        for group, nodes in groups.items()
        if nodes
    }


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
