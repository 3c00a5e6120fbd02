"""The X25519 values of one process: made anew every hour, and forgotten soon after that.

What they are mixed into, and what that promises, is told in :mod:`trioraft.datagrams.sealing`.
"""

from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from trioraft.datagrams.sealing import EPHEMERAL_BYTES

# A value is told for so long; what was agreed by it before is kept for so long after that. Within that time, which is
# that of several handshakes, both sides have gone on to the next one.
EPHEMERAL_SECONDS: Final = 3600.0
KEPT_SECONDS: Final = 300.0


class Ephemerals:
    """The value that is told now, and the one before it for a while.

    Parameters
    ----------
    entropy : callable
        Gives as many random bytes as it is asked for.

    Attributes
    ----------
    public : bytes
        The value that is told now.
    """

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._entropy = entropy
        self._secrets: dict[bytes, X25519PrivateKey] = {}
        self._made_at: float | None = None  # known with the first Hello
        self._agreed: tuple[bytes, bytes, bytes] | None = None
        self.public = b""
        self._make()

    def _make(self) -> None:
        secret = X25519PrivateKey.from_private_bytes(self._entropy(EPHEMERAL_BYTES))
        self.public = secret.public_key().public_bytes_raw()
        self._secrets[self.public] = secret

    @property
    def all(self) -> tuple[bytes, ...]:
        """The values of which the secrets are known, the newest last."""
        return tuple(self._secrets)

    def look(self, now: float) -> float:
        """Make a new value when it is time, and forget the one before when its time is up.

        Parameters
        ----------
        now : float
            The time in seconds.

        Returns
        -------
        float
            When to look again.
        """
        if self._made_at is None:
            self._made_at = now
        if now >= self._made_at + EPHEMERAL_SECONDS:
            self._secrets = {self.public: self._secrets[self.public]}
            self._make()
            self._made_at = now
        if len(self._secrets) == 1:
            return self._made_at + EPHEMERAL_SECONDS
        if now < self._made_at + KEPT_SECONDS:
            return self._made_at + KEPT_SECONDS
        del self._secrets[next(iter(self._secrets))]
        return self._made_at + EPHEMERAL_SECONDS

    def agree(self, ours: bytes, theirs: bytes) -> bytes:
        """Give what both sides get from one value of each.

        Parameters
        ----------
        ours : bytes
            One of :attr:`all`.
        theirs : bytes
            The other side's.

        Returns
        -------
        bytes
            The shared secret. The last one is remembered until it is asked for again.

        Raises
        ------
        ValueError
            If the other value is none, or one with which every secret gives the same.
        """
        agreed, self._agreed = self._agreed, None
        if agreed is not None and agreed[:2] == (ours, theirs):
            return agreed[2]
        shared = self._secrets[ours].exchange(X25519PublicKey.from_public_bytes(theirs))
        self._agreed = ours, theirs, shared
        return shared
