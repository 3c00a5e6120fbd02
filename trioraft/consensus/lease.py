"""Promises and leases: why nobody can be elected while a leader's lease runs (thesis 6.4.1, 9.6).

A node that heard from a leader refuses to vote for any other node for a lower election timeout. Its answer to each
AppendEntries states that promise. The leader counts the promise from when it *sent* the message, which is earlier,
and subtracts the clock drift. The time until which a quorum has promised in this way is the leader's lease.

A promise must survive a restart of its node. The time of each promise is not written to the disk, because that would
be a write for each message of the leader. Instead the node keeps the length of its longest promise on disk, and
behaves after a start as if it had given that promise at that moment. When an operator made its election timeout
shorter, the node writes the shorter length once no longer promise holds any more. A node that never promised anything
has nothing to wait for: that is the case at the first election after the formation.
"""

from typing import Final

import msgspec

from trioraft.clock import LONG_AGO
from trioraft.consensus.state import Follower, Role, State
from trioraft.consensus.timing import there
from trioraft.messages import Instant, NodeId, Seconds

# A sum of times, and the difference again, are rounded; a difference as small as that needs no write.
_TOLERANCE: Final = 1e-6


def is_sticky(s: State, now: Instant) -> bool:
    """Check whether this node refuses votes, because it leads or heard from a leader a moment ago (thesis 4.2.3)."""
    return s.role is Role.LEADER or now < s.refuse_until


def promise(s: State, now: Instant) -> Seconds:
    """Promise the leader to vote for no other node, and return for how many seconds from now."""
    seconds = max(s.timing.lower, s.refuse_until - now)
    s.refuse_until = now + seconds
    longer, shorter = seconds > s.hard.promise + _TOLERANCE, s.hard.promise > seconds == s.timing.lower
    if longer or shorter:
        s.ledger.persist(msgspec.structs.replace(s.hard, promise=seconds))
    return min(seconds, s.hard.promise)


def resume_promise(s: State, now: Instant) -> None:
    """Refuse votes after a start as if the longest promise ever given had been given now."""
    if s.hard.promise > 0:
        s.refuse_until = now + max(s.hard.promise, s.timing.lower)


def promised_until(s: State, sent_at: Instant, seconds: Seconds) -> Instant:
    """Compute until when a follower's promise holds on this leader's clock.

    The leader counts no promise for longer than its own lower election timeout, because its claims of leader work are
    computed from that one.
    """
    return sent_at + there(min(seconds, s.timing.lower))


def note_promise(s: State, node: NodeId, follower: Follower, sent_at: Instant, seconds: Seconds) -> None:
    """Note a follower's promise, which it made when it answered a message that was sent at a given time."""
    until = promised_until(s, sent_at, seconds)
    if until > follower.promised_until:
        s.contact.note(node, follower.promised_until, until)
        follower.promised_until = until


def contact_end(s: State) -> Instant:
    """Return until when the promises of a quorum hold."""
    if s.contact.may_have_grown(s.configuration):
        s.contact.compute(s.configuration, promises(s), s.id)
    return s.contact.value


def promises(s: State) -> dict[NodeId, Instant]:
    """List until when each node's promise holds, this leader's own included."""
    values = {node: follower.promised_until for node, follower in s.followers.items()}
    values[s.id] = promised_until(s, s.heartbeat_sent_at, s.timing.lower)
    return values


def lease_end(s: State) -> Instant:
    """Compute until when this leader has its lease; long ago once it has offered its leadership to another node."""
    if s.handover is not None and s.handover.offered:
        return LONG_AGO
    return contact_end(s)
