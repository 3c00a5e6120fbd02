"""Leadership as structured concurrency: bodies that run while this node may do leader work.

A body is cancelled, at its next checkpoint, when leader work must end. A body that shields itself or blocks the event
loop may still run when leader work must be over. It would break the promise that leader work never overlaps, so a
watchdog thread, which needs no event loop, ends the whole process then.

When the process is stopped for longer than leader work may run, or its host is suspended, nothing in it can end in
time, and the watchdog may be the first thread that goes on. It then allows bodies a moment in which those that behave
see their cancellation and end. If no other node can have started leader work yet, that moment ends before one can.
"""

import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Literal

import trio

from trioraft.consensus.timing import WORK_MARGIN
from trioraft.logger import Logger
from trioraft.streams import write_last_words

_log: Final = Logger("trioraft.leadership")

OVERRUN_STATUS: Final = 70  # EX_SOFTWARE of sysexits.h

OnOverrun = Literal["exit", "log"]

# How often the watchdog looks, in seconds: often, because the clock goes on while the host is suspended. The process
# stood still when the watchdog looks later than that by more than the second number, not counting the time in which
# this process used a processor.
_LOOK_INTERVAL: Final = 0.2
_STOOD_STILL: Final = 0.1
# How long bodies may go on after a standstill, in seconds. Where no other node can have started its work yet, they
# may go on for this share of the margin that lies before it.
_MOMENT: Final = 1.0
_PART_OF_MARGIN: Final = 0.8


@dataclass(frozen=True, slots=True)
class Leadership:
    """The leadership that a body runs under.

    Attributes
    ----------
    fencing_token : int
        A number that only grows within a cluster. Send it with every write of the body, and have the receiver
        refuse a number smaller than one it has seen.
    """

    fencing_token: int


@dataclass(eq=False, slots=True)
class _Body:
    """A running body."""

    name: str
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    began: float = field(default_factory=trio.current_time)


class Bodies:
    """The bodies that run on this node while it may do leader work.

    Parameters
    ----------
    clock : callable or None
        Returns the time in seconds, on the clock of the deadlines and in any thread; None for no watchdog, under a
        mocked clock.
    grace : float
        How long a body may take to end after its cancellation, in seconds.
    on_ended : callable
        Called when all bodies have ended after :meth:`end_work`.
    on_overrun : {'exit', 'log'}
        What the watchdog does about a body that still runs when leader work must be over: end the process, or
        (unsafe!) only log it.
    """

    def __init__(
        self, clock: Callable[[], float] | None, grace: float, on_ended: Callable[[], None], on_overrun: OnOverrun
    ) -> None:
        self._clock = clock
        self._grace = grace
        self._on_ended = on_ended
        self._on_overrun = on_overrun
        self._token: int | None = None
        self._started = trio.Event()
        self._bodies: set[_Body] = set()
        self._waiting = 0
        self._ending = False
        self._over_at = 0.0  # when leader work must be over
        self._watching = threading.Event()
        self._closed = threading.Event()
        self._watchdog: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether any body runs."""
        return bool(self._bodies)

    @property
    def wanted(self) -> bool:
        """Whether any body runs, or waits for leader work to start."""
        return bool(self._bodies or self._waiting)

    @property
    def running_for(self) -> float:
        """How long the body that runs for longest has run, in seconds."""
        return trio.current_time() - min((body.began for body in self._bodies), default=trio.current_time())

    @property
    def token(self) -> int:
        """The fencing token of the work that may run; 0 while none may."""
        return self._token or 0

    # --- calls of the node ---------------------------------------------------------------------------------

    def start_work(self, token: int, deadline: float) -> None:
        """Let bodies run.

        Parameters
        ----------
        token : int
            The fencing token.
        deadline : float
            The end of the lease, in seconds on the clock.
        """
        self._token = token
        self._ending = False
        self._over_at = deadline + self._grace
        self._started.set()

    def extend_work(self, deadline: float) -> None:
        """Let bodies run for longer.

        Parameters
        ----------
        deadline : float
            The new end of the lease.
        """
        self._over_at = max(self._over_at, deadline + self._grace)

    def end_work(self) -> None:
        """Cancel all bodies; ``on_ended`` follows, at once when there is none."""
        self._token = None
        self._started = trio.Event()
        self._ending = True
        for body in self._bodies:
            body.scope.cancel()
        self._note_end()

    def _note_end(self) -> None:
        if self._ending and not self._bodies:
            self._ending = False
            self._on_ended()

    def close(self) -> None:
        """End the watchdog."""
        self._closed.set()
        self._watching.set()
        if self._watchdog is not None:
            self._watchdog.join()

    # --- calls of the program --------------------------------------------------------------------------------

    @asynccontextmanager
    async def leadership(self, name: str) -> AsyncIterator[Leadership]:
        """Wait until leader work may run, and run the block as such.

        Parameters
        ----------
        name : str
            The name of the body in the report that it did not end in time.

        Yields
        ------
        Leadership
            The fencing token.
        """
        self._waiting += 1
        try:
            token = await self._next_token()
        finally:
            self._waiting -= 1
        body = _Body(name)
        self._bodies.add(body)
        self._watch()
        try:
            with body.scope:
                yield Leadership(token)
        finally:
            self._bodies.discard(body)
            self._note_end()

    async def _next_token(self) -> int:
        """Wait until leader work may run, and return its fencing token."""
        while self._token is None or self._is_late():
            await self._started.wait()
            if self._is_late():  # this process stood still, and its node has not noticed yet
                await trio.sleep(_LOOK_INTERVAL / 10)
        return self._token

    def _is_late(self) -> bool:
        """Check whether the lease, as far as it is known here, has ended."""
        return self._clock is not None and self._clock() >= self._over_at - self._grace

    async def run_while_leader(self, name: str, function: Callable[[Leadership], Awaitable[object]]) -> None:
        """Run a function at each promotion, for ever.

        Parameters
        ----------
        name : str
            The name of the function in the report that it did not end in time.
        function : callable
            An async function of the leadership.
        """
        while True:
            async with self.leadership(name) as leadership:
                await function(leadership)
                await trio.sleep_forever()  # it is done in this term

    # --- the watchdog ---------------------------------------------------------------------------------------

    def _watch(self) -> None:
        if self._clock is None:
            return
        if self._watchdog is None:
            self._watchdog = threading.Thread(
                target=self._watchdog_thread, args=(self._clock,), name="trioraft watchdog", daemon=True
            )
            self._watchdog.start()
        self._watching.set()

    def _watchdog_thread(self, clock: Callable[[], float]) -> None:
        spared_until = 0.0
        while not self._closed.is_set():
            if not self._bodies:
                self._watching.clear()
                if not self._bodies and not self._closed.is_set():  # what was set before is seen here
                    self._watching.wait()
                continue
            left = max(self._over_at, spared_until) - clock()
            if left <= 0:
                self._overrun()
                self._closed.wait(self._grace)
            elif self._stood_still(clock, min(left, _LOOK_INTERVAL)):
                spared_until = self._spare(clock())

    def _stood_still(self, clock: Callable[[], float], seconds: float) -> bool:
        """Wait, and check whether this process stood still meanwhile."""
        began, used = clock(), time.process_time()
        self._closed.wait(seconds)
        return clock() - began - seconds - (time.process_time() - used) > _STOOD_STILL

    def _spare(self, now: float) -> float:
        """Compute the time until which bodies are spared after a standstill."""
        if now < self._over_at + WORK_MARGIN:
            return self._over_at + _PART_OF_MARGIN * WORK_MARGIN
        return now + _MOMENT

    def _overrun(self) -> None:
        names = ", ".join(body.name for body in list(self._bodies))
        text = f"leader work must be over, and has not ended: {names}"
        if self._on_overrun == "log":
            _log.error(text, consequence="another node may start leader work now")
            return
        try:
            write_last_words(f"trioraft: {text}; ending the process, before another node starts leader work\n")
        finally:
            os._exit(OVERRUN_STATUS)
