"""Recorded lives of the simulator are behaviours of the specifications, and those of seeded bugs are not."""

import copy

import pytest

from tests.specification.recording import KINDS, check_life, check_mutant, record
from tests.specification.test_specification import needs_java
from tests.specification.trace_election import check_elections
from tests.specification.trace_leader_work import check_leader_work
from tests.specification.traced_mutants import TRACED_MUTANTS, TracedMutant
from tests.specification.traces import Line

pytestmark = needs_java

# All of them are checked by `python -m tests.specification traces`.
_EVENTS = 400
_QUICK = {
    "vote although a leader was heard of a moment ago",
    "take a formation for standing with most promises",
    "start leader work without waiting",
    "forget the claim of leader work at a restart",
}


@pytest.mark.parametrize(("kind", "seed"), [("elections", 3), ("formations", 1), ("work", 1)])
def test_a_recorded_life_is_a_behaviour(kind: str, seed: int) -> None:
    verdict = check_life(kind, seed, _EVENTS)
    assert verdict.accepted, f"{verdict}\n{verdict.refused}"
    assert verdict.lines > 100


@pytest.mark.parametrize("mutant", [m for m in TRACED_MUTANTS if m.name in _QUICK], ids=lambda mutant: mutant.name)
def test_the_trace_of_a_seeded_bug_is_refused(mutant: TracedMutant) -> None:
    _, verdict = check_mutant(mutant, 700)  # lives of a seed change with the simulator
    assert verdict is not None


@pytest.fixture(scope="module")
def life() -> list[Line]:
    lines, result = record(0, "election", nodes=3, events=_EVENTS)
    assert not result.violation
    return lines


def _number(lines: list[Line], action: str, **has: object) -> int:
    return next(
        number
        for number, line in enumerate(lines)
        if line["action"] == action and all(line[name] == value for name, value in has.items())
    )


def _numbers_of_votes_that_count(lines: list[Line]) -> list[int]:
    """Find where the votes are given that their candidates hear of, if each is given once only."""
    heard = next(line for line in lines if line["action"] == "HandleVoteResponse" and line["message"]["granted"])
    return [
        number
        for number, line in enumerate(lines)
        if (line["action"], line["node"], line.get("from")) == ("HandleVoteRequest", heard["from"], heard["node"])
    ]


def test_a_trace_that_lacks_a_line_is_refused() -> None:
    lives = (record(seed, "election", nodes=3, events=_EVENTS)[0] for seed in range(20))
    # A question that is repeated is answered again, and the second line stands for the first one.
    lines, gone = next((lines, votes[0]) for lines in lives if len(votes := _numbers_of_votes_that_count(lines)) == 1)
    del lines[gone]
    verdict = check_elections(lines)
    assert not verdict.accepted
    assert verdict.lines > 100
    assert lines.index(verdict.refused) >= gone


def test_a_trace_whose_leader_counts_on_too_much_is_refused(life: list[Line]) -> None:
    lines = copy.deepcopy(life)
    changed = next(number for number, line in enumerate(lines) if line["lease_for"] > 0)
    lines[changed]["lease_for"] += 0.1  # a heartbeat and its repetition are closer, and either may be answered
    verdict = check_elections(lines)
    assert not verdict.accepted
    assert verdict.refused == lines[changed]


def test_a_trace_whose_voter_tells_too_little_of_leader_work_is_refused() -> None:
    lines, line, vote = next(
        (lines, line, sent)
        for lines in (record(seed, "work", nodes=3, events=_EVENTS)[0] for seed in range(1, 20))
        for line in lines
        for sent in line.get("sent", [])
        if sent["type"] == "VoteResponse" and sent["granted"] and sent["work"] > 0
    )
    vote["work"] -= 0.001
    verdict = check_leader_work(lines)
    assert not verdict.accepted
    assert verdict.refused == line


def test_every_seeded_bug_is_of_a_kind_of_trace_that_there_is() -> None:
    assert {mutant.kind for mutant in TRACED_MUTANTS} == set(KINDS)
    for mutant in TRACED_MUTANTS:
        with mutant.applied():
            pass
