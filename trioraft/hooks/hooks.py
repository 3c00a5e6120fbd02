"""Scripts on promotion and demotion: when each of them runs, and how the node learns of it.

The rules:

- The leader script is started by :meth:`Hooks.start_work`, and ended (with everything that it started) by
  :meth:`Hooks.end_work`, at its deadline, or with the node.
- A leader script that has ended by itself may be run again (:mod:`trioraft.hooks.restarts`), with the same token,
  when nothing of its last run is left; never after :meth:`Hooks.end_work`, and never after its deadline.
- The follower script runs once on becoming a member, and once after each end of leader work. It is ended before
  the leader script starts.
- Scripts of one node never overlap: the next one starts when nothing of the one before is left.
- No script runs before the supervisor holds the lock of the data directory, because a supervisor of an earlier
  process of this node may still be ending its work.

When ``on_work_ended`` is called, nothing of leader work runs, and none starts before the next `start_work`. The node
is called once for each `end_work`, and also when the work has ended by itself, as a short script does that is not run
again, or was ended at its deadline. Only the task of :meth:`Hooks.run` calls back, never one of the methods, so a
callback may use them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import trio

from trioraft.clock import FOREVER, NEVER
from trioraft.hooks.context import HookContext, HookSettings
from trioraft.hooks.job import Job
from trioraft.hooks.launcher import (
    Command,
    Crashed,
    Dropped,
    End,
    Ended,
    Ending,
    Event,
    Exited,
    Extend,
    Extended,
    Killing,
    Launcher,
    Link,
    Output,
    Ready,
    Start,
    Started,
    SupervisorLauncher,
    Unstartable,
    Waiting,
)
from trioraft.hooks.output import ScriptOutput
from trioraft.hooks.restarts import Restarts
from trioraft.hooks.runs import Kind, Run, Work
from trioraft.hooks.scripts import why_failed, why_not_run
from trioraft.logger import Logger
from trioraft.messages import HookStatus, JobStatus

__all__ = ["HookContext", "HookSettings", "Hooks", "Launcher", "SupervisorLauncher"]

_log: Final = Logger("trioraft.hooks")

# How long a supervisor may take to answer, in seconds.
_LAUNCH_PATIENCE: Final = 10.0
_START_PATIENCE: Final = 5.0
_END_PATIENCE: Final = (0.5, 1.0)
_KILL_PATIENCE: Final = 5.0
# When an answer is due, this node reads what has arrived before it gives the supervisor up. Where this node was late
# itself, because its process stood still, it waits as long again as it was late, but at most the second chance.
_GLANCE: Final = 0.02
_SECOND_CHANCE: Final = 0.5
# How long killing a supervisor may take when the node ends, in seconds.
_DESTROY_PATIENCE: Final = 1.0
# The shortest and the longest pause between attempts to start a supervisor, in seconds.
_RETRY: Final = (0.5, 10.0)


class Hooks:
    """The scripts of a node, which a supervisor runs.

    Parameters
    ----------
    settings : HookSettings
        Which scripts to run, and how.
    directory : pathlib.Path
        The node's data directory.
    context : callable
        Returns what a script learns of its node, when it is started.
    on_work_ended : callable
        Called when leader work has ended, all of it.
    on_work_failed : callable
        Called with the reason when this node should not go on as leader.
    on_earlier_ended : callable, optional
        Called when the supervisor has found that no script of an earlier process of this node is left.
    launcher : Launcher, optional
        Launches supervisors.

    Attributes
    ----------
    job : Job
        What the leader script is doing.
    output : ScriptOutput
        The output of scripts, on its way to the log.
    """

    def __init__(
        self,
        settings: HookSettings,
        directory: Path,
        context: Callable[[], HookContext],
        *,
        on_work_ended: Callable[[], None],
        on_work_failed: Callable[[str], None],
        on_earlier_ended: Callable[[], None] = lambda: None,
        launcher: Launcher | None = None,
    ) -> None:
        paths: dict[Kind, str | None] = {
            "leader": settings.script_leader_path,
            "follower": settings.script_follower_path,
        }
        self._paths: dict[Kind, str] = {kind: path for kind, path in paths.items() if path}
        self._leader_arguments = settings.script_leader_arguments
        self._grace = settings.hook_stop_grace
        self._acknowledgement_patience = settings.election_timeout_lower
        self._steps_down = settings.hook_failure == "step-down"
        self._directory = directory
        self._context = context
        self._on_work_ended = on_work_ended
        self._on_work_failed = on_work_failed
        self._on_earlier_ended = on_earlier_ended
        self._launcher = launcher or SupervisorLauncher()
        self._output_streams = settings.script_leader_output == "streams"
        self._restarts = Restarts(settings.script_leader_restart)
        self.job = Job()
        self.output = ScriptOutput(self._send)
        # What the node asks for.
        self._work: Work | None = None
        self._follower_wanted = False
        self._follower_done = False
        self._closing = False
        # What the supervisor does.
        self._link: Link | None = None
        self._ready = False
        self._run: Run | None = None
        self._answer_due = self._acknowledgement_due = NEVER
        self._again_at = NEVER
        self._patience = trio.CancelScope()
        # What the node has to learn.
        self._end_owed = False
        self._failure = ""
        self._news = trio.Event()
        self._status = HookStatus(state="idle" if self._paths else "none")
        self._since: float | None = None

    # --- what the node says ---------------------------------------------------------------------------------

    def start_work(self, token: int, deadline: float) -> None:
        """Start leader work as soon as nothing of an earlier script is left.

        Parameters
        ----------
        token : int
            The fencing token.
        deadline : float
            The end of the lease in seconds of CLOCK_BOOTTIME. The script gets SIGTERM then, and SIGKILL a grace
            later.
        """
        self._work = Work(token, deadline)
        self._follower_wanted = self._follower_done = False
        self._end_owed = False
        self._failure = ""
        self._again_at = NEVER
        self._restarts.begin()
        if "leader" in self._paths:
            self.job.begin(token, self._why_not_yet())
        self._advance()

    def extend_work(self, deadline: float) -> None:
        """Let leader work run for longer.

        Parameters
        ----------
        deadline : float
            The new end of the lease.
        """
        work = self._work
        if work is None:
            return
        work.deadline = max(work.deadline, deadline)
        run = self._run
        if run is not None and run.work is work and not run.ending:
            self._extend(run)
        elif work.overdue:
            work.overdue = False
            self._fail("the leader script was ended at its deadline, before the lease was renewed")

    def end_work(self) -> None:
        """End leader work now; ``on_work_ended`` follows."""
        self._work = None
        self._end_owed = True
        self._again_at = NEVER
        self.job.state = "ends" if self._run is not None and self._run.kind == "leader" else "none"
        self._advance()

    def become_follower(self) -> None:
        """Run the follower script once nothing of leader work is left.

        The script runs once until leader work starts again, however often this is called.
        """
        self._follower_wanted = not self._follower_done
        self._advance()

    @property
    def state(self) -> str:
        """The state of the scripts, in the one word that `status` has for it."""
        return self._status.state

    @property
    def has_leader_script(self) -> bool:
        """Whether there is a leader script."""
        return "leader" in self._paths

    @property
    def job_status(self) -> JobStatus:
        """What the leader script is doing, for status messages."""
        return self.job.status(trio.current_time())

    @property
    def deadline(self) -> float:
        """The time at which leader work ends unless the lease is extended; 0 while there is none."""
        return self._work.deadline if self._work is not None else 0.0

    @property
    def status(self) -> HookStatus:
        """The state of the scripts, for status messages."""
        since = 0.0 if self._since is None else trio.current_time() - self._since
        return msgspec.structs.replace(self._status, since_seconds=since)

    # --- the rules ------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Do the next thing that the rules allow."""
        run, work = self._run, self._work
        if run is not None:
            if not run.told_to_end and (work is not None if run.kind == "follower" else run.work is not work):
                self._end_run(run)
        elif work is not None and not work.begun:
            if "leader" not in self._paths:
                work.begun = self._end_owed = True
            elif self._may_start():
                work.begun = True
                self._start_run(Run("leader", self._paths["leader"], work))
        elif work is not None and self._again_at <= trio.current_time():
            if self._may_start():
                self._again_at = NEVER
                self._start_run(Run("leader", self._paths["leader"], work))
        elif work is None and self._follower_wanted and "follower" in self._paths and self._may_start():
            self._follower_wanted = False
            self._follower_done = True
            self._start_run(Run("follower", self._paths["follower"], None))
        if self._failure or self._nothing_of_work_left():
            self._news.set()

    def _may_start(self) -> bool:
        return self._ready and self._run is None and not self._closing

    def _why_not_yet(self) -> str:
        """Say what the leader script waits for on this node."""
        if not self._ready:
            return "the end of earlier work in this data directory"
        return "the end of the follower script" if self._run is not None else "its start"

    def _nothing_of_work_left(self) -> bool:
        """Check whether leader work has ended and the node still has to learn it."""
        running = self._run is not None and self._run.kind == "leader"
        return self._end_owed and not running and (self._ready or not self._paths)

    def _start_run(self, run: Run) -> None:
        self._run = run
        if run.kind == "leader":
            self.job.start()
        self._show("running", script=run.kind, path=run.path, pid=None, exit_status=None)
        run.deadline = run.work.deadline if run.work is not None else None
        given = self._leader_arguments if run.kind == "leader" else None
        command = Start(
            path=run.path,
            # A follower holds no token; 0 is older than any.
            environment=self._context().environment(run.kind, run.work.token if run.work is not None else 0),
            deadline=run.deadline,
            arguments=list(given) if given is not None else None,
            streams=self._output_streams and run.kind == "leader",
        )
        self._send(command)
        self._expect_answer(_START_PATIENCE)

    def _extend(self, run: Run) -> None:
        """Send the newest deadline, once the one before is acknowledged, so that the channel is never full."""
        work = run.work
        if work is None or work.deadline == run.deadline or run.told_to_end or run.ending:
            return
        if self._acknowledgement_due == NEVER:
            run.deadline = work.deadline
            self._send(Extend(deadline=work.deadline))
            self._acknowledgement_due = trio.current_time() + self._acknowledgement_patience
            self._note_patience()

    def _end_run(self, run: Run) -> None:
        run.told_to_end = True
        self._show("ending")
        if not run.ending:
            self._send(End())
            shortest, longest = _END_PATIENCE
            self._expect_answer(max(shortest, min(longest, self._grace)))

    def _run_ended(self, run: Run, exit_status: int | None, how: str, reason: str = "") -> None:
        """Note how a script has ended by itself: `how` in few words, and with a reason where it has failed."""
        run.failed = bool(reason)
        fields: dict[str, object] = {} if exit_status is None else {"exit_status": exit_status}
        if run.kind == "leader":
            self._decide_what_follows(run, exit_status, how)
            if run.again_in is not None:
                fields["again_in"] = run.again_in
        if not reason:
            _log.info("script ended", script=run.kind, path=run.path, **fields)
            return
        _log.warning("script failed", script=run.kind, path=run.path, reason=reason, **fields)
        if run.kind == "leader" and run.again_in is None and self._steps_down and run.work is self._work:
            given_up = f", given up after {self.job.starts} starts" if self.job.starts > 1 else ""
            self._fail(f"the leader script {run.path} failed: {reason}{given_up}")

    def _decide_what_follows(self, run: Run, exit_status: int | None, how: str) -> None:
        """Decide whether the leader script runs again; then what it has left behind must end first."""
        if run.work is not self._work or run.told_to_end:
            return
        self.job.exit_status, self.job.how, self.job.failed = exit_status, how, run.failed
        lasted = trio.current_time() - run.started_at if run.started_at is not None else 0.0
        run.again_in = self._restarts.pause_after(failed=run.failed, lasted=lasted)
        if run.again_in is not None and run.started_at is not None:
            self.job.state = "ends"
            self._end_run(run)

    def _fail(self, reason: str) -> None:
        self._failure = reason
        self._news.set()

    def _run_over(self, run: Run) -> None:
        """Note that none of the processes of a script is left."""
        self._run = None
        if run.kind == "leader":
            self._leader_run_over(run)
        self._show("failed" if run.failed else "idle" if run.ending else "exited", pid=None)

    def _leader_run_over(self, run: Run) -> None:
        work = self._work
        if work is None or run.work is not work or work.overdue:
            self._end_owed = True
            if work is None or work.overdue:
                self.job.state = "none"
        elif run.again_in is not None:
            self._again_at = trio.current_time() + run.again_in
            self.job.ended("again", self._again_at)
            self._note_patience()
        else:
            self._end_owed = True
            keeps = self._restarts.keeps_running
            self.job.ended("over" if not run.failed else "given-up" if keeps else "failed", trio.current_time())

    # --- what the supervisor says ---------------------------------------------------------------------------

    def _handle(self, event: Event) -> None:
        match event:
            case Waiting():
                self._expect_answer(FOREVER)
                self._show("waiting")
                _log.warning("waiting for earlier work in this data directory to end", directory=str(self._directory))
            case Ready():
                self._expect_answer(FOREVER)
                self._ready = True
                self._on_earlier_ended()
                if self._status.state == "waiting":
                    self._show("idle")
            case Extended():
                self._acknowledgement_due = NEVER
                self._note_patience()
                if self._run is not None:
                    self._extend(self._run)
            case Crashed(error=error, traceback=traceback):
                _log.error("the supervisor of scripts has crashed", error=error, traceback=traceback)
            case _ if self._run is not None:
                self._handle_run(self._run, event)

    def _handle_run(self, run: Run, event: Event) -> None:
        match event:
            case Started(pid=pid):
                self._expect_answer(FOREVER)
                run.started_at = trio.current_time()
                if run.work is not None and run.work is self._work:
                    self.job.started(run.started_at)
                self._show(self._status.state, pid=pid)
                token = run.work.token if run.work is not None else None
                _log.info("script started", script=run.kind, path=run.path, pid=pid, token=token)
            case Unstartable(error=error):
                self._expect_answer(FOREVER)
                self._run_ended(run, None, "cannot be run", f"cannot be run: {why_not_run(run.path, error)}")
                self._run_over(run)
            case Exited(status=status):
                self._handle_exit(run, status)
            case Ending(cause=cause):
                self._expect_answer(self._grace + _KILL_PATIENCE)
                run.ending = True
                self._show("ending")
                if cause == "deadline" and run.work is not None:
                    run.work.overdue = True
                    _log.warning("leader work has come to its deadline", path=run.path)
            case Killing(left=left, denied=denied):
                self._expect_answer(_KILL_PATIENCE)
                self._handle_killing(run, left, denied)
            case Ended():
                self._expect_answer(FOREVER)
                self._run_over(run)
            case Output() | Dropped():
                self.output.take(event, run.kind, run.path)

    def _handle_exit(self, run: Run, status: int) -> None:
        self._show(self._status.state, pid=None, exit_status=status)
        how = f"exit {status}" if status >= 0 else f"signal {-status}"
        if run.ending:
            _log.info("script ended", script=run.kind, path=run.path, exit_status=status)
        elif status == 0:
            self._run_ended(run, status, how)
        else:
            reason = f"exit status {status}" if status > 0 else f"ended by signal {-status}"
            self._run_ended(run, status, how, why_failed(run.path, reason))

    def _handle_killing(self, run: Run, left: int, denied: tuple[int, ...]) -> None:
        if not run.killed:
            run.killed = True
            _log.warning(
                "script did not end within its grace, and is killed",
                script=run.kind,
                path=run.path,
                grace=self._grace,
                processes=left,
            )
        if denied:
            _log.error(
                "script has processes of another user, which only that user can end",
                script=run.kind,
                path=run.path,
                pids=list(denied),
            )

    # --- the task -------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run scripts until cancelled, and then end whatever runs.

        Parameters
        ----------
        task_status : trio.TaskStatus
            Started when the methods may be called.
        """
        self._since = trio.current_time()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._report)
                if self._paths:
                    nursery.start_soon(self.output.run)
                    nursery.start_soon(self._keep_supervisor)
                task_status.started()
        finally:
            self._report_now()

    async def _report(self) -> None:
        while True:
            await self._news.wait()
            self._news = trio.Event()
            self._report_now()

    def _report_now(self) -> None:
        """Call the node back about a failure, and about the end of leader work if that is still so."""
        if self._failure:
            reason, self._failure = self._failure, ""
            self._on_work_failed(reason)
        if self._nothing_of_work_left():
            self._end_owed = False
            self._on_work_ended()

    async def _keep_supervisor(self) -> None:
        """Launch a supervisor, and another whenever one is lost."""
        shortest, longest = _RETRY
        pause = shortest
        while True:
            launched_at = trio.current_time()
            try:
                link = await self._launcher.launch(self._directory, self._grace, self._output_streams)
            except OSError as error:
                self._show("failed")
                _log.error("the supervisor of scripts cannot be started", error=str(error), retry_seconds=pause)
            else:
                await self._live_with(link)
                if trio.current_time() - launched_at > longest:
                    pause = shortest
                    continue
            await trio.sleep(pause)
            pause = min(2 * pause, longest)

    async def _live_with(self, link: Link) -> None:
        """Follow a supervisor until it is lost, then kill the processes that it left."""
        self._link = link
        self.output.begin()
        try:
            self._acknowledgement_due = NEVER
            self._expect_answer(_LAUNCH_PATIENCE)
            self._lost(await self._follow(link))
            await link.destroy()
        except BaseException:
            await self._shut_down(link)
            raise
        if self._run is not None:
            self._run.failed = True
            self._run_over(self._run)

    async def _follow(self, link: Link) -> str:
        """Act on the events of a supervisor until it is lost; return the reason."""
        while True:
            self._patience = trio.CancelScope()
            self._note_patience()
            with self._patience:
                while await self._take_events(link):
                    pass
                return "it has ended"
            late = trio.current_time() - self._due
            if late < 0:
                self._advance()  # the pause of the leader script is over, or was
                if self._again_at <= trio.current_time():
                    self._again_at = trio.current_time() + _GLANCE
                continue
            with trio.move_on_after(_GLANCE + min(late, _SECOND_CHANCE)):
                while self._due <= trio.current_time():
                    if not await self._take_events(link):
                        return "it has ended"
            if self._due <= trio.current_time():
                return "it does not answer"

    async def _take_events(self, link: Link) -> bool:
        events = await link.receive()
        for event in events:
            self._handle(event)
        self._advance()
        return bool(events)

    def _lost(self, why: str) -> None:
        self._link = None
        self._ready = False
        _log.error("lost the supervisor of scripts; killing what is left of them", reason=why)
        if self._work is not None and self._work.begun:
            self._fail(f"the supervisor of its scripts was lost: {why}")

    async def _shut_down(self, link: Link) -> None:
        """End the script and the supervisor within a bounded time, although this task is cancelled."""
        self._closing = True
        with trio.move_on_after(self._grace + 1, shield=True):
            if self._run is not None and self._link is not None and not self._run.told_to_end:
                self._end_run(self._run)
            while self._run is not None and self._link is not None and await self._take_events(link):
                pass
            if self._run is None and self._link is not None:
                await link.close()
                return
        with trio.move_on_after(_DESTROY_PATIENCE, shield=True):
            await link.destroy()
            if self._run is not None:
                self._run_over(self._run)
            return
        _log.error("some processes of scripts could not be killed in time", directory=str(self._directory))

    def _send(self, command: Command) -> None:
        if self._link is not None:
            self._link.send(command)

    def _expect_answer(self, within: float) -> None:
        self._answer_due = trio.current_time() + within
        self._note_patience()

    @property
    def _due(self) -> float:
        """The time by which the supervisor must have answered."""
        return min(self._answer_due, self._acknowledgement_due)

    def _note_patience(self) -> None:
        self._patience.deadline = min(self._due, self._again_at)

    def _show(self, state: str, **changes: object) -> None:
        if state != self._status.state and self._since is not None:
            self._since = trio.current_time()
        self._status = msgspec.structs.replace(self._status, state=state, **changes)
