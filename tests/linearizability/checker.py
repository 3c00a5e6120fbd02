"""Checks a whole history, partition by partition, and explains the smallest one that is not linearizable."""

import time
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import TypeVar, cast

from tests.linearizability.history import History, Operation
from tests.linearizability.model import Model
from tests.linearizability.report import Result, Verdict, Violation
from tests.linearizability.search import Budget, Outcome, Search

S = TypeVar("S", bound=Hashable)
In = TypeVar("In")
Out = TypeVar("Out")


def check(
    model: Model[S, In, Out],
    history: History[In, Out] | Sequence[Operation[In, Out]],
    time_limit: float = 60.0,
    places: int = 2_000_000,
) -> Result:
    """Check a history against a model.

    Linearizability is local: a history is linearizable if that of each independent object is (Herlihy and Wing,
    theorem 1). The partitions are searched from the smallest on, until one is found not to be.

    Parameters
    ----------
    time_limit
        Seconds for the search of all partitions together; each gets an equal share of what is left. Explaining
        a violation may take twice as long again.
    places
        How many places of each partition's search are kept in memory, some 300 bytes each.
    """
    operations = history.operations() if isinstance(history, History) else list(history)
    started = time.monotonic()
    partitions: dict[Hashable, list[Operation[In, Out]]] = {}
    for op in operations:
        partitions.setdefault(model.partition(op.input), []).append(op)
    searches = {key: Search(model, part) for key, part in sorted(partitions.items(), key=lambda item: len(item[1]))}
    violation = _between(model, operations)
    undecided = [] if violation else list(searches)
    # Twice: those given up in the first round go on in the second with the time that the others left over.
    for until in (started + time_limit / 2, started + time_limit):
        waiting, undecided = undecided, []
        for number, key in enumerate(waiting):
            now = time.monotonic()
            budget = Budget(now + (until - now) / (len(waiting) - number), places)
            outcome = searches[key].run(budget)
            if outcome is Outcome.GAVE_UP:
                undecided.append(key)
            elif outcome is Outcome.NONE:
                violation = explain(model, key, partitions[key], time_limit, places)
                undecided += waiting[number + 1 :]
                break
        if violation is not None:
            break
    entered = sum(search.entered for search in searches.values())
    verdict = Verdict.VIOLATED if violation else Verdict.UNDECIDED if undecided else Verdict.LINEARIZABLE
    seconds = time.monotonic() - started
    return Result(verdict, violation, tuple(undecided), len(operations), len(partitions), entered, seconds)


def assert_linearizable(
    model: Model[S, In, Out],
    history: History[In, Out] | Sequence[Operation[In, Out]],
    time_limit: float = 60.0,
    places: int = 2_000_000,
) -> Result:
    """Check as `check` does; anything but a linearizable history, an undecided one too, is an error.

    Raises
    ------
    AssertionError
        With the readable report.
    """
    result = check(model, history, time_limit, places)
    if not result.ok:
        raise AssertionError(str(result))
    return result


def _between(model: Model[S, In, Out], operations: Sequence[Operation[In, Out]]) -> Violation | None:
    found = model.across(operations)
    if found is None:
        return None
    reason, shown = found
    return Violation(None, reason, len(operations), True, None, (), shown, None, model)


def explain(
    model: Model[S, In, Out], key: Hashable, part: list[Operation[In, Out]], time_limit: float, places: int
) -> Violation:
    """Cut the partition where it becomes impossible, and show how far an order goes.

    Every beginning of a linearizable history is linearizable, so the first return after which no order exists is
    found by halving.
    """
    returning = sorted((op for op in part if op.returned is not None), key=lambda op: op.returned or 0)
    low, high = 0, len(returning) - 1  # no order exists once returning[high] has returned
    budget = Budget(time.monotonic() + time_limit, places)
    complete = True
    while low < high:
        middle = (low + high) // 2
        outcome = Search(model, _until(part, returning[middle].returned or 0)).run(budget)
        complete = complete and outcome is not Outcome.GAVE_UP
        if outcome is Outcome.NONE:
            high = middle
        else:
            low = middle + 1
    culprit = returning[high]
    failed = Search(model, _until(part, culprit.returned or 0), lookahead=False)
    complete = failed.run(Budget(time.monotonic() + time_limit, places)) is Outcome.NONE and complete
    prefix = failed.best.order()
    ready, _ = failed.ready(failed.best)
    reason = f"{key}: no order of its {len(part)} operations explains every answer"
    stuck = [failed.known[index] for index in ready]
    return Violation(key, reason, len(part), complete, culprit, prefix, stuck, _replay(model, prefix), model)


def _replay(model: Model[S, In, Out], order: Sequence[Operation[In, Out]]) -> S:
    """Return the state after an order that was found, with the inputs as they were."""
    state = model.initial()
    for op in order:
        after = model.effect(state, op.input)
        if op.returned is not None:
            told = model.step(state, op.input, cast("Out", op.output))
            after = after if told is None else told
        state = after
    return state


def _until(part: Sequence[Operation[In, Out]], time_ns: int) -> list[Operation[In, Out]]:
    """Return what was known at a time: later calls had not happened, later answers were not yet known."""
    return [
        op if op.returned is None or op.returned <= time_ns else replace(op, output=None, returned=None)
        for op in part
        if op.called <= time_ns
    ]
