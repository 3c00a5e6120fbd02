"""Mixed versions: machines with older software at first, which are upgraded some time, one after the other."""

from typing import TYPE_CHECKING, Any

from tests.simulation.trace import name
from trioraft.consensus.events import TooOld
from trioraft.messages import AppendEntriesRequest, ClientRequest, LeadershipEnded, ProposeBatch
from trioraft.versions import BATCHES_FROM, ENDS_FROM, SPOKEN, Versions, added_in

if TYPE_CHECKING:
    from tests.simulation.host import Host
    from tests.simulation.simulation import Simulation


def first_versions(world: "Simulation") -> Versions:
    """Draw what a machine's software speaks at first."""
    if not world.profile.older or world.random.random() >= world.profile.older:
        return SPOKEN
    return Versions(SPOKEN.lowest, world.random.randrange(SPOKEN.lowest, SPOKEN.highest))


def upgrade(host: "Host") -> bool:
    """Let the next process on a machine be of the newer software; tell whether that makes a difference."""
    if host.versions == SPOKEN:
        return False
    host.versions = SPOKEN
    host.world.turn(f"{name(host.node)} is upgraded")
    return True


def check_understood(host: "Host", message: Any) -> None:
    """Check that older software is not sent what only the newer one knows; nobody is ever put back to it.

    A node that knows of its removal takes nothing in. Its leader may send it more until it has heard of that.
    """
    state = host.process.core.state if host.process is not None else None
    if state is not None and state.hard.removed:
        return
    if isinstance(message, LeadershipEnded) and host.versions.highest < ENDS_FROM:
        host.world.checks.fail(f"{name(host.node)} is older, and is told that a leadership has ended")
    if isinstance(message, AppendEntriesRequest) and host.versions != SPOKEN:
        for entry in message.entries:
            if added_in(entry.kind) > host.versions.highest:
                host.world.checks.fail(f"{name(host.node)} is older, and is sent an entry of kind {entry.kind.name}")


def check_asked(host: "Host", request: ClientRequest) -> None:
    """Check that older software is not asked for what only the newer one knows."""
    if isinstance(request.command, ProposeBatch) and host.versions.highest < BATCHES_FROM:
        host.world.checks.fail(f"{name(host.node)} is older, and is asked for a batch")


def check_new_enough(host: "Host", event: object) -> None:
    """Check that no member is left behind in a cluster that has gone on; who is removed may hear of that late."""
    if isinstance(event, TooOld):
        in_force = [other.process.core.configuration for other in host.world.hosts if other.process is not None]
        if any(each.version >= event.version and host.node in each.members for each in in_force):
            host.world.checks.fail(f"{name(host.node)} is too old for its cluster")
