"""The endpoint of a process: its handshakes and sessions with all others, without I/O.

Datagrams and the time go in; datagrams to send and events come out. :mod:`trioraft.datagrams.wire` specifies the
rules.
"""

import os
from collections import Counter
from collections.abc import Callable

from trioraft.address import Address
from trioraft.datagrams.channels import Channels
from trioraft.datagrams.cookies import Cookies
from trioraft.datagrams.ephemerals import Ephemerals
from trioraft.datagrams.events import (
    DuplicateIdentity,
    Event,
    ForeignService,
    NotOpened,
    OtherVersions,
    OwnReflection,
    PeerConfirmed,
    Received,
)
from trioraft.datagrams.fragments import DATAGRAM_BYTES, Fragments
from trioraft.datagrams.handshake import Handshakes
from trioraft.datagrams.headers import Datagram
from trioraft.datagrams.identity import NAME_MAX, Identity, ThisProcess
from trioraft.datagrams.keys import KeyRing
from trioraft.datagrams.receiver import Receiver
from trioraft.datagrams.sealing import PROCESS_BYTES, Domain
from trioraft.datagrams.sender import Origin, Sender
from trioraft.datagrams.sessions import Peer, Registry, Standing
from trioraft.datagrams.wire import EncodedMessage, encode_message
from trioraft.messages import Instant, Message, NodeId, OptionalId, OptionalNodeId
from trioraft.versions import AGREES_FROM, Versions

__all__ = [
    "Domain",
    "DuplicateIdentity",
    "EncodedMessage",
    "Endpoint",
    "Event",
    "ForeignService",
    "Identity",
    "NotOpened",
    "OtherVersions",
    "OwnReflection",
    "Peer",
    "PeerConfirmed",
    "Received",
    "encode_message",
]


class Endpoint:
    """Keeps the handshakes and sessions of one process; does no I/O.

    Parameters
    ----------
    identity : Identity
        Who this process is.
    keys : KeyRing or None
        Its keys; None leaves everything unsealed.
    entropy : callable
        Returns as many random bytes as it is asked for.
    process_id : bytes or None
        16 bytes that no other process ever had; drawn where it is None.
    cluster_id : int
        The cluster of this process; 0 for none.
    datagram_bytes : int
        The size of datagrams on paths whose limit is not known; larger messages go in fragments.

    Attributes
    ----------
    identity : Identity
        Who this process is.
    process : bytes
        The random id of this process.
    counters : Counter
        The datagrams ``received`` and ``sent``, and those that were dropped, by reason: ``dropped_…``.
    takes_from : callable
        Returns whether datagrams from an address are accepted; by default those from all addresses are.
    """

    def __init__(
        self,
        identity: Identity,
        keys: KeyRing | None,
        *,
        entropy: Callable[[int], bytes] = os.urandom,
        process_id: bytes | None = None,
        cluster_id: OptionalId = 0,
        datagram_bytes: int = DATAGRAM_BYTES,
    ) -> None:
        if not 0 < len(identity.service) <= NAME_MAX:
            raise ValueError(f"the service name {identity.service!r} must have 1 to {NAME_MAX} characters")
        self.identity = identity
        self.process = process_id or entropy(PROCESS_BYTES)
        self.counters: Counter[str] = Counter()
        process = ThisProcess(identity, self.process, Cookies(entropy(32)), self.counters, entropy)
        ephemerals = Ephemerals(entropy) if keys is not None else None
        self._sender = Sender(process, cluster_id, ephemerals if identity.versions.highest >= AGREES_FROM else None)
        self._fragments = Fragments(self._sender, self.counters, datagram_bytes)
        self._registry = Registry()
        self._channels: Channels | None = None
        if keys is not None and ephemerals is not None:
            self._channels = Channels(keys, self.process, ephemerals, self._registry)
        self._handshakes = Handshakes(process, keys, self._sender, self._fragments, self._registry, self._channels)
        self._receiver = Receiver(process, keys, self._handshakes, self._fragments, self._channels)
        self.takes_from: Callable[[Address], bool] = lambda address: True

    # --- what the caller asks for ---------------------------------------------------------------------------

    @property
    def cluster_id(self) -> int:
        """The cluster of this process; 0 for none. It goes into every datagram."""
        return self._sender.cluster_id

    @cluster_id.setter
    def cluster_id(self, cluster_id: OptionalId) -> None:
        self._sender.cluster_id = cluster_id

    @property
    def name(self) -> str:
        """The name of this process as people know it. It goes into every ``Hello``."""
        return self._sender.name

    @name.setter
    def name(self, name: str) -> None:
        self._sender.name = name

    @property
    def versions(self) -> Versions:
        """The versions of the protocol that this process speaks. They go into every ``Hello``."""
        return self._sender.versions

    @versions.setter
    def versions(self, versions: Versions) -> None:
        self._sender.versions = versions
        for peer in self.peers:
            if self._handshakes.is_strange(peer.domain, peer.node_id, peer.versions):
                self.forget(peer)

    @property
    def is_listed(self) -> Callable[[Address], bool]:
        """Returns whether DNS or an operator names an address as that of a node.

        A process at any other address that claims to be a node which is reached elsewhere has to wait until that node
        has not answered.
        """
        return self._handshakes.is_listed

    @is_listed.setter
    def is_listed(self, is_listed: Callable[[Address], bool]) -> None:
        self._handshakes.is_listed = is_listed

    @property
    def members(self) -> frozenset[NodeId]:
        """The nodes whose sessions are kept, however many others there are."""
        return self._registry.members

    @members.setter
    def members(self, members: frozenset[NodeId]) -> None:
        self._registry.members = members

    @property
    def peers(self) -> list[Peer]:
        """All processes with a session: for each node the one that speaks for it, and the clients."""
        return [session.peer for session in self._registry.current()]

    def peer(self, node_id: OptionalNodeId, domain: Domain = Domain.CONSENSUS) -> Peer | None:
        """Find a node.

        Parameters
        ----------
        node_id : int
            Its id.
        domain : Domain
            The domain of the session.

        Returns
        -------
        Peer or None
            The process that speaks for it; None when none was ever confirmed.
        """
        session = self._registry.holder(node_id, domain)
        return session.peer if session else None

    def forget(self, peer: Peer) -> None:
        """Drop a session. A peer that sends something after that has to shake hands again.

        Parameters
        ----------
        peer : Peer
            The peer.
        """
        self._handshakes.forget(peer)

    def greet(self, address: Address, domain: Domain, now: Instant) -> None:
        """Start or renew a handshake with the process at an address, if there is one.

        Parameters
        ----------
        address : Address
            The address.
        domain : Domain
            The domain of the session. Without keys, or where both sides have only keys of the first generation in
            common, the session has the domain that stands for it there.
        now : float
            The time, in seconds.

        Raises
        ------
        ValueError
            If there are keys, but none for that domain.
        """
        self._handshakes.greet(address, domain, now)

    def send(self, peer: Peer, message: EncodedMessage | Message, now: Instant) -> None:
        """Send a message to a peer. Where there is no session any more, it is dropped and counted.

        A message that is larger than a datagram, up to 2 MiB, goes in fragments, which are sent again until they
        arrive. It is lost only when the peer is silent for 5 s, or when too much is on its way to the peer already.
        While it is on its way, the same message is not sent again.

        A node that answers nothing for a second, although messages are sent to it all the time, is greeted again: it
        may know this process at another address only.

        Nothing is sent to a client that has not confirmed its address within the last 60 s.

        Parameters
        ----------
        peer : Peer
            The receiver.
        message : EncodedMessage or Message
            The message; encode it once where it goes to several peers.
        now : float
            The time, in seconds.
        """
        session = peer.session
        if session is None or session.standing is not Standing.CURRENT:
            self.counters["dropped_no_session"] += 1
            return
        if not peer.node_id and not session.peer.is_confirmed(now):
            self.counters["dropped_unconfirmed_receiver"] += 1
            return
        if peer.domain is Domain.CONSENSUS and session.needs_greeting(now):
            self.greet(peer.address, peer.domain, now)
            for rival in self._registry.waiting(peer.node_id, peer.domain):
                self._handshakes.probe(rival, now)
        elif session.needs_proof(now):
            self._handshakes.greet_origin(Origin(peer.address, peer.domain, session.key), now)
        encoded = message if isinstance(message, bytes) else encode_message(message)
        if len(encoded) <= self._fragments.fits_bytes:
            self._sender.send(session, encoded)
        else:
            self._fragments.send(session, encoded, now)

    def message_bytes(self, peer: Peer, now: Instant) -> int:
        """Compute how large a message to a peer may be to go in one datagram.

        Parameters
        ----------
        peer : Peer
            The receiver.
        now : float
            The time, in seconds.

        Returns
        -------
        int
            The size of the encoded message.
        """
        return self._fragments.message_bytes(peer.session, now) if peer.session else self._fragments.fits_bytes

    def datagrams_to_send(self) -> list[Datagram]:
        """Drain what is to be sent.

        Returns
        -------
        list of (bytes, Address)
            The datagrams and where they go, in order.
        """
        self._fragments.acknowledge()
        return self._sender.drain()

    def use_path_bytes(self, path_bytes: Callable[[Address], int | None]) -> None:
        """Make datagrams as large as their path allows.

        Parameters
        ----------
        path_bytes : callable
            Returns the size of the largest datagram on the path to an address, or None where that is not known; such
            as :meth:`trioraft.datagrams.socket.UdpSocket.path_bytes`.
        """
        self._fragments.path_bytes = path_bytes

    def next_deadline(self) -> Instant:
        """Compute when :meth:`handle_timer` has to be called.

        Returns
        -------
        float
            The time, in seconds; infinity when there is nothing to wait for.
        """
        return self._fragments.next_deadline()

    def handle_timer(self, now: Instant) -> None:
        """Send fragments again that were not acknowledged in time.

        Parameters
        ----------
        now : float
            The time, in seconds.
        """
        self._fragments.handle_timer(now)

    # --- what comes in --------------------------------------------------------------------------------------

    def receive_datagram_untrusted(self, data: bytes, source: Address, now: Instant) -> Event | None:
        """Take a datagram from anybody. Never raises.

        Parameters
        ----------
        data : bytes
            The datagram.
        source : Address
            The address that it seems to come from.
        now : float
            The time, in seconds.

        Returns
        -------
        Event or None
            What it means; None when nothing follows from it. Either way there may be datagrams to send, and further
            events in :meth:`further_events`.
        """
        self.counters["received"] += 1
        if not self.takes_from(source):
            self.counters["dropped_unlisted"] += 1
            return None
        return self._receiver.receive_untrusted(data, source, now)

    def further_events(self) -> list[Received]:
        """Drain the events of datagrams that led to several; call it after :meth:`receive_datagram_untrusted`.

        Returns
        -------
        list of Received
            The events, in order.
        """
        return self._receiver.further_events()
