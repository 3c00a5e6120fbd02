"""Seeded bugs in batches: how they are made, applied, answered and taken apart."""

from typing import Any, Final

from tests.simulation.mutants.mutant import Mutant, Patch
from trioraft.asking import calls, session
from trioraft.messages import FIRST_VERSION, Batch, PartOutcome, encode_outcomes
from trioraft.node import session_commands
from trioraft.replica import sessions
from trioraft.replica.sessions import Result


def _applied_again() -> list[Patch]:
    """Apply the commands of a batch that comes again."""
    original = sessions.Replica._apply_batch

    def apply_batch(self: sessions.Replica, batch: Batch | None) -> Result:
        kept = self._sessions.get(batch.session) if batch is not None and len(batch.commands) > 1 else None
        if kept is not None and batch is not None:
            for number in range(batch.first, batch.first + len(batch.commands)):
                kept.results.pop(number, None)
        return original(self, batch)

    return [(sessions.Replica, "_apply_batch", apply_batch)]


def _places_close_up() -> list[Patch]:
    """Let the commands behind one that was given up take its number."""

    def request(self: session._Sent) -> Any:
        waiting, self.proposals = self.proposals, [*self.waiting()]
        made = original(self)
        self.proposals = waiting
        return made

    original = session._Sent.request
    return [(session._Sent, "request", request)]


def _given_up_stays() -> list[Patch]:
    """Leave a command in its batch although its client was told that it is not proposed."""
    original = session.Session.give_up

    def give_up(self: session.Session, proposal: session.Proposal) -> str:
        sent = proposal.sent
        known = original(self, proposal)
        if sent is not None and sent.call is not None:
            stays = session.Proposal(proposal.data, lambda _: None, proposal.state_kind, changes_settings=False)
            stays.number, stays.sent = proposal.number, sent
            sent.proposals[proposal.number - sent.first] = stays
            sent.session.waiting[proposal.number] = None
        return known

    return [(session.Session, "give_up", give_up)]


def _to_older_nodes() -> list[Patch]:
    """Send a batch to whichever node leads."""
    original = calls.Calls.start

    def start(self: calls.Calls, *arguments: Any, **options: Any) -> calls.Call:
        return original(self, *arguments, **{**options, "needs": FIRST_VERSION})

    return [(calls.Calls, "start", start)]


def _outcomes_of_others() -> list[Patch]:
    """Answer the commands of a batch with each other's outcomes."""
    original = encode_outcomes

    def encode(outcomes: Any, most: int) -> bytes:
        turned: list[PartOutcome] = [*outcomes[1:], *outcomes[:1]]
        return original(turned, most)

    return [(session_commands, "encode_outcomes", encode)]


BATCHES: Final = (
    Mutant(
        "apply a batch again that comes again",
        "thesis 6.3: a command is applied once",
        "log",
        _applied_again,
        shows="carries out a command that",
    ),
    Mutant(
        "let commands take the number of one that was given up",
        "thesis 6.3: a command keeps its number",
        "log",
        _places_close_up,
    ),
    Mutant(
        "leave a command in its batch that was given up for good",
        "what is not proposed never is carried out",
        "log",
        _given_up_stays,
        shows="given up for good",
    ),
    Mutant(
        "send a batch to a node that does not know batches",
        "what a version has added is for those that speak it",
        "upgrade",
        _to_older_nodes,
        shows="is asked for a batch",
    ),
    Mutant(
        "answer the commands of a batch with each other's outcomes",
        "thesis 6.3: a command has one result",
        "log",
        _outcomes_of_others,
        shows="has another result than before",
    ),
)
