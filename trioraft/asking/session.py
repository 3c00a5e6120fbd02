"""A client's session: every command in it is carried out once, however often it has to be sent (thesis 6.3).

The session is opened with the first command. It ends when its client says so, or was silent for
:data:`~trioraft.replica.session_clock.SESSION_SECONDS`. What was under way then fails with
:class:`~trioraft.errors.SessionEndedError`, because nobody knows any more whether it was carried out. It is never
sent again in another session: that is for the caller to decide, by another call.

Nothing here waits: who proposes is told the outcome. :mod:`trioraft.asking.waiting` waits for it with trio.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

from trioraft.asking.calls import NO_ANSWER, Call, Calls, refused
from trioraft.clock import NEVER
from trioraft.errors import ProposalError, RefusedError, SessionEndedError
from trioraft.messages import (
    PAYLOAD_MAX,
    ChangeSettings,
    ClientResponse,
    EndSession,
    KeepSession,
    OpenSession,
    Propose,
    Refusal,
)
from trioraft.replica.session_clock import SESSION_SECONDS
from trioraft.replica.sessions import RESULTS_MAX

_KEEP_INTERVAL: Final = SESSION_SECONDS / 5

# Makes the request of session, number, what is answered, and data.
RequestKind: TypeAlias = Callable[[int, int, int, bytes], Propose | ChangeSettings]


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
    def has_room(self) -> bool:
        """Whether another command may begin: no more results are needed then than are kept."""
        return self.last_command + 1 < self.answered_below + RESULTS_MAX


@dataclass(slots=True, eq=False)
class Proposal:
    """A command that is to be carried out once.

    Attributes
    ----------
    data : bytes
        The command.
    kind : callable
        Makes the request of it.
    done : callable
        Told the result, or why there is none.
    session : _Open or None
        The session that it is sent in; None while it waits for its turn.
    number : int
        Its number in the session.
    call : Call or None
        Its request, while that is under way.
    """

    data: bytes
    kind: RequestKind
    done: Callable[[bytes | ProposalError], None]
    session: _Open | None = None
    number: int = 0
    call: Call | None = None


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
        self, data: bytes, done: Callable[[bytes | ProposalError], None], kind: RequestKind = Propose
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
        kind : callable
            Makes the request of session, number, what is answered, and data: for the state machine, or a change of
            the cluster's settings.

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
        proposal = Proposal(data, kind, done)
        self._queue[proposal] = None
        self._begin_what_may()
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
        session, call = proposal.session, proposal.call
        if session is None or call is None:
            del self._queue[proposal]
            return f"not proposed: {self._why_no_turn()}"
        problem = self._calls.give_up(call)
        known = "unknown" if call.may_be_done else "not proposed"
        self._end(proposal, session)
        self._begin_what_may()
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
        """Begin as many of the commands that wait as there is room for, the first first; open a session for them."""
        session = self._open
        if session is None:
            if self._queue and self._opening is None:
                self._opening = self._calls.start(OpenSession, self._opened)
            return
        while self._queue and session.has_room:
            proposal, _ = self._queue.popitem(last=False)
            self._begin(proposal, session)

    def _begin(self, proposal: Proposal, session: _Open) -> None:
        session.last_command += 1
        number = session.last_command
        session.waiting[number] = None
        session.used_at = self._clock()
        proposal.session, proposal.number = session, number
        proposal.call = self._calls.start(
            lambda: proposal.kind(session.number, number, session.answered_below, proposal.data),
            partial(self._answered, proposal, session),
        )

    def _answered(self, proposal: Proposal, session: _Open, response: ClientResponse) -> None:
        self._end(proposal, session)
        if not response.done and response.code == Refusal.SESSION_ENDED:
            self._forget(session)
        else:
            self._begin_what_may()
        proposal.done(_outcome(response))

    def _end(self, proposal: Proposal, session: _Open) -> None:
        del session.waiting[proposal.number]
        proposal.call = None  # each has the other, and thousands of such pairs cost the garbage collector much

    # --- the session ----------------------------------------------------------------------------------------

    def _opened(self, response: ClientResponse) -> None:
        self._opening = None
        if response.done:
            self._open = _Open(response.session, self._clock())
            self._begin_what_may()
            self._calls.soon()  # it has to be kept open
        else:
            first, _ = self._queue.popitem(last=False)
            self._begin_what_may()
            first.done(type(refused(response))(f"no session could be opened: {response.detail}"))

    def _forget(self, session: _Open) -> None:
        """Let the commands that wait for their turn go on in another session."""
        if self._open is session:
            self._open = None
            self._begin_what_may()

    def next_deadline(self) -> float:
        """Return when :meth:`handle_timer` has something to do next.

        Returns
        -------
        float
            The time; infinity where there is nothing to do.
        """
        session = self._open
        return NEVER if session is None or session.keeping else session.used_at + _KEEP_INTERVAL

    def handle_timer(self, now: float) -> None:
        """Keep a session open in which nothing was asked for long.

        Parameters
        ----------
        now : float
            The time in seconds.
        """
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
