"""Live many lives, and tell what came of them: ``python -m tests.simulation --help``."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from tests.simulation.campaign import Tally, Watch, cores, live, live_all, stopped_by_signals
from tests.simulation.profile import NAMES
from tests.simulation.report import figures, summary, table
from tests.simulation.simulation import Result, Simulation
from tests.simulation.story_to_write import story_to_write

_INTERRUPTED = 130  # as a shell says of a process that SIGINT has ended


def show_trace(seed: int, profile: str, nodes: int) -> int:
    """Print one life whole; give the exit status."""
    simulation = Simulation(seed, profile, nodes=nodes, whole=True)
    result = simulation.run()
    for line in simulation.trace.lines():
        print(line)
    print(result.violation or f"seed {seed}: {result.events:,} events, no violation")
    return 1 if result.violation else 0


def show_violation(result: Result, nodes: int) -> None:
    """Print how a life came to break a rule, how to see it again, and which story to write for it."""
    print(f"\nseed {result.seed}, profile {result.profile}: {result.violation}")
    print("\n".join(result.trace))
    print(f"seed {result.seed}, profile {result.profile}: {result.violation}")
    again = f"--from {result.seed} --profile {result.asked_for} --nodes {nodes} --trace"
    print(f"again: python -m tests.simulation {again}\n")
    print("\n".join(story_to_write(result)), end="\n\n")


def take_up(resume: Path | None, first: int, profile: str, nodes: int) -> Tally:
    """Begin anew, or go on from what a file says; what is asked for must be the same then."""
    if resume is None or not resume.exists():
        return Tally(profile=profile, nodes=nodes, next_seed=first)
    try:
        tally = Tally.load(resume)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{resume}: not a file of --resume ({error}); name another one") from error
    if (tally.profile, tally.nodes) != (profile, nodes):
        raise typer.BadParameter(f"{resume}: was begun with --profile {tally.profile} --nodes {tally.nodes}")
    return tally


def live_on(
    tally: Tally, watch: Watch, *, before: int | None, events: int | None, minutes: float | None, jobs: int
) -> Iterator[Result]:
    """Live until it is enough, with a progress bar on standard error; give those that broke a rule."""
    broken = False

    def enough() -> bool:
        late = minutes is not None and watch.elapsed > 60 * minutes
        return broken or late or (events is not None and tally.events >= events)

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(
            "events" if events else "lives", total=events or (before and tally.lives_before(before))
        )
        batch = partial(live, profile=tally.profile, nodes=tally.nodes)
        if enough():
            return
        for seeds, results in live_all(tally.hand_out(before), jobs, batch, enough):
            if results[-1].violation:
                broken = True  # it is not counted, and lived again when somebody goes on
                yield results[-1]
            else:
                tally.add(seeds, results)
            watch.look()
            progress.update(
                task, completed=tally.events if events else tally.next_seed - sum(map(len, tally.unfinished))
            )


def main(
    seeds: Annotated[int | None, typer.Option(help="how many lives (300 unless told how long)")] = None,
    first: Annotated[int, typer.Option("--from", help="the first seed")] = 0,
    minutes: Annotated[float | None, typer.Option(help="go on for so long")] = None,
    events: Annotated[int | None, typer.Option(help="go on until so many events have happened")] = None,
    jobs: Annotated[int, typer.Option(help="how many processes; 0 for one on each processor")] = 0,
    nodes: Annotated[int, typer.Option(help="how many nodes; 0 leaves it to chance")] = 0,
    profile: Annotated[str, typer.Option(help=", ".join(NAMES))] = "mixed",
    resume: Annotated[Path | None, typer.Option(help="keep in this file what was done, and go on from it")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the figures as JSON")] = False,
    trace: Annotated[bool, typer.Option(help="print the whole life of the first seed")] = False,
) -> None:
    """Live many hostile lives of simulated clusters, each from a seed; exit status 1 when a rule was broken.

    Interrupted by Ctrl+C or SIGTERM it tells what came of it until then, with exit status 130.
    """
    if profile not in NAMES:
        raise typer.BadParameter(f"{profile}: there are {', '.join(NAMES)}")
    if trace:
        raise typer.Exit(show_trace(first, profile, nodes))
    if seeds is None and not minutes and not events:
        seeds = 300
    tally = take_up(resume, first, profile, nodes)
    watch = Watch(tally, resume)
    violations: list[Result] = []
    interrupted = False
    with stopped_by_signals():
        try:
            before = None if seeds is None else first + seeds
            violations += live_on(tally, watch, before=before, events=events, minutes=minutes, jobs=jobs or cores())
        except KeyboardInterrupt:
            interrupted = True
    watch.look(now=True)
    if as_json:
        told = {**figures(tally), "violations": [{"seed": r.seed, "what": r.violation} for r in violations]}
        print(msgspec.json.encode(told).decode())
    else:
        for result in violations:
            show_violation(result, nodes)
        Console().print(table(tally))
        print(summary(tally, len(violations), interrupted=interrupted))
    raise typer.Exit(1 if violations else _INTERRUPTED if interrupted else 0)


if __name__ == "__main__":
    typer.run(main)
