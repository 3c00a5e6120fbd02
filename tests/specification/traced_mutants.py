"""Seeded bugs of the simulator whose traces are no behaviours of the specifications."""

import contextlib
from typing import Final, NamedTuple

from tests.simulation.mutants import MUTANTS


class TracedMutant(NamedTuple):
    """A bug, in whose traces it shows, and how many seeds it takes at most.

    Attributes
    ----------
    name : str
        The name that it has among the simulator's mutants.
    kind : str
        The kind of trace.
    profile : str
        The simulator's profile.
    first, seeds : int
        The first seed that is tried, and how many are.
    """

    name: str
    kind: str
    profile: str
    first: int
    seeds: int = 10

    def applied(self) -> contextlib.AbstractContextManager[None]:
        """Have the bug for a while."""
        return next(mutant for mutant in MUTANTS if mutant.name == self.name).applied()


TRACED_MUTANTS: Final = (
    TracedMutant("vote although a leader was heard of a moment ago", "elections", "election", 2),
    TracedMutant("vote twice in a term", "elections", "election", 11),
    TracedMutant("let a pre-vote raise the term", "elections", "election", 1),
    TracedMutant("lead on without a quorum", "elections", "election", 1),
    TracedMutant("forget the vote at a restart", "elections", "restart", 1),
    TracedMutant("forget the length of the promise at a restart", "elections", "restart", 5),
    TracedMutant("vote at once after a restart", "elections", "restart", 5),
    TracedMutant("count the lease from the receipt of an answer", "elections", "lease", 0),
    TracedMutant("take all clocks for equal in leases", "elections", "drift", 0),
    TracedMutant("take a formation for standing with most promises", "formations", "formation", 0),
    TracedMutant("start leader work without waiting", "work", "work", 0),
    TracedMutant("claim less leader work than there may be", "work", "work", 0),
    TracedMutant("forget the claim of leader work at a restart", "work", "restart", 0),
    TracedMutant("offer leadership while leader work runs", "work", "transfer", 0),
    TracedMutant("take all clocks for equal in leader work", "work", "drift", 0),
)
