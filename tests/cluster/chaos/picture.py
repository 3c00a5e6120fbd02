"""A life as a picture: who led when, what was done to whom, and what clients saw of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from textwrap import wrap
from typing import Any, Final

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from tests.cluster.chaos.life import Life
from tests.cluster.chaos.verdict import Judgement
from tests.cluster.chaos.watch import UNHEARD
from tests.linearizability import Get

ROLES = {
    "forming": "#e3d3ee",
    "leader": "#1f6fb4",
    "candidate": "#f2a93b",
    "pre-candidate": "#f7d48b",
    "follower": "#cfe1f0",
    "learner": "#d5e8c8",
    "removed": "#8d7fa8",
    UNHEARD: "#ffffff",
}
GROUPS = {
    "network": "#d1495b",
    "links": "#00a8c6",
    "processes": "#222222",
    "disks": "#b8741a",
    "members": "#7b2d8b",
    "people": "#2a9d63",
}
_BESIDE: Final[dict[str, Any]] = {
    "loc": "upper left",
    "bbox_to_anchor": (1.0, 1.0),
    "fontsize": 8,
    "frameon": False,
}
_GAP = 1.0  # seconds without an acknowledged write that are shown
_LABELLED = 90.0  # in a life no longer than this there is room for the name of each fault


@dataclass(frozen=True)
class Call:
    """An operation that was answered; times in seconds since the beginning."""

    is_write: bool
    called: float
    returned: float


def draw(life: Life, judgement: Judgement, path: Path) -> Path:
    """Draw a life, and return the file."""
    lanes = life.cluster.size + 2
    shown = max(16.0, min(36.0, life.seconds / 20))  # inches
    figure, (top, terms, rate, latency) = plt.subplots(
        4,
        1,
        sharex=True,
        figsize=(shown, 7 + 0.6 * lanes),
        height_ratios=[0.6 * lanes, 1, 1.4, 1.7],
        layout="constrained",
    )
    figure.suptitle(_title(life, judgement), fontsize=11)
    figure.legend(handles=list(_legend(life)), loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    calls = _calls(life)
    _draw_nodes(top, life)
    _draw_terms(terms, life)
    _draw_rate(rate, calls, life.seconds)
    _draw_latency(latency, calls, life.seconds)
    for began, ended in _gaps(calls):
        for axes in (rate, latency):
            axes.axvspan(began, ended, color="#f6d5d1", linewidth=0, zorder=0)
    latency.set_xlim(0, _end(life))
    latency.set_xlabel("seconds")
    figure.savefig(path, dpi=100)
    plt.close(figure)
    return path


def _title(life: Life, judgement: Judgement) -> str:
    outcome = "; ".join(violation.splitlines()[0] for violation in judgement.violations) or "linearizable"
    return (
        f"{life.cluster.size} nodes, seed {life.seed}: {judgement.operations:,} operations,"
        f" {len(life.storm.faults)} faults, {judgement.leaders} leaders in {judgement.terms} terms: {outcome}"
    )


def _end(life: Life) -> float:
    ends = [fault.ended or 0.0 for fault in life.storm.faults] + [seen[-1].at for seen in life.watch.seen if seen]
    return max(life.began + life.seconds, *ends) - life.began + 0.5


# --- nodes --------------------------------------------------------------------------------------------------


def _draw_nodes(axes: Axes, life: Life) -> None:
    """Draw a lane for each node with its role, and below it the faults; then lanes of the network and of people."""
    size = life.cluster.size
    end = _end(life)
    for node, seen in enumerate(life.watch.seen):
        times = [*(max(one.at - life.began, 0.0) for one in seen), end]
        spans = [(began, ended - began) for began, ended in pairwise(times)]
        axes.broken_barh(spans, (node - 0.4, 0.5), facecolors=[ROLES[one.role] for one in seen])
    for fault in life.storm.faults:
        began, ended = fault.began - life.began, (fault.ended or life.began + end) - life.began
        span = [(began, max(ended - began, end / 800))]
        for lane in fault.nodes or (size + 1,):
            axes.broken_barh(span, (lane + 0.14, 0.24), facecolors=GROUPS[fault.group])
        if life.seconds <= _LABELLED:
            where = fault.nodes[0] if fault.nodes else size + 1
            axes.text(began, where + 0.39, fault.kind, fontsize=6.5, va="top", clip_on=True)
    weathers = [(at - life.began, bad) for at, bad in life.storm.weathers]
    for (began, bad), ended in zip(weathers, [*(at for at, _ in weathers[1:]), end], strict=True):
        axes.broken_barh([(began, ended - began)], (size - 0.3, 0.6), facecolors="#5b6770", alpha=0.1 + 0.75 * bad)
    names = [f"node-{node + 1}" for node in range(size)]
    axes.set_yticks(range(size + 2), [*names, "weather", "people"])
    axes.set_ylim(size + 1.6, -0.6)
    axes.grid(axis="x", color="#eeeeee")
    axes.set_axisbelow(True)
    roles = [Patch(facecolor=ROLES[role], edgecolor="#999999", label=role or "not heard") for role in ROLES]
    axes.legend(handles=roles, **_BESIDE)


def _legend(life: Life) -> Iterator[Patch]:
    """Say what the colours below a lane mean."""
    for group, colour in GROUPS.items():
        kinds = sorted({fault.kind for fault in life.storm.faults if fault.group == group})
        if kinds:
            yield Patch(facecolor=colour, label="\n".join(wrap(f"{group}: {', '.join(kinds)}", 36)))
    yield Patch(facecolor="#5b6770", label="loss, delay, reordering and\nduplication (darker: more)")
    yield Patch(facecolor="#f6d5d1", label=f"no write was acknowledged\nfor more than {_GAP:.0f} s")


def _draw_terms(axes: Axes, life: Life) -> None:
    """Draw the highest term that was heard of, and by whom each leadership was held."""
    seen = sorted((one for node in life.watch.seen for one in node if one.term), key=lambda one: one.at)
    times: list[float] = []
    highest: list[int] = []
    for one in seen:
        if not highest or one.term > highest[-1]:
            times.append(max(one.at - life.began, 0.0))
            highest.append(one.term)
    axes.step([*times, _end(life)], [*highest, highest[-1]], where="post", color="#444444", linewidth=1)
    led = {
        (one.term, node): one.at for node, all_ in enumerate(life.watch.seen) for one in all_ if one.role == "leader"
    }
    axes.plot([at - life.began for at in led.values()], [term for term, _ in led], "o", color=ROLES["leader"], ms=3)
    axes.set_ylabel("term")
    axes.grid(axis="y", color="#eeeeee")


# --- what clients saw ---------------------------------------------------------------------------------------


def _calls(life: Life) -> list[Call]:
    start = life.offset + int(life.began * 1e9)
    return [
        Call(not isinstance(op.input, Get), (op.called - start) / 1e9, (op.returned - start) / 1e9)
        for op in life.history.operations()
        if op.returned is not None
    ]


def _gaps(calls: list[Call]) -> Iterator[tuple[float, float]]:
    written = sorted(call.returned for call in calls if call.is_write)
    yield from ((before, after) for before, after in pairwise([0.0, *written]) if after - before > _GAP)


def _bin(seconds: float) -> float:
    return max(0.5, seconds / 400)


def _draw_rate(axes: Axes, calls: list[Call], seconds: float) -> None:
    """Draw the operations that were answered per second."""
    step = _bin(seconds)
    edges = [step * number for number in range(int(max(call.returned for call in calls) / step) + 2)]
    times = [[call.returned for call in calls if call.is_write is is_write] for is_write in (False, True)]
    weights = [[1 / step] * len(each) for each in times]
    axes.hist(times, edges, weights=weights, stacked=True, color=["#9ec9e2", "#3d7ea6"], label=["reads", "writes"])
    axes.set_ylabel("answered/s")
    axes.legend(**_BESIDE)


def _draw_latency(axes: Axes, calls: list[Call], seconds: float) -> None:
    """Draw how long operations took, by when they were called."""
    step = _bin(seconds)
    binned: dict[int, list[float]] = {}
    for call in calls:
        binned.setdefault(int(call.called / step), []).append(1000 * (call.returned - call.called))
    times = [step * (number + 0.5) for number in sorted(binned)]
    ranked = [sorted(binned[number]) for number in sorted(binned)]
    for quantile, name, colour in ((0.5, "p50", "#2a9d63"), (0.9, "p90", "#e08e0b"), (1.0, "slowest", "#d1495b")):
        values = [each[min(len(each) - 1, int(quantile * len(each)))] for each in ranked]
        axes.plot(times, values, ".-", color=colour, linewidth=0.6, ms=3, label=name)
    axes.set_yscale("log")
    axes.set_ylabel("latency, ms")
    axes.grid(axis="y", color="#eeeeee")
    axes.legend(**_BESIDE)
