"""What an endpoint receives: which key opens a datagram, in which session it counts, and what its sender may say.

The rules are those of :mod:`trioraft.datagrams.wire`. Nothing here raises, whatever a datagram contains.
"""

from collections import deque
from typing import Final

from trioraft.address import Address
from trioraft.clock import LONG_AGO
from trioraft.datagrams import headers, primitives, wire
from trioraft.datagrams.channels import Channels
from trioraft.datagrams.events import Event, NotOpened, Received
from trioraft.datagrams.fragments import Fragments
from trioraft.datagrams.handshake import Handshakes
from trioraft.datagrams.headers import MalformedError, Plain, Sealed
from trioraft.datagrams.identity import ThisProcess
from trioraft.datagrams.keys import KeyRing
from trioraft.datagrams.rights import CLIENT_TAKES, NODE_TAKES
from trioraft.datagrams.sender import Origin
from trioraft.datagrams.sessions import Session, Standing
from trioraft.messages import Fragment, FragmentsReceived, Id, Instant

# A datagram that is sealed under an unknown key is reported at most this often.
_NOT_OPENED_SECONDS: Final = 10.0


class Receiver:
    """Takes datagrams from anybody, and turns those that count into events.

    Parameters
    ----------
    process : ThisProcess
        The process that they are for.
    keys : KeyRing or None
        Its keys.
    handshakes : Handshakes
        Takes every ``Hello``.
    fragments : Fragments
        Takes parts of messages.
    channels : Channels or None
        Finds what opens a sealed datagram; None where there are no keys.
    """

    def __init__(
        self,
        process: ThisProcess,
        keys: KeyRing | None,
        handshakes: Handshakes,
        fragments: Fragments,
        channels: Channels | None,
    ) -> None:
        self._process = process.id
        self._node_id = process.identity.node_id
        self._counters = process.counters
        self._keys = keys
        self._handshakes = handshakes
        self._registry = handshakes.registry
        self._fragments = fragments
        self._channels = channels
        self._takes = NODE_TAKES if self._node_id else CLIENT_TAKES
        self._not_opened_at: Instant = LONG_AGO
        self._further: deque[Received] = deque()

    def receive_untrusted(self, data: bytes, source: Address, now: Instant) -> Event | None:
        """Take a datagram; see :meth:`Endpoint.receive_datagram_untrusted`."""
        try:
            parsed = headers.parse_datagram_untrusted(data)
            if isinstance(parsed, Sealed):
                if parsed.is_hello:
                    return self._sealed_hello_untrusted(parsed, source, len(data), now)
                return self._sealed_message_untrusted(parsed, source, len(data), now)
            return self._plain_untrusted(parsed, source, len(data), now)
        except headers.UnknownVersionError:
            self._counters["dropped_version"] += 1
        except MalformedError:
            self._counters["dropped_malformed"] += 1
        return None

    def further_events(self) -> list[Received]:
        """Drain further events; see :meth:`Endpoint.further_events`."""
        further = list(self._further)
        self._further.clear()
        return further

    # --- opening --------------------------------------------------------------------------------------------

    def _plain_untrusted(self, parsed: Plain, source: Address, size: int, now: Instant) -> Event | None:
        if self._keys is not None:
            return self._not_opened("unsealed", source, "it is not sealed, and this process has a key", now)
        if parsed.token is None:
            origin = Origin(source, parsed.domain, None, parsed.process, 0, size)
            return self._handshakes.receive(origin, wire.decode_envelope_untrusted(parsed.envelope), now)
        if parsed.process == self._process:
            self._counters["dropped_misaddressed"] += 1
            return None
        session = self._registry.find(parsed.domain, parsed.process)
        if (
            session is None
            or not session.is_confirmed_at(source, now)
            or session.paths[source].token_here != parsed.token
        ):
            origin = Origin(source, parsed.domain, None, parsed.process, 0, size)
            self._handshakes.refuse_unconfirmed(origin, session, now)
            return None
        return self._receive_message(session, source, parsed.envelope, now)

    def _sealed_hello_untrusted(self, parsed: Sealed, source: Address, size: int, now: Instant) -> Event | None:
        key = self._keys.find(parsed.fingerprint) if self._keys else None
        if key is None:
            return self._key_unknown(source, now)
        try:
            cipher = key.hello_cipher(parsed.process)
            plaintext = cipher.decrypt(parsed.nonce, parsed.ciphertext, parsed.header)
        except primitives.InvalidTag:
            self._counters["dropped_unopened"] += 1
            return None
        if self._channels is not None:
            self._channels.look(now)
        origin = Origin(source, key.domain, key, parsed.process, parsed.counter, size, parsed.is_salted)
        return self._handshakes.receive(origin, wire.decode_envelope_untrusted(plaintext), now)

    def _sealed_message_untrusted(self, parsed: Sealed, source: Address, size: int, now: Instant) -> Event | None:
        opener = self._channels.find(parsed) if self._channels else None
        if self._channels is None or opener is None:
            if self._keys is None or self._keys.find(parsed.fingerprint) is None:
                return self._key_unknown(source, now)
            self._counters["dropped_unopened"] += 1
            return None
        try:
            plaintext = opener.cipher.decrypt(parsed.nonce, parsed.ciphertext, parsed.header)
        except primitives.InvalidTag:
            self._counters["dropped_unopened"] += 1
            return None
        session = opener.session
        if session is None or not session.is_confirmed_at(source, now):
            # It does not count as seen: a copy that is faster must not take the place of the original.
            if session is not None and not session.window.is_new(parsed.counter):
                self._counters["dropped_replayed"] += 1
            else:
                key = opener.key
                origin = Origin(source, key.domain, key, parsed.process, parsed.counter, size, parsed.is_salted)
                self._handshakes.refuse_unconfirmed(origin, session, now)
            return None
        if not session.window.accept(parsed.counter):
            self._counters["dropped_replayed"] += 1
            return None
        if opener.ours is not session.ours or not session.is_proven:
            self._channels.used(session, opener.ours)
        return self._receive_message(session, source, plaintext, now)

    def _key_unknown(self, source: Address, now: Instant) -> NotOpened | None:
        reason = "it is sealed under a key that this process does not have"
        return self._not_opened("unknown_key", source, reason, now)

    def _not_opened(self, counter: str, source: Address, reason: str, now: Instant) -> NotOpened | None:
        self._counters[f"dropped_{counter}"] += 1
        if now - self._not_opened_at < _NOT_OPENED_SECONDS:
            return None
        self._not_opened_at = now
        return NotOpened(source, reason)

    # --- what was opened -------------------------------------------------------------------------------------

    def _receive_message(self, session: Session, source: Address, encoded: bytes, now: Instant) -> Event | None:
        peer = session.peer
        if len(encoded) > headers.SMALL_MAX and Fragment not in self._takes[peer.domain]:
            raise MalformedError("a sender that may not send large messages has sent one")
        envelope = wire.decode_envelope_untrusted(encoded)
        if envelope.sender != peer.node_id or envelope.receiver != self._node_id:
            self._counters["dropped_misaddressed"] += 1
            return None
        if type(envelope.message) not in self._takes[peer.domain]:
            self._counters["dropped_not_allowed"] += 1
            return None
        if session.standing is not Standing.CURRENT:
            self._counters["dropped_duplicate_identity"] += 1
            if session.standing in {Standing.SUPERSEDED, Standing.WAITING}:
                self._handshakes.probe(session, now)
            return None
        if source == peer.address or self._handshakes.may_be_reached_at(session, source, now):
            session.heard_from(source, now)
        peer.cluster_id = envelope.cluster_id
        message = envelope.message
        if isinstance(message, (Fragment, FragmentsReceived)):
            return self._receive_part(session, envelope.cluster_id, message, now)
        return Received(peer, envelope.cluster_id, message)

    def _receive_part(
        self, session: Session, cluster_id: Id, part: Fragment | FragmentsReceived, now: Instant
    ) -> Received | None:
        for message in self._fragments.receive_untrusted(session, part, now):
            if type(message) in self._takes[session.peer.domain]:
                self._further.append(Received(session.peer, cluster_id, message))
            else:
                self._counters["dropped_not_allowed"] += 1
        return self._further.popleft() if self._further else None
