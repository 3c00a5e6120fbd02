"""The X25519 values of one process, each of which is replaced after an hour and forgotten soon after that.

:mod:`trioraft.datagrams.sealing` specifies which keys they are mixed into, and what that promises.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from trioraft.datagrams import primitives
from trioraft.datagrams.sealing import EPHEMERAL_BYTES
from trioraft.messages import Instant

if TYPE_CHECKING:
    from trioraft.datagrams.primitives import X25519PrivateKey

# How long a value is shown, and how long what was agreed by it is kept after that. The latter is enough for several
# handshakes, within which both sides have changed to the next value.
EPHEMERAL_SECONDS: Final = 3600.0
KEPT_SECONDS: Final = 300.0


class _Agreed(NamedTuple):
    ours: bytes
    theirs: bytes
    shared: bytes


class Ephemerals:
    """The value that is shown now, and for a while the one before it.

    Parameters
    ----------
    entropy : callable
        Returns as many random bytes as it is asked for.

    Attributes
    ----------
    public : bytes
        The value that is shown now.
    """

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._entropy = entropy
        self._secrets: dict[bytes, X25519PrivateKey] = {}
        self._made_at: Instant | None = None  # known with the first Hello
        self._last: _Agreed | None = None
        self.public = b""
        self._make()

    def _make(self) -> None:
        secret = primitives.X25519PrivateKey.from_private_bytes(self._entropy(EPHEMERAL_BYTES))
        self.public = secret.public_key().public_bytes_raw()
        self._secrets[self.public] = secret

    @property
    def all(self) -> tuple[bytes, ...]:
        """The values whose secrets are known, the newest last."""
        return tuple(self._secrets)

    def look(self, now: Instant) -> Instant:
        """Make a new value when it is due, and forget the one before when it has expired.

        Parameters
        ----------
        now : float
            The time in seconds.

        Returns
        -------
        float
            The time to look again.
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
        """Compute the secret that both sides share by one value of each.

        Parameters
        ----------
        ours : bytes
            One of :attr:`all`.
        theirs : bytes
            The value of the other side.

        Returns
        -------
        bytes
            The shared secret. The last one is remembered until it is asked for again, which a handshake does.

        Raises
        ------
        ValueError
            If the other value is none, or one that leads to the same secret whatever ours is.
        """
        last, self._last = self._last, None
        if last is not None and (last.ours, last.theirs) == (ours, theirs):
            return last.shared
        shared = self._secrets[ours].exchange(primitives.X25519PublicKey.from_public_bytes(theirs))
        self._last = _Agreed(ours, theirs, shared)
        return shared
