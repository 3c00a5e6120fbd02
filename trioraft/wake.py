"""The wake-ups of a loop: at deadlines, and at the end of a pass of the scheduler in which a turn was requested."""

from collections.abc import Callable

import trio

from trioraft.messages import Instant


class Wake:
    """The wait of a loop for a deadline, or for a task that requests a turn.

    Attributes
    ----------
    turning : bool
        Whether a turn is being taken, which handles all input anyway; requests do nothing meanwhile.
    """

    def __init__(self) -> None:
        self._scope = trio.CancelScope()
        self._task: trio.lowlevel.Task | None = None  # while it waits
        self._is_requested = False
        self.turning = False

    def soon(self) -> None:
        """Request a turn at the end of this pass; does nothing during a turn, which handles all input anyway."""
        if self.turning or self._is_requested:
            return
        self._is_requested = True
        if self._task is not None:
            trio.lowlevel.reschedule(self._task)
            self._task = None

    def at(self, deadline: Instant, *, exactly: bool = False) -> None:
        """Request a turn at a time, or earlier.

        Parameters
        ----------
        deadline : float
            The time, on trio's clock.
        exactly : bool
            Whether a deadline is postponed too. That costs more than a comparison does and less than a wake-up: where
            turns follow each other closely, the loop rather wakes for nothing now and then.
        """
        if deadline < self._scope.deadline or (exactly and deadline > self._scope.deadline):
            self._scope.deadline = deadline

    def begin_turn(self) -> None:
        """Note that a turn begins, which serves all requests until its end."""
        self.turning = True
        self._is_requested = False

    async def run(self, come: Callable[[], None], due: Callable[[], None]) -> None:
        """Call one function for each request, which costs a pass, and one at each deadline, which costs more."""
        while True:
            with self._scope:
                while True:
                    await self._requested()
                    if self._is_requested:
                        self._is_requested = False
                        come()
            self._scope = trio.CancelScope()
            due()
            if self._is_requested:
                self._is_requested = False
                come()

    async def _requested(self) -> None:
        if self._is_requested:  # since this task ran last
            await trio.lowlevel.checkpoint()
        else:
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort)

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED
