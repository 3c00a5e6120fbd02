"""Figure 16 of the Raft paper, in the simulator: ``python -m tests.simulation.figure16 --crashes 1000``.

How long a cluster of five is without a leader (`downtime`), for each of the paper's election timeouts, by the paper's
rules and by ours. The picture goes to tests/out/figure16.png, the table to stdout, beside what the paper says.
"""

import itertools
import math
import multiprocessing
import statistics
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Final

import matplotlib as mpl
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from msgspec import Struct
from rich.console import Console
from rich.progress import track

from tests.simulation.downtime import PATIENCE, RULES, Timeouts, downtimes

PICTURE: Final = Path(__file__).parents[1] / "out" / "figure16.png"

# The two plots: more and more randomness, and shorter and shorter timeouts.
PLOTS: Final = (
    tuple(Timeouts(150, upper) for upper in (150, 151, 155, 175, 200, 300)),
    tuple(Timeouts(lower, upper) for lower, upper in ((12, 24), (25, 50), (50, 100), (100, 200), (150, 300))),
)
ALL: Final = tuple(dict.fromkeys(itertools.chain(*PLOTS)))

# What the paper says in words (section 9.3).
PAPER: Final = {
    Timeouts(150, 150): "longer than 10 s",
    Timeouts(150, 155): "median 287 ms",
    Timeouts(150, 200): "worst of 1,000: 513 ms",
    Timeouts(12, 24): "mean 35 ms, worst 152 ms",
}
_BATCH: Final = 25
# Where an election can be split for ever, a trial lasts as long as anybody waits; the paper, too, made 100 of these.
_FEWER: Final = {Timeouts(150, 150): 10}


class Curve(Struct, frozen=True):
    """The downtimes of many crashes, in milliseconds, in ascending order."""

    timeouts: Timeouts
    rules: str
    downtimes: tuple[float, ...]

    def part(self, part: float) -> float:
        """Give the downtime within which this part of the crashes was over."""
        return self.downtimes[max(0, math.ceil(part * len(self.downtimes)) - 1)]

    @property
    def mean(self) -> float:
        """The mean; not a number when some were never over."""
        return statistics.fmean(self.downtimes) if self.downtimes[-1] < math.inf else math.nan

    def cells(self) -> tuple[str, ...]:
        """Write median, mean, 99 % and worst."""
        return tuple(
            _written(value)
            for value in (
                self.part(0.5),
                self.mean,
                self.part(0.99),
                self.part(1),
            )
        )


def _written(milliseconds: float) -> str:
    if math.isnan(milliseconds):
        return "–"
    return f"{milliseconds:,.0f} ms" if milliseconds < math.inf else f"over {PATIENCE:g} s"


def measure(crashes: int, jobs: int, timeouts: Sequence[Timeouts] = ALL) -> Iterator[Curve]:
    """Crash leaders, and give one curve after the other.

    Parameters
    ----------
    crashes : int
        How many for each curve.
    jobs : int
        How many processes.
    timeouts : sequence of Timeouts
        The election timeouts.

    Yields
    ------
    Curve
        For each of them one by each of the rules.
    """
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("forkserver")) as pool:
        work: list[tuple[Timeouts, str, list[Future[list[float]]]]] = []
        for one, rules in itertools.product(timeouts, RULES):
            total = max(1, crashes // _FEWER.get(one, 1))
            batches = [range(first, min(first + _BATCH, total)) for first in range(0, total, _BATCH)]
            work.append((one, rules, [pool.submit(downtimes, one, rules, batch) for batch in batches]))
        for one, rules, futures in work:
            yield Curve(one, rules, tuple(sorted(itertools.chain(*(future.result() for future in futures)))))


def table(curves: Sequence[Curve]) -> str:
    """Write all of it as a table in Markdown."""
    found = {(curve.timeouts, curve.rules): curve for curve in curves}
    lines = [
        "| election timeouts | the paper says | the paper's rules: median | mean | 99 % | worst "
        "| trioraft: median | mean | 99 % | worst |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for timeouts in dict.fromkeys(curve.timeouts for curve in curves):
        cells = [cell for rules in RULES for cell in found[timeouts, rules].cells()]
        lines.append(f"| {timeouts} | {PAPER.get(timeouts, '')} | {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(curves: Sequence[Curve], path: Path) -> None:
    """Draw the curves as the paper does: which part of the crashes was over within a time, on a logarithmic axis."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    grid = figure.subplots(len(PLOTS), len(RULES), sharex="row", sharey=True, squeeze=False)
    for row, timeouts in zip(grid, PLOTS, strict=True):
        for axes, rules in zip(row, RULES, strict=True):
            chosen = {curve.timeouts: curve for curve in curves if curve.rules == rules}
            _draw(axes, rules, [chosen[one] for one in timeouts if one in chosen])
    figure.suptitle("Downtime after a leader's crash: 5 servers, 15 ms broadcast time (figure 16)")
    figure.savefig(path, dpi=110)


def _draw(axes: Axes, rules: str, curves: Sequence[Curve]) -> None:
    colours = mpl.colormaps["viridis"]
    for place, curve in enumerate(curves):
        over = [value for value in curve.downtimes if value < math.inf]
        parts = [100 * (rank + 1) / len(curve.downtimes) for rank in range(len(over))]
        label = str(curve.timeouts) if over else f"{curve.timeouts}: none in {PATIENCE:g} s"
        axes.step([*over[:1], *over], [0.0, *parts] if over else [], where="post", label=label,
                  color=colours(place / len(curves)))  # fmt: skip
    axes.set_xscale("log")
    axes.set_title("by the paper's rules" if rules == "paper" else "trioraft: pre-vote, leases, check-quorum")
    axes.set_xlabel("time without a leader (ms)")
    axes.set_ylabel("cumulative per cent")
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend(fontsize="small", loc="lower right")


def main(
    crashes: Annotated[int, typer.Option(min=1, help="How many for each curve.")] = 1000,
    jobs: Annotated[int, typer.Option(min=1, help="How many processes.")] = 2,
    out: Annotated[Path, typer.Option(help="Where the picture goes.")] = PICTURE,
) -> None:
    """Crash many leaders in the simulator, and show for how long there was none."""
    total = len(ALL) * len(RULES)
    curves = list(track(measure(crashes, jobs), total=total, description="curves", console=Console(stderr=True)))
    plot(curves, out)
    print(table(curves))
    print(f"{crashes:,} crashes for each; the picture is {out}")


if __name__ == "__main__":
    typer.run(main)
