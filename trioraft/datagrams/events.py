"""What an endpoint tells its caller."""

from typing import TypeAlias

import msgspec

from trioraft.address import Address
from trioraft.datagrams.sessions import Peer
from trioraft.messages import Message
from trioraft.versions import Versions


class PeerConfirmed(msgspec.Struct, frozen=True):
    """A peer has proved to be at its address; also when it does so again.

    Attributes
    ----------
    peer : Peer
        The peer.
    previous : Peer or None
        The holder of the same node id (of the same process for a client) as it was before; None when there was
        none. Compare `process` to see a restart and `address` to see a move.
    address : Address
        The address that is confirmed, which may be another one than that at which the peer is reached.
    """

    peer: Peer
    previous: Peer | None
    address: Address


class Received(msgspec.Struct, frozen=True):
    """A message came within a session.

    Attributes
    ----------
    peer : Peer
        Its sender.
    cluster_id : int
        The sender's cluster, 0 while it has none.
    message : Message
        The message; one that this sender may send.
    """

    peer: Peer
    cluster_id: int
    message: Message


class ForeignService(msgspec.Struct, frozen=True):
    """Somebody of another service name is, provably, at an address.

    Attributes
    ----------
    address : Address
        The address.
    service : str
        Its service name.
    node_id : int
        Its node id, 0 for a client or monitor.
    """

    address: Address
    service: str
    node_id: int


class OtherVersions(msgspec.Struct, frozen=True):
    """A node of this service, provably at an address, speaks no version of the protocol that this one does.

    Attributes
    ----------
    address : Address
        The address.
    node_id : int
        Its node id.
    name : str
        Its name; empty where it has not told it.
    cluster_id : int
        The cluster that it is a member of, 0 for none.
    versions : Versions
        What it speaks.
    """

    address: Address
    node_id: int
    name: str
    cluster_id: int
    versions: Versions


class DuplicateIdentity(msgspec.Struct, frozen=True):
    """Two live processes have one node id; the later one's messages are refused. Told again and again.

    Attributes
    ----------
    node_id : int
        The node id; possibly our own.
    addresses : tuple of Address
        Where they are, the earlier one first; with our own node id only the address of the other.
    """

    node_id: int
    addresses: tuple[Address, ...]


class OwnReflection(msgspec.Struct, frozen=True):
    """A ``Hello`` of this very process came back: an address that was greeted is our own.

    Attributes
    ----------
    address : Address
        The address that was greeted.
    """

    address: Address


class NotOpened(msgspec.Struct, frozen=True):
    """Somebody seems to have other keys; told at most once in 10 s. Not authenticated: good for a log line only.

    Attributes
    ----------
    address : Address
        Where the datagram seemed to come from.
    reason : str
        What is wrong with it, in words.
    """

    address: Address
    reason: str


Event: TypeAlias = (
    PeerConfirmed | Received | ForeignService | OtherVersions | DuplicateIdentity | OwnReflection | NotOpened
)
