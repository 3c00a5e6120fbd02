"""What was measured, as tables, a JSON document and a chart."""

import json
import os
import platform
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from rich.console import Console
from rich.table import Table

from tests.benchmarks.figures import Row, Spread, compare, figures_of, values
from tests.benchmarks.machine import LATE_MAX, OTHERS_MAX
from tests.benchmarks.measuring import P50, Plan, Results, Run, commits
from tests.benchmarks.parts import Part

_WIDTH: Final = 150


@dataclass(frozen=True)
class Report:
    """The report of a part.

    Attributes
    ----------
    part : Part
        The part.
    results : dict
        What was measured.
    plan : Plan
        How.
    versions : tuple of str
        Of the peers.
    """

    part: Part
    results: Results
    plan: Plan
    versions: tuple[str, ...]

    @property
    def rows(self) -> dict[str, list[Row]]:
        """The ratios, by the subject that is compared with others."""
        comparisons = self.part.comparisons
        return {each.ours: compare(self.results, each.ours, each.others, each.goals) for each in comparisons}

    def write(self, folder: Path) -> None:
        """Write the tables, the document and the chart into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        name = f"speed-{self.part.name}"
        with (folder / f"{name}.txt").open("w", encoding="utf-8") as file:
            self.print(Console(file=file, width=_WIDTH))
        (folder / f"{name}.json").write_text(json.dumps(self.to_json(), indent=1) + "\n", "utf-8")
        _draw(self.part, self.results, folder / f"{name}.png")

    def print(self, console: Console | None = None) -> None:
        """Print the tables."""
        console = console or Console(width=_WIDTH)
        rounds = len(next(iter(self.results.values())))
        console.print(f"\n[bold]{self.part.title}[/bold]; medians of {rounds} rounds in turns (least–most)")
        table = Table(box=None, pad_edge=False)
        table.add_column("")
        for name in self.results:
            table.add_column(name, justify="right")
        for figure in _figures(self.results):
            table.add_row(figure, *(_cell(values(self.results, name, figure)) for name in self.results))
        console.print(table)
        for ours, rows in self.rows.items():
            console.print(_ratios(ours, rows))
        for remark in remarks(self.results):
            console.print(remark)

    def to_json(self) -> dict[str, Any]:
        """Return everything as a document."""
        return {
            "title": self.part.title,
            "machine": {
                "cpus": os.cpu_count(),
                "python": platform.python_version(),
                "kernel": platform.release(),
                "load": os.getloadavg(),
            },
            "peers": self.versions,
            "rounds": self.plan.rounds,
            "seconds": self.plan.seconds,
            "ratios": {
                name: [{**asdict(row), "reached": row.reached} for row in rows] for name, rows in self.rows.items()
            },
            "runs": {name: [asdict(run) for run in runs] for name, runs in self.results.items()},
            "remarks": remarks(self.results),
        }


def _ratios(ours: str, rows: list[Row]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(f"[bold]{ours}[/bold], divided by")
    for heading in ("", "RATIO", "OF THE ROUNDS", "GOAL"):
        table.add_column(heading, justify="right")
    for row in rows:
        goal = "" if row.goal is None else f"{row.goal:g}: {'reached' if row.reached else 'not reached'}"
        spread = f"{row.ratios.least:.2f}–{row.ratios.most:.2f}"
        table.add_row(row.figure, row.of, f"{row.ratio:.2f}", spread, goal)
    return table


def remarks(results: Results) -> list[str]:
    """Say what a reader of the figures must know: elections, errors, and a machine that was busy."""
    told = []
    for name, runs in results.items():
        if interfaces := sorted({str(used) for run in runs if (used := run.told.get("interface"))}):
            told.append(f"{name}: by {', '.join(interfaces)}")
        for figure in sorted({figure for run in runs for figure in run.terms}):
            number = sum(figure in run.terms for run in runs)
            told.append(f"{name}: the leader was deposed at {figure} in {number} of {len(runs)} rounds")
        for figure in sorted({figure for run in runs for figure in run.errors}):
            number = sum(run.errors.get(figure, 0) for run in runs)
            told.append(f"{name}: {number} commands were not carried out, or that is not known, at {figure}")
        told += _busy(name, runs)
    return told


def _busy(name: str, runs: list[Run]) -> list[str]:
    told = []
    late = [run.disturbance.late for run in runs]
    others = [run.disturbance.others for run in runs]
    if repeated := sum(run.attempts > 1 for run in runs):
        told.append(f"{name}: {repeated} of {len(runs)} rounds were repeated: a process that only sleeps was late")
    if max(late) > LATE_MAX:
        told.append(f"{name}: a process that only sleeps was still woken up to {max(late) * 1000:.0f} ms late")
    if max(others) > OTHERS_MAX:
        told.append(f"{name}: others used {min(others):.2f} to {max(others):.2f} processors meanwhile")
    return told


def _figures(results: Results) -> list[str]:
    """Return the names of all figures, in the order in which they were measured."""
    return list(dict.fromkeys(figure for name in results for figure in figures_of(results, name)))


def _cell(found: list[float]) -> str:
    if not found:
        return "–"
    spread = Spread.of(found)
    return f"{_number(spread.median)} ({_number(spread.least)}–{_number(spread.most)})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _draw(part: Part, results: Results, path: Path) -> None:
    """Draw throughput by the number of commands outstanding, or by the subject where there is one number; and p50."""
    figures = _figures(results)
    levels = sorted(int(found[1]) for figure in figures if (found := re.fullmatch(r"commits/s at (\d+)", figure)))
    figure, axes = plt.subplots(1, 2, figsize=(13, 4.6), width_ratios=(3, 2), layout="constrained")
    figure.suptitle(part.title)
    if len(levels) > 1:
        _draw_levels(axes[0], results, levels)
        _draw_bars(axes[1], results, P50)
    else:
        for each, name in zip(axes, (commits(levels[0]), P50) if levels else figures[:3:2], strict=True):
            _draw_bars(each, results, name)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_levels(axes: Axes, results: Results, levels: list[int]) -> None:
    for name in results:
        spreads = {level: Spread.of(found) for level in levels if (found := values(results, name, commits(level)))}
        medians = [spread.median for spread in spreads.values()]
        below = [spread.median - spread.least for spread in spreads.values()]
        above = [spread.most - spread.median for spread in spreads.values()]
        axes.errorbar(list(spreads), medians, yerr=[below, above], marker="o", capsize=3, label=name)
    axes.set(xscale="log", xlabel="commands outstanding", ylabel="commits/s", ylim=(0, None))
    axes.set_xticks(levels, [f"{level:,}" for level in levels])
    axes.minorticks_off()
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)


def _draw_bars(axes: Axes, results: Results, figure: str) -> None:
    found = {name: Spread.of(each) for name in results if (each := values(results, name, figure))}
    medians = [spread.median for spread in found.values()]
    errors = [
        [spread.median - spread.least for spread in found.values()],
        [spread.most - spread.median for spread in found.values()],
    ]
    axes.barh(list(found), medians, xerr=errors, capsize=3, color="#7fa8d1")
    axes.invert_yaxis()
    axes.set_xlabel(figure)
