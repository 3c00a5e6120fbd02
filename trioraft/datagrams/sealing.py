"""Keys, and what is derived from them to seal datagrams.

Every datagram of a cluster with a key is sealed with ChaCha20-Poly1305 (RFC 8439). :mod:`trioraft.datagrams.wire`
specifies how a sealed datagram looks; this text specifies where its keys come from.

A *cluster key* is 32 random bytes, written as 64 hexadecimal digits. HKDF-SHA256 (RFC 5869, no salt, 32 bytes
out; the strings below are the ``info``) derives everything else, each key from the one above it::

    cluster key ── "trioraft 1 consensus" ──────→ consensus key   nodes among themselves
         ├──────── "trioraft 2 node identity" ──→ seed of an Ed25519 key, the *identity* of the nodes
         └──────── "trioraft 2 admin" ──────────→ admin key
                        └── "trioraft 2 client" ─────→ client key
                                └── "trioraft 2 reader" ────→ reader key
                                         └── "trioraft 2 status" ───→ status key

A holder of a key can derive those below it, and none above. :mod:`trioraft.datagrams.rights` lists, command by
command, what each of them is good for. A derived key is written as its name, its digits and those of the public half
of the identity, ``client:HEX64:PUB64``.

All holders of a derived key share it, so it does not distinguish a node from another holder. The identity does: a
node signs the challenge that its ``Hello`` echoes to a client (Ed25519, RFC 8032), and a client whose key has the
public half accepts no ``Hello`` without a good signature. These bytes are signed, one after the other::

    "trioraft 2 node hello"
    fingerprint of the key that the Hello is sealed under       4 bytes
    process id of the node, process id of the client            16 bytes each
    counter of the datagram                                     8 bytes
    node id, cluster id (as in the envelope)                    8 bytes each
    lowest, highest                                             4 bytes each
    echo, ephemeral                                             1 byte of length before each

So a signature is good for one challenge of one process, in one domain, and for the ephemeral value (see `The
handshake`_) that it vouches for. Such a client accepts no ``Hello`` without that value: only that node can open what
the client says from then on, and only that node can answer, whoever passes the datagrams on. A node does not sign in
the consensus domain, where everybody holds the cluster key. It signs at most 200 times a second for addresses that
are not confirmed; a client that is answered without a signature echoes the node's challenge, and sends its own again.

Keys of the first generation
============================
The release before this one derived two keys only, and knew no identity::

    cluster key ── "trioraft 1 client" ──→ client:HEX64 ── "trioraft 1 status" ──→ status:HEX64

Nodes still accept them, and the holder of such a client key may do what it could do before. Sessions under these keys
have domains of their own (:attr:`Domain.FIRST_CLIENT`, :attr:`Domain.FIRST_STATUS`), which are also those of unsealed
sessions. A client with the cluster key, or with keys of both generations, greets with the first generation and
changes to the second as soon as the node says that it speaks version 4 of the protocol; until then it believes
everybody who holds the first. A client with keys of the second generation only speaks with nobody who does not sign.

Domains
=======
Each *domain key* has a fingerprint, the first 4 bytes that HKDF derives with ``"trioraft 1 fingerprint"``. It stands
in the datagram and names the key, and so the domain. A domain key itself seals nothing. From it are derived one key
for the ``Hello`` of each process, and one for each direction between two processes::

    "trioraft 1 hello" + sender's process id                                → hello key
    "trioraft 1 session" + sender's process id + receiver's process id      → session key

A process id is 16 random bytes, drawn when a process starts and never stored. So nothing that was sealed for an
earlier process, or by it, opens under a session key.

Nonces are counted: a process counts all that it seals, under whatever key, with *one* counter that starts at 1.
It thus never uses a nonce twice with one key, not even for a session that it forgot and made again. In datagrams to a
process that speaks version 4 of the protocol, 4 random bytes stand beside the count, drawn from the system for each
datagram.

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

The last two derive 36 bytes, a key of 32 and its name of 4. ``seal`` is ChaCha20-Poly1305 with all that stands before
it as associated data. A value counts only if its ``Hello`` has a fresh echo and a new counter. A shared secret of
zeros, which points of low order lead to, makes a ``Hello`` malformed. A process shows a value for an hour and keeps
it for 5 minutes more; then it drops the secret and every key that was derived from it (Python cannot overwrite them,
so they may stay in freed memory). For a process that shows no value, because it runs an earlier release, the keys are
the session keys above, and nonces have 4 zero bytes. From a process that has shown a value, nothing sealed under
those keys is accepted.

Nobody has proved this protocol. It is nearest to TLS 1.3, in its mode ``psk_ke`` without the values and
``psk_dhe_ke`` with them, and to the pattern NNpsk0 of Noise: a shared key and two ephemeral values, no identities. It
differs from both in that challenges prove addresses too, and that there is no hash of the transcript: process ids and
values, which all keys depend on, take its place. With the signature it is nearer to TLS 1.3 with a certificate of the
server and a shared key (RFC 8773), which has a hash of the transcript too.

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
                                                        version 4, and in a ``Hello`` to one that has not answered
======================================================  =======================================================

A domain key does not distinguish its holders from each other. Any of them can take the process id of another one, and
so stop that one's session until it starts again and receive the answers to it from then on, as it can do all else in
that domain; but it cannot open what the other one said, or was answered, before.
"""

import enum
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from trioraft.datagrams import primitives

if TYPE_CHECKING:
    from trioraft.datagrams.primitives import ChaCha20Poly1305, Ed25519PrivateKey


KEY_BYTES: Final = 32
FINGERPRINT_BYTES: Final = 4
PROCESS_BYTES: Final = 16
EPHEMERAL_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
# The name that an agreed key has in datagrams.
NAME_BYTES: Final = 4

FIRST_GENERATION: Final = b"trioraft 1 "
SECOND_GENERATION: Final = b"trioraft 2 "
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
        """The name that people know it by."""
        return self.name.removeprefix("FIRST_").lower()


_FIRST_GENERATION: Final[Mapping[Domain, Domain]] = {
    Domain.ADMIN: Domain.FIRST_CLIENT,
    Domain.CLIENT: Domain.FIRST_CLIENT,
    Domain.READER: Domain.FIRST_CLIENT,
    Domain.STATUS: Domain.FIRST_STATUS,
}


def hkdf(secret: bytes, label: bytes, context: bytes = b"", *, generation: bytes = FIRST_GENERATION) -> bytes:
    """Derive a secret from another one (RFC 5869).

    Parameters
    ----------
    secret : bytes
        The secret that it is derived from.
    label, context : bytes
        What the result is for.
    generation : bytes
        The prefix of the label.

    Returns
    -------
    bytes
        32 bytes.
    """
    return _hkdf(secret, generation + label + context, KEY_BYTES)


def _hkdf(secret: bytes, info: bytes, length: int) -> bytes:
    return primitives.HKDF(algorithm=primitives.SHA256(), length=length, salt=None, info=info).derive(secret)


class NodeIdentity:
    """The Ed25519 key by which clients recognize the nodes of a cluster. Its text form does not show it.

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

    def __init__(self, public: bytes, private: "Ed25519PrivateKey | None" = None) -> None:
        self.public = public
        self._private = private
        self._verifier = primitives.Ed25519PublicKey.from_public_bytes(public)

    @classmethod
    def of_cluster(cls, secret: bytes) -> Self:
        """Derive the identity from a cluster key.

        Parameters
        ----------
        secret : bytes
            The cluster key.

        Returns
        -------
        NodeIdentity
            Both halves.
        """
        private = primitives.Ed25519PrivateKey.from_private_bytes(
            hkdf(secret, b"node identity", generation=SECOND_GENERATION)
        )
        return cls(private.public_key().public_bytes_raw(), private)

    def sign(self, text: bytes) -> bytes:
        """Sign a text as the nodes do.

        Parameters
        ----------
        text : bytes
            The text.

        Returns
        -------
        bytes
            The signature; empty where only the public half is known.
        """
        return self._private.sign(text) if self._private is not None else b""

    def has_signed(self, signature: bytes, text: bytes) -> bool:
        """Check the signature of a node.

        Parameters
        ----------
        signature : bytes
            The signature.
        text : bytes
            The text that it should be of.

        Returns
        -------
        bool
            Whether it is good.
        """
        try:
            self._verifier.verify(signature, text)
        except primitives.InvalidSignature:
            return False
        return True


class Side(NamedTuple):
    """One of two processes that have agreed on a secret.

    Attributes
    ----------
    process : bytes
        Its process id.
    ephemeral : bytes
        Its X25519 value that the secret comes from.
    """

    process: bytes
    ephemeral: bytes


class AgreedCipher(NamedTuple):
    """A cipher that two processes have agreed on.

    Attributes
    ----------
    cipher : ChaCha20Poly1305
        The cipher.
    name : bytes
        Its name in datagrams, 4 bytes.
    """

    cipher: "ChaCha20Poly1305"
    name: bytes


class DomainKey:
    """A key of one domain. Its text form does not show it.

    Parameters
    ----------
    domain : Domain
        The domain.
    secret : bytes
        The key, 32 bytes.
    identity : NodeIdentity or None
        The identity of the nodes that answer under it; None where every holder of the key is believed.

    Attributes
    ----------
    fingerprint : bytes
        The name of the key in datagrams, 4 bytes.
    """

    __slots__ = ("_secret", "domain", "fingerprint", "identity")

    def __init__(self, domain: Domain, secret: bytes, identity: NodeIdentity | None = None) -> None:
        self.domain = domain
        self.identity = identity
        self.fingerprint = hkdf(secret, b"fingerprint")[:FINGERPRINT_BYTES]
        self._secret = secret

    def __repr__(self) -> str:
        return f"<{self.domain.name.lower().replace('_', ' ')} key {self.fingerprint.hex()}>"

    def hello_cipher(self, process: bytes) -> "ChaCha20Poly1305":
        """Make the cipher that seals the ``Hello`` of a process.

        Parameters
        ----------
        process : bytes
            The sender's process id.

        Returns
        -------
        ChaCha20Poly1305
            The cipher.
        """
        return primitives.ChaCha20Poly1305(hkdf(self._secret, b"hello", process))

    def session_cipher(self, sender: bytes, receiver: bytes) -> "ChaCha20Poly1305":
        """Make the cipher for all else that one process sends to another.

        Parameters
        ----------
        sender, receiver : bytes
            Their process ids.

        Returns
        -------
        ChaCha20Poly1305
            The cipher, for this direction only.
        """
        return primitives.ChaCha20Poly1305(hkdf(self._secret, b"session", sender + receiver))

    def agreed_cipher(self, shared: bytes, sender: Side, receiver: Side) -> AgreedCipher:
        """Make the cipher for what one process sends to another with which it has agreed on a secret.

        Parameters
        ----------
        shared : bytes
            The secret, 32 bytes.
        sender, receiver : Side
            The two processes.

        Returns
        -------
        AgreedCipher
            The cipher, for this direction only, and its name.
        """
        info = _AGREED + sender.process + receiver.process + sender.ephemeral + receiver.ephemeral
        made = _hkdf(self._secret + shared, info, KEY_BYTES + NAME_BYTES)
        return AgreedCipher(primitives.ChaCha20Poly1305(made[:KEY_BYTES]), made[KEY_BYTES:])
