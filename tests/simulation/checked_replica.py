"""A replica that is looked at after each entry."""

from typing import TYPE_CHECKING, Protocol

from trioraft.messages import Entry
from trioraft.replica.machine import StateMachine
from trioraft.replica.sessions import Replica, Result

if TYPE_CHECKING:
    from tests.simulation.host import Process


class Digested(StateMachine, Protocol):
    """A state machine with a digest of all that it was told."""

    digest: int


class CheckedReplica(Replica):
    """The replica of one process: entries follow each other, and leave the state that they have left elsewhere."""

    def __init__(self, process: "Process", machine: Digested) -> None:
        super().__init__(machine)
        self._process = process
        self._digested = machine

    def apply(self, index: int, entry: Entry) -> Result:
        """Apply an entry, and look at what comes of it."""
        checks = self._process.world.checks.log
        checks.applying(self._process, index, self.applied_index)
        result = super().apply(index, entry)
        checks.state_is(self._process, index, self._digested.digest)
        return result
