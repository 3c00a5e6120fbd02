"""A seeded bug: what is replaced in the real code, what that breaks, and who looks for it."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, TypeAlias
from unittest import mock

import msgspec

from tests.simulation.mutants.found import Found
from tests.simulation.mutants.hunters import hunter
from tests.simulation.profile import THEMES
from trioraft.consensus import HardState, core
from trioraft.consensus.state import State

# The object, the attribute of it, and what stands there instead.
Patch: TypeAlias = tuple[object, str, Any]

# So many seeds are looked at; a bug that none of them shows is not found.
SEEDS_MAX: Final = 300


class Mutant(NamedTuple):
    """One seeded bug.

    Attributes
    ----------
    name : str
        What the code does wrong.
    breaks : str
        The rule that this breaks: a section of the Raft paper or of the thesis, or one of our own.
    profile : str
        Who looks for it: the profile of the simulator that is best at it, or one of
        :data:`~tests.simulation.mutants.hunters.OTHERS`.
    patches : callable
        Gives what is replaced by what.
    shows : str
        Words that what is found has; any violation will do when there are none.
    rogue : bool
        Whether it shows only where a member sends numbers that nobody can mean.
    """

    name: str
    breaks: str
    profile: str
    patches: Callable[[], list[Patch]]
    shows: str = ""
    rogue: bool = False

    @property
    def hunter(self) -> str:
        """Who looks for it, in words."""
        return f"simulator, {self.profile}" if self.profile in THEMES else self.profile

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Have the bug for a while."""
        with contextlib.ExitStack() as stack:
            for target, attribute, replacement in self.patches():
                stack.enter_context(mock.patch.object(target, attribute, replacement))
            yield

    def hunt(self, seeds: int = SEEDS_MAX, first: int = 0) -> Found | None:
        """Give the first seed with which the bug shows; None when it does not with so many."""
        look = hunter(self.profile, rogue=self.rogue)
        with self.applied():
            for seed in range(first, first + seeds):
                found = look(seed, self.name)
                if found is not None and self.shows in found.violation:
                    return found
        return None


# --- what several of them do --------------------------------------------------------------------------------


def restarted_with(**lost: Any) -> list[Patch]:
    """Start nodes as if a part of the hard state had not been on disk."""
    original = core.Core.__init__

    def forgetful(self: core.Core, node: int, hard: HardState, *rest: Any, **named: Any) -> None:
        original(self, node, msgspec.structs.replace(hard, **lost), *rest, **named)

    return [(core.Core, "__init__", forgetful)]


def rule(message: type, handle: Callable[[State, int, Any, float], None]) -> Patch:
    """Handle messages of a kind by another rule."""
    return (core, "_RULES", {**core._RULES, message: handle})


def same(seconds: float) -> float:
    """Take another clock's seconds for those of one's own."""
    return seconds
