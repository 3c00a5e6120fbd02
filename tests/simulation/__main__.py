"""Live many lives, and tell what came of them: ``python -m tests.simulation --help``."""

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import partial
from itertools import count, islice
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from tests.simulation.profile import NAMES
from tests.simulation.simulation import Result, Simulation

# How many lives a process lives before it reports.
_BATCH = 8


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
            f"{sum(n for what, n in self.count.items() if what.startswith('fault')):,} faults, "
            f"{speed:,.0f} events/s and process: {outcome}"
        )


def show_trace(seed: int, profile: str, nodes: int) -> int:
    """Print one life whole; give the exit status."""
    simulation = Simulation(seed, profile, nodes=nodes, whole=True)
    result = simulation.run()
    for line in simulation.trace.lines():
        print(line)
    print(result.violation or f"seed {seed}: {result.events:,} events, no violation")
    return 1 if result.violation else 0


def main(
    seeds: Annotated[int | None, typer.Option(help="how many lives (300 unless told how long)")] = None,
    first: Annotated[int, typer.Option("--from", help="the first seed")] = 0,
    minutes: Annotated[float | None, typer.Option(help="go on for so long")] = None,
    events: Annotated[int | None, typer.Option(help="go on until so many events have happened")] = None,
    jobs: Annotated[int, typer.Option(help="how many processes")] = 1,
    nodes: Annotated[int, typer.Option(help="how many nodes; 0 leaves it to chance")] = 0,
    profile: Annotated[str, typer.Option(help=", ".join(NAMES))] = "mixed",
    trace: Annotated[bool, typer.Option(help="print the whole life of the first seed")] = False,
) -> None:
    """Live many hostile lives of simulated clusters, each from a seed; exit status 1 when a rule was broken."""
    if profile not in NAMES:
        raise typer.BadParameter(f"{profile}: there are {', '.join(NAMES)}")
    if trace:
        raise typer.Exit(show_trace(first, profile, nodes))
    total = seeds if seeds is not None or minutes or events else 300
    tally = Tally()
    numbers = iter(range(first, first + total)) if total is not None else count(first)
    batches = iter(lambda: list(islice(numbers, _BATCH)), [])

    def enough() -> bool:
        late = minutes is not None and time.monotonic() - tally.started > 60 * minutes
        return bool(tally.violations) or late or (events is not None and tally.events >= events)

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("events" if events else "lives", total=events or total)
        for result in live_all(batches, jobs, partial(live, profile=profile, nodes=nodes), enough):
            tally.add(result)
            progress.update(task, completed=tally.events if events else tally.lives)
    for result in tally.violations:
        print(f"\nseed {result.seed}, profile {result.profile}: {result.violation}")
        print("\n".join(result.trace))
        print(f"seed {result.seed}, profile {result.profile}: {result.violation}")
        print(f"again: python -m tests.simulation --from {result.seed} --profile {profile} --nodes {nodes} --trace\n")
    print("\n".join(tally.table()))
    print(tally.summary(jobs))
    raise typer.Exit(1 if tally.violations else 0)


if __name__ == "__main__":
    typer.run(main)
