"""Sans-IO: keeps handshakes and sessions with everybody this process talks to.

Datagrams and the time go in; datagrams to send and events come out. The rules are told in
:mod:`trioraft.datagrams.wire`.
"""

import os
from collections import Counter, deque
from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidTag

from trioraft.address import Address
from trioraft.clock import LONG_AGO
from trioraft.datagrams import headers, wire
from trioraft.datagrams.cookies import Cookies
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
from trioraft.datagrams.headers import MalformedError, Plain, Sealed
from trioraft.datagrams.keys import KeyRing
from trioraft.datagrams.rights import CLIENT_TAKES, NODE_TAKES
from trioraft.datagrams.sealing import PROCESS_BYTES, Domain
from trioraft.datagrams.sender import NAME_MAX, Identity, Origin, Outbox
from trioraft.datagrams.sessions import Peer, Session, Standing
from trioraft.datagrams.wire import EncodedMessage, encode_message
from trioraft.messages import (
    Fragment,
    FragmentsReceived,
    Message,
)
from trioraft.versions import Versions

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

# Telling again that somebody has other keys comes at most this often.
_NOT_OPENED_SECONDS: Final = 10.0


class Endpoint:
    """Keeps handshakes and sessions; does no I/O.

    Parameters
    ----------
    identity : Identity
        Who this process is.
    keys : KeyRing or None
        Its keys; None leaves everything unsealed.
    entropy : callable
        Gives as many random bytes as it is asked for.
    process_id : bytes or None
        16 bytes that no other process ever had; None draws them.
    cluster_id : int
        The cluster of this process, 0 for none.
    datagram_bytes : int
        The size of datagrams where the path's is not known; larger messages go in fragments.

    Attributes
    ----------
    identity : Identity
        Who this process is.
    process : bytes
        The random id of this process.
    counters : Counter
        Datagrams ``received`` and ``sent``, and why others were not: ``dropped_…``.
    takes_from : callable
        Tells whether anything is taken that comes from an address; of all addresses, where nobody says otherwise.
    """

    def __init__(
        self,
        identity: Identity,
        keys: KeyRing | None,
        *,
        entropy: Callable[[int], bytes] = os.urandom,
        process_id: bytes | None = None,
        cluster_id: int = 0,
        datagram_bytes: int = DATAGRAM_BYTES,
    ) -> None:
        if not 0 < len(identity.service) <= NAME_MAX:
            raise ValueError(f"the service name {identity.service!r} must have 1 to {NAME_MAX} characters")
        self.identity = identity
        self.process = process_id or entropy(PROCESS_BYTES)
        self.counters: Counter[str] = Counter()
        self._keys = keys
        cookies = Cookies(entropy(32))
        self._outbox = Outbox(identity, self.process, cluster_id, cookies, self.counters, entropy)
        self._fragments = Fragments(self._outbox, self.counters, datagram_bytes)
        self._handshakes = Handshakes(
            identity, self.process, keys, entropy, cookies, self._outbox, self._fragments, self.counters
        )
        self._registry, self._channels = self._handshakes.registry, self._handshakes.channels
        self._takes = NODE_TAKES if identity.node_id else CLIENT_TAKES
        self._not_opened_at = LONG_AGO
        self._further: deque[Received] = deque()
        self.takes_from: Callable[[Address], bool] = lambda address: True

    # --- what the caller asks for ---------------------------------------------------------------------------

    @property
    def cluster_id(self) -> int:
        """The cluster of this process, 0 for none; goes into every datagram."""
        return self._outbox.cluster_id

    @cluster_id.setter
    def cluster_id(self, cluster_id: int) -> None:
        self._outbox.cluster_id = cluster_id

    @property
    def name(self) -> str:
        """The name of this process as people know it; goes into every ``Hello``."""
        return self._outbox.name

    @name.setter
    def name(self, name: str) -> None:
        self._outbox.name = name

    @property
    def versions(self) -> Versions:
        """The versions of the protocol that this process speaks; go into every ``Hello``."""
        return self._outbox.versions

    @versions.setter
    def versions(self, versions: Versions) -> None:
        self._outbox.versions = versions
        for peer in self.peers:
            if self._handshakes.is_strange(peer.domain, peer.node_id, peer.versions):
                self.forget(peer)

    @property
    def is_listed(self) -> Callable[[Address], bool]:
        """Tell whether DNS or an operator names an address as that of a node.

        Who says from any other one that it is a node which is reached elsewhere has to wait until that one has not
        answered.
        """
        return self._handshakes.is_listed

    @is_listed.setter
    def is_listed(self, is_listed: Callable[[Address], bool]) -> None:
        self._handshakes.is_listed = is_listed

    @property
    def members(self) -> frozenset[int]:
        """The ids of nodes whose sessions are kept, however many others there are."""
        return self._registry.members

    @members.setter
    def members(self, members: frozenset[int]) -> None:
        self._registry.members = members

    @property
    def peers(self) -> list[Peer]:
        """Everybody with a session: the nodes, each in the process that speaks for it, and the clients."""
        return [session.peer for session in self._registry.current()]

    def peer(self, node_id: int, domain: Domain = Domain.CONSENSUS) -> Peer | None:
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
            The process that speaks for it, None when none was ever confirmed.
        """
        session = self._registry.holder(node_id, domain)
        return session.peer if session else None

    def forget(self, peer: Peer) -> None:
        """Drop a session; who talks to us again has to shake hands again.

        Parameters
        ----------
        peer : Peer
            The peer.
        """
        self._handshakes.forget(peer)

    def greet(self, address: Address, domain: Domain, now: float) -> None:
        """Start, or renew, a handshake with whoever is at an address.

        Parameters
        ----------
        address : Address
            The address; nobody needs to be there.
        domain : Domain
            What the session is for. It is another domain's where there are no keys, or only those of the first
            generation are known on both sides.
        now : float
            The time, in seconds.

        Raises
        ------
        ValueError
            If there are keys, but none for that domain.
        """
        self._handshakes.greet(address, domain, now)

    def send(self, peer: Peer, message: EncodedMessage | Message, now: float) -> None:
        """Send a message to a peer; dropped and counted where there is no session any more.

        One of up to 2 MiB that is larger than a datagram goes in fragments, which are sent again until they
        arrive; it is lost only when the peer is silent for 5 s, or too much is on its way to it already. One that is
        still on its way is not sent again.

        A node that answers nothing for a second, whatever is sent to it, is greeted again: it may know this one at
        another address only.

        Nothing is sent to a client that has not confirmed its address within the last 60 s.

        Parameters
        ----------
        peer : Peer
            The receiver.
        message : EncodedMessage or Message
            The message, encoded already when it goes to several peers.
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
            self._outbox.send(session, encoded)
        else:
            self._fragments.send(session, encoded, now)

    def message_bytes(self, peer: Peer, now: float) -> int:
        """Tell how large a message to a peer may be that goes in one datagram.

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

    def datagrams_to_send(self) -> list[tuple[bytes, Address]]:
        """Drain what is to be sent.

        Returns
        -------
        list of (bytes, Address)
            Datagrams and where they go, in order.
        """
        self._fragments.acknowledge()
        return self._outbox.drain()

    def use_path_bytes(self, path_bytes: Callable[[Address], int | None]) -> None:
        """Let datagrams be as large as their path allows.

        Parameters
        ----------
        path_bytes : callable
            Gives, for an address, the size of the datagrams that its path takes, or None where that is not known;
            such as :meth:`trioraft.datagrams.socket.UdpSocket.path_bytes`.
        """
        self._fragments.path_bytes = path_bytes

    def next_deadline(self) -> float:
        """Tell when :meth:`handle_timer` wants to be called.

        Returns
        -------
        float
            The time in seconds; infinity when there is nothing to wait for.
        """
        return self._fragments.next_deadline()

    def handle_timer(self, now: float) -> None:
        """Send fragments again that were not acknowledged in time.

        Parameters
        ----------
        now : float
            The time, in seconds.
        """
        self._fragments.handle_timer(now)

    # --- what comes in --------------------------------------------------------------------------------------

    def receive_datagram_untrusted(self, data: bytes, source: Address, now: float) -> Event | None:
        """Take a datagram from anybody. Never raises.

        Parameters
        ----------
        data : bytes
            The datagram.
        source : Address
            Where it seems to come from.
        now : float
            The time, in seconds.

        Returns
        -------
        Event or None
            What it means, None when nothing follows from it. There may be datagrams to send either way, and
            events in :meth:`further_events`.
        """
        self.counters["received"] += 1
        if not self.takes_from(source):
            self.counters["dropped_unlisted"] += 1
            return None
        try:
            parsed = headers.parse_datagram_untrusted(data)
            if isinstance(parsed, Sealed):
                if parsed.is_hello:
                    return self._sealed_hello_untrusted(parsed, source, len(data), now)
                return self._sealed_message_untrusted(parsed, source, len(data), now)
            return self._plain_untrusted(parsed, source, len(data), now)
        except headers.UnknownVersionError:
            self.counters["dropped_version"] += 1
        except MalformedError:
            self.counters["dropped_malformed"] += 1
        return None

    def further_events(self) -> list[Received]:
        """Drain events of which :meth:`receive_datagram_untrusted` had several to give; call it after some of that.

        Returns
        -------
        list of Received
            The events, in order.
        """
        further = list(self._further)
        self._further.clear()
        return further

    def _plain_untrusted(self, parsed: Plain, source: Address, size: int, now: float) -> Event | None:
        if self._keys is not None:
            return self._not_opened("unsealed", source, "it is not sealed, and this process has a key", now)
        origin = Origin(source, parsed.domain, None, parsed.process, 0, size)
        if parsed.token is None:
            return self._handshakes.receive(origin, wire.decode_envelope_untrusted(parsed.envelope), now)
        if parsed.process == self.process:
            self.counters["dropped_misaddressed"] += 1
            return None
        session = self._registry.find(parsed.domain, parsed.process)
        if (
            session is None
            or not session.is_confirmed_at(source, now)
            or session.paths[source].token_here != parsed.token
        ):
            self._handshakes.refuse_unconfirmed(origin, session, now)
            return None
        return self._receive_message(session, origin, parsed.envelope, now)

    def _sealed_hello_untrusted(self, parsed: Sealed, source: Address, size: int, now: float) -> Event | None:
        key = self._keys.find(parsed.fingerprint) if self._keys else None
        if key is None:
            return self._key_unknown(source, now)
        try:
            cipher = key.hello_cipher(parsed.process)
            plaintext = cipher.decrypt(parsed.nonce, parsed.ciphertext, parsed.header)
        except InvalidTag:
            self.counters["dropped_unopened"] += 1
            return None
        if self._channels is not None:
            self._channels.look(now)
        origin = Origin(source, key.domain, key, parsed.process, parsed.counter, size, parsed.is_salted)
        return self._handshakes.receive(origin, wire.decode_envelope_untrusted(plaintext), now)

    def _sealed_message_untrusted(self, parsed: Sealed, source: Address, size: int, now: float) -> Event | None:
        opener = self._channels.find(parsed) if self._channels else None
        if self._channels is None or opener is None:
            if self._keys is None or self._keys.find(parsed.fingerprint) is None:
                return self._key_unknown(source, now)
            self.counters["dropped_unopened"] += 1
            return None
        try:
            plaintext = opener.cipher.decrypt(parsed.nonce, parsed.ciphertext, parsed.header)
        except InvalidTag:
            self.counters["dropped_unopened"] += 1
            return None
        session, key = opener.session, opener.key
        origin = Origin(source, key.domain, key, parsed.process, parsed.counter, size, parsed.is_salted)
        if session is None or not session.is_confirmed_at(source, now):
            # It does not count as seen: who copies it, and is faster, shall not take the place of the original.
            if session is not None and not session.window.is_new(parsed.counter):
                self.counters["dropped_replayed"] += 1
            else:
                self._handshakes.refuse_unconfirmed(origin, session, now)
            return None
        if not session.window.accept(parsed.counter):
            self.counters["dropped_replayed"] += 1
            return None
        if opener.ours is not session.ours or not session.is_proven:
            self._channels.used(session, opener.ours)
        return self._receive_message(session, origin, plaintext, now)

    def _key_unknown(self, source: Address, now: float) -> NotOpened | None:
        reason = "it is sealed under a key that this process does not have"
        return self._not_opened("unknown_key", source, reason, now)

    def _not_opened(self, counter: str, source: Address, reason: str, now: float) -> NotOpened | None:
        self.counters[f"dropped_{counter}"] += 1
        if now - self._not_opened_at < _NOT_OPENED_SECONDS:
            return None
        self._not_opened_at = now
        return NotOpened(source, reason)

    def _receive_message(self, session: Session, origin: Origin, encoded: bytes, now: float) -> Event | None:
        peer = session.peer
        if len(encoded) > headers.SMALL_MAX and Fragment not in self._takes[peer.domain]:
            raise MalformedError("whoever may not send large messages has sent one")
        envelope = wire.decode_envelope_untrusted(encoded)
        if envelope.sender != peer.node_id or envelope.receiver != self.identity.node_id:
            self.counters["dropped_misaddressed"] += 1
            return None
        if type(envelope.message) not in self._takes[peer.domain]:
            self.counters["dropped_not_allowed"] += 1
            return None
        if session.standing is not Standing.CURRENT:
            self.counters["dropped_duplicate_identity"] += 1
            if session.standing in {Standing.SUPERSEDED, Standing.WAITING}:
                self._handshakes.probe(session, now)
            return None
        if origin.address == peer.address or self._handshakes.may_be_reached_at(session, origin.address, now):
            session.heard_from(origin.address, now)
        peer.cluster_id = envelope.cluster_id
        message = envelope.message
        if isinstance(message, (Fragment, FragmentsReceived)):
            return self._receive_part(session, envelope.cluster_id, message, now)
        return Received(peer, envelope.cluster_id, message)

    def _receive_part(
        self, session: Session, cluster_id: int, part: Fragment | FragmentsReceived, now: float
    ) -> Received | None:
        for message in self._fragments.receive_untrusted(session, part, now):
            if type(message) in self._takes[session.peer.domain]:
                self._further.append(Received(session.peer, cluster_id, message))
            else:
                self.counters["dropped_not_allowed"] += 1
        return self._further.popleft() if self._further else None
