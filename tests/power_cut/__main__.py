"""The full version: ``python -m tests.power_cut [SEEDS [WRITES [RANDOMS]]]``; every point of many workloads."""

import sys
import tempfile
from functools import partial
from pathlib import Path

from rich.progress import Progress, TaskID

from tests.power_cut.checking import Cutter, record_workload
from trioraft.storage.database import Durability

_BOTH: tuple[Durability, ...] = ("sync", "memory")


def _show(progress: Progress, task: TaskID, done: int, of: int) -> None:
    progress.update(task, completed=done, total=of)


def main(seeds: int = 20, writes: int = 120, randoms: int = 6) -> int:
    """Cut the power at every point of the workloads, and say what came of it."""
    points = cuts = failures = 0
    with Progress() as progress:
        for seed in range(seeds):
            for durability in _BOTH:
                task = progress.add_task(f"workload {seed}, {durability}", total=None)
                with tempfile.TemporaryDirectory() as name:
                    calls = record_workload(Path(name), seed, writes, durability)
                    outcome = Cutter(seed, writes, durability).run(
                        calls,
                        Path(name) / "data",
                        randoms=randoms,
                        tell=partial(_show, progress, task),
                    )
                progress.remove_task(task)
                points += outcome.points
                cuts += outcome.cuts
                failures += len(outcome.failures)
                for failure in outcome.failures:
                    progress.console.print(f"workload {seed}, {durability}: {failure}", markup=False)
    print(f"{2 * seeds} workloads of {writes} writes: {cuts} cuts at {points} points, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
