"""Live many lives, and tell what came of them: ``python -m tests.simulation --help``."""

import time
from functools import partial
from itertools import count, islice
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from tests.simulation.campaign import BATCH, Tally, live, live_all
from tests.simulation.profile import NAMES
from tests.simulation.simulation import Simulation


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
    batches = iter(lambda: list(islice(numbers, BATCH)), [])

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
