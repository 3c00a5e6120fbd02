"""A client's session: every command in it is carried out once, however often it has to be sent (thesis 6.3).

The session is opened with the first command. It ends when its client says so, or was silent for
:data:`~trioraft.replica.session_clock.SESSION_SECONDS`. What was under way then fails with
:class:`~trioraft.errors.SessionEndedError`, because nobody knows any more whether it was carried out. It is never
sent again in another session: that is for the caller to decide, by another call.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

import trio

from trioraft.asking.calls import Calls, refused
from trioraft.clock import LONG_AGO
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


class _Open:
    """An open session."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.last_command = 0
        self.waiting: dict[int, None] = {}  # commands without a result, in order
        self.queue = trio.lowlevel.ParkingLot()  # who waits for a place, the first first
        self._called = 0  # who was called out of the queue, and has not begun yet
        self._has_ended = False

    @property
    def answered_below(self) -> int:
        """No command before this one is waited for."""
        return next(iter(self.waiting), self.last_command + 1)

    @property
    def _free(self) -> int:
        """How many commands more may begin: no more results are needed then than are kept."""
        return self.answered_below + RESULTS_MAX - (self.last_command + 1) - self._called

    async def wait_for_place(self) -> None:
        """Wait for one's turn, where more commands are under way than results are kept; or until the session ends."""
        if not self._has_ended and (self.queue or self._free <= 0):
            await self.queue.park()  # whoever is called runs on, also if it was cancelled since
            self._called -= not self._has_ended

    @contextmanager
    def command(self) -> Iterator[int]:
        """Give the next command its number; after the block, each place that is free now is another's."""
        self.last_command += 1
        number = self.last_command
        self.waiting[number] = None
        try:
            yield number
        finally:
            del self.waiting[number]
            self._call()

    def _call(self) -> None:
        """Call as many as there are places, and nobody else."""
        if not self._has_ended:
            self._called += len(self.queue.unpark(count=max(self._free, 0)))

    def end(self) -> None:
        """Let everybody go on in another session."""
        self._has_ended = True
        self.queue.unpark_all()


class Session:
    """A client's session, opened when it is needed.

    Parameters
    ----------
    calls : Calls
        How requests are carried out.

    Attributes
    ----------
    problem : str
        What is known of the command whose wait was cancelled last.
    """

    def __init__(self, calls: Calls) -> None:
        self.problem = ""
        self._calls = calls
        self._open: _Open | None = None
        self._opening = trio.Lock()
        self._used_at = LONG_AGO
        self._used = trio.Event()

    async def propose(
        self, data: bytes, kind: Callable[[int, int, int, bytes], Propose | ChangeSettings] = Propose
    ) -> bytes:
        """Have a command committed and applied, once; go on until it is, or the wait is cancelled.

        Parameters
        ----------
        data : bytes
            The command.
        kind : callable
            Makes the request of session, number, what is answered, and data: for the state machine, or a change of
            the cluster's settings.

        Returns
        -------
        bytes
            What the state machine's ``apply`` returned, or the changed settings.

        Raises
        ------
        SessionEndedError
            If the session ended, so that it is not known whether the command was carried out.
        RefusedError
            If it was refused for another reason, and not carried out.
        ProposalError
            If it was carried out, but its result is too large to be told.
        """
        if len(data) > PAYLOAD_MAX:
            raise RefusedError(f"not proposed: the command has {len(data)} bytes; at most {PAYLOAD_MAX} are allowed")
        session = await self._session()
        with session.command() as number:
            self._used_at = trio.current_time()
            try:
                response = await self._calls.call(lambda: kind(session.number, number, session.answered_below, data))
            except trio.Cancelled:
                known = "unknown" if self._calls.may_be_done else "not proposed"
                self.problem = f"{known}: {self._calls.problem.removeprefix(f'{known}: ')}"
                raise
        if not response.done:
            self._fail(session, response)
        return response.data

    async def _session(self) -> _Open:
        """Give the session, opened, with room for another command."""
        if self._open is None:
            async with self._opening:
                if self._open is None:
                    self._open = await self._begin()
        session = self._open
        await session.wait_for_place()
        return session if session is self._open else await self._session()

    async def _begin(self) -> _Open:
        try:
            response = await self._calls.call(OpenSession)
        except trio.Cancelled:
            self.problem = f"not proposed: {self._calls.problem}"
            raise
        if not response.done:
            raise type(refused(response))(f"no session could be opened: {response.detail}")
        self._used_at = trio.current_time()
        self._used.set()
        return _Open(response.session)

    def _fail(self, session: _Open, response: ClientResponse) -> None:
        if response.code == Refusal.NO_RESULT:
            raise ProposalError(response.detail)
        if response.code != Refusal.SESSION_ENDED:
            raise refused(response)
        self._forget(session)
        raise SessionEndedError(response.detail)

    async def keep(self) -> None:
        """Keep the session open for as long as this runs."""
        while True:
            await self._used.wait()
            self._used = trio.Event()
            while (session := self._open) is not None:
                silent_until = self._used_at + _KEEP_INTERVAL
                if trio.current_time() < silent_until:
                    await trio.sleep_until(silent_until)
                    continue
                response = await self._calls.call(partial(KeepSession, session.number))
                self._used_at = trio.current_time()
                if response.code == Refusal.SESSION_ENDED:
                    self._forget(session)

    def _forget(self, session: _Open) -> None:
        if self._open is session:
            self._open = None
            session.end()

    def close(self) -> None:
        """Tell the leader that the session is not needed any more; if that gets lost, it ends by itself."""
        if self._open is not None:
            self._calls.post(EndSession(self._open.number))
            self._forget(self._open)
