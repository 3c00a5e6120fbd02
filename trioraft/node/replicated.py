"""What a member has agreed on with the others, and what came of that: a member without its clients."""

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
        Its consensus, to be fed and looked at.
    replica : Replica
        What commands become.
    proposals : Proposals
        The entries that it has proposed, and who waits for them.
    applying : Applying
        Applies what is committed.
    reads : Reads
        Finds up to where the log must be applied for a read.
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
            What commands become.
        clock : callable
            Returns the time in seconds: for whoever comes between two turns, and to bound how long a slice takes.
        first_read : int
            Questions to leaders are numbered from here; each process of a node begins elsewhere.
        require : callable
            Refuses what the cluster's version does not know.

        Returns
        -------
        Replicated
            The parts.
        """
        proposals = Proposals(core, replica, clock, require)
        applying = Applying(core, replica, proposals, clock)
        return cls(core, replica, proposals, applying, Reads(core, clock, first_read))
