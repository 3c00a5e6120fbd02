"""Judges from answers of DNS for how long members have been absent.

An answer counts only when it is complete and successful, and names addresses of a quorum of the voters: any other
answer does not know the service. The time between two good answers in a row is a time of absence for each member that
is missing from both; a look-up that fails adds nothing and takes nothing away. A member that speaks is present,
whatever DNS said before, and its absence is counted anew. A member is expected where it was last heard: if it moves
while it cannot be heard it is absent, because nobody can tell whose the new address is.

Nothing here asks DNS or reads a clock.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from trioraft.address import Address
from trioraft.clock import LONG_AGO
from trioraft.messages import Instant, NodeId, Seconds


class Heard(NamedTuple):
    """Where and when a node was last heard.

    Attributes
    ----------
    address : Address
        Where.
    at : float
        When.
    """

    address: Address
    at: Instant


class Presence:
    """How long each member has been absent from good answers of DNS."""

    def __init__(self) -> None:
        self._absent: dict[NodeId, Seconds] = {}
        self._good_at = LONG_AGO  # when the last answer came, if it was a good one
        self._missing: frozenset[NodeId] = frozenset()  # from that answer

    def absence(self, node: NodeId) -> Seconds:
        """Return how long a member has certainly been absent.

        Parameters
        ----------
        node : int
            The member.

        Returns
        -------
        float
            Seconds.
        """
        return self._absent.get(node, 0.0)

    def spoke(self, node: NodeId) -> None:
        """Note that a member has just spoken: what DNS said before no longer counts.

        Parameters
        ----------
        node : int
            The member.
        """
        self._absent.pop(node, None)
        self._missing -= {node}

    def unknown(self) -> None:
        """Note a look-up that failed, or an answer that is not complete."""
        self._good_at = LONG_AGO

    def answered(
        self,
        found: frozenset[Address],
        heard: Mapping[NodeId, Heard],
        voters: Collection[NodeId],
        members: Collection[NodeId],
        now: Instant,
    ) -> None:
        """Note a complete answer.

        Parameters
        ----------
        found : frozenset of Address
            The addresses in it.
        heard : mapping of int to Heard
            Where each node was last heard, members and others, this node included.
        voters, members : collection of int
            The voters, and all members.
        now : float
            The time.
        """
        owners = {known.address: node for node, known in sorted(heard.items(), key=lambda item: item[1].at)}
        present = {node for address, node in owners.items() if address in found}
        if 2 * len(present & {*voters}) <= len(voters):
            self.unknown()
            return
        missing = frozenset(members) - present
        if not found <= owners.keys():
            # A member that was never heard may be at an address where no node was heard.
            missing = missing.intersection(heard)
        elapsed = now - self._good_at if self._good_at != LONG_AGO else 0.0
        self._absent = {
            node: self._absent.get(node, 0.0) + (elapsed if node in self._missing else 0.0) for node in missing
        }
        self._good_at, self._missing = now, missing
