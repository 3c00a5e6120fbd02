"""The parts of a member that know nothing of clients: its core, its replica, and what is between them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from trioraft.consensus import Core
from trioraft.messages import Instant
from trioraft.node.apply import Applying
from trioraft.node.proposals import Proposals, Require
from trioraft.node.reads import Reads
from trioraft.replica.sessions import Replica


@dataclass(frozen=True, slots=True)
class Replicated:
    """The parts of a member that know nothing of clients.

    Attributes
    ----------
    core : Core
        Its consensus.
    replica : Replica
        The replicated state.
    proposals : Proposals
        The entries that it has proposed, and the callers that wait for them.
    applying : Applying
        Applies committed entries.
    reads : Reads
        Finds read indexes.
    """

    core: Core
    replica: Replica
    proposals: Proposals
    applying: Applying
    reads: Reads

    @classmethod
    def of(
        cls, core: Core, replica: Replica, clock: Callable[[], Instant], *, first_read: int, require: Require
    ) -> Self:
        """Put the parts together.

        Parameters
        ----------
        core : Core
            The consensus.
        replica : Replica
            The replicated state.
        clock : callable
            Returns the time in seconds, for calls between two turns, and to bound how long a slice takes.
        first_read : int
            The number before that of the first question to a leader; each process of a node begins elsewhere.
        require : callable
            Refuses commands that need a later version than the cluster speaks.

        Returns
        -------
        Replicated
            The parts.
        """
        proposals = Proposals(core, replica, clock, require)
        applying = Applying(core, replica, proposals, clock)
        return cls(core, replica, proposals, applying, Reads(core, clock, first_read))
