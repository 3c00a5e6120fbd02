"""A story that fails shows what happened in it: what it was told, messages, and what changed."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.interactions import LINES_MAX, Trace
from tests.unit.story import Story
from trioraft.messages import PreVoteRequest

ROOT = Path(__file__).parents[2]

FAILING = """
from tests.unit.story import Story

def test_a_story_that_fails():
    story = Story()
    story.elect(2)
    story.propose(2, "x")
    story.drop(to=1)
    story.live(0.2, cut_off={1})
    assert story.cores[1].state.commit_index == 2

def test_a_story_that_does_not():
    Story(nodes=5).elect(4)

def test_no_story():
    assert 1 + 1 == 3
"""


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Run three tests of which two fail, and return what pytest shows."""
    path = tmp_path_factory.mktemp("failing") / "test_failing.py"
    path.write_text(FAILING)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", str(path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 1
    assert "2 failed, 1 passed" in run.stdout
    return run.stdout


def test_a_story_that_fails_shows_its_trace(shown: str) -> None:
    _, _, trace = shown.partition("The story")
    without_times = [line.split(" at ")[0].rstrip() if line.startswith(">") else line for line in trace.splitlines()]
    assert without_times[1:13] == [
        "> start 1",
        "> start 2",
        "> start 3",
        "> elect 2",
        "  2: follower -> pre-candidate",
        "  2->1 sent      PreVoteRequest t1 round 1, log ends with 0/t0",
        "  2->3 sent      PreVoteRequest t1 round 1, log ends with 0/t0",
        "  2->1 delivered PreVoteRequest t1 round 1, log ends with 0/t0",
        "  1->2 sent      PreVoteResponse t0 round 1 granted",
        "  2->3 delivered PreVoteRequest t1 round 1, log ends with 0/t0",
        "  3->2 sent      PreVoteResponse t0 round 1 granted",
        "  1->2 delivered PreVoteResponse t0 round 1 granted",
    ]
    for line in (
        "  2: candidate -> leader",
        "  2: commit 0 -> 1",
        "> propose 2 x",
        "  2->1 sent      AppendEntriesRequest t1 #3 after 1/t1, commit 1, work for 6 s: 2/t1 'x'",
        "> drop to=1",
        "  2->1 lost      AppendEntriesRequest t1 #3 after 1/t1, commit 1, work for 6 s: 2/t1 'x'",
        "> live 0.2 cut_off={1}",
        "  2: commit 1 -> 2",
    ):
        assert line in without_times


def test_no_other_test_shows_one(shown: str) -> None:
    assert shown.count("The story") == 1
    assert "elect 4" not in shown


def test_a_trace_has_its_last_lines_only() -> None:
    trace = Trace()
    for round_number in range(LINES_MAX + 5):
        trace.carried(1, 2, "sent", PreVoteRequest(1, round_number, 0, 0))
    first, *lines = trace.lines()
    assert first == "… 5 earlier lines"
    assert len(lines) == LINES_MAX
    assert "round 5," in lines[0]


def test_what_a_story_does_by_itself_is_no_step() -> None:
    story = Story()
    story.elect(1)
    assert [line for line in story.trace.lines() if line.startswith("> ")][3:] == [f"> {'elect 1':<60} at 1000.000"]
