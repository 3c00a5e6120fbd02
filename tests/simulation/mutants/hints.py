"""Seeded bugs in hints: which errors are believed, what ends them, and which promises they end."""

from typing import Any, Final

import msgspec

from tests.simulation.mutants.mutant import Mutant, Patch
from trioraft.consensus import append_entries, election, hints, lease
from trioraft.consensus.state import Follower, State
from trioraft.datagrams.evidence import Evidence, PortError


def _of_any_offender() -> list[Patch]:
    def proves_gone(self: Evidence, error: PortError) -> bool:
        return any(error.quote == datagram for datagram, _ in self.unheard)

    return [(Evidence, "proves_gone", proves_gone)]


def _whatever_is_quoted() -> list[Patch]:
    def proves_gone(self: Evidence, error: PortError) -> bool:
        return error.offender == error.address.host and bool(self.unheard)

    return [(Evidence, "proves_gone", proves_gone)]


def _grant_on_silence() -> list[Patch]:
    def waits_for_error(s: State, sender: int, _request: Any, now: float) -> bool:
        if sender != s.promised_to and hints.may_use(s) and s.proof_until <= now < s.refuse_until:
            s.is_gone = True  # because somebody else says so
        return False

    return [(election, "waits_for_error", waits_for_error)]


def _not_cancelled() -> list[Patch]:
    original = hints.hear

    def hear(s: State, now: float) -> None:
        gone, at = s.is_gone, s.hinted_at
        original(s, now)
        s.is_gone, s.hinted_at = gone, at

    return [(hints, "hear", hear)]


def _ends_every_promise() -> list[Patch]:
    original = lease.promise

    def promise(s: State, now: float) -> float:
        seconds = original(s, now)
        if hints.may_use(s):
            s.proof_until = min(s.proof_until, now)
        return seconds

    def answer(*arguments: Any, **named: Any) -> Any:
        return msgspec.structs.replace(original_answer(*arguments, **named), until_hint=False)

    original_answer = append_entries.answer
    return [(append_entries, "promise", promise), (append_entries, "answer", answer)]


def _counted_for_reads() -> list[Patch]:
    original = lease.note_promise

    def note_promise(s: State, node: int, follower: Follower, sent_at: float, response: Any) -> None:
        original(s, node, follower, sent_at, msgspec.structs.replace(response, until_hint=False))

    return [(append_entries, "note_promise", note_promise)]


def _before_the_version() -> list[Patch]:
    return [(hints, "may_use", lambda _s: True)]


_EVIDENCE: Final = "an error counts that quotes what the leader was sent since it was heard, and comes from there"

HINTS: Final = (
    Mutant(
        "believe an error that another host sends",
        _EVIDENCE,
        "election",
        _of_any_offender,
        "whose process runs on",
    ),
    Mutant(
        "believe an error whatever it quotes",
        _EVIDENCE,
        "election",
        _whatever_is_quoted,
        "whose process runs on",
    ),
    Mutant(
        "vote on the word of another node that the leader is gone",
        "a voter that is asked goes by an error of its own",
        "election",
        _grant_on_silence,
    ),
    Mutant(
        "believe an error although the leader was heard since",
        "what is heard of the leader cancels the error",
        "restart",
        _not_cancelled,
    ),
    Mutant(
        "let a hint end a promise that excludes hints",
        "no hint counts under reads by the lease",
        "reads",
        _ends_every_promise,
    ),
    Mutant(
        "count promises that a hint may end for reads by the lease",
        "a lease for reads takes promises that exclude hints",
        "reads",
        _counted_for_reads,
    ),
    Mutant(
        "use hints before all members know of them",
        "what a version adds waits for that version",
        "upgrade",
        _before_the_version,
    ),
)
