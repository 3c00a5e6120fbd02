"""How long the turns of a node's loop take: the time between two waits for sockets, timers and threads."""

import time
from typing import Final

import trio

from tests.benchmarks.workers.lines import Answer, percentile

# Of so many turns only the longest is kept.
_SLICE: Final = 64
_OFTEN: Final = 99.9


class Turns(trio.abc.Instrument):
    """Measures each turn: of the clock, and of the processor's time that the loop's thread had meanwhile."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew, with the turn that is under way."""
        self._began = time.perf_counter_ns(), time.thread_time_ns()
        self._number = 0
        self._wall: list[int] = []
        self._longest_cpu = self._longest_of_slice = self._longest_wall = 0

    def after_io_wait(self, timeout: float) -> None:
        """Note when a turn begins."""
        self._began = time.perf_counter_ns(), time.thread_time_ns()

    def before_io_wait(self, timeout: float) -> None:
        """Note how long it took."""
        wall, cpu = self._began
        wall, cpu = time.perf_counter_ns() - wall, time.thread_time_ns() - cpu
        self._longest_cpu = max(self._longest_cpu, cpu)
        self._longest_wall = max(self._longest_wall, wall)
        self._longest_of_slice = max(self._longest_of_slice, wall)
        self._number += 1
        if self._number % _SLICE == 0:
            self._wall.append(self._longest_of_slice)
            self._longest_of_slice = 0

    def tell(self) -> Answer:
        """Tell the longest turns, in milliseconds.

        The percentile is that of the longest of 64 turns each, which is no less than that of all turns.
        """
        return {
            "turns": self._number,
            "longest_cpu": self._longest_cpu / 1e6,
            "longest_wall": self._longest_wall / 1e6,
            "often_wall": percentile(self._wall, _OFTEN) / 1e6 if self._wall else 0.0,
        }
