"""The nodes of a cluster as a client knows them: how it finds them, and how it notices what becomes of them.

A client is not a member: it has no node id, stores nothing, and may be started anywhere from which the nodes can be
reached. It finds them by discovery, and from there by the addresses of their peers, which nodes name in their status.
So one known node is enough to see the whole cluster.
"""

import platform
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final

import trio

from trioraft.address import Address
from trioraft.arguments import check_seconds
from trioraft.client.status import ClusterStatus, ObservedNode
from trioraft.clock import NEVER
from trioraft.datagrams.client_loop import ClientLoop
from trioraft.datagrams.endpoint import (
    Domain,
    Endpoint,
    Event,
    ForeignService,
    Identity,
    Peer,
    PeerConfirmed,
    Received,
)
from trioraft.datagrams.socket import DatagramSocket
from trioraft.dns.addresses import Addresses, Place
from trioraft.dns.discovery import Answer, Discovery
from trioraft.messages import Instant, Message, NodeId, NodeStatus, Status, StatusRequest, format_id
from trioraft.settings.settings import DEFAULT_PORT, ClientSettings
from trioraft.standstill import Standstill
from trioraft.texts import natural

FORGET_SECONDS: Final = 60.0

# A question that is not answered is asked again, first soon (a datagram was lost), then ever more rarely.
_RETRY_FIRST: Final = 0.1
RETRY_LAST: Final = 1.0

# A node that has left this many questions in a row unanswered is also looked for at its earlier address.
_SILENT_TRIES: Final = 4

# A node trusts an address for 60 s; the handshake is renewed well before that.
_GREET_AGAIN: Final = 20.0

# The first service name that a client tries that was given none.
_DEFAULT_SERVICE: Final = "trioraft"

# The least time that DNS has to say where nodes may be, in seconds.
_LOOK_UP_PATIENCE: Final = 5.0


@dataclass(slots=True)
class _Target(Place):
    """An address to ask; `since` is when discovery, or a node, last named it."""

    peer: Peer | None = None
    node_id: str | None = None
    due: Instant = 0.0  # when to ask (again)
    asked_at: Instant | None = None  # when the question was asked that is still open
    tries: int = 0
    foreign: str = ""  # the other service that the node there is of


class KnownNodes:
    """The nodes of a cluster as a client knows them.

    Parameters
    ----------
    settings : ClientSettings
        The service name, where to look, and the keys.
    domain : Domain
        The domain of its sessions.
    socket : DatagramSocket
        The socket to use.

    Attributes
    ----------
    nodes : dict of str to ObservedNode
        The nodes that were heard, by id.
    version : int
        A number that grows with every change of `nodes`; see :meth:`changed`.
    """

    def __init__(self, settings: ClientSettings, domain: Domain, socket: DatagramSocket) -> None:
        self.nodes: dict[str, ObservedNode] = {}
        self._not_found: tuple[str, ...] = ()
        self.version = 0
        self._settings = settings
        self._domain = domain
        self._socket = socket
        self._targets = Addresses(_Target, worth=self._worth, dropped=self._dropped)
        endpoint = self._make_endpoint(settings.app_name or _DEFAULT_SERVICE)
        self._loop = ClientLoop(socket, endpoint, self._handle, self._gather)
        self._target_by_node: dict[NodeId, _Target] = {}
        self._refresh: float | None = None
        self._standstill = Standstill(2 * RETRY_LAST)
        self._changed = trio.Event()
        self._wake = trio.Event()
        self._looked_up = trio.Event()

    # --- what callers use ------------------------------------------------------------------------------------

    async def statuses(self, timeout: float = 1.0) -> ClusterStatus:  # noqa: ASYNC109 - part of the result
        """Ask the nodes at all addresses that were found for their status.

        Parameters
        ----------
        timeout : float
            How many seconds to wait for nodes that do not answer, once it is known where they may be. DNS has 5 s at
            least to say that.

        Returns
        -------
        ClusterStatus
            The nodes that answered, and those that were heard earlier, as not reachable.
        """
        check_seconds("timeout", timeout)
        started = trio.current_time()
        with trio.move_on_after(max(timeout, _LOOK_UP_PATIENCE)):
            await self._looked_up.wait()
        with trio.move_on_after(timeout):
            for target in self._targets.values():
                self._ask_now(target, started)
            while self._targets and not all(self._has_answered(t, started) for t in self._targets.values()):
                await self.changed(self.version)
        nodes = [
            ObservedNode(node.status, node.address, node.heard_at, node.heard_at >= started)
            for node in self.nodes.values()
        ]
        cluster = ClusterStatus(tuple(nodes))
        return ClusterStatus(
            _in_order(node for node in nodes if not cluster.is_former(node)), self._silent(), self._foreign()
        )

    def cluster(self) -> ClusterStatus:
        """Return the state of the cluster by what :meth:`observe` has gathered.

        Returns
        -------
        ClusterStatus
            The nodes as last heard.
        """
        return ClusterStatus(_in_order(self.nodes.values()), self._silent(), self._foreign())

    @property
    def problems(self) -> tuple[str, ...]:
        """The problems of the last look-up, and the nodes of other services that were met."""
        return *self._not_found, *self._foreign()

    async def observe(self, refresh: float) -> None:
        """Keep `nodes` up to date from now on, in the background; returns at once.

        Every node is asked every `refresh` seconds, and sends its status by itself when its role, term or leader
        changes. A node that was not heard for two such intervals is not reachable. It is forgotten when the leader of
        its cluster no longer counts it as a member, or when it was not found for 60 s. So `nodes` shows which nodes
        are where, at most six intervals (of a second at least) after the nodes themselves know it.

        Parameters
        ----------
        refresh : float
            The interval, in seconds.
        """
        self._refresh = check_seconds("refresh", refresh)
        now = trio.current_time()
        for target in self._targets.values():
            self._ask_now(target, now)
        await trio.lowlevel.checkpoint()

    async def changed(self, seen: int | None = None) -> int:
        """Wait for a change: a status arrives, or a node becomes unreachable or is forgotten.

        Parameters
        ----------
        seen : int, optional
            The `version` that the caller has seen. Where it is given, no change since then is missed.

        Returns
        -------
        int
            The present `version`.
        """
        if seen is None or seen == self.version:
            await self._changed.wait()
        else:
            await trio.lowlevel.checkpoint()
        return self.version

    def why_silent(self) -> str:
        """Word where nodes were looked for, when none has answered.

        Returns
        -------
        str
            One line.
        """
        problems = "; ".join(self.problems)
        if not self._targets and not self._looked_up.is_set():
            return f"DNS has not said yet where {self._settings.dns_name or 'PEERS'} is; ask again, or set PEERS"
        if not self._targets:
            return f"no node was found: {problems or 'no address is known'}; set PEERS, APP_NAME or --peers"
        asked = ", ".join(str(address) for address, target in sorted(self._targets.items()) if not target.foreign)
        if not asked:
            return f"no node of service {self._service!r} was found: {problems}"
        sealed = "with a key" if self._settings.keys else "without a key"
        text = f"no node answers at {asked} (asked {sealed}, as a client of service {self._service!r})"
        return f"{text}; {problems}" if problems else text

    @property
    def _service(self) -> str:
        return self._loop.endpoint.identity.service

    def tasks(self) -> tuple[Callable[[], Awaitable[None]], ...]:
        """List the tasks that run for as long as the client is open."""
        return self._loop.run, self._tend, self._discover

    # --- for a client that does more than look ---------------------------------------------------------------

    def _met(self, node: NodeId) -> None:
        """Note that a node can be reached now."""

    def _learned(self, status: NodeStatus) -> None:
        """Use what the status of a node says."""

    def _received(self, node: NodeId, message: Message) -> None:
        """Take any other message of a node."""

    def _gather(self, now: Instant) -> None:
        """Hand messages that wait to be sent to the endpoint."""

    def _peer(self, node: NodeId) -> Peer | None:
        """Find the peer that stands for a node; None where the node cannot be reached now."""
        target = self._target_by_node.get(node)
        if target is None or target.peer is None or target.peer.node_id != node:
            return None
        return target.peer

    def reachable_nodes(self) -> list[NodeId]:
        """List the nodes that can be reached now, without the silent ones if there are others."""
        found = [node for node in self._target_by_node if self._peer(node) is not None]
        heard = [node for node in found if (seen := self.nodes.get(format_id(node))) is not None and seen.reachable]
        return heard or found

    def meet(self, node: NodeId, address: str) -> None:
        """Shake hands with a node at an address that another node has named."""
        known = self._target_by_node.get(node)
        parsed = _parse_address(address)
        if parsed is None or (known is not None and known.address == parsed):
            return
        now = trio.current_time()
        self._list([parsed], now)
        target = self._targets.get(parsed)
        if target is not None and target.node_id == format_id(node):
            target.node_id = target.peer = None  # it was there before, and is again
            self._ask_now(target, now)

    # --- what arrives ----------------------------------------------------------------------------------------

    def _handle(self, event: Event, now: Instant) -> None:
        match event:
            case PeerConfirmed(peer=peer):
                self._confirm(peer, now)
            case Received(peer=peer, message=Status(node=status)):
                self._hear(peer, status, now)
            case Received(peer=peer, message=message) if self._peer(peer.node_id) is peer:
                self._received(peer.node_id, message)
            case ForeignService(address=address, service=service):
                self._meet_foreign(address, service)

    def _make_endpoint(self, service: str) -> Endpoint:
        identity = Identity(node_id=0, service=service, name=platform.node()[:255])
        endpoint = Endpoint(identity, self._settings.keys, datagram_bytes=self._settings.max_datagram_bytes)
        endpoint.use_path_bytes(self._socket.path_bytes)
        # Else any holder of the client's key, or anybody where there is no key, could pose as any node by greeting
        # it.
        endpoint.takes_from = self._targets.__contains__
        return endpoint

    def _meet_foreign(self, address: Address, service: str) -> None:
        """Join the first service that is found, if none was named; else note that the node is of another one."""
        if self._settings.app_name or self._service != _DEFAULT_SERVICE or self.nodes:
            target = self._targets.get(address)
            if target is not None and target.foreign != service:
                target.foreign = service
                self._tell()
            return
        self._loop.endpoint = self._make_endpoint(service)
        self._target_by_node.clear()
        for target in self._targets.values():
            target.peer = None
            self._ask_now(target, trio.current_time())

    def _confirm(self, peer: Peer, now: Instant) -> None:
        target = self._targets.get(peer.address)
        if target is None:
            return
        target.foreign = ""
        if self._is_elsewhere(target) and target.node_id == format_id(peer.node_id):
            target.asked_at = None
            self._loop.endpoint.greet(self.nodes[target.node_id].address, self._domain, now)
            return
        target.peer = peer
        target.node_id = format_id(peer.node_id)
        self._target_by_node[peer.node_id] = target
        if target.asked_at is not None:
            self._send_request(target, now)
        self._met(peer.node_id)

    def _hear(self, peer: Peer, status: NodeStatus, now: Instant) -> None:
        target = self._targets.get(peer.address)
        if target is None or status.id != format_id(peer.node_id):
            return
        target.peer = peer
        target.node_id = status.id
        if target.asked_at is not None:
            target.due = target.asked_at + self._refresh if self._refresh is not None else NEVER
            target.asked_at = None
            target.tries = 0
        for other in [n for n in self.nodes.values() if n.address == peer.address and n.status.id != status.id]:
            del self.nodes[other.status.id]  # another node has taken its address
        self.nodes[status.id] = ObservedNode(status, peer.address, now)
        named = [address for address in map(_parse_address, status.peers) if address is not None]
        self._list(named, now)
        self._ask_for_successors({*named, peer.address}, now)
        self._learned(status)
        self._tell()

    # --- whom to ask, and when -------------------------------------------------------------------------------

    async def _discover(self) -> None:
        """Look for nodes for as long as the client is open."""
        settings = self._settings
        numeric = [_parse_address(str(peer)) for peer in settings.peers]
        if not settings.dns_name and all(numeric):
            self._list(filter(None, numeric), trio.current_time(), discovered=True)
            self._looked_up.set()
            return
        discovery = Discovery(
            settings.dns_name,
            settings.peers,
            DEFAULT_PORT,
            settings.dns_servers,
            settings.discovery_interval,
        )
        await discovery.run(self._discovered)

    def _discovered(self, answer: Answer) -> None:
        self._not_found = answer.problems
        if answer.complete:
            self._targets.look_up_ended(answer.addresses)
        self._list(answer.addresses, trio.current_time(), discovered=True)
        self._looked_up.set()

    def _list(self, addresses: Iterable[Address], now: Instant, *, discovered: bool = False) -> None:
        for address in addresses:
            is_known = address in self._targets
            target = self._targets.add(address, now, discovered=discovered)
            if target is None:
                continue
            target.since = now
            if not is_known:
                self._ask_now(target, now)

    def _worth(self, target: _Target) -> tuple[bool, Instant]:
        """Compute how much an address is worth that only nodes have named: more where a node was heard."""
        return target.node_id in self.nodes, target.since

    def _dropped(self, target: _Target) -> None:
        self._target_by_node = {n: t for n, t in self._target_by_node.items() if t is not target}

    def _ask_for_successors(self, named: set[Address], now: Instant) -> None:
        """Ask again at the old address of a node that has moved, when both are named: these are two nodes."""
        for target in [self._targets[address] for address in named if address in self._targets]:
            node = self.nodes.get(target.node_id or "")
            if node is not None and node.address != target.address and node.address in named:
                target.node_id = target.peer = None
                self._ask_now(target, now)

    def _ask_now(self, target: _Target, now: Instant) -> None:
        target.due = now
        target.tries = 0
        self._wake.set()

    def _has_answered(self, target: _Target, since: Instant) -> bool:
        node = self.nodes.get(target.node_id or "")
        return bool(target.foreign) or (node is not None and node.heard_at >= since)

    def _silent(self) -> tuple[Address, ...]:
        return tuple(
            sorted(t.address for t in self._targets.values() if t.node_id not in self.nodes and not t.foreign)
        )

    def _foreign(self) -> tuple[str, ...]:
        found = sorted((t.address, t.foreign) for t in self._targets.values() if t.foreign)
        return tuple(
            f"at {address} is a node of service {service!r}, and this is a client of service {self._service!r}:"
            " APP_NAME must be that of the nodes"
            for address, service in found
        )

    async def _tend(self) -> None:
        """Ask the nodes whose turn it is, and notice the silent ones, for as long as the client is open."""
        while True:
            self._wake = trio.Event()
            now = trio.current_time()
            for target in self._targets.values():
                if target.due <= now:
                    self._ask(target, now)
            self._loop.flush()
            self._standstill.look(now)
            self._notice_silence(now)
            self._forget(now)
            with trio.move_on_at(self._next_deadline()):
                await self._wake.wait()

    def _ask(self, target: _Target, now: Instant) -> None:
        if self._is_elsewhere(target):
            # Either the node has moved, and another one may be here; or it has both addresses, and `_confirm` goes
            # back to the other one.
            self._loop.endpoint.greet(target.address, self._domain, now)
            target.asked_at = now
            target.due = now + max(RETRY_LAST, 2 * self._refresh) if self._refresh is not None else NEVER
            return
        peer = target.peer
        if peer is not None and target.tries < 2:
            self._send_request(target, now)
        if peer is None or target.tries or now - peer.confirmed_at > _GREET_AGAIN:
            self._loop.endpoint.greet(target.address, self._domain, now)
        if target.asked_at is None:
            target.asked_at = now
        target.due = now + min(_RETRY_FIRST * 2**target.tries, max(RETRY_LAST, self._refresh or 0.0))
        target.tries = min(target.tries + 1, 16)

    def _is_elsewhere(self, target: _Target) -> bool:
        """Check whether the node that answered at an address was last heard at another one, and answers there."""
        node = self.nodes.get(target.node_id or "")
        if node is None or node.address == target.address:
            return False
        other = self._targets.get(node.address)
        return other is not None and other.node_id == target.node_id and other.tries < _SILENT_TRIES

    def _send_request(self, target: _Target, now: Instant) -> None:
        if target.peer is None:
            return
        subscribe = min(max(3 * self._refresh, 5.0), 60.0) if self._refresh is not None else 0.0
        self._loop.endpoint.send(target.peer, StatusRequest(subscribe), now)

    def _notice_silence(self, now: Instant) -> None:
        if self._refresh is None:
            return
        for node in self.nodes.values():
            if node.reachable and now >= max(node.heard_at, self._standstill.ended_at) + 2 * self._refresh:
                node.reachable = False
                self._tell()

    def _forget(self, now: Instant) -> None:
        for target in list(self._targets.values()):
            node = self.nodes.get(target.node_id or "")
            heard_at = node.heard_at if node is not None and node.address == target.address else 0.0
            if (
                not target.discovered
                and now - max(target.since, heard_at, self._standstill.ended_at) > FORGET_SECONDS
            ):
                self._targets.drop(target)
                self._tell()
        cluster = ClusterStatus(tuple(self.nodes.values()))
        for node in cluster.nodes:
            if node.address not in self._targets or cluster.is_former(node):
                del self.nodes[node.status.id]
                self._tell()

    def _next_deadline(self) -> Instant:
        deadline = trio.current_time() + RETRY_LAST
        for target in self._targets.values():
            deadline = min(deadline, target.due)
        if self._refresh is not None:
            for node in self.nodes.values():
                if node.reachable:
                    deadline = min(deadline, max(node.heard_at, self._standstill.ended_at) + 2 * self._refresh)
        return deadline

    def _tell(self) -> None:
        self.version += 1
        self._changed.set()
        self._changed = trio.Event()


def _in_order(nodes: Iterable[ObservedNode]) -> tuple[ObservedNode, ...]:
    """Sort nodes by name, but members first, since there may be any number of others."""
    found = tuple(nodes)
    members = {member.id for member in ClusterStatus(found).members}
    return tuple(
        sorted(found, key=lambda node: (node.status.id not in members, natural(node.status.name), node.status.id))
    )


def _parse_address(text: str) -> Address | None:
    host, _, port = text.rpartition(":")
    try:
        return Address.of(host.strip("[]"), int(port))
    except ValueError:
        return None
