"""Seeded bugs in the autopilot: who joins, who is gone, and who votes."""

from collections.abc import Collection, Mapping
from typing import Final

import msgspec

from tests.simulation.mutants.mutant import Mutant, Patch
from trioraft.address import Address
from trioraft.consensus import membership
from trioraft.consensus.state import State
from trioraft.dns.discovery import Answer
from trioraft.members import autopilot
from trioraft.members.autopilot import Change, Observation, Rules
from trioraft.members.presence import Heard, Presence
from trioraft.members.steering import Steering


def _count_whatever_is_answered() -> list[Patch]:
    original = Steering.discovered

    def discovered(self: Steering, answer: Answer, own: Address | None, now: float) -> None:
        original(self, Answer(answer.addresses, complete=True), own, now)

    return [(Steering, "discovered", discovered)]


def _believe_any_answer() -> list[Patch]:
    original = Presence.answered

    def answered(
        self: Presence,
        found: frozenset[Address],
        heard: Mapping[int, Heard],
        _voters: Collection[int],
        members: Collection[int],
        now: float,
    ) -> None:
        quorum = Address("192.0.2.1", 1)
        original(self, found | {quorum}, {**heard, 0: Heard(quorum, now)}, {0}, members, now)

    return [(Presence, "answered", answered)]


def _gone_when_silent() -> list[Patch]:
    return [(autopilot, "is_gone", lambda seen, rules: seen.silent >= rules.dead_after)]


def _gone_when_absent() -> list[Patch]:
    return [
        (autopilot, "is_gone", lambda seen, rules: seen.absent >= rules.dead_after),
        (Presence, "spoke", lambda _self, _node: None),
    ]


def _present_by_address() -> list[Patch]:
    """Take a member for present when its address is in the answer, whoever is there now."""
    original = Presence.answered

    def answered(
        self: Presence,
        found: frozenset[Address],
        heard: Mapping[int, Heard],
        voters: Collection[int],
        members: Collection[int],
        now: float,
    ) -> None:
        original(self, found, heard, voters, members, now)
        for node, (address, _) in heard.items():
            if address in found:
                self._absent.pop(node, None)

    return [(Presence, "answered", answered)]


def _without_fewest() -> list[Patch]:
    return [(autopilot, "_fewest", lambda _seen, _rules: 1)]


def _without_most() -> list[Patch]:
    original = autopilot.promote

    def promote(seen: Observation, rules: Rules, declined: list[str]) -> Change | None:
        return original(seen, msgspec.structs.replace(rules, max_voters=100), declined)

    return [(autopilot, "promote", promote)]


def _without_quorum() -> list[Patch]:
    """Ask for no answers, neither in the autopilot nor in the core, which looks at them again."""

    def promises(s: State) -> dict[int, float]:
        return dict.fromkeys(s.configuration.members, float("inf"))

    return [(autopilot, "has_quorum", lambda _seen, _voters: True), (membership, "promises", promises)]


def _join_any_cluster() -> list[Patch]:
    original = Steering._waiting

    def waiting(self: Steering, now: float) -> tuple[int, ...]:
        for peer in self._nodes():
            peer.cluster_id = 0
        return original(self, now)

    return [(Steering, "_waiting", waiting)]


def _let_any_number_join() -> list[Patch]:
    return [(autopilot, "INTRODUCED_MAX", 100)]


_GONE: Final = "autopilot: who is silent and absent from good answers of DNS for long enough is gone"
_VOTERS: Final = "autopilot: an odd number of voters, within the limits"

PILOTS: Final = (
    Mutant("count look-ups that failed", _GONE, "autopilot", _count_whatever_is_answered, "has been in DNS"),
    Mutant(
        "believe DNS without the addresses of a quorum", _GONE, "autopilot", _believe_any_answer, "has been in DNS"
    ),
    Mutant("remove who is silent", _GONE, "autopilot", _gone_when_silent, "has been in DNS"),
    Mutant("remove who is absent", _GONE, "autopilot", _gone_when_absent, "has spoken to it lately"),
    Mutant("take who has a member's address for the member", _GONE, "autopilot", _present_by_address, "are gone"),
    Mutant(
        "keep learners that are gone",
        _GONE,
        "autopilot",
        lambda: [(autopilot, "forget_gone_learner", lambda _seen, _rules: None)],
        "are gone",
    ),
    Mutant("remove voters below the fewest", "autopilot: MIN_VOTERS", "autopilot", _without_fewest, "are the fewest"),
    Mutant("promote beyond the most", "autopilot: MAX_VOTERS", "autopilot", _without_most, "are the most"),
    Mutant(
        "leave an even number of voters",
        _VOTERS,
        "autopilot",
        lambda: [(autopilot, "take_votes", lambda _seen, _rules: None)],
        "members vote",
    ),
    Mutant(
        "change to voters of which no quorum has answered",
        "autopilot: a quorum of the new voters is there",
        "autopilot",
        _without_quorum,
        "have answered it lately",
    ),
    Mutant(
        "let any number of nodes join that nobody has named",
        "autopilot: few learners that nobody has named",
        "autopilot",
        _let_any_number_join,
        "learners that somebody made up",
    ),
    Mutant(
        "let nodes of another cluster join",
        "one cluster per service",
        "autopilot",
        _join_any_cluster,
        "no replica of the service",
    ),
)
