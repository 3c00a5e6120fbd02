"""A life that breaks a rule names the story to write."""

import ast
import re
from pathlib import Path

import pytest

from tests.simulation.__main__ import show_violation
from tests.simulation.mutants import MUTANTS
from tests.simulation.simulation import Result
from tests.simulation.story_to_write import about, story_to_write

UNIT = Path(__file__).parents[1] / "unit"


def life(violation: str, *trace: str) -> Result:
    return Result(7, "election", "mixed", 0, 0.0, 0.0, {}, violation, trace)


@pytest.mark.parametrize(
    ("violation", "file"),
    [
        ("n8 changes its vote in term 1 on disk", "election"),
        ("n4 wins term 2 with the votes of [4] only", "election"),
        ("n2 promises n4, which did not win term 3", "lease"),
        ("n2 votes for n4 in term 13, and promised the leader of term 12 not to for another 1.375283 s", "lease"),
        ("n5 forgets a formation that it promised", "formation"),
        ("work 3 starts on n1 while 1 runs on n4", "work"),
        ("n4 bypasses promises in term 14 without an offer of the leader before", "transfer"),
        ("n3 wins term 48 without entry 74, which is committed", "log"),
        ("a read on n2 goes by a lease, and another leader has been elected", "reads"),
        ("n4 has a snapshot of what nobody has committed", "snapshots"),
        ("when all faults had been over for long, [3] do not know that they were removed", "removal"),
        ('File "trioraft/consensus/far_terms.py", line 3\nTypeError: unsupported', "numbers"),
        ("10600 datagrams in 2.630423 s", "log"),  # by the last message
    ],
)
def test_a_violation_names_the_file_of_its_story(violation: str, file: str) -> None:
    answered = (
        "    5.160542  n1 → n3  AppendEntriesResponse t1 #3 has 1, promises 1 s                           44.98 ms"
    )
    assert about(life(violation, answered)) == file
    assert (UNIT / f"test_consensus_{file}.py").exists()


def test_a_life_without_messages_is_told_in_general() -> None:
    assert about(life("something is wrong")) == "paper"
    assert "story = Story(nodes=1)" in "\n".join(story_to_write(life("something is wrong")))


def test_the_skeleton_has_what_happened_to_the_nodes_that_are_named() -> None:
    result = life(
        "n3 changes its vote in term 1 on disk",
        "        5.112633  n2 → n3  PreVoteRequest t1 round 1, log ends with 0/t0                     CUT OFF",
        "        5.112640  n2 → n1  PreVoteRequest t1 round 1, log ends with 0/t0                     0.21 ms",
        "        5.112845  n1 → n3  VoteRequest t1 log ends with 0/t0                                 0.21 ms",
        "        5.112847  n1 → n3  Propose x                                                         0.21 ms",
        "        5.114497  * n3 crashes",
        "        5.114498  * the network is bad",
        "        5.114499  * n3 starts with timing",
        "        5.114499  * n3: BecameLeader(term=1)",
    )
    assert story_to_write(result) == [
        "# the story to write, in tests/unit/test_consensus_election.py:",
        "from tests.unit.story import Story",
        "from trioraft.messages import PreVoteRequest, VoteRequest",
        "",
        "",
        "def test_() -> None:",
        "    # seed 7, profile election: n3 changes its vote in term 1 on disk",
        "    story = Story(nodes=3)",
        "    story.fire(2)",
        "    story.drop(PreVoteRequest, sender=2, to=3)  # t1 round 1, log ends with 0/t0",
        "    story.deliver(VoteRequest, sender=1, to=3)  # t1 log ends with 0/t0",
        "    story.crash(3)",
        "    story.start(3)",
        "    # n3: BecameLeader(term=1)",
        '    raise AssertionError("it must not be that n3 changes its vote in term 1 on disk")',
    ]


def test_a_seeded_bug_leads_to_a_story(capsys: pytest.CaptureFixture[str]) -> None:
    [mutant] = [mutant for mutant in MUTANTS if mutant.name == "vote twice in a term"]
    found = mutant.hunt(first=3)
    assert found is not None
    result = Result(found.seed, "election", "election", 0, 0.0, 0.0, {}, found.violation, found.trace)
    show_violation(result, 0)
    printed = capsys.readouterr().out
    skeleton = printed[printed.index("# the story to write, in tests/unit/test_consensus_election.py:") :]
    ast.parse(skeleton)
    [voter] = re.findall(r"^n(\d+) ", found.violation)
    steps = [line.strip() for line in skeleton.splitlines() if line.strip().startswith("story.")]
    assert len(steps) > 5
    assert any(step.startswith("story.deliver(VoteRequest") and f"to={voter})" in step for step in steps)
