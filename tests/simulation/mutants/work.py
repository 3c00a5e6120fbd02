"""Seeded bugs in leases, leader work and transfers."""

from typing import Any, Final

from tests.simulation.mutants.mutant import Mutant, Patch, restarted_with, rule, same
from trioraft import messages
from trioraft.clock import LONG_AGO, NEVER
from trioraft.consensus import append_entries, election, leader_work, lease, quorum, transfer
from trioraft.consensus.state import EarlierWork, Role, State


def _no_wait_for_work() -> list[Patch]:
    def wait_for_earlier_work(s: State, _won: object) -> None:
        s.work_until = LONG_AGO
        s.work_term = s.term

    return [(election, "wait_for_earlier_work", wait_for_earlier_work)]


def _any_timeout_now() -> list[Patch]:
    def handle_timeout_now(s: State, _sender: int, message: Any, now: float) -> None:
        if s.role is Role.FOLLOWER:
            s.transferred = EarlierWork(message.term, now + message.work)
            election.start_election(s, now)

    return [rule(messages.TimeoutNow, handle_timeout_now)]


def _bypass_in_any_term() -> list[Patch]:
    def is_chosen(_s: State, _sender: int, request: Any) -> bool:
        return bool(request.transfer)

    def vote_request(s: State) -> Any:
        # a node that was once offered the leadership says so in every later term
        return messages.VoteRequest(s.term, s.log.last_index, s.log.last_term, transfer=s.id in _OFFERED)

    def handle_timeout_now(s: State, sender: int, message: Any, now: float) -> None:
        _OFFERED.add(s.id)
        transfer.handle_timeout_now(s, sender, message, now)

    _OFFERED.clear()
    return [
        (election, "is_chosen", is_chosen),
        (election, "vote_request", vote_request),
        rule(messages.TimeoutNow, handle_timeout_now),
    ]


_OFFERED: Final[set[int]] = set()


def _lease_after_offer() -> list[Patch]:
    return [(lease, "lease_end", lease.contact_end), (leader_work, "lease_end", lease.contact_end)]


def _lease_from_receipt() -> list[Patch]:
    original = append_entries.handle_append_entries_response

    def handle(s: State, sender: int, response: Any, now: float) -> None:
        follower = s.followers.get(sender)
        if follower is not None and response.sequence in follower.sent:
            follower.sent[response.sequence] = now
        original(s, sender, response, now)

    return [rule(messages.AppendEntriesResponse, handle)]


def _no_drift_in_leases() -> list[Patch]:
    return [(lease, "there", same)]


def _no_drift_in_work() -> list[Patch]:
    return [(module, "here", same) for module in (election, transfer, leader_work)]


def _work_until_own_end() -> list[Patch]:
    def work_claim(_s: State, _now: float) -> float:
        return 0.1

    return [(append_entries, "work_claim", work_claim)]


def _offer_with_work() -> list[Patch]:
    def offer_when_work_has_ended(s: State, now: float) -> None:
        if s.handover is not None and not s.handover.offered:
            s.handover.offered = True
            s.handover.deadline = now + s.timing.upper
            transfer.offer(s, s.handover, now)

    def work_left(_s: State, _now: float) -> float:
        return 0.0

    return [(transfer, "offer_when_work_has_ended", offer_when_work_has_ended), (transfer, "work_left", work_left)]


def _lease_outlives_work() -> list[Patch]:
    original = quorum.quorum_deadline

    def quorum_deadline(s: State) -> float:
        return original(s) + s.timing.lower

    return [(quorum, "quorum_deadline", quorum_deadline), *_work_deadline_is_forgotten()]


def _work_deadline_is_forgotten() -> list[Patch]:
    return [(quorum, "work_deadline", lambda _s: NEVER)]


WORK: Final = (
    Mutant(
        "forget the claim of leader work at a restart",
        "leader work: a claim holds across a restart",
        "restart",
        lambda: restarted_with(work=0.0),
    ),
    Mutant(
        "count the lease from the receipt of an answer",
        "thesis 6.4.1: a lease begins when the round was sent",
        "lease",
        _lease_from_receipt,
    ),
    Mutant("take all clocks for equal in leases", "thesis 6.4.1: bounded clock drift", "drift", _no_drift_in_leases),
    Mutant(
        "take all clocks for equal in leader work", "leader work: bounded clock drift", "drift", _no_drift_in_work
    ),
    Mutant(
        "start leader work without waiting", "leader work: the old one's has ended first", "work", _no_wait_for_work
    ),
    Mutant(
        "claim less leader work than there may be",
        "leader work: heartbeats claim all of it",
        "work",
        _work_until_own_end,
    ),
    Mutant(
        "get a lost lease back", "leader work: a lost lease stays lost in its term", "lease", _lease_outlives_work
    ),
    Mutant(
        "lead on when leader work has ended by itself",
        "leader work: extended before its deadline, or never",
        "standing leader",
        _work_deadline_is_forgotten,
    ),
    Mutant("hold the lease after an offer", "thesis 6.4.1: a transfer ends the lease", "lease", _lease_after_offer),
    Mutant(
        "offer leadership while leader work runs",
        "leader work: it has ended before the offer",
        "transfer",
        _offer_with_work,
    ),
    Mutant(
        "accept a late TimeoutNow", "thesis 3.10: only of the current term's leader", "transfer", _any_timeout_now
    ),
    Mutant(
        "bypass promises in any term",
        "thesis 4.2.3: only the leader's chosen successor",
        "transfer",
        _bypass_in_any_term,
    ),
)
