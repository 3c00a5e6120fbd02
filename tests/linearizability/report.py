"""What a check found, for programs and for people."""

import enum
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.linearizability.history import Operation
from tests.linearizability.model import Model

_SHOWN = 16  # lines of an order; what led to a violation is rarely further back


class Verdict(enum.Enum):
    LINEARIZABLE = "linearizable"
    VIOLATED = "not linearizable"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Violation:
    """Why a history is not linearizable.

    Parameters
    ----------
    key
        The partition; None where it is between partitions.
    reason
        One line.
    operations
        How many operations the partition has.
    complete
        Whether the search for an explanation came to its end. Otherwise the history may have become impossible
        before `culprit`, and there may be a longer order than `prefix`; that there is a violation is certain.
    culprit
        The operation with whose return the history became impossible; None where it is between partitions.
    prefix
        The longest order that explains a part of what had been called by then.
    stuck
        The operations of which one had to come next, and none can.
    state
        The model's state after `prefix`.
    model
        Describes the operations.
    """

    key: Hashable
    reason: str
    operations: int
    complete: bool
    culprit: Operation[Any, Any] | None
    prefix: Sequence[Operation[Any, Any]]
    stuck: Sequence[Operation[Any, Any]]
    state: object
    model: Model[Any, Any, Any] = field(repr=False)

    def __str__(self) -> str:
        shown = self.prefix[-_SHOWN:]
        start = min(op.called for op in (*shown, *self.stuck))
        lines = [self.reason]
        if self.culprit is not None:
            certain = "Until this returned, an order existed:"
            lines += [
                certain if self.complete else "At the latest with this return:",
                self._line(self.culprit, start),
            ]
        if self.prefix:
            left_out = len(self.prefix) - len(shown)
            lines.append(f"The longest order found{f' ({left_out} operations before)' if left_out else ''}:")
            lines += [self._line(op, start) for op in shown]
        if self.culprit is not None:
            lines.append(
                f"leads to {self.state}, and none of these {'can follow' if self.complete else 'led further'}:"
            )
        lines += [self._line(op, start) for op in self.stuck]
        return "\n".join(lines)

    def _line(self, op: Operation[Any, Any], start: int) -> str:
        returned = "…" if op.returned is None else f"{(op.returned - start) / 1e6:.3f}"
        span = f"{(op.called - start) / 1e6:.3f} – {returned} ms"
        answered = None if op.returned is None else op.output
        return f"  {span:>26}  {op.process!s:>8}  {self.model.describe(op.input, answered)}"


@dataclass(frozen=True)
class Result:
    """The outcome of a check.

    Parameters
    ----------
    verdict
        Only `LINEARIZABLE` says that the history is; `UNDECIDED` says that the budget was used up before.
    violation
        Of the smallest partition that is not linearizable.
    undecided
        The partitions that were given up, or not looked at any more after a violation was found.
    operations, partitions, places
        How many were checked, and how many places the search entered.
    seconds
        How long it took.
    """

    verdict: Verdict
    violation: Violation | None
    undecided: tuple[Hashable, ...]
    operations: int
    partitions: int
    places: int
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether the history is known to be linearizable."""
        return self.verdict is Verdict.LINEARIZABLE

    def __str__(self) -> str:
        text = (
            f"{self.verdict.value}: {self.operations} operations in {self.partitions} partitions,"
            f" {self.places} places searched in {self.seconds:.2f} s"
        )
        if self.undecided:
            text += f"\nnot decided: {', '.join(map(str, self.undecided))}"
        return text if self.violation is None else f"{text}\n{self.violation}"
