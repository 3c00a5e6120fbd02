"""Ask one node for its status without an event loop.

Container engines run a health check every few seconds for as long as a container lives. To start trio and to look for
other nodes would cost more than all that the node itself does meanwhile.
"""

import socket
import time
from typing import Final

from trioraft.address import Address
from trioraft.datagrams.endpoint import Domain, Endpoint, ForeignService, Identity, PeerConfirmed, Received
from trioraft.datagrams.keys import KeyRing
from trioraft.messages import NodeStatus, Status, StatusRequest

_DATAGRAM_MAX: Final = 65535
_AGAIN: Final = 0.3  # seconds until the question is sent again


def ask_status(
    address: Address, service: str, keys: KeyRing | None, seconds: float
) -> NodeStatus | ForeignService | None:
    """Ask a node for its status.

    Parameters
    ----------
    address : Address
        The address of the node.
    service : str
        The service name of the node.
    keys : KeyRing or None
        The cluster's keys.
    seconds : float
        How long to wait for the answer.

    Returns
    -------
    NodeStatus, ForeignService or None
        The status, the other service that the node is of, or None when it does not answer.

    Raises
    ------
    OSError
        If no socket can be opened.
    """
    endpoint = Endpoint(Identity(node_id=0, service=service, name=""), keys)
    endpoint.takes_from = address.__eq__
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    give_up = time.monotonic() + seconds
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        while (now := time.monotonic()) < give_up:
            endpoint.greet(address, Domain.STATUS, now)
            status = _exchange(sock, endpoint, address, min(give_up, now + _AGAIN))
            if status is not None:
                return status
    return None


def _exchange(
    sock: socket.socket, endpoint: Endpoint, address: Address, until: float
) -> NodeStatus | ForeignService | None:
    """Send the endpoint's datagrams and receive answers, until the status is there or the time is over."""
    while True:
        for data, to in endpoint.datagrams_to_send():
            try:
                sock.sendto(data, tuple(to))
            except OSError:
                continue  # it is sent again
        remaining = until - time.monotonic()
        if remaining <= 0:
            return None
        sock.settimeout(remaining)
        try:
            data, source = sock.recvfrom(_DATAGRAM_MAX)
        except TimeoutError:
            return None
        except OSError:
            continue
        now = time.monotonic()
        event = endpoint.receive_datagram_untrusted(data, Address.of_sockaddr(source), now)
        match event:
            case PeerConfirmed(peer=peer) if peer.address == address:
                endpoint.send(peer, StatusRequest(), now)
            case Received(message=Status(node=status)):
                return status
            case ForeignService():
                return event
