"""What a recorder writes of a core: one line of JSON for each transition, and nothing for what changes nothing."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.story import Story
from trioraft.consensus import Role
from trioraft.node.trace import Recorder, recording
from trioraft.storage.errors import StorageError


def recorded(story: Story) -> list[dict[str, Any]]:
    lines: list[bytes] = []
    recorder = Recorder(lines.append)
    for core in story.cores.values():
        core.observe(recorder)
    story.live(20)
    return [json.loads(line) for line in lines]


def test_an_election_is_told_step_by_step() -> None:
    story = Story(3)
    lines = recorded(story)
    leader = next(node for node, core in story.cores.items() if core.role is Role.LEADER)
    of_leader = [line for line in lines if int(line["node"], 16) == leader]
    actions = [line["action"] for line in of_leader]
    assert actions[0] == "Restart"
    asks = actions.index("StartPreVote")
    wins = next(number for number, line in enumerate(of_leader) if line["role"] == "leader")
    assert "HandlePreVoteResponse" in actions[asks:wins]
    assert "Written" in actions[asks : wins + 1]
    assert of_leader[asks]["sent"][0]["type"] == "PreVoteRequest"
    votes = [line for line in lines if line["action"] == "HandleVoteRequest" and line["sent"][0]["granted"]]
    assert votes
    assert all(int(line["voted_for"], 16) == int(line["from"], 16) == leader for line in votes)
    assert "StartWork" in actions[wins:]


def test_lines_are_in_order_and_say_what_changed() -> None:
    lines = recorded(Story(3))
    for node in {line["node"] for line in lines}:
        of_node = [line for line in lines if line["node"] == node]
        assert [line["time"] for line in of_node] == sorted(line["time"] for line in of_node)
        assert [line["term"] for line in of_node] == sorted(line["term"] for line in of_node)
    idle = [line for line in lines if line["action"] in {"Timer", "Settle"} and "sent" not in line]
    assert len(idle) < len(lines) / 5


def test_what_is_on_disk_is_what_was_written_then() -> None:
    lines = recorded(Story(3))
    for node in {line["node"] for line in lines}:
        on_disk = [line["on_disk"]["term"] for line in lines if line["node"] == node and "on_disk" in line]
        assert on_disk == sorted(on_disk)
        assert on_disk[-1] == 1


def test_nobody_looks_on_unless_somebody_is_told_to() -> None:
    story = Story(3)
    story.live(20)
    core = story.cores[1]
    with recording(core, None):
        assert core._ledger.noted is None


def test_a_file_gets_the_lines(tmp_path: Path) -> None:
    story = Story(3)
    file = tmp_path / "trace.ndjson"
    with recording(story.cores[1], file):
        story.live(20)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(lines) > 10
    assert {line["node"] for line in lines} == {"0000000000000001"}


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match=r"^TRACE_FILE='.*' cannot be written: Is a directory; give the path"),
        recording(Story(3).cores[1], tmp_path),
    ):
        pass
