"""The parts of a node, put together; nothing runs yet."""

from collections import Counter
from pathlib import Path
from typing import Final

import trio

from trioraft.address import Address
from trioraft.asking.calls import FIRST_NUMBER_MAX, Calls
from trioraft.asking.session import Session
from trioraft.consensus import Core, Role, Timing
from trioraft.consensus.view import View
from trioraft.datagrams.batches import Batches
from trioraft.datagrams.endpoint import (
    Domain,
    Endpoint,
    Identity,
    Peer,
    encode_message,
)
from trioraft.errors import NodeError
from trioraft.hooks.bodies import OnOverrun
from trioraft.hooks.hooks import HookContext
from trioraft.logger import Logger
from trioraft.members.steering import Steering
from trioraft.members.upgrades import Upgrades
from trioraft.messages import (
    REQUESTS_TAG,
    RESPONSES_TAG,
    ClientRequest,
    ClientResponse,
    Index,
    NodeId,
    Version,
    format_id,
)
from trioraft.node.acting import Acting, too_old
from trioraft.node.around import Around
from trioraft.node.backups import BackupServer
from trioraft.node.digests import StateDigests
from trioraft.node.loop import Loop
from trioraft.node.member import Member
from trioraft.node.neighbours import Neighbours
from trioraft.node.own_commands import OwnCommands
from trioraft.node.pauses import Pauses
from trioraft.node.replicated import Replicated
from trioraft.node.requests import Requests
from trioraft.node.snapshots import Snapshotter
from trioraft.node.stalls import LoopWatch
from trioraft.node.status import Account
from trioraft.node.stopping import Stopping
from trioraft.node.work import LeaderWork
from trioraft.node.world import World
from trioraft.replica.machine import StateMachine
from trioraft.replica.sessions import Replica
from trioraft.settings.settings import NodeSettings
from trioraft.wake import Wake

_log: Final = Logger("trioraft.node")


class Assembly:
    """A node's parts.

    Parameters
    ----------
    settings : NodeSettings
        Its configuration.
    world : World
        The clock, chance, socket, disk and launcher that it uses.
    machine : StateMachine
        The state machine that is replicated.
    on_overrun : {'exit', 'log'}
        The action when a body of leader work runs on after it must be over.
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
        self._has_moved = trio.Event()
        self._named_at: Address | None = None  # where the name of this node was looked up last
        self._core = self._new_core()
        self._endpoint = self._new_endpoint()
        self._neighbours = Neighbours(self._core, self._endpoint, settings, world, self._log)
        nodes, names = self._neighbours.nodes, self._neighbours.names
        self._upgrades = Upgrades(self._core, 2 * settings.election_timeout_upper, world.clock, nodes, names)
        self._steering = Steering(self._core, settings, nodes, names)
        self._work = self._new_work(on_overrun)
        # The numbers of reads and requests begin at a random place, which no other process can guess.
        first_read, first_request = (int.from_bytes(world.entropy(8), "big") % FIRST_NUMBER_MAX for _ in range(2))
        replica = Replica(machine)
        parts = Replicated.of(self._core, replica, world.clock, first_read=first_read, require=self._upgrades.require)
        pauses = Pauses(parts.applying, self.soon)
        self._snapshots = self._new_snapshotter(parts, pauses)
        self._backups = BackupServer(self._core, replica, self._disk.directory, world, self.soon)
        self._digests = StateDigests(replica, pauses)
        self._requests = self._new_requests(parts)
        self._acting = self._new_acting()
        self._questions = Batches(lambda: self._endpoint, REQUESTS_TAG)
        self._answers = Batches(lambda: self._endpoint, RESPONSES_TAG)
        self._calls = Calls(self, world.clock, self.soon, first_request)
        self._session = Session(self._calls, world.clock)
        self._own_commands = OwnCommands(self._core, parts.proposals, self._session, self.soon)
        self._member = Member(parts, self._requests, self._own_commands)
        self._stopping = Stopping(
            self._core, settings, self._calls, world.clock, self.soon, self.role_changed, self._acting.removed
        )
        self._loop_watch = LoopWatch(settings.heartbeat_repeat)
        self._account = self._new_account()
        self._own_peer = self._new_own_peer()

    def _new_endpoint(self) -> Endpoint:
        return Endpoint(
            Identity(self.id, self.settings.app_name, self._name, self._world.versions),
            self.settings.keys,
            entropy=self._world.entropy,
            cluster_id=self._core.cluster,
            datagram_bytes=self.settings.max_datagram_bytes,
        )

    def _new_work(self, on_overrun: OnOverrun) -> LeaderWork:
        return LeaderWork(
            self._core,
            self.settings,
            self._disk.directory,
            self._hook_context,
            self._world,
            on_overrun,
            self.soon,
            self._now_log,
        )

    def _new_requests(self, parts: Replicated) -> Requests:
        return Requests(
            parts,
            Around(self._neighbours, self._upgrades, self._steering),
            self._backups,
            self._digests,
            send=self._answer,
            clock=self._world.clock,
            soon=self.soon,
        )

    def _new_acting(self) -> Acting:
        return Acting(
            self._core,
            self._endpoint,
            self._neighbours,
            self._work,
            self._snapshots,
            self._world.versions,
            self.settings.app_name,
            self._now_log,
        )

    def _new_account(self) -> Account:
        return Account(
            self._core,
            self.settings,
            self._neighbours,
            self._work,
            self._member.replica,
            self._snapshots,
            self._steering,
            counters=self._counters,
            clock=self._world.clock,
        )

    def _new_core(self) -> Core:
        """Make the core from the data on disk, unless later software wrote them."""
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
            now=world.clock(),  # read after the directory is locked: until then an earlier process may give promises
        )
        core.versions = world.versions
        core.run_at(self._disk.place, world.clock())
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
        """Make the peer that stands for this node itself, when its own program sends a request."""
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

    def _now_log(self) -> Logger:
        return self._log

    def _counters(self) -> Counter[str]:
        sent = self._loop.counters if self._loop is not None else Counter[str]()
        return self._endpoint.counters + sent + self._loop_watch.counters + self._acting.counters

    def soon(self) -> None:
        """Request a turn at the end of this pass of the scheduler."""
        self._wake.soon()

    def _hook_context(self) -> HookContext:
        return HookContext(
            node_id=format_id(self.id),
            node_name=self.name,
            cluster_id=format_id(self._core.cluster),
            term=self._core.term,
            leader_id=format_id(self._core.leader) if self._core.leader else "",
        )

    def send_request(self, node: NodeId, request: ClientRequest) -> bool:
        """Send a request to a node; return False where it cannot be reached now."""
        if node == self.id:
            self._requests.receive(self._own_peer, request)
            return True
        peer = self._endpoint.peer(node)
        if peer is not None:
            self._questions.add(peer, encode_message(request))
        return peer is not None

    def highest_version(self, node: NodeId) -> Version:
        """Return the highest version of the protocol that a node speaks; 0 where it cannot be reached now."""
        peer = self._own_peer if node == self.id else self._endpoint.peer(node)
        return peer.versions.highest if peer is not None else 0

    def reachable_nodes(self) -> list[NodeId]:
        """List the nodes that can be reached now."""
        return [peer.node_id for peer in self._neighbours.nodes()]

    def meet(self, node: NodeId, address: str) -> None:
        """Do nothing: nodes meet by discovery and greetings."""

    def _answer(self, peer: Peer, response: ClientResponse) -> None:
        if peer is self._own_peer:
            self._calls.receive(self.id, response)
        else:
            self._answers.add(peer, encode_message(response))

    async def role_changed(self) -> None:
        """Wait until this node has another role, term or leader; or other members, settings or scripts."""
        await self._changed.wait()

    # --- properties of the node -----------------------------------------------------------------------------

    @property
    def must_begin_anew(self) -> trio.Event:
        """Set when this node was removed while it was away, so that it may begin as another one."""
        return self._acting.must_begin_anew

    @property
    def name(self) -> str:
        """The name of the node."""
        return self._endpoint.name

    @property
    def address(self) -> Address | None:
        """The address at which other nodes reach this one, once it is known."""
        return self._neighbours.own

    @property
    def role(self) -> Role:
        """The role of the node in its cluster."""
        return self._core.role

    @property
    def consensus(self) -> View:
        """The node's part in Raft, to look at."""
        return self._core

    def names(self) -> dict[NodeId, str]:
        """Return the names of the nodes that are known, this one included."""
        return self._neighbours.names()

    def address_of(self, node: NodeId) -> str:
        """Return the ``ip:port`` of a node, this one or another; empty where it is not known."""
        return self._neighbours.address_of(node)

    @property
    def data_directory(self) -> Path:
        """The directory of this node's data."""
        return self._disk.directory

    @property
    def applied_index(self) -> Index:
        """The last entry of the log that this node has applied."""
        return self._member.replica.applied_index
