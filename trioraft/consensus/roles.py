"""Becoming a follower, from whatever a node was."""

import msgspec

from trioraft.clock import NEVER
from trioraft.consensus.events import SteppedDown
from trioraft.consensus.leader_work import end_work
from trioraft.consensus.state import Role, State
from trioraft.messages import Instant, OptionalNodeId, Term


def reset_election_timer(s: State, now: Instant) -> None:
    """Draw an election timeout (Raft, section 5.2); it never ends before this node's own promise."""
    timeout = s.random.uniform(s.timing.lower, s.timing.upper)
    if now < s.last_choice_until:
        timeout += s.timing.upper
    s.election_deadline = max(now + timeout, s.refuse_until)


def retry_soon(s: State, now: Instant) -> None:
    """Let the next round of an election come after a random part of a heartbeat."""
    pause = s.random.uniform(0, s.timing.heartbeat)
    if now < s.last_choice_until:
        pause += s.timing.upper
    s.election_deadline = max(now + pause, s.refuse_until)


def adopt_term(s: State, term: Term) -> None:
    """Take over a newer term, in which this node has not voted yet."""
    if term > s.term:
        s.ledger.persist(msgspec.structs.replace(s.hard, term=term, voted_for=0))
        s.heard_sequence = 0
        s.leader = 0


def follow(s: State, leader: OptionalNodeId) -> None:
    """Follow the leader of the current term; of its log, a new one has surely only what is committed."""
    if s.leader != leader:
        s.leader = leader
        s.matched_index = s.commit_index
        s.ahead.clear()
    s.far_terms = None


def become_follower(s: State, term: Term, now: Instant, reason: str) -> None:
    """Be a follower in a term that is the current one or newer (Raft, section 5.1; figure 2: all servers)."""
    was = s.role
    if was is Role.LEADER:
        s.events.append(SteppedDown(term=s.term, reason=reason))
        end_work(s)
        s.followers.clear()
        s.handover = None
        s.heartbeat_at = NEVER
        s.leader = 0
    adopt_term(s, term)
    s.role = Role.FOLLOWER
    s.round = None
    s.transferred = None
    if was is not Role.FOLLOWER:
        reset_election_timer(s, now)
