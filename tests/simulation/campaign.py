"""Many lives, in as many processes as there are to spare, and what came of all of them."""

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import islice
from typing import Final

from tests.simulation.simulation import Result, Simulation

# How many lives a process lives before it reports.
BATCH: Final = 8


def live(seeds: list[int], profile: str, nodes: int) -> list[Result]:
    """Live some lives; the last is the one with a violation, if there is one."""
    results = []
    for seed in seeds:
        results.append(Simulation(seed, profile, nodes=nodes).run())
        if results[-1].violation:
            break
    return results


def live_all(
    batches: Iterator[list[int]], jobs: int, batch: Callable[[list[int]], list[Result]], enough: Callable[[], bool]
) -> Iterator[Result]:
    """Live batch after batch, in as many processes as are asked for, until it is enough."""
    if jobs == 1:
        for seeds in batches:
            yield from batch(seeds)
            if enough():
                return
        return
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("forkserver")) as pool:
        under_way: set[Future[list[Result]]] = {pool.submit(batch, seeds) for seeds in islice(batches, 2 * jobs)}
        while under_way:
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for future in done:
                yield from future.result()
            if enough():
                pool.shutdown(cancel_futures=True)
                return
            under_way |= {pool.submit(batch, seeds) for seeds in islice(batches, len(done))}


class Tally:
    """What came of all lives so far."""

    def __init__(self) -> None:
        self.lives = 0
        self.events = 0
        self.seconds = 0.0
        self.count: Counter[str] = Counter()
        self.violations: list[Result] = []
        self.started = time.monotonic()

    def add(self, result: Result) -> None:
        """Add one life."""
        self.lives += 1
        self.events += result.events
        self.seconds += result.seconds
        self.count.update(result.count)
        if result.violation:
            self.violations.append(result)

    def table(self) -> Iterator[str]:
        """Write what happened, and how often."""
        for what in sorted(self.count, key=lambda what: (what.startswith("fault"), what)):
            yield f"{what:40} {self.count[what]:12,}"

    def summary(self, jobs: int) -> str:
        """Write all of it in one line."""
        speed = self.events / max(time.monotonic() - self.started, 1e-9) / jobs
        outcome = f"{len(self.violations)} VIOLATIONS" if self.violations else "no violation"
        return (
            f"{self.lives:,} lives, {self.events:,} events, {self.seconds / 3600:,.1f} cluster-hours, "
            f"{self.count['formations']:,} formations, {self.count['elections']:,} elections, "
            f"{self.count['transfers']:,} transfers, {self.count['pieces of leader work']:,} pieces of leader work, "
            f"{self.count['commands acknowledged']:,} commands, {self.count['reads']:,} reads "
            f"({self.count['reads by lease']:,} by the lease), "
            f"{self.count['snapshots installed']:,} snapshots installed, "
            f"{sum(n for what, n in self.count.items() if what.startswith('fault')):,} faults, "
            f"{speed:,.0f} events/s and process: {outcome}"
        )
