"""Tallies: a value that a quorum of voters has reached, computed anew only when it can have grown."""

from collections.abc import Mapping
from dataclasses import dataclass

from trioraft.clock import LONG_AGO
from trioraft.consensus.configuration import Configuration
from trioraft.messages import NodeId


@dataclass(slots=True)
class Tally:
    """The largest value that a quorum has reached in a leader's term: an index, or a time. No voter's value falls.

    The value grows only when a majority of the voters have gone beyond it. So a leader counts the other voters that
    have, one by one as they answer, and looks at all of them only when they can be enough together with itself. That
    is once in a round of messages, however many answers the round has.

    Attributes
    ----------
    value : float
        The value, as it was computed last.
    configuration : Configuration or None
        The configuration for which it was computed; None when it never was.
    beyond : int
        The number of other voters that have reached more since.
    """

    value: float = LONG_AGO
    configuration: Configuration | None = None
    beyond: int = 0

    def note(self, voter: NodeId, before: float, after: float) -> None:
        """Note that the value of another node has grown.

        Parameters
        ----------
        voter : int
            The node; it does not count when it is no voter.
        before, after : float
            Its value, before and now.
        """
        if before <= self.value < after and self.configuration and voter in self.configuration.elector_set:
            self.beyond += 1

    def may_have_grown(self, configuration: Configuration) -> bool:
        """Check whether the value must be computed anew.

        Parameters
        ----------
        configuration : Configuration
            The configuration that is in force now.

        Returns
        -------
        bool
            Whether a quorum may have reached more, or the configuration is another one.
        """
        return self.configuration is not configuration or self.beyond >= len(configuration.voters) // 2

    def compute(self, configuration: Configuration, values: Mapping[NodeId, float], leader: NodeId) -> None:
        """Compute the value anew.

        Parameters
        ----------
        configuration : Configuration
            The configuration that is in force now.
        values : mapping of int to float
            The value of each node, the leader's own included.
        leader : int
            The leader, which is not counted.
        """
        self.configuration = configuration
        self.value = configuration.quorum_value(values)
        self.beyond = sum(
            value > self.value
            for node, value in values.items()
            if node != leader and node in configuration.elector_set
        )
