"""Keys as people write them, and the ring of all keys that a process has.

:mod:`trioraft.datagrams.sealing` specifies what they are, and which is derived from which.
"""

import re
import secrets
from typing import Final, Literal, NamedTuple, Self

from trioraft.datagrams.sealing import (
    FIRST_GENERATION,
    KEY_BYTES,
    SECOND_GENERATION,
    Domain,
    DomainKey,
    NodeIdentity,
    hkdf,
)

Derived = Literal["admin", "client", "reader", "status"]
DERIVED: Final[tuple[Derived, ...]] = ("admin", "client", "reader", "status")

_DIGITS: Final = re.compile("[0-9a-fA-F]{64}")

# The domains whose keys are derived each from the one before it.
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
    """Derive the key that an administrator, a client, a reader or the monitor needs.

    Parameters
    ----------
    key_text : str
        One or more keys, as :meth:`KeyRing.parse` takes them: cluster keys, or derived keys above the wanted one.
    label : {"admin", "client", "reader", "status"}
        The kind of the derived key; each is good for all that those behind it are good for.

    Returns
    -------
    str
        A derived key for each of the given ones, one per line.

    Raises
    ------
    ValueError
        If a key is not well written, or the wanted one cannot be derived from it; the text is one line.
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


class KeyRing:
    """The keys of a process. The first one of each domain seals, and all of them open.

    Made by :meth:`parse`. Its text form does not show the keys.

    Attributes
    ----------
    former : tuple of str
        The names, ``client`` or ``status``, of the keys that are written as the release before wrote them.
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
        """Parse keys as people write them.

        Parameters
        ----------
        text : str
            Keys of 64 hexadecimal digits, separated by new lines, blanks or commas. A derived key stands between its
            name and the public half of the nodes' identity, or just after its name where the release before wrote it.

        Returns
        -------
        KeyRing
            The keys, in their order.

        Raises
        ------
        ValueError
            If there is none, or one is not well written or given twice; the text is one line and contains no key.
        """
        parsed = _parse(text)
        if len(set(parsed)) < len(parsed):
            raise ValueError("a key is given twice")
        keys = [key for written in parsed for key in _domain_keys(written)]
        return cls(keys, tuple(written.domain.label for written in parsed if written.domain in _FIRST_CHAIN))

    def can(self, domain: Domain) -> bool:
        """Check whether there is a key that is good for a domain.

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
        """Check whether there is a key of exactly one domain.

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
        """Return the key that seals in a domain.

        Parameters
        ----------
        domain : Domain
            The domain.

        Returns
        -------
        DomainKey
            The first key of the domain.

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
            The key; None where the ring does not have it.
        """
        return self._by_fingerprint.get(fingerprint)


class _Written(NamedTuple):
    """A key that was parsed; a cluster key has the domain ``CONSENSUS``."""

    domain: Domain
    secret: bytes
    public: bytes = b""


def _domain_secrets(written: _Written) -> dict[Domain, bytes]:
    """Derive the secrets of all domains that a key is good for."""
    domain, secret, _ = written
    if domain is Domain.CONSENSUS:
        client, admin = hkdf(secret, b"client"), hkdf(secret, b"admin", generation=SECOND_GENERATION)
        return {
            domain: hkdf(secret, b"consensus"),
            **_domain_secrets(_Written(Domain.FIRST_CLIENT, client)),
            **_domain_secrets(_Written(Domain.ADMIN, admin)),
        }
    chain, generation = (_CHAIN, SECOND_GENERATION) if domain in _CHAIN else (_FIRST_CHAIN, FIRST_GENERATION)
    found: dict[Domain, bytes] = {domain: secret}
    for below in chain[chain.index(domain) + 1 :]:
        secret = found[below] = hkdf(secret, below.label.encode(), generation=generation)
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
