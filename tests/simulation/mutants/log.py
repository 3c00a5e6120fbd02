"""Seeded bugs in the log, in snapshots and in what is applied."""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from tests.simulation.mutants.mutant import Mutant, Patch, rule
from trioraft import messages
from trioraft.consensus import append_entries, core, election, ledger, snapshots
from trioraft.consensus.hard import HardState
from trioraft.consensus.ledger import After, Ledger
from trioraft.consensus.log import Log
from trioraft.consensus.state import Role, State
from trioraft.replica import sessions
from trioraft.replica.settings import ClusterSettings


def _advance(*, own_term: bool = True, own_disk: bool = True) -> list[Patch]:
    def advance_commit_index(s: State) -> None:
        if s.role is not Role.LEADER:
            return
        matches = {node: float(follower.match_index) for node, follower in s.followers.items()}
        matches[s.id] = s.ledger.durable_index if own_disk else s.log.last_index
        index = int(s.configuration.quorum_value(matches))
        if index > s.commit_index and (s.log.term_at(index) == s.term or not own_term):
            s.commit_index = index

    return [(append_entries, "advance_commit_index", advance_commit_index)]


def _acknowledge_before_disk() -> list[Patch]:
    original = Ledger.send

    def send(self: Ledger, to: int, message: Any, after: After = After.HARD_STATE) -> None:
        original(self, to, message, After.HARD_STATE if after is After.LOG else after)

    return [(Ledger, "send", send)]


def _cut_off_what_follows() -> list[Patch]:
    original = append_entries.store_entries

    def store_entries(s: State, request: Any, now: float) -> bool:
        stored = original(s, request, now)
        end = request.prev_log_index + len(request.entries)
        if stored and request.entries and s.log.base_index <= end < s.log.last_index:
            s.ledger.truncate(end + 1)
            s.matched_index = s.commit_index = min(s.commit_index, end)
        return stored

    return [(append_entries, "store_entries", store_entries)]


def _keep_what_matched() -> list[Patch]:
    def follow(s: State, leader: int) -> None:
        s.leader = leader

    return [(module, "follow", follow) for module in (append_entries, snapshots)]


def _commit_whatever_is_there() -> list[Patch]:
    def follow_commit_index(s: State, request: Any) -> None:
        s.commit_index = max(s.commit_index, min(request.commit_index, s.log.last_index))

    return [(append_entries, "follow_commit_index", follow_commit_index)]


def _vote_for_shorter_logs() -> list[Patch]:
    def is_up_to_date(_s: State, _request: Any) -> bool:
        return True

    return [(election, "is_up_to_date", is_up_to_date)]


def _lose_an_entry() -> list[Patch]:
    original = core.Core.__init__

    def forgetful(self: core.Core, node: int, hard: HardState, log: Log, *rest: Any, **named: Any) -> None:
        kept = log.entries(log.base_index + 1, log.last_index - 1)
        original(self, node, hard, Log(log.base_index, log.base_term, kept), *rest, **named)

    return [(core.Core, "__init__", forgetful)]


def _refusals_name_messages() -> list[Patch]:
    original = append_entries.handle_append_entries

    def handle(s: State, sender: int, request: Any, now: float) -> None:
        if request.term < s.term:
            s.ledger.send(sender, append_entries.answer(s, request, 0.0, now))
        else:
            original(s, sender, request, now)

    return [rule(messages.AppendEntriesRequest, handle)]


def _snapshot_before_disk() -> list[Patch]:
    original = Ledger.install_snapshot

    def install_snapshot(self: Ledger, snapshot: Any) -> None:
        original(self, snapshot)
        self.durable_index = max(self.durable_index, snapshot.index)

    return [(Ledger, "install_snapshot", install_snapshot)]


def _apply_twice() -> list[Patch]:
    def apply_once(_: sessions.Replica, command: sessions.SessionCommand, apply: Any) -> sessions.Result:
        return sessions.Result(data=apply(command.data))

    return [(sessions.Replica, "_apply_once", apply_once)]


def _snapshot_without_sessions() -> list[Patch]:
    original = sessions.Replica.restore

    def restore(self: sessions.Replica, index: int, chunks: Any) -> None:
        original(self, index, chunks)
        for session in self._sessions.values():
            session.results.clear()

    return [(sessions.Replica, "restore", restore)]


def _take_entries_without_looking() -> list[Patch]:
    original = append_entries.store_entries

    def store_entries(s: State, request: Any, now: float) -> bool:
        known = s.log.term_at(request.prev_log_index)
        if known is not None:
            request = msgspec.structs.replace(request, prev_log_term=known)
        return original(s, request, now)

    return [(append_entries, "store_entries", store_entries)]


def _never_cut_off() -> list[Patch]:
    original = append_entries.store_entries

    def store_entries(s: State, request: Any, now: float) -> bool:
        kept = [
            msgspec.structs.replace(entry, term=s.log.term_at(index) or entry.term)
            for index, entry in enumerate(request.entries, request.prev_log_index + 1)
        ]
        return original(s, msgspec.structs.replace(request, entries=tuple(kept)), now)

    return [(append_entries, "store_entries", store_entries)]


def _heartbeats_before_disk() -> list[Patch]:
    original = append_entries.answer

    def answer(s: State, request: Any, seconds: float, now: float, *, rejected: bool = False) -> Any:
        told = original(s, request, seconds, now, rejected=rejected)
        return msgspec.structs.replace(told, matched=s.matched_index)

    return [(append_entries, "answer", answer)]


def _on_disk_as_it_was() -> list[Patch]:
    original = Ledger.truncate

    def truncate(self: Ledger, first: int) -> None:
        durable, handed = self.durable_index, self._handed_to
        original(self, first)
        self.durable_index, self._handed_to = durable, handed

    return [(Ledger, "truncate", truncate)]


def _gather_hard_states() -> list[Patch]:
    original = Ledger._must_wait

    def must_wait(self: Ledger, now: float) -> bool:
        hard_written, self.hard_written = self.hard_written, 0
        waits = original(self, now)
        self.hard_written = hard_written
        return waits

    return [(Ledger, "_must_wait", must_wait)]


def _install(change: Callable[[Log, Any], None]) -> list[Patch]:
    original = Ledger.install_snapshot

    def install_snapshot(self: Ledger, snapshot: Any) -> None:
        change(self.log, snapshot)
        original(self, snapshot)

    return [(Ledger, "install_snapshot", install_snapshot)]


def _drop_what_follows_a_snapshot(log: Log, snapshot: Any) -> None:
    if log.term_at(snapshot.index) == snapshot.term:
        log.truncate(snapshot.index + 1)


def _keep_what_contradicts_a_snapshot(log: Log, snapshot: Any) -> None:
    if log.base_index < snapshot.index < log.last_index:
        log._entries[snapshot.index - log.base_index - 1] = messages.Entry(snapshot.term, messages.EntryKind.NO_OP)


def _half_is_a_quorum() -> list[Patch]:
    def advance_commit_index(s: State) -> None:
        voters = s.configuration.voters
        if s.role is Role.LEADER and len(voters) > 1:
            matches = {node: follower.match_index for node, follower in s.followers.items()}
            matches[s.id] = s.ledger.durable_index
            index = sorted(matches.values(), reverse=True)[len(voters) // 2 - 1]
            if index > s.commit_index and s.log.term_at(index) == s.term:
                s.commit_index = index

    return [(append_entries, "advance_commit_index", advance_commit_index)]


def _snapshot_without_settings() -> list[Patch]:
    original = sessions.Replica.restore

    def restore(self: sessions.Replica, index: int, chunks: Any) -> None:
        original(self, index, chunks)
        self.settings = ClusterSettings()

    return [(sessions.Replica, "restore", restore)]


def _forget_a_result_too_soon() -> list[Patch]:
    original = sessions._Session.forget

    def forget(self: sessions._Session, below: int) -> None:
        original(self, below)
        for number in [number for number in self.results if number < below + 2]:
            del self.results[number]

    return [(sessions._Session, "forget", forget)]


LOG: Final = (
    Mutant(
        "forget a result before its client has it",
        "thesis 6.3: kept until the client has it",
        "log",
        _forget_a_result_too_soon,
    ),
    Mutant(
        "commit an entry of an older term by counting",
        "Raft 5.4.2, figure 8",
        "figure 8",
        lambda: _advance(own_term=False),
    ),
    Mutant(
        "count the own entry before it is on disk",
        "thesis 10.2.1: the leader counts itself when synced",
        "log",
        lambda: _advance(own_disk=False),
    ),
    Mutant("commit what half of the voters have", "Raft 5.3: a majority", "log", _half_is_a_quorum),
    Mutant(
        "acknowledge entries before they are on disk",
        "Raft, figure 2: persist before responding",
        "log",
        _acknowledge_before_disk,
    ),
    Mutant(
        "say in the answer to a heartbeat what is not on disk",
        "Raft, figure 2: persist before responding",
        "log",
        _heartbeats_before_disk,
    ),
    Mutant(
        "take what replaced other entries for on disk as those were",
        "Raft, figure 2: persist before responding",
        "divergence",
        _on_disk_as_it_was,
    ),
    Mutant(
        "cut off what follows the entries that came",
        "Raft 5.3: only a conflict cuts entries off",
        "reorder",
        _cut_off_what_follows,
    ),
    Mutant(
        "forget that a new leader may have another log",
        "Raft 5.3: consistency check",
        "divergence",
        _keep_what_matched,
    ),
    Mutant(
        "commit whatever is at the leader's commit index",
        "Raft, figure 2: min(leaderCommit, last new entry)",
        "divergence",
        _commit_whatever_is_there,
    ),
    Mutant(
        "take entries without looking at the one before",
        "Raft 5.3: consistency check",
        "divergence",
        _take_entries_without_looking,
    ),
    Mutant(
        "keep entries that contradict the leader's",
        "Raft 5.3: a conflict cuts entries off",
        "divergence",
        _never_cut_off,
    ),
    Mutant(
        "take the refusal of an old message for an answer",
        "Raft 5.3: an answer belongs to its term",
        "log",
        _refusals_name_messages,
    ),
    Mutant(
        "vote for a log that is not up to date",
        "Raft 5.4.1: election restriction",
        "divergence",
        _vote_for_shorter_logs,
    ),
    Mutant(
        "let a hard state wait until entries have gathered",
        "memory: only entries gather, and not for long",
        "memory",
        _gather_hard_states,
    ),
    Mutant(
        "gather entries for a minute",
        "memory: only entries gather, and not for long",
        "memory",
        lambda: [(ledger, "GATHERED_SECONDS", 60.0)],
    ),
    Mutant(
        "gather entries without a bound",
        "memory: only entries gather, and not for long",
        "memory",
        lambda: [(ledger, "GATHERED_BYTES", 10**9)],
    ),
    Mutant(
        "lose what has gathered at a stop",
        "memory: a node that stops writes all that its disk lacks",
        "memory",
        lambda: [(Ledger, "close", lambda self: None)],
    ),
    Mutant("lose an entry at a restart", "Raft, figure 2: log[] is persistent", "restart", _lose_an_entry),
    Mutant(
        "acknowledge a snapshot before it is on disk",
        "Raft 7: a snapshot is durable before it counts",
        "snapshot",
        _snapshot_before_disk,
    ),
    Mutant(
        "drop what follows a snapshot that agrees",
        "Raft 7: entries that follow it are retained",
        "reorder",
        lambda: _install(_drop_what_follows_a_snapshot),
    ),
    Mutant(
        "keep what contradicts a snapshot",
        "Raft 7: the entire log is discarded",
        "snapshot",
        lambda: _install(_keep_what_contradicts_a_snapshot),
    ),
    Mutant("apply a repeated command again", "Raft 8, thesis 6.3: once", "log", _apply_twice),
    Mutant(
        "leave the sessions' results out of snapshots",
        "thesis 6.3: sessions are replicated state",
        "snapshot",
        _snapshot_without_sessions,
    ),
    Mutant(
        "leave the settings out of snapshots",
        "Raft 7: a snapshot has all of the state",
        "snapshot",
        _snapshot_without_settings,
    ),
)
