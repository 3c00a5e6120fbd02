"""Proofs that a process receives what is sent to an address, made without remembering any process."""

import hashlib
import hmac
from typing import Final

from trioraft.address import Address
from trioraft.datagrams.sealing import Domain
from trioraft.messages import Instant

COOKIE_BYTES: Final = 8
EPOCH_SECONDS: Final = 10.0


class Cookies:
    """Makes and checks the challenges and tokens of one process.

    Both are keyed hashes (BLAKE2b, RFC 7693) with a secret of the process. A challenge depends on the address, the
    domain and the epoch, and is fresh in its epoch and in the next one, which is for 10 to 20 s. A token depends on
    address and domain only. No other process checks them, so another implementation may make them in another way.

    Parameters
    ----------
    secret : bytes
        The secret, which is random, never stored, and never sent.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def challenge(self, address: Address, domain: Domain, now: Instant) -> bytes:
        """Make the challenge that a process at an address has to echo.

        Parameters
        ----------
        address : Address
            The address that it will be sent to.
        domain : Domain
            The domain of the handshake.
        now : float
            The time, in seconds.

        Returns
        -------
        bytes
            The challenge.
        """
        return self._hash(b"challenge", address, domain, int(now // EPOCH_SECONDS))

    def is_fresh(self, echo: bytes, address: Address, domain: Domain, now: Instant) -> bool:
        """Check whether an echo is a challenge that was sent to an address lately.

        Parameters
        ----------
        echo : bytes
            The echo.
        address : Address
            The address that it came from.
        domain : Domain
            The domain of the handshake.
        now : float
            The time, in seconds.

        Returns
        -------
        bool
            Whether it is fresh.
        """
        epoch = int(now // EPOCH_SECONDS)
        return any(
            hmac.compare_digest(echo, self._hash(b"challenge", address, domain, made)) for made in (epoch, epoch - 1)
        )

    def token(self, address: Address, domain: Domain) -> bytes:
        """Make the token that a process at an address has to put into each unsealed datagram.

        Parameters
        ----------
        address : Address
            The address that it will be sent to.
        domain : Domain
            The domain of the session.

        Returns
        -------
        bytes
            The token.
        """
        return self._hash(b"token", address, domain, 0)

    def _hash(self, use: bytes, address: Address, domain: Domain, epoch: int) -> bytes:
        text = f"{address.host} {address.port} {int(domain)} {epoch}".encode()
        return hashlib.blake2b(text, digest_size=COOKIE_BYTES, key=self._secret, person=use).digest()
