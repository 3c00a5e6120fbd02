"""Seeded bugs in the formation of a cluster."""

from typing import Any, Final

from tests.simulation.mutants.mutant import Mutant, Patch
from trioraft import messages
from trioraft.consensus import (
    core,
    formation,
)


def _promise_any_formation() -> list[Patch]:
    def may_promise(self: formation.Formation, request: Any) -> bool:
        return 0 < self.expect <= len(request.members)

    return [(formation.Formation, "may_promise", may_promise)]


def _volatile_refusal() -> list[Patch]:
    def refuse(self: formation.Formation, sender: int, identifier: int, _now: float) -> None:
        self.ledger.send(sender, messages.FormationResponse(formation=identifier, promised=False))

    return [(formation.Formation, "refuse", refuse)]


def _stands_with_most() -> list[Patch]:
    def stand_if_complete(self: formation.Formation, now: float) -> None:
        if self.state.promised and 2 * len(self.missing) < len(self.state.members):
            self.stand(now)

    return [(formation.Formation, "stand_if_complete", stand_if_complete)]


def _members_answer_views() -> list[Patch]:
    original = formation.Formation.answer_as_member

    def answer_as_member(self: formation.Formation, sender: int, _cluster: int, message: Any) -> None:
        original(self, sender, 0, message)

    return [(formation.Formation, "answer_as_member", answer_as_member)]


def _membership_before_disk() -> list[Patch]:
    return [(core.Core, "cluster", property(lambda self: self.formation.state.cluster))]


FORMATIONS: Final = (
    Mutant("promise two formations", "formation: one promise at a time", "formation", _promise_any_formation),
    Mutant(
        "refuse a formation without writing it", "formation: a refusal is for ever", "formation", _volatile_refusal
    ),
    Mutant(
        "take a formation for standing with most promises",
        "formation: all members promise",
        "formation",
        _stands_with_most,
    ),
    Mutant(
        "speak for a cluster before it is on disk",
        "formation: persist before responding",
        "formation",
        _membership_before_disk,
    ),
    Mutant(
        "answer the views of members", "formation: nobody answers without end", "formation", _members_answer_views
    ),
)
