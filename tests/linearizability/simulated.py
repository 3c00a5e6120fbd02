"""Histories that are linearizable by construction: every operation takes effect on one store at one instant."""

import random
from dataclasses import dataclass, field

from tests.linearizability.brute_force import KeyValueOperation
from tests.linearizability.history import Operation
from tests.linearizability.models import (
    Cas,
    CasRevision,
    Delete,
    Deleted,
    Found,
    Get,
    KeyValueInput,
    KeyValueOutput,
    Put,
    Swapped,
    Written,
)


@dataclass
class Store:
    """A key-value store with revisions, for one client at a time."""

    revision: int = 1
    keys: dict[str, tuple[str, int]] = field(default_factory=dict)

    def execute(self, asked: KeyValueInput) -> KeyValueOutput:
        """Apply one operation and return its answer."""
        value, mod_revision = self.keys.get(asked.key, (None, 0))
        match asked:
            case Get():
                return Found(value, mod_revision or None)
            case Put(key, new):
                return Written(self._change(key, new))
            case Delete(key):
                return Deleted(True, self._change(key, None)) if value is not None else Deleted(False)
            case Cas(key, expected, new):
                return Swapped(True, self._change(key, new)) if expected == value else Swapped(False)
            case CasRevision(key, revision, new):
                return Swapped(True, self._change(key, new)) if revision == mod_revision else Swapped(False)

    def _change(self, key: str, value: str | None) -> int:
        self.revision += 1
        if value is None:
            del self.keys[key]
        else:
            self.keys[key] = value, self.revision
        return self.revision


@dataclass
class _Planned:
    process: int
    called: int
    effect: int
    returned: int | None
    operation: KeyValueOperation | None = None


def simulate(
    source: random.Random,
    operations: int,
    processes: int = 10,
    keys: int = 1,
    values: int = 0,
    unknown: float = 0.0,
    revisions: bool = True,
) -> list[KeyValueOperation]:
    """Return a history of clients that call without pause.

    Parameters
    ----------
    values
        How many different values are written; 0 for a new one each time.
    unknown
        The share of operations whose outcome is not known; half of these never take effect, the others within
        some hundred operations.
    revisions
        Whether the answers tell revisions.
    """
    planned: list[_Planned] = []
    free = [0] * processes
    for number in range(operations):
        process = number % processes
        called = free[process] + source.randint(1, 100)
        effect = called + source.randint(0, 1000)
        returned: int | None = effect + source.randint(0, 1000)
        free[process] = returned or 0
        if source.random() < unknown:
            returned, effect = None, called + source.randint(0, 100_000) if source.random() < 0.5 else -1
        planned.append(_Planned(process, called, effect, returned))
    store = Store()
    for number, plan in enumerate(sorted(planned, key=lambda plan: plan.effect)):
        asked = _choose(
            source, store, f"k{source.randrange(keys)}", str(source.randrange(values) if values else number)
        )
        answer = store.execute(asked) if plan.effect >= 0 else None
        output = None if plan.returned is None else answer if revisions else _without_revision(answer)
        plan.operation = Operation(plan.process, asked, output, plan.called, plan.returned)
    return [plan.operation for plan in planned if plan.operation is not None]


def _choose(source: random.Random, store: Store, key: str, value: str) -> KeyValueInput:
    """Choose an operation; half of the comparisons are with what is there, so that they succeed."""
    present, mod_revision = store.keys.get(key, (None, 0))
    guess = source.random() < 0.5
    match source.randrange(10):
        case 0:
            return Delete(key)
        case 1:
            return Cas(key, present if guess else "0", value)
        case 2:
            return CasRevision(key, mod_revision if guess else max(0, mod_revision - 1), value)
        case 3 | 4 | 5:
            return Put(key, value)
        case _:
            return Get(key)


def _without_revision(answer: KeyValueOutput | None) -> KeyValueOutput | None:
    match answer:
        case Found(value):
            return Found(value)
        case Written():
            return Written()
        case Deleted(existed):
            return Deleted(existed)
        case Swapped(succeeded):
            return Swapped(succeeded)
    return None
