"""Model-check the specifications, or check recorded traces: ``python -m tests.specification --help``."""

import sys
import time
from typing import Annotated

import typer

from tests.specification.mutations import MUTATIONS
from tests.specification.recording import KINDS, check_life, check_mutant
from tests.specification.tlc import FOLDER, CannotCheckError, check
from tests.specification.traced_mutants import TRACED_MUTANTS

program = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def configurations(full: bool) -> list[tuple[str, str]]:
    """List modules and bounds; those named "bounded" are the small ones."""
    names = sorted(path.name.split(".") for path in FOLDER.glob("*.*.cfg"))
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


@program.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    full: Annotated[bool, typer.Option("--full", help="The larger bounds, too; takes much longer.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="How many threads look.")] = 1,
    mutations: Annotated[bool, typer.Option(help="Take rules out, too, and expect that to be noticed.")] = True,
) -> None:
    """Let TLC check the specifications; exit 1 on a violation or a mutation that is not noticed."""
    if context.invoked_subcommand is not None:
        return
    try:
        wrong = check_modules(full, workers) + (check_mutations(full) if mutations else 0)
    except CannotCheckError as problem:
        print(f"tests.specification: {problem}", file=sys.stderr)
        raise typer.Exit(2) from problem
    if wrong:
        raise typer.Exit(1)


def check_lives(seeds: range, kinds: list[str], events: int) -> int:
    """Check recorded lives; give the number of those that are no behaviours."""
    refused = 0
    for kind in kinds:
        for seed in seeds:
            start = time.monotonic()
            verdict = check_life(kind, seed, events)
            refused += not verdict.accepted
            print(f"{kind}, seed {seed}: {verdict}, {time.monotonic() - start:.0f} s", flush=True)
    return refused


def check_mutants(kinds: list[str], events: int) -> int:
    """Check that traces of each seeded bug are refused; give the number of bugs that are not noticed."""
    missed = 0
    for mutant in TRACED_MUTANTS:
        if mutant.kind not in kinds:
            continue
        seed, verdict = check_mutant(mutant, events)
        missed += verdict is None
        found = "NOT REFUSED" if verdict is None else f"seed {seed}: {verdict}"
        print(f"{mutant.kind}: {mutant.name}: {found}", flush=True)
    return missed


@program.command()
def traces(
    seeds: Annotated[int, typer.Option(min=0, help="How many lives of each kind.")] = 20,
    first: Annotated[int, typer.Option("--from", help="The first seed.")] = 0,
    events: Annotated[int, typer.Option(min=100, help="How many events before all faults are over.")] = 800,
    kind: Annotated[list[str] | None, typer.Option(help=", ".join(KINDS))] = None,
    mutants: Annotated[
        bool, typer.Option(help="Put bugs into the code, too, and expect their traces refused.")
    ] = True,
) -> None:
    """Record lives of the simulator, and let TLC decide whether they are behaviours of the specifications."""
    kinds = kind or list(KINDS)
    unknown = [one for one in kinds if one not in KINDS]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]}: there are {', '.join(KINDS)}")
    try:
        wrong = check_lives(range(first, first + seeds), kinds, events)
        wrong += check_mutants(kinds, events) if mutants else 0
    except CannotCheckError as problem:
        print(f"tests.specification: {problem}", file=sys.stderr)
        raise typer.Exit(2) from problem
    if wrong:
        raise typer.Exit(1)


if __name__ == "__main__":
    program()
