"""Who votes, and what a quorum is."""

from collections.abc import Collection, Mapping

from msgspec import Struct


class Configuration(Struct, frozen=True):
    """The voters of a cluster.

    Attributes
    ----------
    voters : tuple of int
        Their node ids, in ascending order.
    """

    voters: tuple[int, ...]

    @property
    def quorum(self) -> int:
        """How many voters are more than half."""
        return len(self.voters) // 2 + 1

    def others(self, node: int) -> tuple[int, ...]:
        """List the voters other than one.

        Parameters
        ----------
        node : int
            The id that is left out.

        Returns
        -------
        tuple of int
            The other voters.
        """
        return tuple(voter for voter in self.voters if voter != node)

    def has_quorum(self, nodes: Collection[int]) -> bool:
        """Tell whether some nodes are a quorum.

        Parameters
        ----------
        nodes : collection of int
            Node ids; those that do not vote do not count.

        Returns
        -------
        bool
            Whether more than half of the voters are among them.
        """
        return sum(voter in nodes for voter in self.voters) >= self.quorum

    def quorum_value(self, values: Mapping[int, float]) -> float:
        """Give the largest value that a quorum has reached.

        Parameters
        ----------
        values : mapping of int to float
            A value for each voter; a missing one counts as minus infinity.

        Returns
        -------
        float
            The largest v such that a quorum of the voters has v or more.
        """
        ranked = sorted((values.get(voter, float("-inf")) for voter in self.voters), reverse=True)
        return ranked[self.quorum - 1]
