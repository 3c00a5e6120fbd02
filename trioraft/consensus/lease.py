"""Promises and leases: why nobody can be elected while a leader's lease runs (thesis 6.4.1, 9.6).

A node that heard from a leader refuses to vote for anybody else for a lower election timeout. It says so in
its answer to the heartbeat, and the leader counts that promise from when it *sent* the heartbeat, which is
earlier, less the clock drift. What a quorum has promised in this way is the leader's lease.

A promise must outlive its node's restart. A node does not keep when it promised, which would be a write for
each heartbeat; it keeps how long its longest promise was, and behaves after a start as if it had given that one
at that moment. When its election timeout was made shorter, it keeps the shorter promise once none that it gave
holds for longer. A node that never promised anything has nothing to wait for: that is the first election after
the formation.
"""

from typing import Final

import msgspec

from trioraft.clock import LONG_AGO
from trioraft.consensus.configuration import Configuration
from trioraft.consensus.state import Role, State
from trioraft.consensus.timing import there
from trioraft.messages import Instant, Seconds

# Adding to a time and taking away again rounds; that is no reason to write.
_TOLERANCE: Final = 1e-6


def is_sticky(s: State, now: Instant) -> bool:
    """Tell whether this node refuses votes, because it leads or heard from a leader a moment ago."""
    return s.role is Role.LEADER or now < s.refuse_until


def promise(s: State, now: Instant) -> Seconds:
    """Promise the leader, and give for how many seconds from now, to vote for nobody else."""
    seconds = max(s.timing.lower, s.refuse_until - now)
    s.refuse_until = now + seconds
    longer, shorter = seconds > s.hard.promise + _TOLERANCE, s.hard.promise > seconds == s.timing.lower
    if longer or shorter:
        s.ledger.persist(msgspec.structs.replace(s.hard, promise=seconds))
    return min(seconds, s.hard.promise)


def resume_promise(s: State, now: Instant) -> None:
    """Behave, after a start, as if the longest promise ever given had been given now."""
    if s.hard.promise > 0:
        s.refuse_until = now + max(s.hard.promise, s.timing.lower)


def promised_until(s: State, sent_at: Instant, seconds: Seconds) -> Instant:
    """Tell, as a leader, until when a follower's promise holds on this node's clock.

    No lease is longer than a lower election timeout of the leader's own, for that is what its claims of leader
    work are made of.
    """
    return sent_at + there(min(seconds, s.timing.lower))


def contact_end(s: State, configuration: Configuration | None = None) -> Instant:
    """Tell until when what a quorum promised holds; of this configuration, or of another one."""
    values = {node: follower.promised_until for node, follower in s.followers.items()}
    values[s.id] = promised_until(s, s.heartbeat_sent_at, s.timing.lower)
    return (configuration or s.configuration).quorum_value(values)


def lease_end(s: State) -> Instant:
    """Tell until when this leader has its lease; long ago once it has offered its leadership to another node."""
    if s.handover is not None and s.handover.offered:
        return LONG_AGO
    return contact_end(s)
