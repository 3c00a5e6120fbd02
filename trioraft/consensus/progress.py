"""The progress of followers: whether each keeps up, and whether a removed node knows of its removal."""

from trioraft.clock import LONG_AGO, NEVER
from trioraft.consensus.state import Follower, LogMark, State
from trioraft.messages import Instant, NodeId


def new_follower(s: State, now: Instant, *, leaves_at: Instant = NEVER) -> Follower:
    """Make the progress of a node that the leader begins to send to, knowing only that it was heard a moment ago."""
    return Follower(next_index=max(1, s.log.last_index), heard_at=now, leaves_at=leaves_at)


def note_progress(s: State, now: Instant) -> None:
    """Note, at each regular heartbeat, which followers have the log of an earlier one; drop removed nodes in time."""
    for follower in s.followers.values():
        mark = follower.mark
        if follower.match_index >= mark.last_index:
            follower.current_at = mark.at
            follower.mark = LogMark(now, s.log.last_index)
    if any(follower.leaves_at <= now for follower in s.followers.values()):
        s.followers = {node: follower for node, follower in s.followers.items() if follower.leaves_at > now}


def is_current(s: State, node: NodeId, now: Instant) -> bool:
    """Check whether a follower keeps up: it has all that this leader had a lower election timeout ago."""
    follower = s.followers.get(node)
    if follower is None or now - follower.heard_at >= s.timing.lower:
        return False
    return follower.match_index >= s.log.last_index or now - follower.current_at <= s.timing.lower


def note_departed(s: State, node: NodeId, matched: int, sent_at: Instant, now: Instant) -> None:
    """Stop sending to a removed node, once its answer shows that it knows of its removal.

    It knows when it has the configuration that removed it, and has answered a message that was sent after that one
    was committed.
    """
    follower = s.followers[node]
    if follower.leaves_at == NEVER:
        return
    if matched >= s.log.configuration_index and sent_at > s.settled_at > LONG_AGO:
        del s.followers[node]
    else:
        follower.leaves_at = now + s.timing.upper
