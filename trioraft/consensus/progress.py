"""The progress of followers: what is in flight to each, whether it keeps up, whether it knows of its removal.

A leader of many followers must not look at all of them for every answer of one. So each rule that changes something
about a follower says so (:func:`look_again`); at the end of a turn the leader looks at those, and at all of them only
when its log has grown.
"""

from typing import Final

from trioraft.clock import LONG_AGO, NEVER
from trioraft.consensus.state import Follower, InFlight, LogMark, State
from trioraft.messages import Instant, NodeId

# Of so few followers that owe an answer the leader looks at all to find the first deadline.
_FEW: Final = 8


def add_follower(s: State, node: NodeId, now: Instant) -> None:
    """Begin to send to a node of which the leader knows only that it was heard a moment ago."""
    s.followers[node] = Follower(next_index=max(1, s.log.last_index), heard_at=now)
    look_again(s, node)


def release_follower(s: State, node: NodeId, now: Instant) -> None:
    """Send a node that is no member what tells it so, and then stop sending to it.

    A removed node is sent nothing that comes after the configuration that removed it.
    """
    follower = s.followers[node]
    follower.leaves_at = min(follower.leaves_at, now + s.timing.upper)
    if node in s.configuration.departed:
        follower.last_needed = s.log.absent_since(node)
        follower.next_index = max(1, min(follower.next_index, follower.last_needed))


# --- at the end of a turn -----------------------------------------------------------------------------------


def look_again(s: State, node: NodeId) -> None:
    """Have the leader look at a follower at the end of this turn, because something has changed about it."""
    s.changed[node] = s.followers[node]


def look_at_all(s: State) -> None:
    """Have the leader look at all followers at the end of this turn."""
    s.looked_at = 0


def to_look_at(s: State) -> dict[NodeId, Follower]:
    """Return the followers that may have to be sent something: all of them where the log has grown."""
    if s.log.last_index == s.looked_at:
        return s.changed
    s.looked_at = s.log.last_index
    s.changed.update(s.followers)
    return s.changed


def look_at_owing(s: State) -> None:
    """Have the leader look at all followers that owed an answer, now that some were sent something again."""
    s.changed.update(s.owing)
    s.resend_at = NEVER


def note_deadlines(s: State) -> None:
    """Note which followers owe an answer now, and from when on something must be sent again to one of them.

    While many owe one, that time may be too early, because others have answered since; then the timer looks in vain.
    """
    for node, follower in s.changed.items():
        due_at = follower.due_at
        if due_at == NEVER or s.followers.get(node) is not follower:
            s.owing.pop(node, None)
        else:
            s.owing[node] = follower
            s.resend_at = min(s.resend_at, due_at)
    s.changed.clear()
    if len(s.owing) <= _FEW:
        s.resend_at = min((follower.due_at for follower in s.owing.values()), default=NEVER)


# --- in flight ----------------------------------------------------------------------------------------------


def put_in_flight(follower: Follower, sequence: int, message: InFlight) -> None:
    """Note that a message with entries is on its way."""
    follower.in_flight[sequence] = message
    follower.in_flight_bytes += message.size


def take_from_flight(follower: Follower, sequence: int) -> bool:
    """Note that a message is not on its way any more; return False when it was not, or had no entries."""
    message = follower.in_flight.pop(sequence, None)
    if message is not None:
        follower.in_flight_bytes -= message.size
    return message is not None


def drop_matched(follower: Follower) -> None:
    """Take all messages from flight whose entries the follower has. They are in the order of their entries."""
    while follower.in_flight:
        sequence, message = next(iter(follower.in_flight.items()))
        if message.last_index > follower.match_index:
            return
        take_from_flight(follower, sequence)


def drop_in_flight(follower: Follower) -> None:
    """Take all messages from flight, because they are sent again, or something else is."""
    follower.in_flight.clear()
    follower.in_flight_bytes = 0


# --- at each heartbeat --------------------------------------------------------------------------------------


def note_progress(s: State, now: Instant) -> None:
    """Note, at each regular heartbeat, which followers have the log of an earlier one; drop removed nodes in time."""
    leaving = []
    mark = LogMark(now, s.log.last_index)
    for node, follower in s.followers.items():
        if follower.match_index >= follower.mark.last_index:
            follower.current_at = follower.mark.at
            follower.mark = mark
        if follower.leaves_at <= now:
            leaving.append(node)
    for node in leaving:
        look_again(s, node)
        del s.followers[node]


def is_current(s: State, node: NodeId, now: Instant) -> bool:
    """Check whether a follower keeps up: it has all that this leader had a lower election timeout ago."""
    follower = s.followers.get(node)
    if follower is None or now - follower.heard_at >= s.timing.lower:
        return False
    return follower.match_index >= s.log.last_index or now - follower.current_at <= s.timing.lower


def note_departed(s: State, node: NodeId, matched: int, sent_at: Instant, now: Instant) -> None:
    """Stop sending to a removed node, once its answer shows that it knows of its removal.

    It knows when it has the configuration that removed it, and has answered a message that was sent after that one,
    and any after it, was committed.
    """
    follower = s.followers[node]
    if follower.leaves_at == NEVER:
        return
    if matched >= follower.last_needed and sent_at > s.settled_at > LONG_AGO:
        del s.followers[node]
    else:
        follower.leaves_at = now + s.timing.upper
