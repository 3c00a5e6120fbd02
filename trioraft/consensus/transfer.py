"""Transfer of leadership to another node (thesis 3.10), so that stopping a leader costs one round trip.

The leader first ends its leader work, while it goes on serving, and only then offers its leadership. From the offer
on it holds no lease and runs no leader work in this term, whether or not the transfer succeeds: the offer may arrive
at any later time, and is valid for as long as its receiver is in the same term.
"""

from trioraft.clock import NEVER
from trioraft.consensus.append_entries import send_heartbeats
from trioraft.consensus.election import may_campaign, start_election
from trioraft.consensus.leader_work import end_work, work_left
from trioraft.consensus.ledger import After
from trioraft.consensus.roles import become_follower
from trioraft.consensus.state import EarlierWork, Handover, Role, State, Work
from trioraft.consensus.timing import WORK_MARGIN, here
from trioraft.messages import Instant, NodeId, OptionalNodeId, TimeoutNow, format_id

# How long a node whose leader script failed, or that was told to step down, is the last choice, in seconds.
LAST_CHOICE = 60.0


def start_transfer(s: State, target: OptionalNodeId, now: Instant) -> str | None:
    """Begin to transfer leadership to a node (0: the best one); return the reason if that is impossible."""
    if s.role is not Role.LEADER:
        return "this node is not the leader"
    if s.handover is not None:
        return f"leadership is being given to node {format_id(s.handover.target)} already"
    if target == s.id:
        return "the node leads already"
    if target and target not in s.configuration.voters:
        return f"{format_id(target)} is not a voter of this cluster"
    candidates = reachable(s, now)
    if target and target not in candidates:
        return f"node {format_id(target)} has not answered for a lower election timeout"
    if not candidates:
        return "there is no other node that could lead"
    patience = s.timing.stop_grace + WORK_MARGIN + s.timing.upper
    s.handover = Handover(target=target or candidates[0], deadline=now + patience)
    end_work(s)
    offer_when_work_has_ended(s, now)
    return None


def reachable(s: State, now: Instant) -> list[NodeId]:
    """List the voters that have answered within a lower election timeout, the best successor first."""
    lately = [
        node
        for node, follower in s.followers.items()
        if now - follower.heard_at < s.timing.lower and node in s.configuration.voters
    ]

    def rank(node: NodeId) -> tuple[bool, int, int]:
        follower = s.followers[node]
        return follower.last_choice, -follower.match_index, -follower.answered

    return sorted(lately, key=rank)


def offer_when_work_has_ended(s: State, now: Instant) -> None:
    """Send the first offer, to a node that has the whole log; from here on this leader has no lease in this term."""
    if s.handover is None or s.handover.offered or s.own_work is not Work.NONE:
        return
    if s.followers[s.handover.target].match_index < s.log.last_index:
        return
    s.handover.offered = True
    s.handover.deadline = now + s.timing.upper
    send_heartbeats(s, now)  # they claim how little leader work is left
    offer(s, s.handover, now)


def offer(s: State, handover: Handover, now: Instant) -> None:
    """Send ``TimeoutNow`` (thesis 3.10)."""
    if handover.target not in handover.tried:
        handover.tried.add(handover.target)
        handover.retarget_at = now + max(s.timing.heartbeat, 4 * s.timing.resend(s.round_trip(handover.target)))
    handover.resend_at = now + s.timing.resend(s.round_trip(handover.target))
    s.ledger.send(handover.target, TimeoutNow(term=s.term, work=work_left(s, now)), After.NOTHING)


def drive_transfer(s: State, now: Instant) -> None:
    """Repeat the offer, offer leadership to another node, or give up."""
    handover = s.handover
    if handover is None:
        return
    if handover.deadline <= now:
        become_follower(s, s.term, now, "nobody took over the leadership in time")
        return
    if handover.retarget_at <= now:
        others = [node for node in reachable(s, now) if node not in handover.tried]
        handover.target = others[0] if others else handover.target
        handover.retarget_at = NEVER
        offer(s, handover, now)
    elif handover.resend_at <= now:
        offer(s, handover, now)


def handle_timeout_now(s: State, sender: NodeId, message: TimeoutNow, now: Instant) -> None:
    """Start an election at once, in the term directly after the sender's, and in no other (thesis 3.10)."""
    if message.term != s.term or sender != s.leader or s.role is not Role.FOLLOWER or not may_campaign(s):
        return
    s.transferred = EarlierWork(message.term, now + here(message.work))
    start_election(s, now)


def hand_over_after_failure(s: State, now: Instant) -> None:
    """Transfer leadership because the leader script failed here; be the last choice for a while."""
    _lead_no_more(s, now, "the leader script failed, and no other node can lead")


def step_down(s: State, now: Instant) -> None:
    """Transfer leadership because an operator wants it; be the last choice for a while."""
    _lead_no_more(s, now, "it was told to, and no other node can lead")


def _lead_no_more(s: State, now: Instant, alone: str) -> None:
    s.last_choice_until = now + LAST_CHOICE
    if s.role is Role.LEADER and s.handover is None and start_transfer(s, 0, now) is not None:
        become_follower(s, s.term, now, alone)
