"""Commands of clients' sessions: they are proposed in the batches in which they come, and answered."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import zip_longest
from typing import TypeAlias

import cbor2

from trioraft.consensus import Role
from trioraft.errors import NotCommittedError, NotLeaderError, ProposalError
from trioraft.messages import (
    FIRST_VERSION,
    PAYLOAD_MAX,
    Batch,
    EntryKind,
    PartOutcome,
    Propose,
    ProposeBatch,
    Refusal,
    Refused,
    Version,
    decode_batch_untrusted,
    encode_batch,
    encode_outcomes,
)
from trioraft.node.desk import UNKNOWN_TEXT, Asked, Desk
from trioraft.node.proposals import Outcome
from trioraft.node.replicated import Replicated
from trioraft.node.session_room import SessionRoom
from trioraft.replica.machine import Shared
from trioraft.replica.sessions import Result
from trioraft.versions import BATCHES_FROM

# Takes the outcomes of the commands of a batch, in their order; empty where they are not known.
Outcomes: TypeAlias = Callable[[Sequence[PartOutcome]], None]


def _ignore(_: object) -> None:
    pass


class SessionCommands:
    """Proposes entries for clients, and answers with what becomes of them.

    Parameters
    ----------
    member : Replicated
        The member that proposes.
    desk : Desk
        Answers.
    sessions : SessionRoom
        The sessions of clients.
    """

    def __init__(self, member: Replicated, desk: Desk, sessions: SessionRoom) -> None:
        self._member = member
        self._core = member.core
        self._shared = member.replica.machine if isinstance(member.replica.machine, Shared) else None
        self._desk = desk
        self._sessions = sessions

    def carry_out(self, asked: Asked, command: Propose | ProposeBatch) -> None:
        """Have the commands of a request carried out, each once.

        Parameters
        ----------
        asked : Asked
            The request.
        command : Propose or ProposeBatch
            What it asks for.
        """
        if isinstance(command, Propose):
            batch = Batch(command.session, command.number, command.answered_below, (command.data,))
            self._carry_out(asked, batch, partial(self._answer_one, asked))
            return
        found = decode_batch_untrusted(command.data)
        if found is None or not found.session or not any(part is not None for part in found.commands):
            self._desk.refuse(asked, Refusal.REFUSED, "ProposeBatch.data must have commands of a session")
        else:
            self._carry_out(asked, found, partial(self._answer_all, asked))

    def _answer_one(self, asked: Asked, outcomes: Sequence[PartOutcome]) -> None:
        outcome = outcomes[0]
        if isinstance(outcome, Refused):
            self._desk.refuse(asked, Refusal(outcome.code), outcome.detail)
        else:
            self._desk.answer(asked, data=outcome or b"")

    def _answer_all(self, asked: Asked, outcomes: Sequence[PartOutcome]) -> None:
        self._desk.answer(asked, data=encode_outcomes(outcomes, PAYLOAD_MAX))

    def _carry_out(self, asked: Asked, batch: Batch, answer: Outcomes) -> None:
        self._sessions.heard(batch.session, asked.who)
        if self._member.replica.result_of(batch.session, batch.first) is not None:
            known = self._known_outcomes(batch)
            if None not in known:  # only the answer was lost: the log need not carry the commands again
                answer(known)
                return
        ended = self._begin_shares(asked, batch)
        if ended is None:
            return
        needs = self._member.proposals.version_needed_by_all(batch.commands)
        if self._core.version >= BATCHES_FROM:
            self._propose_together(asked, batch, needs, answer, ended)
        else:
            self._propose_apart(asked, batch, needs, answer, ended)

    def _known_outcomes(self, batch: Batch) -> list[PartOutcome]:
        result_of = self._member.replica.result_of
        return [result_of(batch.session, batch.first + place) for place in range(len(batch.commands))]

    def _begin_shares(self, asked: Asked, batch: Batch) -> Outcomes | None:
        """Count what commands take of what the state machine has for all clients; refuse them if that is too much.

        Return a function that takes the outcomes and counts them; None where they were refused.
        """
        shared = self._shared
        if shared is None or self._core.role is not Role.LEADER:
            return _ignore
        begun: list[bytes] = []
        for command in batch.commands:
            limit = shared.begin_share(asked.who, command) if command is not None else None
            if limit is not None and limit.text:
                for earlier in begun:
                    shared.end_share(asked.who, earlier, b"")
                self._desk.refuse_more(asked, limit)
                return None
            begun += [command] if command is not None else []

        def ended(outcomes: Sequence[PartOutcome]) -> None:
            for command, outcome in zip_longest(batch.commands, outcomes):
                if command is not None:
                    shared.end_share(asked.who, command, outcome if isinstance(outcome, bytes) else b"")

        return ended

    def _propose_together(
        self, asked: Asked, batch: Batch, needs: Version, answer: Outcomes, ended: Outcomes
    ) -> None:
        """Propose commands as one entry."""

        def concluded(outcome: Outcome | None) -> None:
            ended(outcome.outcomes if isinstance(outcome, Result) else ())

        def answered(result: Result) -> None:
            if result.refused:
                self._desk.refuse(asked, Refusal(result.code), result.refused)
            else:
                answer(result.outcomes)

        self.propose(asked, EntryKind.BATCH, encode_batch(batch), needs, concluded, answered)

    def _propose_apart(self, asked: Asked, batch: Batch, needs: Version, answer: Outcomes, ended: Outcomes) -> None:
        """Propose commands as entries of their own, because the cluster's version does not know batches.

        One whose outcome is known is not proposed again. Otherwise a leader that has room for a part of them only
        would carry the same part again and again, and never the rest.
        """
        outcomes = self._known_outcomes(batch)
        commands = enumerate(batch.commands)
        missing = {place for place, command in commands if command is not None and outcomes[place] is None}
        if not missing:
            ended(outcomes)
            answer(outcomes)

        def concluded(place: int, outcome: Outcome | None) -> None:
            if isinstance(outcome, Result):
                outcomes[place] = Refused(outcome.code, outcome.refused) if outcome.refused else outcome.data
            missing.discard(place)
            if not missing:
                ended(outcomes)

        def answered(_: Result) -> None:
            if not missing:
                answer(outcomes)

        places = sorted(missing)
        for place in places:
            if self._desk.has(asked):
                # Once one of them is in the log, no refusal may say that none is carried out.
                asked.is_begun = place != places[0]
                data = cbor2.dumps((batch.session, batch.first + place, batch.answered_below, batch.commands[place]))
                self.propose(asked, EntryKind.SESSION_COMMAND, data, needs, partial(concluded, place), answered)
            else:  # one before it could not be proposed, and the request was refused
                concluded(place, None)

    def propose(
        self,
        asked: Asked,
        kind: EntryKind,
        data: bytes,
        needs: Version = FIRST_VERSION,
        ended: Callable[[Outcome | None], None] = _ignore,
        answer: Callable[[Result], None] | None = None,
    ) -> None:
        """Propose an entry, and answer a request with its outcome.

        Parameters
        ----------
        asked : Asked
            The request.
        kind : EntryKind
            The kind of the entry.
        data : bytes
            Its data.
        needs : int
            The version of the protocol that it needs.
        ended : callable
            Takes the outcome, or None where it was not proposed.
        answer : callable, optional
            Answers with the result; by default with its data, or with its refusal.
        """

        def done(outcome: Outcome) -> None:
            ended(outcome)
            if isinstance(outcome, NotCommittedError) and not asked.is_begun:
                self._desk.refuse(asked, Refusal.NOT_COMMITTED, str(outcome))
            elif isinstance(outcome, ProposalError):
                self._desk.refuse(asked, Refusal.UNKNOWN, UNKNOWN_TEXT)
            elif answer is not None:
                answer(outcome)
            elif outcome.refused:
                self._desk.refuse(asked, Refusal(outcome.code), outcome.refused)
            else:
                self._desk.answer(asked, data=outcome.data, session=outcome.session)

        asked.term = self._core.term
        try:
            self._member.proposals.submit(kind, data, done, needs)
        except ProposalError as error:
            ended(None)
            if asked.is_begun:
                self._desk.refuse(asked, Refusal.UNKNOWN, UNKNOWN_TEXT)
            elif isinstance(error, NotLeaderError):
                self._desk.refuse_elsewhere(asked)
            else:
                self._desk.refuse_for(asked, error)
