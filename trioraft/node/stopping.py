"""Stopping: a node transfers its leadership, and with ``LEAVE_ON_STOP`` has itself removed, before it ends.

Docker kills a container ten seconds after it was told to stop, so all of this is bounded: a step that is not done in
time is left undone, and the log says so. A node that was not removed is a member that is away.
"""

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from trioraft.asking import waiting
from trioraft.asking.calls import Calls
from trioraft.consensus import Core, Role
from trioraft.consensus.timing import WORK_MARGIN
from trioraft.logger import Logger
from trioraft.messages import ChangeMember, ClientResponse, Instant, Seconds
from trioraft.settings.settings import NodeSettings

# How long a leader that stops waits for another node to take over the leadership that it has offered, in seconds.
_TAKEOVER_PATIENCE: Final = 2.0
# How long after it was told to stop a node gives up its removal, in seconds; and the least time for the removal,
# where leader work took longer than that to end.
_LEAVING_PATIENCE: Final = 8.0
_LEAVING_PATIENCE_LEAST: Final = 1.0
# How soon a node asks again that was told that it is removed, and does not know it from its log yet, in seconds.
_ASK_AGAIN: Final = 0.5


class Stopping:
    """The last steps of a node.

    Parameters
    ----------
    core : Core
        Its consensus.
    settings : NodeSettings
        The settings: whether it leaves, and how long its leader work may take to end.
    calls : Calls
        Sends requests to the leader.
    clock : callable
        Returns the time in seconds.
    soon : callable
        Requests a turn, so that what was begun goes on.
    changed : callable
        Waits until the role, the term or the leader has changed, or leadership has been offered.
    removed : trio.Event
        Set once the node's removal is on its disk.
    """

    def __init__(
        self,
        core: Core,
        settings: NodeSettings,
        calls: Calls,
        clock: Callable[[], Instant],
        soon: Callable[[], None],
        changed: Callable[[], Awaitable[None]],
        removed: trio.Event,
    ) -> None:
        self._core = core
        self._settings = settings
        self._calls = calls
        self._clock = clock
        self._soon = soon
        self._changed = changed
        self._removed = removed

    async def step_aside(self, log: Logger, reason: str) -> None:
        """Do the last steps before the node ends.

        Parameters
        ----------
        log : BoundLogger
            The log of the node.
        reason : str
            The reason why the node stops, for the log.
        """
        began = self._clock()
        log.info("stopping", reason=reason, role=self._core.role)
        self._core.be_last_choice(began)
        await self._give_leadership_away()
        if self._settings.leave_on_stop and self._core.role not in {Role.FORMING, Role.REMOVED}:
            await self._leave(log, max(_LEAVING_PATIENCE_LEAST, began + _LEAVING_PATIENCE - self._clock()))
            await self._give_leadership_away()  # it may have come back meanwhile

    async def _give_leadership_away(self) -> None:
        """Transfer leadership; return when another node leads, or when none can."""
        if self._core.role is not Role.LEADER:
            return
        if not self._core.is_handing_over:
            self._core.transfer(0, self._clock())
            self._soon()
        if not self._core.is_handing_over:
            return  # nobody else can lead
        with trio.move_on_after(self._settings.hook_stop_grace + WORK_MARGIN):
            while self._core.role is Role.LEADER and not self._core.has_offered:
                await self._changed()
        with trio.move_on_after(min(_TAKEOVER_PATIENCE, self._settings.election_timeout_lower)):
            while self._core.leader in {0, self._core.id}:
                await self._changed()

    # --- leaving --------------------------------------------------------------------------------------------

    async def _leave(self, log: Logger, seconds: Seconds) -> None:
        """Have the leader remove this node, and wait until the removal is on this node's disk."""
        answers: list[ClientResponse] = []
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._ask_to_leave, answers, nursery.cancel_scope)
                await self._removed.wait()
                nursery.cancel_scope.cancel()
        if self._removed.is_set():
            log.info("left the cluster")
        elif answers and not answers[0].done:
            log.warning("stops but stays a member", reason=answers[0].detail)
        else:
            why = "its removal was not confirmed" if answers else self._calls.problem or "no leader has answered"
            log.warning("stops but may stay a member", reason=f"{why}, within {seconds:.1f} s")

    async def _ask_to_leave(self, answers: list[ClientResponse], leaving: trio.CancelScope) -> None:
        """Ask until the leader declines; even after it agreed, lest its end leave this node untold."""
        while True:
            answers[:] = [await waiting.call(self._calls, lambda: ChangeMember("leave", self._core.id))]
            if not answers[0].done:
                leaving.cancel()
            await trio.sleep(_ASK_AGAIN)
