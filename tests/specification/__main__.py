"""Model-check the specification: ``python -m tests.specification --help``."""

import sys
import time
from typing import Annotated

import typer

from tests.specification.mutations import MUTATIONS
from tests.specification.tlc import FOLDER, CannotCheckError, check


def configurations(full: bool) -> list[tuple[str, str]]:
    """List modules and bounds; those named "bounded" are the small ones."""
    names = sorted(path.name.split(".") for path in FOLDER.glob("*.cfg"))
    return [(module, bounds) for module, bounds, _ in names if full or bounds == "bounded"]


def check_modules(full: bool, workers: int) -> int:
    """Check the modules as they are; give the number of violations."""
    violations = 0
    for module, bounds in configurations(full):
        start = time.monotonic()
        found = check(module, bounds, workers=workers)
        print(
            f"{module}, {bounds}: {found.distinct:,} distinct states of {found.generated:,} found, depth "
            f"{found.depth}, {time.monotonic() - start:.0f} s: {found.violated or 'no'} violation",
            flush=True,
        )
        if found.violated:
            violations += 1
            print(found.output, file=sys.stderr)
    return violations


def check_mutations(full: bool) -> int:
    """Check that each mutation is noticed; give the number of those that are not."""
    missed = 0
    for mutation in MUTATIONS:
        if mutation.bounds != "bounded" and not full:
            continue
        found = check(mutation.root or mutation.module, mutation.bounds, modules=mutation.texts())
        noticed = found.violated in mutation.violates
        missed += not noticed
        print(
            f"{mutation.module}: {mutation.name}: "
            f"{'noticed' if noticed else 'NOT NOTICED'}, {found.violated or 'no'} violation "
            f"after {found.distinct:,} distinct states",
            flush=True,
        )
    return missed


def main(
    full: Annotated[bool, typer.Option("--full", help="The larger bounds, too; takes much longer.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="How many threads look.")] = 1,
    mutations: Annotated[bool, typer.Option(help="Take rules out, too, and expect that to be noticed.")] = True,
) -> None:
    """Let TLC check the specification; exit 1 on a violation or a mutation that is not noticed."""
    try:
        wrong = check_modules(full, workers) + (check_mutations(full) if mutations else 0)
    except CannotCheckError as problem:
        print(f"tests.specification: {problem}", file=sys.stderr)
        raise typer.Exit(2) from problem
    if wrong:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
