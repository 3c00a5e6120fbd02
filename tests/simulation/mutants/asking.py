"""Seeded bugs in what clients are told: in their sessions and requests, and in how nodes answer them."""

from typing import Any, Final

from tests.simulation.mutants.mutant import Mutant, Patch
from trioraft.asking import calls, session
from trioraft.messages import ClientResponse, Refusal
from trioraft.node import desk


def _again_in_another_session() -> list[Patch]:
    original = session.Session._answered

    def answered(self: session.Session, sent: session._Sent, response: ClientResponse) -> None:
        if response.code == Refusal.SESSION_ENDED:
            sent.call = None
            for proposal in sent.waiting():
                self._end(proposal, sent.session)
                self._queue[proposal] = None
            self._forget(sent.session)
        else:
            original(self, sent, response)

    return [(session.Session, "_answered", answered)]


def _another_number_each_time() -> list[Patch]:
    """Give a command another number where it was refused for a while, as if it could not have been carried out."""
    original = session._Sent.request

    def request(self: session._Sent) -> Any:
        opened, by = self.session, 0
        if self.call is not None and self.call.pauses:
            by = opened.last_command + 1 - self.first
            opened.last_command += len(self.proposals)
        self.first += by
        for proposal in self.waiting():
            proposal.number += by
        made = original(self)
        self.first -= by
        for proposal in self.waiting():
            proposal.number -= by
        return made

    return [(session._Sent, "request", request)]


def _answered_too_far() -> list[Patch]:
    """Say that all commands before the newest are answered."""
    return [(session._Open, "answered_below", property(lambda self: self.last_command))]


def _unknown_is_no() -> list[Patch]:
    """Take it for a refusal that a leader does not know what became of a command."""
    original = calls.Calls._note_refusal

    def note_refusal(self: calls.Calls, call: calls.Call, sender: int, response: Any, now: float) -> None:
        if response.code == Refusal.UNKNOWN:
            call.unrefused[sender] = max(0, call.unrefused[sender] - 1)
        original(self, call, sender, response, now)
        call.is_unknown = False

    return [(calls.Calls, "_note_refusal", note_refusal)]


def _deposed_says_no() -> list[Patch]:
    """Say, when another one leads, that commands in the log here are not committed."""

    def conclude(self: desk.Desk) -> None:
        term = self._core.term if self._core.role == "leader" else 0
        for asked in [asked for asked in self._under_way.values() if asked.term not in {0, term}]:
            self.refuse(asked, Refusal.NOT_COMMITTED, "not committed: another one leads")

    return [(desk.Desk, "conclude", conclude)]


ASKING: Final = (
    Mutant(
        "send a command again in another session",
        "thesis 6.3: what was in a session that has ended may have been carried out",
        "reads",
        _again_in_another_session,
        shows="carries out a command that",
    ),
    Mutant(
        "number a command anew when it is sent again",
        "thesis 6.3: a command keeps its number",
        "election",
        _another_number_each_time,
        shows="carries out a command that",
    ),
    Mutant(
        "say that what a client waits for is answered",
        "thesis 6.3: kept until the client has it",
        "log",
        _answered_too_far,
    ),
    Mutant(
        "take an unknown end for a refusal",
        "what is not proposed never is carried out",
        "log",
        _unknown_is_no,
        shows="was given up for good",
    ),
    Mutant(
        "refuse what is in the log when another one leads",
        "what is not proposed never is carried out",
        "log",
        _deposed_says_no,
        shows="was given up for good",
    ),
)
