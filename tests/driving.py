"""A member around a core, for tests that bring their own network, disk and time."""

from collections.abc import Callable

from trioraft.consensus import Core
from trioraft.node.member import Member
from trioraft.node.proposals import nothing_required
from trioraft.node.replicated import Replicated
from trioraft.replica.machine import NothingToReplicate, StateMachine
from trioraft.replica.sessions import Replica


def member_around(core: Core, clock: Callable[[], float], machine: StateMachine | None = None) -> Member:
    """Make a member that no client asks anything."""
    replica = Replica(NothingToReplicate() if machine is None else machine)
    return Member(Replicated.of(core, replica, clock, first_read=1000, require=nothing_required))
