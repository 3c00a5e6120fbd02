"""Seeded bugs in elections: votes, what is written before it is said, and who must not disturb."""

from typing import Any, Final

import msgspec

from tests.simulation.mutants.mutant import Mutant, Patch, restarted_with, rule
from trioraft import messages
from trioraft.consensus import append_entries, election, lease, quorum, roles
from trioraft.consensus.ledger import After, Ledger, Outgoing
from trioraft.consensus.state import Role, State


def _never_sticky() -> list[Patch]:
    def is_sticky(_s: State, _now: float) -> bool:
        return False

    return [(election, "is_sticky", is_sticky)]


def _send_before_disk() -> list[Patch]:
    def send(self: Ledger, to: int, message: Any, _after: After = After.HARD_STATE) -> None:
        self._ready.append(Outgoing(to, message))

    return [(Ledger, "send", send)]


def _own_vote_before_disk() -> list[Patch]:
    def count_own_vote(s: State, now: float) -> None:
        if s.role is Role.CANDIDATE and s.round is not None:
            s.round.granted.add(s.id)
            election.conclude_election(s, now)

    return [(election, "count_own_vote", count_own_vote)]


def _promise_forgotten() -> list[Patch]:
    def resume_promise(_s: State, _now: float) -> None:
        pass

    return [(lease, "resume_promise", resume_promise)]


def _two_votes() -> list[Patch]:
    original = election.handle_vote_request

    def handle(s: State, sender: int, request: Any, now: float) -> None:
        if request.term == s.term and s.role is not Role.LEADER and not lease.is_sticky(s, now):
            s.ledger.hard = msgspec.structs.replace(s.hard, voted_for=0)
        original(s, sender, request, now)

    return [rule(messages.VoteRequest, handle)]


def _no_check_quorum() -> list[Patch]:
    def check_quorum(_s: State, _now: float) -> None:
        pass

    def quorum_deadline(_s: State) -> float:
        return float("inf")

    return [(quorum, "check_quorum", check_quorum), (quorum, "quorum_deadline", quorum_deadline)]


def _stale_term_votes() -> list[Patch]:
    original = election.handle_vote_response

    def handle(s: State, sender: int, response: Any, now: float) -> None:
        original(s, sender, msgspec.structs.replace(response, term=min(response.term, s.term) and s.term), now)

    return [rule(messages.VoteResponse, handle)]


def _terms_raised_by_pre_vote() -> list[Patch]:
    original = election.handle_pre_vote_request

    def handle(s: State, sender: int, request: Any, now: float) -> None:
        if request.term > s.term:
            roles.become_follower(s, request.term, now, "mutant")
        original(s, sender, request, now)

    return [rule(messages.PreVoteRequest, handle)]


def _follow_older_terms() -> list[Patch]:
    original = append_entries.handle_append_entries

    def handle(s: State, sender: int, request: Any, now: float) -> None:
        term = s.term if s.role is Role.FOLLOWER else request.term
        original(s, sender, msgspec.structs.replace(request, term=max(term, request.term)), now)

    return [rule(messages.AppendEntriesRequest, handle)]


ELECTIONS: Final = (
    Mutant(
        "follow a leader of an older term",
        "Raft 5.1: a stale term is rejected",
        "transfer",
        _follow_older_terms,
    ),
    Mutant(
        "forget the vote at a restart",
        "Raft 5.2: votedFor is persistent",
        "restart",
        lambda: restarted_with(voted_for=0),
    ),
    Mutant(
        "forget the length of the promise at a restart",
        "a promise holds across a restart",
        "restart",
        lambda: restarted_with(promise=0.0),
    ),
    Mutant("vote at once after a restart", "a promise holds across a restart", "restart", _promise_forgotten),
    Mutant("vote twice in a term", "Raft 5.2: one vote in a term", "election", _two_votes),
    Mutant("count votes of another term", "Raft 5.2: a majority in the same term", "formation", _stale_term_votes),
    Mutant(
        "vote although a leader was heard of a moment ago",
        "thesis 4.2.3: disruptive servers",
        "election",
        _never_sticky,
    ),
    Mutant("speak before it is on disk", "Raft, figure 2: persist before responding", "election", _send_before_disk),
    Mutant(
        "count the own vote before it is on disk",
        "Raft, figure 2: persist before responding",
        "restart",
        _own_vote_before_disk,
    ),
    Mutant(
        "lead on without a quorum", "thesis 6.2: a leader without a quorum steps down", "election", _no_check_quorum
    ),
    Mutant(
        "let a pre-vote raise the term",
        "thesis 9.6: a pre-vote changes nothing",
        "election",
        _terms_raised_by_pre_vote,
    ),
)
