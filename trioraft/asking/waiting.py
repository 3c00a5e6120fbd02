"""How trio's tasks ask: they wait for an answer, and a wait that is cancelled gives up what it waited for.

The parts that ask never wait themselves (:mod:`trioraft.asking.calls`, :mod:`trioraft.asking.session`). A
:class:`Timer` drives them where their owner has no loop of its own.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import trio

from trioraft.asking.calls import RETRY_LAST, Calls
from trioraft.asking.session import Proposal, Session
from trioraft.errors import BatchError, ProposalError
from trioraft.messages import ClientResponse, Command
from trioraft.wake import Wake

_Answer = TypeVar("_Answer")
_Asked = TypeVar("_Asked")


async def call(
    calls: Calls,
    command: Callable[[], Command],
    *,
    node: int | None = None,
    anybody: bool = False,
    stays: bool = False,
    patience: float = RETRY_LAST,
    given_up: Callable[[str], None] = lambda known: None,
) -> ClientResponse:
    """Have a command carried out; a wait that is cancelled gives it up.

    Parameters
    ----------
    calls : Calls
        How requests are carried out.
    command, node, anybody, stays, patience
        As for :meth:`~trioraft.asking.calls.Calls.start`.
    given_up : callable
        Told why there is no answer when the wait was cancelled.

    Returns
    -------
    ClientResponse
        The answer: that it was done, or why it will not be.
    """
    start = partial(calls.start, command, node=node, anybody=anybody, stays=stays, patience=patience)
    return await told(start, calls.give_up, given_up)


async def propose(
    session: Session,
    data: bytes,
    *,
    state_kind: str = "",
    changes_settings: bool = False,
    given_up: Callable[[str], None] = lambda known: None,
) -> bytes:
    """Have a command committed and applied, once; go on until it is, or the wait is cancelled.

    Parameters
    ----------
    session : Session
        The session to do so in.
    data : bytes
        The command.
    state_kind, changes_settings
        As for :meth:`~trioraft.asking.session.Session.propose`.
    given_up : callable
        Told what is known of the command when the wait was cancelled.

    Returns
    -------
    bytes
        What the state machine's ``apply`` returned, or the changed settings.

    Raises
    ------
    ProposalError
        As :meth:`~trioraft.asking.session.Session.propose` tells it.
    """

    def start(done: Callable[[bytes | ProposalError], None]) -> Proposal:
        return session.propose(data, done, state_kind=state_kind, changes_settings=changes_settings)

    result = await told(start, session.give_up, given_up)
    if isinstance(result, ProposalError):
        raise result
    return result


async def told(
    start: Callable[[Callable[[_Answer], None]], _Asked],
    give_up: Callable[[_Asked], str],
    given_up: Callable[[str], None] = lambda known: None,
) -> _Answer:
    """Start something and wait for its answer; where the wait is cancelled, give it up at once, then tell so.

    Parameters
    ----------
    start : callable
        Starts it, and is given the function that takes the answer; that is never called before `start` has returned.
    give_up : callable
        Gives up what `start` has returned, and returns what is known of it.
    given_up : callable
        Told what is known when the wait was cancelled.

    Returns
    -------
    object
        The answer.
    """
    task = trio.lowlevel.current_task()
    answers: list[_Answer] = []
    known: list[str] = []

    def done(answer: _Answer) -> None:
        answers.append(answer)
        trio.lowlevel.reschedule(task)

    def abort(_: object) -> trio.lowlevel.Abort:
        known.append(give_up(started))
        return trio.lowlevel.Abort.SUCCEEDED

    started = start(done)
    try:
        await trio.lowlevel.wait_task_rescheduled(abort)
    except BaseException:
        given_up(known[0])
        raise
    return answers[0]


async def told_all(
    start: Callable[[bytes, Callable[[bytes | ProposalError], None]], _Asked],
    give_up: Callable[[_Asked], str],
    commands: Sequence[bytes],
) -> list[bytes]:
    """Start many commands, and wait for the outcomes of all; where the wait is cancelled, give up those without one.

    Parameters
    ----------
    start : callable
        Starts a command, and is given the function that takes its outcome.
    give_up : callable
        Gives up what `start` has returned.
    commands : sequence of bytes
        The commands.

    Returns
    -------
    list of bytes
        Their results, in their order.

    Raises
    ------
    BatchError
        If some have no result; it has the outcomes of all.
    """
    task = trio.lowlevel.current_task()
    outcomes: dict[int, bytes | ProposalError] = {}

    def done(place: int, outcome: bytes | ProposalError) -> None:
        outcomes[place] = outcome
        if len(outcomes) == len(commands):
            trio.lowlevel.reschedule(task)

    def abort(_: object = None) -> trio.lowlevel.Abort:
        for place, one in enumerate(started):
            if place not in outcomes:
                give_up(one)
        return trio.lowlevel.Abort.SUCCEEDED

    started: list[_Asked] = []
    try:
        for place, command in enumerate(commands):
            started.append(start(command, partial(done, place)))
    except ProposalError:  # such as one that is too large
        abort()
        raise
    if started:
        await trio.lowlevel.wait_task_rescheduled(abort)
    results: list[bytes] = []
    for place in range(len(commands)):
        outcome = outcomes[place]
        if isinstance(outcome, ProposalError):
            raise BatchError(
                f"command {place + 1} of {len(commands)}: {outcome}", [outcomes[n] for n in sorted(outcomes)]
            )
        results.append(outcome)
    return results


class Timer:
    """Does what is due, in time and soon after it was told to.

    Parameters
    ----------
    clock : callable
        Returns the time in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._wake = Wake()

    def soon(self) -> None:
        """Have a turn once the tasks that run now have run, however often this is called until then."""
        self._wake.soon()

    async def run(self, turn: Callable[[], float]) -> None:
        """Have a turn whenever one is wanted or due, until cancelled.

        Parameters
        ----------
        turn : callable
            Does what is due, and returns when something is due next.
        """

        def take() -> None:
            self._wake.at(self._on_trios_clock(turn()))

        take()
        await self._wake.run(take, take)

    def _on_trios_clock(self, deadline: float) -> float:
        return trio.current_time() + (deadline - self._clock())
