"""What came of the hunt for seeded bugs, as a table."""

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Final

import msgspec
from rich.table import Table

from tests.simulation.mutants import MUTANTS
from tests.simulation.mutants.mutant import Mutant

DOCUMENT: Final = Path(__file__).parents[1] / "MUTANTS.md"

_COLUMNS: Final = ("what is broken", "the rule that it breaks", "who looks", "seeds", "what was seen")
_SEEN_MAX: Final = 110


class Hunt(msgspec.Struct, frozen=True):
    """What came of the hunt for one seeded bug."""

    name: str
    breaks: str
    hunter: str
    seeds: int | None  # how many it took; None when so many were not enough
    seen: str
    seconds: float

    @property
    def cells(self) -> tuple[str, ...]:
        """What stands in the table."""
        return self.name, self.breaks, self.hunter, str(self.seeds or "not found"), self.seen


def hunt_all(mutants: Sequence[Mutant], jobs: int, seeds: int, first: int) -> Iterator[Hunt]:
    """Hunt some seeded bugs in several processes."""
    if jobs == 1:
        yield from (_hunt(mutant, seeds, first) for mutant in mutants)
        return
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("forkserver")) as pool:
        hunts = [pool.submit(_hunt_by_name, mutant.name, seeds, first) for mutant in mutants]
        for hunt in as_completed(hunts):
            yield hunt.result()


def _hunt_by_name(name: str, seeds: int, first: int) -> Hunt:
    return _hunt(next(mutant for mutant in MUTANTS if mutant.name == name), seeds, first)


def _hunt(mutant: Mutant, seeds: int, first: int) -> Hunt:
    started = time.process_time()
    found = mutant.hunt(seeds, first)
    seen = found.violation.strip().splitlines()[-1] if found else ""
    seen = seen if len(seen) <= _SEEN_MAX else seen[:_SEEN_MAX].rsplit(" ", 1)[0] + " …"
    taken = found.seed - first + 1 if found else None
    return Hunt(mutant.name, mutant.breaks, mutant.hunter, taken, seen, round(time.process_time() - started, 1))


def as_table(hunts: Sequence[Hunt]) -> Table:
    """Draw the table for a terminal."""
    table = Table(*_COLUMNS)
    for hunt in hunts:
        table.add_row(*hunt.cells, style="" if hunt.seeds else "red")
    return table


def as_json(hunts: Sequence[Hunt]) -> str:
    """Write the hunts for programs."""
    return msgspec.json.format(msgspec.json.encode(hunts), indent=2).decode() + "\n"


def as_markdown(hunts: Sequence[Hunt]) -> str:
    """Write the table for the documentation."""
    rows = [" | ".join(cell.replace("|", "\\|") for cell in hunt.cells) for hunt in hunts]
    head = [" | ".join(_COLUMNS), " | ".join("---" for _ in _COLUMNS)]
    most = max((hunt.seeds or 0 for hunt in hunts), default=0)
    return (
        "# Seeded bugs\n\n"
        f"Each of these {len(hunts)} bugs is put into the real code for a while, and must be found. The simulator\n"
        "looks for most of them, with the profile that is best at it; tests of the real disk and of real\n"
        "datagrams, which it does not run, look for the others. A seed is one life of one cluster, a fraction of\n"
        "a second; "
        f"{most} were the most that it took.\n\n"
        "This page is written by `python -m tests.simulation.mutants --write`.\n\n"
        + "".join(f"| {row} |\n" for row in (*head, *rows))
    )
