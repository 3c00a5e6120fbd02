"""What must hold of leaderships that ended with their processes: who says so, and who may go by it."""

from typing import TYPE_CHECKING

from tests.simulation.trace import name
from trioraft.messages import LeadershipEnded

if TYPE_CHECKING:
    from tests.simulation.checks import Checks
    from tests.simulation.host import Process


class EndingChecks:
    """Which process led each term, and which nodes have heard that it has ended."""

    def __init__(self, checks: "Checks") -> None:
        self._checks = checks
        self._led: dict[int, Process] = {}  # term: the process that won it
        self._known: dict[int, int] = {}  # node: the newest term of which it may know that its leader's process ended

    def elected(self, process: "Process", term: int) -> None:
        """Note which process won a term."""
        self._led[term] = process

    def leaves(self, process: "Process", message: LeadershipEnded) -> None:
        """Check that only the node that led says so, and that its process has ended."""
        world, host, term = self._checks.world, process.host, message.term
        led = self._led.get(term)
        if led is None or led.host is not host or led is host.process:
            self._checks.fail(f"{name(host.node)} says that its leadership of term {term} has ended")
        world.count["ends of work told" if message.work_ended else "ends of leaderships told"] += 1
        self._knows(host.node, term)

    def heard(self, process: "Process", message: LeadershipEnded) -> None:
        """Note who has heard of an end."""
        self._knows(process.host.node, message.term)

    def _knows(self, node: int, term: int) -> None:
        self._known[node] = max(self._known.get(node, 0), term)

    def is_known(self, node: int, term: int) -> bool:
        """Tell whether a node may know that the leadership of a term has ended; those before it have ended too."""
        return term <= self._known.get(node, 0)
