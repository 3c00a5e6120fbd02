"""Elections: pre-vote (thesis 9.6), vote and victory (Raft, sections 5.2 and 5.4.1)."""

import msgspec

from trioraft.consensus.append_entries import open_term, send_heartbeats
from trioraft.consensus.events import BecameLeader
from trioraft.consensus.leader_work import record_own_claim, wait_for_earlier_work, work_left
from trioraft.consensus.lease import is_sticky
from trioraft.consensus.progress import look_at_all
from trioraft.consensus.roles import adopt_term, become_follower, reset_election_timer, retry_soon
from trioraft.consensus.state import EarlierWork, Follower, Question, Role, Round, State
from trioraft.consensus.tally import Tally
from trioraft.consensus.timing import here
from trioraft.messages import (
    TERM_MAX,
    Instant,
    Message,
    NodeId,
    PreVoteRequest,
    PreVoteResponse,
    VoteRequest,
    VoteResponse,
)

# A round without a result was perhaps too short for the network. So each further round lasts twice as long, up to an
# election timeout; after so many doublings it stays as it is.
_DOUBLINGS_MAX = 8


# --- rounds -------------------------------------------------------------------------------------------------


def start_round(s: State, now: Instant) -> Round:
    """Begin a round: a question to all other voters, to which a quorum must agree.

    Its deadline is the election timeout of a candidate (Raft, section 5.2).
    """
    others = s.other_electors
    slowest = max((s.timing.resend(s.round_trip(node)) for node in others), default=0.0)
    length = max(s.timing.heartbeat, 4 * slowest) * 2 ** min(s.inconclusive, _DOUBLINGS_MAX)
    asking = Round(deadline=now + min(length, s.timing.lower), unanswered={node: Question() for node in others})
    s.round = asking
    return asking


def ask(s: State, asking: Round, request: Message, now: Instant) -> None:
    """Send a request to the voters that have not answered and are due.

    Each pause is twice as long as the one before, up to a heartbeat interval, or the voter's round trip if longer.
    """
    for node, question in asking.unanswered.items():
        if question.due_at <= now:
            first = s.timing.resend(s.round_trip(node))
            question.pause = min(2 * question.pause, max(first, s.timing.heartbeat)) if question.sent else first
            question.asked_at = now
            question.sent += 1
            s.ledger.send(node, request)


def note_answer(s: State, asking: Round, sender: NodeId, granted: bool, now: Instant) -> None:
    """Note the answer of one voter; the round is over when a quorum has become impossible.

    Only a question that was sent once measures the round trip: the answer to a repeated question does not tell which
    sending it answers (Karn's algorithm; RFC 6298, section 3).
    """
    question = asking.unanswered.pop(sender, None)
    if question is not None and question.sent == 1:
        s.measure_round_trip(sender, now - question.asked_at)
    (asking.granted if granted else asking.refused).add(sender)
    if not granted and not s.configuration.has_quorum(s.configuration.elector_set - asking.refused):
        give_up_round(s, now)


def give_up_round(s: State, now: Instant) -> None:
    """End a round without a result; after a random part of a heartbeat interval the next pre-vote begins.

    The paper waits for another election timeout (section 5.2). Here the timer calls `start_pre_vote` when
    `election_deadline` has come.
    """
    s.round = None
    s.role = Role.PRE_CANDIDATE
    s.inconclusive += 1
    s.transferred = None
    retry_soon(s, now)


def ask_again(s: State, now: Instant) -> None:
    """Send unanswered questions again, or end the round when its time is up (Raft, section 5.2: split votes)."""
    if s.round is None:
        return
    if s.round.deadline <= now:
        give_up_round(s, now)
    elif s.role is Role.PRE_CANDIDATE:
        ask(s, s.round, pre_vote_request(s), now)
    else:
        ask(s, s.round, vote_request(s), now)


# --- pre-vote -----------------------------------------------------------------------------------------------


def may_campaign(s: State) -> bool:
    """Check whether this node may lead: it votes by the newest committed configuration, or by one after it.

    A voter that a configuration leaves out may be the only node that can get that configuration committed.
    Then it leads without counting itself (thesis 4.2.2).
    """
    return s.id in s.configuration.electors or any(
        s.id in known.configuration.electors for known in s.log.configurations_since(s.commit_index)
    )


def start_pre_vote(s: State, now: Instant) -> None:
    """Ask, without raising the term, whether an election could be won (Raft, section 5.2; thesis 9.6)."""
    if not may_campaign(s) or s.term >= TERM_MAX:
        reset_election_timer(s, now)
        s.leader = 0
        return
    s.role = Role.PRE_CANDIDATE
    s.leader = 0
    s.transferred = None
    s.round_number += 1
    asking = start_round(s, now)
    asking.granted.add(s.id)
    ask(s, asking, pre_vote_request(s), now)
    conclude_pre_vote(s, now)


def pre_vote_request(s: State) -> PreVoteRequest:
    """Make the question of this round of pre-votes (thesis 9.6)."""
    return PreVoteRequest(
        term=s.term + 1,
        round=s.round_number,
        last_log_index=s.log.last_index,
        last_log_term=s.log.last_term,
    )


def handle_pre_vote_request(s: State, sender: NodeId, request: PreVoteRequest, now: Instant) -> None:
    """Answer whether this node would vote for the sender; a refusal is an answer too, with this node's term."""
    granted = request.term > s.term and not is_sticky(s, now) and is_up_to_date(s, request)
    s.ledger.send(sender, PreVoteResponse(term=s.term, round=request.round, granted=granted))


def handle_pre_vote_response(s: State, sender: NodeId, response: PreVoteResponse, now: Instant) -> None:
    """Count an answer of this round of pre-votes."""
    if response.term > s.term:
        become_follower(s, response.term, now, f"a voter knows term {response.term}")
        retry_soon(s, now)
        return
    if s.role is not Role.PRE_CANDIDATE or s.round is None or response.round != s.round_number:
        return
    note_answer(s, s.round, sender, response.granted, now)
    conclude_pre_vote(s, now)


def conclude_pre_vote(s: State, now: Instant) -> None:
    """Start the election once a quorum would vote for this node (thesis 9.6)."""
    if s.round is not None and s.configuration.has_quorum(s.round.granted):
        start_election(s, now)


# --- vote ---------------------------------------------------------------------------------------------------


def start_election(s: State, now: Instant) -> None:
    """Become a candidate: a new term, a vote for itself, and a request to all other voters (Raft, section 5.2).

    No request leaves before the term and the vote are on disk, and the candidate's own vote counts only then.
    """
    adopt_term(s, s.term + 1)
    s.ledger.persist(msgspec.structs.replace(s.hard, voted_for=s.id))
    s.role = Role.CANDIDATE
    s.leader = 0
    ask(s, start_round(s, now), vote_request(s), now)
    count_own_vote(s, now)


def count_own_vote(s: State, now: Instant) -> None:
    """Count the candidate's vote for itself once it is on disk."""
    if s.role is Role.CANDIDATE and s.round is not None and s.ledger.durable >= s.ledger.hard_written:
        s.round.granted.add(s.id)
        conclude_election(s, now)


def vote_request(s: State) -> VoteRequest:
    """Make the request of this election (Raft, figure 2: RequestVote)."""
    return VoteRequest(
        term=s.term,
        last_log_index=s.log.last_index,
        last_log_term=s.log.last_term,
        transfer=s.transferred is not None,
    )


def handle_vote_request(s: State, sender: NodeId, request: VoteRequest, now: Instant) -> None:
    """Vote for the first candidate of a term whose log is up to date (Raft, figure 2: RequestVote 1 and 2).

    A voter that heard from a leader a moment ago neither votes nor takes over the term (thesis 4.2.3). The exception
    is the successor that this leader chose (thesis 3.10): it gets the vote in the term directly after, and in no
    other.
    """
    granted = False
    if not is_sticky(s, now) or is_chosen(s, sender, request):
        if request.term > s.term:
            become_follower(s, request.term, now, f"a candidate has term {request.term}")
        free = request.term == s.term and s.hard.voted_for in {0, sender}
        granted = free and is_up_to_date(s, request)
    if granted:
        become_follower(s, s.term, now, f"a candidate has term {s.term}")
        s.ledger.persist(msgspec.structs.replace(s.hard, voted_for=sender))
        reset_election_timer(s, now)
    s.ledger.send(
        sender,
        VoteResponse(term=s.term, granted=granted, work=work_left(s, now), work_term=s.work_term),
    )


def is_chosen(s: State, sender: NodeId, request: VoteRequest) -> bool:
    """Check whether the leader that this node follows, or this leader itself, offered the sender its leadership."""
    if s.role is Role.LEADER and (s.handover is None or not s.handover.offered):
        return False
    repeated = request.term == s.term and s.hard.voted_for == sender
    return request.transfer and (request.term == s.term + 1 or repeated)


def is_up_to_date(s: State, request: PreVoteRequest | VoteRequest) -> bool:
    """Check whether the sender's log is at least as up to date as this node's (Raft, section 5.4.1)."""
    return (request.last_log_term, request.last_log_index) >= (s.log.last_term, s.log.last_index)


def handle_vote_response(s: State, sender: NodeId, response: VoteResponse, now: Instant) -> None:
    """Count an answer to this election's request (Raft, section 5.2)."""
    if response.term > s.term:
        become_follower(s, response.term, now, f"a voter knows term {response.term}")
        retry_soon(s, now)
        return
    if s.role is not Role.CANDIDATE or s.round is None:
        return
    if response.granted and response.term != s.term:
        return
    if response.granted:
        s.round.work[sender] = EarlierWork(response.work_term, now + here(response.work))
    note_answer(s, s.round, sender, response.granted, now)
    conclude_election(s, now)


def conclude_election(s: State, now: Instant) -> None:
    """Become the leader with the votes of a quorum (Raft, section 5.2)."""
    if s.round is not None and s.configuration.has_quorum(s.round.granted):
        become_leader(s, s.round, now)


def become_leader(s: State, won: Round, now: Instant) -> None:
    """Lead: announce it at once by heartbeats, and wait with leader work until all earlier work has ended."""
    wait_for_earlier_work(s, won)
    s.role = Role.LEADER
    s.caught_up = True
    s.leader = s.id
    s.round = None
    s.inconclusive = 0
    s.leader_since = now
    s.sequence = 0
    s.followers = {node: Follower() for node in s.others}
    s.contact, s.matched, s.confirmed = Tally(), Tally(), Tally()
    look_at_all(s)
    for node in won.work:
        if node in s.followers:
            s.followers[node].heard_at = now  # its vote came just now, or not long ago
    s.events.append(BecameLeader(term=s.term))
    record_own_claim(s, now)
    open_term(s)
    send_heartbeats(s, now)
