"""What a sequential model tells the checker."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from tests.linearizability.history import Operation

S = TypeVar("S", bound=Hashable)
In = TypeVar("In")
Out = TypeVar("Out")


class Model(ABC, Generic[S, In, Out]):
    """An object as one client alone would see it. States are immutable and hashable, inputs are hashable."""

    input_type: ClassVar[Any] = Any
    output_type: ClassVar[Any] = Any

    @abstractmethod
    def initial(self) -> S:
        """Return the state before the first operation."""

    @abstractmethod
    def step(self, state: S, asked: In, answered: Out) -> S | None:
        """Return the state after an operation with this answer; None where it cannot have this answer here."""

    @abstractmethod
    def effect(self, state: S, asked: In) -> S:
        """Return the state after an operation whose answer nobody saw."""

    def partition(self, asked: In) -> Hashable:
        """Return the key of the independent object that the operation is about."""
        return None

    def signature(self, state: S) -> tuple[Hashable, int]:
        """Return what states have in common and a rank among those.

        Of two states with the same first part, the one of the lower rank allows every future that the other
        allows.
        """
        return state, 0

    def hopeless(self, state: S, asked: In, answered: Out) -> bool:
        """Tell whether the answer, which this state does not allow, stays impossible whatever comes after."""
        return False

    def shows(self, state: S) -> Hashable | None:
        """Return what an operation may need to find, such as the value of a register; None for nothing."""
        return None

    def needs(self, asked: In, answered: Out) -> Hashable | None:
        """Return what must be shown by the state in which the operation has this answer; None for nothing."""
        return None

    def provides(self, asked: In) -> Hashable | None:
        """Return what the state shows after the operation, if it changes what is shown; None for nothing."""
        return None

    def distinct(self, operations: Sequence[Operation[In, Out]]) -> list[In]:
        """Return the inputs, made equal where no answer can tell them apart: those are not tried one by one."""
        return [op.input for op in operations]

    def across(self, operations: Sequence[Operation[In, Out]]) -> tuple[str, list[Operation[In, Out]]] | None:
        """Return what is wrong between partitions, and the operations that show it; None where nothing is."""
        return None

    def describe(self, asked: In, answered: Out | None) -> str:
        """Return one line for people; `answered` is None where the outcome is not known."""
        return f"{asked!r} -> {'?' if answered is None else repr(answered)}"
