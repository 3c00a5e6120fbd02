"""The search for one order that explains every answer, in one partition.

Wing and Gong, "Testing and verifying concurrent objects" (1993): take, depth first, any operation that no other
outstanding one precedes, and step the model. Lowe, "Testing for linearizability" (2016): never enter twice the
same set of operations taken with the same state. More rules keep the search short, above all
with operations of unknown outcome:

- An operation that is legal now and changes nothing is taken at once, with no alternative: in any order that
  explains the rest it can be moved to here.
- Operations of unknown outcome are tried last, and a place reached with some of them is not entered when it was
  entered before with only a part of these: those left may still happen, or never.
- Of two operations of unknown outcome with the same input, the one called first is used first. Inputs that no
  answer can tell apart count as the same.
- With `lookahead`, a place is left where an outstanding operation can never be answered as it was: the state is
  past it, or the value that it found is overwritten and nothing is left that would write it.
"""

import enum
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast

from tests.linearizability.history import Operation
from tests.linearizability.model import Model

S = TypeVar("S", bound=Hashable)
In = TypeVar("In")
Out = TypeVar("Out")

_ENDLESS = float("inf")


class Outcome(enum.Enum):
    FOUND = "an order was found"
    NONE = "there is no order"
    GAVE_UP = "the time or the memory allowed was used up"


@dataclass(slots=True)
class Place(Generic[S, In, Out]):
    """A point of the search: all known operations before `base` are taken, and beyond it those in `mask`.

    Parameters
    ----------
    base, mask
        Indexes into the known operations in order of their calls; bit 0 of `mask`, that of `base`, is never set.
    used
        Bits of the operations of unknown outcome that were taken.
    state
        The model's state.
    before, operation
        The place before and what was taken there; None at the start.
    """

    base: int
    mask: int
    used: int
    state: S
    before: "Place[S, In, Out] | None" = None
    operation: Operation[In, Out] | None = None

    def order(self) -> list[Operation[In, Out]]:
        """Return the operations taken up to here, in order."""
        taken: list[Operation[In, Out]] = []
        place: Place[S, In, Out] | None = self
        while place is not None and place.operation is not None:
            taken.append(place.operation)
            place = place.before
        return taken[::-1]


@dataclass
class Budget:
    """How long a search may go on.

    Parameters
    ----------
    deadline
        On the clock, in seconds.
    places
        How many places may be kept in memory, some 300 bytes each.
    """

    deadline: float
    places: int
    clock: Callable[[], float] = time.monotonic

    def spent(self, tried: int, entered: int) -> bool:
        """Tell whether to give up; looks at the clock once in 256 tries."""
        return entered > self.places or (tried % 256 == 0 and self.clock() > self.deadline)


class _Supply(Generic[S, In, Out]):
    """Who needs and who provides each thing that a state can show."""

    def __init__(self, model: Model[S, In, Out], answers: Sequence[tuple[In, Out]], asked: Sequence[In]) -> None:
        self._needers: dict[Hashable, list[int]] = {}
        self._known: dict[Hashable, list[int]] = {}
        self._unknown: dict[Hashable, int] = {}
        for index, (known, answered) in enumerate(answers):
            self._needers.setdefault(model.needs(known, answered), []).append(index)
            self._known.setdefault(model.provides(known), []).append(index)
        for index, unknown in enumerate(asked):
            thing = model.provides(unknown)
            self._unknown[thing] = self._unknown.get(thing, 0) | 1 << index

    def missing(self, thing: Hashable, place: Place[S, In, Out]) -> bool:
        """Tell whether an outstanding operation needs what none that is left provides."""
        return (
            _outstanding(self._needers.get(thing, ()), place)
            and not self._unknown.get(thing, 0) & ~place.used
            and not _outstanding(self._known.get(thing, ()), place)
        )


def _outstanding(indexes: Sequence[int], place: Place[S, In, Out]) -> bool:
    """Tell whether any of these known operations, in ascending order, is not taken yet."""
    for index in reversed(indexes):
        if index < place.base:
            return False
        if not place.mask >> (index - place.base) & 1:
            return True
    return False


def _earlier_twins(asked: Sequence[In]) -> list[int]:
    """Return, for each input, the index of the latest earlier one that equals it; -1 for none."""
    latest: dict[In, int] = {}
    twins: list[int] = []
    for index, one in enumerate(asked):
        twins.append(latest.get(one, -1))
        latest[one] = index
    return twins


@dataclass
class Search(Generic[S, In, Out]):
    """One search over one partition; afterwards `best` is the place with the most known operations taken.

    Without `lookahead` a place is left only where it is stuck, so that `best` shows where to people.
    """

    model: Model[S, In, Out]
    operations: Sequence[Operation[In, Out]]
    lookahead: bool = True
    entered: int = 0
    best: Place[S, In, Out] = field(init=False)

    def __post_init__(self) -> None:
        ordered = sorted(self.operations, key=lambda op: op.called)
        inputs = self.model.distinct(ordered)
        self.known = [op for op in ordered if op.returned is not None]
        self.unknown = [op for op in ordered if op.returned is None]
        self._answers = [
            (asked, cast("Out", op.output))
            for op, asked in zip(ordered, inputs, strict=True)
            if op.returned is not None
        ]
        self._asked = [asked for op, asked in zip(ordered, inputs, strict=True) if op.returned is None]
        self._twin = _earlier_twins(self._asked)
        self._supply = _Supply(self.model, self._answers, self._asked)
        self._seen: dict[Hashable, list[tuple[int, int]]] = {}
        self._stack: list[Iterator[Place[S, In, Out]]] = []
        self._most = 0
        self.best = Place(0, 0, 0, self.model.initial())

    def run(self, budget: Budget) -> Outcome:
        """Search on until an order is found, none is left, or the budget is spent."""
        if not self.known:
            return Outcome.FOUND
        if self.entered == 0:
            self._enter(self.best)
            self._stack.append(self.successors(self.best))
        tried = 0
        while self._stack:
            tried += 1
            if budget.spent(tried, self.entered):
                return Outcome.GAVE_UP
            place = next(self._stack[-1], None)
            if place is None:
                self._stack.pop()
            elif self._enter(place):
                self._stack.append(self.successors(place))
                taken = place.base + place.mask.bit_count()
                if taken > self._most:
                    self._most, self.best = taken, place
                if taken == len(self.known):
                    return Outcome.FOUND
        return Outcome.NONE

    def ready(self, place: Place[S, In, Out]) -> tuple[list[int], float]:
        """Return the known operations that may come next, and the first return among those outstanding.

        Later calls than that return come later; equal times count as overlapping.
        """
        index, mask, bound, found = place.base, place.mask, _ENDLESS, []
        while index < len(self.known) and self.known[index].called <= bound:
            if not mask & 1:
                found.append(index)
                bound = min(bound, self.known[index].returned or 0)
            mask >>= 1
            index += 1
        return found, bound

    def successors(self, place: Place[S, In, Out]) -> Iterator[Place[S, In, Out]]:
        """Yield the places one operation further: by known ones first, then by those of unknown outcome."""
        ready, bound = self.ready(place)
        legal: list[tuple[int, S]] = []
        for index in ready:
            asked, answered = self._answers[index]
            state = self.model.step(place.state, asked, answered)
            if state is None:
                if self.lookahead and self.model.hopeless(place.state, asked, answered):
                    return
            elif state == place.state:
                yield self._take(place, index, state)
                return
            else:
                legal.append((index, state))
        for index, state in legal:
            after = self._take(place, index, state)
            if not self._loses(place, after):
                yield after
        for index, op in enumerate(self.unknown):
            if op.called > bound:
                return
            twin = self._twin[index]
            if place.used >> index & 1 or (twin >= 0 and not place.used >> twin & 1):
                continue
            state = self.model.effect(place.state, self._asked[index])
            if state != place.state:
                after = Place(place.base, place.mask, place.used | 1 << index, state, place, op)
                if not self._loses(place, after):
                    yield after

    def _loses(self, place: Place[S, In, Out], after: Place[S, In, Out]) -> bool:
        """Tell whether what `place` shows is gone for good `after`, and an outstanding operation needs it."""
        shown = self.model.shows(place.state)
        if not self.lookahead or shown is None or shown == self.model.shows(after.state):
            return False
        return self._supply.missing(shown, after)

    def _take(self, place: Place[S, In, Out], index: int, state: S) -> Place[S, In, Out]:
        mask = place.mask | 1 << (index - place.base)
        leading = (~mask & (mask + 1)).bit_length() - 1
        return Place(place.base + leading, mask >> leading, place.used, state, place, self.known[index])

    def _enter(self, place: Place[S, In, Out]) -> bool:
        """Remember the place; False where one that allows at least as much was entered before."""
        shared, rank = self.model.signature(place.state)
        entries = self._seen.setdefault((place.base, place.mask, shared), [])
        for used, lower in entries:
            if lower <= rank and not used & ~place.used:
                return False
        entries.append((place.used, rank))
        self.entered += 1
        return True
