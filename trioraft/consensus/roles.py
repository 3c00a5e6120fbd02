"""Becoming a follower, from any role."""

from typing import Final

import msgspec

from trioraft.clock import NEVER
from trioraft.consensus.events import SteppedDown
from trioraft.consensus.leader_work import end_work
from trioraft.consensus.state import Role, State
from trioraft.messages import Instant, NodeId, Term

# How long a question to a voter and its answer take where all voters share few processors, in seconds; and how often
# that is doubled.
_MESSAGE_SECONDS: Final = 0.0002
_DOUBLINGS_MAX: Final = 4


def reset_election_timer(s: State, now: Instant) -> None:
    """Restart the election timer with a random timeout (Raft, section 5.2), not before this node's promise ends."""
    timeout = s.random.uniform(s.timing.lower, s.timing.upper)
    if now < s.last_choice_until:
        timeout += s.timing.upper
    s.election_deadline = max(now + timeout, s.refuse_until)


def retry_soon(s: State, now: Instant) -> None:
    """Set the election timer to a random part of a heartbeat interval, but not before this node's promise ends.

    With many voters it is a part of the time that rounds of all of them take, lest they all begin theirs before one
    is over; and of a time twice as long after each round without a result, because the nodes may be busy.
    """
    rounds = _MESSAGE_SECONDS * len(s.configuration.electors) ** 2 * 2 ** min(s.inconclusive, _DOUBLINGS_MAX)
    pause = s.random.uniform(0, max(s.timing.heartbeat, rounds))
    if now < s.last_choice_until:
        pause += s.timing.upper
    s.election_deadline = max(now + pause, s.refuse_until)


def adopt_term(s: State, term: Term) -> None:
    """Adopt a newer term, in which this node has not voted yet (Raft, section 5.1)."""
    if term > s.term:
        s.ledger.persist(msgspec.structs.replace(s.hard, term=term, voted_for=0))
        s.heard_sequence = 0
        s.leader = 0


def follow(s: State, leader: NodeId) -> None:
    """Follow the leader of the current term; only committed entries surely match the log of a new leader."""
    if s.leader != leader:
        s.leader = leader
        s.matched_index = s.commit_index
        s.ahead.clear()
        s.ahead_bytes = 0
    s.far_terms = None


def become_follower(s: State, term: Term, now: Instant, reason: str) -> None:
    """Be a follower in a term that is the current one or newer (Raft, section 5.1; figure 2: all servers)."""
    was = s.role
    if was is Role.LEADER:
        s.events.append(SteppedDown(term=s.term, reason=reason))
        end_work(s)
        s.followers.clear()
        s.changed.clear()
        s.owing.clear()
        s.handover = None
        s.heartbeat_at = NEVER
        s.leader = 0
    adopt_term(s, term)
    s.role = Role.FOLLOWER
    s.round = None
    s.transferred = None
    if was is not Role.FOLLOWER:
        reset_election_timer(s, now)
