"""Seeded bugs in what nodes say and believe of leaderships that ended with their processes."""

from typing import Any, Final

import msgspec

from tests.simulation.mutants.mutant import Mutant, Patch, rule
from trioraft import messages
from trioraft.consensus import endings, leader_work
from trioraft.consensus.state import Role, State


def _any_term_of_work() -> list[Patch]:
    original = endings.note_ending

    def note_ending(s: State, node: int, message: Any, now: float) -> None:
        original(s, node, message, now)
        if message.work_ended and s.role is not Role.LEADER:
            endings.drop_claim(s, now)

    return [(endings, "note_ending", note_ending)]


def _any_term_of_promises() -> list[Patch]:
    original = endings.note_ending

    def note_ending(s: State, node: int, message: Any, now: float) -> None:
        original(s, node, message, now)
        if s.role is not Role.LEADER:
            s.refuse_until = min(s.refuse_until, now)

    return [(endings, "note_ending", note_ending)]


def _said_by_anybody() -> list[Patch]:
    def handle(s: State, _sender: int, message: Any, now: float) -> None:
        endings.note_ending(s, s.work_of, message, now)

    return [rule(messages.LeadershipEnded, handle)]


def _without_the_locks() -> list[Patch]:
    original = endings.resume_ending

    def resume_ending(s: State, now: float) -> None:
        original(s, now)
        endings.scripts_ended(s, now)

    return [(endings, "resume_ending", resume_ending)]


def _earlier_work_forgotten() -> list[Patch]:
    original = endings.resume_ending

    def resume_ending(s: State, now: float) -> None:
        original(s, now)
        if s.ending is not None:
            s.ending.alone = True

    return [(endings, "resume_ending", resume_ending)]


def _dropped_in_memory() -> list[Patch]:
    def drop_claim(s: State, now: float) -> None:
        leader_work.work_is_over(s, s.work_term, now)
        s.work_until = min(s.work_until, now)

    return [(endings, "drop_claim", drop_claim)]


def _followers_say_so() -> list[Patch]:
    original = endings.resume_ending

    def resume_ending(s: State, now: float) -> None:
        kept = s.ledger.hard
        s.ledger.hard = msgspec.structs.replace(kept, work_of=s.id, work_place=s.place)
        original(s, now)
        s.ledger.hard = kept

    return [(endings, "resume_ending", resume_ending)]


def _in_two_versions() -> list[Patch]:
    return [(endings, "may_tell", lambda _s: True)]


def _copy_of_the_directory() -> list[Patch]:
    original = endings.resume_ending

    def resume_ending(s: State, now: float) -> None:
        place, s.place = s.place, s.hard.work_place
        original(s, now)
        s.place = place

    return [(endings, "resume_ending", resume_ending)]


ENDINGS: Final = (
    Mutant(
        "believe that work has ended in whatever term",
        "leader work: what has ended in one term says nothing of a later one",
        "work",
        _any_term_of_work,
        shows="starts on",
    ),
    Mutant(
        "vote at the word of a leader of an earlier term",
        "thesis 4.2.3: a promise to the leader of a later term holds",
        "work",
        _any_term_of_promises,
        shows="promised the leader",
    ),
    Mutant(
        "say that work has ended without the locks",
        "leader work: the locks of the work file show that it has ended",
        "restart",
        _without_the_locks,
        shows="says that work has ended",
    ),
    Mutant(
        "say that all work has ended after waiting for some",
        "leader work: a leader answers for earlier work only when its wait was over",
        "restart",
        _earlier_work_forgotten,
        shows="says that work has ended",
    ),
    Mutant(
        "say of the leader that one followed that it has ended",
        "leader work: only who led can say so",
        "restart",
        _followers_say_so,
        shows="says that its leadership",
    ),
    Mutant(
        "say so in a cluster of two versions",
        "versions: what a version has added waits for it",
        "upgrade",
        _in_two_versions,
        shows="is older",
    ),
    Mutant(
        "believe whoever says that a leadership has ended",
        "leader work: only who led can say so",
        "endings",
        _said_by_anybody,
        shows="another node",
    ),
    Mutant(
        "drop a claim in memory only",
        "leader work: a dropped claim stays dropped across a restart",
        "endings",
        _dropped_in_memory,
        shows="remembers",
    ),
    Mutant(
        "take a copy of the directory for the directory",
        "leader work: the place of a process is the lock that it holds",
        "endings",
        _copy_of_the_directory,
        shows="copy",
    ),
)
