"""What an endpoint sends: each ``Hello`` within the size it may have, messages, their envelopes and seals."""

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from trioraft.address import Address
from trioraft.clock import LONG_AGO
from trioraft.datagrams import headers, wire
from trioraft.datagrams.ephemerals import Ephemerals
from trioraft.datagrams.headers import Datagram
from trioraft.datagrams.identity import NAME_MAX, ThisProcess
from trioraft.datagrams.sealing import SIGNATURE_BYTES, Domain, DomainKey
from trioraft.datagrams.sessions import CONFIRMATION_SECONDS, Session
from trioraft.datagrams.wire import EncodedMessage, encode_message
from trioraft.messages import Hello, Instant, OptionalId, OptionalNodeId
from trioraft.versions import AGREES_FROM

if TYPE_CHECKING:
    from trioraft.datagrams.primitives import ChaCha20Poly1305

ADDRESSES_MAX: Final = 2048
GREETED_MAX: Final = 256
# A node that leaves this many greetings in a row unanswered may have been put back to an earlier release.
UNANSWERED_GREETINGS_MAX: Final = 3
# With the service name this is more than any answer has, even one with a sender's name of 255 bytes, an ephemeral
# value of 32 and a signature of 64.
_HELLO_BYTES: Final = 548
# The most bytes of service and name together; all else in a Hello fits into the rest.
_NAMES_MAX: Final = headers.SMALL_MAX - 320
# A signature takes 40 µs, and a holder of a key can ask for one from made-up addresses. So only this many a second
# are made for addresses that are not confirmed.
_SIGNED_UNCONFIRMED_MAX: Final = 200
_TO_BE_SIGNED: Final = bytes(SIGNATURE_BYTES)


class Origin(NamedTuple):
    """Where a datagram came from, and so how it is answered.

    Attributes
    ----------
    address : Address
        The address.
    domain : Domain
        The domain.
    key : DomainKey or None
        The key that it was sealed under; None where it was not sealed.
    process : bytes
        The sender's process id; empty where it is not known.
    counter : int
        The number of the datagram, as its sender counts; 0 where it was not sealed.
    size : int
        Its size in bytes.
    is_salted : bool
        Whether its nonce had random bytes, which its sender then understands too.
    """

    address: Address
    domain: Domain
    key: DomainKey | None
    process: bytes = b""
    counter: int = 0
    size: int = 0
    is_salted: bool = False


class _Confirmation(NamedTuple):
    """When an address was confirmed, and up to which version the process there speaks."""

    at: Instant
    version: int


_NOT_CONFIRMED: Final = _Confirmation(LONG_AGO, 0)


class Sender:
    """Makes datagrams, and keeps them until they are drained.

    Parameters
    ----------
    process : ThisProcess
        The process that they come from.
    cluster_id : int
        The cluster of the process, 0 for none.
    ephemerals : Ephemerals or None
        Its X25519 values, of which the newest goes into every sealed ``Hello`` with a service name.

    Attributes
    ----------
    name, versions, cluster_id
        As those of :class:`Endpoint`, which changes them.
    """

    def __init__(self, process: ThisProcess, cluster_id: OptionalId, ephemerals: Ephemerals | None) -> None:
        self.ephemerals = ephemerals
        self.name = process.identity.name
        self.versions = process.identity.versions
        self.cluster_id = cluster_id
        self._identity = process.identity
        self._process = process.id
        self._cookies = process.cookies
        self._counters = process.counters
        self._entropy = process.entropy
        self._hello_ciphers: dict[bytes, ChaCha20Poly1305] = {}
        self._confirmed: OrderedDict[Address, _Confirmation] = OrderedDict()
        self._unanswered: dict[Address, int] = {}  # greetings in a row, of those in `_confirmed`
        self._greeted: OrderedDict[bytes, Address] = OrderedDict()
        self._signing_since, self._signed_unconfirmed = LONG_AGO, 0
        self._count = 0
        self._queue: list[Datagram] = []

    def drain(self) -> list[Datagram]:
        """Drain the datagrams that are to be sent."""
        queue, self._queue = self._queue, []
        return queue

    # --- addresses ------------------------------------------------------------------------------------------

    def confirm(self, address: Address, version: int, now: Instant) -> None:
        """Note that the process at an address has echoed a challenge, and up to which version it speaks."""
        self._confirmed[address] = _Confirmation(now, version)
        self._unanswered[address] = 0
        self._confirmed.move_to_end(address)
        if len(self._confirmed) > ADDRESSES_MAX:
            del self._unanswered[self._confirmed.popitem(last=False)[0]]

    def is_confirmed(self, address: Address, now: Instant) -> bool:
        """Check whether a process at an address has echoed a challenge within the last 60 s."""
        return now - self._confirmed.get(address, _NOT_CONFIRMED).at <= CONFIRMATION_SECONDS

    def greeted(self, challenge: bytes) -> Address | None:
        """Find the address to which a greeting with a given challenge was sent."""
        return self._greeted.get(challenge)

    # --- messages -------------------------------------------------------------------------------------------

    def send(self, session: Session, encoded: EncodedMessage) -> None:
        """Put an encoded message into an envelope for a peer, seal it, and queue it."""
        peer = session.peer
        if session.envelope_cluster != self.cluster_id:
            session.envelope_cluster = self.cluster_id
            session.envelope = wire.envelope_start(self.cluster_id, self._identity.node_id, peer.node_id)
        envelope = session.envelope + encoded
        if len(envelope) > headers.ENVELOPE_MAX:
            self._counters["dropped_oversized"] += 1
        elif session.cipher is None:
            token = session.paths[peer.address].token_there
            self._put(headers.plain_message_start(peer.domain, self._process, token) + envelope, peer.address)
        else:
            self._put(self._seal(session.start, session.cipher, envelope), peer.address)

    # --- Hello ----------------------------------------------------------------------------------------------

    def greet(self, to: Origin, now: Instant) -> None:
        """Send the first ``Hello`` of a handshake."""
        challenge = self._cookies.challenge(to.address, to.domain, now)
        self._greeted[challenge] = to.address
        self._greeted.move_to_end(challenge)
        if len(self._greeted) > GREETED_MAX:
            self._greeted.popitem(last=False)
        size = _HELLO_BYTES + len(self._identity.service.encode())
        if self.ephemerals is not None and self.is_confirmed(to.address, now):
            # An earlier release cannot open a datagram whose nonce has random bytes.
            self._unanswered[to.address] += 1
            is_there = self._unanswered[to.address] <= UNANSWERED_GREETINGS_MAX
            to = to._replace(is_salted=is_there and self._confirmed[to.address].version >= AGREES_FROM)
        self._queue_hello(to, self._hello(to, challenge=challenge), size=size)

    def probe(self, to: Origin, challenge: bytes) -> None:
        """Challenge one process to show that it is alive, with the smallest ``Hello``."""
        self._queue_hello(to, self._bare_hello(to, challenge=challenge))

    def challenge(self, to: Origin, now: Instant) -> None:
        """Answer a message from an address that is not confirmed with a challenge."""
        challenge = self._cookies.challenge(to.address, to.domain, now)
        self._answer_with(to, now, self._hello(to, challenge=challenge), self._bare_hello(to, challenge=challenge))

    def answer(self, to: Origin, receiver: OptionalNodeId, echo: bytes, now: Instant) -> None:
        """Answer a challenge with as much as the answer has room for."""
        challenge = self._cookies.challenge(to.address, to.domain, now)
        self._answer_with(
            to,
            now,
            self._to_be_signed(to, self._hello(to, challenge=challenge, echo=echo), now),
            self._bare_hello(to, challenge=challenge, echo=echo),
            self._bare_hello(to, echo=echo),
            receiver=receiver,
        )

    def echo(self, to: Origin, receiver: OptionalNodeId, echo: bytes, now: Instant) -> None:
        """Send the last ``Hello`` of a handshake, to an address that was just confirmed."""
        self._queue_hello(to, self._to_be_signed(to, self._hello(to, echo=echo), now), receiver=receiver)

    def _answer_with(self, to: Origin, now: Instant, *hellos: Hello, receiver: OptionalNodeId = 0) -> None:
        """Send the first of several ``Hello`` that is not larger than the datagram it answers."""
        limit = None if self.is_confirmed(to.address, now) else to.size
        for hello in hellos:
            # A bare one is padded to the room there is, so that the answer to it has as much.
            to_whom, size = (receiver, 0) if hello.service else (0, to.size)
            if self._queue_hello(to, hello, receiver=to_whom, size=min(size, _HELLO_BYTES), limit=limit):
                return
        self._counters["dropped_no_room"] += 1

    def _hello(self, to: Origin, challenge: bytes = b"", echo: bytes = b"") -> Hello:
        service = self._identity.service
        name = self.name[:NAME_MAX].encode()[: _NAMES_MAX - len(service.encode())].decode(errors="ignore")
        hello = self._bare_hello(to, challenge, echo, service, name)
        if self.ephemerals is None or to.key is None:
            return hello
        return msgspec.structs.replace(hello, ephemeral=self.ephemerals.public)

    def _bare_hello(
        self, to: Origin, challenge: bytes = b"", echo: bytes = b"", service: str = "", name: str = ""
    ) -> Hello:
        lowest, highest = self.versions.lowest, self.versions.highest
        return Hello(service, name, challenge, echo, self._token(to), lowest=lowest, highest=highest)

    def _to_be_signed(self, to: Origin, hello: Hello, now: Instant) -> Hello:
        """Mark a node's ``Hello`` for signing, unless too many unconfirmed addresses ask for signatures."""
        if to.key is None or to.key.identity is None or not self._identity.node_id:
            return hello
        if not self.is_confirmed(to.address, now):
            if now - self._signing_since >= 1:
                self._signing_since, self._signed_unconfirmed = now, 0
            self._signed_unconfirmed += 1
            if self._signed_unconfirmed > _SIGNED_UNCONFIRMED_MAX:
                self._counters["not_signed_yet"] += 1
                return hello
        return msgspec.structs.replace(hello, signature=_TO_BE_SIGNED)

    def _signed(self, to: Origin, hello: Hello) -> Hello:
        """Sign a ``Hello`` that was marked for it; it has to be the next datagram that is sealed."""
        if to.key is None or to.key.identity is None or not hello.signature:
            return hello
        text = wire.signed_text(
            to.key.fingerprint,
            self._process,
            to.process,
            self._count + 1,
            self._identity.node_id,
            self.cluster_id,
            hello,
        )
        return msgspec.structs.replace(hello, signature=to.key.identity.sign(text))

    def _token(self, to: Origin) -> bytes:
        return b"" if to.key else self._cookies.token(to.address, to.domain)

    def _queue_hello(
        self, to: Origin, hello: Hello, *, receiver: OptionalNodeId = 0, size: int = 0, limit: int | None = None
    ) -> bool:
        """Pad a ``Hello`` to a size and queue it, unless it is larger than the limit."""
        start = wire.envelope_start(self.cluster_id, self._identity.node_id, receiver)
        envelope = start + encode_message(hello)
        missing = (
            size
            - len(envelope)
            - (headers.hello_overhead(is_salted=to.is_salted) if to.key else headers.PLAIN_HELLO_OVERHEAD)
        )
        if missing > 0:
            hello = msgspec.structs.replace(hello, padding=bytes(_string_length(missing)))
        elif limit is not None and missing < size - limit:
            return False
        if missing > 0 or hello.signature:
            envelope = start + encode_message(self._signed(to, hello))
        if to.key is None:
            datagram = headers.plain_hello_start(to.domain, self._process) + envelope
        else:
            if to.is_salted:
                beginning = headers.salted_hello_start(to.key.fingerprint, self._process)
            else:
                beginning = headers.sealed_start(to.key.fingerprint, self._process, is_hello=True)
            datagram = self._seal(beginning, self._hello_cipher(to.key), envelope)
        self._put(datagram, to.address)
        return True

    def _hello_cipher(self, key: DomainKey) -> "ChaCha20Poly1305":
        if key.fingerprint not in self._hello_ciphers:
            self._hello_ciphers[key.fingerprint] = key.hello_cipher(self._process)
        return self._hello_ciphers[key.fingerprint]

    def _seal(self, start: bytes, cipher: "ChaCha20Poly1305", envelope: bytes) -> bytes:
        self._count += 1
        count = self._count.to_bytes(8)
        if headers.is_salted(start):
            # Drawn from the system each time: the memory of this process may exist twice, after a resume.
            nonce = self._entropy(headers.SALT_BYTES) + count
            header = headers.sealed_header(start, nonce, len(envelope))
        else:
            nonce = headers.NONCE_START + count
            header = headers.sealed_header(start, count, len(envelope))
        return header + cipher.encrypt(nonce, envelope, header)

    def _put(self, datagram: bytes, address: Address) -> None:
        self._counters["sent"] += 1
        self._queue.append((datagram, address))


def _string_length(missing: int) -> int:
    """Compute the length of a CBOR byte string that takes so many bytes more than an empty one, or just fewer."""
    if missing <= 24:
        return min(missing, 23)
    return min(missing - 1, 255) if missing <= 257 else missing - 2
