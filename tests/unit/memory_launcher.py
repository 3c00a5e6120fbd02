"""Supervisors in memory, for nodes under trio's mocked clock: scripts are intervals of time."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import trio

from trioraft.hooks.launcher import (
    Command,
    End,
    Ended,
    Ending,
    Event,
    Exited,
    Extend,
    Extended,
    Killing,
    Ready,
    Start,
    Started,
    Unstartable,
    Waiting,
)


@dataclass(frozen=True)
class Behaviour:
    """How a script behaves; times in seconds."""

    lifetime: float = math.inf  # until it ends by itself
    exit_status: int = 0  # with this
    stops_in: float = 0.0  # after SIGTERM; longer than the grace needs SIGKILL
    missing: bool = False


@dataclass
class MemoryRun:
    """A script that was run; `ended` is infinite while it runs."""

    role: str
    token: int
    path: str
    environment: dict[str, str]
    pid: int
    started: float
    ended: float = math.inf
    killed: bool = False


@dataclass
class MemoryLauncher:
    """Launches supervisors in memory; stands for one machine, and outlives its node.

    `clock` gives the time that deadlines are in. `behaviours` says what a script at a path does; by default it
    runs until SIGTERM. `runs` is what has run. While `unlaunchable`, no supervisor can be started.
    """

    clock: Callable[[], float]
    behaviours: dict[str, Behaviour] = field(default_factory=dict)
    runs: list[MemoryRun] = field(default_factory=list)
    unlaunchable: bool = False
    link: "MemoryLink | None" = None  # the newest supervisor
    holder: "MemoryLink | None" = None  # of the lock

    async def launch(self, directory: Path, grace: float, streams: bool = False) -> "MemoryLink":
        await trio.lowlevel.checkpoint()
        if self.unlaunchable:
            raise OSError(11, "Resource temporarily unavailable")
        if self.link is not None:
            self.link.orphan()
        self.link = MemoryLink(self, grace)
        return self.link

    def running(self) -> list[MemoryRun]:
        if self.holder is not None:
            self.holder.catch_up()
        return [run for run in self.runs if run.ended == math.inf]


class MemoryLink:
    """A supervisor: obeys commands and deadlines, also when nobody listens."""

    def __init__(self, launcher: MemoryLauncher, grace: float) -> None:
        self._launcher = launcher
        self._grace = grace
        self._events: list[Event] = []
        self._news = trio.Event()
        self._run: MemoryRun | None = None
        self._deadline = math.inf
        self._ending_at = math.inf
        self._told_to_wait = False
        self._lost = False
        self._orphan = False

    # --- what the node does ---------------------------------------------------------------------------------

    def send(self, command: Command) -> None:
        if self._lost:
            return
        self.catch_up()
        match command:
            case Start():
                self._start(command)
            case Extend(deadline=deadline):
                self._deadline = max(self._deadline, deadline)
                self._events.append(Extended())
            case End() if self._run is not None and self._ending_at == math.inf:
                self._end(self._launcher.clock(), "command")
        self._news.set()

    async def receive(self) -> list[Event]:
        while True:
            await trio.lowlevel.checkpoint()
            self.catch_up()
            if self._events:
                events, self._events = self._events, []
                return events
            if self._lost:
                return []
            self._news = trio.Event()
            with trio.move_on_after(max(0.0, self._due() - self._launcher.clock())):
                await self._news.wait()

    async def close(self) -> None:
        self.orphan()
        while self._run is not None:
            await trio.sleep(max(0.0, self._due() - self._launcher.clock()))
            self.catch_up()
        self._release()

    async def destroy(self) -> None:
        await trio.lowlevel.checkpoint()
        self._lost = True
        if self._run is not None:
            self._run.killed = True
            self._run.ended = self._launcher.clock()
            self._run = None
        self._release()

    # --- what a test does -----------------------------------------------------------------------------------

    def lose(self) -> None:
        """Be killed; what it runs goes on."""
        self._lost = True
        self._news.set()

    def orphan(self) -> None:
        """Notice that the node has ended."""
        self.catch_up()
        self._orphan = True
        if self._run is not None and self._ending_at == math.inf:
            self._end(self._launcher.clock(), "node")

    # --- what happens with time -----------------------------------------------------------------------------

    def catch_up(self) -> None:
        """Let everything happen that was due by now."""
        now = self._launcher.clock()
        if self._launcher.holder is not self:
            self._take_lock()
        while self._run is not None and not self._lost and (due := self._due()) <= now:
            ends_at = min(self._ends_at(self._run), self._ending_at + self._grace)
            if ends_at <= due:
                self._finish(self._run, ends_at)
            else:
                self._end(due, "deadline")

    def _take_lock(self) -> None:
        holder = self._launcher.holder
        if holder is not None:
            holder.catch_up()
            if holder._lost and holder._run is not None:
                holder._run.ended, holder._run.killed = self._launcher.clock(), True
                holder._run = None
            if holder._run is None and (holder._orphan or holder._lost):
                holder._release()
        if self._launcher.holder is None and not self._orphan:
            self._launcher.holder = self
            self._events.append(Ready())
        elif not self._told_to_wait:
            self._told_to_wait = True
            self._events.append(Waiting())

    def _release(self) -> None:
        if self._launcher.holder is self:
            self._launcher.holder = None

    def _behaviour(self, path: str) -> Behaviour:
        return self._launcher.behaviours.get(path, Behaviour())

    def _ends_at(self, run: MemoryRun) -> float:
        behaviour = self._behaviour(run.path)
        return min(run.started + behaviour.lifetime, self._ending_at + behaviour.stops_in)

    def _due(self) -> float:
        if self._run is None:
            holder = self._launcher.holder
            return holder._due() if holder is not None and holder is not self else math.inf
        last = self._deadline if self._ending_at == math.inf else self._ending_at + self._grace
        return min(last, self._ends_at(self._run))

    def _start(self, command: Start) -> None:
        assert self._run is None, "scripts of one node overlap"
        assert self._launcher.holder is self, "a script without the lock"
        now = self._launcher.clock()
        if command.deadline is not None and now >= command.deadline:
            self._events += [Ending(cause="deadline"), Ended()]
        elif self._behaviour(command.path).missing:
            self._events.append(Unstartable(error="No such file or directory"))
        else:
            environment = command.environment
            self._run = MemoryRun(
                role=environment["TRIORAFT_ROLE"],
                token=int(environment["TRIORAFT_FENCING_TOKEN"]),
                path=command.path,
                environment=environment,
                pid=1000 + len(self._launcher.runs),
                started=now,
            )
            self._launcher.runs.append(self._run)
            self._deadline = math.inf if command.deadline is None else command.deadline
            self._ending_at = math.inf
            self._events.append(Started(pid=self._run.pid))

    def _end(self, when: float, cause: str) -> None:
        self._ending_at = when
        self._events.append(Ending(cause=cause))

    def _finish(self, run: MemoryRun, when: float) -> None:
        behaviour = self._behaviour(run.path)
        run.ended = when
        run.killed = when == self._ending_at + self._grace and behaviour.stops_in > self._grace
        by_itself = when == run.started + behaviour.lifetime
        if run.killed:
            self._events.append(Killing(left=1, denied=()))
        self._events += [Exited(status=behaviour.exit_status if by_itself else -9 if run.killed else -15), Ended()]
        self._run = None
        self._deadline = self._ending_at = math.inf
