"""Events: the news that a member has for the program around it."""

from typing import TypeAlias

from msgspec import Struct

from trioraft.consensus.configuration import Configuration
from trioraft.consensus.ledger import SnapshotInfo
from trioraft.messages import Id, Index, Instant, NodeId, OptionalId, Term


class Formed(Struct, frozen=True):
    """The formation that this node promised stands, and the node is a member of a cluster now."""

    cluster: OptionalId
    members: tuple[NodeId, ...]


class FormationEnded(Struct, frozen=True):
    """The formation that this node promised was refused or abandoned; another formation may come."""

    formation: Id
    reason: str


class Joined(Struct, frozen=True):
    """The leader of a cluster has taken this node in."""

    cluster: OptionalId


class ConfigurationChanged(Struct, frozen=True):
    """Another configuration is in force, or the configuration in force has been committed and stays."""

    configuration: Configuration
    committed: bool


class Removed(Struct, frozen=True):
    """The node was removed from the cluster, for ever, and its leader work has ended.

    `while_away` is true when, as far as this process knows, the removal came before it took part in the cluster.
    """

    while_away: bool


class ForeignCluster(Struct, frozen=True):
    """A node of another cluster sent this node a message."""

    node: NodeId
    cluster: OptionalId


class BecameLeader(Struct, frozen=True):
    """The node was elected."""

    term: Term


class SteppedDown(Struct, frozen=True):
    """The node has stopped leading."""

    term: Term
    reason: str


class StartWork(Struct, frozen=True):
    """Leader work may start; it must be told to end at `deadline`, unless the deadline is extended."""

    token: int
    deadline: Instant


class ExtendWork(Struct, frozen=True):
    """The lease was renewed until `deadline`."""

    deadline: Instant


class EndWork(Struct, frozen=True):
    """Leader work must be told to end now."""


class ReadReady(Struct, frozen=True):
    """A linearizable read may be answered once every entry up to `index` has been applied.

    `by_lease` is true when the leader relied on its lease, without asking a quorum.
    """

    read: int
    index: Index
    by_lease: bool = False


class NotMeant(Struct, frozen=True):
    """A message was dropped, because it holds `what`, which no member can mean."""

    node: NodeId
    kind: str
    what: str


class TooOld(Struct, frozen=True):
    """The cluster speaks a version of the protocol that this node's software does not.

    The version is 0 when it is unknown. The node has taken in nothing of it, and must stop.
    """

    version: int


class StorePart(Struct, frozen=True):
    """A part of a snapshot has come and must be stored, in order; the last part completes the snapshot."""

    snapshot: SnapshotInfo
    offset: int
    data: bytes
    is_last: bool


class ReadFailed(Struct, frozen=True):
    """A linearizable read cannot be answered here, because this node does not lead any more."""

    read: int


Event: TypeAlias = (
    ReadReady
    | StorePart
    | ReadFailed
    | Formed
    | Joined
    | ConfigurationChanged
    | Removed
    | FormationEnded
    | ForeignCluster
    | NotMeant
    | TooOld
    | BecameLeader
    | SteppedDown
    | StartWork
    | ExtendWork
    | EndWork
)
