"""AppendEntries (Raft, sections 5.3 and 5.4.2): the leader sends, the receiver stores, the leader counts answers.

A *round* is one message to all followers that need the same: it is made once, encoded once, and has one sequence
number. A heartbeat is a round without entries (figure 2), to all followers. A round of entries goes to all followers
whose next index is the same; one that lags gets rounds of its own, and none waits for another.

A heartbeat that is not answered is sent again after ``max(2 × RTT, heartbeat interval / 5)``. Each sending has a
sequence number of its own: the answer names it, so the leader counts the follower's promise from the moment of that
sending. It notes for each follower which sendings went to it, because an answer counts for the follower that gives
it, and for no other. A follower that has been silent for an election timeout gets only the regular heartbeats.

The nodes need not have the same timeouts, because an operator changes them on one node after the other. All that
nodes tell each other are durations, so leases and claims of leader work hold whatever the others' settings are. But a
follower whose election timeout is shorter than the leader's could take a live leader for dead, if heartbeats came at
the leader's interval only. A follower's promise tells how long its timeout is; so the leader sends several heartbeats
within the shortest timeout of all followers.

A follower is *probed* with one message at a time until the leader knows where the two logs agree. After that several
messages are in flight, bounded in number and in bytes. A follower that lacks the entry before a message rejects the
message, with a hint that skips whole terms; so a diverged log is repaired in as many round trips as there are terms
in which it differs (section 5.3). A message that has overtaken an earlier one is kept until the earlier one has come.
Entries that are not acknowledged in time are sent again, from the first one that is missing.

The leader sends entries while it writes them to its own disk (thesis 10.2.1); its own copy counts once it is on disk,
as any other copy does. An acknowledgement of entries waits for the follower's disk; the answer to a heartbeat does
not.
"""

from collections.abc import Sequence
from typing import Final

from trioraft.clock import NEVER
from trioraft.consensus.leader_work import remember_claim, work_claim
from trioraft.consensus.lease import note_promise, promise
from trioraft.consensus.ledger import After
from trioraft.consensus.log import entry_bytes
from trioraft.consensus.progress import (
    drop_in_flight,
    drop_matched,
    look_again,
    note_departed,
    note_progress,
    put_in_flight,
    take_from_flight,
    to_look_at,
)
from trioraft.consensus.roles import become_follower, follow, reset_election_timer
from trioraft.consensus.snapshots import send_snapshot
from trioraft.consensus.state import Early, Follower, InFlight, Role, State, count_uncommitted
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

# The number of heartbeats within the shortest election timeout, unless the leader's own settings make it smaller; and
# the shortest interval between two of them, in seconds.
_WITHIN_TIMEOUT: Final = 4
_SHORTEST_INTERVAL: Final = 0.005
# The most messages, and bytes of entries, that are in flight to one follower.
_MESSAGES_MAX: Final = 64
_BYTES_MAX: Final = 512 * 1024
# The most bytes of entries that are proposed and not committed.
UNCOMMITTED_BYTES_MAX: Final = 16 * 1024 * 1024
# After this number of rejections of later messages an earlier message counts as lost, not just overtaken (as TCP's
# three duplicate acknowledgements, RFC 5681).
_OVERTAKEN_MAX: Final = 3
# Entries that arrive more slowly than this, in bytes per second, are taken for lost; and how often the time until
# they are sent again doubles, while nothing is acknowledged.
_SLOWEST: Final = 1024 * 1024
_DOUBLINGS_MAX: Final = 5


# --- the leader: heartbeats ---------------------------------------------------------------------------------


def heartbeat(s: State, now: Instant) -> AppendEntriesRequest:
    """Make the next heartbeat, which is the same for all followers (Raft, figure 2: AppendEntries without entries).

    Its previous entry is the newest committed one, so that a follower that was restarted learns how far its log is
    committed.
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
    """Compute the interval of regular heartbeats: several of them come within any follower's election timeout."""
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
    """Send a heartbeat to one follower, and note when; it need not wait for the disk, which has the term already."""
    forget_sent(follower, now - s.timing.lower)
    follower.sent[request.sequence] = now
    follower.heartbeat_sequence = request.sequence
    silent = now - max(follower.heard_at, s.leader_since) > s.timing.lower
    due = NEVER if silent else now + s.timing.resend(s.round_trip(node))
    # A regular heartbeat must not postpone the repetition of one that was not answered before it.
    follower.resend_at = due if follower.resend_at <= now else min(follower.resend_at, due)
    look_again(s, node)
    s.ledger.send(node, request, After.NOTHING)


def forget_sent(follower: Follower, until: Instant) -> None:
    """Forget what was sent to a follower up to a time, because its answer would not count any more."""
    sent = follower.sent
    while sent:
        oldest, at = next(iter(sent.items()))
        if at > until:
            return
        del sent[oldest]


def resend_unanswered(s: State, now: Instant) -> None:
    """Send the heartbeat again, in one round, to the followers that have not answered the last one."""
    due = [node for node, follower in s.followers.items() if follower.resend_at <= now]
    if due:
        request = heartbeat(s, now)
        for node in due:
            send_to_follower(s, node, s.followers[node], request, now)


# --- the leader: entries ------------------------------------------------------------------------------------


def open_term(s: State) -> None:
    """Begin a leader's term with a no-op, which commits the entries of earlier terms with it (section 8)."""
    for follower in s.followers.values():
        follower.next_index = s.log.last_index + 1
    s.opened_at = s.ledger.append(Entry(term=s.term, kind=EntryKind.NO_OP))
    count_uncommitted(s)  # entries that earlier leaders could not commit take room too
    s.settings_at = 0


def propose(s: State, kind: EntryKind, data: bytes) -> Index | None:
    """Append an entry to the leader's log (Raft, section 5.3; figure 2: leaders).

    Return None when too much is not committed yet, or while leadership is being transferred (thesis 3.10).
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
    """Send every follower the entries from its next index on, while its window is open (Raft, figure 2: leaders)."""
    if s.role is not Role.LEADER:
        return
    rounds: dict[Index, list[NodeId]] = {}
    for node, follower in to_look_at(s).items():
        if s.followers.get(node) is not follower:
            continue
        if follower.next_index <= s.log.base_index:
            send_snapshot(s, node, follower, now)
        elif wants_entries(s, follower):
            rounds.setdefault(follower.next_index, []).append(node)
    for receivers in rounds.values():
        pending = receivers
        while pending:
            send_batch(s, pending, now)
            pending = [node for node in pending if wants_entries(s, s.followers[node])]


def wants_entries(s: State, follower: Follower) -> bool:
    """Check whether a follower lacks entries, and may be sent some now."""
    return follower.next_index <= min(s.log.last_index, follower.last_needed) and may_send(follower)


def may_send(follower: Follower) -> bool:
    """Check whether a follower's window is open: whether another message of entries may be sent."""
    if follower.probing:
        return not follower.in_flight
    return len(follower.in_flight) < _MESSAGES_MAX and follower.in_flight_bytes < _BYTES_MAX


def send_batch(s: State, receivers: Sequence[NodeId], now: Instant) -> None:
    """Send one AppendEntries with entries (Raft, figure 2) to all followers that have the same next index.

    It does not wait for the leader's disk (10.2.1). The next index moves on now, not with the answer; a rejection, or
    no answer in time, moves it back.
    """
    first = s.followers[receivers[0]].next_index
    last = min(s.followers[node].last_needed for node in receivers)
    room = min(s.batch_room.get(node, s.batch_bytes) for node in receivers)
    entries = s.log.batch(first, room, min(last, s.log.last_index))
    s.sequence += 1
    request = AppendEntriesRequest(
        term=s.term,
        sequence=s.sequence,
        work=work_claim(s, now),
        prev_log_index=first - 1,
        prev_log_term=s.log.term_at(first - 1) or 0,
        commit_index=s.commit_index,
        entries=entries,
    )
    message = InFlight(first + len(entries) - 1, sum(map(entry_bytes, entries)))
    for node in receivers:
        follower = s.followers[node]
        follower.next_index = message.last_index + 1
        put_in_flight(follower, s.sequence, message)
        follower.sent[s.sequence] = now
        if follower.entries_resend_at == NEVER:
            follower.entries_resend_at = now + resend_pause(s, node, follower)
        else:
            follower.entries_resend_at += message.size / _SLOWEST
        s.ledger.send(node, request, After.NOTHING)


def resend_pause(s: State, node: NodeId, follower: Follower) -> Seconds:
    """Compute how long to wait for an acknowledgement: longer with more bytes in flight, and at each repetition."""
    pause = s.timing.resend(s.round_trip(node)) + follower.in_flight_bytes / _SLOWEST
    return pause * float(2 ** min(follower.resent, _DOUBLINGS_MAX))


def resend_entries(s: State, now: Instant) -> None:
    """Send entries again that were not acknowledged in time, from the first one that is missing.

    A follower that has been silent for an election timeout gets only heartbeats until it answers one.
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
            follower.entries_resend_at = NEVER  # until the entries are sent, a moment later


def rewind(follower: Follower, index: Index) -> None:
    """Set a follower's next index back, and probe from there for the place where the two logs agree."""
    follower.next_index = index
    drop_in_flight(follower)
    follower.probing = True
    follower.overtaken = 0


# --- the receiver, in the order of figure 2 -----------------------------------------------------------------


def handle_append_entries(s: State, sender: NodeId, request: AppendEntriesRequest, now: Instant) -> None:
    """Follow the leader of the current or a newer term (Raft, figure 2, AppendEntries 1).

    The answer to an older term is the newer one, and no promise; `rejected` is kept for the entry that is missing
    (AppendEntries 2).
    """
    if request.term < s.term or (s.role is Role.LEADER and request.term == s.term):
        # The answer names no message. Its receiver may lead again by now, in this very term, and its sequence numbers
        # begin anew with each term: it could take this for the answer to another message.
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

    Return False when the log does not have the previous entry.
    """
    previous, matched = request.prev_log_index, request.prev_log_index
    if previous < s.commit_index and previous < s.log.base_index:
        matched = s.commit_index  # the leader has every committed entry (section 5.4.3)
    elif s.log.term_at(previous) != request.prev_log_term:
        keep_for_later(s, request)
        return False
    last = s.log.last_index
    for index, entry in enumerate(request.entries, previous + 1):
        conflicts = s.commit_index < index <= last and s.log.term_at(index) != entry.term
        if conflicts:
            s.ledger.truncate(index)
        if conflicts or index > last:
            s.ledger.extend(request.entries[index - previous - 1 :])
            break
    s.matched_index = max(s.matched_index, matched, previous + len(request.entries))
    if s.ahead:
        store_kept(s, now)
    return True


def keep_for_later(s: State, request: AppendEntriesRequest) -> None:
    """Keep a message that has overtaken an earlier one, as far as the leader's window goes."""
    overtook = request.entries and request.prev_log_index > s.log.last_index
    if overtook and len(s.ahead) < _MESSAGES_MAX and s.ahead_bytes < _BYTES_MAX:
        drop_kept(s, request.prev_log_index)
        early = Early(request, sum(map(entry_bytes, request.entries)))
        s.ahead[request.prev_log_index] = early
        s.ahead_bytes += early.size


def store_kept(s: State, now: Instant) -> None:
    """Store the message that was kept until the entry before it came, and drop those that came another way."""
    next_one = s.ahead.get(s.log.last_index)
    for previous in [previous for previous in s.ahead if previous <= s.log.last_index]:
        drop_kept(s, previous)
    if next_one is not None:
        store_entries(s, next_one.request, now)


def drop_kept(s: State, previous: Index) -> None:
    """Drop a message that was kept, if there is one after that entry."""
    early = s.ahead.pop(previous, None)
    if early is not None:
        s.ahead_bytes -= early.size


def follow_commit_index(s: State, request: AppendEntriesRequest) -> None:
    """Commit what the leader has committed, up to where the logs are known to agree (figure 2, AppendEntries 5)."""
    s.commit_index = max(s.commit_index, min(request.commit_index, s.matched_index))
    if request.commit_index <= s.commit_index and s.id in s.configuration.member_set:
        s.caught_up = True


def answer(
    s: State, request: AppendEntriesRequest, seconds: Seconds, now: Instant, *, rejected: bool = False
) -> AppendEntriesResponse:
    """Make the answer to an AppendEntries."""
    agreed = s.log.last_not_after(request.prev_log_index, request.prev_log_term) if rejected else 0
    return AppendEntriesResponse(
        term=s.term,
        sequence=request.sequence,
        promise=seconds,
        # The answer to entries leaves once they are on disk; the answer to a heartbeat leaves at once.
        matched=s.matched_index if request.entries and not rejected else min(s.matched_index, s.ledger.durable_index),
        last_choice=now < s.last_choice_until,
        hint_index=agreed,
        hint_term=(s.log.term_at(agreed) or 0) if rejected else 0,
        rejected=rejected,
    )


# --- the leader: answers ------------------------------------------------------------------------------------


def handle_append_entries_response(s: State, sender: NodeId, response: AppendEntriesResponse, now: Instant) -> None:
    """Take in a follower's answer: its promise, counted from when the answered message was sent, and its log."""
    follower = s.followers.get(sender)
    if response.term > s.term and (follower is None or follower.leaves_at == NEVER):
        become_follower(s, response.term, now, f"a follower knows term {response.term}")
        return
    if s.role is not Role.LEADER or response.term != s.term or follower is None:
        return
    sent_at = follower.sent.pop(response.sequence, None)
    if sent_at is None:
        return
    look_again(s, sender)
    s.measure_round_trip(sender, now - sent_at)
    follower.heard_at = now
    if sent_at > follower.answered_sent_at:
        s.confirmed.note(sender, follower.answered_sent_at, sent_at)
        follower.answered_sent_at = sent_at
    follower.last_choice = response.last_choice
    note_promise(s, sender, follower, sent_at, response.promise)
    if 0 < response.promise != follower.promise:
        follower.promise = response.promise
        s.heartbeat_at = min(s.heartbeat_at, s.heartbeat_sent_at + interval(s))
    follower.answered = max(follower.answered, response.sequence)
    if follower.answered >= follower.heartbeat_sequence:
        follower.resend_at = NEVER
    note_match(s, sender, follower, response, now)
    note_departed(s, sender, response.matched, sent_at, now)


def note_match(s: State, node: NodeId, follower: Follower, response: AppendEntriesResponse, now: Instant) -> None:
    """Update nextIndex and matchIndex of a follower from its answer (Raft, section 5.3; figure 2: leaders)."""
    was_under_way = take_from_flight(follower, response.sequence)
    if response.matched > follower.match_index:
        s.matched.note(node, follower.match_index, response.matched)
        follower.match_index = response.matched
        follower.next_index = max(follower.next_index, response.matched + 1)
        drop_matched(follower)
        follower.overtaken = follower.resent = 0
    if response.rejected and was_under_way:
        handle_rejection(s, follower, response)
    elif was_under_way:
        follower.probing = False
    if follower.match_index >= min(s.log.last_index, follower.last_needed):
        follower.entries_resend_at = NEVER
    elif was_under_way:
        follower.entries_resend_at = now + resend_pause(s, node, follower)


def handle_rejection(s: State, follower: Follower, response: AppendEntriesResponse) -> None:
    """Set nextIndex back to where the logs may agree (section 5.3), unless a message only overtook an earlier one."""
    if not follower.probing and follower.overtaken < _OVERTAKEN_MAX:
        follower.overtaken += 1
        return
    agreed = s.log.last_not_after(response.hint_index, response.hint_term)
    rewind(follower, max(agreed, follower.match_index) + 1)


def advance_commit_index(s: State) -> None:
    """Commit the newest entry that a quorum has on disk, if it is of the current term (sections 5.3 and 5.4.2)."""
    if s.role is not Role.LEADER or s.commit_index == s.log.last_index:
        return
    if s.matched.may_have_grown(s.configuration):
        matches = {node: follower.match_index for node, follower in s.followers.items()}
        matches[s.id] = s.ledger.durable_index
        s.matched.compute(s.configuration, matches, s.id)
    index = int(s.matched.value)
    if index > s.commit_index and s.log.term_at(index) == s.term:
        s.uncommitted_bytes -= sum(map(entry_bytes, s.log.entries(s.commit_index + 1, index)))
        s.commit_index = index
