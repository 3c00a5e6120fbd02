"""Datagrams that no node should be impressed by, made from nothing and from those recorded on the wire."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from trioraft import wire
from trioraft.endpoint import Domain
from trioraft.messages import AppendEntriesRequest, VoteRequest
from trioraft.sealing import DomainKey, KeyRing, derive_key

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


@dataclass(frozen=True)
class Kind:
    """Datagrams of one kind; if they are `dropped_…`, all of them, under one of these counters."""

    name: str
    make: Callable[[], bytes]
    dropped_as: frozenset[str] = frozenset()


class Hostile:
    """Makes datagrams, in turn of each kind.

    Parameters
    ----------
    recorded : list of bytes
        Datagrams of the cluster's nodes.
    key : str or None
        The cluster's key. What a node drops does not depend on it, but what an attacker can make does.
    """

    def __init__(self, chance: random.Random, recorded: list[bytes], key: str | None) -> None:
        self._chance = chance
        self._recorded = recorded
        self._sealed = key is not None
        kinds = [
            Kind("random", self._random, self._expected("malformed", "version")),
            Kind("truncated", self._truncated, self._expected("malformed")),
            Kind("too long", self._too_long, self._expected("malformed")),
            Kind("one bit is wrong", self._one_bit_wrong),
            Kind("recorded", self._copied),
            Kind("not sealed, and no envelope", self._plain_bomb, self._expected("unsealed" if key else "malformed")),
            Kind("of another version", self._other_version, self._expected("version")),
            Kind("sealed under another key", lambda: self._forged(self._other_key), self._expected_of_forged),
        ]
        if key is not None:
            own = KeyRing.parse(key).first(Domain.CONSENSUS)
            thief = KeyRing.parse(derive_key(key, "status")).first(Domain.STATUS)
            kinds += [
                Kind("said to be under the key", lambda: self._garbled(own), self._expected("unopened")),
                Kind("no envelope, by a thief", lambda: self._thievish_bomb(thief), self._expected("malformed")),
                Kind("a vote, by a thief", lambda: self._thievish_vote(thief), self._expected("malformed")),
            ]
        self.kinds = tuple(kinds)
        self._other_key = KeyRing.parse("5c" * 32).first(Domain.CONSENSUS)

    @property
    def _expected_of_forged(self) -> frozenset[str]:
        # Who has no key does not ask which key it was.
        return self._expected("unknown_key")

    @staticmethod
    def _expected(*reasons: str) -> frozenset[str]:
        return frozenset(f"dropped_{reason}" for reason in reasons)

    def __iter__(self) -> Iterator[tuple[Kind, bytes]]:
        while True:
            for kind in self.kinds:
                yield kind, kind.make()

    # --- without a key --------------------------------------------------------------------------------------

    def _random(self) -> bytes:
        return self._chance.randbytes(self._chance.randrange(1500))

    def _copied(self) -> bytes:
        return self._chance.choice(self._recorded)

    def _truncated(self) -> bytes:
        data = self._copied()
        return data[: self._chance.randrange(len(data))]

    def _too_long(self) -> bytes:
        return self._copied() + self._chance.randbytes(self._chance.choice((1, 100, 50_000)))

    def _one_bit_wrong(self) -> bytes:
        data = bytearray(self._copied())
        data[self._chance.randrange(len(data))] ^= 1 << self._chance.randrange(8)
        return bytes(data)

    def _plain_bomb(self) -> bytes:
        process, domain = self._chance.randbytes(16), self._chance.choice(list(Domain))
        bomb = self._chance.choice(_BOMBS[:-1])
        if self._chance.random() < 0.5:
            return wire.plain_hello_start(domain, process) + bomb
        return wire.plain_message_start(domain, process, self._chance.randbytes(8)) + bomb

    def _other_version(self) -> bytes:
        data = bytearray(self._copied())
        data[1] = self._chance.choice((0, *range(2, 24)))
        return bytes(data)

    # --- sealed, one way or another -------------------------------------------------------------------------

    def _forged(self, key: DomainKey) -> bytes:
        vote = wire.encode_message(VoteRequest(10**6, 0, 0, True))
        return self._seal(key, wire.envelope_start(0, 1, 0) + vote, is_hello=self._chance.random() < 0.5)

    def _garbled(self, key: DomainKey) -> bytes:
        size = self._chance.choice((17, 100, 60_000))
        is_hello = self._chance.random() < 0.5
        start = wire.sealed_start(key.fingerprint, self._chance.randbytes(16), is_hello=is_hello)
        header = wire.sealed_header(start, self._chance.randbytes(8), size - wire.TAG_BYTES)
        return header + self._chance.randbytes(size)

    def _thievish_bomb(self, key: DomainKey) -> bytes:
        return self._seal(key, self._chance.choice(_BOMBS), is_hello=True)

    def _thievish_vote(self, key: DomainKey) -> bytes:
        message = self._chance.choice((VoteRequest(10**6, 0, 0, True), AppendEntriesRequest(10**6, 1, 0.0, 0, 0, 0)))
        return self._seal(key, wire.envelope_start(0, 1, 0) + wire.encode_message(message), is_hello=True)

    def _seal(self, key: DomainKey, envelope: bytes, *, is_hello: bool) -> bytes:
        process, counter = self._chance.randbytes(16), self._chance.randbytes(8)
        cipher = key.hello_cipher(process) if is_hello else key.session_cipher(process, self._chance.randbytes(16))
        header = wire.sealed_header(
            wire.sealed_start(key.fingerprint, process, is_hello=is_hello), counter, len(envelope)
        )
        return header + cipher.encrypt(wire.NONCE_START + counter, envelope, header)
