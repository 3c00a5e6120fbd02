"""How busy the machine is with other things than what is measured."""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.benchmarks.processes import TICKS, Build, Processes, cpu_seconds

LATE_MAX: Final = 0.075  # seconds that a process which only sleeps may be woken late
OTHERS_MAX: Final = 0.3  # processors


@dataclass(frozen=True)
class Disturbance:
    """What others have done meanwhile.

    Attributes
    ----------
    late : float
        By how much a process that only sleeps was woken late at most, in seconds.
    others : float
        How many processors others have used, on average.
    """

    late: float = 0.0
    others: float = 0.0

    @property
    def is_large(self) -> bool:
        """Whether what was measured meanwhile says little."""
        return self.late > LATE_MAX or self.others > OTHERS_MAX


class Machine:
    """The machine, beside some processes that are measured on it.

    Parameters
    ----------
    processes : Processes
        Those that are measured; a process that only sleeps is started among them.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._sleeper = processes.worker("sleeper", Build(sys.executable), "sleeper", {})
        self._sleeper.started()
        self._at, self._others = time.monotonic(), self._used_by_others()

    def disturbance(self) -> Disturbance:
        """Tell what there was since the last time that this was asked, or since the start."""
        at, others = time.monotonic(), self._used_by_others()
        used = (others - self._others) / (at - self._at)
        self._at, self._others = at, others
        return Disturbance(float(self._sleeper.ask("late")["late"]), max(0.0, used))

    def _used_by_others(self) -> float:
        own = os.times()
        ours = own.user + own.system + own.children_user + own.children_system + cpu_seconds(self._processes.pids)
        user, nice, system = (int(field) for field in Path("/proc/stat").read_text("ascii").split(maxsplit=4)[1:4])
        return (user + nice + system) / TICKS - ours
