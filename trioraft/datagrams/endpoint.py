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
from trioraft.datagrams import wire
from trioraft.datagrams.channels import Channels
from trioraft.datagrams.cookies import COOKIE_BYTES, Cookies
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
from trioraft.datagrams.generations import Generations
from trioraft.datagrams.outbox import NAME_MAX, Identity, Origin, Outbox
from trioraft.datagrams.rights import CLIENT_TAKES, NODE_TAKES
from trioraft.datagrams.sealing import EPHEMERAL_BYTES, PROCESS_BYTES, Domain, KeyRing, ReplayWindow
from trioraft.datagrams.sessions import Outcome, Path, Peer, Registry, Session, Standing, snapshot
from trioraft.datagrams.wire import EncodedMessage, Envelope, MalformedError, Plain, Sealed, encode_message
from trioraft.messages import (
    Fragment,
    FragmentsReceived,
    Hello,
    Message,
)
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

# Asking a peer again, or telling again that somebody has other keys, comes at most this often.
_ASK_SECONDS: Final = 0.1
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
    is_listed : callable
        Tells whether DNS or an operator names an address as that of a node. Who says from any other one that it is a
        node which is reached elsewhere has to wait until that one has not answered.
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
        self._entropy = entropy
        self._cookies = Cookies(entropy(32))
        self._outbox = Outbox(identity, self.process, cluster_id, self._cookies, self.counters, entropy)
        self._fragments = Fragments(self._outbox, self.counters, datagram_bytes)
        self._registry = Registry()
        self._channels: Channels | None = None
        if keys is not None:
            ephemerals = Ephemerals(entropy)
            self._channels = Channels(keys, self.process, ephemerals, self._registry)
            if identity.versions.highest >= AGREES_FROM:
                self._outbox.ephemerals = ephemerals
        self._takes = NODE_TAKES if identity.node_id else CLIENT_TAKES
        self._generations = Generations(keys)
        self._not_opened_at = float("-inf")
        self._further: deque[Received] = deque()
        self.takes_from: Callable[[Address], bool] = lambda address: True
        self.is_listed: Callable[[Address], bool] = lambda address: True

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
            if self._is_strange(peer.domain, peer.node_id, peer.versions):
                self.forget(peer)

    def _is_strange(self, domain: Domain, node_id: int, versions: Versions) -> bool:
        """Tell whether somebody is a node with which this one has no version in common."""
        return domain is Domain.CONSENSUS and node_id != 0 and not versions.overlaps(self.versions)

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
        if peer.session is not None:
            self._registry.forget(peer.session)
            self._drop_forgotten()

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
        domain = self._generations.domain_to_greet(address, domain)
        key = self._keys.first(domain) if self._keys else None
        self._greet(Origin(address, domain, key), now)

    def _greet(self, to: Origin, now: float) -> None:
        if self._channels is not None:
            self._channels.look(now)
        self._outbox.greet(to, now)

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
                self._probe(rival, now)
        elif session.needs_proof(now):
            self._greet(Origin(peer.address, peer.domain, session.key), now)
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
            such as :meth:`trioraft.datagrams.transport.UdpSocket.path_bytes`.
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
            parsed = wire.parse_datagram_untrusted(data)
            if isinstance(parsed, Sealed):
                if parsed.is_hello:
                    return self._sealed_hello_untrusted(parsed, source, len(data), now)
                return self._sealed_message_untrusted(parsed, source, len(data), now)
            return self._plain_untrusted(parsed, source, len(data), now)
        except wire.UnknownVersionError:
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
            return self._receive_hello(origin, wire.decode_envelope_untrusted(parsed.envelope), now)
        if parsed.process == self.process:
            self.counters["dropped_misaddressed"] += 1
            return None
        session = self._registry.find(parsed.domain, parsed.process)
        if (
            session is None
            or not session.is_confirmed_at(source, now)
            or session.paths[source].token_here != parsed.token
        ):
            self._refuse_unconfirmed(origin, session, now)
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
        return self._receive_hello(origin, wire.decode_envelope_untrusted(plaintext), now)

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
                self._refuse_unconfirmed(origin, session, now)
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
        if len(encoded) > wire.SMALL_MAX and Fragment not in self._takes[peer.domain]:
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
                self._probe(session, now)
            return None
        if origin.address == peer.address or self._may_be_reached_at(session, origin.address, now):
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

    # --- handshake ------------------------------------------------------------------------------------------

    def _receive_hello(self, origin: Origin, envelope: Envelope, now: float) -> Event | None:
        hello = envelope.message
        if not isinstance(hello, Hello):
            raise MalformedError("another message stands where a Hello belongs")
        if origin.key is None and len(hello.token) != COOKIE_BYTES:
            raise MalformedError("an unsealed Hello has no token")
        if origin.process == self.process:
            return self._receive_reflection(hello, now)
        if envelope.receiver not in {0, self.identity.node_id} or not self._may_talk(origin, envelope.sender):
            self.counters["dropped_misaddressed"] += 1
            return None
        session = self._registry.find(origin.domain, origin.process)
        if session is not None and session.peer.node_id != envelope.sender:
            self.counters["dropped_misaddressed"] += 1
            return None
        is_alive = session is not None and session.answers_probe(hello.echo, origin.address)
        if is_alive or self._cookies.is_fresh(hello.echo, origin.address, origin.domain, now):
            return self._receive_echo(session, origin, envelope, hello, is_alive=is_alive, now=now)
        if session is not None and origin.key and not session.is_greeting_new(origin.address, origin.counter, now):
            self.counters["dropped_replayed"] += 1
            return None
        if hello.challenge:
            self._outbox.answer(origin, envelope.sender, hello.challenge, now)
        else:
            self.counters["dropped_stale_hello"] += 1
        return None

    def _receive_echo(
        self,
        session: Session | None,
        origin: Origin,
        envelope: Envelope,
        hello: Hello,
        *,
        is_alive: bool,
        now: float,
    ) -> Event | None:
        """Go on with a ``Hello`` whose sender has proved to be at its address, and in its process, now."""
        if not self.identity.node_id and not self._is_of_a_node(origin, envelope, hello, now):
            return None
        if session is not None and origin.key is not None and not session.window.accept(origin.counter):
            self.counters["dropped_replayed"] += 1
            return None
        if self._channels is not None:
            self._channels.check_untrusted(session, hello.ephemeral)
        self._outbox.confirm(origin.address, hello.highest, now)
        if hello.challenge:
            self._outbox.echo(origin, envelope.sender, hello.challenge, now)
        if not hello.service:  # there was no room for more; there is now, as the address is confirmed
            self._greet(origin, now)
            if session is None:
                return None
        if hello.service not in {"", self.identity.service}:
            return ForeignService(origin.address, hello.service, envelope.sender)
        if envelope.sender and envelope.sender == self.identity.node_id:
            return DuplicateIdentity(envelope.sender, (origin.address,))
        versions = Versions(hello.lowest, hello.highest)
        if self._is_strange(origin.domain, envelope.sender, versions):
            if session is not None:
                self.forget(session.peer)
            return OtherVersions(origin.address, envelope.sender, hello.name, envelope.cluster_id, versions)
        return self._confirm(session, origin, envelope, hello, is_alive=is_alive, now=now)

    def _is_of_a_node(self, origin: Origin, envelope: Envelope, hello: Hello, now: float) -> bool:
        """Tell whether a client can believe a ``Hello``; where that is not shown yet, ask for it."""
        newer = self._generations.newer_domain(origin, hello)
        if newer is not None:
            self.greet(origin.address, newer, now)
            return False
        key = origin.key
        if key is None or key.identity is None:
            return True
        if not hello.signature:
            self.counters["dropped_unsigned"] += 1
            self._outbox.confirm(origin.address, hello.highest, now)
            if hello.challenge:  # the node signs for those of whom it knows that they are there
                self._outbox.answer(origin, envelope.sender, hello.challenge, now)
            return False
        ids = envelope.sender, envelope.cluster_id
        text = wire.signed_text(key.fingerprint, origin.process, self.process, origin.counter, ids, hello)
        # Without an ephemeral value the session's key would be one that all holders of the domain key can derive.
        if len(hello.ephemeral) != EPHEMERAL_BYTES or not key.identity.has_signed(hello.signature, text):
            self.counters["dropped_not_of_a_node"] += 1
            return False
        self._generations.confirm(origin)
        return True

    def _receive_reflection(self, hello: Hello, now: float) -> OwnReflection | None:
        address = self._outbox.greeted(hello.challenge)
        if address is None or self._outbox.is_confirmed(address, now):
            self.counters["dropped_stale_hello"] += 1
            return None
        return OwnReflection(address)

    def _may_talk(self, origin: Origin, sender: int) -> bool:
        if origin.domain is Domain.CONSENSUS:
            return self.identity.node_id != 0 and sender != 0
        return (self.identity.node_id == 0) != (sender == 0)

    def _confirm(
        self,
        session: Session | None,
        origin: Origin,
        envelope: Envelope,
        hello: Hello,
        *,
        is_alive: bool,
        now: float,
    ) -> Event | None:
        """Make or renew a session."""
        is_new = session is None
        previous = None if session is None else snapshot(session.peer)
        if session is None:
            session = self._make_session(origin, envelope, hello, now)
        peer = session.peer
        moves = self._may_be_reached_at(session, origin.address, now)
        if moves or origin.key is not None:  # without a key what tells processes apart can be read in any datagram
            if hello.service:
                peer.service, peer.name = hello.service, hello.name
            peer.cluster_id = envelope.cluster_id
            peer.versions = Versions(hello.lowest, hello.highest)
        token = self._cookies.token(origin.address, origin.domain)
        session.confirm_path(origin.address, Path(now, hello.token, token), moves=moves)
        if self._channels is not None and self._outbox.ephemerals is not None:
            self._channels.shown(session, hello.ephemeral, origin.counter, now)
            session.is_proven = session.is_proven or not hello.challenge
        self._registry.remember(session)
        self._drop_forgotten()
        if not peer.node_id:
            return PeerConfirmed(peer, previous, origin.address)
        holder = self._registry.holder(peer.node_id, origin.domain) or session
        if holder is not session and self._has_to_wait(session, holder, is_alive=is_alive, now=now):
            session.standing = Standing.WAITING
            if not holder.answers_rivals:
                return None
            return DuplicateIdentity(peer.node_id, (holder.peer.address, peer.address))
        is_new = is_new or session.standing is Standing.WAITING
        outcome, other = self._registry.settle(session, is_new=is_new, is_alive=is_alive, now=now)
        if outcome is Outcome.DUPLICATE:
            earlier, later = (session, other) if session.standing is Standing.CURRENT else (other, session)
            return DuplicateIdentity(peer.node_id, (earlier.peer.address, later.peer.address))
        if outcome is Outcome.UNPROVEN:
            self._probe(session, now)
            return None
        if other is not session:
            previous = snapshot(other.peer)
            if other.peer.address != peer.address and other.peer.is_confirmed(now):
                self._probe(other, now)
        return PeerConfirmed(peer, previous, origin.address)

    def _has_to_wait(self, session: Session, holder: Session, *, is_alive: bool, now: float) -> bool:
        """Tell whether a process cannot speak for its node id yet; one that did so before, and is alive, can."""
        was_before = is_alive and session.standing is Standing.SUPERSEDED
        if was_before and not self.is_listed(holder.peer.address):
            return False
        return not self._may_be_reached_at(holder, session.peer.address, now)

    def _may_be_reached_at(self, session: Session, address: Address, now: float) -> bool:
        """Tell whether a node may be reached at another address from now on; where it is not yet, it is asked.

        Without seals anybody can say to be any process of any node, so only a node that answers no more where it is
        reached gives way to who is somewhere that neither DNS nor an operator knows.
        """
        peer = session.peer
        if not peer.node_id or address == peer.address or self.is_listed(address) or not peer.is_confirmed(now):
            return True
        if session.gives_way(now):
            return True
        self._probe(session, now)
        return False

    def _make_session(self, origin: Origin, envelope: Envelope, hello: Hello, now: float) -> Session:
        key = origin.key
        if key is not None and self._keys is not None and origin.domain is Domain.CONSENSUS:
            key = self._keys.first(origin.domain)
        # What is agreed upon takes the place of this cipher, where both sides show a value for that.
        agrees = hello.ephemeral and self._outbox.ephemerals is not None
        peer = Peer(
            node_id=envelope.sender,
            process=origin.process,
            domain=origin.domain,
            service=hello.service,
            name=hello.name,
            address=origin.address,
            cluster_id=envelope.cluster_id,
            confirmed_at=now,
            heard_at=now,
        )
        session = Session(
            peer,
            ReplayWindow(origin.counter),
            key,
            key.session_cipher(self.process, origin.process) if key and not agrees else None,
            wire.sealed_start(key.fingerprint, self.process, is_hello=False) if key else b"",
        )
        peer.session = session
        return session

    def _refuse_unconfirmed(self, origin: Origin, session: Session | None, now: float) -> None:
        """Drop a message, but give its sender the chance to confirm itself."""
        self.counters["dropped_unconfirmed"] += 1
        if session is not None:
            if now - session.asked_at < _ASK_SECONDS:
                return
            session.asked_at = now
        self._outbox.challenge(origin, now)

    def _probe(self, session: Session, now: float) -> None:
        """Ask a process whose place was taken whether it is alive."""
        if now - session.asked_at < _ASK_SECONDS:
            return
        session.asked_at = now
        session.probe = session.probe or self._entropy(COOKIE_BYTES)
        peer = session.peer
        to = Origin(peer.address, peer.domain, session.key, is_salted=bool(session.theirs))
        self._outbox.probe(to, session.probe)

    def _drop_forgotten(self) -> None:
        for session in self._registry.forgotten:
            if self._channels is not None:
                self._channels.forget(session)
            self._fragments.forget(session)
        self._registry.forgotten.clear()
