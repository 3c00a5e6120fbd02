"""The table of figure 2 names all its rules, and for each a function that is there and says which rule it is."""

import ast
import re
from pathlib import Path
from typing import Final, NamedTuple

import pytest

import trioraft.consensus
from tests.lint.documents import definitions

CONSENSUS: Final = Path(trioraft.consensus.__file__).parent

# The rules of the paper's figure 2, in its order, and a part of each that makes sure it is not another one.
FIGURE_2: Final = {
    "State": ("currentTerm, votedFor", "log[]", "commitIndex, lastApplied", "nextIndex[], matchIndex[]"),
    "AppendEntries RPC": (
        "sender",
        "1. reply false if term < currentTerm",
        "2. reply false if no entry at prevLogIndex",
        "3. delete an entry that conflicts",
        "4. append any new entries",
        "5. commitIndex = min(leaderCommit, index of last new entry)",
    ),
    "RequestVote RPC": ("sender", "1. reply false if term < currentTerm", "2. grant a free vote"),
    "All servers": ("commitIndex > lastApplied: apply", "a message has a newer term"),
    "Followers": ("respond to RPCs", "election timeout"),
    "Candidates": ("start election", "votes from majority", "AppendEntries from new leader", "election timeout"),
    "Leaders": (
        "empty AppendEntries upon election and during idle periods",
        "command from client",
        "last log index >= nextIndex",
        "success: update nextIndex and matchIndex",
        "failure: decrement nextIndex",
        "N > commitIndex on a majority",
    ),
}


class Row(NamedTuple):
    """A rule, and where it is."""

    section: str
    rule: str
    places: list[str]


def rows(text: str) -> list[Row]:
    """Read the table: sections, below them rules with a place each, and lines with one more place of a rule."""
    found: list[Row] = []
    section = ""
    for line in text[text.index("::\n\n    State\n") :].splitlines()[2:]:
        indent, words = len(line) - len(line.lstrip()), re.split(r"  +", line.strip())
        if indent == 4:
            section = words[0]
        elif indent == 6:
            found.append(Row(section, words[0], words[1:]))
        elif words != [""]:
            found[-1].places.extend(words)
    return found


def place(name: str) -> tuple[Path, str]:
    """Find the file of a place, in the folder of consensus or in the one above; what to look at there follows it."""
    file, _, what = name.partition(":")
    return CONSENSUS / file if (CONSENSUS / file).exists() else CONSENSUS.parent / file, what


def wrong(row: Row) -> list[str]:
    """List the places of a rule that are not there; a rule without a place is wrong too."""
    files = {name: place(name) for name in row.places}
    return [name for name, (path, what) in files.items() if not path.exists() or what not in definitions(path)] or (
        [] if row.places else [f"{row.rule}: no place"]
    )


TABLE: Final = rows(trioraft.consensus.__doc__ or "")
PLACES: Final = sorted({name for row in TABLE for name in row.places})


@pytest.mark.parametrize("section", FIGURE_2)
def test_every_rule_of_figure_2_has_a_row_in_the_papers_order(section: str) -> None:
    named = [row.rule for row in TABLE if row.section == section]
    assert len(named) == len(FIGURE_2[section])
    assert [found for rule, found in zip(FIGURE_2[section], named, strict=True) if not found.startswith(rule)] == []


def test_there_is_no_section_that_figure_2_does_not_have() -> None:
    assert list(dict.fromkeys(row.section for row in TABLE)) == list(FIGURE_2)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.section}: {row.rule}")
def test_every_place_is_there(row: Row) -> None:
    assert wrong(row) == []


@pytest.mark.parametrize(
    "name", [name for name in PLACES if not name.startswith("core.py:")]
)  # which calls the rules
def test_what_does_a_rule_says_where_the_paper_has_it(name: str) -> None:
    path, what = place(name)
    wanted = what.rpartition(".")[2]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == wanted:
            assert re.search(r"figure 2|sections? \d", ast.get_docstring(node) or "")
            return
    raise AssertionError(f"{name} is no function and no class")


def test_every_module_of_consensus_is_in_the_list_and_no_other() -> None:
    listed = set(re.findall(r"``(\w+)``", trioraft.consensus.__doc__ or ""))
    assert listed == {path.stem for path in CONSENSUS.glob("*.py")} - {"__init__"}


@pytest.mark.parametrize(
    "places", [[], ["election.py:nothing"], ["nothing.py:start_election"], ["core.py:Core.nothing"], ["core.py:"]]
)
def test_a_place_that_is_not_there_is_noticed(places: list[str]) -> None:
    assert wrong(Row("Candidates", "start election", places)) != []
