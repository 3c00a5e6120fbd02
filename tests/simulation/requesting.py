"""What clients ask of a simulated node: the real requests, and the little around them that there is here."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from trioraft.asking.calls import Calls
from trioraft.asking.session import Session
from trioraft.consensus.log import Placed
from trioraft.errors import BusyError, ProposalError
from trioraft.members.autopilot import Declined
from trioraft.messages import FIRST_VERSION, BackupPart, ClientRequest, Entry, EntryKind, ReadBackup
from trioraft.node.administration import BackupAnswered, Digested
from trioraft.node.proposals import Outcome, Proposals, nothing_required
from trioraft.replica.sessions import Replica, Result

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.host import Process

# How many entries are uncommitted at most; more would only take long.
_UNCOMMITTED_MAX: Final = 200


class CheckedProposals(Proposals):
    """The proposals of one process: what is acknowledged must never be lost."""

    def __init__(self, process: "Process", replica: Replica) -> None:
        super().__init__(process.core, replica, process.clock, nothing_required)
        self._process = process

    def submit(
        self, kind: EntryKind, data: bytes, done: "Callable[[Outcome], None]", needs: int = FIRST_VERSION
    ) -> Placed:
        """Propose an entry, unless much is uncommitted, and note when it is acknowledged."""
        state = self._process.core.state
        if state is not None and state.log.last_index - state.commit_index > _UNCOMMITTED_MAX:
            raise BusyError("busy: so much would only take long here")

        def ended(outcome: Outcome) -> None:
            if isinstance(outcome, Result):
                self._process.world.checks.log.acknowledged(placed.log_index, Entry(placed.term, kind, data), outcome)
            done(outcome)

        placed = super().submit(kind, data, ended, needs)
        return placed


class Surroundings:
    """What a process knows of the others (:class:`trioraft.node.desk.Surroundings`)."""

    def __init__(self, process: "Process") -> None:
        self._process = process

    def address_of(self, node: int) -> str:
        """Return the address of a node, if it is still there."""
        host = self._process.world.host_of(node)
        return "" if host is None else str(host.address)

    def reachable(self) -> int:
        """Return how many nodes have a session with the process, itself included."""
        return 1 + len(self._process.known)

    def names(self) -> Mapping[int, str]:
        """Return no names."""
        return {}

    def let_leave(self, node: int, now: float) -> Declined | None:
        """Decline: members that leave ask the autopilot directly here."""
        return Declined("nobody asks for that here", for_now=False)

    def why_not_join(self, node: int) -> str | None:
        """Let all join."""

    def require(self, needed: int, speaks: int) -> None:
        """Allow everything."""


class NoSession(Session):
    """Carries nothing out elsewhere: what a node's own program proposes there ends with its leadership."""

    def __init__(self, clock: "Callable[[], float]") -> None:
        super().__init__(Calls(NoRoutes(), clock, lambda: None, first=0), clock)


class NoRoutes:
    """Reaches nobody (:class:`trioraft.asking.calls.Routes`)."""

    def send_request(self, node: int, request: ClientRequest) -> bool:
        """Reach nobody."""
        return False

    def reachable_nodes(self) -> list[int]:
        """Reach nobody."""
        return []

    def highest_version(self, node: int) -> int:
        """Reach nobody."""
        return 0

    def meet(self, node: int, address: str) -> None:
        """Reach nobody."""


class NoBackups:
    """Makes none (:class:`trioraft.node.administration.Backups`)."""

    def start(self) -> BackupPart | ProposalError:
        """Decline."""
        return ProposalError("there are no backups here")

    def read(self, asked: ReadBackup, answered: BackupAnswered) -> None:
        """Decline."""
        answered(ProposalError("there are no backups here"))

    def end(self, backup: int) -> None:
        """Have nothing to remove."""


class NoDigests:
    """Makes none (:class:`trioraft.node.administration.Digests`)."""

    def start(self, digested: Digested) -> None:
        """Never answer."""
