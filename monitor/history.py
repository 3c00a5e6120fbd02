"""The elections that the monitor has learned of, including those that no node remembers any more."""

import math
from typing import Final

from msgspec import Struct

from trioraft.messages import NodeStatus

_KEPT: Final = 50
_CLOCK_NOISE: Final = 0.1  # seconds; two accounts of one moment differ by delay and by the nodes' clocks


class SeenElection(Struct, frozen=True):
    """An election that was won.

    Attributes
    ----------
    cluster_id : str or None
        The cluster.
    term : int
        The term.
    leader : str
        The id of the node that won.
    name : str
        The name of that node; empty when it is not known.
    at : float
        When the first node learned of it, in seconds since 1970 on the monitor's clock.
    """

    cluster_id: str | None
    term: int
    leader: str
    name: str
    at: float


class ElectionHistory:
    """The elections, from the reports of the nodes and from the leaders that were seen."""

    def __init__(self) -> None:
        self._elections: dict[tuple[str | None, int], SeenElection] = {}

    def record(self, status: NodeStatus, heard: float) -> None:
        """Record the elections in a node's status.

        Parameters
        ----------
        status : NodeStatus
            The status of the node.
        heard : float
            When the status came, in seconds since 1970 on the monitor's clock.
        """
        for election in status.elections:
            ago = election.seconds_ago
            if election.leader and math.isfinite(ago) and 0 <= ago <= heard:
                self._note(status.cluster_id, election.term, election.leader, heard - ago)
        if status.role == "leader":
            self._note(status.cluster_id, status.term, status.id, heard)
        elif status.leader:
            self._note(status.cluster_id, status.term, status.leader, heard)

    def _note(self, cluster_id: str | None, term: int, leader: str, at: float) -> None:
        key = (cluster_id, term)
        known = self._elections.get(key)
        if known is None or at < known.at - _CLOCK_NOISE:
            self._elections[key] = SeenElection(cluster_id, term, leader, "", at)
        while len(self._elections) > _KEPT:
            del self._elections[min(self._elections, key=lambda oldest: self._elections[oldest].at)]

    def recent(self, names: dict[str, str]) -> tuple[SeenElection, ...]:
        """List the elections.

        Parameters
        ----------
        names : dict of str to str
            The nodes' names by their ids, as far as they are known.

        Returns
        -------
        tuple of SeenElection
            The elections, newest first.
        """
        named = [
            SeenElection(one.cluster_id, one.term, one.leader, names.get(one.leader, ""), one.at)
            for one in self._elections.values()
        ]
        return tuple(sorted(named, key=lambda one: (one.at, one.term), reverse=True))
