"""Many lives, in as many processes as there are to spare: which are to be lived, and what came of all of them."""

import contextlib
import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from tests.simulation.simulation import Result, Simulation

# How many lives a process lives before it reports.
BATCH: Final = 8


class Tally(Struct, kw_only=True):
    """What is to be done, and what came of all that was done so far; can be saved, and gone on from."""

    profile: str = "mixed"
    nodes: int = 0
    next_seed: int = 0  # of those that nobody was told to live
    unfinished: list[list[int]] = []  # batches that somebody was told to live, and that are not counted
    lives: int = 0
    events: int = 0
    seconds: float = 0.0  # of the clusters' lives
    processor_seconds: float = 0.0
    wall_seconds: float = 0.0
    count: dict[str, int] = {}

    def add(self, batch: list[int], results: list[Result]) -> None:
        """Add the lives of a batch."""
        self.unfinished.remove(batch)
        counter = Counter(self.count)
        for result in results:
            self.lives += 1
            self.events += result.events
            self.seconds += result.seconds
            self.processor_seconds += result.processor_seconds
            counter.update(result.count)
        self.count = dict(counter)

    def hand_out(self, before: int | None) -> Iterator[list[int]]:
        """Give batches: first those that were not finished, then new ones, up to a seed if one is given."""
        yield from [*self.unfinished]
        while before is None or self.next_seed < before:
            size = BATCH if before is None else min(BATCH, before - self.next_seed)
            batch = [*range(self.next_seed, self.next_seed + size)]
            self.next_seed += size
            self.unfinished.append(batch)
            yield batch

    def lives_before(self, before: int) -> int:
        """Tell how many lives there will have been when all seeds before one are lived."""
        return self.lives + sum(map(len, self.unfinished)) + max(0, before - self.next_seed)

    def save(self, path: Path) -> None:
        """Write it to a file, whole or not at all."""
        new = path.with_name(path.name + ".new")
        new.write_bytes(msgspec.json.format(msgspec.json.encode(self)) + b"\n")
        new.replace(path)

    @staticmethod
    def load(path: Path) -> "Tally":
        """Read it back; raises `ValueError` where the file is something else."""
        return msgspec.json.decode(path.read_bytes(), type=Tally)


def live(seeds: list[int], profile: str, nodes: int) -> list[Result]:
    """Live some lives; the last is the one with a violation, if there is one."""
    results = []
    for seed in seeds:
        results.append(Simulation(seed, profile, nodes=nodes).run())
        if results[-1].violation:
            break
    return results


def live_all(
    batches: Iterator[list[int]],
    jobs: int,
    batch: Callable[[list[int]], list[Result]],
    enough: Callable[[], bool],
) -> Iterator[tuple[list[int], list[Result]]]:
    """Live batch after batch, in as many processes as are asked for, until it is enough."""
    if jobs == 1:
        for seeds in batches:
            yield seeds, batch(seeds)
            if enough():
                return
        return
    forkserver = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(jobs, mp_context=forkserver, initializer=_be_a_worker) as pool:
        under_way: dict[Future[list[Result]], list[int]] = {}
        try:
            while True:
                while len(under_way) < 2 * jobs and (seeds := next(batches, [])):
                    under_way[pool.submit(batch, seeds)] = seeds
                if not under_way:
                    return
                done, _ = wait(under_way, return_when=FIRST_COMPLETED)
                for future in done:
                    yield under_way.pop(future), future.result()
                if enough():
                    return
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _be_a_worker() -> None:
    """Leave it to the process that started this one to end it; Ctrl+C reaches both."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def cores() -> int:
    """Tell how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Let SIGTERM do what SIGINT does, and SIGINT do it also where a shell has started this in the background."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Watch:
    """Adds the time that passes to a tally, and saves it now and then."""

    def __init__(self, tally: Tally, path: Path | None, *, every: float = 5.0) -> None:
        self.tally = tally
        self.path = path
        self.every = every
        self._before = tally.wall_seconds
        self._started = time.monotonic()
        self._saved = float("-inf")  # the first time, there is a file as soon as there is something to go on from

    @property
    def elapsed(self) -> float:
        """For how many seconds this run has gone on."""
        return time.monotonic() - self._started

    def look(self, *, now: bool = False) -> None:
        """Save the tally if it is time, or at once."""
        self.tally.wall_seconds = self._before + self.elapsed
        if self.path is not None and (now or time.monotonic() - self._saved > self.every):
            self.tally.save(self.path)
            self._saved = time.monotonic()
