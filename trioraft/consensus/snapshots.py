"""Snapshots for followers that need entries which the leader has dropped (Raft, section 7).

The leader sends parts, several under way, each from where the follower said it is; what is not acknowledged in time
is sent again from there. The parts leave the core empty: the program around it reads them from the disk when it
sends them. The follower hands parts out in order, to be stored; when the last one has been, and the whole has been
verified and taken over, the log follows.
"""

from typing import Final

from trioraft.clock import NEVER
from trioraft.consensus.events import StorePart
from trioraft.consensus.ledger import After, SnapshotInfo
from trioraft.consensus.roles import become_follower, follow, reset_election_timer
from trioraft.consensus.state import Follower, Receiving, Role, Sending, State, count_uncommitted
from trioraft.messages import Index, InstallSnapshotRequest, InstallSnapshotResponse, Instant, NodeId

# How large a part is, in bytes, and how many are under way.
PART_BYTES: Final = 32 * 1024
_PARTS_MAX: Final = 16
# How many bytes of entries are kept, at most, for a follower that is being sent an earlier snapshot: once it has
# that, it needs them, and would have to be sent one snapshot after the other.
_KEPT_FOR_RECEIVERS: Final = 64 * 1024 * 1024


def snapshot_of(part: InstallSnapshotRequest) -> SnapshotInfo:
    """Tell of which snapshot a part is."""
    return SnapshotInfo(part.index, part.index_term, part.size, part.checksum, part.configuration)


def send_snapshot(s: State, node: NodeId, follower: Follower, now: Instant) -> None:
    """Send the next parts of the newest snapshot, as far as the window is open."""
    if s.ledger.snapshot is None:
        return
    if follower.sending is None:
        follower.sending = Sending(s.ledger.snapshot)
        follower.in_flight.clear()
        follower.entries_resend_at = NEVER
    sending = follower.sending
    while (
        sending.next < sending.snapshot.size or sending.next == sending.acknowledged == 0
    ) and sending.next - sending.acknowledged < _PARTS_MAX * PART_BYTES:
        send_part(s, node, sending, now)
        if sending.snapshot.size == 0:
            break


def drop_covered(s: State, snapshot: SnapshotInfo, keep: int, keep_bytes: int | None, now: Instant) -> None:
    """Note that a snapshot of this node's own is on disk, and drop entries that it covers and nobody needs."""
    base = max(0, snapshot.index - keep)
    if keep_bytes is not None:
        base = max(base, s.log.before_last_bytes(snapshot.index, keep_bytes))
    receivers = [
        follower.sending.snapshot.index
        for follower in s.followers.values()
        if follower.sending is not None and now - follower.heard_at < s.timing.lower
    ]
    if receivers:
        base = min(base, max(min(receivers), s.log.before_last_bytes(snapshot.index, _KEPT_FOR_RECEIVERS)))
    s.ledger.take_snapshot(snapshot, base)


def snapshot_gone(s: State, snapshot: SnapshotInfo) -> None:
    """Send a snapshot to nobody any more, because it cannot be read; a newer one goes out once there is one."""
    for follower in s.followers.values():
        if follower.sending is not None and follower.sending.snapshot == snapshot:
            follower.sending = None
    if s.ledger.snapshot == snapshot:
        s.ledger.snapshot = None


def send_part(s: State, node: NodeId, sending: Sending, now: Instant) -> None:
    """Send one part; its bytes are filled in when it leaves."""
    snapshot = sending.snapshot
    part = InstallSnapshotRequest(
        term=s.term,
        index=snapshot.index,
        index_term=snapshot.term,
        size=snapshot.size,
        checksum=snapshot.checksum,
        offset=sending.next,
        configuration=snapshot.configuration,
    )
    sending.next = min(snapshot.size, sending.next + PART_BYTES)
    if sending.resend_at == NEVER:
        sending.resend_at = now + s.timing.resend(s.round_trip(node))
    s.ledger.send(node, part, After.NOTHING)


def resend_parts(s: State, now: Instant) -> None:
    """Send again, from where the follower is, what was not acknowledged in time."""
    for node, follower in s.followers.items():
        sending = follower.sending
        if sending is not None and sending.resend_at <= now:
            silent = now - max(follower.heard_at, s.leader_since) > s.timing.lower
            newest = s.ledger.snapshot
            if silent and not sending.acknowledged and newest is not None:
                sending = follower.sending = Sending(newest)  # nothing is lost of an older one
            sending.next = sending.acknowledged
            sending.resend_at = now + (s.timing.heartbeat if silent else 2 * s.timing.resend(s.round_trip(node)))
            send_part(s, node, sending, now)


def handle_install_snapshot_response(
    s: State, sender: NodeId, response: InstallSnapshotResponse, now: Instant
) -> None:
    """Go on from where the follower is, or with entries when it has installed the snapshot."""
    follower = s.followers.get(sender)
    if response.term > s.term and (follower is None or follower.leaves_at == NEVER):
        become_follower(s, response.term, now, f"a follower knows term {response.term}")
        return
    if s.role is not Role.LEADER or response.term != s.term or follower is None or follower.sending is None:
        return
    if follower.leaves_at != NEVER:
        follower.leaves_at = now + s.timing.upper
    sending = follower.sending
    if response.index != sending.snapshot.index or response.offset > sending.snapshot.size:
        return
    if response.installed:
        follower.sending = None
        follower.match_index = max(follower.match_index, response.index)
        follower.next_index = follower.match_index + 1
        follower.in_flight.clear()
        follower.probing = True
    elif response.offset > sending.acknowledged:
        sending.acknowledged = response.offset
        sending.next = max(sending.next, response.offset)
        sending.resend_at = now + s.timing.resend(s.round_trip(sender))
    else:
        # An old answer, which the next one corrects; or it has begun anew, because it was restarted.
        sending.acknowledged = response.offset


def handle_install_snapshot(s: State, sender: NodeId, request: InstallSnapshotRequest, now: Instant) -> None:
    """Take the next part; tell the leader where this node is."""
    if request.term < s.term or (s.role is Role.LEADER and request.term == s.term):
        answer_part(s, sender, request.index, 0)
        return
    if request.term > s.term or s.role is not Role.FOLLOWER:
        become_follower(s, request.term, now, f"a leader of term {request.term} was elected")
    follow(s, sender)
    reset_election_timer(s, now)
    if request.index <= s.commit_index:
        answer_part(s, sender, request.index, request.size, installed=True)
        return
    snapshot = snapshot_of(request)
    configuration = snapshot.members()
    if configuration is not None and s.id not in configuration.members:
        # What a snapshot covers is committed: this node does not need it any more, unless it is just joining.
        s.departed = s.was_member or s.id in configuration.departed
        if s.departed:
            return
    if s.receiving is None or s.receiving.snapshot != snapshot:
        s.receiving = Receiving(snapshot)
    receiving = s.receiving
    part: bytes | None = request.data
    if request.offset != receiving.expected or (not part and snapshot.size):
        if part and 0 < request.offset - receiving.expected <= _PARTS_MAX * PART_BYTES:
            receiving.ahead[request.offset] = part
        answer_part(s, sender, request.index, receiving.stored)
        return
    while part is not None:
        offset = receiving.expected
        receiving.expected += len(part)
        s.events.append(StorePart(snapshot, offset, part, receiving.expected >= snapshot.size))
        part = receiving.ahead.pop(receiving.expected, None)


def answer_part(s: State, to: NodeId, index: Index, offset: int, *, installed: bool = False) -> None:
    """Tell the leader how far this node is."""
    response = InstallSnapshotResponse(term=s.term, index=index, offset=offset, installed=installed)
    s.ledger.send(to, response, After.LOG if installed else After.HARD_STATE)


def part_stored(s: State, snapshot: SnapshotInfo, offset: int) -> None:
    """Note that everything before an offset is stored, also while nobody leads: the next leader goes on there."""
    if s.receiving is not None and s.receiving.snapshot == snapshot and offset <= s.receiving.expected:
        s.receiving.stored = max(s.receiving.stored, offset)
        if s.leader:
            answer_part(s, s.leader, snapshot.index, s.receiving.stored)


def reception_failed(s: State, snapshot: SnapshotInfo) -> None:
    """Begin anew with a snapshot that turned out to be damaged."""
    if s.receiving is not None and s.receiving.snapshot == snapshot:
        s.receiving = None


def snapshot_installed(s: State, snapshot: SnapshotInfo) -> None:
    """Let the log follow a snapshot that has been verified, is on disk and has been taken over."""
    s.receiving = None
    if snapshot.index <= s.commit_index:
        # Entries have overtaken it; but the state machine may have taken it over before it had applied them.
        s.applied_index = max(s.applied_index, snapshot.index)
        return
    s.ledger.install_snapshot(snapshot)
    s.commit_index = s.applied_index = snapshot.index
    count_uncommitted(s)  # this node may have become the leader meanwhile
    s.matched_index = max(s.matched_index, snapshot.index)
    if s.leader and s.role is Role.FOLLOWER:
        answer_part(s, s.leader, snapshot.index, snapshot.size, installed=True)
