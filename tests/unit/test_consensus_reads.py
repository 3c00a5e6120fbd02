"""Reads by the lease (thesis 6.4.1), told as stories: when a leader may answer without asking anybody."""

import pytest

from tests.unit.story import LEASE, TIMING, Story
from trioraft.consensus import Timing
from trioraft.consensus.events import ReadFailed, ReadReady
from trioraft.consensus.lease import contact_end, lease_end
from trioraft.messages import (
    AppendEntriesRequest,
    AppendEntriesResponse,
    EntryKind,
    PreVoteRequest,
    PreVoteResponse,
    ReadIndexRequest,
    ReadIndexResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from trioraft.node.reads import Reads


def _led_by_lease(nodes: int = 3) -> Story:
    """Let node 1 lead, in a cluster whose settings say that reads go by the lease."""
    story = Story(nodes)
    story.elect(1)
    story.raise_version(1)
    _change(story, 1, by_lease=True)
    story.live(1.01)  # the last heartbeat was a moment ago
    return story


def _change(story: Story, node: int, *, by_lease: bool) -> None:
    """Change the settings, and let all nodes apply the change."""
    assert story.cores[node].propose(EntryKind.SETTINGS, b"", story.now) is not None
    story.settle(node)
    story.live(TIMING.heartbeat)
    for core in story.cores.values():
        core.read_by_lease(by_lease)


def _read(story: Story, node: int = 1) -> ReadReady | ReadFailed | None:
    """Ask for a read, and give what is said of it at once."""
    before = len(story.told[node])
    story.read(node, 7)
    answers = [event for event in story.told[node][before:] if isinstance(event, ReadReady | ReadFailed)]
    return answers[0] if answers else None


# --- what the lease is worth --------------------------------------------------------------------------------


def test_a_leader_answers_by_its_lease_without_a_message() -> None:
    story = _led_by_lease()
    story.propose(1, "a")
    story.exchange()
    story.drop()
    assert _read(story) == ReadReady(read=7, index=story.state(1).commit_index, by_lease=True)
    assert story.post == []


def test_a_leader_answers_until_the_last_moment_of_its_lease_and_not_after_it() -> None:
    story = _led_by_lease()
    story.drop()
    end = lease_end(story.state(1))
    story.now = end - 0.001
    assert _read(story) is not None
    story.now = end
    assert _read(story) == ReadFailed(read=7), "and it notices although nothing has told it so"


def test_until_the_lease_has_ended_nobody_else_is_elected() -> None:
    story = _led_by_lease()
    end = lease_end(story.state(1))
    story.live(LEASE + TIMING.upper + 2, without={1})
    new_leader = next(node for node in (2, 3) if story.roles()[node - 1] == "leader")
    assert story.state(new_leader).leader_since > end
    assert _read(story) == ReadFailed(read=7), "it was paused meanwhile"


def test_an_answer_that_leaves_late_showed_what_there_was_when_the_clock_was_read() -> None:
    story = _led_by_lease()
    story.propose(1, "old")
    story.exchange()
    answer = _read(story)  # here the leader is paused, and the answer leaves long after
    assert isinstance(answer, ReadReady)
    shown = answer.index
    story.live(20, without={1})
    new_leader = next(node for node in (2, 3) if story.roles()[node - 1] == "leader")
    story.propose(new_leader, "new")
    story.live(1, without={1})
    assert story.state(new_leader).commit_index > shown
    assert isinstance(_read(story), ReadFailed), "what is asked after the pause is not answered so"


def test_the_clock_is_read_after_the_read_has_come() -> None:
    story = _led_by_lease()
    core = story.cores[1]

    def clock_after_a_pause() -> float:
        return story.now + 10

    reads = Reads(core, clock_after_a_pause, 0)
    answers: list[int | None] = []
    reads.start(answers.append)
    story.wait(10)
    story.settle(1)
    for failed in story.events(1, ReadFailed):
        reads.confirmed(failed.read, None)
    assert not story.events(1, ReadReady)
    assert answers == [None]


def test_an_answer_to_an_earlier_process_of_the_node_is_not_taken_for_one_to_this() -> None:
    story = _led_by_lease()
    follower = story.cores[2]
    shown: list[int | None] = []
    earlier, later = (Reads(follower, lambda: story.now, first) for first in (1000, 2000))
    earlier.start(lambda index: None)
    later.start(shown.append)
    [(_, asked_by_earlier)], [(_, asked_by_later)] = earlier.to_send(), later.to_send()
    assert isinstance(asked_by_earlier, ReadIndexRequest)
    assert isinstance(asked_by_later, ReadIndexRequest)
    later.receive(1, ReadIndexResponse(asked_by_earlier.read, done=True, index=1))
    assert not shown
    later.receive(1, ReadIndexResponse(asked_by_later.read, done=True, index=2))
    assert shown == [2]


def test_the_lease_is_counted_with_the_slowest_clock_there_may_be() -> None:
    story = _led_by_lease()
    sent_at = story.state(1).followers[2].answered_sent_at
    assert lease_end(story.state(1)) == pytest.approx(
        max(sent_at, story.state(1).followers[3].answered_sent_at) + LEASE
    )


# --- when the settings let it -------------------------------------------------------------------------------


def test_without_the_setting_a_quorum_is_asked() -> None:
    story = Story()
    story.elect(1)
    story.live(1.01)
    assert _read(story) is None
    story.exchange()
    assert story.events(1, ReadReady) == [ReadReady(read=7, index=1)]


def test_a_change_of_the_settings_ends_reads_by_the_lease_before_it_is_committed() -> None:
    story = _led_by_lease()
    assert story.cores[1].propose(EntryKind.SETTINGS, b"", story.now) is not None
    story.settle(1)
    story.drop()
    assert _read(story) is None
    assert story.waiting(AppendEntriesRequest), "it asks the others"


def test_after_a_change_that_leaves_reads_as_they_are_they_go_by_the_lease_again() -> None:
    story = _led_by_lease()
    _change(story, 1, by_lease=True)
    assert isinstance(_read(story), ReadReady)


def test_a_new_leader_asks_the_quorum_until_it_has_applied_all_that_was_before_it() -> None:
    story = _led_by_lease()
    story.crash(1)
    story.live(LEASE + TIMING.upper, without={1})
    leader = next(node for node in (2, 3) if story.roles()[node - 1] == "leader")
    state = story.state(leader)
    assert isinstance(_read(story, leader), ReadReady)
    state.applied_index = state.opened_at - 1
    assert _read(story, leader) is None


def test_a_change_that_another_leader_has_replaced_does_not_keep_reads_from_the_lease() -> None:
    story = _led_by_lease()
    for _ in range(50):
        story.cores[1].propose(EntryKind.SETTINGS, b"", story.now)
    story.settle(1)
    story.live(LEASE + TIMING.upper + 2, cut_off={1})
    story.live(1.0)
    leader = 1 + story.roles().index("leader")
    assert leader != 1
    assert story.cores[leader].transfer(1, story.now) is None
    story.cores[leader].work_ended(story.now)
    story.settle(leader)
    story.live(3.01)
    assert story.roles()[0] == "leader"
    assert isinstance(_read(story), ReadReady)


# --- every way in which a vote might bypass a lease ---------------------------------------------------------


def test_a_leader_stops_before_it_offers_its_leadership() -> None:
    story = _led_by_lease()
    assert story.cores[1].transfer(2, story.now) is None
    story.cores[1].work_ended(story.now)
    story.settle(1)
    assert story.waiting(TimeoutNow)
    assert contact_end(story.state(1)) > story.now
    assert _read(story) is None, "the offer may be taken at any moment, and nobody tells the leader"
    story.exchange()
    assert story.roles()[1] == "leader"


def test_an_offer_that_is_not_taken_does_not_give_the_lease_back() -> None:
    story = _led_by_lease()
    story.cores[1].transfer(2, story.now)
    story.cores[1].work_ended(story.now)
    story.settle(1)
    offer = story.take(TimeoutNow)[0]
    for _ in range(3):
        story.fire(1)
        story.drop(TimeoutNow)
        story.deliver(AppendEntriesRequest)
        story.deliver(AppendEntriesResponse)
    assert story.roles()[0] == "leader"
    assert contact_end(story.state(1)) > story.now
    assert _read(story) is None
    story.hand_over(offer)
    story.exchange()
    assert story.roles()[1] == "leader"


def test_the_offer_of_an_earlier_term_bypasses_no_lease() -> None:
    story = _led_by_lease()
    story.cores[1].transfer(2, story.now)
    story.cores[1].work_ended(story.now)
    story.settle(1)
    late = story.take(TimeoutNow)[0]
    story.live(20, cut_off={1})
    story.live(2)
    leader = 1 + story.roles().index("leader")
    assert isinstance(_read(story, leader), ReadReady)
    story.hand_over(late)
    assert not story.waiting(VoteRequest)


def test_a_voter_that_was_restarted_keeps_its_promise() -> None:
    story = _led_by_lease()
    end = lease_end(story.state(1))
    for node in (2, 3):
        story.restart(node, Timing(lower=0.3, upper=0.5, heartbeat=0.05, stop_grace=2.0))
    story.now = end - 0.01
    for node, other in ((2, 3), (3, 2)):
        story.receive(node, other, PreVoteRequest(9, 1, 99, 8))
        story.receive(node, other, VoteRequest(9, 99, 8, transfer=False))
    assert [answer.granted for answer in story.waiting(PreVoteResponse)] == [False, False]
    assert [answer.granted for answer in story.waiting(VoteResponse)] == [False, False]
    assert isinstance(_read(story), ReadReady)


def test_the_answer_of_a_voter_whose_promise_is_not_on_disk_does_not_leave() -> None:
    story = Story()
    story.elect(1, among={1, 2})
    story.drop()
    story.stick_disk(3)
    story.fire(1)
    story.deliver(AppendEntriesRequest, to=3)
    assert not story.waiting(AppendEntriesResponse, sender=3)
    story.restart(3)
    assert story.state(3).refuse_until < story.now
    assert story.state(1).followers[3].promised_until < story.now


def test_a_voter_that_promises_nothing_gives_no_lease() -> None:
    story = _led_by_lease()
    story.fire(1)
    story.drop()
    story.live(LEASE / 2, cut_off={1})
    sequence = story.state(1).sequence
    before = lease_end(story.state(1))
    for node in (2, 3):
        story.receive(1, node, AppendEntriesResponse(1, sequence, 0.0, 0, last_choice=False))
    assert lease_end(story.state(1)) == before
