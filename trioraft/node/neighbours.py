"""The neighbours of a node: how it finds and greets other nodes, and which of them it refuses."""

from collections.abc import Iterator
from typing import Final

import trio

from trioraft.address import Address
from trioraft.consensus import Core
from trioraft.consensus.lease import is_sticky
from trioraft.datagrams.endpoint import (
    Domain,
    DuplicateIdentity,
    Endpoint,
    ForeignService,
    NotOpened,
    OtherVersions,
    OwnReflection,
    Peer,
    PeerConfirmed,
)
from trioraft.datagrams.endpoint import Event as EndpointEvent
from trioraft.dns.discovery import Answer, display_name
from trioraft.errors import NodeError
from trioraft.logger import Logger
from trioraft.messages import (
    AppendEntriesRequest,
    ConsensusMessage,
    InstallSnapshotRequest,
    Instant,
    NodeId,
    Seconds,
    TimeoutNow,
    VoteRequest,
    format_id,
)
from trioraft.node.address_book import AddressBook, Alerts
from trioraft.node.line_limit import LineLimit
from trioraft.node.world import World
from trioraft.settings.settings import NodeSettings

# Greetings of the same address are at least so many seconds apart for each address: all nodes greet all others.
_FOR_EACH_ADDRESS: Final = 0.01
# How long a peer counts as reachable for a formation after it was last heard, in rounds of greetings.
_PEER_LASTS: Final = 20
# How long a node without a cluster waits for an answer of DNS, and of each address in that answer, before it forms a
# cluster without the nodes there; and how long it waits at most, whatever DNS answers. In rounds of greetings.
_ANSWERS_WITHIN: Final = 6
_FORMS_AFTER: Final = 20
# How often the address book looks for addresses to greet, in seconds, while nobody is waited for; else at least once
# in a heartbeat interval, or in a round where there are many addresses.
_GREETING_INTERVAL: Final = 1.0
# The messages that can end the leadership of another node.
_OF_LEADERS: Final = (AppendEntriesRequest, InstallSnapshotRequest, VoteRequest, TimeoutNow)
# The most addresses that a status names, and the most of them of nodes that are neither members nor listed.
_TOLD_MAX: Final = 256
_STRANGERS_TOLD: Final = 16
# For this many upper election timeouts after its start a process is the later one of two with the same id.
_NEWCOMER_TIMEOUTS: Final = 2


class Neighbours:
    """The nodes that this one knows of, and their addresses.

    Parameters
    ----------
    core : Core
        Is given the nodes that can be reached.
    endpoint : Endpoint
        Shakes hands with other nodes.
    settings : NodeSettings
        The node's configuration.
    world : World
        The clock, and DNS.
    log : Logger
        The node's log.

    Attributes
    ----------
    endpoint : Endpoint
        As given.
    alerts : Alerts
        The alerts, at which somebody should look.
    bound : Address
        The address of the node's socket.
    news : trio.Event
        Set when another node, or a new address of this node itself, is found.
    """

    def __init__(self, core: Core, endpoint: Endpoint, settings: NodeSettings, world: World, log: Logger) -> None:
        self._core = core
        self.endpoint = endpoint
        self._settings = settings
        self._world = world
        self._log = log
        self._started_at = world.clock()
        self._has_looked_up = False  # whether DNS has once answered in full
        self._lines = LineLimit("peers and alerts of nodes that are neither members nor listed")
        self.alerts = Alerts(self._report_alert)
        self._addresses = AddressBook(endpoint, self.alerts, world.random)
        endpoint.is_listed = self._addresses.is_listed
        self.bound = Address("", 0)
        self.news = trio.Event()

    def _report_alert(self, text: str, minor: bool) -> None:
        if not minor:
            self._log.error("alert", text=text)
        elif self._lines.admits(self._log, self._world.clock()):
            self._log.warning("alert", text=text)

    # --- the nodes ------------------------------------------------------------------------------------------

    @property
    def own(self) -> Address | None:
        """The address at which other nodes reach this one, once it is known."""
        bound = self.bound
        return self._addresses.own or (None if bound.host in {"0.0.0.0", "::"} else bound)  # noqa: S104

    def nodes(self) -> Iterator[Peer]:
        """Iterate over the other nodes that have shaken hands with this one."""
        return (p for p in self.endpoint.peers if p.domain is Domain.CONSENSUS and p.node_id)

    def names(self) -> dict[NodeId, str]:
        """Return the names of the nodes, this one included."""
        return {peer.node_id: peer.name for peer in self.nodes()} | {self._core.id: self.endpoint.name}

    def silent(self, now: Instant) -> dict[NodeId, Seconds]:
        """Return for how many seconds nothing was heard of each node."""
        return {peer.node_id: now - peer.heard_at for peer in self.nodes()} | {self._core.id: 0.0}

    def addresses(self) -> tuple[str, ...]:
        """List the addresses of the nodes of this cluster, and of those that have none; clients go by that list.

        Members come first. Then come nodes at listed addresses, and then nodes that have only greeted this one: of
        those there may be any number, so only a few are named.
        """
        ours = {0, self._core.cluster} if self._core.cluster else None
        known = [peer for peer in self.nodes() if ours is None or peer.cluster_id in ours]
        members = frozenset(self._core.configuration.members)
        known.sort(key=lambda peer: (peer.node_id not in members, not self._addresses.is_listed(peer.address)))
        strangers = [peer for peer in known if not self._is_ours(peer.node_id, peer.address)]
        shown = known[: len(known) - len(strangers)] + strangers[:_STRANGERS_TOLD]
        return tuple(str(peer.address) for peer in shown[:_TOLD_MAX])

    def _is_ours(self, node: NodeId, address: Address) -> bool:
        """Check whether a node is a member, or is at an address that DNS or the static peers list."""
        return node in self._core.configuration.members or self._addresses.is_listed(address)

    def is_stranger(self, node: NodeId) -> bool:
        """Check whether a node is no member, and is at no address that DNS or the static peers list."""
        peer = self.endpoint.peer(node)
        return not self._is_ours(node, peer.address if peer is not None else self.bound)

    def address_of(self, node: NodeId) -> str:
        """Return the address of a node, this one or another; empty where it is not known."""
        if node == self._core.id:
            return str(self.own or "")
        peer = self.endpoint.peer(node)
        return str(peer.address) if peer is not None else ""

    def reachable_voters(self) -> int:
        """Count the voters that were heard lately, this node included."""
        state = self._core.state
        voters = state.configuration.voters if state is not None else ()
        heard_after = self._world.clock() - 2 * self._settings.election_timeout_upper
        heard = {peer.node_id for peer in self.nodes() if peer.heard_at > heard_after} | {self._core.id}
        return sum(voter in heard for voter in voters)

    # --- finding nodes --------------------------------------------------------------------------------------

    @property
    def _round(self) -> Seconds:
        """The seconds from one round of greetings to the next, while a leader or an answer is waited for."""
        return max(self._settings.heartbeat_repeat, _FOR_EACH_ADDRESS * len(self._addresses))

    @property
    def greeting_pause(self) -> Seconds:
        """The time, in seconds, until addresses are greeted again: less while a leader or an answer is waited for."""
        quick = self._round
        settled = self._core.leader and not self._addresses.awaits_answer(self._world.clock(), _FORMS_AFTER * quick)
        return _GREETING_INTERVAL if settled else min(_GREETING_INTERVAL, quick)

    def discovered(self, answer: Answer) -> None:
        """Take in an answer of DNS and the static peers; a silent DNS never disturbs a running cluster."""
        now = self._world.clock()
        reached = frozenset(address for address in answer.addresses if self._reaches(address))
        self._addresses.discovered(Answer(reached, answer.complete, answer.problems), now)
        self._has_looked_up = self._has_looked_up or answer.complete
        self.greet(now)

    def _reaches(self, address: Address) -> bool:
        """Check whether this node's socket can send to an address of that family."""
        return self.bound.host == "::" or (":" in self.bound.host) == (":" in address.host)

    def greet(self, now: Instant) -> None:
        """Greet the addresses that are due, and report to the core which nodes can be reached."""
        self._addresses.greet(now, pause=self.greeting_pause)
        self._lines.tell(self._log, now)
        self.tell_core(now)

    async def find_name(self, own: Address) -> str | None:
        """Take the name that DNS has for this node's address; return None where the name stays."""
        name = await self._world.open_discovery(self._settings).reverse_name(own.host)
        name = display_name(name or "", self._settings.app_name)
        if name in {"", "localhost", self.endpoint.name}:
            return None
        self.endpoint.name = name
        self._log = self._log.bind(name=name)
        self._addresses.renamed()
        self._addresses.greet(self._world.clock(), pause=0.0)
        return name

    def tell_core(self, now: Instant) -> None:
        """Report to the core which nodes were heard lately, and whether others may be there."""
        if self._core.state is not None:
            self.endpoint.members = frozenset(self._core.state.configuration.members)
        heard_after = now - _PEER_LASTS * self._round
        self._core.peers_changed(frozenset(peer.node_id for peer in self.nodes() if peer.heard_at > heard_after))
        self._core.hold_formation(self._somebody_may_answer(now))

    def _somebody_may_answer(self, now: Instant) -> bool:
        """Check whether a node may be there that has had no time to answer: on a busy machine, some seconds."""
        self._addresses.standstill.look(now)
        began = max(self._started_at, self._addresses.standstill.ended_at)
        rounds = (now - began) / self._round
        patience = _ANSWERS_WITHIN * self._round
        if rounds > _FORMS_AFTER:
            return False
        return (not self._has_looked_up and rounds < _ANSWERS_WITHIN) or self._addresses.awaits_answer(now, patience)

    def may_say(self, peer: Peer, message: ConsensusMessage, now: Instant) -> bool:
        """Check whether a message may reach the core.

        A node that leads, or hears a leader, does not let a stranger depose that leader: a node that is no member as
        far as this node knows, and is at no listed address. To a node whose log is behind, a new leader may look like
        a stranger: that node listens to it as soon as it hears no other leader.

        Parameters
        ----------
        peer : Peer
            The sender.
        message : ConsensusMessage
            The message.
        now : float
            The time in seconds.

        Returns
        -------
        bool
            Whether the core takes it in.
        """
        s = self._core.state
        if s is None or not isinstance(message, _OF_LEADERS) or peer.node_id == s.leader:
            return True
        members = s.configuration.members
        is_known = not members or peer.node_id in members or self._addresses.is_listed(peer.address)
        return is_known or not is_sticky(s, now)

    # --- meeting nodes --------------------------------------------------------------------------------------

    def handle(self, event: EndpointEvent, now: Instant) -> None:
        """Act on an event of the endpoint about another node.

        Parameters
        ----------
        event : Event
            Any event but a message.
        now : float
            The time in seconds.

        Raises
        ------
        NodeError
            If another process has this node's id, and this one has just been started.
        """
        match event:
            case PeerConfirmed(peer=peer, previous=previous, address=address):
                self._confirmed(peer, previous, address, now)
            case OwnReflection(address=address):
                if address != self._addresses.own:
                    self.news.set()  # the name that DNS has for it replaces its host's name soon
                self._addresses.is_own(address, now)
            case ForeignService(node_id=0):
                pass  # a client; the endpoint answers it
            case ForeignService(address=address, service=service):
                self._addresses.of_another_service(address, service, now)
            case OtherVersions():
                self._refuse_versions(event, now)
            case NotOpened(address=address, reason=reason):
                self.alerts.raise_alert(
                    f"not opened {address}",
                    f"a datagram from {address} is dropped: {reason}; give all nodes the same CLUSTER_KEY",
                    now,
                    minor=not self._addresses.is_listed(address),
                )
            case DuplicateIdentity(node_id=self._core.id, addresses=(other,)):
                self._meet_double(other, now)
            case DuplicateIdentity(node_id=node, addresses=addresses):
                where = " and ".join(str(address) for address in addresses)
                self.alerts.raise_alert(
                    f"duplicate {node}",
                    f"two processes have the node id {format_id(node)}: {where};"
                    " stop one of them and remove its copied data directory",
                    now,
                    minor=not self._is_ours(node, addresses[0]),
                )

    def _confirmed(self, peer: Peer, previous: Peer | None, address: Address, now: Instant) -> None:
        """Note which node is behind an address; the core refuses a node of another cluster, with an alert."""
        if not peer.node_id or peer.domain is not Domain.CONSENSUS:
            return
        self._addresses.answered(address, now)
        self.alerts.clear(f"versions {peer.node_id}")
        self._core.path_takes(peer.node_id, self.endpoint.message_bytes(peer, now))
        self._core.hear_of_cluster(peer.node_id, peer.cluster_id, now)
        self.tell_core(now)
        if previous is not None and previous.process == peer.process and previous.address == peer.address:
            return
        self.news.set()
        if self._is_ours(peer.node_id, peer.address) or self._lines.admits(self._log, now):
            self._log.info("peer", peer=format_id(peer.node_id), peer_name=peer.name, address=str(peer.address))

    def _meet_double(self, other: Address, now: Instant) -> None:
        """Stop if another process has this node's id and this one has just been started; otherwise raise an alert.

        So the later one of two processes stops. It stops before it may vote, because after a start a node first keeps
        its promise, unless it holds the very lock of the process that led before it. Without a key any process can
        claim this node's id, and must not end the node by that. The other nodes refuse the later one of two in any
        case.
        """
        text = (
            f"another process, at {other}, has this node's id {format_id(self._core.id)}:"
            f" DATA_DIR={self._settings.data_dir} was copied, or is the copy"
        )
        is_new = now - self._started_at < _NEWCOMER_TIMEOUTS * self._settings.election_timeout_upper
        if is_new and self._settings.keys is not None:
            raise NodeError(
                f"{text}; this node stops, because the other one was there before:"
                " remove the data directory that is wrong"
            )
        cause = f"duplicate {self._core.id}"
        self.alerts.raise_alert(cause, f"{text}; stop one of them, and remove its data directory", now)

    def _refuse_versions(self, other: OtherVersions, now: Instant) -> None:
        """Raise an alert that names the node to upgrade; note the other's cluster, lest a second one be formed."""
        ours, theirs = self.endpoint.versions, other.versions
        name = other.name or format_id(other.node_id)
        upgrade = name if theirs.highest < ours.lowest else f"{self.endpoint.name} (this node)"
        self.alerts.raise_alert(
            f"versions {other.node_id}",
            f"{name} at {other.address} speaks version {theirs} of the protocol, and this node {ours}: refused;"
            f" upgrade {upgrade}",
            now,
            minor=not self._is_ours(other.node_id, other.address),
        )
        self._core.hear_of_cluster(other.node_id, other.cluster_id, now)
