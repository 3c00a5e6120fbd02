"""What autopilots did, as the monitor remembers it, and what a node's own notes say."""

import math

from structlog.testing import capture_logs

from tests.unit.node_double import make_status
from trioraft.members.notes import Notes
from trioraft.messages import AutopilotNote, NodeStatus
from trioraft.monitor.story import Story


def leader(number: int, *notes: tuple[str, str, float]) -> NodeStatus:
    return make_status(number, role="leader", autopilot=tuple(AutopilotNote(*note) for note in notes))


def test_a_deed_is_told_once_and_stays_when_its_leader_is_gone() -> None:
    story = Story()
    story.record(leader(1, ("changed", "b joined", 5.0), ("declined", "c stays", 3.0)), 1000.0)
    story.record(leader(1, ("changed", "c left", 0.5), ("changed", "b joined", 6.2)), 1001.0)
    story.record(leader(1, ("changed", "c left", 600.5), ("changed", "c left", 1.0)), 1601.0)
    story.record(leader(2, ("declined", "d stays", 4.0)), 1602.0)
    told = [(note.kind, note.text, note.leader[-1], note.at) for note in story.told({make_status(2).id})]
    assert told == [
        ("declined", "d stays", "2", 1598.0),
        ("changed", "c left", "1", 1600.0),
        ("changed", "c left", "1", 1000.5),
        ("changed", "b joined", "1", 995.0),
    ]


def test_what_is_declined_keeps_its_time_and_goes_when_it_is_declined_no_more() -> None:
    story = Story()
    story.record(leader(1, ("declined", "c stays", 3.0)), 1000.0)
    (before,) = story.told({make_status(1).id})
    story.record(leader(1, ("declined", "c stays", 4.1)), 1001.0)
    assert story.told({make_status(1).id}) == (before,)
    assert story.told(()) == ()
    story.record(leader(1), 1002.0)
    assert story.told({make_status(1).id}) == ()


def test_nodes_are_called_by_the_names_that_they_have_now_and_had_last() -> None:
    story = Story()
    node = make_status(4)
    story.record(leader(1, ("changed", f"855c548a8ae3 ({node.id}), x ({'0' * 16}) joined", 5.0)), 1000.0)
    story.record(node, 1001.0)
    assert [note.text for note in story.told(())] == [f"node-4 ({node.id}), x ({'0' * 16}) joined"]
    story.record(leader(1, ("changed", f"{node.id} leaves, as does {'1' * 16}", 2.0)), 1002.0)
    assert story.told(())[0].text == f"node-4 ({node.id}) leaves, as does {'1' * 16}"


def test_the_story_is_bounded_and_ignores_impossible_times() -> None:
    story = Story()
    for ago in (math.nan, math.inf, -1.0, 10.0**12):
        story.record(leader(1, ("changed", "nonsense", ago), ("declined", "nonsense", ago)), 1000.0)
    assert story.told({make_status(1).id}) == ()
    for number in range(200):
        story.record(leader(1, ("changed", f"deed {number}", 0.0)), 1000.0 + number)
    assert [note.text for note in story.told(())] == [f"deed {number}" for number in range(199, 149, -1)]


def test_notes_say_when_and_log_what_is_new() -> None:
    notes = Notes()
    with capture_logs() as logged:
        notes.changed("b joined", 3, 10.0)
        notes.declines(("c stays: absent for 1 of 60 s",), 11.0)
        notes.declines(("c stays: absent for 2 of 60 s",), 12.0)
        notes.refused("d stops but stays", 13.0)
        notes.refused("d stops but stays", 13.1)
    assert [(line["event"], line["reason"]) for line in logged] == [
        ("members change", "b joined"),
        ("members stay", "c stays: absent for 1 of 60 s"),
        ("members stay", "d stops but stays"),
    ]
    assert [(note.kind, note.text, note.seconds_ago) for note in notes.shown(20.0)] == [
        ("declined", "d stops but stays", 7.0),
        ("changed", "b joined", 10.0),
        ("declined", "c stays: absent for 2 of 60 s", 9.0),
    ]
    notes.declines((), 21.0)
    assert [note.text for note in notes.shown(21.0)] == ["d stops but stays", "b joined"]
    notes.clear()
    assert notes.shown(22.0) == ()
