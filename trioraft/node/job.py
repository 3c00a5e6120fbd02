"""The job of a node: what its leader work is doing, for people, health checks and those who route to the leader."""

from collections.abc import Callable
from typing import Final

from trioraft.consensus import Core, Role
from trioraft.consensus.state import Work
from trioraft.hooks.job import runs_for
from trioraft.logger import Logger
from trioraft.messages import Instant, JobStatus, OptionalNodeId, format_id, why_not_running
from trioraft.node.neighbours import Neighbours
from trioraft.node.work import LeaderWork

_NOTHING_RUNS: Final = frozenset({"none", "over", "failed", "given-up"})


class LeaderJob:
    """The leader work of a node, as it stands.

    Parameters
    ----------
    core : Core
        Its consensus, which says when leader work may start.
    work : LeaderWork
        Its script and its bodies.
    neighbours : Neighbours
        The names of the nodes.
    clock : callable
        Returns the time in seconds.
    """

    def __init__(self, core: Core, work: LeaderWork, neighbours: Neighbours, clock: Callable[[], Instant]) -> None:
        self._core = core
        self._work = work
        self._neighbours = neighbours
        self._clock = clock
        self._led_before: OptionalNodeId = 0

    def note_leader(self, leader: OptionalNodeId) -> None:
        """Note who leads, because the next leader waits for the end of that node's work."""
        if leader not in {0, self._core.id}:
            self._led_before = leader

    @property
    def state(self) -> str:
        """The state, as in :class:`~trioraft.messages.JobStatus`."""
        bodies, script = self._work.bodies, self._work.hooks.job.state
        if self._waits():
            return "waits"
        if script in _NOTHING_RUNS and bodies.running:
            return "runs"
        return script

    def status(self) -> JobStatus:
        """Compute the status of the job.

        Returns
        -------
        JobStatus
            The status.
        """
        if self._waits():
            return self._waiting()
        job = self._work.hooks.job_status
        if job.state in _NOTHING_RUNS and self._work.bodies.running:
            job = self._of_bodies()
        if job.state == "runs" and self._clock() >= self._work.deadline:
            # A node that stood still finds that before anything else tells it.
            return JobStatus(state="ends", text="it has come to its deadline", token=job.token, starts=job.starts)
        return job

    def _of_bodies(self) -> JobStatus:
        bodies = self._work.bodies
        if not bodies.token:
            return JobStatus(state="ends", text="ends")
        seconds = bodies.running_for
        text = f"{runs_for(seconds)}, token {bodies.token}"
        return JobStatus(state="runs", text=text, token=bodies.token, runs_seconds=seconds)

    def why_not_running(self) -> str:
        """Return why no leader work runs on this node now.

        Leader work runs while its script or a body has been started, was not told to end, and its deadline has not
        passed by the clock of this moment.

        Returns
        -------
        str
            The reason; empty while leader work runs.
        """
        if self._core.role is not Role.LEADER:
            return "this node does not lead"
        return why_not_running(self.status())

    def log_wait(self, log: Logger) -> None:
        """Log that leader work has to wait, where that is so."""
        if self._waits() and (job := self._waiting()).starts_in_seconds is not None:
            log.info("leader work waits", why=job.text, seconds=job.starts_in_seconds)

    def _waits(self) -> bool:
        """Check whether this node leads, has something to run, and may not start it yet."""
        core, work = self._core, self._work
        if core.role is not Role.LEADER or core.state is None or core.state.own_work is not Work.NONE:
            return False
        return core.state.handover is None and (work.has_script or work.bodies.wanted)

    def _waiting(self) -> JobStatus:
        state, now = self._core.state, self._clock()
        assert state is not None  # noqa: S101 - a leader has one
        left = state.work_until - now
        if left <= 0:
            return JobStatus(state="waits", text="waits for a majority, to commit the first entry of its term")
        whose = f"{self._name(self._led_before)}'s" if self._led_before else "earlier leader work"
        return JobStatus(
            state="waits",
            text=f"starts in {left:.1f} s: waits for the end of {whose}",
            starts_in_seconds=round(left, 3),
        )

    def _name(self, node: OptionalNodeId) -> str:
        names = self._neighbours.names()
        return names.get(node) or self._core.configuration.name(node) or format_id(node)
