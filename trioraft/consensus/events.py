"""Events: what a member tells the program around it."""

from typing import TypeAlias

from msgspec import Struct

from trioraft.consensus.configuration import Configuration
from trioraft.consensus.ledger import SnapshotInfo
from trioraft.messages import Id, Index, Instant, NodeId, OptionalId, Term


class Formed(Struct, frozen=True):
    """The formation that this node promised stands: it is a member of a cluster now."""

    cluster: OptionalId
    members: tuple[NodeId, ...]


class FormationEnded(Struct, frozen=True):
    """The formation that this node promised was refused or abandoned; another one may come."""

    formation: Id
    reason: str


class Joined(Struct, frozen=True):
    """The leader of a cluster has taken this node in."""

    cluster: OptionalId


class ConfigurationChanged(Struct, frozen=True):
    """Another configuration is in force; or the one that is has been committed, and stays."""

    configuration: Configuration
    committed: bool


class Removed(Struct, frozen=True):
    """The node is no member any more, for ever, and its leader work has ended.

    `while_away` when that was decided before this process took part in the cluster, for all that it knows.
    """

    while_away: bool


class ForeignCluster(Struct, frozen=True):
    """A node of another cluster spoke to this one."""

    node: NodeId
    cluster: OptionalId


class BecameLeader(Struct, frozen=True):
    """The node was elected."""

    term: Term


class SteppedDown(Struct, frozen=True):
    """The node leads no more."""

    term: Term
    reason: str


class StartWork(Struct, frozen=True):
    """Leader work may start; it must be told to end at `deadline` unless that is extended."""

    token: int
    deadline: Instant


class ExtendWork(Struct, frozen=True):
    """The lease was renewed until `deadline`."""

    deadline: Instant


class EndWork(Struct, frozen=True):
    """Leader work must be told to end now."""


class ReadReady(Struct, frozen=True):
    """A linearizable read may be answered once everything up to `index` has been applied.

    `by_lease` tells whether that was made sure of by the lease, without asking anybody.
    """

    read: int
    index: Index
    by_lease: bool = False


class NotMeant(Struct, frozen=True):
    """A message was dropped, because no member can mean what is in it; `what` says what that is."""

    node: NodeId
    kind: str
    what: str


class TooOld(Struct, frozen=True):
    """The cluster speaks a version that this node's software does not; 0 where it is not known which.

    The node has taken in nothing of that, and must stop.
    """

    version: int


class StorePart(Struct, frozen=True):
    """A part of a snapshot has come and must be stored, in order; the last one completes it."""

    snapshot: SnapshotInfo
    offset: int
    data: bytes
    is_last: bool


class ReadFailed(Struct, frozen=True):
    """A linearizable read cannot be answered here, because this node leads no more."""

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
