"""Seeded bugs, each put into the real rules while its test runs: the simulator must find every one of them."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple
from unittest import mock

import msgspec

from tests.simulation.member_mutants import MEMBER_MUTANTS
from tests.simulation.simulation import Result, Simulation
from trioraft import messages
from trioraft.cluster_settings import ClusterSettings
from trioraft.consensus import (
    HardState,
    core,
    election,
    formation,
    heartbeat,
    lease,
    reads,
    replication,
    roles,
    snapshots,
    transfer,
    work,
)
from trioraft.consensus.log import Log
from trioraft.consensus.outbox import After, Outbox
from trioraft.consensus.state import LONG_AGO, ReadFailed, ReadReady, Role, State
from trioraft.consensus.timing import CLOCK_DRIFT
from trioraft.node import replica

_Patch = tuple[object, str, Any]


class Mutant(NamedTuple):
    """A bug, the profile that is best at finding it, what is replaced by what, and words that its violation has."""

    name: str
    profile: str
    patches: Callable[[], list[_Patch]]
    shows: str = ""

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
                if self.shows in result.violation and result.violation:
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
    def send(self: Outbox, to: int, message: Any, _after: After = After.HARD_STATE) -> None:
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
        return messages.VoteRequest(s.term, s.log.last_index, s.log.last_term, transfer=s.id in _OFFERED)

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
    original = heartbeat.handle_append_entries_response

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

    return [(module, "work_claim", work_claim) for module in (heartbeat, replication)]


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

    return [(heartbeat, "quorum_deadline", quorum_deadline)]


def _no_check_quorum() -> list[_Patch]:
    def check_quorum(_s: State, _now: float) -> None:
        pass

    def quorum_deadline(_s: State) -> float:
        return float("inf")

    return [(heartbeat, "check_quorum", check_quorum), (heartbeat, "quorum_deadline", quorum_deadline)]


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


# --- the log ------------------------------------------------------------------------------------------------


def _advance(*, own_term: bool = True, own_disk: bool = True) -> list[_Patch]:
    def advance_commit_index(s: State) -> None:
        if s.role is not Role.LEADER:
            return
        matches = {node: float(follower.match_index) for node, follower in s.followers.items()}
        matches[s.id] = s.outbox.durable_index if own_disk else s.log.last_index
        index = int(s.configuration.quorum_value(matches))
        if index > s.commit_index and (s.log.term_at(index) == s.term or not own_term):
            s.commit_index = index

    return [(module, "advance_commit_index", advance_commit_index) for module in (heartbeat, replication)]


def _acknowledge_before_disk() -> list[_Patch]:
    original = Outbox.send

    def send(self: Outbox, to: int, message: Any, after: After = After.HARD_STATE) -> None:
        original(self, to, message, After.HARD_STATE if after is After.LOG else after)

    return [(Outbox, "send", send)]


def _cut_off_what_follows() -> list[_Patch]:
    original = replication.store_entries

    def store_entries(s: State, request: Any, now: float) -> bool:
        stored = original(s, request, now)
        end = request.prev_log_index + len(request.entries)
        if stored and request.entries and s.log.base_index <= end < s.log.last_index:
            s.outbox.truncate(end + 1, now)
            s.matched_index = s.commit_index = min(s.commit_index, end)
        return stored

    return [(module, "store_entries", store_entries) for module in (heartbeat, replication)]


def _keep_what_matched() -> list[_Patch]:
    def follow(s: State, leader: int) -> None:
        s.leader = leader

    return [(module, "follow", follow) for module in (heartbeat, snapshots)]


def _commit_whatever_is_there() -> list[_Patch]:
    def follow_commit_index(s: State, request: Any) -> None:
        s.commit_index = max(s.commit_index, min(request.commit_index, s.log.last_index))

    return [(heartbeat, "follow_commit_index", follow_commit_index)]


def _read_without_round() -> list[_Patch]:
    def start_read(s: State, read: int, _now: float) -> None:
        s.events.append(ReadReady(read=read, index=s.commit_index))

    return [(reads, "start_read", start_read)]


def _read_before_no_op() -> list[_Patch]:
    original = reads.conclude_reads

    def conclude_reads(s: State, now: float) -> None:
        s.opened_at, opened_at = 0, s.opened_at
        original(s, now)
        s.opened_at = opened_at

    return [(reads, "conclude_reads", conclude_reads)]


def _vote_for_shorter_logs() -> list[_Patch]:
    def is_up_to_date(_s: State, _request: Any) -> bool:
        return True

    return [(election, "is_up_to_date", is_up_to_date)]


def _lose_an_entry() -> list[_Patch]:
    original = core.Core.__init__

    def forgetful(self: core.Core, node: int, hard: HardState, log: Log, *rest: Any, **named: Any) -> None:
        kept = log.entries(log.base_index + 1, log.last_index - 1)
        original(self, node, hard, Log(log.base_index, log.base_term, kept), *rest, **named)

    return [(core.Core, "__init__", forgetful)]


def _refusals_name_messages() -> list[_Patch]:
    original = heartbeat.handle_append_entries

    def handle(s: State, sender: int, request: Any, now: float) -> None:
        if request.term < s.term:
            s.outbox.send(sender, heartbeat.answer(s, request, 0.0, now))
        else:
            original(s, sender, request, now)

    return [_rule(messages.AppendEntriesRequest, handle)]


def _snapshot_before_disk() -> list[_Patch]:
    original = Outbox.install_snapshot

    def install_snapshot(self: Outbox, snapshot: Any, now: float) -> None:
        original(self, snapshot, now)
        self.durable_index = max(self.durable_index, snapshot.index)

    return [(Outbox, "install_snapshot", install_snapshot)]


def _apply_twice() -> list[_Patch]:
    def apply_once(_: replica.Replica, command: replica.SessionCommand, apply: Any) -> replica.Result:
        return replica.Result(data=apply(command.data))

    return [(replica.Replica, "_apply_once", apply_once)]


def _snapshot_without_sessions() -> list[_Patch]:
    original = replica.Replica.restore

    def restore(self: replica.Replica, index: int, chunks: Any) -> None:
        original(self, index, chunks)
        for session in self._sessions.values():
            session.results.clear()

    return [(replica.Replica, "restore", restore)]


def _take_entries_without_looking() -> list[_Patch]:
    original = replication.store_entries

    def store_entries(s: State, request: Any, now: float) -> bool:
        known = s.log.term_at(request.prev_log_index)
        if known is not None:
            request = msgspec.structs.replace(request, prev_log_term=known)
        return original(s, request, now)

    return [(module, "store_entries", store_entries) for module in (heartbeat, replication)]


def _never_cut_off() -> list[_Patch]:
    original = replication.store_entries

    def store_entries(s: State, request: Any, now: float) -> bool:
        kept = [
            msgspec.structs.replace(entry, term=s.log.term_at(index) or entry.term)
            for index, entry in enumerate(request.entries, request.prev_log_index + 1)
        ]
        return original(s, msgspec.structs.replace(request, entries=tuple(kept)), now)

    return [(module, "store_entries", store_entries) for module in (heartbeat, replication)]


def _heartbeats_before_disk() -> list[_Patch]:
    original = heartbeat.answer

    def answer(s: State, request: Any, seconds: float, now: float, *, rejected: bool = False) -> Any:
        told = original(s, request, seconds, now, rejected=rejected)
        return msgspec.structs.replace(told, matched=s.matched_index)

    return [(heartbeat, "answer", answer)]


def _on_disk_as_it_was() -> list[_Patch]:
    original = Outbox.truncate

    def truncate(self: Outbox, first: int, now: float) -> None:
        durable, handed = self.durable_index, self._handed_to
        original(self, first, now)
        self.durable_index, self._handed_to = durable, handed

    return [(Outbox, "truncate", truncate)]


def _install(change: Callable[[Log, Any], None]) -> list[_Patch]:
    original = Outbox.install_snapshot

    def install_snapshot(self: Outbox, snapshot: Any, now: float) -> None:
        change(self.log, snapshot)
        original(self, snapshot, now)

    return [(Outbox, "install_snapshot", install_snapshot)]


def _drop_what_follows_a_snapshot(log: Log, snapshot: Any) -> None:
    if log.term_at(snapshot.index) == snapshot.term:
        log.truncate(snapshot.index + 1)


def _keep_what_contradicts_a_snapshot(log: Log, snapshot: Any) -> None:
    if log.base_index < snapshot.index < log.last_index:
        log._entries[snapshot.index - log.base_index - 1] = messages.Entry(snapshot.term, messages.EntryKind.NO_OP)


def _half_is_a_quorum() -> list[_Patch]:
    def advance_commit_index(s: State) -> None:
        voters = s.configuration.voters
        if s.role is Role.LEADER and len(voters) > 1:
            matches = {node: follower.match_index for node, follower in s.followers.items()}
            matches[s.id] = s.outbox.durable_index
            index = sorted(matches.values(), reverse=True)[len(voters) // 2 - 1]
            if index > s.commit_index and s.log.term_at(index) == s.term:
                s.commit_index = index

    return [(module, "advance_commit_index", advance_commit_index) for module in (heartbeat, replication)]


# --- reads by the lease -------------------------------------------------------------------------------------


def _reads_until(end: Callable[[State], float]) -> list[_Patch]:
    """Let reads go by the lease, and the leader lead, until another time."""
    original = heartbeat.quorum_deadline

    def quorum_deadline(s: State) -> float:
        return max(original(s), end(s))

    return [(reads, "lease_end", end), (heartbeat, "quorum_deadline", quorum_deadline)]


def _reads_after_the_lease() -> list[_Patch]:
    return _reads_until(lambda s: lease.lease_end(s) + s.timing.lower)


def _reads_without_drift() -> list[_Patch]:
    return _reads_until(lambda s: lease.lease_end(s) + s.timing.lower * CLOCK_DRIFT)


def _reads_after_offer() -> list[_Patch]:
    return [(reads, "lease_end", lease.contact_end)]


def _reads_with_an_old_clock() -> list[_Patch]:
    def start_read(self: core.Core, read: int, _now: float) -> None:
        if self.state is None:
            self._events.append(ReadFailed(read=read))
        else:
            reads.start_read(self.state, read, self._now)

    return [(core.Core, "start_read", start_read)]


def _reads_by_lease_always() -> list[_Patch]:
    def goes_by_lease(s: State) -> bool:
        return s.applied_index >= s.opened_at

    return [(reads, "goes_by_lease", goes_by_lease)]


def _snapshot_without_settings() -> list[_Patch]:
    original = replica.Replica.restore

    def restore(self: replica.Replica, index: int, chunks: Any) -> None:
        original(self, index, chunks)
        self.settings = ClusterSettings()

    return [(replica.Replica, "restore", restore)]


_BY_LEASE: Final = "goes by a lease, and"

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
    Mutant("commit an entry of an older term by counting", "figure 8", lambda: _advance(own_term=False)),
    Mutant("count the own entry before it is on disk", "log", lambda: _advance(own_disk=False)),
    Mutant("acknowledge entries before they are on disk", "log", _acknowledge_before_disk),
    Mutant("cut off what follows the entries that came", "reorder", _cut_off_what_follows),
    Mutant("forget that a new leader may have another log", "divergence", _keep_what_matched),
    Mutant("commit whatever is at the leader's commit index", "divergence", _commit_whatever_is_there),
    Mutant("vote for a log that is not up to date", "divergence", _vote_for_shorter_logs),
    Mutant("lose an entry at a restart", "restart", _lose_an_entry),
    Mutant("take the refusal of an old message for an answer", "divergence", _refusals_name_messages),
    Mutant("acknowledge a snapshot before it is on disk", "snapshot", _snapshot_before_disk),
    Mutant("read without a round", "divergence", _read_without_round),
    Mutant("read before the term's no-op is committed", "log", _read_before_no_op),
    Mutant("apply a repeated command again", "log", _apply_twice),
    Mutant("leave the sessions' results out of snapshots", "snapshot", _snapshot_without_sessions),
    Mutant("take entries without looking at the one before", "divergence", _take_entries_without_looking),
    Mutant("keep entries that contradict the leader's", "divergence", _never_cut_off),
    Mutant("say in the answer to a heartbeat what is not on disk", "log", _heartbeats_before_disk),
    Mutant("take what replaced other entries for on disk as those were", "divergence", _on_disk_as_it_was),
    Mutant("drop what follows a snapshot that agrees", "snapshot", lambda: _install(_drop_what_follows_a_snapshot)),
    Mutant("keep what contradicts a snapshot", "snapshot", lambda: _install(_keep_what_contradicts_a_snapshot)),
    Mutant("commit what half of the voters have", "log", _half_is_a_quorum),
    Mutant("leave the settings out of snapshots", "snapshot", _snapshot_without_settings),
    Mutant("read by the lease after it has ended", "reads", _reads_after_the_lease, _BY_LEASE),
    Mutant("take all clocks for equal in reads by the lease", "reads", _reads_without_drift, _BY_LEASE),
    Mutant("read by the lease after an offer", "reads", _reads_after_offer, _BY_LEASE),
    Mutant("read by the lease at a time from before a pause", "reads", _reads_with_an_old_clock, _BY_LEASE),
    Mutant("read by the lease whatever the settings say", "reads", _reads_by_lease_always, "a quorum is asked"),
    *(Mutant(*mutant) for mutant in MEMBER_MUTANTS),
)
