"""Snapshots for followers that need entries which the leader has dropped (Raft, section 7).

The leader sends a snapshot in parts. Several parts are in flight at a time, from the offset up to which the follower
has acknowledged; parts that are not acknowledged in time are sent again from there. The parts leave the core without
their bytes: the program around it reads those from the disk when it sends them. The follower hands the parts out in
order, to be stored. When the last part is stored, and the state machine has restored the verified snapshot, the log
begins after it.
"""

from typing import Final

from trioraft.clock import NEVER
from trioraft.consensus.events import StorePart
from trioraft.consensus.ledger import After, SnapshotInfo
from trioraft.consensus.progress import drop_in_flight, look_again, look_at_all
from trioraft.consensus.roles import become_follower, follow, reset_election_timer
from trioraft.consensus.state import Follower, Receiving, Role, Sending, State, count_uncommitted
from trioraft.messages import Index, InstallSnapshotRequest, InstallSnapshotResponse, Instant, NodeId

# The size of a part, in bytes, and the most parts that are in flight.
PART_BYTES: Final = 32 * 1024
_PARTS_MAX: Final = 16
# The most bytes of entries that are kept for a follower that is being sent an earlier snapshot. It needs the entries
# once it has that snapshot; without them it would be sent one snapshot after the other.
_KEPT_FOR_RECEIVERS: Final = 64 * 1024 * 1024


def snapshot_of(part: InstallSnapshotRequest) -> SnapshotInfo:
    """Return the snapshot that a part belongs to."""
    return SnapshotInfo(part.index, part.index_term, part.size, part.checksum, part.configuration)


def send_snapshot(s: State, node: NodeId, follower: Follower, now: Instant) -> None:
    """Send the next parts of a follower's snapshot, as far as the window is open."""
    if s.ledger.snapshot is None:
        return
    if follower.sending is None:
        follower.sending = Sending(s.ledger.snapshot)
        drop_in_flight(follower)
        follower.entries_resend_at = NEVER
    sending = follower.sending
    while (
        sending.next < sending.snapshot.size or sending.next == sending.acknowledged == 0
    ) and sending.next - sending.acknowledged < _PARTS_MAX * PART_BYTES:
        send_part(s, node, sending, now)
        if sending.snapshot.size == 0:
            break


def drop_covered(s: State, snapshot: SnapshotInfo, keep: int, keep_bytes: int | None, now: Instant) -> None:
    """Note that a snapshot that this node took is on disk, and drop entries that it covers and no follower needs."""
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
    look_at_all(s)  # some may need entries that were dropped


def snapshot_gone(s: State, snapshot: SnapshotInfo) -> None:
    """Stop sending a snapshot that cannot be read; followers are sent a newer one once there is one."""
    for follower in s.followers.values():
        if follower.sending is not None and follower.sending.snapshot == snapshot:
            follower.sending = None
    if s.ledger.snapshot == snapshot:
        s.ledger.snapshot = None
    look_at_all(s)


def send_part(s: State, node: NodeId, sending: Sending, now: Instant) -> None:
    """Send one part (Raft, section 7: InstallSnapshot); its bytes are filled in when it leaves."""
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
    """Send parts again that were not acknowledged in time, from the offset that the follower has acknowledged."""
    for node, follower in s.followers.items():
        sending = follower.sending
        if sending is not None and sending.resend_at <= now:
            silent = now - max(follower.heard_at, s.leader_since) > s.timing.lower
            newest = s.ledger.snapshot
            if silent and not sending.acknowledged and newest is not None:
                sending = follower.sending = Sending(newest)  # the follower has nothing of an older one
            sending.next = sending.acknowledged
            sending.resend_at = now + (s.timing.heartbeat if silent else 2 * s.timing.resend(s.round_trip(node)))
            send_part(s, node, sending, now)


def handle_install_snapshot_response(
    s: State, sender: NodeId, response: InstallSnapshotResponse, now: Instant
) -> None:
    """Go on from the offset that a follower acknowledges, or with entries when it has installed the snapshot."""
    follower = s.followers.get(sender)
    if response.term > s.term and (follower is None or follower.leaves_at == NEVER):
        become_follower(s, response.term, now, f"a follower knows term {response.term}")
        return
    if s.role is not Role.LEADER or response.term != s.term or follower is None or follower.sending is None:
        return
    if follower.leaves_at != NEVER:
        follower.leaves_at = now + s.timing.upper
    sending = follower.sending
    look_again(s, sender)
    if response.index != sending.snapshot.index or response.offset > sending.snapshot.size:
        return
    if response.installed:
        follower.sending = None
        if response.index > follower.match_index:
            s.matched.note(sender, follower.match_index, response.index)
            follower.match_index = response.index
        follower.next_index = follower.match_index + 1
        drop_in_flight(follower)
        follower.probing = True
    elif response.offset > sending.acknowledged:
        sending.acknowledged = response.offset
        sending.next = max(sending.next, response.offset)
        sending.resend_at = now + s.timing.resend(s.round_trip(sender))
    else:
        # Either this answer is an old one, and the next one corrects it; or the follower was restarted and begins
        # anew.
        sending.acknowledged = response.offset


def handle_install_snapshot(s: State, sender: NodeId, request: InstallSnapshotRequest, now: Instant) -> None:
    """Take in the next part of the leader's snapshot (Raft, section 7: InstallSnapshot), or answer which one is."""
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
        # A snapshot covers committed entries only. So this node was removed and does not need it, unless it is
        # joining.
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
    """Answer the leader with the offset up to which this node has the snapshot."""
    response = InstallSnapshotResponse(term=s.term, index=index, offset=offset, installed=installed)
    s.ledger.send(to, response, After.LOG if installed else After.HARD_STATE)


def part_stored(s: State, snapshot: SnapshotInfo, offset: int) -> None:
    """Note that all bytes before an offset are stored, even without a leader: the next one goes on from there."""
    if s.receiving is not None and s.receiving.snapshot == snapshot and offset <= s.receiving.expected:
        s.receiving.stored = max(s.receiving.stored, offset)
        if s.leader:
            answer_part(s, s.leader, snapshot.index, s.receiving.stored)


def reception_failed(s: State, snapshot: SnapshotInfo) -> None:
    """Receive a snapshot anew that turned out to be damaged."""
    if s.receiving is not None and s.receiving.snapshot == snapshot:
        s.receiving = None


def snapshot_installed(s: State, snapshot: SnapshotInfo) -> None:
    """Begin the log after a received snapshot, which is verified, on disk, and restored by the state machine."""
    s.receiving = None
    if snapshot.index <= s.commit_index:
        # Entries were committed faster; but the state machine may have restored the snapshot before it applied them.
        s.applied_index = max(s.applied_index, snapshot.index)
        return
    s.ledger.install_snapshot(snapshot)
    s.commit_index = s.applied_index = snapshot.index
    count_uncommitted(s)  # this node may have become the leader meanwhile
    s.matched_index = max(s.matched_index, snapshot.index)
    if s.leader and s.role is Role.FOLLOWER:
        answer_part(s, s.leader, snapshot.index, snapshot.size, installed=True)
