"""Measures each of those that are compared in turns, several times in one run, on a cluster made for that."""

import fcntl
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.machine import LATE_MAX, Disturbance, Machine
from tests.benchmarks.processes import Processes, WorkerError, cpu_seconds
from tests.benchmarks.systems import Standing, Subject, wait_formed, wait_settled

P50: Final = "p50, one outstanding, ms"
P99: Final = "p99, one outstanding, ms"
_ATTEMPTS: Final = 3


def commits(outstanding: int) -> str:
    """Name the figure of how much is committed with so many commands outstanding."""
    return f"commits/s at {outstanding}"


def cost(outstanding: int) -> str:
    """Name the figure of what a commit costs, of all nodes and the client together."""
    return f"CPU µs a commit at {outstanding}"


@dataclass(frozen=True)
class Plan:
    """How to measure.

    Attributes
    ----------
    rounds : int
        How often each is measured.
    seconds : float
        For how long, for each figure.
    levels : tuple of int
        The numbers of commands outstanding.
    lock : Path or None
        A file whose lock is held for each measurement, where others measure on the same machine.
    """

    rounds: int
    seconds: float
    levels: tuple[int, ...] = ()
    lock: Path | None = None


@dataclass
class Run:
    """What was measured of one cluster.

    Attributes
    ----------
    figures : dict
        By name.
    terms : dict
        By how much the term has grown during a load, by the figure, where it has.
    errors : dict
        How many commands were not carried out, by the figure, where there are any.
    disturbance : Disturbance
        What others have done meanwhile.
    attempts : int
        How often it was measured until a process that only sleeps was not late, or there were enough.
    told : dict
        What else is to be told.
    """

    figures: dict[str, float] = field(default_factory=dict)
    terms: dict[str, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    disturbance: Disturbance = field(default_factory=Disturbance)
    attempts: int = 1
    told: dict[str, Any] = field(default_factory=dict)


Results = dict[str, list[Run]]
Measure = Callable[[Subject, Plan, Processes], Run]


def alternate(subjects: Sequence[Subject], plan: Plan, measure: Measure) -> Iterator[Results]:
    """Measure all in turns, a different one first each time; yield all that there is after each round."""
    results: Results = {subject.name: [] for subject in subjects}
    for number in range(plan.rounds):
        first = number % len(subjects)
        for subject in (*subjects[first:], *subjects[:first]):
            run = _measure_calmly(subject, plan, measure)
            results[subject.name].append(run)
            _say(f"round {number + 1} of {plan.rounds}: {subject.name}: {_told(run)}")
        yield results


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _told(run: Run) -> str:
    told = ", ".join(f"{name} {value:,.4g}" for name, value in run.figures.items() if not name.startswith("CPU"))
    beside = run.disturbance
    disturbed = f"; others used {beside.others:.2f} processors, a sleeper was {beside.late * 1000:.0f} ms late"
    elections = f"; the term grew: {run.terms}" if run.terms else ""
    return told + elections + (disturbed if beside.is_large else "")


def _measure_calmly(subject: Subject, plan: Plan, measure: Measure) -> Run:
    """Measure once, and again where the machine was too busy for anybody; keep the calmest."""
    best: Run | None = None
    for attempt in range(1, _ATTEMPTS + 1):
        with locked(plan.lock), Processes() as processes:
            machine = Machine(processes)
            run = measure(subject, plan, processes)
            run.disturbance = machine.disturbance()
        if best is None or run.disturbance.late < best.disturbance.late:
            best = run
        best.attempts = attempt
        if best.disturbance.late <= LATE_MAX:
            break
    assert best is not None
    return best


@contextmanager
def locked(path: Path | None) -> Iterator[None]:
    """Hold the lock of a file, if there is one."""
    if path is None:
        yield
        return
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def measure_load(subject: Subject, plan: Plan, processes: Processes) -> Run:
    """Measure one command at a time, and so many outstanding as the plan says."""
    system, run = subject.start(processes), Run()
    begun = before = wait_formed(system)
    acknowledged = 0
    _sure(system.latency(_leader(before), min(plan.seconds, 0.5)), run, P50)  # everything has been done once
    for figure, outstanding in {P50: 1, **{commits(level): level for level in plan.levels}}.items():
        used = cpu_seconds(system.pids + system.clients)
        if figure == P50:
            answer = system.latency(_leader(before), plan.seconds)
            run.figures |= {P50: answer["p50"], P99: answer["p99"]}
        else:
            answer = system.load(_leader(before), outstanding, plan.seconds)
            run.figures[figure] = answer["rate"]
            run.told["interface"] = answer.get("interface")
        used = cpu_seconds(system.pids + system.clients) - used
        _sure(answer, run, figure)
        run.figures[cost(outstanding)] = used / answer["acknowledged"] * 1e6
        acknowledged += answer["acknowledged"]
        after = wait_settled(system)
        if grown := max(after.terms) - max(before.terms):
            run.terms[figure] = grown
        before = after
    run.told["acknowledged"] = acknowledged
    run.told["applied"] = [end - start for start, end in zip(begun.applied, before.applied, strict=True)]
    if min(run.told["applied"]) < acknowledged:
        raise WorkerError(f"{subject.name}: {acknowledged} commands were acknowledged, and applied: {run.told}")
    return run


def _leader(standing: Standing) -> int:
    assert standing.leader is not None
    return standing.leader


def _sure(answer: dict[str, Any], run: Run, figure: str) -> None:
    if answer["errors"]:
        run.errors[figure] = run.errors.get(figure, 0) + answer["errors"]
    if not answer["acknowledged"]:
        raise WorkerError(f"{figure}: nothing was acknowledged, with {answer['errors']} errors")
