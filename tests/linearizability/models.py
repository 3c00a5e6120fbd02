"""The sequential models: a key-value store with etcd's revisions, and a counter."""

from collections.abc import Hashable, Sequence
from itertools import pairwise
from typing import ClassVar, NamedTuple

import msgspec

from tests.linearizability.history import Operation
from tests.linearizability.model import Model


class Get(msgspec.Struct, frozen=True, tag=True):
    key: str


class Put(msgspec.Struct, frozen=True, tag=True):
    key: str
    value: str


class Delete(msgspec.Struct, frozen=True, tag=True):
    key: str


class Cas(msgspec.Struct, frozen=True, tag=True):
    """Set `value` where the value is `expected` (None: where there is none)."""

    key: str
    expected: str | None
    value: str


class CasRevision(msgspec.Struct, frozen=True, tag=True):
    """Set `value` where the key's mod_revision is `expected` (0: where there is no key)."""

    key: str
    expected: int
    value: str


class Found(msgspec.Struct, frozen=True, tag=True):
    """The answer to `Get`: the value and its mod_revision; None where there is no key."""

    value: str | None
    revision: int | None = None


class Written(msgspec.Struct, frozen=True, tag=True):
    """The answer to `Put`: the revision it made, None where the client was not told."""

    revision: int | None = None


class Deleted(msgspec.Struct, frozen=True, tag=True):
    """The answer to `Delete`: whether there was a key, and then the revision that removed it."""

    existed: bool
    revision: int | None = None


class Swapped(msgspec.Struct, frozen=True, tag=True):
    """The answer to `Cas` and `CasRevision`; the revision only where it succeeded."""

    succeeded: bool
    revision: int | None = None


KeyValueInput = Get | Put | Delete | Cas | CasRevision
KeyValueOutput = Found | Written | Deleted | Swapped


class Register(NamedTuple):
    """One key.

    The revision of the latest change is `floor` where `exact`, else some number from `floor` on that is not in
    `excluded`: whoever made that change was not told, or nobody knows. A key that is not there keeps only the
    lower bound of its removal, for nobody can read that revision.
    """

    value: str | None
    floor: int
    exact: bool
    excluded: frozenset[int]

    def __str__(self) -> str:
        if self.value is None:
            return "no key"
        return f"{self.value!r} @{self.floor}{'' if self.exact else ' or above'}"


_NONE: frozenset[int] = frozenset()


class KeyValueModel(Model[Register, KeyValueInput, KeyValueOutput]):
    """A store of independent keys, empty at first; every change takes a revision above all earlier ones.

    The mod_revision of a key is checked wherever an answer tells it. Across keys, `across` checks that every
    revision was given to one change only and that revisions grow with real time.
    """

    input_type: ClassVar[object] = KeyValueInput
    output_type: ClassVar[object] = KeyValueOutput

    def initial(self) -> Register:
        return Register(None, 0, True, _NONE)

    def partition(self, asked: KeyValueInput) -> Hashable:
        return asked.key

    def step(self, state: Register, asked: KeyValueInput, answered: KeyValueOutput) -> Register | None:
        match asked, answered:
            case Get(), Found(value, revision):
                if value != state.value:
                    return None
                return state if value is None or revision is None else _pin(state, revision)
            case Put(_, value), Written(revision):
                return _change(state, value, revision)
            case Delete(), Deleted(existed, revision):
                if existed != (state.value is not None):
                    return None
                return _change(state, None, revision) if existed else state
            case Cas(_, expected, value), Swapped(succeeded, revision):
                if succeeded != (state.value == expected):
                    return None
                return _change(state, value, revision) if succeeded else state
            case CasRevision(_, expected, value), Swapped(succeeded, revision):
                if not succeeded:
                    return _exclude(state, expected)
                pinned = _pin(state, expected)
                return None if pinned is None else _change(pinned, value, revision)
        raise ValueError(f"{answered!r} is no answer to {asked!r}")

    def effect(self, state: Register, asked: KeyValueInput) -> Register:
        changed: Register | None = None
        match asked:
            case Put(_, value):
                changed = _change(state, value, None)
            case Delete() if state.value is not None:
                changed = _change(state, None, None)
            case Cas(_, expected, value) if expected == state.value:
                changed = _change(state, value, None)
            case CasRevision(_, expected, value):
                pinned = _pin(state, expected)
                changed = None if pinned is None else _change(pinned, value, None)
        return state if changed is None else changed

    def signature(self, state: Register) -> tuple[Hashable, int]:
        if state.value is None:
            return None, state.floor
        if state.exact:
            return (state.value, state.floor), 0
        return (state.value, state.excluded), state.floor

    def hopeless(self, state: Register, asked: KeyValueInput, answered: KeyValueOutput) -> bool:
        return answered.revision is not None and answered.revision <= state.floor

    def shows(self, state: Register) -> Hashable | None:
        return state.value

    def needs(self, asked: KeyValueInput, answered: KeyValueOutput) -> Hashable | None:
        match asked, answered:
            case Get(), Found(value):
                return value
            case Cas(_, expected, _), Swapped(True):
                return expected
        return None

    def provides(self, asked: KeyValueInput) -> Hashable | None:
        return asked.value if isinstance(asked, Put | Cas | CasRevision) else None

    def distinct(self, operations: Sequence[Operation[KeyValueInput, KeyValueOutput]]) -> list[KeyValueInput]:
        named = {op.output.value for op in operations if isinstance(op.output, Found)}
        named |= {op.input.expected for op in operations if isinstance(op.input, Cas)}
        unseen = "(a value that nobody saw)"
        while unseen in named:
            unseen += "'"
        return [
            msgspec.structs.replace(op.input, value=unseen)
            if isinstance(op.input, Put | Cas | CasRevision) and op.input.value not in named
            else op.input
            for op in operations
        ]

    def across(
        self, operations: Sequence[Operation[KeyValueInput, KeyValueOutput]]
    ) -> tuple[str, list[Operation[KeyValueInput, KeyValueOutput]]] | None:
        told = [(op.output.revision, op) for op in operations if op.output is not None and op.output.revision]
        changes = sorted(
            ((revision, op) for revision, op in told if not isinstance(op.input, Get)), key=lambda pair: pair[0]
        )
        for (revision, first), (again, second) in pairwise(changes):
            if revision == again:
                return f"two changes were given the revision {revision}", [first, second]
        seen = sorted(told, key=lambda pair: pair[1].returned or 0)
        highest, witness, position = 0, None, 0
        for revision, op in sorted(changes, key=lambda pair: pair[1].called):
            while position < len(seen) and (seen[position][1].returned or 0) < op.called:
                if seen[position][0] > highest:
                    highest, witness = seen[position]
                position += 1
            if witness is not None and highest >= revision:
                return f"a change got the revision {revision} after {highest} had been seen", [witness, op]
        return None

    def describe(self, asked: KeyValueInput, answered: KeyValueOutput | None) -> str:
        match asked:
            case Get(key):
                text = f"get {key}"
            case Put(key, value):
                text = f"put {key} {value!r}"
            case Delete(key):
                text = f"delete {key}"
            case Cas(key, old, value):
                text = f"cas {key} from {'nothing' if old is None else repr(old)} to {value!r}"
            case CasRevision(key, expected, value):
                text = f"cas {key} at revision {expected} to {value!r}"
        match answered:
            case None:
                return f"{text} -> ?"
            case Found(found):
                text += f" -> {'nothing' if found is None else repr(found)}"
            case Written():
                text += " -> written"
            case Deleted(existed):
                text += f" -> {'deleted' if existed else 'nothing there'}"
            case Swapped(succeeded):
                text += f" -> {'swapped' if succeeded else 'not swapped'}"
        return text if answered.revision is None else f"{text} @{answered.revision}"


def _pin(state: Register, revision: int) -> Register | None:
    """Return the state in which the key's mod_revision is `revision` (0: no key); None where it cannot be."""
    if state.value is None or revision == 0:
        return state if state.value is None and revision == 0 else None
    if state.exact:
        return state if revision == state.floor else None
    if revision < state.floor or revision in state.excluded:
        return None
    return Register(state.value, revision, True, _NONE)


def _exclude(state: Register, revision: int) -> Register | None:
    """Return the state in which the key's mod_revision is not `revision`; None where it must be."""
    if state.value is None or revision == 0:
        return None if state.value is None and revision == 0 else state
    if state.exact:
        return None if revision == state.floor else state
    if revision < state.floor:
        return state
    floor, excluded = state.floor, state.excluded | {revision}
    while floor in excluded:
        floor += 1
    return Register(state.value, floor, False, frozenset(number for number in excluded if number > floor))


def _change(state: Register, value: str | None, revision: int | None) -> Register | None:
    """Return the state after a change; None where its revision is not above the one before."""
    if revision is not None and revision <= state.floor:
        return None
    floor = state.floor + 1 if revision is None else revision
    return Register(value, floor, value is None or revision is not None, _NONE)


class Add(msgspec.Struct, frozen=True, tag=True):
    """Add to a counter; answered by `Total`."""

    amount: int = 1
    key: str = "counter"


class Read(msgspec.Struct, frozen=True, tag=True):
    """Read a counter; answered by `Total`."""

    key: str = "counter"


class Total(msgspec.Struct, frozen=True):
    """What the counter is after the operation; None where the client was not told."""

    value: int | None = None


class CounterModel(Model[int, Add | Read, Total]):
    """Independent counters, zero at first."""

    input_type: ClassVar[object] = Add | Read
    output_type: ClassVar[object] = Total

    def initial(self) -> int:
        return 0

    def partition(self, asked: Add | Read) -> Hashable:
        return asked.key

    def step(self, state: int, asked: Add | Read, answered: Total) -> int | None:
        after = self.effect(state, asked)
        return after if answered.value in {None, after} else None

    def effect(self, state: int, asked: Add | Read) -> int:
        return state + asked.amount if isinstance(asked, Add) else state

    def describe(self, asked: Add | Read, answered: Total | None) -> str:
        text = f"add {asked.amount} to {asked.key}" if isinstance(asked, Add) else f"read {asked.key}"
        return f"{text} -> {'?' if answered is None else 'done' if answered.value is None else answered.value}"
