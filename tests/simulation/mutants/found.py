"""What shows that there is a bug."""

from collections.abc import Callable
from typing import TypeAlias

from msgspec import Struct


class Found(Struct, frozen=True):
    """What was seen with a seed."""

    seed: int
    violation: str
    trace: tuple[str, ...] = ()


# Looks at a seed; a hunter that runs other processes has to know which bug these must have.
Hunter: TypeAlias = Callable[[int, str], Found | None]
