"""A node is a nursery: one task for each concern, and the cancellation of one is the end of all.

::

    socket ──▶ endpoint ──▶ core ──▶ disk (hard state) ──▶ core ──▶ endpoint ──▶ socket
    timer  ────────────────▶ core ──▶ hooks (leader work) ──▶ core
    discovery ─▶ address book ─▶ greetings ─▶ endpoint

Every task feeds something to the core or the endpoint and then calls :meth:`Node._flush`, which sends, in one
go and without a checkpoint for each datagram, whatever came out. All deadlines are on one clock
(``CLOCK_BOOTTIME``).
"""

import os
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Final

import structlog
import trio

from trioraft import __version__
from trioraft.address import Address
from trioraft.client.calls import Calls
from trioraft.client.session import Session
from trioraft.consensus import Core, Role, Timing
from trioraft.consensus.configuration import Configuration
from trioraft.consensus.state import (
    BecameLeader,
    ConfigurationChanged,
    EndWork,
    Event,
    ExtendWork,
    ForeignCluster,
    FormationEnded,
    Formed,
    Joined,
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
    DuplicateIdentity,
    EncodedMessage,
    Endpoint,
    ForeignService,
    Identity,
    NotOpened,
    OtherVersions,
    OwnReflection,
    Peer,
    PeerConfirmed,
    Received,
    encode_message,
)
from trioraft.datagrams.endpoint import (
    Event as EndpointEvent,
)
from trioraft.discovery import Answer, display_name
from trioraft.errors import NotCommittedError, NotLeaderError, ProposalError
from trioraft.groups import bare_errors
from trioraft.hooks.hooks import HookContext, Hooks
from trioraft.machine import NothingToReplicate, StateMachine
from trioraft.messages import (
    REQUESTS_TAG,
    RESPONSES_TAG,
    ClientRequest,
    ClientRequests,
    ClientResponse,
    ClientResponses,
    Election,
    EntryKind,
    FormingStatus,
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
from trioraft.node.applier import Applier
from trioraft.node.backup_server import BackupServer
from trioraft.node.leadership import Bodies, Leadership, OnOverrun
from trioraft.node.members import member_statuses
from trioraft.node.peers import AddressBook, Alerts
from trioraft.node.reads import Reads
from trioraft.node.replica import Replica
from trioraft.node.requests import AskHandler, Requests
from trioraft.node.snapshotting import Snapshotter
from trioraft.node.stalls import LoopWatch
from trioraft.node.steering import Steering
from trioraft.node.stopping import Stopping
from trioraft.node.transitions import recording
from trioraft.node.upgrades import Upgrades
from trioraft.node.world import World
from trioraft.settings import NodeSettings
from trioraft.storage.database import StorageError
from trioraft.versions import Versions

_log: Final = structlog.get_logger("trioraft.node")

# How long a peer counts as reachable, for the formation, after it was last heard, in heartbeats.
_PEER_LASTS: Final = 20
# How long a node without a cluster waits for an answer of DNS, and of each address in it, before it forms a cluster
# without whoever is there; and at most, whatever DNS says. In heartbeats.
_ANSWERS_WITHIN: Final = 6
_FORMS_AFTER: Final = 20
# How often the address book looks for whom to greet, in seconds.
_GREETING_INTERVAL: Final = 1.0
_ELECTIONS_KEPT: Final = 5
# A process is the later one of two with the same id for so many upper election timeouts after its start.
_NEWCOMER_TIMEOUTS: Final = 2


class NodeError(Exception):
    """The node cannot start or go on: what, where, and what to do, in one line."""


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
        self._started_at = world.clock()
        self._disk = world.open_disk(settings)
        self.id = self._disk.node_id
        self.name = settings.node_name or world.host_name
        self._log = _log.bind(node=format_id(self.id), name=self.name)
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
            Identity(self.id, settings.app_name, self.name, world.versions),
            settings.keys,
            entropy=world.entropy,
            cluster_id=self._core.cluster,
            datagram_bytes=settings.max_datagram_bytes,
        )
        self._alerts = Alerts(self._report_alert)
        self._addresses = AddressBook(self._endpoint, self._alerts)
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
            entries_max=settings.snapshot_entries,
            bytes_max=settings.snapshot_bytes,
        )
        self._reads = Reads(self._core, world.clock, self._send_to_node, self._flush)
        self._backups = BackupServer(self._core, self._applier, self._disk.directory, world, self._flush)
        self._requests = Requests(
            self._core,
            self._applier,
            self._reads,
            self._backups,
            world.clock,
            send=self._answer,
            address_of=self._address_of,
            reachable=self._reachable,
            flush=self._flush,
        )
        self._requests.names = self._names
        self._upgrades = Upgrades(
            self._core, 2 * settings.election_timeout_upper, world.clock, self._nodes, self._names
        )
        self._requests.why_not_join = self._upgrades.why_not_join
        self._applier.check = self._upgrades.check
        self._steering = Steering(self._core, settings, self._nodes, self._names)
        self._requests.let_leave = self._steering.let_leave
        self._questions = Batches(lambda: self._endpoint, REQUESTS_TAG)
        self._answers = Batches(lambda: self._endpoint, RESPONSES_TAG)
        self._calls = Calls(self, world.clock, self._flush)
        self._session = Session(self._calls)
        self._removed = trio.Event()
        self._stopping = Stopping(
            self._core, settings, self._calls, world.clock, self._flush, self._role_changed, self._removed
        )
        self._loop_watch = LoopWatch(settings.heartbeat_repeat)
        self._scripts_run = False
        self._bodies = Bodies(world.watchdog_clock, settings.hook_stop_grace, self._work_ended, on_overrun)
        self._own_peer = Peer(
            node_id=self.id,
            process=self._endpoint.process,
            domain=Domain.CONSENSUS,
            service=settings.app_name,
            name=self.name,
            address=Address("", 0),
            cluster_id=0,
            confirmed_at=self._started_at,
            heard_at=self._started_at,
        )
        self._elections: deque[tuple[int, int, float]] = deque(maxlen=_ELECTIONS_KEPT)
        self._subscribers: dict[bytes, tuple[Peer, float]] = {}
        self._shown: tuple[object, ...] = ()
        self._failure = ""  # why it stops
        self._was_removed_while_away = False
        self.must_begin_anew = trio.Event()
        self._own_found = trio.Event()
        self._has_looked_up = False  # whether DNS has once said who is there
        self._disk_wanted = trio.Event()
        self._changed = trio.Event()
        self._timer = trio.CancelScope()
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
            *self._calls.tasks(),
            self._session.keep,
            self._snapshots.take,
            self._snapshots.receive,
            self._backups.run,
            self._discover,
            self._greet,
        )

    def _start_up(self) -> None:
        if self.settings.keys is None:
            self._log.warning(
                "no CLUSTER_KEY: datagrams are neither secret nor authentic; make one with `trioraft keygen`"
            )
        self._log.info(
            "node started", address=str(self._socket.address), service=self.settings.app_name, role=self._core.role
        )
        if self._core.cluster:
            self._hooks.become_follower()
        self._tell_core_of_peers(self._world.clock())
        self._flush()

    async def _receive(self) -> None:
        """Drain the socket on each wake-up, feed everything, then send what came out.

        The clock is read after the socket: what a node promises its leader, it promises from the receipt on. A time
        from before a pause would let that end too early.
        """
        while True:
            await self._socket.wait_readable()
            datagrams = self._socket.receive()
            now = self._world.clock()
            for data, source in datagrams:
                event = self._endpoint.receive_datagram_untrusted(data, source, now)
                if event is not None:
                    self._handle(event, now)
            for further in self._endpoint.further_events():
                self._handle(further, now)
            self._flush()

    async def _keep_time(self) -> None:
        """Wake the core at its deadlines."""
        while True:
            with self._timer:
                await trio.sleep_forever()
            self._timer = trio.CancelScope()
            now = self._world.clock()
            self._core.handle_timer(now)
            self._endpoint.handle_timer(now)
            self._flush()

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
                self._core.persisted(write.number, self._world.clock())
                self._flush()
                if write.hard.removed:
                    self._removed.set()
                    if self._was_removed_while_away:
                        self.must_begin_anew.set()
                if write.snapshot is not None:
                    await self._snapshots.clean_up(write.snapshot)

    async def _discover(self) -> None:
        """Ask DNS again and again; what it says, or that it is silent, never disturbs a running cluster."""
        await self._world.open_discovery(self.settings).run(self._discovered)

    def _discovered(self, answer: Answer) -> None:
        reached = frozenset(address for address in answer.addresses if self._reaches(address))
        self._addresses.discovered(Answer(reached, answer.complete, answer.problems), self._world.clock())
        self._addresses.greet(self._world.clock(), pause=self._greeting_pause)
        self._steering.discovered(answer, self.address, self._world.clock())
        self._has_looked_up = self._has_looked_up or answer.complete
        self._tell_core_of_peers(self._world.clock())
        self._flush()

    def _reaches(self, address: Address) -> bool:
        """Tell whether this node's socket can send to an address of that family."""
        bound = self._socket.address.host
        return bound == "::" or (":" in bound) == (":" in address.host)

    @property
    def _greeting_pause(self) -> float:
        return min(_GREETING_INTERVAL, self.settings.heartbeat_repeat)

    async def _greet(self) -> None:
        """Greet whoever is due, and find out what this node is called."""
        named: Address | None = None
        while True:
            self._own_found = trio.Event()
            now = self._world.clock()
            self._addresses.greet(now, pause=self._greeting_pause)
            self._tell_core_of_peers(now)
            self._upgrades.drive()
            self._steering.steer(now)
            self._flush()
            own = self.address
            if own is not None and own != named and not self.settings.node_name:
                named = own
                await self._find_name(own)
            with trio.move_on_after(self._greeting_pause):
                await self._own_found.wait()

    async def _find_name(self, own: Address) -> None:
        """Take the name that DNS gives to this node's address; else the host name stays."""
        name = await self._world.open_discovery(self.settings).reverse_name(own.host)
        name = display_name(name or "", self.settings.app_name)
        if name not in {"", "localhost", self.name}:
            self.name = self._endpoint.name = name
            self._log = self._log.bind(name=self.name)
            self._addresses.renamed()
            self._addresses.greet(self._world.clock(), pause=0.0)
            self._flush()

    def _report_alert(self, text: str, minor: bool) -> None:
        (self._log.warning if minor else self._log.error)("alert", text=text)

    # --- what comes in --------------------------------------------------------------------------------------

    def _handle(self, event: EndpointEvent, now: float) -> None:
        match event:
            case Received(peer=peer, cluster_id=cluster, message=message):
                self._receive_message(peer, cluster, message, now)
            case PeerConfirmed(peer=peer, previous=previous):
                self._peer_confirmed(peer, previous, now)
            case OwnReflection(address=address):
                if address != self._addresses.own:
                    self._own_found.set()  # others shall not know it by its host's name for long
                self._addresses.is_own(address)
            case ForeignService(address=address, service=service):
                self._addresses.of_another_service(address, service, now)
            case OtherVersions():
                self._refuse_versions(event, now)
            case NotOpened(address=address, reason=reason):
                self._alerts.raise_alert(
                    f"not opened {address}",
                    f"a datagram from {address} is dropped: {reason}; give all nodes the same CLUSTER_KEY",
                    now,
                )
            case DuplicateIdentity(node_id=self.id, addresses=(other,)):
                self._meet_double(other, now)
            case DuplicateIdentity(node_id=node, addresses=addresses):
                where = " and ".join(str(address) for address in addresses)
                self._alerts.raise_alert(
                    f"duplicate {node}",
                    f"two processes have the node id {format_id(node)}: {where};"
                    " stop one of them and remove its copied data directory",
                    now,
                )

    def _meet_double(self, other: Address, now: float) -> None:
        """Stop, when another process has this node's id and this one has just been started; else report it.

        So it is the later one that stops: before it may vote, because after a start a node first keeps its promise.
        """
        text = (
            f"another process, at {other}, has this node's id {format_id(self.id)}:"
            f" DATA_DIR={self._disk.directory.parent} was copied, or is the copy"
        )
        if now - self._started_at < _NEWCOMER_TIMEOUTS * self.settings.election_timeout_upper:
            text += (
                "; this node stops, because the other one was there before: remove the data directory that is wrong"
            )
            self._say_farewell(text)
            raise NodeError(text)
        self._alerts.raise_alert(
            f"duplicate {self.id}", f"{text}; stop one of them, and remove its data directory", now
        )

    def _refuse_versions(self, other: OtherVersions, now: float) -> None:
        """Say who must be upgraded. Which cluster the other one is of still counts, lest there be a second one."""
        ours, theirs = self._endpoint.versions, other.versions
        name = other.name or format_id(other.node_id)
        upgrade = name if theirs.highest < ours.lowest else f"{self.name} (this node)"
        self._alerts.raise_alert(
            f"versions {other.node_id}",
            f"{name} at {other.address} speaks version {theirs} of the protocol, and this node {ours}: refused;"
            f" upgrade {upgrade}",
            now,
        )
        self._core.hear_of_cluster(other.node_id, other.cluster_id, now)

    def _see_that_it_speaks(self, version: int) -> None:
        """Refuse to start with software that is older than what the cluster speaks."""
        speaks = self._world.versions
        if version > speaks.highest:
            self._disk.close()
            raise NodeError(f"{self._disk.directory}: {_too_old(version, speaks)}")

    def _receive_message(self, peer: Peer, cluster: int, message: Message, now: float) -> None:
        match message:
            case StatusRequest(subscribe=seconds):
                if seconds:
                    self._subscribers[peer.process] = (peer, now + seconds)
                self._endpoint.send(peer, Status(node=self.status()), now)
            case ClientRequest():
                self._requests.receive(peer, message)
            case ClientRequests(requests=requests):
                for request in requests:
                    self._requests.receive(peer, request)
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
            case _:
                self._core.receive(peer.node_id, cluster, message, now)

    def _peer_confirmed(self, peer: Peer, previous: Peer | None, now: float) -> None:
        """Note who is behind an address; refuse, loudly, a node of another cluster."""
        if not peer.node_id or peer.domain is not Domain.CONSENSUS:
            return
        self._addresses.answered(peer.address, now)
        self._alerts.clear(f"versions {peer.node_id}")
        self._core.path_takes(peer.node_id, self._endpoint.message_bytes(peer, now))
        self._core.hear_of_cluster(peer.node_id, peer.cluster_id, now)
        self._tell_core_of_peers(now)
        if previous is None or previous.process != peer.process or previous.address != peer.address:
            self._log.info("peer", peer=format_id(peer.node_id), peer_name=peer.name, address=str(peer.address))

    def _tell_core_of_peers(self, now: float) -> None:
        heard_after = now - _PEER_LASTS * self.settings.heartbeat_repeat
        self._core.peers_changed(frozenset(peer.node_id for peer in self._nodes() if peer.heard_at > heard_after))
        self._core.hold_formation(self._somebody_may_answer(now))

    def _somebody_may_answer(self, now: float) -> bool:
        """Tell whether a node may be there that had no time to answer; on a busy machine that may take seconds."""
        beats = (now - self._started_at) / self.settings.heartbeat_repeat
        patience = _ANSWERS_WITHIN * self.settings.heartbeat_repeat
        if beats > _FORMS_AFTER:
            return False
        return (not self._has_looked_up and beats < _ANSWERS_WITHIN) or self._addresses.awaits_answer(now, patience)

    def _nodes(self) -> Iterator[Peer]:
        return (p for p in self._endpoint.peers if p.domain is Domain.CONSENSUS and p.node_id)

    def _is_foreign(self, peer: Peer) -> bool:
        """Tell whether a node belongs to another cluster; one without a cluster does not."""
        return bool(self._core.cluster) and peer.cluster_id not in {0, self._core.cluster}

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
                part = self._snapshots.fill(message)
                if part is None:
                    self._core.snapshot_gone(to, now)
                elif peer is not None:
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
                self._log.info("members", committed=committed, **_in_words(configuration, self._names()))
                if committed:
                    self._follow_version(configuration.version)
                    self._requests.members_changed(configuration)
            case Removed(while_away=while_away):
                self._was_removed_while_away = while_away
                self._log.warning("this node was removed; when it is started again, it joins as another one")
            case FormationEnded(formation=formation, reason=reason):
                self._log.warning("formation ended", formation=format_id(formation), reason=reason)
            case ForeignCluster(node=node, cluster=cluster):
                self._alerts.raise_alert(
                    f"foreign {node}",
                    f"node {format_id(node)} belongs to another cluster, {format_id(cluster)}, under the same"
                    f" service name {self.settings.app_name!r}: refused; give it another APP_NAME or other data",
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
        """Push the status to whoever subscribed the moment that a role, the term, the leader or a setting changes."""
        core = self._core
        settings = self._applier.replica.settings
        shown = (
            core.role,
            core.term,
            core.leader,
            self._hooks.state,
            core.has_offered,
            settings,
            core.configuration,
            core.version,
        )
        if shown == self._shown:
            return
        before, self._shown = self._shown, shown
        self._changed.set()
        self._changed = trio.Event()
        if before[:3] != shown[:3]:
            self._note_leader(now)
        self._push_status(now)
        self._requests.conclude()
        self._reads.leader_changed()
        self._calls.learn_leader(self._core.term, self._core.leader)

    def _push_status(self, now: float) -> None:
        self._subscribers = {process: who for process, who in self._subscribers.items() if who[1] > now}
        if self._subscribers:
            status = encode_message(Status(node=self.status()))
            for peer, _ in self._subscribers.values():
                self._endpoint.send(peer, status, now)

    async def _role_changed(self) -> None:
        await self._changed.wait()

    def _say_farewell(self, failure: str) -> None:
        """Tell whoever watches why this node is about to stop: nothing else tells them."""
        self._failure = failure
        self._push_status(self._world.clock())
        for data, address in self._endpoint.datagrams_to_send():
            self._socket.send(data, address)

    def _note_leader(self, now: float) -> None:
        leader, term = self._core.leader, self._core.term
        if not leader or (self._elections and self._elections[0][:2] == (term, leader)):
            return
        self._elections.appendleft((term, leader, now))
        if leader != self.id:
            self._log.info("became follower", term=term, leader=format_id(leader))

    # --- what one may look at -------------------------------------------------------------------------------

    @property
    def address(self) -> Address | None:
        """Where other nodes reach this one, once that is known."""
        bound = self._socket.address
        return self._addresses.own or (None if bound.host in {"0.0.0.0", "::"} else bound)  # noqa: S104

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

    def _names(self) -> dict[int, str]:
        return {peer.node_id: peer.name for peer in self._nodes()} | {self.id: self.name}

    def _silent(self, now: float) -> dict[int, float]:
        return {peer.node_id: now - peer.heard_at for peer in self._nodes()} | {self.id: 0.0}

    def status(self) -> NodeStatus:
        """Give the node's account of itself.

        Returns
        -------
        NodeStatus
            What ``trioraft status`` and the monitor show.
        """
        now = self._world.clock()
        core = self._core
        return NodeStatus(
            id=format_id(self.id),
            name=self.name,
            address=str(self.address or ""),
            role=core.role,
            term=core.term,
            leader=format_id(core.leader) if core.leader else None,
            pid=os.getpid(),
            uptime_seconds=now - self._started_at,
            hook=self._hooks.status,
            cluster_id=format_id(core.cluster) if core.cluster else None,
            service=self.settings.app_name,
            version=__version__,
            sealed=self.settings.keys is not None,
            disk_stuck=now - core.disk_waiting_since > self.settings.election_timeout_lower,
            alerts=(*filter(None, (self._failure, self._snapshots.problem)), *self._alerts.current(now)),
            forming=self._forming(),
            peers=tuple(str(peer.address) for peer in self._nodes() if not self._is_foreign(peer)),
            elections=tuple(
                Election(term=term, leader=format_id(leader), seconds_ago=now - at)
                for term, leader, at in self._elections
            ),
            counters=dict(self._endpoint.counters + self._socket.counters + self._loop_watch.counters),
            settings=self._applier.replica.settings.shown(),
            voter=self.id in core.configuration.electors,
            commit_index=core.state.commit_index if core.state is not None else 0,
            applied_index=self._applier.replica.applied_index,
            last_index=core.state.log.last_index if core.state is not None else 0,
            members=member_statuses(core.configuration, self._names(), self._silent(now)),
            autopilot=self._steering.notes(now),
            lowest_version=core.versions.lowest,
            highest_version=core.versions.highest,
            cluster_version=core.version if core.cluster else 0,
        )

    def _forming(self) -> FormingStatus | None:
        formation = self._core.formation
        if formation.formed:
            return None
        if formation.state.promised:
            missing = tuple(format_id(node) for node in formation.missing)
            return FormingStatus(
                waiting_for=f"the promise of {', '.join(missing)}",
                formation=format_id(formation.state.promised),
                members=tuple(format_id(node) for node in formation.state.members),
                missing=missing,
            )
        if formation.heard_cluster:
            text = f"cluster {format_id(formation.heard_cluster)} to let it join"
        elif not formation.expect:
            text = "a cluster to join (BOOTSTRAP_EXPECT is not set, so it does not form one)"
        else:
            seen = len(formation.sees(self._world.clock()))
            text = f"{formation.expect} nodes that see each other (it sees {seen}, itself included)"
        return FormingStatus(waiting_for=text)

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
        while self._core.role is Role.LEADER:
            try:
                return (await self._applier.propose(EntryKind.COMMAND, command)).data
            except (NotCommittedError, NotLeaderError):
                continue  # that one never will be carried out; so try again, perhaps elsewhere
        return await self._session.propose(command)

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

            self._reads.start(confirmed)
            self._flush()
            await answered.wait()
            if found[0] is not None:
                await self._applier.wait_applied(found[0])
                return
            with trio.move_on_after(self.settings.heartbeat_repeat):
                await self._changed.wait()

    def answer_questions(self, handler: AskHandler) -> None:
        """Let the program around the state machine answer what clients ask it (:meth:`Client.ask`).

        Parameters
        ----------
        handler : callable
            Called with a question, and whom to tell the answer, now or later.
        """
        self._requests.on_ask = handler

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
        if term and self.leads_in == term:
            with suppress(ProposalError):
                self._applier.submit(EntryKind.COMMAND, command, lambda outcome: None)
            self._flush()

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

    def reachable_nodes(self) -> list[int]:
        """Give the nodes that can be sent something now."""
        return [peer.node_id for peer in self._nodes()]

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

    def _address_of(self, node: int) -> str:
        if node == self.id:
            return str(self.address or "")
        peer = self._endpoint.peer(node)
        return str(peer.address) if peer is not None else ""

    def _reachable(self) -> int:
        """Count the voters that were heard lately, this node included."""
        state = self._core.state
        voters = state.configuration.voters if state is not None else ()
        heard_after = self._world.clock() - 2 * self.settings.election_timeout_upper
        heard = {peer.node_id for peer in self._nodes() if peer.heard_at > heard_after} | {self.id}
        return sum(voter in heard for voter in voters)

    # --- stopping -------------------------------------------------------------------------------------------

    async def step_aside(self, reason: str) -> None:
        """Give leadership to another node before this one stops, and leave the cluster if it is to; bounded.

        Parameters
        ----------
        reason : str
            Why the node stops, for the log.
        """
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
        If it cannot start or go on; the block is cancelled then. One line that says what to do.
    """
    node = Node(settings, world or World.real(), machine or NothingToReplicate(), on_overrun)
    with bare_errors():
        async with trio.open_nursery() as nursery:
            await nursery.start(node.run)
            yield node
            nursery.cancel_scope.cancel()
