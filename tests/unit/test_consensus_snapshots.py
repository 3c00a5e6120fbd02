"""Snapshots, told as stories (Raft, section 7): who is sent one, its parts, and the log below it."""

import pytest

from tests.unit.story import TIMING, Story
from tests.unit.test_consensus_log import elected, led
from trioraft.consensus.events import StorePart
from trioraft.consensus.state import InFlight
from trioraft.messages import (
    AppendEntriesRequest,
    AppendEntriesResponse,
    Entry,
    EntryKind,
    InstallSnapshotRequest,
)


def _behind(size: int = 200_000) -> Story:
    """Let node 3 miss what is in a snapshot of the leader, and not in its log any more."""
    story = led()
    story.propose(1, *(f"{number}" for number in range(10)))
    story.exchange(among={1, 2})
    story.live(1.0, without={3})
    story.take_snapshot(1, b"s" * size)
    assert story.log(1) == []
    return story


def _receive_snapshot(story: Story, index: int = 11) -> None:
    """Let node 3 be sent the snapshot, and store it."""
    for _ in range(100):
        if story.state(3).commit_index >= index:
            return
        story.fire(1)
        story.exchange()
        story.store_parts(3)
    raise AssertionError("the snapshot is not there after a hundred turns")


def _half_sent() -> Story:
    """Let node 3 have stored a part of a large snapshot, and the leader know it."""
    story = _behind(size=2_000_000)
    follower = story.state(1).followers[3]
    while follower.sending is None or not follower.sending.acknowledged:
        story.fire(1)
        story.exchange()
        story.store_parts(3)
    return story


def test_who_is_behind_the_log_is_sent_a_snapshot_and_then_entries() -> None:
    story = _behind()
    _receive_snapshot(story)
    assert story.disks[3].snapshot == story.cores[1].snapshot
    story.propose(1, "more")
    story.live(1)
    assert story.applied[3] == [b"more"]
    assert (story.disks[3].base_index, story.log(3)) == (11, [1])


def test_a_snapshot_leaves_entries_for_those_who_are_a_little_behind() -> None:
    story = led()
    story.propose(1, *(f"{number}" for number in range(10)))
    story.exchange(among={1, 2})
    story.take_snapshot(1, b"state", keep=10)
    assert (story.state(1).log.base_index, story.log(1)) == (1, [1] * 10)
    story.live(1)
    assert len(story.applied[3]) == 10
    assert story.disks[3].snapshot is None
    story.restart(1)
    assert story.state(1).commit_index == 11


def test_a_snapshot_leaves_no_more_bytes_than_told() -> None:
    story = led()
    story.propose(1, *("." * 1000 for _ in range(20)))
    story.exchange()
    story.take_snapshot(1, b"state", keep=10, keep_bytes=5100)
    assert len(story.log(1)) == 5
    story.propose(1, "." * 6000)
    story.exchange()
    story.take_snapshot(1, b"state", keep=10, keep_bytes=5100)
    assert story.log(1) == []


def _sending(story: Story) -> None:
    """Let the first parts of the snapshot be under way to node 3."""
    while not story.waiting(InstallSnapshotRequest):
        story.fire(1)
        story.deliver(AppendEntriesRequest)
        story.deliver(AppendEntriesResponse)


def test_entries_are_kept_for_who_is_being_sent_an_earlier_snapshot() -> None:
    """Else the leader of a busy cluster would send it one snapshot after the other."""
    story = _behind()
    _sending(story)
    story.propose(1, *(f"more {number}" for number in range(50)))
    story.exchange(among={1, 2})
    sent = story.cores[1].snapshot
    assert story.take_snapshot(1, b"t" * 200_000) != sent
    assert len(story.log(1)) == 50
    _receive_snapshot(story)
    story.live(1)
    assert story.disks[3].snapshot == sent
    assert len(story.applied[3]) == 50
    story.take_snapshot(1, b"u" * 200_000)
    assert story.log(1) == [], "and no longer than it takes"


def test_no_entries_are_kept_for_who_is_silent() -> None:
    story = _behind()
    _sending(story)
    story.live(TIMING.lower + 1, without={3})
    story.propose(1, "more")
    story.exchange(among={1, 2})
    story.take_snapshot(1, b"t" * 200_000)
    assert story.log(1) == []
    _receive_snapshot(story)
    _receive_snapshot(story, 12)
    assert story.disks[3].snapshot == story.cores[1].snapshot, "it gets one after the other"


def test_a_leader_that_is_sent_a_newer_leaders_snapshot_follows() -> None:
    story = led()
    story.receive(1, 2, InstallSnapshotRequest(2, 5, 1, 10, 0, 0, b"s"))
    assert story.roles()[0] == "follower"
    assert (story.state(1).term, story.state(1).leader) == (2, 2)


def test_parts_that_overtake_one_another_are_not_sent_again() -> None:
    story = _behind()
    while not story.waiting(InstallSnapshotRequest):
        story.fire(1)
        story.drop(AppendEntriesRequest, to=2)
        story.deliver(AppendEntriesRequest)
        story.deliver(AppendEntriesResponse)
    parts = story.take(InstallSnapshotRequest)
    assert len(parts) == 7
    for letter in reversed(parts):
        story.hand_over(letter)
    story.store_parts(3)
    assert story.disks[3].snapshot == story.cores[1].snapshot


def test_who_is_restarted_while_it_is_sent_a_snapshot_gets_it_from_the_beginning() -> None:
    story = _half_sent()
    assert story.disks[3].snapshot is None
    story.restart(3)
    _receive_snapshot(story)
    assert story.disks[3].snapshot == story.cores[1].snapshot


def test_who_stores_parts_of_a_snapshot_while_it_knows_no_leader_goes_on_from_there() -> None:
    story = _behind(size=2_000_000)
    while not story.events(3, StorePart):
        story.fire(1)
        story.exchange()
    story.fire(3)  # its disk is slower than its patience
    assert story.state(3).leader == 0
    story.drop()
    story.store_parts(3)
    story.drop()
    _receive_snapshot(story)
    assert story.disks[3].snapshot == story.cores[1].snapshot


def test_who_has_nothing_of_a_snapshot_is_sent_the_newest_one() -> None:
    story = _behind()
    first = story.cores[1].snapshot
    follower = story.state(1).followers[3]
    while follower.sending is None:
        story.fire(1)
        story.exchange()
    story.live(TIMING.lower + 1, without={3})
    story.restart(3)
    story.propose(1, "more")
    story.exchange(among={1, 2})
    newest = story.take_snapshot(1, b"newer state")
    assert newest != first
    _receive_snapshot(story)
    assert story.disks[3].snapshot == newest


def test_a_snapshot_that_cannot_be_read_is_sent_no_more_until_there_is_another_one() -> None:
    story = _behind()
    _sending(story)
    story.drop()
    damaged = story.cores[1].snapshot
    assert damaged is not None
    story.cores[1].snapshot_gone(damaged, story.now)
    assert (story.cores[1].snapshot, story.cores[1].lacks_snapshot) == (None, True)
    story.live(2)
    assert not story.waiting(InstallSnapshotRequest)
    assert story.roles()[0] == "leader"
    assert story.take_snapshot(1, b"s" * 200_000) == damaged, "of the same entries: it has the same name"
    _receive_snapshot(story)
    assert story.disks[3].snapshot == story.cores[1].snapshot
    assert not story.cores[1].lacks_snapshot


def test_who_has_the_most_of_a_snapshot_that_cannot_be_read_gets_the_next_one_whole() -> None:
    story = _half_sent()
    damaged = story.cores[1].snapshot
    assert damaged is not None
    story.cores[1].snapshot_gone(damaged, story.now)
    assert story.take_snapshot(1, b"t" * 2_000_000).index == damaged.index
    _receive_snapshot(story)
    assert story.disks[3].snapshot == story.cores[1].snapshot


def test_the_newest_snapshot_is_sent_when_an_earlier_one_cannot_be_read_any_more() -> None:
    story = _behind()
    _sending(story)
    story.drop()
    earlier = story.cores[1].snapshot
    assert earlier is not None
    story.propose(1, "more")
    story.exchange(among={1, 2})
    newest = story.take_snapshot(1, b"newer state")
    story.cores[1].snapshot_gone(earlier, story.now)
    assert story.cores[1].snapshot == newest
    _receive_snapshot(story, 12)
    assert story.disks[3].snapshot == newest


def test_what_a_snapshot_covers_is_acknowledged_when_it_is_on_disk() -> None:
    story = _behind(size=10)
    story.stick_disk(3)
    while story.state(3).commit_index < 11:
        story.fire(1)
        story.deliver(to=3)
        story.store_parts(3)
        story.drop(to=2)
        if story.state(3).commit_index < 11:
            story.deliver(sender=3)
    story.drop()
    story.receive(3, 1, AppendEntriesRequest(1, 500, 6.0, 11, 1, 11))
    assert story.waiting(AppendEntriesResponse)[0].matched <= 1
    story.restart(3)
    assert story.state(3).commit_index == 0
    story.live(1)
    _receive_snapshot(story)
    assert story.disks[3].snapshot == story.cores[1].snapshot


def test_entries_that_overtake_a_snapshot_are_not_lost_when_it_is_installed() -> None:
    story = _behind(size=10)
    snapshot = story.cores[1].snapshot
    assert snapshot is not None
    story.receive(3, 1, InstallSnapshotRequest(1, 11, 1, 10, snapshot.checksum, 0, b"s" * 10))
    entries = tuple(Entry(1, EntryKind.COMMAND, b"%d" % number) for number in range(12))
    story.receive(3, 1, AppendEntriesRequest(1, 400, 6.0, 1, 1, 13, entries))
    assert story.state(3).commit_index == 13
    story.store_parts(3)
    assert (story.state(3).commit_index, story.state(3).log.last_index) == (13, 13)
    assert story.applied[3] == [b"%d" % number for number in range(12)]


def test_a_snapshot_replaces_a_log_that_contradicts_it() -> None:
    story = _behind(size=10)
    story.change_log(3, [1, *[0] * 20], term=1)
    _receive_snapshot(story)
    assert story.log(3) == []
    assert (story.disks[3].entries, story.disks[3].base_index) == ([], 11)


@pytest.mark.parametrize("length", [11, 12, 30])
def test_who_differs_in_the_last_entry_that_the_leader_has_dropped_is_sent_the_snapshot(length: int) -> None:
    """Where its own entry is of an earlier term, the search for where the logs agree must not end at the leader's."""
    story = Story()
    for node in (1, 2):
        story.change_log(node, [1, *[3] * 10], term=3)
    story.change_log(3, [1, *[2] * (length - 1)], term=3)
    elected(story, 2)
    story.live(1, without={3})
    story.take_snapshot(1, b"state", keep=1)
    assert (story.state(1).log.base_index, story.state(1).log.base_term) == (11, 3)
    story.restart(1)
    story.wait(TIMING.upper)
    elected(story, 2)  # begins with what it has last, not with what node 3 has
    _receive_snapshot(story)
    story.live(1)
    assert story.log(3) == [5]


def test_a_leader_that_begins_with_a_snapshot_is_not_taken_for_the_one_before() -> None:
    """What matched the log of an earlier leader need not match the log of this one."""
    story = Story()
    entries = tuple(Entry(1, EntryKind.COMMAND, b"%d" % number) for number in range(20))
    story.receive(3, 1, AppendEntriesRequest(1, 1, 6.0, 0, 0, 0, entries))
    story.receive(3, 2, InstallSnapshotRequest(2, 5, 1, 10, 0, 0, b"s"))
    story.drop()
    story.receive(3, 2, AppendEntriesRequest(2, 1, 6.0, 20, 2, 20))
    assert story.state(3).commit_index == 0
    assert story.waiting(AppendEntriesResponse)[0].matched == 0


def test_entries_follow_a_snapshot_although_some_were_under_way_before_it() -> None:
    story = _behind(size=10)
    follower = story.state(1).followers[3]
    while follower.sending is None:
        story.fire(1)
        story.drop(to=2)
        story.deliver(AppendEntriesRequest)
        story.deliver(AppendEntriesResponse)
    follower.in_flight[1] = InFlight(3, 100)
    _receive_snapshot(story)
    story.live(1)
    story.propose(1, "more")
    story.live(1)
    assert story.applied[3] == [b"more"]
