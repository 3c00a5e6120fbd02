"""Keys: how they are written, what is derived from them, and which datagrams were seen before.

Every datagram of a cluster with a key is sealed with ChaCha20-Poly1305 (RFC 8439). How a sealed datagram looks
is told in :mod:`trioraft.datagrams.wire`; where its keys come from is told here.

A *cluster key* is 32 random bytes, written as 64 hexadecimal digits. HKDF-SHA256 (RFC 5869, no salt, 32 bytes
out; the strings below are the ``info``) derives everything else::

    cluster key ── "trioraft 1 consensus" ──→ consensus key
         └──────── "trioraft 1 client" ─────→ client key ── "trioraft 1 status" ──→ status key

So who has a client key can also ask for status, who has a status key can do only that, and neither can vote. A
client key is written with ``client:`` before its digits, a status key with ``status:``. Such a key is shared by
all who hold it: a thief of the monitor's key can pretend to other monitors that it is a node, and nothing worse.

Each of the three *domain keys* has a fingerprint, the first 4 bytes that HKDF gives for ``"trioraft 1
fingerprint"``. It stands in the datagram, names the key, and with it the domain. A domain key itself seals
nothing. It gives one key to every process, for its ``Hello``, and one for each direction between two processes::

    "trioraft 1 hello" + sender's process id                                → hello key
    "trioraft 1 session" + sender's process id + receiver's process id      → session key

A process id is 16 random bytes, made when a process starts and never stored. So nothing that was sealed for, or
by, an earlier process opens under a session key.

Nonces are counted: a process counts all that it seals, under whatever key, with *one* counter that starts at 1.
It can thus never use a nonce twice with one key, even for a session that it forgot and made again.
"""

import enum
import re
import secrets
from typing import Final, Literal, Self

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES: Final = 32
FINGERPRINT_BYTES: Final = 4
PROCESS_BYTES: Final = 16

_LABEL: Final = b"trioraft 1 "


class Domain(enum.IntEnum):
    """What a session is for, and so which key it is sealed under.

    ``CONSENSUS`` is for nodes among themselves, ``CLIENT`` for commands and status, ``STATUS`` for status only.
    """

    CONSENSUS = 0
    CLIENT = 1
    STATUS = 2


def generate_key() -> str:
    """Make a cluster key.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    return secrets.token_hex(KEY_BYTES)


def derive_key(key_text: str, label: Literal["client", "status"]) -> str:
    """Derive what a client, or the monitor, needs from a cluster key.

    Parameters
    ----------
    key_text : str
        One or more keys, as :meth:`KeyRing.parse` takes them. A status key can be had from a client key too.
    label : {"client", "status"}
        What the derived key shall be good for; a client key is good for status too.

    Returns
    -------
    str
        A derived key for each of the given ones, one per line.

    Raises
    ------
    ValueError
        If a key is not well written, or the wanted one cannot be derived from it; one line.
    """
    domain = Domain[label.upper()]
    derived = []
    for number, (has, secret) in enumerate(_parse(key_text), 1):
        if has > domain:
            raise ValueError(f"key {number} is a {has.name.lower()} key; no {label} key can be derived from it")
        derived.append(f"{label}:{_domain_secrets(has, secret)[domain].hex()}")
    return "\n".join(derived)


class DomainKey:
    """A key of one domain. Its text form does not show it.

    Parameters
    ----------
    domain : Domain
        What it is good for.
    secret : bytes
        The key, 32 bytes.

    Attributes
    ----------
    fingerprint : bytes
        Names the key in datagrams, 4 bytes.
    """

    __slots__ = ("_secret", "domain", "fingerprint")

    def __init__(self, domain: Domain, secret: bytes) -> None:
        self.domain = domain
        self.fingerprint = _hkdf(secret, b"fingerprint")[:FINGERPRINT_BYTES]
        self._secret = secret

    def __repr__(self) -> str:
        return f"<{self.domain.name.lower()} key {self.fingerprint.hex()}>"

    def hello_cipher(self, process: bytes) -> ChaCha20Poly1305:
        """Give the cipher that seals the ``Hello`` of a process.

        Parameters
        ----------
        process : bytes
            The sender's process id.

        Returns
        -------
        ChaCha20Poly1305
            The cipher.
        """
        return ChaCha20Poly1305(_hkdf(self._secret, b"hello", process))

    def session_cipher(self, sender: bytes, receiver: bytes) -> ChaCha20Poly1305:
        """Give the cipher for what one process sends to another.

        Parameters
        ----------
        sender, receiver : bytes
            Their process ids.

        Returns
        -------
        ChaCha20Poly1305
            The cipher, for this direction only.
        """
        return ChaCha20Poly1305(_hkdf(self._secret, b"session", sender + receiver))


class KeyRing:
    """The keys a process has: the first of each domain seals, all open.

    Its text form does not show them. Made by :meth:`parse`.
    """

    def __init__(self, keys: list[DomainKey]) -> None:
        self._by_fingerprint: dict[bytes, DomainKey] = {}
        self._first: dict[Domain, DomainKey] = {}
        for key in keys:
            self._by_fingerprint.setdefault(key.fingerprint, key)
            self._first.setdefault(key.domain, key)

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(map(repr, self._by_fingerprint.values()))})"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read keys as people write them.

        Parameters
        ----------
        text : str
            Keys of 64 hexadecimal digits, separated by new lines, blanks or commas; a derived one after
            ``client:`` or ``status:``.

        Returns
        -------
        KeyRing
            The keys, in their order.

        Raises
        ------
        ValueError
            If there is none, or one is not well written or given twice; one line, without any key in it.
        """
        parsed = _parse(text)
        if len(set(parsed)) < len(parsed):
            raise ValueError("a key is given twice")
        return cls(
            [
                DomainKey(domain, derived)
                for has, secret in parsed
                for domain, derived in _domain_secrets(has, secret).items()
            ]
        )

    def can(self, domain: Domain) -> bool:
        """Tell whether there is a key for a domain.

        Parameters
        ----------
        domain : Domain
            The domain; a node needs ``CONSENSUS``.

        Returns
        -------
        bool
            Whether datagrams of that domain can be sealed and opened.
        """
        return domain in self._first

    def first(self, domain: Domain) -> DomainKey:
        """Give the key that seals.

        Parameters
        ----------
        domain : Domain
            The domain.

        Returns
        -------
        DomainKey
            Its first key.

        Raises
        ------
        ValueError
            If there is no key for that domain.
        """
        if domain not in self._first:
            raise ValueError(f"no key for {domain.name.lower()} traffic can be derived from the keys given")
        return self._first[domain]

    def find(self, fingerprint: bytes) -> DomainKey | None:
        """Find the key that a datagram names.

        Parameters
        ----------
        fingerprint : bytes
            4 bytes.

        Returns
        -------
        DomainKey or None
            The key, or None where there is no such key.
        """
        return self._by_fingerprint.get(fingerprint)


class ReplayWindow:
    """Remembers which counters of one sender were seen (RFC 6479 tells the idea).

    It is wide because a sender counts all that it seals with one counter: to each of 50 receivers the window is
    still about 80 datagrams wide.

    Parameters
    ----------
    floor : int
        This counter and all before it count as seen.
    """

    WIDTH: Final = 4096
    _ALL: Final = (1 << WIDTH) - 1

    __slots__ = ("_highest", "_seen")

    def __init__(self, floor: int = 0) -> None:
        self._highest = floor
        self._seen = self._ALL  # bit n is for the counter `highest - n`

    def accept(self, counter: int) -> bool:
        """Note a counter, unless it was seen before or is too old to tell.

        Parameters
        ----------
        counter : int
            The counter of a datagram that has opened.

        Returns
        -------
        bool
            Whether it is new.
        """
        ahead = counter - self._highest
        if ahead > 0:
            self._highest = counter
            self._seen = ((self._seen << ahead) | 1) & self._ALL if ahead < self.WIDTH else 1
            return True
        if not self.is_new(counter):
            return False
        self._seen |= 1 << -ahead
        return True

    def is_new(self, counter: int) -> bool:
        """Tell whether a counter would be accepted, without noting it.

        Parameters
        ----------
        counter : int
            The counter of a datagram that has opened.

        Returns
        -------
        bool
            Whether it was not seen before, and is not too old to tell.
        """
        behind = self._highest - counter
        return behind < 0 or (behind < self.WIDTH and not self._seen >> behind & 1)


def _hkdf(secret: bytes, label: bytes, context: bytes = b"") -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=_LABEL + label + context).derive(secret)


def _domain_secrets(has: Domain, secret: bytes) -> dict[Domain, bytes]:
    """Derive every domain key that one written key gives; a cluster key stands as ``CONSENSUS``."""
    if has is Domain.CONSENSUS:
        client = _hkdf(secret, b"client")
        return {Domain.CONSENSUS: _hkdf(secret, b"consensus"), **_domain_secrets(Domain.CLIENT, client)}
    if has is Domain.CLIENT:
        return {Domain.CLIENT: secret, Domain.STATUS: _hkdf(secret, b"status")}
    return {Domain.STATUS: secret}


def _parse(text: str) -> list[tuple[Domain, bytes]]:
    keys = []
    for number, word in enumerate(re.split(r"[\s,]+", text.strip(" \t\r\n,")), 1):
        if not word:
            raise ValueError("there is no key; `trioraft keygen` makes one")
        label, colon, digits = word.rpartition(":")
        if colon and label not in {"client", "status"}:
            raise ValueError(f"key {number} starts with something else than client: or status:")
        if not re.fullmatch(r"[0-9a-fA-F]{64}", digits):
            raise ValueError(f"key {number} is not 64 hexadecimal digits; `trioraft keygen` makes one")
        keys.append((Domain[label.upper()] if colon else Domain.CONSENSUS, bytes.fromhex(digits)))
    return keys
