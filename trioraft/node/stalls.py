"""Stalls of the event loop: while it is blocked, nothing is received and no heartbeat is sent.

The loop is blocked by a task that runs for long without a checkpoint (a slow command of a state machine, a body of
leader work that computes), or by a machine without a processor to spare. The former takes processor time, the latter
does not.
"""

import time
from collections import Counter
from typing import Final

import trio

from trioraft.clock import LONG_AGO, NEVER
from trioraft.logger import Logger
from trioraft.messages import Instant, Seconds

_log: Final = Logger("trioraft.stalls")

# The shortest time between two warnings, in seconds.
_TELL_INTERVAL: Final = 10.0


class LoopWatch(trio.abc.Instrument):
    """Measures each turn of trio's loop, from when it has looked for what came in until it looks again.

    Parameters
    ----------
    heartbeat : float
        The heartbeat interval, in seconds. A turn must not take longer than a tenth of it.

    Attributes
    ----------
    counters : Counter
        ``loop_stalls``: how many turns took longer; ``loop_longest_millis`` and ``loop_longest_cpu_millis``: the
        longest turn so far, by the clock and in processor time of the loop's thread.
    """

    def __init__(self, heartbeat: Seconds) -> None:
        self.counters: Counter[str] = Counter()
        self._limit = heartbeat / 10
        self._endangers = heartbeat / 2
        self._longest = self._longest_cpu = 0.0
        self._began = self._cpu_began = NEVER
        self._told_at = LONG_AGO
        self._told_stalls = 0

    def after_io_wait(self, timeout: float) -> None:
        """Begin a turn."""
        self._began = time.perf_counter()
        self._cpu_began = time.thread_time()

    def before_io_wait(self, timeout: float) -> None:
        """End a turn."""
        now = time.perf_counter()
        took = now - self._began
        if took > self._longest or took > self._limit:
            self._note(took, time.thread_time() - self._cpu_began, now)

    def _note(self, took: float, cpu: float, now: Instant) -> None:
        self._longest = max(self._longest, took)
        self._longest_cpu = max(self._longest_cpu, cpu)
        self.counters["loop_longest_millis"] = round(self._longest * 1000)
        self.counters["loop_longest_cpu_millis"] = round(self._longest_cpu * 1000)
        if took <= self._limit:
            return
        self.counters["loop_stalls"] += 1
        if (cpu > self._limit or took > self._endangers) and now > self._told_at + _TELL_INTERVAL:
            stalls, self._told_stalls = self.counters["loop_stalls"] - self._told_stalls, self.counters["loop_stalls"]
            self._told_at = now
            _log.warning(
                "the event loop was blocked, and heartbeats waited for it; run what takes long in a thread",
                millis=round(took * 1000),
                cpu_millis=round(cpu * 1000),
                stalls=stalls,
            )
