"""Heartbeats, the answers to all of the leader's messages, and the quorum that a leader must keep.

One message to each follower; nobody waits for anybody. A heartbeat that is not answered is sent again after
``max(2 × RTT, heartbeat / 5)``, with a number of its own, so that the answer tells which sending it answers and
the leader can count the promise from the right moment. A follower that has been silent for an election timeout
gets only the regular heartbeats.

Nodes need not have the same timeouts, for these are changed on one node after the other. What is told to others are
durations, so leases and claims hold whatever the others go by. But a follower with a shorter election timeout than
the leader's would take a leader for dead whose heartbeats come in its own pace. It says how long its timeout is, for
that is what it promises; so the leader sends several heartbeats within the shortest of them.
"""

from typing import Final

from trioraft.consensus.leader_work import remember_claim, work_claim, work_deadline
from trioraft.consensus.lease import contact_end, promise, promised_until
from trioraft.consensus.ledger import NEVER, After
from trioraft.consensus.progress import note_departed, note_progress
from trioraft.consensus.replication import (
    advance_commit_index,
    follow_commit_index,
    note_match,
    store_entries,
)
from trioraft.consensus.roles import become_follower, follow, reset_election_timer
from trioraft.consensus.state import LONG_AGO, Follower, Role, State
from trioraft.messages import AppendEntriesRequest, AppendEntriesResponse

# So many heartbeats are sent within the shortest election timeout, unless the leader's own settings say fewer; but no
# two of them in less than so many seconds.
_WITHIN_TIMEOUT: Final = 4
_SHORTEST_INTERVAL: Final = 0.005


def heartbeat(s: State, now: float) -> AppendEntriesRequest:
    """Make the next heartbeat, which is the same for all.

    It names the newest committed entry, so that a follower that was restarted learns how far its log is committed.
    """
    s.sequence += 1
    return AppendEntriesRequest(
        term=s.term,
        sequence=s.sequence,
        work=work_claim(s, now),
        prev_log_index=s.commit_index,
        prev_log_term=s.log.term_at(s.commit_index) or 0,
        commit_index=s.commit_index,
    )


def interval(s: State) -> float:
    """Tell how long after a regular heartbeat the next one is sent: several come within any follower's timeout."""
    within = min(_WITHIN_TIMEOUT, s.timing.lower / s.timing.heartbeat)
    shortest = min([follower.promise for follower in s.followers.values()], default=NEVER)
    return min(s.timing.heartbeat, max(shortest / within, _SHORTEST_INTERVAL))


def send_heartbeats(s: State, now: float) -> None:
    """Send the regular heartbeat to all followers, the same to each."""
    note_progress(s, now)
    request = heartbeat(s, now)
    for node, follower in s.followers.items():
        send_to_follower(s, node, follower, request, now)
    s.heartbeat_sent_at = now
    s.heartbeat_at = now + interval(s)


def send_to_follower(s: State, node: int, follower: Follower, request: AppendEntriesRequest, now: float) -> None:
    """Send a heartbeat to one follower, and note when. It does not wait for the disk: the term is there."""
    follower.sent = {number: at for number, at in follower.sent.items() if now - at < s.timing.lower}
    follower.sent[request.sequence] = now
    follower.heartbeat_sequence = request.sequence
    silent = now - max(follower.heard_at, s.leader_since) > s.timing.lower
    due = NEVER if silent else now + s.timing.resend(s.round_trip(node))
    # A regular heartbeat does not put off sending again what was not answered before it.
    follower.resend_at = due if follower.resend_at <= now else min(follower.resend_at, due)
    s.outbox.send(node, request, After.NOTHING)


def resend_unanswered(s: State, now: float) -> None:
    """Send the heartbeat again to those who have not answered the last one."""
    for node, follower in s.followers.items():
        if follower.resend_at <= now:
            send_to_follower(s, node, follower, heartbeat(s, now), now)


def handle_append_entries(s: State, sender: int, request: AppendEntriesRequest, now: float) -> None:
    """Follow the leader of the current or a newer term (Raft, figure 2, AppendEntries 1)."""
    if request.term < s.term or (s.role is Role.LEADER and request.term == s.term):
        # It names no message: this leader may lead again by now, and count in this term as it did in the other.
        s.outbox.send(
            sender, AppendEntriesResponse(term=s.term, sequence=0, promise=0.0, matched=0, last_choice=False)
        )
        return
    if request.term > s.term or s.role is not Role.FOLLOWER:
        become_follower(s, request.term, now, f"a leader of term {request.term} was elected")
    follow(s, sender)
    s.inconclusive = 0
    seconds = promise(s, now)
    reset_election_timer(s, now)
    if request.sequence > s.heard_sequence:
        s.heard_sequence = request.sequence
        remember_claim(s, request.term, request.work, now)
    is_heartbeat = not request.entries
    stored = store_entries(s, request, now) or is_heartbeat
    follow_commit_index(s, request)
    response = answer(s, request, seconds, now, rejected=not stored)
    s.outbox.send(sender, response, After.HARD_STATE if is_heartbeat or not stored else After.LOG)


def answer(
    s: State, request: AppendEntriesRequest, seconds: float, now: float, *, rejected: bool = False
) -> AppendEntriesResponse:
    """Make the answer to a leader's message."""
    agreed = s.log.last_not_after(request.prev_log_index, request.prev_log_term) if rejected else 0
    return AppendEntriesResponse(
        term=s.term,
        sequence=request.sequence,
        promise=seconds,
        # The answer to entries leaves when they are on disk, that to a heartbeat at once.
        matched=s.matched_index if request.entries and not rejected else min(s.matched_index, s.outbox.durable_index),
        last_choice=now < s.last_choice_until,
        hint_index=agreed,
        hint_term=(s.log.term_at(agreed) or 0) if rejected else 0,
        rejected=rejected,
    )


def handle_append_entries_response(s: State, sender: int, response: AppendEntriesResponse, now: float) -> None:
    """Count a follower's promise from when the message it answers was sent, and learn what it has."""
    follower = s.followers.get(sender)
    if response.term > s.term and (follower is None or follower.leaves_at == NEVER):
        become_follower(s, response.term, now, f"a follower knows term {response.term}")
        return
    if s.role is not Role.LEADER or response.term != s.term or follower is None:
        return
    sent_at = follower.sent.pop(response.sequence, None)
    if sent_at is None:
        return
    s.measure_round_trip(sender, now - sent_at)
    follower.heard_at = now
    follower.answered_sent_at = max(follower.answered_sent_at, sent_at)
    follower.last_choice = response.last_choice
    follower.promised_until = max(follower.promised_until, promised_until(s, sent_at, response.promise))
    if 0 < response.promise != follower.promise:
        follower.promise = response.promise
        s.heartbeat_at = min(s.heartbeat_at, s.heartbeat_sent_at + interval(s))
    follower.answered = max(follower.answered, response.sequence)
    if follower.answered >= follower.heartbeat_sequence:
        follower.resend_at = NEVER
    note_match(s, sender, follower, response, now)
    advance_commit_index(s)
    note_departed(s, sender, response.matched, sent_at, now)


def quorum_deadline(s: State) -> float:
    """Tell when this leader must step down unless a quorum answers until then.

    Only one that never had a lease waits for its first; one that lost it may not get it back in the same term,
    for its leader work has been ended.
    """
    if s.role is not Role.LEADER:
        return NEVER
    end = contact_end(s)
    return s.leader_since + s.timing.lower if end == LONG_AGO else end


def disk_deadline(s: State) -> float:
    """Tell when this leader must step down unless its disk answers until then."""
    return s.outbox.waiting_since + s.timing.lower if s.role is Role.LEADER else NEVER


def check_quorum(s: State, now: float) -> None:
    """Step down without a lease, when leader work ends by itself, or when the disk was stuck for too long."""
    if quorum_deadline(s) <= now:
        become_follower(s, s.term, now, "no quorum has answered for a lower election timeout")
    elif work_deadline(s) <= now:
        become_follower(s, s.term, now, "leader work was not told of a longer lease in time")
    elif disk_deadline(s) <= now:
        become_follower(s, s.term, now, "the disk has been stuck for a lower election timeout")
