"""Entries: from the leader's log to the followers', and when they are committed (Raft, section 5.3 and 5.4.2).

A follower is *probed* with one message at a time until it is known where its log agrees with the leader's; then
several messages are under way, bounded in number and in bytes. A message that a follower cannot use, because it
does not have the entry before, is answered with a hint that skips whole terms, so a diverged log is repaired in as
many round trips as there are terms in which it differs. A message that has overtaken an earlier one is kept until
that has come. What is not acknowledged in time is sent again from the first entry that is missing.

The leader sends while it writes to its own disk (thesis 10.2.1); its own copy counts when it is on disk, as any
other does. An acknowledgement waits for the follower's disk, an answer to a heartbeat does not.
"""

from typing import Final

from trioraft.consensus.leader_work import work_claim
from trioraft.consensus.ledger import NEVER, After
from trioraft.consensus.log import entry_bytes
from trioraft.consensus.snapshots import send_snapshot
from trioraft.consensus.state import Follower, Role, State, count_uncommitted
from trioraft.messages import AppendEntriesRequest, AppendEntriesResponse, Entry, EntryKind

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


# --- the leader ---------------------------------------------------------------------------------------------


def open_term(s: State) -> None:
    """Begin a leader's term with a no-op, so that what earlier terms left is committed with it (section 8)."""
    for follower in s.followers.values():
        follower.next_index = s.log.last_index + 1
    s.opened_at = s.outbox.append(Entry(term=s.term, kind=EntryKind.NO_OP))
    count_uncommitted(s)  # what earlier leaders could not commit takes room too
    s.settings_at = 0


def propose(s: State, kind: EntryKind, data: bytes) -> int | None:
    """Append an entry to the leader's log; None when too much is not committed yet, or it is handing over."""
    if s.handover is not None:
        return None
    entry = Entry(term=s.term, kind=kind, data=data)
    size = entry_bytes(entry)
    if s.commit_index < s.log.last_index and s.uncommitted_bytes + size > UNCOMMITTED_BYTES_MAX:
        return None
    s.uncommitted_bytes += size
    index = s.outbox.append(entry)
    if kind is EntryKind.SETTINGS:
        s.settings_at = index
    return index


def send_entries(s: State, now: float) -> None:
    """Send every follower what it has not got, as far as its window is open."""
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
    in_flight = sum(size for _, size in follower.in_flight.values())
    return len(follower.in_flight) < _MESSAGES_MAX and in_flight < _BYTES_MAX


def send_batch(s: State, node: int, follower: Follower, now: float) -> None:
    """Send one message of entries. It does not wait for the leader's disk."""
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
    follower.in_flight[s.sequence] = (follower.next_index - 1, size)
    follower.sent[s.sequence] = now
    if follower.entries_resend_at == NEVER:
        follower.entries_resend_at = now + resend_pause(s, node, follower)
    else:
        follower.entries_resend_at += size / _SLOWEST
    s.outbox.send(node, request, After.NOTHING)


def resend_pause(s: State, node: int, follower: Follower) -> float:
    """Tell how long to wait for an acknowledgement of what is under way: longer for more bytes, and each time."""
    in_flight = sum(size for _, size in follower.in_flight.values())
    pause = s.timing.resend(s.round_trip(node)) + in_flight / _SLOWEST
    return pause * float(2 ** min(follower.resent, _DOUBLINGS_MAX))


def resend_entries(s: State, now: float) -> None:
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


def rewind(follower: Follower, index: int) -> None:
    """Go back to an index, and find out from there where the logs agree."""
    follower.next_index = index
    follower.in_flight.clear()
    follower.probing = True
    follower.overtaken = 0


def note_match(s: State, node: int, follower: Follower, response: AppendEntriesResponse, now: float) -> None:
    """Learn from an answer how far a follower's log is the leader's."""
    was_under_way = follower.in_flight.pop(response.sequence, None)
    if response.matched > follower.match_index:
        follower.match_index = response.matched
        follower.next_index = max(follower.next_index, response.matched + 1)
        follower.in_flight = {n: sent for n, sent in follower.in_flight.items() if sent[0] > response.matched}
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
    """Go back to where the logs may agree, unless an earlier message was just overtaken by a later one."""
    if not follower.probing and follower.overtaken < _OVERTAKEN_MAX:
        follower.overtaken += 1
        return
    agreed = s.log.last_not_after(response.hint_index, response.hint_term)
    rewind(follower, max(agreed, follower.match_index) + 1)


def advance_commit_index(s: State) -> None:
    """Commit what a quorum has on disk, if it is of the current term (section 5.4.2)."""
    if s.role is not Role.LEADER:
        return
    matches = {node: float(follower.match_index) for node, follower in s.followers.items()}
    matches[s.id] = s.outbox.durable_index
    index = int(s.configuration.quorum_value(matches))
    if index > s.commit_index and s.log.term_at(index) == s.term:
        s.uncommitted_bytes -= sum(map(entry_bytes, s.log.entries(s.commit_index + 1, index)))
        s.commit_index = index


# --- the follower -------------------------------------------------------------------------------------------


def store_entries(s: State, request: AppendEntriesRequest, now: float) -> bool:
    """Take over the entries that follow the previous one; False when that is not there (figure 2, 2 to 5)."""
    previous, matched = request.prev_log_index, request.prev_log_index
    if previous < s.commit_index and previous < s.log.base_index:
        matched = s.commit_index  # what is committed is the leader's in any case
    elif s.log.term_at(previous) != request.prev_log_term:
        keep_for_later(s, request)
        return False
    for index, entry in enumerate(request.entries, previous + 1):
        if index > s.log.last_index:
            s.outbox.append(entry)
        elif index > s.commit_index and s.log.term_at(index) != entry.term:
            s.outbox.truncate(index)
            s.outbox.append(entry)
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
    """Commit what the leader has committed, as far as the logs are known to agree (figure 2, 5)."""
    s.commit_index = max(s.commit_index, min(request.commit_index, s.matched_index))
    if request.commit_index <= s.commit_index and s.id in s.configuration.members:
        s.caught_up = True
