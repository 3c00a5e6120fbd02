"""Entries that nobody waits for gather before they are written (``DURABILITY=memory``), told as stories."""

import pytest

from tests.unit.story import TIMING, Story
from trioraft.consensus import Role, Timing
from trioraft.consensus.ledger import GATHERED_BYTES, GATHERED_SECONDS
from trioraft.messages import AppendEntriesRequest, AppendEntriesResponse, TimeoutNow, VoteRequest

SHORT = Timing(lower=0.15, upper=0.3, heartbeat=0.05, stop_grace=0.1)


def led(*, log_waits: bool = False) -> Story:
    """Let node 1 lead, and all have its no-op on disk."""
    story = Story(3, log_waits=log_waits)
    story.elect(1)
    story.live(2)
    assert [story.disks[node].last_index for node in story.ids] == [1, 1, 1]
    return story


def test_entries_of_ten_milliseconds_are_written_together() -> None:
    story = led()
    writes = story.writes[1]
    story.propose(1, "a")
    story.wait(GATHERED_SECONDS / 2)
    story.propose(1, "b")
    assert (story.writes[1], story.disks[1].last_index) == (writes, 1)
    assert story.wake_at[1] == story.now + GATHERED_SECONDS / 2
    story.fire(1)
    assert (story.writes[1], story.disks[1].last_index) == (writes + 1, 3)


def test_a_follower_acknowledges_at_once_and_writes_later() -> None:
    story = led()
    story.propose(1, "a")
    story.exchange()
    assert story.applied[1] == [b"a"]
    assert [story.disks[node].last_index for node in story.ids] == [1, 1, 1]
    story.live(GATHERED_SECONDS)
    assert [story.disks[node].last_index for node in story.ids] == [2, 2, 2]


def test_many_bytes_are_written_at_once() -> None:
    story = led()
    story.propose(1, "." * GATHERED_BYTES)
    assert story.disks[1].last_index == 2


def test_a_hard_state_is_written_at_once_and_takes_along_what_has_gathered() -> None:
    story = led()
    story.propose(1, "a")
    story.deliver(AppendEntriesRequest, to=3)
    story.deliver(AppendEntriesResponse, sender=3)
    assert (story.disk[3].term, story.disks[3].last_index) == (1, 1)
    assert story.cores[1].transfer(3, story.now) is None
    story.cores[1].work_ended(story.now)
    story.settle(1)
    story.deliver(TimeoutNow, to=3)
    assert (story.disk[3].term, story.disks[3].last_index) == (2, 2)
    assert story.waiting(VoteRequest, sender=3)


def test_a_stuck_disk_is_noticed_where_entries_gather_too() -> None:
    story = led()
    story.stick_disk(1)
    story.propose(1, "a")
    story.live(TIMING.lower / 2)
    assert story.state(1).role is Role.LEADER
    story.live(TIMING.lower)
    assert story.state(1).role is not Role.LEADER


def test_entries_that_messages_wait_for_do_not_gather() -> None:
    story = led(log_waits=True)
    story.propose(1, "a")
    assert story.disks[1].last_index == 2


def test_a_core_that_is_closed_hands_out_the_rest_even_while_its_disk_is_busy() -> None:
    story = led()
    story.stick_disk(1)
    story.propose(1, "." * GATHERED_BYTES)
    story.propose(1, "b")
    story.cores[1].close()
    story.free_disk(1)
    assert story.disks[1].last_index == 3


@pytest.mark.parametrize("log_waits", [False, True])
def test_a_disk_has_a_second_for_large_writes_however_short_the_election_timeout_is(log_waits: bool) -> None:
    story = Story(3, log_waits=log_waits)
    for node in story.ids:
        story.restart(node, SHORT)
    story.elect(1)
    story.live(1)
    story.stick_disk(1)
    story.propose(1, "a")
    story.live(3 * SHORT.lower)
    assert (story.state(1).role is Role.LEADER) is not log_waits
    story.live(1.0)
    assert story.state(1).role is not Role.LEADER
