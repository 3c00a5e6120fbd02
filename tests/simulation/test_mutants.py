"""Seeded bugs: each is found, the code as it is is not taken for one, and the documentation names all of them.

The full version, with its table: ``python -m tests.simulation.mutants``.
"""

import json
import shutil

import pytest
import typer
from typer.testing import CliRunner

from tests.simulation.mutants import MUTANTS
from tests.simulation.mutants.__main__ import main
from tests.simulation.mutants.hunters import OTHERS
from tests.simulation.mutants.mutant import Mutant
from tests.simulation.mutants.table import DOCUMENT, Hunt, as_markdown, hunt_all
from tests.simulation.profile import THEMES

HARMLESS = Mutant("nothing", "no rule", "replays", list)


def needs_strace(hunter: str) -> None:
    if hunter == "power cut" and shutil.which("strace") is None:
        pytest.skip("strace is not installed")


def run(*arguments: str) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(main)
    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, done.stdout


def told() -> list[list[str]]:
    """Read the documentation: the cells of each row."""
    rows = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("| ")][2:]
    return [row.strip("| ").split(" | ") for row in rows]


SEEDS = {name: int(seeds) for name, _, _, seeds, *_ in told()}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_seeded_bug_is_found(mutant: Mutant) -> None:
    needs_strace(mutant.profile)
    found = mutant.hunt(first=SEEDS[mutant.name] - 1)  # as documented; the lives before that one are spared
    assert found is not None
    assert found.trace or mutant.profile not in THEMES


@pytest.mark.parametrize("hunter", OTHERS)
def test_the_code_as_it_is_is_not_taken_for_a_bug(hunter: str) -> None:
    needs_strace(hunter)
    for seed in range(1 if hunter == "power cut" else 10):
        assert OTHERS[hunter](seed, "") is None


def test_the_documentation_has_exactly_these_bugs() -> None:
    assert [cells[:3] for cells in told()] == [[mutant.name, mutant.breaks, mutant.hunter] for mutant in MUTANTS]
    assert len(MUTANTS) == len({mutant.name for mutant in MUTANTS}) >= 25


def test_a_bug_that_is_not_found_is_told() -> None:
    [hunt] = hunt_all([HARMLESS], 1, seeds=3, first=0)
    assert (hunt.seeds, hunt.seen) == (None, "")
    assert "| nothing | no rule | replays | not found |  |" in as_markdown([hunt])


def test_the_command_prints_what_found_a_bug() -> None:
    status, output = run("replay window", "--json", "--jobs", "1")
    assert status == 0
    *rows, last = output.splitlines()
    assert last == "1 seeded bugs: all found"
    [hunt] = json.loads("\n".join(rows))
    assert (hunt["name"], hunt["hunter"]) == ("drop the replay window", "replays")
    assert hunt["seen"].endswith("counts twice")


def test_the_command_fails_when_a_bug_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.simulation.mutants.__main__.MUTANTS", (HARMLESS,))
    status, output = run("--seeds", "2", "--jobs", "1")
    assert status == 1
    assert output.splitlines()[-1] == "1 seeded bugs: NOT FOUND: nothing"


def test_a_page_about_some_of_the_bugs_is_not_written() -> None:
    status, _ = run("replay window", "--write", "--jobs", "1")
    assert status == 2


def test_the_page_says_how_many_seeds_were_the_most() -> None:
    hunts = [Hunt(f"bug {seeds}", "a rule", "replays", seeds, "it | was seen", 0.1) for seeds in (3, 12)]
    page = as_markdown(hunts)
    assert "12 were the most" in page
    assert "| bug 3 | a rule | replays | 3 | it \\| was seen |" in page
