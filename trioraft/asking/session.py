"""A client's session: every command in it is carried out once, however often it has to be sent (thesis 6.3).

The session is opened with the first command. It ends when its client says so, or was silent for
:data:`~trioraft.replica.session_clock.SESSION_SECONDS`. What was under way then fails with
:class:`~trioraft.errors.SessionEndedError`, because nobody knows any more whether it was carried out. It is never
sent again in another session: that is for the caller to decide, by another call.

What is proposed within one pass is sent as one batch, which becomes one entry of the log, and has one answer. A batch
is taken apart, and its commands are sent one by one, where the leader's software is older, where it is refused as a
whole, and where its answer has no room for a result: each command keeps its number, so it is carried out once however
it is sent.

Nothing here waits: who proposes is told the outcome. :mod:`trioraft.asking.waiting` waits for it with trio.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Final

from trioraft.asking.calls import NO_ANSWER, TRY_AGAIN, Call, Calls, refused
from trioraft.clock import LONG_AGO, NEVER
from trioraft.errors import ProposalError, RefusedError, SessionEndedError
from trioraft.messages import (
    BATCH_BYTES_MAX,
    COMMANDS_MAX,
    FIRST_VERSION,
    PAYLOAD_MAX,
    Batch,
    ChangeSettings,
    ClientResponse,
    EndSession,
    KeepSession,
    OpenSession,
    Propose,
    ProposeBatch,
    Refusal,
    Refused,
    decode_outcomes_untrusted,
    encode_batch,
)
from trioraft.replica.session_clock import SESSION_SECONDS
from trioraft.replica.sessions import RESULTS_MAX
from trioraft.versions import BATCHES_FROM

_KEEP_INTERVAL: Final = SESSION_SECONDS / 5


class _Open:
    """An open session.

    Attributes
    ----------
    number : int
        Its number, which the cluster gave it.
    last_command : int
        The number of the newest command in it.
    waiting : dict of int to None
        The commands without a result, in order.
    used_at : float
        When the cluster was last asked for something in it.
    keeping : bool
        Whether it is being asked for just to keep the session open.
    """

    __slots__ = ("keeping", "last_command", "number", "used_at", "waiting")

    def __init__(self, number: int, now: float) -> None:
        self.number = number
        self.last_command = 0
        self.waiting: dict[int, None] = {}
        self.used_at = now
        self.keeping = False

    @property
    def answered_below(self) -> int:
        """No command before this one is waited for."""
        return next(iter(self.waiting), self.last_command + 1)

    @property
    def room(self) -> int:
        """The number of commands that may begin: no more results are needed then than are kept."""
        return self.answered_below + RESULTS_MAX - 1 - self.last_command


@dataclass(slots=True, eq=False)
class Proposal:
    """A command that is to be carried out once.

    Attributes
    ----------
    data : bytes
        The command.
    done : callable
        Told the result, or why there is none.
    state_kind : str
        The kind of state it is meant for; empty for any.
    changes_settings : bool
        Whether it is a change of the cluster's settings, and none for the state machine.
    number : int
        Its number in the session that it is sent in.
    sent : _Sent or None
        The request that it is in, while that is under way.
    """

    data: bytes
    done: Callable[[bytes | ProposalError], None]
    state_kind: str
    changes_settings: bool
    number: int = 0
    sent: "_Sent | None" = None

    def may_go_with(self, other: "Proposal") -> bool:
        """Check whether both may be in one batch."""
        return not self.changes_settings and not other.changes_settings and self.state_kind == other.state_kind


class _Sent:
    """Commands that are sent in one request.

    Attributes
    ----------
    session : _Open
        The session that they are sent in.
    proposals : list of Proposal or None
        The commands, with numbers in a row; None for one that was given up.
    first : int
        The number of the first one.
    call : Call or None
        The request; None when it is over.
    """

    __slots__ = ("call", "first", "proposals", "session")

    def __init__(self, session: _Open, proposals: Sequence[Proposal]) -> None:
        self.session = session
        self.proposals: list[Proposal | None] = [*proposals]
        self.first = proposals[0].number
        self.call: Call | None = None

    @property
    def is_batch(self) -> bool:
        """Whether it is a batch, and not one command alone."""
        return len(self.proposals) > 1

    def waiting(self) -> list[Proposal]:
        """List the commands that were not given up."""
        return [proposal for proposal in self.proposals if proposal is not None]

    def request(self) -> Propose | ProposeBatch | ChangeSettings:
        """Make the request."""
        number, below = self.session.number, self.session.answered_below
        one = self.waiting()[0]
        if self.is_batch:
            commands = tuple([None if proposal is None else proposal.data for proposal in self.proposals])
            return ProposeBatch(encode_batch(Batch(number, self.first, below, commands)), one.state_kind)
        if one.changes_settings:
            return ChangeSettings(number, one.number, below, one.data)
        return Propose(number, one.number, below, one.data, one.state_kind)


class Session:
    """A client's session, opened when it is needed.

    Parameters
    ----------
    calls : Calls
        How requests are carried out.
    clock : callable
        Returns the time in seconds.
    """

    def __init__(self, calls: Calls, clock: Callable[[], float]) -> None:
        self._calls = calls
        self._clock = clock
        self._open: _Open | None = None
        self._opening: Call | None = None  # only while commands wait for it
        self._queue: OrderedDict[Proposal, None] = OrderedDict()  # commands that wait for their turn, in order

    @property
    def number(self) -> int:
        """The number of the session, which the cluster gave it; 0 while none is open."""
        return self._open.number if self._open is not None else 0

    def propose(
        self,
        data: bytes,
        done: Callable[[bytes | ProposalError], None],
        *,
        state_kind: str = "",
        changes_settings: bool = False,
    ) -> Proposal:
        """Begin to have a command committed and applied, once; it goes on until it is, or is given up.

        Parameters
        ----------
        data : bytes
            The command.
        done : callable
            Told what the state machine's ``apply`` returned, or the changed settings; or the error, a
            `SessionEndedError` if the session ended, so that it is not known whether the command was carried out, a
            `RefusedError` if it was refused for another reason, and not carried out, or a `ProposalError` if it was
            carried out, but its result is too large to be told. Never before this method has returned.
        state_kind : str
            The kind of state it is meant for; empty for any.
        changes_settings : bool
            Whether it is a change of the cluster's settings, and not for the state machine.

        Returns
        -------
        Proposal
            What :meth:`give_up` takes.

        Raises
        ------
        RefusedError
            If the command is too large.
        """
        if len(data) > PAYLOAD_MAX:
            raise RefusedError(f"not proposed: the command has {len(data)} bytes; at most {PAYLOAD_MAX} are allowed")
        proposal = Proposal(data, done, state_kind, changes_settings)
        if not self._queue:  # else a turn is requested already, or there is no room yet
            self._calls.soon()
        self._queue[proposal] = None
        return proposal

    def give_up(self, proposal: Proposal) -> str:
        """Wait no longer for the outcome of a command; its place is free for another.

        Parameters
        ----------
        proposal : Proposal
            The command, which has no outcome yet.

        Returns
        -------
        str
            What is known of it: whether it may have been carried out, and why there is no answer.
        """
        sent = proposal.sent
        if sent is None or sent.call is None:
            del self._queue[proposal]
            return f"not proposed: {self._why_no_turn()}"
        call = sent.call
        known = "unknown" if call.may_be_done else "not proposed"
        sent.proposals[proposal.number - sent.first] = None
        self._end(proposal, sent.session)
        if any(sent.proposals):
            problem = self._calls.why_unanswered(call)
            if not call.may_be_done:
                call.message = None  # it is made again without this command, which must not be carried out
        else:
            sent.call = None
            problem = self._calls.give_up(call)
        if self._queue:
            self._calls.soon()  # there may be room now
        return f"{known}: {problem.removeprefix(f'{known}: ')}"

    def _why_no_turn(self) -> str:
        """Say why a command has not begun; give up opening a session for which nobody waits any more."""
        opening = self._opening
        if opening is None:
            return self._calls.problem or NO_ANSWER
        if self._queue:
            return self._calls.why_unanswered(opening)
        self._opening = None
        return self._calls.give_up(opening)

    def close(self) -> None:
        """Tell the leader that the session is not needed any more; if that gets lost, it ends by itself."""
        if self._open is not None:
            self._calls.post(EndSession(self._open.number))
            self._forget(self._open)

    # --- commands -------------------------------------------------------------------------------------------

    def _begin_what_may(self) -> None:
        """Send as many of the commands that wait as there is room for, the first first; open a session for them."""
        session = self._open
        if session is None:
            if self._queue and self._opening is None:
                self._opening = self._calls.start(OpenSession, self._opened)
            return
        at_once = 1 if 0 < self._calls.leader_version < BATCHES_FROM else COMMANDS_MAX
        while self._queue and session.room > 0:
            self._send(self._take(session, min(at_once, session.room)), session)

    def _take(self, session: _Open, most: int) -> list[Proposal]:
        """Take commands out of the queue that go into one request, and number them."""
        taken: list[Proposal] = []
        size = 0
        for proposal in islice(self._queue, most):
            size += len(proposal.data)
            if taken and (size > BATCH_BYTES_MAX or not proposal.may_go_with(taken[0])):
                break
            taken.append(proposal)
        for proposal in taken:
            del self._queue[proposal]
            session.last_command += 1
            proposal.number = session.last_command
            session.waiting[proposal.number] = None
        return taken

    def _send(self, proposals: Sequence[Proposal], session: _Open, *, may_be_done: bool = False) -> None:
        sent = _Sent(session, proposals)
        session.used_at = self._clock()
        needs = BATCHES_FROM if sent.is_batch else FIRST_VERSION
        sent.call = self._calls.start(sent.request, partial(self._answered, sent), needs=needs)
        sent.call.is_unknown = may_be_done
        for proposal in proposals:
            proposal.sent = sent

    def _answered(self, sent: _Sent, response: ClientResponse) -> None:
        may_be_done = sent.call is not None and sent.call.may_be_done
        sent.call = None
        if sent.is_batch:
            self._batch_answered(sent, response, may_be_done=may_be_done)
        else:
            self._conclude(sent.waiting()[0], sent.session, _outcome(response))
        if not response.done and response.code == Refusal.SESSION_ENDED:
            self._forget(sent.session)
        if self._queue:
            self._calls.soon()  # there may be room now

    def _batch_answered(self, sent: _Sent, response: ClientResponse, *, may_be_done: bool) -> None:
        """Hand on the outcomes of a batch; send those of its commands alone that have none."""
        if not response.done and response.code == Refusal.SESSION_ENDED:
            for proposal in sent.waiting():  # each has an error of its own, because each may be raised
                self._conclude(proposal, sent.session, SessionEndedError(response.detail))
            return
        outcomes = decode_outcomes_untrusted(response.data) if response.done else None
        if outcomes is None or len(outcomes) != len(sent.proposals):
            outcomes = [None] * len(sent.proposals)
        concluded: list[tuple[Proposal, bytes | ProposalError]] = []
        for waited_for, outcome in zip(sent.proposals, outcomes, strict=True):
            if waited_for is None:
                continue
            if outcome is None or (isinstance(outcome, Refused) and outcome.code in TRY_AGAIN):
                self._send([waited_for], sent.session, may_be_done=may_be_done)
            else:
                self._end(waited_for, sent.session)
                concluded.append((waited_for, _result_of(outcome)))
        for proposal, result in concluded:
            if isinstance(result, SessionEndedError):
                self._forget(sent.session)
            proposal.done(result)

    def _conclude(self, proposal: Proposal, session: _Open, outcome: bytes | ProposalError) -> None:
        self._end(proposal, session)
        proposal.done(outcome)

    def _end(self, proposal: Proposal, session: _Open) -> None:
        del session.waiting[proposal.number]
        proposal.sent = None  # each has the other, and thousands of such pairs cost the garbage collector much

    # --- the session ----------------------------------------------------------------------------------------

    def _opened(self, response: ClientResponse) -> None:
        self._opening = None
        self._calls.soon()  # commands wait for it, and it has to be kept open
        if response.done:
            self._open = _Open(response.session, self._clock())
        else:
            first, _ = self._queue.popitem(last=False)
            first.done(type(refused(response))(f"no session could be opened: {response.detail}"))

    def _forget(self, session: _Open) -> None:
        """Let the commands that wait for their turn go on in another session."""
        if self._open is session:
            self._open = None
            self._calls.soon()

    def next_deadline(self) -> float:
        """Return when :meth:`handle_timer` has something to do next.

        Returns
        -------
        float
            The time; infinity where there is nothing to do.
        """
        session = self._open
        if self._queue and (session.room > 0 if session is not None else self._opening is None):
            return LONG_AGO
        return NEVER if session is None or session.keeping else session.used_at + _KEEP_INTERVAL

    def handle_timer(self, now: float) -> None:
        """Send what was proposed, and keep a session open in which nothing was asked for long.

        Parameters
        ----------
        now : float
            The time in seconds.
        """
        self._begin_what_may()
        session = self._open
        if session is not None and self.next_deadline() <= now:
            session.keeping = True
            self._calls.start(partial(KeepSession, session.number), partial(self._kept, session))

    def _kept(self, session: _Open, response: ClientResponse) -> None:
        session.keeping = False
        session.used_at = self._clock()
        if response.code == Refusal.SESSION_ENDED:
            self._forget(session)
        self._calls.soon()  # there is another deadline


def _outcome(response: ClientResponse) -> bytes | ProposalError:
    if response.done:
        return response.data
    if response.code == Refusal.NO_RESULT:
        return ProposalError(response.detail)
    if response.code == Refusal.SESSION_ENDED:
        return SessionEndedError(response.detail)
    return refused(response)


def _result_of(outcome: bytes | Refused) -> bytes | ProposalError:
    if isinstance(outcome, bytes):
        return outcome
    return SessionEndedError(outcome.detail) if outcome.code == Refusal.SESSION_ENDED else refused(outcome)
