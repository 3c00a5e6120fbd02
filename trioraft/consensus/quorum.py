"""Check-quorum: a leader goes on only while a quorum answers it (thesis 6.2), and its disk does."""

from typing import Final

from trioraft.clock import LONG_AGO, NEVER
from trioraft.consensus.leader_work import work_deadline
from trioraft.consensus.lease import contact_end
from trioraft.consensus.roles import become_follower
from trioraft.consensus.state import Role, State
from trioraft.messages import Instant

# How long a disk that is well may take for a large write, in seconds.
_LARGE_WRITE: Final = 1.0


def quorum_deadline(s: State) -> Instant:
    """Compute when this leader must step down unless a quorum answers before (thesis 6.2).

    A new leader has a lower election timeout to get its first lease. A leader that lost its lease may not get it back
    in the same term, because its leader work has been ended.
    """
    if s.role is not Role.LEADER:
        return NEVER
    end = contact_end(s)
    return s.leader_since + s.timing.lower if end == LONG_AGO else end


def disk_deadline(s: State) -> Instant:
    """Compute when this leader must step down unless its disk answers before.

    Where nobody waits for entries to be on disk, they are written in large parts. Beside a program that is busy, and
    at a snapshot, such a write may take a few tenths of a second on a disk that is well.
    """
    if s.role is not Role.LEADER:
        return NEVER
    patience = s.timing.lower if s.ledger.log_waits else max(s.timing.lower, _LARGE_WRITE)
    return s.ledger.waiting_since + patience


def check_quorum(s: State, now: Instant) -> None:
    """Step down when the lease has ended, when leader work ends by itself, or when the disk is stuck."""
    if s.role is not Role.LEADER:
        return
    if quorum_deadline(s) <= now:
        become_follower(s, s.term, now, "no quorum has answered for a lower election timeout")
    elif work_deadline(s) <= now:
        become_follower(s, s.term, now, "leader work was not told of a longer lease in time")
    elif disk_deadline(s) <= now:
        become_follower(s, s.term, now, "the disk has been stuck for an election timeout")
