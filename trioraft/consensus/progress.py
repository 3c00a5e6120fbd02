"""How far each follower is: whether it keeps up, and whether one that is no member any more knows it."""

from trioraft.clock import LONG_AGO, NEVER
from trioraft.consensus.state import Follower, LogMark, State
from trioraft.messages import Instant, NodeId


def new_follower(s: State, now: Instant, *, leaves_at: Instant = NEVER) -> Follower:
    """Begin to send to a node of which nothing is known but that it was there a moment ago."""
    return Follower(next_index=max(1, s.log.last_index), heard_at=now, leaves_at=leaves_at)


def note_progress(s: State, now: Instant) -> None:
    """At each heartbeat: note who has all that the leader had at an earlier one, and give up who is gone for good."""
    for follower in s.followers.values():
        mark = follower.mark
        if follower.match_index >= mark.last_index:
            follower.current_at = mark.at
            follower.mark = LogMark(now, s.log.last_index)
    if any(follower.leaves_at <= now for follower in s.followers.values()):
        s.followers = {node: follower for node, follower in s.followers.items() if follower.leaves_at > now}


def is_current(s: State, node: NodeId, now: Instant) -> bool:
    """Tell whether a follower keeps up: it has all that this leader had a lower election timeout ago."""
    follower = s.followers.get(node)
    if follower is None or now - follower.heard_at >= s.timing.lower:
        return False
    return follower.match_index >= s.log.last_index or now - follower.current_at <= s.timing.lower


def note_departed(s: State, node: NodeId, matched: int, sent_at: Instant, now: Instant) -> None:
    """Stop sending to a node that has answered, when it knows by now that it is no member any more.

    It does when it has the configuration, and that message told it that this one is committed.
    """
    follower = s.followers[node]
    if follower.leaves_at == NEVER:
        return
    if matched >= s.log.configuration_index and sent_at > s.settled_at > LONG_AGO:
        del s.followers[node]
    else:
        follower.leaves_at = now + s.timing.upper
