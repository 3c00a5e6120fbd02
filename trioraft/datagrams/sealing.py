"""Keys: how they are written, what is derived from them, and which datagrams were seen before.

Every datagram of a cluster with a key is sealed with ChaCha20-Poly1305 (RFC 8439). How a sealed datagram looks
is told in :mod:`trioraft.datagrams.wire`; where its keys come from is told here.

A *cluster key* is 32 random bytes, written as 64 hexadecimal digits. HKDF-SHA256 (RFC 5869, no salt, 32 bytes
out; the strings below are the ``info``) derives everything else, each key from the one above it::

    cluster key ── "trioraft 1 consensus" ──────→ consensus key   nodes among themselves
         ├──────── "trioraft 2 node identity" ──→ seed of an Ed25519 key, the *identity* of the nodes
         └──────── "trioraft 2 admin" ──────────→ admin key
                        └── "trioraft 2 client" ─────→ client key
                                └── "trioraft 2 reader" ────→ reader key
                                         └── "trioraft 2 status" ───→ status key

Who has a key can derive those below it, and none above. What each of them is good for is told, command by command,
in :mod:`trioraft.datagrams.rights`. A derived key is written as its name, its digits and those of the public half of
the identity, ``client:HEX64:PUB64``.

All holders of a derived key share it, so it cannot tell a node from another holder. The identity can: a node signs
what a ``Hello`` of its echoes to a client (Ed25519, RFC 8032), and a client whose key has the public half takes no
``Hello`` without a good signature. Signed are these bytes, one after the other::

    "trioraft 2 node hello"
    fingerprint of the key that the Hello is sealed under       4 bytes
    process id of the node, process id of the client            16 bytes each
    counter of the datagram                                     8 bytes
    node id, cluster id (as in the envelope)                    8 bytes each
    lowest, highest                                             4 bytes each
    echo, ephemeral                                             1 byte of length before each

So a signature is good for one challenge of one process, in one domain, and for the ephemeral value (see `The
handshake`_) that it vouches for. Such a client takes no ``Hello`` without that value: what it says then opens for
that node alone, and nobody else can answer, whoever passes the datagrams on. A node does not sign in the consensus
domain, where only holders of the cluster key are. It signs at most 200 times a second for addresses that are not
confirmed; who is answered without a signature echoes the node's challenge, and sends its own again.

Keys of the first generation
============================
The release before derived two keys only, and knew no identity::

    cluster key ── "trioraft 1 client" ──→ client:HEX64 ── "trioraft 1 status" ──→ status:HEX64

Nodes still take them, and a holder of such a client key may do what it could. Sessions under them have domains of
their own (:attr:`Domain.FIRST_CLIENT`, :attr:`Domain.FIRST_STATUS`), which are also those of unsealed sessions.
Whoever has the cluster key, or keys of both generations, greets with the first and goes over to the second as soon
as the node says that it speaks version 4 of the protocol: until then it believes everybody who has the first. Whoever
has only keys of the second generation speaks with nobody who does not sign.

Domains
=======
Each *domain key* has a fingerprint, the first 4 bytes that HKDF gives for ``"trioraft 1 fingerprint"``. It stands in
the datagram, names the key, and with it the domain. A domain key itself seals nothing. It gives one key to every
process, for its ``Hello``, and one for each direction between two processes::

    "trioraft 1 hello" + sender's process id                                → hello key
    "trioraft 1 session" + sender's process id + receiver's process id      → session key

A process id is 16 random bytes, made when a process starts and never stored. So nothing that was sealed for, or
by, an earlier process opens under a session key.

Nonces are counted: a process counts all that it seals, under whatever key, with *one* counter that starts at 1.
It can thus never use a nonce twice with one key, even for a session that it forgot and made again. What is sealed for
who speaks version 4 of the protocol has 4 random bytes beside the count, drawn from the system for each datagram.

The handshake
=============
A greets B; both speak version 4. ``a`` and ``b`` are fresh challenges, ``ea`` and ``eb`` the secrets of X25519 values
(``EA``, ``EB``), ``PA`` and ``PB`` process ids, ``K`` is a key of their domain that both have::

    A → B   fingerprint(K), PA, nonce, seal(hello(K, PA), Hello(challenge=a, EA))
    B → A   fingerprint(K), PB, nonce, seal(hello(K, PB), Hello(challenge=b, echo=a, EB))      B remembers nothing
                (signed, as told above, where K is a derived key of the second generation and B is a node)
                A: PB is alive and there; takes EB
    A → B   fingerprint(K), PA, nonce, seal(hello(K, PA), Hello(echo=b, EA))
                B: PA is alive and there; takes EA
    both    fingerprint(K), P, name, nonce, seal(session, message)

    hello(K, P)    = HKDF(K, "trioraft 1 hello" + P)
    session, name  = HKDF(K + X25519(ea, EB), "trioraft 4 session" + PA + PB + EA + EB)        from A to B
                     HKDF(K + X25519(eb, EA), "trioraft 4 session" + PB + PA + EB + EA)        from B to A

The last two give 36 bytes, a key of 32 and its name of 4. ``seal`` is ChaCha20-Poly1305 with all that stands before
it as associated data. Only values from a ``Hello`` whose echo is fresh, and whose counter is new, are taken. A shared
secret of zeros, as points of low order give, makes a ``Hello`` malformed. A value is told for an hour and kept for 5
minutes more; then its secret and every key that was derived from it are dropped (Python cannot overwrite them, so
they may stay in freed memory). With who shows no value, because it is of an earlier release, keys are those above,
and nonces have 4 zero bytes. What is sealed under those is not taken from who has shown a value.

This is no protocol that somebody has proved. It is nearest to TLS 1.3 in its mode ``psk_ke`` without the values and
``psk_dhe_ke`` with them, and to the pattern NNpsk0 of Noise: a shared key and two ephemeral values, no identities.
It differs: challenges stand for addresses too, and there is no hash of the transcript. Process ids and values, which
all keys depend on, stand for it. With the signature it is nearer to TLS 1.3 with a certificate of the server and a
shared key (RFC 8773), which has a hash of the transcript too.

======================================================  =======================================================
who has                                                 can
======================================================  =======================================================
nothing, but sees, repeats and changes all datagrams    see who talks to whom, how much and when, and which processes
                                                        and domains; stop datagrams; be answered where a copy of a
                                                        greeting comes before the original. Open or make nothing
a key, and a recording of earlier datagrams             open each ``Hello`` in it (names, versions, challenges), and
                                                        what was said to or by releases before version 4. Open no
                                                        message between others
a key, and the memory of a process                      open what that process has said and heard in the last hour
                                                        and some minutes, and from now on
a cluster key, or one of the first generation, and      be anybody in that key's domain and those below, and stand
datagrams in its hands as they are sent                 between two others from their next handshake on
a derived key of the second generation, and datagrams   be any client in that key's domain and those below. Be a node,
in its hands as they are sent                           or open what is said between a node and a client, only for
                                                        clients with a key of the first generation
the memory of a process that was resumed twice          seal two datagrams under one nonce with a chance of 2^-32 for
(a snapshot of a virtual machine, a checkpoint)         each one that both make; with certainty for releases before
                                                        version 4, and in a ``Hello`` to who has not answered yet
======================================================  =======================================================

Holders of one domain key are not told apart by it. Any of them can take the name of another's process and so stop
that one's session until it starts again, and be sent what is answered to it from then on, as it can do all else in
that domain; it cannot open what the other said or was answered before.
"""

import enum
import re
import secrets
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES: Final = 32
FINGERPRINT_BYTES: Final = 4
PROCESS_BYTES: Final = 16
EPHEMERAL_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
# Of the name that stands in a datagram for the key it is sealed under.
NAME_BYTES: Final = 4

Derived = Literal["admin", "client", "reader", "status"]
DERIVED: Final[tuple[Derived, ...]] = ("admin", "client", "reader", "status")

_DIGITS: Final = re.compile("[0-9a-fA-F]{64}")
_FIRST: Final = b"trioraft 1 "
_SECOND: Final = b"trioraft 2 "
_AGREED: Final = b"trioraft 4 session"


class Domain(enum.IntEnum):
    """What a session is for, and so which key it is sealed under.

    ``CONSENSUS`` is for nodes among themselves; ``ADMIN``, ``CLIENT``, ``READER`` and ``STATUS`` are for those who
    have the key of that name. ``FIRST_CLIENT`` and ``FIRST_STATUS`` are for keys of the first generation, and for
    sessions that are not sealed: only these values are ever on the wire.
    """

    CONSENSUS = 0
    FIRST_CLIENT = 1
    FIRST_STATUS = 2
    ADMIN = 3
    CLIENT = 4
    READER = 5
    STATUS = 6

    @property
    def first_generation(self) -> "Domain":
        """The domain that stands for this one where keys of the second generation are not known."""
        return _FIRST_GENERATION.get(self, self)

    @property
    def label(self) -> str:
        """What people call it."""
        return self.name.removeprefix("FIRST_").lower()


_FIRST_GENERATION: Final[Mapping[Domain, Domain]] = {
    Domain.ADMIN: Domain.FIRST_CLIENT,
    Domain.CLIENT: Domain.FIRST_CLIENT,
    Domain.READER: Domain.FIRST_CLIENT,
    Domain.STATUS: Domain.FIRST_STATUS,
}
# Each is derived from the one before it.
_CHAIN: Final = (Domain.ADMIN, Domain.CLIENT, Domain.READER, Domain.STATUS)
_FIRST_CHAIN: Final = (Domain.FIRST_CLIENT, Domain.FIRST_STATUS)


def generate_key() -> str:
    """Make a cluster key.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    return secrets.token_hex(KEY_BYTES)


def derive_key(key_text: str, label: Derived) -> str:
    """Derive what an administrator, a client, a reader or the monitor needs.

    Parameters
    ----------
    key_text : str
        One or more keys, as :meth:`KeyRing.parse` takes them: cluster keys, or derived ones that can do more.
    label : {"admin", "client", "reader", "status"}
        What the derived key shall be good for; each is good for what those behind it are.

    Returns
    -------
    str
        A derived key for each of the given ones, one per line.

    Raises
    ------
    ValueError
        If a key is not well written, or the wanted one cannot be derived from it; one line.
    """
    derived = []
    for number, written in enumerate(_parse(key_text), 1):
        has, secret, public = written
        is_former = has in _FIRST_CHAIN
        if has is Domain.CONSENSUS:
            public = NodeIdentity.of_cluster(secret).public
        secrets_of = {
            domain.label: derived_secret
            for domain, derived_secret in _domain_secrets(written).items()
            if (domain in _FIRST_CHAIN) == is_former
        }
        if label not in secrets_of:
            former = ", as the release before derived it" if is_former else ""
            raise ValueError(f"key {number} is a {has.label} key{former}; no {label} key can be derived from it")
        derived.append(":".join([label, secrets_of[label].hex(), *([public.hex()] if public else [])]))
    return "\n".join(derived)


class NodeIdentity:
    """The Ed25519 key by which clients know the nodes of a cluster. Its text form does not show it.

    Parameters
    ----------
    public : bytes
        The public half, 32 bytes.
    private : Ed25519PrivateKey or None
        The other half, where the cluster key is known.

    Attributes
    ----------
    public : bytes
        The public half.
    """

    __slots__ = ("_private", "_verifier", "public")

    def __init__(self, public: bytes, private: Ed25519PrivateKey | None = None) -> None:
        self.public = public
        self._private = private
        self._verifier = Ed25519PublicKey.from_public_bytes(public)

    @classmethod
    def of_cluster(cls, secret: bytes) -> Self:
        """Derive it from a cluster key.

        Parameters
        ----------
        secret : bytes
            The cluster key.

        Returns
        -------
        NodeIdentity
            Both halves.
        """
        private = Ed25519PrivateKey.from_private_bytes(_hkdf(secret, b"node identity", generation=_SECOND))
        return cls(private.public_key().public_bytes_raw(), private)

    def sign(self, text: bytes) -> bytes:
        """Sign what a node says.

        Parameters
        ----------
        text : bytes
            What is signed.

        Returns
        -------
        bytes
            The signature; empty where only the public half is known.
        """
        return self._private.sign(text) if self._private is not None else b""

    def has_signed(self, signature: bytes, text: bytes) -> bool:
        """Tell whether a node has said something.

        Parameters
        ----------
        signature : bytes
            What should be its signature.
        text : bytes
            What should be signed.

        Returns
        -------
        bool
            Whether it is.
        """
        try:
            self._verifier.verify(signature, text)
        except InvalidSignature:
            return False
        return True


class DomainKey:
    """A key of one domain. Its text form does not show it.

    Parameters
    ----------
    domain : Domain
        What it is good for.
    secret : bytes
        The key, 32 bytes.
    identity : NodeIdentity or None
        By which nodes are known that answer under it; None where all who have the key are believed.

    Attributes
    ----------
    fingerprint : bytes
        Names the key in datagrams, 4 bytes.
    """

    __slots__ = ("_secret", "domain", "fingerprint", "identity")

    def __init__(self, domain: Domain, secret: bytes, identity: NodeIdentity | None = None) -> None:
        self.domain = domain
        self.identity = identity
        self.fingerprint = _hkdf(secret, b"fingerprint")[:FINGERPRINT_BYTES]
        self._secret = secret

    def __repr__(self) -> str:
        return f"<{self.domain.name.lower().replace('_', ' ')} key {self.fingerprint.hex()}>"

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

    def agreed_cipher(
        self, shared: bytes, sender: tuple[bytes, bytes], receiver: tuple[bytes, bytes]
    ) -> tuple[ChaCha20Poly1305, bytes]:
        """Give the cipher for what one process sends to another with which it has agreed on a secret.

        Parameters
        ----------
        shared : bytes
            The secret, 32 bytes.
        sender, receiver : tuple of bytes
            Their process ids, and the X25519 value of each that the secret comes from.

        Returns
        -------
        ChaCha20Poly1305
            The cipher, for this direction only.
        bytes
            Its name, 4 bytes.
        """
        info = _AGREED + sender[0] + receiver[0] + sender[1] + receiver[1]
        derive = HKDF(algorithm=SHA256(), length=KEY_BYTES + NAME_BYTES, salt=None, info=info)
        made = derive.derive(self._secret + shared)
        return ChaCha20Poly1305(made[:KEY_BYTES]), made[KEY_BYTES:]


class KeyRing:
    """The keys a process has: the first of each domain seals, all open.

    Its text form does not show them. Made by :meth:`parse`.

    Attributes
    ----------
    former : tuple of str
        The names of keys that were written as the release before wrote them, ``client`` or ``status``.
    """

    def __init__(self, keys: list[DomainKey], former: tuple[str, ...] = ()) -> None:
        self.former = former
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
            Keys of 64 hexadecimal digits, separated by new lines, blanks or commas; a derived one between its name
            and the public half of the nodes' identity, or, as the release before wrote it, after its name.

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
        keys = [key for written in parsed for key in _domain_keys(written)]
        return cls(keys, tuple(written.domain.label for written in parsed if written.domain in _FIRST_CHAIN))

    def can(self, domain: Domain) -> bool:
        """Tell whether there is a key that is good for a domain.

        Parameters
        ----------
        domain : Domain
            The domain; a node needs ``CONSENSUS``.

        Returns
        -------
        bool
            Whether there is one of that domain, or one of the first generation that stands for it.
        """
        return self.has(domain) or self.has(domain.first_generation)

    @property
    def best(self) -> Domain:
        """The domain of a client that may do all that the keys are good for."""
        return next(domain for domain in _CHAIN if self.can(domain))

    def has(self, domain: Domain) -> bool:
        """Tell whether there is a key of exactly that domain.

        Parameters
        ----------
        domain : Domain
            The domain.

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
            raise ValueError(f"no key for {domain.label} traffic can be derived from the keys given")
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


class _Written(NamedTuple):
    """A key as people write it; a cluster key stands as ``CONSENSUS``."""

    domain: Domain
    secret: bytes
    public: bytes = b""


def _hkdf(secret: bytes, label: bytes, context: bytes = b"", generation: bytes = _FIRST) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=generation + label + context).derive(secret)


def _domain_secrets(written: _Written) -> dict[Domain, bytes]:
    """Derive every domain key that one written key gives."""
    domain, secret, _ = written
    if domain is Domain.CONSENSUS:
        client, admin = _hkdf(secret, b"client"), _hkdf(secret, b"admin", generation=_SECOND)
        return {
            domain: _hkdf(secret, b"consensus"),
            **_domain_secrets(_Written(Domain.FIRST_CLIENT, client)),
            **_domain_secrets(_Written(Domain.ADMIN, admin)),
        }
    chain, generation = (_CHAIN, _SECOND) if domain in _CHAIN else (_FIRST_CHAIN, _FIRST)
    found: dict[Domain, bytes] = {domain: secret}
    for below in chain[chain.index(domain) + 1 :]:
        secret = found[below] = _hkdf(secret, below.label.encode(), generation=generation)
    return found


def _domain_keys(written: _Written) -> list[DomainKey]:
    identity = NodeIdentity(written.public) if written.public else None
    if written.domain is Domain.CONSENSUS:
        identity = NodeIdentity.of_cluster(written.secret)
    return [
        DomainKey(domain, secret, identity if domain in _CHAIN else None)
        for domain, secret in _domain_secrets(written).items()
    ]


def _parse(text: str) -> list[_Written]:
    keys = []
    for number, word in enumerate(re.split(r"[\s,]+", text.strip(" \t\r\n,")), 1):
        if not word:
            raise ValueError("there is no key; `trioraft keygen` makes one")
        label, colon, rest = word.partition(":")
        digits, _, public = rest.partition(":") if colon else (word, "", "")
        if colon and label not in DERIVED:
            raise ValueError(f"key {number} starts with something else than admin:, client:, reader: or status:")
        if any(not _DIGITS.fullmatch(part) for part in (digits, public or digits)):
            raise ValueError(f"key {number} is not 64 hexadecimal digits; `trioraft keygen` makes one")
        if not colon:
            domain = Domain.CONSENSUS
        elif public:
            domain = Domain[label.upper()]
        elif label in {first.label for first in _FIRST_CHAIN}:
            domain = Domain[f"FIRST_{label.upper()}"]
        else:
            raise ValueError(
                f"key {number} lacks its second half; copy the whole line that `trioraft keygen` printed"
            )
        keys.append(_Written(domain, bytes.fromhex(digits), bytes.fromhex(public)))
    return keys
