"""The story to write for a life that broke a rule: in which file of ``tests/unit``, and how it may begin.

A seed finds a bug, and a story keeps it found. What is printed here is a skeleton with the last messages among the
nodes that the violation names. Somebody has to make a cluster of a few nodes of it, leave out what does not matter,
and say in its name what must hold.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from tests.simulation.simulation import Result

_LAST: Final = 12
_NODE: Final = re.compile(r"\bn(\d+)\b")
_MESSAGE: Final = re.compile(r"\s*[\d.]+  n(\d+) → n(\d+)  (\w+) ?(.*?)\s{2,}(?:([\d.]+ ms)|[A-Z ]+)$")
_TURN: Final = re.compile(r"\s*[\d.]+  \* (.*)$")

# Which words of a violation, or of the module in which an error was raised, say what its story is about. The first
# that is found decides.
_ABOUT: Final = (
    ("formation", r"formation|member of a (second )?cluster|other members of the cluster|joins|no cluster"),
    ("reads", r"a read on|consensus/reads"),
    ("numbers", r"consensus/(numbers|far_terms|admission)"),
    ("transfer", r"bypasses promises|leadership is being given away|consensus/transfer"),
    ("snapshots", r"snapshot"),
    ("work", r"\bwork\b|token|claim|consensus/leader_work"),
    ("lease", r"promise|lease"),
    (
        "log",
        r"entry|entries|log\b|commit index|commits|applies|replicas differ|consensus/(append_entries|log|ledger)",
    ),
    ("election", r"votes?\b|wins term|elected|speaks of term|back from term|heartbeats of term|know the leaders"),
    ("joint", r"joint|change of the members|configuration"),
    ("removal", r"removed"),
    ("membership", r"member|learner|voter"),
)
# The same of the last message, where the violation says nothing.
_SAID_LAST: Final = (
    ("formation", "Formation"),
    ("election", "Vote"),
    ("log", "AppendEntries"),
    ("snapshots", "InstallSnapshot"),
    ("transfer", "TimeoutNow"),
)
_OF_CONSENSUS: Final = re.compile("|".join(kind for _, kind in _SAID_LAST))
# What is done to a node, and what a story calls it.
_DONE: Final = (
    (r"n(\d+) starts with", "start"),
    (r"n(\d+) crashes", "crash"),
    (r"the disk of n(\d+) is stuck", "stick_disk"),
)


class Said(NamedTuple):
    """A line of a trace that has a message."""

    sender: int
    to: int
    kind: str
    words: str
    arrived: bool


def story_to_write(result: Result) -> list[str]:
    """Write the skeleton of a story.

    Parameters
    ----------
    result : Result
        The life, with its violation and its last messages.

    Returns
    -------
    list of str
        Its lines: the file it belongs in, the imports, and the test.
    """
    what = result.violation.strip().splitlines()[-1]
    named = {int(node) for node in _NODE.findall(what)}
    told = [line for line in map(_read, result.trace) if line is not None]
    last = [line for line in told if not named or named & _nodes(line)][-_LAST:]
    nodes = max([1, *(node for line in told for node in _nodes(line))])
    kinds = sorted({line.kind for line in last if isinstance(line, Said)})
    return [
        f"# the story to write, in tests/unit/test_consensus_{about(result)}.py:",
        "from tests.unit.story import Story",
        *([f"from trioraft.messages import {', '.join(kinds)}"] if kinds else []),
        "",
        "",
        "def test_() -> None:",
        f"    # seed {result.seed}, profile {result.profile}: {what}",
        f"    story = Story(nodes={nodes})",
        *_steps(last),
        f'    raise AssertionError("it must not be that {what.translate(str.maketrans(chr(34), chr(39)))}")',
    ]


def about(result: Result) -> str:
    """Return what the story of a life is about, as the name of its file says it.

    Parameters
    ----------
    result : Result
        The life.

    Returns
    -------
    str
        The part of the name that differs.
    """
    for name, words in _ABOUT:
        if re.search(words, result.violation):
            return name
    said = [line.kind for line in map(_read, result.trace) if isinstance(line, Said)]
    return next((name for name, kind in _SAID_LAST if said and kind in said[-1]), "paper")


def _read(line: str) -> Said | str | None:
    """Read a line of a trace: a message of consensus, the text of a turn, or None for anything else."""
    if (found := _MESSAGE.match(line)) is not None:
        sender, to, kind, words, arrived = found.groups()
        return Said(int(sender), int(to), kind, words, bool(arrived)) if _OF_CONSENSUS.search(kind) else None
    turn = _TURN.match(line)
    return turn[1] if turn is not None else None


def _nodes(line: Said | str) -> set[int]:
    return {line.sender, line.to} if isinstance(line, Said) else {int(node) for node in _NODE.findall(line)}


def _steps(lines: list[Said | str]) -> Iterator[str]:
    """Write what a story does for each line; a question that begins a round comes of a timer."""
    asked: set[tuple[int, str]] = set()
    for line in lines:
        if isinstance(line, str):
            done = [(call, found[1]) for words, call in _DONE if (found := re.match(words, line)) is not None]
            yield f"    story.{done[0][0]}({done[0][1]})" if done else f"    # {line}"
            continue
        if line.kind in {"PreVoteRequest", "FormationView"} and (line.sender, line.words) not in asked:
            asked.add((line.sender, line.words))
            yield f"    story.fire({line.sender})"
        call = "deliver" if line.arrived else "drop"
        yield f"    story.{call}({line.kind}, sender={line.sender}, to={line.to})  # {line.words}"
