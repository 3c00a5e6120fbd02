"""Leader work as a node's supervisor runs it: in true time, on its machine's clock, surviving the node."""

from typing import TYPE_CHECKING, Final

from tests.simulation.trace import name
from trioraft.consensus.timing import WORK_MARGIN

if TYPE_CHECKING:
    from tests.simulation.host import Host, Process
    from tests.simulation.simulation import Simulation

# What rounding may do to a sum of times.
_EPSILON: Final = 1e-6


class Supervisor:
    """One machine's: at most one piece of work runs at a time, whatever becomes of the node."""

    def __init__(self, world: "Simulation", host: "Host") -> None:
        self.world = world
        self.host = host
        self.token = 0  # of the work that runs; 0 for none
        self.deadline = 0.0  # on the machine's clock
        self.grace = 0.0
        self.process: Process | None = None  # who started it
        self.ending = False
        self.gone_at = 0.0  # on the machine's clock, when it is ending
        self.report_to: Process | None = None
        self.waiting: tuple[Process, int, float] | None = None
        self.started: Process | None = None  # waits to hear that no work of an earlier process is left
        self.run = 0  # numbers the pieces of work, so that what was arranged for one does not end the next
        self.frozen = False
        self.late: list[tuple[int, str]] = []

    # --- what the node says ---------------------------------------------------------------------------------

    def start(self, process: "Process", token: int, deadline: float) -> None:
        """Start work, or keep it waiting until the work of an earlier process has ended."""
        if self.token:
            self.world.count["work waited for the node's own"] += 1
            self.waiting = (process, token, deadline)
        else:
            self._begin(process, token, deadline)

    def extend(self, process: "Process", deadline: float) -> None:
        """Move the deadline."""
        if self.waiting is not None and self.waiting[0] is process:
            self.waiting = (process, self.waiting[1], deadline)
        elif self.host.local(self.world.loop.now) > self.deadline + _EPSILON and not self.frozen:
            self.world.checks.fail(f"{name(self.host.node)} extends leader work after its deadline")
        elif self.token and self.process is process and not self.ending:
            self.deadline = max(self.deadline, deadline)

    def end(self, process: "Process") -> None:
        """Tell the work to end, and the node when all of it has ended."""
        if self.waiting is not None and self.waiting[0] is process:
            self.waiting = None
        self.report_to = process
        if not self.token:
            self.world.loop.at(self.world.loop.now, self._report)
        elif not self.ending:
            self._wind_down(self.host.local(self.world.loop.now))

    def orphaned(self, process: "Process") -> None:
        """Notice that the node has ended: its work ends."""
        if self.waiting is not None and self.waiting[0] is process:
            self.waiting = None
        if self.token and self.process is process and not self.ending:
            self._wind_down(self.host.local(self.world.loop.now))

    def watch_earlier(self, process: "Process") -> None:
        """Tell a process, some time after its start, when no work of an earlier one is left."""
        self.started = process
        if not self.token:
            self._tell_started()

    def _tell_started(self) -> None:
        process, self.started = self.started, None
        if process is not None:
            self.world.loop.at(self.world.loop.now + self.world.disk_seconds(), process.scripts_ended)

    # --- what it does by itself -----------------------------------------------------------------------------

    def _begin(self, process: "Process", token: int, deadline: float) -> None:
        if self.host.local(self.world.loop.now) >= deadline:
            self.world.count["work came too late to start"] += 1
            return
        self.run += 1
        self.token, self.deadline, self.process = token, deadline, process
        self.grace = process.timing.stop_grace
        self.ending = False
        self.report_to = None
        self.world.turn(f"work {token} starts on {name(self.host.node)}")
        self.world.checks.work_started(self.host, token)
        self._watch(self.run)

    def _watch(self, run: int) -> None:
        """End the work when its deadline has come."""
        if self.frozen:
            self.late.append((run, "watch"))
            return
        if run != self.run or not self.token or self.ending:
            return
        now = self.world.loop.now
        due = self.host.true(self.deadline)
        if due > now:
            self.world.loop.at(due, self._watch, run)
        else:
            self.world.turn(f"work {self.token} on {name(self.host.node)} has come to its deadline")
            self._wind_down(min(self.deadline, self.host.local(now)))

    def _wind_down(self, since: float) -> None:
        """Let the work end within the grace and the margin, all counted on the machine's clock."""
        self.ending = True
        longest = (self.grace + WORK_MARGIN) * 0.999
        self.gone_at = min(since, self.deadline) + longest * self.world.ending_part()
        self.world.loop.at(max(self.host.true(self.gone_at), self.world.loop.now), self._finish, self.run)

    def _finish(self, run: int) -> None:
        if self.frozen:
            self.late.append((run, "finish"))
            return
        if run != self.run or not self.token:
            return
        due = self.host.true(self.gone_at)
        if due > self.world.loop.now + _EPSILON:  # the clock has become slower
            self.world.loop.at(due, self._finish, run)
            return
        self.world.turn(f"work {self.token} on {name(self.host.node)} has ended")
        self.world.checks.work_ended(self.host)
        self.token = 0
        self.ending = False
        self._report()
        self._tell_started()
        if self.waiting is not None:
            waiting, self.waiting = self.waiting, None
            self._begin(*waiting)

    def _report(self) -> None:
        process, self.report_to = self.report_to, None
        if process is not None and not self.token:
            process.work_ended()

    def clock_changed(self) -> None:
        """Look at the clock again."""
        if self.token:
            self.world.loop.at(self.world.loop.now, self._finish if self.ending else self._watch, self.run)

    # --- the whole machine stands still ---------------------------------------------------------------------

    def freeze(self) -> None:
        """Stand still together with the node and the work; no timeout can protect from that."""
        self.frozen = True
        self.world.checks.work_frozen(self.host)

    def thaw(self) -> None:
        """Go on."""
        self.frozen = False
        late, self.late = self.late, []
        for run, what in late:
            self.world.loop.at(self.world.loop.now, self._watch if what == "watch" else self._finish, run)
