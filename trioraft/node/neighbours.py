"""Who is around a node: found by DNS, greeted, met, and sometimes not welcome."""

from collections.abc import Iterator
from typing import Final

import trio
from structlog.typing import FilteringBoundLogger

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

# How long a peer counts as reachable, for the formation, after it was last heard, in heartbeats.
_PEER_LASTS: Final = 20
# How long a node without a cluster waits for an answer of DNS, and of each address in it, before it forms a cluster
# without whoever is there; and at most, whatever DNS says. In heartbeats.
_ANSWERS_WITHIN: Final = 6
_FORMS_AFTER: Final = 20
# How often the address book looks for whom to greet, in seconds.
_GREETING_INTERVAL: Final = 1.0
# What can end the leadership of another node.
_OF_LEADERS: Final = (AppendEntriesRequest, InstallSnapshotRequest, VoteRequest, TimeoutNow)
# How many addresses a status names at most, and how many of them of nodes that are neither members nor listed.
_TOLD_MAX: Final = 256
_STRANGERS_TOLD: Final = 16
# A process is the later one of two with the same id for so many upper election timeouts after its start.
_NEWCOMER_TIMEOUTS: Final = 2


class Neighbours:
    """The nodes that this one knows of, and where.

    Parameters
    ----------
    core : Core
        Is told who is there.
    endpoint : Endpoint
        Shakes hands with them.
    settings : NodeSettings
        The node's configuration.
    world : World
        The clock, and DNS.
    log : FilteringBoundLogger
        The node's log.

    Attributes
    ----------
    endpoint : Endpoint
        As given.
    alerts : Alerts
        What somebody should look at.
    bound : Address
        Where the node's socket is.
    own_found : trio.Event
        Set when another address of this node than before is found.
    """

    def __init__(
        self, core: Core, endpoint: Endpoint, settings: NodeSettings, world: World, log: FilteringBoundLogger
    ) -> None:
        self._core = core
        self.endpoint = endpoint
        self._settings = settings
        self._world = world
        self._log = log
        self._started_at = world.clock()
        self._has_looked_up = False  # whether DNS has once said who is there
        self._lines = LineLimit("peers and alerts of nodes that are neither members nor listed")
        self.alerts = Alerts(self._report_alert)
        self._addresses = AddressBook(endpoint, self.alerts)
        endpoint.is_listed = self._addresses.is_listed
        self.bound = Address("", 0)
        self.own_found = trio.Event()

    def _report_alert(self, text: str, minor: bool) -> None:
        if not minor:
            self._log.error("alert", text=text)
        elif self._lines.admits(self._log, self._world.clock()):
            self._log.warning("alert", text=text)

    # --- who is there ---------------------------------------------------------------------------------------

    @property
    def own(self) -> Address | None:
        """Where other nodes reach this one, once that is known."""
        bound = self.bound
        return self._addresses.own or (None if bound.host in {"0.0.0.0", "::"} else bound)  # noqa: S104

    def nodes(self) -> Iterator[Peer]:
        """Give the other nodes that have shaken hands."""
        return (p for p in self.endpoint.peers if p.domain is Domain.CONSENSUS and p.node_id)

    def names(self) -> dict[NodeId, str]:
        """Tell what people call the nodes, this one included."""
        return {peer.node_id: peer.name for peer in self.nodes()} | {self._core.id: self.endpoint.name}

    def silent(self, now: Instant) -> dict[NodeId, Seconds]:
        """Tell for how many seconds nothing was heard of each node."""
        return {peer.node_id: now - peer.heard_at for peer in self.nodes()} | {self._core.id: 0.0}

    def addresses(self) -> tuple[str, ...]:
        """Give the addresses of the nodes that do not belong to another cluster; one without a cluster does not.

        Clients go by them. Those of members come first, and those that were found before those that have only greeted
        this node, of whom there may be any number.
        """
        ours = {0, self._core.cluster} if self._core.cluster else None
        known = [peer for peer in self.nodes() if ours is None or peer.cluster_id in ours]
        members = frozenset(self._core.configuration.members)
        known.sort(key=lambda peer: (peer.node_id not in members, not self._addresses.is_listed(peer.address)))
        strangers = [peer for peer in known if not self._is_ours(peer.node_id, peer.address)]
        shown = known[: len(known) - len(strangers)] + strangers[:_STRANGERS_TOLD]
        return tuple(str(peer.address) for peer in shown[:_TOLD_MAX])

    def _is_ours(self, node: NodeId, address: Address) -> bool:
        """Tell whether a node is a member, or where an operator or DNS has told that there is one."""
        return node in self._core.configuration.members or self._addresses.is_listed(address)

    def is_stranger(self, node: NodeId) -> bool:
        """Tell whether a node is no member, and is not where DNS or the static peers say that there is one."""
        peer = self.endpoint.peer(node)
        return not self._is_ours(node, peer.address if peer is not None else self.bound)

    def address_of(self, node: NodeId) -> str:
        """Tell where a node is, this one or another; empty where that is not known."""
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

    # --- looking for them -----------------------------------------------------------------------------------

    @property
    def greeting_pause(self) -> Seconds:
        """After how many seconds to look again for whom to greet."""
        return min(_GREETING_INTERVAL, self._settings.heartbeat_repeat)

    def discovered(self, answer: Answer) -> None:
        """Take in what DNS and the static peers say; that DNS is silent never disturbs a running cluster."""
        now = self._world.clock()
        reached = frozenset(address for address in answer.addresses if self._reaches(address))
        self._addresses.discovered(Answer(reached, answer.complete, answer.problems), now)
        self._has_looked_up = self._has_looked_up or answer.complete
        self.greet(now)

    def _reaches(self, address: Address) -> bool:
        """Tell whether this node's socket can send to an address of that family."""
        return self.bound.host == "::" or (":" in self.bound.host) == (":" in address.host)

    def greet(self, now: Instant) -> None:
        """Greet whoever is due, and tell the core who is there."""
        self._addresses.greet(now, pause=self.greeting_pause)
        self._lines.tell(self._log, now)
        self.tell_core(now)

    async def find_name(self, own: Address) -> str | None:
        """Take the name that DNS gives to this node's address; None where the name stays."""
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
        """Tell the core which nodes were heard lately, and whether others may be; the endpoint, who is a member."""
        if self._core.state is not None:
            self.endpoint.members = frozenset(self._core.state.configuration.members)
        heard_after = now - _PEER_LASTS * self._settings.heartbeat_repeat
        self._core.peers_changed(frozenset(peer.node_id for peer in self.nodes() if peer.heard_at > heard_after))
        self._core.hold_formation(self._somebody_may_answer(now))

    def _somebody_may_answer(self, now: Instant) -> bool:
        """Tell whether a node may be there that had no time to answer; on a busy machine that may take seconds."""
        self._addresses.standstill.look(now)
        began = max(self._started_at, self._addresses.standstill.ended_at)
        beats = (now - began) / self._settings.heartbeat_repeat
        patience = _ANSWERS_WITHIN * self._settings.heartbeat_repeat
        if beats > _FORMS_AFTER:
            return False
        return (not self._has_looked_up and beats < _ANSWERS_WITHIN) or self._addresses.awaits_answer(now, patience)

    def may_say(self, peer: Peer, message: ConsensusMessage, now: Instant) -> bool:
        """Tell whether a message counts.

        A node that leads, or hears a leader, lets nobody depose that leader who is no member as far as it knows, and
        is where nobody looks for a node. A new leader may be such a node, to one whose log is behind: that node
        listens to it as soon as it hears no other.

        Parameters
        ----------
        peer : Peer
            Who says it.
        message : ConsensusMessage
            What is said.
        now : float
            The time in seconds.

        Returns
        -------
        bool
            Whether the core is told.
        """
        s = self._core.state
        if s is None or not isinstance(message, _OF_LEADERS) or peer.node_id == s.leader:
            return True
        members = s.configuration.members
        is_known = not members or peer.node_id in members or self._addresses.is_listed(peer.address)
        return is_known or not is_sticky(s, now)

    # --- meeting them ---------------------------------------------------------------------------------------

    def handle(self, event: EndpointEvent, now: Instant) -> None:
        """Act on whom the endpoint has met.

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
                    self.own_found.set()  # others shall not know it by its host's name for long
                self._addresses.is_own(address, now)
            case ForeignService(node_id=0):
                pass  # a client, which is told so itself
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
        """Note who is behind an address; the core refuses, loudly, a node of another cluster."""
        if not peer.node_id or peer.domain is not Domain.CONSENSUS:
            return
        self._addresses.answered(address, now)
        self.alerts.clear(f"versions {peer.node_id}")
        self._core.path_takes(peer.node_id, self.endpoint.message_bytes(peer, now))
        self._core.hear_of_cluster(peer.node_id, peer.cluster_id, now)
        self.tell_core(now)
        if previous is not None and previous.process == peer.process and previous.address == peer.address:
            return
        if self._is_ours(peer.node_id, peer.address) or self._lines.admits(self._log, now):
            self._log.info("peer", peer=format_id(peer.node_id), peer_name=peer.name, address=str(peer.address))

    def _meet_double(self, other: Address, now: Instant) -> None:
        """Stop, when another process has this node's id and this one has just been started; else report it.

        So it is the later one that stops: before it may vote, because after a start a node first keeps its promise.
        Without a key anybody can say to have this node's id, and shall not end it by that. The other nodes refuse the
        later one of two in any case.
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
        """Say who must be upgraded. Which cluster the other one is of still counts, lest there be a second one."""
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
