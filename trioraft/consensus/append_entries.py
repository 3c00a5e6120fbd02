"""AppendEntries (Raft, sections 5.3 and 5.4.2): the leader sends, the receiver stores, the leader counts answers.

One message to each follower; nobody waits for anybody. A heartbeat that is not answered is sent again after
``max(2 × RTT, heartbeat / 5)``, with a number of its own, so that the answer tells which sending it answers and
the leader can count the promise from the right moment. A follower that has been silent for an election timeout
gets only the regular heartbeats.

Nodes need not have the same timeouts, for these are changed on one node after the other. What is told to others are
durations, so leases and claims hold whatever the others go by. But a follower with a shorter election timeout than
the leader's would take a leader for dead whose heartbeats come in its own pace. It says how long its timeout is, for
that is what it promises; so the leader sends several heartbeats within the shortest of them.

A follower is *probed* with one message at a time until it is known where its log agrees with the leader's; then
several messages are under way, bounded in number and in bytes. A message that a follower cannot use, because it
does not have the entry before, is answered with a hint that skips whole terms, so a diverged log is repaired in as
many round trips as there are terms in which it differs. A message that has overtaken an earlier one is kept until
that has come. What is not acknowledged in time is sent again from the first entry that is missing.

The leader sends while it writes to its own disk (thesis 10.2.1); its own copy counts when it is on disk, as any
other does. An acknowledgement waits for the follower's disk, an answer to a heartbeat does not.
"""

from typing import Final

from trioraft.clock import NEVER
from trioraft.consensus.leader_work import remember_claim, work_claim
from trioraft.consensus.lease import promise, promised_until
from trioraft.consensus.ledger import After
from trioraft.consensus.log import entry_bytes
from trioraft.consensus.progress import note_departed, note_progress
from trioraft.consensus.roles import become_follower, follow, reset_election_timer
from trioraft.consensus.snapshots import send_snapshot
from trioraft.consensus.state import Follower, InFlight, Role, State, count_uncommitted
from trioraft.messages import (
    AppendEntriesRequest,
    AppendEntriesResponse,
    Entry,
    EntryKind,
    Index,
    Instant,
    NodeId,
    Seconds,
)

# So many heartbeats are sent within the shortest election timeout, unless the leader's own settings say fewer; but no
# two of them in less than so many seconds.
_WITHIN_TIMEOUT: Final = 4
_SHORTEST_INTERVAL: Final = 0.005
# What is under way to one follower, at most.
_MESSAGES_MAX: Final = 64
_BYTES_MAX: Final = 512 * 1024
# What is proposed and not committed, at most.
UNCOMMITTED_BYTES_MAX: Final = 16 * 1024 * 1024
# So many followers' rejections of later messages tell that an earlier one was lost, not just overtaken (TCP's
# three duplicate acknowledgements, RFC 5681).
_OVERTAKEN_MAX: Final = 3
# How fast entries arrive at least, before they are taken for lost, in bytes per second; and how often the time for
# that doubles while nothing is acknowledged.
_SLOWEST: Final = 1024 * 1024
_DOUBLINGS_MAX: Final = 5


# --- the leader: heartbeats ----------------------------------------------------------------------------------


def heartbeat(s: State, now: Instant) -> AppendEntriesRequest:
    """Make the next heartbeat, which is the same for all (Raft, figure 2: AppendEntries without entries).

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


def interval(s: State) -> Seconds:
    """Tell how long after a regular heartbeat the next one is sent: several come within any follower's timeout."""
    within = min(_WITHIN_TIMEOUT, s.timing.lower / s.timing.heartbeat)
    shortest = min([follower.promise for follower in s.followers.values()], default=NEVER)
    return min(s.timing.heartbeat, max(shortest / within, _SHORTEST_INTERVAL))


def send_heartbeats(s: State, now: Instant) -> None:
    """Send the regular heartbeat to all followers, the same to each (Raft, figure 2: leaders)."""
    note_progress(s, now)
    request = heartbeat(s, now)
    for node, follower in s.followers.items():
        send_to_follower(s, node, follower, request, now)
    s.heartbeat_sent_at = now
    s.heartbeat_at = now + interval(s)


def send_to_follower(s: State, node: NodeId, follower: Follower, request: AppendEntriesRequest, now: Instant) -> None:
    """Send a heartbeat to one follower, and note when. It does not wait for the disk: the term is there."""
    follower.sent = {number: at for number, at in follower.sent.items() if now - at < s.timing.lower}
    follower.sent[request.sequence] = now
    follower.heartbeat_sequence = request.sequence
    silent = now - max(follower.heard_at, s.leader_since) > s.timing.lower
    due = NEVER if silent else now + s.timing.resend(s.round_trip(node))
    # A regular heartbeat does not put off sending again what was not answered before it.
    follower.resend_at = due if follower.resend_at <= now else min(follower.resend_at, due)
    s.ledger.send(node, request, After.NOTHING)


def resend_unanswered(s: State, now: Instant) -> None:
    """Send the heartbeat again to those who have not answered the last one."""
    for node, follower in s.followers.items():
        if follower.resend_at <= now:
            send_to_follower(s, node, follower, heartbeat(s, now), now)


# --- the leader: entries -------------------------------------------------------------------------------------


def open_term(s: State) -> None:
    """Begin a leader's term with a no-op, so that what earlier terms left is committed with it (section 8)."""
    for follower in s.followers.values():
        follower.next_index = s.log.last_index + 1
    s.opened_at = s.ledger.append(Entry(term=s.term, kind=EntryKind.NO_OP))
    count_uncommitted(s)  # what earlier leaders could not commit takes room too
    s.settings_at = 0


def propose(s: State, kind: EntryKind, data: bytes) -> Index | None:
    """Append an entry to the leader's log (Raft, section 5.3; figure 2: leaders).

    Returns None when too much is not committed yet, or it is handing over.
    """
    if s.handover is not None:
        return None
    entry = Entry(term=s.term, kind=kind, data=data)
    size = entry_bytes(entry)
    if s.commit_index < s.log.last_index and s.uncommitted_bytes + size > UNCOMMITTED_BYTES_MAX:
        return None
    s.uncommitted_bytes += size
    index = s.ledger.append(entry)
    if kind is EntryKind.SETTINGS:
        s.settings_at = index
    return index


def send_entries(s: State, now: Instant) -> None:
    """Send every follower what it has not got, as far as its window is open (Raft, figure 2: leaders)."""
    for node, follower in s.followers.items():
        if follower.next_index <= s.log.base_index:
            send_snapshot(s, node, follower, now)
            continue
        while follower.next_index <= s.log.last_index and may_send(follower):
            send_batch(s, node, follower, now)


def may_send(follower: Follower) -> bool:
    """Tell whether a follower's window is open."""
    if follower.probing:
        return not follower.in_flight
    in_flight = sum(sent.size for sent in follower.in_flight.values())
    return len(follower.in_flight) < _MESSAGES_MAX and in_flight < _BYTES_MAX


def send_batch(s: State, node: NodeId, follower: Follower, now: Instant) -> None:
    """Send one message of entries (Raft, figure 2: AppendEntries). It does not wait for the leader's disk."""
    previous = follower.next_index - 1
    entries = s.log.batch(follower.next_index, s.batch_room.get(node, s.batch_bytes))
    s.sequence += 1
    request = AppendEntriesRequest(
        term=s.term,
        sequence=s.sequence,
        work=work_claim(s, now),
        prev_log_index=previous,
        prev_log_term=s.log.term_at(previous) or 0,
        commit_index=s.commit_index,
        entries=entries,
    )
    size = sum(map(entry_bytes, entries))
    follower.next_index += len(entries)
    follower.in_flight[s.sequence] = InFlight(follower.next_index - 1, size)
    follower.sent[s.sequence] = now
    if follower.entries_resend_at == NEVER:
        follower.entries_resend_at = now + resend_pause(s, node, follower)
    else:
        follower.entries_resend_at += size / _SLOWEST
    s.ledger.send(node, request, After.NOTHING)


def resend_pause(s: State, node: NodeId, follower: Follower) -> Seconds:
    """Tell how long to wait for an acknowledgement of what is under way: longer for more bytes, and each time."""
    in_flight = sum(sent.size for sent in follower.in_flight.values())
    pause = s.timing.resend(s.round_trip(node)) + in_flight / _SLOWEST
    return pause * float(2 ** min(follower.resent, _DOUBLINGS_MAX))


def resend_entries(s: State, now: Instant) -> None:
    """Send again, from the first that is missing, what was not acknowledged in time.

    A follower that has been silent for an election timeout gets heartbeats only, until it answers one.
    """
    for follower in s.followers.values():
        if follower.entries_resend_at > now:
            continue
        if now - max(follower.heard_at, s.leader_since) > s.timing.lower:
            follower.resent = 0
            follower.entries_resend_at = now + s.timing.heartbeat
        else:
            rewind(follower, follower.match_index + 1)
            follower.resent += 1
            follower.entries_resend_at = NEVER  # until it is sent, a moment later


def rewind(follower: Follower, index: Index) -> None:
    """Go back to an index, and find out from there where the logs agree."""
    follower.next_index = index
    follower.in_flight.clear()
    follower.probing = True
    follower.overtaken = 0


# --- the receiver, in the order of figure 2 ------------------------------------------------------------------


def handle_append_entries(s: State, sender: NodeId, request: AppendEntriesRequest, now: Instant) -> None:
    """Follow the leader of the current or a newer term (Raft, figure 2, AppendEntries 1)."""
    if request.term < s.term or (s.role is Role.LEADER and request.term == s.term):
        # It names no message: this leader may lead again by now, and count in this term as it did in the other.
        s.ledger.send(
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
    s.ledger.send(sender, response, After.HARD_STATE if is_heartbeat or not stored else After.LOG)


def store_entries(s: State, request: AppendEntriesRequest, now: Instant) -> bool:
    """Take over the entries that follow the previous one (Raft, figure 2, AppendEntries 2 to 4).

    Returns False when the previous one is not there.
    """
    previous, matched = request.prev_log_index, request.prev_log_index
    if previous < s.commit_index and previous < s.log.base_index:
        matched = s.commit_index  # what is committed is the leader's in any case
    elif s.log.term_at(previous) != request.prev_log_term:
        keep_for_later(s, request)
        return False
    for index, entry in enumerate(request.entries, previous + 1):
        if index > s.log.last_index:
            s.ledger.append(entry)
        elif index > s.commit_index and s.log.term_at(index) != entry.term:
            s.ledger.truncate(index)
            s.ledger.append(entry)
        matched = max(matched, index)
    s.matched_index = max(s.matched_index, matched)
    if s.ahead:
        next_one = s.ahead.pop(s.log.last_index, None)
        s.ahead = {prev: later for prev, later in s.ahead.items() if prev > s.log.last_index}
        if next_one is not None:
            store_entries(s, next_one, now)
    return True


def keep_for_later(s: State, request: AppendEntriesRequest) -> None:
    """Keep, as far as the leader's window goes, what has overtaken an earlier message."""
    kept = sum(entry_bytes(entry) for later in s.ahead.values() for entry in later.entries)
    overtook = request.entries and request.prev_log_index > s.log.last_index
    if overtook and len(s.ahead) < _MESSAGES_MAX and kept < _BYTES_MAX:
        s.ahead[request.prev_log_index] = request


def follow_commit_index(s: State, request: AppendEntriesRequest) -> None:
    """Commit what the leader has committed, as far as the logs are known to agree (figure 2, AppendEntries 5)."""
    s.commit_index = max(s.commit_index, min(request.commit_index, s.matched_index))
    if request.commit_index <= s.commit_index and s.id in s.configuration.members:
        s.caught_up = True


def answer(
    s: State, request: AppendEntriesRequest, seconds: Seconds, now: Instant, *, rejected: bool = False
) -> AppendEntriesResponse:
    """Make the answer to a leader's message."""
    agreed = s.log.last_not_after(request.prev_log_index, request.prev_log_term) if rejected else 0
    return AppendEntriesResponse(
        term=s.term,
        sequence=request.sequence,
        promise=seconds,
        # The answer to entries leaves when they are on disk, that to a heartbeat at once.
        matched=s.matched_index if request.entries and not rejected else min(s.matched_index, s.ledger.durable_index),
        last_choice=now < s.last_choice_until,
        hint_index=agreed,
        hint_term=(s.log.term_at(agreed) or 0) if rejected else 0,
        rejected=rejected,
    )


# --- the leader: answers -------------------------------------------------------------------------------------


def handle_append_entries_response(s: State, sender: NodeId, response: AppendEntriesResponse, now: Instant) -> None:
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


def note_match(s: State, node: NodeId, follower: Follower, response: AppendEntriesResponse, now: Instant) -> None:
    """Learn from an answer how far a follower's log is the leader's (Raft, section 5.3; figure 2: leaders)."""
    was_under_way = follower.in_flight.pop(response.sequence, None)
    if response.matched > follower.match_index:
        follower.match_index = response.matched
        follower.next_index = max(follower.next_index, response.matched + 1)
        follower.in_flight = {n: sent for n, sent in follower.in_flight.items() if sent.last_index > response.matched}
        follower.overtaken = follower.resent = 0
    if response.rejected and was_under_way is not None:
        handle_rejection(s, follower, response)
    elif was_under_way is not None:
        follower.probing = False
    if follower.match_index >= s.log.last_index:
        follower.entries_resend_at = NEVER
    elif was_under_way is not None:
        follower.entries_resend_at = now + resend_pause(s, node, follower)


def handle_rejection(s: State, follower: Follower, response: AppendEntriesResponse) -> None:
    """Go back to where the logs may agree (Raft, section 5.3), unless a message has only overtaken an earlier one."""
    if not follower.probing and follower.overtaken < _OVERTAKEN_MAX:
        follower.overtaken += 1
        return
    agreed = s.log.last_not_after(response.hint_index, response.hint_term)
    rewind(follower, max(agreed, follower.match_index) + 1)


def advance_commit_index(s: State) -> None:
    """Commit what a quorum has on disk, if it is of the current term (Raft, sections 5.3 and 5.4.2)."""
    if s.role is not Role.LEADER:
        return
    matches = {node: float(follower.match_index) for node, follower in s.followers.items()}
    matches[s.id] = s.ledger.durable_index
    index = int(s.configuration.quorum_value(matches))
    if index > s.commit_index and s.log.term_at(index) == s.term:
        s.uncommitted_bytes -= sum(map(entry_bytes, s.log.entries(s.commit_index + 1, index)))
        s.commit_index = index
