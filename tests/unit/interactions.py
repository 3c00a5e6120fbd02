"""What happened in a story, as a trace of messages: it is shown where a test fails (in the manner of etcd raft's).

A line begins with ``>`` for what the test told the story to do, with the time; below it is what came of that: the
messages that were sent, delivered and lost, with their fields that are not zero, and what changed of each node::

    > fire 1                                       at 1003.512
      1: follower -> pre-candidate
      1->2 sent      PreVoteRequest t1 round 1, log ends with 0/t0
    > deliver PreVoteRequest to=2                  at 1003.512
      1->2 delivered PreVoteRequest t1 round 1, log ends with 0/t0
      2->1 sent      PreVoteResponse t0 round 1 granted

Messages read as in the traces of the simulator (:mod:`tests.simulation.trace`): ``12/t3`` is entry 12, of term 3.
Only values are noted while the story goes on; they become text when a test has failed.
"""

import functools
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Concatenate, Final, NamedTuple, ParamSpec, Protocol, TypeVar

import msgspec

from tests.simulation.trace import say
from trioraft.consensus import Core

#: How many lines a trace keeps: the last ones.
LINES_MAX: Final = 200

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Told(NamedTuple):
    """What the test told a story to do."""

    what: str
    args: tuple[Any, ...]
    named: Mapping[str, Any]
    now: float

    def __str__(self) -> str:
        named = [f"{name}={_short(value)}" for name, value in self.named.items() if value is not None]
        return f"> {' '.join([self.what, *map(_short, self.args), *named]):<60} at {self.now:.3f}"


class Carried(NamedTuple):
    """What became of a message."""

    sender: int
    to: int
    fate: str
    message: Any

    def __str__(self) -> str:
        return f"  {self.sender}->{self.to} {self.fate:<9} {say(self.message)}"


class Standing(NamedTuple):
    """What is told of a node when it changes."""

    role: str
    term: int
    commit: int

    @classmethod
    def of(cls, core: Core) -> "Standing":
        """Look at a core."""
        state = core.state
        return cls(core.role.value, core.term, 0 if state is None else state.commit_index)


class Changed(NamedTuple):
    """How a node has changed."""

    node: int
    before: Standing
    after: Standing

    def __str__(self) -> str:
        parts = zip(Standing._fields, self.before, self.after, strict=True)
        changes = [f"{'' if name == 'role' else name + ' '}{was} -> {now}" for name, was, now in parts if was != now]
        return f"  {self.node}: {', '.join(changes)}"


class Trace:
    """The last lines of one story."""

    def __init__(self) -> None:
        self._lines: deque[Told | Carried | Changed] = deque(maxlen=LINES_MAX)
        self._standing: dict[int, Standing] = {}
        self._dropped = 0
        self._depth = 0

    def _add(self, line: Told | Carried | Changed) -> None:
        self._dropped += len(self._lines) == LINES_MAX
        self._lines.append(line)

    def carried(self, sender: int, to: int, fate: str, message: object) -> None:
        """Note that a message was sent, delivered or lost."""
        self._add(Carried(sender, to, fate, message))

    def look_at(self, node: int, core: Core) -> None:
        """Note how a node has changed, if it has."""
        before, after = self._standing.get(node), Standing.of(core)
        self._standing[node] = after
        if before is not None and before != after:
            self._add(Changed(node, before, after))

    def lines(self) -> list[str]:
        """Write the trace down; the first line says how many are left out before it."""
        left_out = [f"… {self._dropped} earlier lines"] if self._dropped else []
        return [*left_out, *map(str, self._lines)]


class Traced(Protocol):
    """What has a trace."""

    trace: Trace
    now: float


_S = TypeVar("_S", bound=Traced)

#: The traces of the stories that the present test has begun.
begun: deque[Trace] = deque(maxlen=2)


def begin() -> Trace:
    """Begin the trace of a story, which is shown if the present test fails."""
    begun.append(Trace())
    return begun[-1]


def step(method: Callable[Concatenate[_S, _P], _R]) -> Callable[Concatenate[_S, _P], _R]:
    """Have a call of a story's method in its trace, where the test makes it and not the story itself."""

    @functools.wraps(method)
    def noted(story: _S, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        trace = story.trace
        if not trace._depth:
            trace._add(Told(method.__name__, args, kwargs, story.now))
        trace._depth += 1
        try:
            return method(story, *args, **kwargs)
        finally:
            trace._depth -= 1

    return noted


def _short(value: object) -> str:
    if isinstance(value, type):
        return value.__name__
    if isinstance(value, float):
        return f"{value:.4g}"
    return say(value) if isinstance(value, msgspec.Struct) else str(value)
