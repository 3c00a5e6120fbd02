"""The surroundings of a node, as far as requests depend on them."""

from collections.abc import Mapping

from trioraft.members.autopilot import Declined
from trioraft.members.steering import Steering
from trioraft.members.upgrades import Upgrades
from trioraft.messages import Instant, NodeId, Version
from trioraft.node.neighbours import Neighbours


class Around:
    """The surroundings of a node (:class:`trioraft.node.desk.Surroundings`).

    Parameters
    ----------
    neighbours : Neighbours
        The other nodes, and their addresses.
    upgrades : Upgrades
        The versions that they speak.
    steering : Steering
        Decides which nodes may leave.
    """

    def __init__(self, neighbours: Neighbours, upgrades: Upgrades, steering: Steering) -> None:
        self._neighbours = neighbours
        self._upgrades = upgrades
        self._steering = steering

    def address_of(self, node: NodeId) -> str:
        """Return the ``ip:port`` of a node; empty where it is not known."""
        return self._neighbours.address_of(node)

    def reachable(self) -> int:
        """Count the voters that were heard lately, this node included."""
        return self._neighbours.reachable_voters()

    def names(self) -> Mapping[NodeId, str]:
        """Return the names of the nodes."""
        return self._neighbours.names()

    def let_leave(self, node: NodeId, now: Instant) -> Declined | None:
        """Begin to remove a member that is about to stop; return the reason if that is declined."""
        return self._steering.let_leave(node, now)

    def why_not_join(self, node: NodeId) -> str | None:
        """Return why a node cannot become a member; None if it can."""
        return self._upgrades.why_not_join(node)

    def require(self, needed: Version, speaks: Version) -> None:
        """Raise an error if a version is needed that the cluster does not speak yet."""
        self._upgrades.require(needed, speaks)
