"""What requests need to know of the nodes around this one."""

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
        Who is there, and where.
    upgrades : Upgrades
        Which versions they speak.
    steering : Steering
        Who may leave.
    """

    def __init__(self, neighbours: Neighbours, upgrades: Upgrades, steering: Steering) -> None:
        self._neighbours = neighbours
        self._upgrades = upgrades
        self._steering = steering

    def address_of(self, node: NodeId) -> str:
        """Return the ``ip:port`` of a node, or nothing."""
        return self._neighbours.address_of(node)

    def reachable(self) -> int:
        """Return how many voters were heard lately, this node included."""
        return self._neighbours.reachable_voters()

    def names(self) -> Mapping[NodeId, str]:
        """Return what people call the nodes."""
        return self._neighbours.names()

    def let_leave(self, node: NodeId, now: Instant) -> Declined | None:
        """Begin to remove a member that is about to stop; return why not, or None."""
        return self._steering.let_leave(node, now)

    def why_not_join(self, node: NodeId) -> str | None:
        """Return why a node cannot become a member, or None."""
        return self._upgrades.why_not_join(node)

    def require(self, needed: Version, speaks: Version) -> None:
        """Raise what is said of something that needs a version which the cluster does not speak yet."""
        self._upgrades.require(needed, speaks)
