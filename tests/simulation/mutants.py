"""Seeded bugs, each put into the real rules while its test runs: the simulator must find every one of them."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple
from unittest import mock

import msgspec

from tests.simulation.simulation import Result, Simulation
from trioraft import messages
from trioraft.consensus import core, election, formation, lease, replication, roles, transfer, work
from trioraft.consensus.state import LONG_AGO, HardState, Outbox, Role, State

_Patch = tuple[object, str, Any]


class Mutant(NamedTuple):
    """A bug, the profile that is best at finding it, and what is replaced by what."""

    name: str
    profile: str
    patches: Callable[[], list[_Patch]]

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Have the bug for a while."""
        with contextlib.ExitStack() as stack:
            for target, attribute, replacement in self.patches():
                stack.enter_context(mock.patch.object(target, attribute, replacement))
            yield

    def hunt(self, seeds: int) -> Result | None:
        """Give the first life in which the bug shows; None when it does not in so many."""
        with self.applied():
            for seed in range(seeds):
                result = Simulation(seed, self.profile).run()
                if result.violation:
                    return result
        return None


def _restarted_with(**lost: Any) -> list[_Patch]:
    """Start nodes as if a part of the hard state had not been on disk."""
    original = core.Core.__init__

    def forgetful(self: core.Core, node: int, hard: HardState, *rest: Any, **named: Any) -> None:
        original(self, node, msgspec.structs.replace(hard, **lost), *rest, **named)

    return [(core.Core, "__init__", forgetful)]


def _never_sticky() -> list[_Patch]:
    def is_sticky(_s: State, _now: float) -> bool:
        return False

    return [(election, "is_sticky", is_sticky)]


def _no_wait_for_work() -> list[_Patch]:
    def wait_for_earlier_work(s: State, _won: object) -> None:
        s.work_until = LONG_AGO
        s.work_term = s.term

    return [(election, "wait_for_earlier_work", wait_for_earlier_work)]


def _promise_any_formation() -> list[_Patch]:
    def may_promise(self: formation.Formation, request: Any) -> bool:
        return 0 < self.expect <= len(request.members)

    return [(formation.Formation, "may_promise", may_promise)]


def _send_before_disk() -> list[_Patch]:
    def send(self: Outbox, to: int, message: Any, *, after_disk: bool = True) -> None:
        self._ready.append((to, message))

    return [(Outbox, "send", send)]


def _own_vote_before_disk() -> list[_Patch]:
    def count_own_vote(s: State, now: float) -> None:
        if s.role is Role.CANDIDATE and s.round is not None:
            s.round.granted.add(s.id)
            election.conclude_election(s, now)

    return [(election, "count_own_vote", count_own_vote)]


def _any_timeout_now() -> list[_Patch]:
    def handle_timeout_now(s: State, _sender: int, message: Any, now: float) -> None:
        if s.role is Role.FOLLOWER:
            s.transferred = (message.term, now + message.work)
            election.start_election(s, now)

    return [_rule(messages.TimeoutNow, handle_timeout_now)]


def _rule(message: type, rule: Callable[..., None]) -> _Patch:
    return (core, "_RULES", {**core._RULES, message: rule})


def _bypass_in_any_term() -> list[_Patch]:
    def is_chosen(_s: State, _sender: int, request: Any) -> bool:
        return bool(request.transfer)

    def vote_request(s: State) -> Any:
        # a node that was once offered the leadership says so in every later term
        return messages.VoteRequest(s.term, s.last_log_index, s.last_log_term, transfer=s.id in _OFFERED)

    def handle_timeout_now(s: State, sender: int, message: Any, now: float) -> None:
        _OFFERED.add(s.id)
        transfer.handle_timeout_now(s, sender, message, now)

    _OFFERED.clear()
    return [
        (election, "is_chosen", is_chosen),
        (election, "vote_request", vote_request),
        _rule(messages.TimeoutNow, handle_timeout_now),
    ]


_OFFERED: Final[set[int]] = set()


def _lease_after_offer() -> list[_Patch]:
    return [(lease, "lease_end", lease.contact_end), (work, "lease_end", lease.contact_end)]


def _lease_from_receipt() -> list[_Patch]:
    original = replication.handle_append_entries_response

    def handle(s: State, sender: int, response: Any, now: float) -> None:
        follower = s.followers.get(sender)
        if follower is not None and response.sequence in follower.sent:
            follower.sent[response.sequence] = now
        original(s, sender, response, now)

    return [_rule(messages.AppendEntriesResponse, handle)]


def _same(seconds: float) -> float:
    return seconds


def _no_drift_in_leases() -> list[_Patch]:
    return [(lease, "there", _same)]


def _no_drift_in_work() -> list[_Patch]:
    return [(module, "here", _same) for module in (election, transfer, work)]


def _work_until_own_end() -> list[_Patch]:
    def work_claim(_s: State, _now: float) -> float:
        return 0.1

    return [(replication, "work_claim", work_claim)]


def _offer_with_work() -> list[_Patch]:
    def offer_when_work_has_ended(s: State, now: float) -> None:
        if s.handover is not None and not s.handover.offered:
            s.handover.offered = True
            s.handover.deadline = now + s.timing.upper
            transfer.offer(s, s.handover, now)

    def work_left(_s: State, _now: float) -> float:
        return 0.0

    return [(transfer, "offer_when_work_has_ended", offer_when_work_has_ended), (transfer, "work_left", work_left)]


def _promise_forgotten() -> list[_Patch]:
    def resume_promise(_s: State, _now: float) -> None:
        pass

    return [(lease, "resume_promise", resume_promise)]


def _volatile_refusal() -> list[_Patch]:
    def refuse(self: formation.Formation, sender: int, identifier: int, _now: float) -> None:
        self.outbox.send(sender, messages.FormationResponse(formation=identifier, promised=False))

    return [(formation.Formation, "refuse", refuse)]


def _stands_with_most() -> list[_Patch]:
    def stand_if_complete(self: formation.Formation, now: float) -> None:
        if self.state.promised and 2 * len(self.missing) < len(self.state.members):
            self.stand(now)

    return [(formation.Formation, "stand_if_complete", stand_if_complete)]


def _two_votes() -> list[_Patch]:
    original = election.handle_vote_request

    def handle(s: State, sender: int, request: Any, now: float) -> None:
        if request.term == s.term and s.role is not Role.LEADER and not lease.is_sticky(s, now):
            s.outbox.hard = msgspec.structs.replace(s.hard, voted_for=0)
        original(s, sender, request, now)

    return [_rule(messages.VoteRequest, handle)]


def _lease_outlives_work() -> list[_Patch]:
    def quorum_deadline(s: State) -> float:
        return max(lease.contact_end(s), s.leader_since + s.timing.lower)

    return [(replication, "quorum_deadline", quorum_deadline)]


def _no_check_quorum() -> list[_Patch]:
    def check_quorum(_s: State, _now: float) -> None:
        pass

    def quorum_deadline(_s: State) -> float:
        return float("inf")

    return [(replication, "check_quorum", check_quorum), (replication, "quorum_deadline", quorum_deadline)]


def _stale_term_votes() -> list[_Patch]:
    original = election.handle_vote_response

    def handle(s: State, sender: int, response: Any, now: float) -> None:
        original(s, sender, msgspec.structs.replace(response, term=min(response.term, s.term) and s.term), now)

    return [_rule(messages.VoteResponse, handle)]


def _members_answer_views() -> list[_Patch]:
    original = formation.Formation.answer_as_member

    def answer_as_member(self: formation.Formation, sender: int, _cluster: int, message: Any) -> None:
        original(self, sender, 0, message)

    return [(formation.Formation, "answer_as_member", answer_as_member)]


def _membership_before_disk() -> list[_Patch]:
    return [(core.Core, "cluster", property(lambda self: self.formation.state.cluster))]


def _terms_raised_by_pre_vote() -> list[_Patch]:
    original = election.handle_pre_vote_request

    def handle(s: State, sender: int, request: Any, now: float) -> None:
        if request.term > s.term:
            roles.become_follower(s, request.term, now, "mutant")
        original(s, sender, request, now)

    return [_rule(messages.PreVoteRequest, handle)]


MUTANTS: Final = (
    Mutant("forget the vote at a restart", "restart", lambda: _restarted_with(voted_for=0)),
    Mutant("forget the length of the promise at a restart", "restart", lambda: _restarted_with(promise=0.0)),
    Mutant("vote at once after a restart", "restart", _promise_forgotten),
    Mutant("forget the claim of leader work at a restart", "restart", lambda: _restarted_with(work=0.0)),
    Mutant("vote twice in a term", "election", _two_votes),
    Mutant("count votes of another term", "election", _stale_term_votes),
    Mutant("vote although a leader was heard of a moment ago", "election", _never_sticky),
    Mutant("speak before it is on disk", "election", _send_before_disk),
    Mutant("count the own vote before it is on disk", "restart", _own_vote_before_disk),
    Mutant("count the lease from the receipt of an answer", "lease", _lease_from_receipt),
    Mutant("lead on without a quorum", "election", _no_check_quorum),
    Mutant("let a pre-vote raise the term", "election", _terms_raised_by_pre_vote),
    Mutant("take all clocks for equal in leases", "drift", _no_drift_in_leases),
    Mutant("take all clocks for equal in leader work", "drift", _no_drift_in_work),
    Mutant("start leader work without waiting", "work", _no_wait_for_work),
    Mutant("claim less leader work than there may be", "work", _work_until_own_end),
    Mutant("get a lost lease back", "work", _lease_outlives_work),
    Mutant("hold the lease after an offer", "lease", _lease_after_offer),
    Mutant("offer leadership while leader work runs", "transfer", _offer_with_work),
    Mutant("accept a late TimeoutNow", "transfer", _any_timeout_now),
    Mutant("bypass promises in any term", "transfer", _bypass_in_any_term),
    Mutant("promise two formations", "formation", _promise_any_formation),
    Mutant("refuse a formation without writing it", "formation", _volatile_refusal),
    Mutant("take a formation for standing with most promises", "formation", _stands_with_most),
    Mutant("speak for a cluster before it is on disk", "formation", _membership_before_disk),
    Mutant("answer the views of members", "formation", _members_answer_views),
)
