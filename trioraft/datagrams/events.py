"""The events that an endpoint reports to its caller."""

from typing import TypeAlias

import msgspec

from trioraft.address import Address
from trioraft.datagrams.sessions import Peer
from trioraft.messages import Message, OptionalId, OptionalNodeId
from trioraft.versions import Versions


class PeerConfirmed(msgspec.Struct, frozen=True):
    """A peer has proved to be at its address, for the first time or again.

    Attributes
    ----------
    peer : Peer
        The peer.
    previous : Peer or None
        The peer that had its node id before, as it was then; for a client, the same process as it was before. None
        when there was none. Compare `process` to recognize a restart, and `address` to recognize a move.
    address : Address
        The address that was confirmed, which may differ from the one at which the peer is reached.
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
        The message, which is one that this sender may send.
    """

    peer: Peer
    cluster_id: OptionalId
    message: Message


class ForeignService(msgspec.Struct, frozen=True):
    """A process of another service has proved to be at an address.

    Attributes
    ----------
    address : Address
        The address.
    service : str
        Its service name.
    node_id : int
        Its node id; 0 for a client or monitor.
    """

    address: Address
    service: str
    node_id: OptionalNodeId


class OtherVersions(msgspec.Struct, frozen=True):
    """A node of this service, which has proved its address, has no version of the protocol in common with this one.

    Attributes
    ----------
    address : Address
        The address.
    node_id : int
        Its node id.
    name : str
        Its name; empty where it has not said it.
    cluster_id : int
        The cluster that it is a member of; 0 for none.
    versions : Versions
        The versions that it speaks.
    """

    address: Address
    node_id: OptionalNodeId
    name: str
    cluster_id: OptionalId
    versions: Versions


class DuplicateIdentity(msgspec.Struct, frozen=True):
    """Two live processes have one node id, and the messages of the later one are refused. Reported again and again.

    Attributes
    ----------
    node_id : int
        The node id, which may be the own one.
    addresses : tuple of Address
        Where they are, the earlier one first; for the own node id only the address of the other process.
    """

    node_id: OptionalNodeId
    addresses: tuple[Address, ...]


class OwnReflection(msgspec.Struct, frozen=True):
    """A ``Hello`` of this very process came back, so an address that was greeted is its own.

    Attributes
    ----------
    address : Address
        The address that was greeted.
    """

    address: Address


class NotOpened(msgspec.Struct, frozen=True):
    """A sender seems to have other keys.

    Reported at most once in 10 s. It is not authenticated, and so good for a line in the log only.

    Attributes
    ----------
    address : Address
        The address that the datagram seemed to come from.
    reason : str
        What is wrong with the datagram, in words.
    """

    address: Address
    reason: str


Event: TypeAlias = (
    PeerConfirmed | Received | ForeignService | OtherVersions | DuplicateIdentity | OwnReflection | NotOpened
)
