"""Seeded bugs in what keeps a rogue member's numbers from doing harm."""

from collections.abc import Callable
from typing import Final

from tests.simulation.mutants.mutant import Mutant, Patch
from trioraft.consensus import far_terms, numbers
from trioraft.consensus.state import FarTerms, State

_ANY: Final = float("inf")


def _any_of(kind: str) -> list[Patch]:
    """Let messages of a kind have any numbers."""
    by_kind = {message: check for message, check in numbers._BY_KIND.items() if message.__name__ != kind}
    return [(numbers, "_BY_KIND", by_kind)]


def _unbounded(bound: str) -> Callable[[], list[Patch]]:
    return lambda: [(numbers, bound, _ANY)]


def _no_far_terms() -> list[Patch]:
    return [(numbers, "is_far", lambda _s, _term: False)]


def _far_term_of_one() -> list[Patch]:
    def known_by_enough(_s: State, far: FarTerms, _now: float) -> int:
        return max(far.said.values(), default=0)

    return [(far_terms, "known_by_enough", known_by_enough)]


def _far_terms_unasked() -> list[Patch]:
    return [(far_terms, "answers_search", lambda _s, _response: True)]


def _far_term_at_any_time() -> list[Patch]:
    return [(far_terms, "is_sticky", lambda _s, _now: False), *_far_term_of_one(), *_far_terms_unasked()]


def _any_leader() -> list[Patch]:
    def why_not_meant_here(_s: State, _sender: int, _message: object) -> str:
        return ""

    return [(numbers, "why_not_meant_here", why_not_meant_here)]


def _any_terms_of_entries() -> list[Patch]:
    def terms_of_entries(_term: int, _previous: int, _terms: list[int]) -> str:
        return ""

    return [(numbers, "_terms_of_entries", terms_of_entries)]


def _bug(name: str, breaks: str, profile: str, patches: Callable[[], list[Patch]]) -> Mutant:
    return Mutant(name, f"numbers: {breaks}", profile, patches, rogue=True)


ROGUES: Final = (
    _bug("believe a far term of who was not asked", "who was asked says it", "impostor", _far_terms_unasked),
    _bug("take any term over", "none ends the terms", "calm", _no_far_terms),
    _bug("take a far term over that one member says", "most say it", "one liar", _far_term_of_one),
    _bug("look for a far term while a leader is there", "nobody needs one then", "calm", _far_term_at_any_time),
    _bug("believe in leader work of any length", "it is bounded", "calm", _unbounded("CLAIM_MAX")),
    _bug("count any sequence", "it is bounded", "calm", _unbounded("SEQUENCE_MAX")),
    _bug("take any log index", "it is bounded", "calm", _unbounded("INDEX_MAX")),
    _bug("follow two leaders in a term", "a term has one", "calm", _any_leader),
    _bug("take entries of later terms than their leader's", "they fit together", "calm", _any_terms_of_entries),
    _bug("take any numbers of a candidate", "they fit together", "election", lambda: _any_of("VoteRequest")),
    _bug(
        "take any numbers of a follower",
        "it has no more than the leader",
        "log",
        lambda: [*_any_of("AppendEntriesResponse"), *_any_leader()],
    ),
    _bug(
        "take any numbers of a snapshot", "a part is within it", "snapshot", lambda: _any_of("InstallSnapshotRequest")
    ),
)
