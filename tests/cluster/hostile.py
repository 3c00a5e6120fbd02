"""Datagrams that no node should be impressed by, made from nothing and from those recorded on the wire."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from trioraft.datagrams import headers, wire
from trioraft.datagrams.endpoint import Domain
from trioraft.datagrams.keys import KeyRing, derive_key
from trioraft.datagrams.sealing import DomainKey
from trioraft.messages import AppendEntriesRequest, VoteRequest

# Envelopes that are no envelopes, and may cost a careless decoder much.
_BOMBS = (
    b"\x81" * 60_000,  # arrays in arrays
    b"\xa1\x00" * 30_000,  # maps in maps
    b"\xc1" * 60_000,  # tags on tags
    b"\x9b" + b"\xff" * 8,  # an array of 2**64 - 1 items
    b"\x5b\x00\x00\x00\xff\xff\xff\xff\xff",  # a byte string of 1 TB
    b"\xbb" + b"\x7f" * 8,  # a huge map
    b"\x9f" * 60_000,  # arrays that never end
    b"\xc2\x59\xea\x60" + b"\xff" * 60_000,  # a number of 480,000 bits
    b"\xc4\x82\x1b\x7f\xff\xff\xff\xff\xff\xff\xff\x01",  # 1 with as many zeros
    b"\xd8\x23\x78\x1c(a+)+" + b"a" * 24 + b"!",  # a regular expression
    b"\x84\x00\x00\x00\x88\x0a\x07\x18\x2a\xfb\x7f\xf8" + bytes(6) + b"\x0c\x06\x0c\x80",  # a heartbeat with NaN
    b"\x84\x00\x00\x00\x88\x0a\x20" + bytes(9),  # a negative term
    b"\x84\x00\x00\x00\x81\x0a",  # a message without fields
    b"\x84\x00\x00\x00\x81\x18\x63",  # a message that does not exist
    b"\xf6",
    b"",
)


# Envelopes that cost much to decode, and little.
_LARGE = b"\x84\x00\x00\x00\x82\x0a\x99\x4e\x20" + b"\x82\x01\x02" * 20_000
_HEARTBEAT = wire.envelope_start(0, 1, 2) + wire.encode_message(AppendEntriesRequest(1, 1, 0.0, 0, 0, 0))
# Kinds of datagrams that say Hello, and how large the first one of a handshake is at least.
_HELLOS = frozenset({0, 2, 5})
_GREETING_BYTES = 500


@dataclass(frozen=True)
class Kind:
    """Datagrams of one kind; if that is known, under which counters each of them is dropped."""

    name: str
    make: Callable[[], bytes]
    dropped_as: frozenset[str] = frozenset()


class Hostile:
    """Makes datagrams.

    Parameters
    ----------
    recorded : list of bytes
        Datagrams of the cluster's nodes.
    key : str or None
        The cluster's key; an attacker uses of it only what stands in every datagram, or what a monitor has.

    Attributes
    ----------
    certain, uncertain : tuple of Kind
        Those of which it is known how each of them is dropped, and the others.
    """

    def __init__(self, chance: random.Random, recorded: list[bytes], key: str | None) -> None:
        self._chance = chance
        self._recorded = recorded
        self._greetings = [data for data in recorded if len(data) > _GREETING_BYTES and data[2] in _HELLOS]
        other = KeyRing.parse("5c" * 32).first(Domain.CONSENSUS)
        kinds = [
            _kind("random", self._random, "malformed", "version"),
            # Without a key the token is looked at first, and may be answered.
            _kind("truncated", self._truncated, *(["malformed"] if key else [])),
            _kind("too long", self._too_long, *(["malformed"] if key else [])),
            _kind("not sealed, and no envelope", self._plain_bomb, *(["unsealed"] if key else [])),
            _kind("of another version", self._other_version, "version"),
            _kind("sealed under another key", lambda: self._vote(other), "unknown_key"),
            _kind("recorded", self._recorded_one),
            _kind("an old greeting", self._greeting),
            _kind("an unsealed Hello of much CBOR", self._large_hello, "unsealed" if key else "malformed"),
        ]
        if key is None:
            kinds += [
                _kind("one bit is wrong", self._one_bit_wrong),
                _kind("a wrong token", lambda: self._wrong_token(_HEARTBEAT)),
                _kind("a wrong token, and much CBOR", lambda: self._wrong_token(_LARGE)),
            ]
        else:
            own = KeyRing.parse(key).first(Domain.CONSENSUS)
            thief = KeyRing.parse(derive_key(key, "status")).first(Domain.STATUS)
            wrong = ("malformed", "version", "unknown_key", "unopened")
            kinds += [
                _kind("one bit is wrong", self._one_bit_wrong, *wrong),
                _kind("said to be under the key", lambda: self._garbled(own), "unopened"),
                _kind("no envelope, by a thief", lambda: self._bomb(thief), "malformed"),
                _kind("much CBOR, by a thief", lambda: self._seal(thief, _LARGE, is_hello=True), "malformed"),
                _kind("a vote for a Hello, by a thief", lambda: self._vote(thief, is_hello=True), "malformed"),
            ]
        self.certain = tuple(kind for kind in kinds if kind.dropped_as)
        self.uncertain = tuple(kind for kind in kinds if not kind.dropped_as)

    # --- without a key --------------------------------------------------------------------------------------

    def _random(self) -> bytes:
        return self._chance.randbytes(self._chance.randrange(1500))

    def _recorded_one(self) -> bytes:
        return self._chance.choice(self._recorded)

    def _truncated(self) -> bytes:
        data = self._recorded_one()
        return data[: self._chance.randrange(len(data))]

    def _too_long(self) -> bytes:
        return self._recorded_one() + self._chance.randbytes(self._chance.choice((1, 100, 50_000)))

    def _one_bit_wrong(self) -> bytes:
        data = bytearray(self._recorded_one())
        data[self._chance.randrange(len(data))] ^= 1 << self._chance.randrange(8)
        return bytes(data)

    def _plain_bomb(self) -> bytes:
        process, domain = self._chance.randbytes(16), self._chance.choice(headers.PLAIN_DOMAINS)
        bomb = self._chance.choice(_BOMBS[:-1])
        if self._chance.random() < 0.5:
            return headers.plain_hello_start(domain, process) + bomb
        return headers.plain_message_start(domain, process, self._chance.randbytes(8)) + bomb

    def _greeting(self) -> bytes:
        return self._chance.choice(self._greetings)

    def _large_hello(self) -> bytes:
        domain = self._chance.choice(headers.PLAIN_DOMAINS)
        return headers.plain_hello_start(domain, self._chance.randbytes(16)) + _LARGE

    def _wrong_token(self, envelope: bytes) -> bytes:
        """Speak for a node of the cluster, or for nobody that is known."""
        own = [data[5:21] for data in self._greetings]
        process = self._chance.choice([*own, self._chance.randbytes(16)])
        return headers.plain_message_start(Domain.CONSENSUS, process, self._chance.randbytes(8)) + envelope

    def _other_version(self) -> bytes:
        data = bytearray(self._recorded_one())
        data[1] = self._chance.choice((0, *range(2, 24)))
        return bytes(data)

    # --- sealed, one way or another -------------------------------------------------------------------------

    def _vote(self, key: DomainKey, *, is_hello: bool | None = None) -> bytes:
        message = self._chance.choice((VoteRequest(10**6, 0, 0, True), AppendEntriesRequest(10**6, 1, 0.0, 0, 0, 0)))
        envelope = wire.envelope_start(0, 1, 0) + wire.encode_message(message)
        return self._seal(key, envelope, is_hello=self._chance.random() < 0.5 if is_hello is None else is_hello)

    def _bomb(self, key: DomainKey) -> bytes:
        return self._seal(key, self._chance.choice(_BOMBS), is_hello=True)

    def _garbled(self, key: DomainKey) -> bytes:
        size = self._chance.choice((17, 100, 60_000))
        is_hello = self._chance.random() < 0.5
        start = headers.sealed_start(key.fingerprint, self._chance.randbytes(16), is_hello=is_hello)
        header = headers.sealed_header(start, self._chance.randbytes(8), size - headers.TAG_BYTES)
        return header + self._chance.randbytes(size)

    def _seal(self, key: DomainKey, envelope: bytes, *, is_hello: bool) -> bytes:
        process, counter = self._chance.randbytes(16), self._chance.randbytes(8)
        cipher = key.hello_cipher(process) if is_hello else key.session_cipher(process, self._chance.randbytes(16))
        start = headers.sealed_start(key.fingerprint, process, is_hello=is_hello)
        header = headers.sealed_header(start, counter, len(envelope))
        return header + cipher.encrypt(headers.NONCE_START + counter, envelope, header)


def _kind(name: str, make: Callable[[], bytes], *dropped_as: str) -> Kind:
    return Kind(name, make, frozenset(f"dropped_{reason}" for reason in dropped_as))
