"""Hunt all seeded bugs, and tell what found them: ``python -m tests.simulation.mutants --help``."""

import os
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.simulation.mutants import MUTANTS
from tests.simulation.mutants.mutant import SEEDS_MAX
from tests.simulation.mutants.table import DOCUMENT, Hunt, as_json, as_markdown, as_table, hunt_all


def main(
    words: Annotated[list[str] | None, typer.Argument(help="Only bugs whose names have one of these words.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="After so many a bug is given up.")] = SEEDS_MAX,
    first: Annotated[int, typer.Option("--from", help="The first seed.")] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="How many processes.")] = os.cpu_count() or 1,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    write: Annotated[bool, typer.Option("--write", help=f"Write {DOCUMENT.name} too.")] = False,
) -> None:
    """Hunt seeded bugs; exit status 1 when one of them is not found."""
    mutants = [mutant for mutant in MUTANTS if not words or any(word in mutant.name for word in words)]
    if write and len(mutants) < len(MUTANTS):
        raise typer.BadParameter(f"{DOCUMENT.name} has all bugs: give no words with --write")
    hunts: list[Hunt] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("seeded bugs", total=len(mutants))
        for hunt in hunt_all(mutants, jobs, seeds, first):
            hunts.append(hunt)
            told = f"found with seed {first + hunt.seeds - 1}" if hunt.seeds else "NOT FOUND"
            progress.console.print(f"{hunt.name}: {told}, {hunt.seconds} s", markup=False, highlight=False)
            progress.advance(task)
    hunts.sort(key=lambda hunt: [mutant.name for mutant in mutants].index(hunt.name))
    if write:
        DOCUMENT.write_text(as_markdown(hunts), encoding="utf-8")
    if json or markdown:
        print(as_json(hunts) if json else as_markdown(hunts), end="")
    else:
        Console().print(as_table(hunts))
    escaped = [hunt.name for hunt in hunts if hunt.seeds is None]
    print(f"{len(hunts)} seeded bugs: " + (f"NOT FOUND: {', '.join(escaped)}" if escaped else "all found"))
    sys.exit(bool(escaped))


if __name__ == "__main__":
    typer.run(main)
