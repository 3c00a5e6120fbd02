"""Handshakes, by which processes learn who is at which address, and which process speaks for a node id.

:mod:`trioraft.datagrams.wire` specifies the rules, and :mod:`trioraft.datagrams.sealing` the keys that a handshake
leads to.
"""

from collections.abc import Callable
from typing import Final

from trioraft.address import Address
from trioraft.datagrams import headers, wire
from trioraft.datagrams.channels import Channels
from trioraft.datagrams.cookies import COOKIE_BYTES
from trioraft.datagrams.events import (
    DuplicateIdentity,
    Event,
    ForeignService,
    OtherVersions,
    OwnReflection,
    PeerConfirmed,
)
from trioraft.datagrams.fragments import Fragments
from trioraft.datagrams.generations import Generations
from trioraft.datagrams.headers import MalformedError
from trioraft.datagrams.identity import ThisProcess
from trioraft.datagrams.keys import KeyRing
from trioraft.datagrams.replay import ReplayWindow
from trioraft.datagrams.sealing import EPHEMERAL_BYTES, Domain
from trioraft.datagrams.sender import Origin, Sender
from trioraft.datagrams.sessions import Outcome, Path, Peer, Registry, Session, Standing, snapshot
from trioraft.datagrams.wire import Envelope
from trioraft.messages import Hello, Instant, OptionalNodeId
from trioraft.versions import Versions

# A peer is asked again at most this often.
_ASK_SECONDS: Final = 0.1


class Handshakes:
    """Shakes hands for one process, and keeps the sessions that follow from that.

    Parameters
    ----------
    process : ThisProcess
        The process.
    keys : KeyRing or None
        Its keys.
    sender : Sender
        Sends each ``Hello``.
    fragments : Fragments
        The large messages, which end with their session.
    registry : Registry
        The sessions.
    channels : Channels or None
        The keys that open and seal; None where there are no domain keys.

    Attributes
    ----------
    registry : Registry
        The sessions.
    is_listed : callable
        As :attr:`Endpoint.is_listed`, which changes it.
    """

    def __init__(
        self,
        process: ThisProcess,
        keys: KeyRing | None,
        sender: Sender,
        fragments: Fragments,
        registry: Registry,
        channels: Channels | None,
    ) -> None:
        self._identity = process.identity
        self._process = process.id
        self._entropy = process.entropy
        self._cookies = process.cookies
        self._counters = process.counters
        self._keys = keys
        self._sender = sender
        self._fragments = fragments
        self._generations = Generations(keys)
        self._channels = channels
        self.registry = registry
        self.is_listed: Callable[[Address], bool] = lambda address: True

    def greet(self, address: Address, domain: Domain, now: Instant) -> None:
        """Start or renew a handshake; see :meth:`Endpoint.greet`."""
        domain = self._generations.domain_to_greet(address, domain)
        key = self._keys.first(domain) if self._keys else None
        self.greet_origin(Origin(address, domain, key), now)

    def greet_origin(self, to: Origin, now: Instant) -> None:
        """Start or renew a handshake under a given key."""
        if self._channels is not None:
            self._channels.look(now)
        self._sender.greet(to, now)

    def forget(self, peer: Peer) -> None:
        """Drop a session; see :meth:`Endpoint.forget`."""
        if peer.session is not None:
            self.registry.forget(peer.session)
            self._drop_forgotten()

    def _drop_forgotten(self) -> None:
        for session in self.registry.forgotten:
            if self._channels is not None:
                self._channels.forget(session)
            self._fragments.forget(session)
        self.registry.forgotten.clear()

    def is_strange(self, domain: Domain, node_id: OptionalNodeId, versions: Versions) -> bool:
        """Check whether a process is a node with which this one has no version in common."""
        return domain is Domain.CONSENSUS and node_id != 0 and not versions.overlaps(self._sender.versions)

    def refuse_unconfirmed(self, origin: Origin, session: Session | None, now: Instant) -> None:
        """Drop a message, and challenge its sender to confirm its address."""
        self._counters["dropped_unconfirmed"] += 1
        if session is not None:
            if now - session.asked_at < _ASK_SECONDS:
                return
            session.asked_at = now
        self._sender.challenge(origin, now)

    def probe(self, session: Session, now: Instant) -> None:
        """Challenge a process whose place was taken, to learn whether it is alive."""
        if now - session.asked_at < _ASK_SECONDS:
            return
        session.asked_at = now
        session.probe = session.probe or self._entropy(COOKIE_BYTES)
        peer = session.peer
        to = Origin(peer.address, peer.domain, session.key, is_salted=bool(session.theirs))
        self._sender.probe(to, session.probe)

    def may_be_reached_at(self, session: Session, address: Address, now: Instant) -> bool:
        """Check whether a node may be reached at another address from now on; where it may not yet, it is challenged.

        Without seals any sender can claim to be any process of any node. So a node gives way to a process at an
        address that neither DNS nor an operator names only when it no longer answers where it is reached.
        """
        peer = session.peer
        if not peer.node_id or address == peer.address or self.is_listed(address) or not peer.is_confirmed(now):
            return True
        if session.gives_way(now):
            return True
        self.probe(session, now)
        return False

    # --- a Hello ---------------------------------------------------------------------------------------------

    def receive(self, origin: Origin, envelope: Envelope, now: Instant) -> Event | None:
        """Take a ``Hello`` from anybody.

        Parameters
        ----------
        origin : Origin
            The datagram that it came in.
        envelope : Envelope
            The envelope that should contain it.
        now : float
            The time, in seconds.

        Returns
        -------
        Event or None
            What it means; None when nothing follows from it.

        Raises
        ------
        MalformedError
            If it is no ``Hello``, or has fields that no ``Hello`` has.
        """
        hello = envelope.message
        if not isinstance(hello, Hello):
            raise MalformedError("another message stands where a Hello belongs")
        if origin.key is None and len(hello.token) != COOKIE_BYTES:
            raise MalformedError("an unsealed Hello has no token")
        if origin.process == self._process:
            return self._receive_reflection(hello, now)
        if envelope.receiver not in {0, self._identity.node_id} or not self._may_talk(origin, envelope.sender):
            self._counters["dropped_misaddressed"] += 1
            return None
        session = self.registry.find(origin.domain, origin.process)
        if session is not None and session.peer.node_id != envelope.sender:
            self._counters["dropped_misaddressed"] += 1
            return None
        is_alive = session is not None and session.answers_probe(hello.echo, origin.address)
        if is_alive or self._cookies.is_fresh(hello.echo, origin.address, origin.domain, now):
            return self._receive_echo(session, origin, envelope, hello, is_alive=is_alive, now=now)
        if session is not None and origin.key and not session.is_greeting_new(origin.address, origin.counter, now):
            self._counters["dropped_replayed"] += 1
            return None
        if hello.challenge:
            self._sender.answer(origin, envelope.sender, hello.challenge, now)
        else:
            self._counters["dropped_stale_hello"] += 1
        return None

    def _receive_echo(
        self,
        session: Session | None,
        origin: Origin,
        envelope: Envelope,
        hello: Hello,
        *,
        is_alive: bool,
        now: Instant,
    ) -> Event | None:
        """Take a ``Hello`` whose sender has just proved its address and its process."""
        if not self._identity.node_id and not self._is_of_a_node(origin, envelope, hello, now):
            return None
        if session is not None and origin.key is not None and not session.window.accept(origin.counter):
            self._counters["dropped_replayed"] += 1
            return None
        if self._channels is not None:
            self._channels.check_untrusted(session, hello.ephemeral)
        self._sender.confirm(origin.address, hello.highest, now)
        if hello.challenge:
            self._sender.echo(origin, envelope.sender, hello.challenge, now)
        if not hello.service:  # there was no room for more; there is now, as the address is confirmed
            self.greet_origin(origin, now)
            if session is None:
                return None
        if hello.service not in {"", self._identity.service}:
            return ForeignService(origin.address, hello.service, envelope.sender)
        if envelope.sender and envelope.sender == self._identity.node_id:
            return DuplicateIdentity(envelope.sender, (origin.address,))
        versions = Versions(hello.lowest, hello.highest)
        if self.is_strange(origin.domain, envelope.sender, versions):
            if session is not None:
                self.forget(session.peer)
            return OtherVersions(origin.address, envelope.sender, hello.name, envelope.cluster_id, versions)
        return self._confirm(session, origin, envelope, hello, is_alive=is_alive, now=now)

    def _is_of_a_node(self, origin: Origin, envelope: Envelope, hello: Hello, now: Instant) -> bool:
        """Check whether a client can believe that a ``Hello`` is of a node; ask for a proof where it has none."""
        newer = self._generations.newer_domain(origin, hello)
        if newer is not None:
            self.greet(origin.address, newer, now)
            return False
        key = origin.key
        if key is None or key.identity is None:
            return True
        if not hello.signature:
            self._counters["dropped_unsigned"] += 1
            self._sender.confirm(origin.address, hello.highest, now)
            if hello.challenge:  # the node signs for clients that have confirmed their address
                self._sender.answer(origin, envelope.sender, hello.challenge, now)
            return False
        text = wire.signed_text(
            key.fingerprint,
            origin.process,
            self._process,
            origin.counter,
            envelope.sender,
            envelope.cluster_id,
            hello,
        )
        # Without an ephemeral value the session's key would be one that all holders of the domain key can derive.
        if len(hello.ephemeral) != EPHEMERAL_BYTES or not key.identity.has_signed(hello.signature, text):
            self._counters["dropped_not_of_a_node"] += 1
            return False
        self._generations.confirm(origin)
        return True

    def _receive_reflection(self, hello: Hello, now: Instant) -> OwnReflection | None:
        address = self._sender.greeted(hello.challenge)
        if address is None or self._sender.is_confirmed(address, now):
            self._counters["dropped_stale_hello"] += 1
            return None
        return OwnReflection(address)

    def _may_talk(self, origin: Origin, sender: OptionalNodeId) -> bool:
        if origin.domain is Domain.CONSENSUS:
            return self._identity.node_id != 0 and sender != 0
        return (self._identity.node_id == 0) != (sender == 0)

    def _confirm(
        self,
        session: Session | None,
        origin: Origin,
        envelope: Envelope,
        hello: Hello,
        *,
        is_alive: bool,
        now: Instant,
    ) -> Event | None:
        """Make or renew a session."""
        is_new = session is None
        previous = None if session is None else snapshot(session.peer)
        if session is None:
            session = self._make_session(origin, envelope, hello, now)
        peer = session.peer
        moves = self.may_be_reached_at(session, origin.address, now)
        if moves or origin.key is not None:  # without a key, anybody can read the process id in any datagram
            if hello.service:
                peer.service, peer.name = hello.service, hello.name
            peer.cluster_id = envelope.cluster_id
            peer.versions = Versions(hello.lowest, hello.highest)
        token = self._cookies.token(origin.address, origin.domain)
        session.confirm_path(origin.address, Path(now, hello.token, token), moves=moves)
        if self._channels is not None and self._sender.ephemerals is not None:
            self._channels.shown(session, hello.ephemeral, origin.counter, now)
            session.is_proven = session.is_proven or not hello.challenge
        self.registry.remember(session)
        self._drop_forgotten()
        if not peer.node_id:
            return PeerConfirmed(peer, previous, origin.address)
        holder = self.registry.holder(peer.node_id, origin.domain) or session
        if holder is not session and self._has_to_wait(session, holder, is_alive=is_alive, now=now):
            session.standing = Standing.WAITING
            if not holder.answers_rivals:
                return None
            return DuplicateIdentity(peer.node_id, (holder.peer.address, peer.address))
        is_new = is_new or session.standing is Standing.WAITING
        outcome, other = self.registry.settle(session, is_new=is_new, is_alive=is_alive, now=now)
        if outcome is Outcome.DUPLICATE:
            earlier, later = (session, other) if session.standing is Standing.CURRENT else (other, session)
            return DuplicateIdentity(peer.node_id, (earlier.peer.address, later.peer.address))
        if outcome is Outcome.UNPROVEN:
            self.probe(session, now)
            return None
        if other is not session:
            previous = snapshot(other.peer)
            if other.peer.address != peer.address and other.peer.is_confirmed(now):
                self.probe(other, now)
        return PeerConfirmed(peer, previous, origin.address)

    def _has_to_wait(self, session: Session, holder: Session, *, is_alive: bool, now: Instant) -> bool:
        """Check whether a process must wait to speak for its node id, unlike one that did so before and is alive."""
        was_before = is_alive and session.standing is Standing.SUPERSEDED
        if was_before and not self.is_listed(holder.peer.address):
            return False
        return not self.may_be_reached_at(holder, session.peer.address, now)

    def _make_session(self, origin: Origin, envelope: Envelope, hello: Hello, now: Instant) -> Session:
        key = origin.key
        if key is not None and self._keys is not None and origin.domain is Domain.CONSENSUS:
            key = self._keys.first(origin.domain)
        # Where both sides show an X25519 value, the key that they agree on takes the place of this cipher.
        agrees = hello.ephemeral and self._sender.ephemerals is not None
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
            key.session_cipher(self._process, origin.process) if key and not agrees else None,
            headers.sealed_start(key.fingerprint, self._process, is_hello=False) if key else b"",
        )
        peer.session = session
        return session
