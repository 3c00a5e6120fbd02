"""Ratios of what was measured, of medians, with their spread over the rounds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from tests.benchmarks.measuring import Results


@dataclass(frozen=True)
class Spread:
    """Several values of one figure."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Summarise values."""
        return cls(median(values), min(values), max(values))


@dataclass(frozen=True)
class Row:
    """A figure of one subject, beside the best of those that it is compared with.

    Attributes
    ----------
    figure : str
        What is measured.
    ours, best : Spread
        The values.
    of : str
        Which of the others is the best for this figure.
    ratio : float
        The ratio of the medians.
    ratios : Spread
        The ratios of the rounds, each of two measurements that followed each other.
    goal : float or None
        The ratio that is to be reached.
    """

    figure: str
    ours: Spread
    best: Spread
    of: str
    ratio: float
    ratios: Spread
    goal: float | None

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; None where there is none."""
        if self.goal is None:
            return None
        return self.ratio <= self.goal if fewer_is_better(self.figure) else self.ratio >= self.goal


def fewer_is_better(figure: str) -> bool:
    """Check whether a figure is a time or a cost."""
    return not figure.startswith("commits/s")


def values(results: Results, subject: str, figure: str) -> list[float]:
    """Return what was measured of a figure, round by round."""
    return [run.figures[figure] for run in results[subject] if figure in run.figures]


def figures_of(results: Results, subject: str) -> list[str]:
    """Return the names of the figures that were measured of a subject."""
    return list(results[subject][0].figures)


def compare(results: Results, ours: str, others: Sequence[str], goals: Mapping[str, float]) -> list[Row]:
    """Compare one subject with the best of some others, figure by figure."""
    rows = []
    for figure in figures_of(results, ours):
        found = {name: values(results, name, figure) for name in others}
        found = {name: each for name, each in found.items() if each}
        if not found:
            continue
        choose = min if fewer_is_better(figure) else max
        best = choose(found, key=lambda name: median(found[name]))
        mine = values(results, ours, figure)
        ratios = [a / b for a, b in zip(mine, found[best], strict=True)]
        spreads = Spread.of(mine), Spread.of(found[best])
        ratio = spreads[0].median / spreads[1].median
        rows.append(Row(figure, *spreads, best, ratio, Spread.of(ratios), goals.get(figure)))
    return rows
