"""``trioraft lock NAME -- COMMAND…``: run a command while holding a lock.

A process of its own runs the command, the supervisor (:mod:`trioraft.hooks.supervisor`). This process sends it the
time until which the lease surely lives, and a later one after each keep-alive that was answered. Before that time the
supervisor ends the command, and all that it started, by itself: also when this process is stopped or killed, or has
lost the cluster.
"""

import os
import signal
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Final

import trio

from trioraft.cli.exits import WRONG, CommandError
from trioraft.cli.lead import find_program
from trioraft.cli.signals import SIGNALLED
from trioraft.cli.silence import silence_told
from trioraft.client.client import Client, NoAnswerError, open_client
from trioraft.client.status import printable
from trioraft.clock import NEVER, boottime
from trioraft.datagrams.endpoint import Domain
from trioraft.errors import ProposalError
from trioraft.hooks.launcher import (
    Crashed,
    End,
    Ended,
    Ending,
    Event,
    Exited,
    Extend,
    Extended,
    Link,
    Ready,
    Start,
    Started,
    Unstartable,
    launch_command_supervisor,
)
from trioraft.hooks.scripts import why_not_run
from trioraft.kv.errors import KeyValueError
from trioraft.kv.lock import NAME_MAX, HeldLock, LeaseLostError, LockHeldError, hold_lock
from trioraft.nurseries import first_error
from trioraft.settings.settings import ClientSettings
from trioraft.signals import ENDING, not_ignored

# When the lease ends, how long the command has between SIGTERM and SIGKILL: a share of the lease's time to live, and
# at most some seconds. And how long before the end of the lease its processes must be gone.
_GRACE_SHARE: Final = 1 / 4
_GRACE_MAX: Final = 5.0
_KILL_TAKES: Final = 0.1
_LOOK_INTERVAL: Final = 0.1
# How long after the grace the supervisor may take to end, in seconds.
_CLOSING_TAKES: Final = 1.0
_SUPERVISOR_LOST: Final = "the process that supervises the command was lost; the command was ended"
# How long the cluster may take to answer, even where the wait for the holder of the lock is shorter.
_ANSWER_SECONDS: Final = 5.0


async def run_locked(
    settings: ClientSettings, name: str, command: list[str], *, ttl: int, patience: float | None
) -> int:
    """Run a command while holding a lock.

    Parameters
    ----------
    settings : ClientSettings
        The addresses of the cluster, and the keys.
    name : str
        The lock's name.
    command : list of str
        The command and its arguments.
    ttl : int
        The time to live of the lease that holds the lock, in seconds.
    patience : float or None
        How many seconds to wait while somebody else holds the lock; None for as long as it takes.

    Returns
    -------
    int
        The command's exit status; 128 and the signal's number where a signal ended it.

    Raises
    ------
    CommandError
        If the command could not be run, or was ended because the lock was lost.
    """
    path = find_program(command[0])
    if not 0 < len(name.encode("utf-8", "surrogateescape")) <= NAME_MAX:
        raise CommandError(f"NAME={name[:100]!r}: allowed: 1 to {NAME_MAX} bytes", WRONG)
    answers_within = max(patience or 0, _ANSWER_SECONDS)
    began = trio.current_time()
    told = _Told()
    try:
        with trio.open_signal_receiver(*not_ignored(*ENDING)) as signals:
            async with (
                open_client(settings, Domain.CLIENT) as client,
                silence_told(client, 0 if patience is None else answers_within),
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(told.listen, signals)
                status = await _run_when_held(client, name, [path, *command[1:]], told, ttl=ttl, patience=patience)
                nursery.cancel_scope.cancel()
            if status is not None:
                return status
            if told.number:
                return SIGNALLED + told.number
            raise NoAnswerError(f"{printable(client.problem)} (waited {trio.current_time() - began:.1f} s)")
    except* LockHeldError as group:
        text = str(first_error(group))
    except* (LeaseLostError, KeyValueError, ProposalError) as group:
        text = f"the lock {name} is not held: {first_error(group)}"
    raise CommandError(printable(text))


async def _run_when_held(
    client: Client, name: str, command: list[str], told: "_Told", *, ttl: int, patience: float | None
) -> int | None:
    """Wait for the lock and run the command; None when the wait ended without the lock."""
    status: int | None = None
    with trio.CancelScope() as waiting:
        told.act = waiting.cancel  # leaves the queue, so that nobody waits for this lease to end

        def give_up_after(seconds: float) -> None:
            if patience is not None:
                waiting.deadline = trio.current_time() + seconds

        give_up_after(max(patience or 0, _ANSWER_SECONDS))
        queued = partial(give_up_after, (patience or 0) + _ANSWER_SECONDS)
        async with hold_lock(client, name, ttl, wait=patience, queued=queued) as held:
            waiting.deadline = NEVER
            status = await _Run(held, command[0], command[1:], told).run()
    return status


class _Told:
    """The signals that reach this process, from before it has the lock until after it has released it.

    Attributes
    ----------
    number : int
        The first of the signals; 0 for none.
    act : callable
        The reaction to a signal.
    runs : bool
        Whether the command runs, so that Ctrl-C reaches it by itself.
    """

    def __init__(self) -> None:
        self.number = 0
        self.act: Callable[[], None] = lambda: None
        self.runs = False

    async def listen(self, signals: AsyncIterator[int]) -> None:
        async for number in signals:
            if number != signal.SIGINT or not self.runs or not os.isatty(0):
                self.number = self.number or number
                self.act()


class _Run:
    """One run of the command."""

    def __init__(self, held: HeldLock, path: str, arguments: list[str], told: _Told) -> None:
        self._held = held
        self._path = path
        self._arguments = arguments
        self._told = told
        self._grace = min(_GRACE_MAX, held.lease.ttl * _GRACE_SHARE)
        self._status: int | None = None
        self._is_lost = self._is_ending = self._is_silent = False
        # The newest deadline that was sent to the supervisor, and the newest that it has acknowledged.
        self._sent = self._known = NEVER

    async def run(self) -> int:
        """Run the command to its end, or not at all when a signal came before its start."""
        link = await launch_command_supervisor(self._grace)
        try:
            self._told.act = lambda: link.send(End())
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._extend, link, nursery.cancel_scope)
                await self._follow(link)
                nursery.cancel_scope.cancel()
        finally:
            await self._close(link)
        if self._is_silent:
            raise CommandError(_SUPERVISOR_LOST)
        if self._status is None and self._told.number:
            return SIGNALLED + self._told.number
        if self._status is None or self._is_lost:
            raise LeaseLostError("the command was ended in time, because no keep-alive was answered")
        return self._status if self._status >= 0 else SIGNALLED - self._status

    @property
    def _deadline(self) -> float:
        """The time at which the command gets SIGTERM, unless a keep-alive is answered before."""
        return self._held.lease.held_until - self._grace - _KILL_TAKES

    async def _follow(self, link: Link) -> None:
        while events := await link.receive():
            for event in events:
                if self._act_on(event, link):
                    return
        await link.destroy()
        raise CommandError(_SUPERVISOR_LOST)

    async def _close(self, link: Link) -> None:
        """Let the supervisor end; kill a supervisor that stands still, with all that it runs."""
        with trio.CancelScope(shield=True):
            with trio.move_on_after(0 if self._is_silent else self._grace + _CLOSING_TAKES) as waiting:
                await link.close()
            if waiting.cancelled_caught:
                await link.destroy()

    def _act_on(self, event: Event, link: Link) -> bool:
        """Act on an event; return whether all has ended."""
        match event:
            case Ready() if self._told.number:
                return True
            case Ready():
                self._sent = self._known = self._deadline
                link.send(Start(self._path, self._environment(), self._sent, self._arguments, terminal=True))
            case Extended():
                self._known = self._sent
            case Started():
                self._told.runs = True
            case Ending(cause=cause):
                self._is_ending = True
                self._is_lost = cause == "deadline"
            case Exited(status=status):
                self._status = status
                link.send(End())  # ends all that the command started, because the lock is released next
            case Unstartable(error=error):
                raise CommandError(f"{self._path}: {why_not_run(self._path, error)}")
            case Crashed(error=error):
                raise CommandError(f"the process that supervises the command failed: {error}")
            case Ended():
                return True
        return False

    def _environment(self) -> dict[str, str]:
        return {"TRIORAFT_FENCING_TOKEN": str(self._held.fencing_token), "TRIORAFT_LOCK": self._held.name}

    async def _extend(self, link: Link, running: trio.CancelScope) -> None:
        """Send later deadlines to the supervisor; give the supervisor up when it lets one pass that it knew.

        It takes two looks to give it up, so that its events are read first where this process itself stood still.
        """
        is_overdue = False
        while True:
            await trio.sleep(_LOOK_INTERVAL)
            if self._sent == self._known and self._deadline > self._sent:
                self._sent = self._deadline
                link.send(Extend(self._sent))
            was_overdue, is_overdue = is_overdue, boottime() > self._known + self._grace / 2
            if is_overdue and was_overdue and not self._is_ending:
                self._is_silent = True
                running.cancel()
