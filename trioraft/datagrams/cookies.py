"""Proofs that somebody receives what is sent to an address, made without remembering anybody."""

import hashlib
import hmac
from typing import Final

from trioraft.address import Address
from trioraft.datagrams.sealing import Domain

COOKIE_BYTES: Final = 8
EPOCH_SECONDS: Final = 10.0


class Cookies:
    """Makes and checks the challenges and tokens that one process hands out.

    Both are keyed hashes (BLAKE2b, RFC 7693) with a secret of this process. A challenge depends on the address,
    the domain and the epoch, and is fresh in its epoch and in the next one, so for 10 to 20 s. A token depends on
    address and domain only. Nobody else checks them, so another implementation may make them otherwise.

    Parameters
    ----------
    secret : bytes
        Random, never stored, never sent.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def challenge(self, address: Address, domain: Domain, now: float) -> bytes:
        """Make what somebody at an address shall echo.

        Parameters
        ----------
        address : Address
            Where it will be sent.
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

    def is_fresh(self, echo: bytes, address: Address, domain: Domain, now: float) -> bool:
        """Tell whether an echo is a challenge that was sent to an address lately.

        Parameters
        ----------
        echo : bytes
            What came back.
        address : Address
            Where it came from.
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
        """Make what somebody at an address puts into each unsealed datagram.

        Parameters
        ----------
        address : Address
            Where it will be sent.
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
