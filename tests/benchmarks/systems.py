"""What is put under load: a cluster of trioraft or of a peer, with the process that the load comes from."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from tests.benchmarks.processes import Processes, WorkerError

HEARTBEAT_MILLIS: Final = 50
TIMEOUT_MILLIS: Final = (150, 300)
_FORM_SECONDS: Final = 60.0  # and as much for each node as it may take to start that many on a few processors
_FORM_SECONDS_EACH: Final = 3.0
_SETTLE_SECONDS: Final = 20.0
_LOOK: Final = 0.05


@dataclass(frozen=True)
class Standing:
    """What the nodes say of themselves.

    Attributes
    ----------
    leader : int or None
        Which one leads; None while none, or more than one, says that it does.
    terms : tuple of int
        The term of each.
    applied : tuple of int
        How many commands each has applied, counted by the state machine or by the log.
    connected : bool
        Whether all know all.
    """

    leader: int | None
    terms: tuple[int, ...]
    applied: tuple[int, ...]
    connected: bool = True

    @classmethod
    def of(cls, told: list[dict[str, Any]], size: int) -> "Standing":
        """Put together what the workers of all nodes tell."""
        leaders = [number for number, each in enumerate(told) if each["leads"]]
        return cls(
            leaders[0] if len(leaders) == 1 else None,
            tuple(each["term"] for each in told),
            tuple(each["applied"] for each in told),
            all(each["known"] == size for each in told),
        )


class System(Protocol):
    """A cluster under load."""

    @property
    def pids(self) -> list[int]:
        """The processes of its nodes."""

    @property
    def clients(self) -> list[int]:
        """The processes that the load comes from, where these are others."""

    def standing(self) -> Standing:
        """Ask all nodes."""

    def latency(self, leader: int, seconds: float) -> dict[str, Any]:
        """Have one command outstanding at a time."""

    def load(self, leader: int, outstanding: int, seconds: float) -> dict[str, Any]:
        """Have so many outstanding."""


@dataclass(frozen=True)
class Subject:
    """One of those that are compared.

    Attributes
    ----------
    name : str
        What tables call it.
    start : callable
        Starts it, with the processes that end when it has been measured.
    """

    name: str
    start: Callable[[Processes], System]


def wait_formed(system: System) -> Standing:
    """Wait until one node leads and all know all."""
    seconds = _FORM_SECONDS + _FORM_SECONDS_EACH * len(system.pids)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = system.standing()
        if found.leader is not None and found.connected and len(set(found.terms)) == 1:
            return found
        time.sleep(_LOOK)
    raise WorkerError(f"no leader that all know within {seconds:g} s: {found}")


def wait_settled(system: System) -> Standing:
    """Wait until there is one leader, and all have applied the same number of commands, and it does not grow."""
    before, until = system.standing(), time.monotonic() + _SETTLE_SECONDS
    while time.monotonic() < until:
        time.sleep(_LOOK)
        found = system.standing()
        if found == before and found.leader is not None and len(set(found.applied)) == 1:
            return found
        before = found
    raise WorkerError(f"the nodes do not agree within {_SETTLE_SECONDS:g} s: {before}")
