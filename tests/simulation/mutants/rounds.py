"""Seeded bugs in rounds: one message to many followers, and what a leader computes only when it changes."""

from collections.abc import Mapping
from typing import Any, Final

from tests.simulation.mutants.mutant import Mutant, Patch, rule
from trioraft import messages
from trioraft.consensus import append_entries, election, progress, snapshots
from trioraft.consensus.configuration import Configuration
from trioraft.consensus.state import Follower, State
from trioraft.consensus.tally import Tally


def _answer_for_all() -> list[Patch]:
    original = append_entries.handle_append_entries_response

    def handle(s: State, sender: int, response: Any, now: float) -> None:
        others = [node for node, other in s.followers.items() if response.sequence in other.sent and node != sender]
        original(s, sender, response, now)
        for node in others:
            if node in s.followers:
                original(s, node, response, now)

    return [rule(messages.AppendEntriesResponse, handle)]


def _old_configuration() -> list[Patch]:
    original = Tally.compute

    def compute(self: Tally, configuration: Configuration, values: Mapping[int, float], leader: int) -> None:
        original(self, self.configuration or configuration, values, leader)

    return [(Tally, "compute", compute)]


def _never_again() -> list[Patch]:
    def may_have_grown(self: Tally, configuration: Configuration) -> bool:
        return self.configuration is not configuration

    return [(Tally, "may_have_grown", may_have_grown)]


def _of_an_earlier_term() -> list[Patch]:
    original = election.become_leader

    def become_leader(s: State, won: Any, now: float) -> None:
        kept = s.contact, s.matched, s.confirmed
        original(s, won, now)
        s.contact, s.matched, s.confirmed = kept

    return [(election, "become_leader", become_leader)]


def _still_in_flight() -> list[Patch]:
    def drop_in_flight(_follower: Follower) -> None:
        pass

    return [(module, "drop_in_flight", drop_in_flight) for module in (append_entries, snapshots)]


def _look_at_nobody() -> list[Patch]:
    def look_again(_s: State, _node: int) -> None:
        pass

    return [(module, "look_again", look_again) for module in (append_entries, snapshots, progress)]


def _no_deadlines() -> list[Patch]:
    original = progress.note_deadlines

    def note_deadlines(s: State) -> None:
        original(s)
        s.resend_at = float("inf")

    return [(progress, "note_deadlines", note_deadlines)]


ROUNDS: Final = (
    Mutant(
        "count an answer for all receivers of its round",
        "Raft 5.3: an answer is its sender's",
        "log",
        _answer_for_all,
    ),
    Mutant(
        "count by the voters that there were when the term began",
        "Raft 6: a server goes by the newest configuration in its log",
        "churn",
        _old_configuration,
    ),
    Mutant(
        "keep what a quorum has reached when voters go beyond it",
        "thesis 6.2: contact lasts while a quorum answers",
        "log",
        _never_again,
    ),
    Mutant(
        "keep what a quorum had reached in an earlier term",
        "Raft, figure 2: matchIndex is reinitialized after election",
        "divergence",
        _of_an_earlier_term,
    ),
    Mutant(
        "count what is sent again as still in flight",
        "Raft 5.3: the leader retries",
        "log",
        _still_in_flight,
    ),
    Mutant(
        "look at a follower only when the log grows",
        "Raft, figure 2: last log index >= nextIndex",
        "log",
        _look_at_nobody,
    ),
    Mutant(
        "forget when a follower owes an answer",
        "Raft 5.3: the leader retries",
        "log",
        _no_deadlines,
    ),
)
