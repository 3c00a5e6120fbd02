"""Leases and promises, told as stories: what a leader may count on, and from when."""

import pytest

from tests.unit.story import LEASE, TIMING, Story
from trioraft.clock import LONG_AGO
from trioraft.consensus import Role, Timing
from trioraft.consensus.events import SteppedDown
from trioraft.consensus.lease import lease_end
from trioraft.messages import AppendEntriesRequest, AppendEntriesResponse, PreVoteRequest, VoteRequest, VoteResponse


def _elected(nodes: int = 3) -> Story:
    """Elect node 1; its first heartbeats lie in the post."""
    story = Story(nodes)
    story.fire(1)
    while story.roles()[0] != "leader":
        story.deliver()
    return story


def test_a_lease_is_counted_from_when_the_heartbeat_was_sent() -> None:
    story = _elected()
    sent_at = story.now
    story.deliver(AppendEntriesRequest)
    story.wait(0.3)
    assert lease_end(story.state(1)) == LONG_AGO
    story.deliver(AppendEntriesResponse, sender=2)
    assert lease_end(story.state(1)) == pytest.approx(sent_at + LEASE)


def test_a_lease_is_shorter_than_the_promise_by_the_clock_drift() -> None:
    assert pytest.approx(TIMING.lower * 0.99) == LEASE


def test_an_answer_counts_for_the_sending_that_it_answers() -> None:
    story = _elected()
    sent_at = story.now
    first = story.take(AppendEntriesRequest)
    story.fire(1)
    assert story.now == pytest.approx(sent_at + TIMING.heartbeat / 5)
    again = story.take(AppendEntriesRequest)
    assert again[0].message.sequence > first[0].message.sequence

    story.wait(0.2)
    for letter in first:
        story.hand_over(letter)
    story.deliver(AppendEntriesResponse)
    assert lease_end(story.state(1)) == pytest.approx(sent_at + LEASE)
    for letter in again:
        story.hand_over(letter)
    story.deliver(AppendEntriesResponse)
    assert lease_end(story.state(1)) == pytest.approx(sent_at + 0.1 + LEASE)


def test_an_answer_to_an_earlier_sending_does_not_shorten_the_lease() -> None:
    story = _elected()
    first = story.take(AppendEntriesRequest)
    story.fire(1)
    again_at = story.now
    story.deliver(AppendEntriesRequest)
    story.deliver(AppendEntriesResponse)
    for letter in first:
        story.hand_over(letter)
    story.deliver(AppendEntriesResponse)
    assert lease_end(story.state(1)) == pytest.approx(again_at + LEASE)


def test_the_smallest_promise_in_the_quorum_counts() -> None:
    story = _elected(nodes=5)
    sent_at = story.now
    story.drop()
    for node, promise in ((2, 2.0), (3, 1.0), (4, 1.5)):
        story.receive(1, node, AppendEntriesResponse(1, 1, promise, 0, last_choice=False))
    assert lease_end(story.state(1)) == pytest.approx(sent_at + 1.5 * 0.99), "of the leader and its two longest"


def test_a_lease_is_never_longer_than_the_leaders_own_lower_timeout() -> None:
    story = _elected()
    sent_at = story.now
    story.drop()
    story.receive(1, 2, AppendEntriesResponse(1, 1, 60.0, 0, last_choice=False))
    assert lease_end(story.state(1)) == pytest.approx(sent_at + LEASE), "for its claims of work are made of that"


def test_an_answer_to_what_was_never_sent_counts_for_nothing() -> None:
    story = _elected()
    story.receive(1, 2, AppendEntriesResponse(1, 77, 3.0, 0, last_choice=False))
    story.receive(1, 2, AppendEntriesResponse(0, 1, 3.0, 0, last_choice=False))
    assert lease_end(story.state(1)) == LONG_AGO


def test_each_answer_says_for_how_long_its_sender_refuses_votes() -> None:
    story = _elected()
    story.restart(2, Timing(lower=7.0, upper=9.0))
    story.deliver(AppendEntriesRequest)
    promises = {letter.sender: letter.message.promise for letter in story.take(AppendEntriesResponse)}
    assert promises == {2: pytest.approx(7.0), 3: pytest.approx(TIMING.lower)}


def test_a_promise_is_written_only_when_its_length_changes() -> None:
    story = _elected()
    story.exchange()
    writes = story.writes[2]
    story.live(60)
    assert story.writes[2] == writes

    story.restart(2, Timing(lower=4.0, upper=5.0))
    story.live(10)
    assert story.disk[2].promise == pytest.approx(4.0)
    story.restart(2, TIMING)
    restarted_at = story.now
    story.live(0.9)
    assert story.state(2).refuse_until == pytest.approx(restarted_at + 4.0)
    assert story.disk[2].promise == pytest.approx(4.0), "the longest one that holds"
    story.live(10)
    assert story.disk[2].promise == pytest.approx(3.0), "none of those holds any more"
    writes = story.writes[2]
    story.live(60)
    assert story.writes[2] == writes


def test_a_shorter_promise_is_kept_no_sooner_than_the_longer_ones_have_ended() -> None:
    """Whenever it is restarted, it refuses votes for as long as it promised to anybody."""
    short = Timing(lower=0.3, upper=0.5, heartbeat=0.05, stop_grace=2.0)
    for restarted_after in (0.1, 0.5, 2.5, 2.69, 2.71, 2.9, 3.1, 9.0):
        story = _elected()
        story.exchange()
        story.restart(2, short)
        promised_until = story.now + 3.0
        end = story.now + restarted_after
        while story.now < end:
            story.deliver(AppendEntriesRequest)
            for answer in story.waiting(AppendEntriesResponse, sender=2):
                promised_until = max(promised_until, story.now + answer.promise)
            story.live(min(0.02, max(0.001, end - story.now)))
        story.restart(2, short)
        assert story.state(2).refuse_until >= promised_until - 1e-6


def test_a_leader_sends_heartbeats_in_the_pace_of_the_follower_with_the_shortest_timeout() -> None:
    """Timeouts are changed on one node after the other: nobody takes the leader for dead meanwhile."""
    short = Timing(lower=0.3, upper=0.5, heartbeat=0.05, stop_grace=2.0)
    story = Story()
    story.elect(1)
    for node in (2, 3):
        story.restart(node, short)
        story.live(60)
        assert story.roles() == ["leader", "follower", "follower"]
        assert {core.term for core in story.cores.values()} == {1}
    assert story.state(1).heartbeat_at - story.state(1).heartbeat_sent_at <= 0.3 / 4 + 1e-6
    assert lease_end(story.state(1)) <= story.now + 0.3

    story.restart(1, short)
    story.live(5)
    leader = story.roles().index("leader") + 1
    term = story.cores[leader].term
    for node in {1, 2, 3} - {leader}:
        story.restart(node, TIMING)
        story.live(60)
        assert story.cores[leader].role is Role.LEADER
        assert story.cores[leader].term == term
    assert story.state(leader).heartbeat_at - story.state(leader).heartbeat_sent_at == pytest.approx(0.05)


def test_no_lease_outlives_its_promises_whatever_the_timeouts() -> None:
    """A leader with short timeouts counts on less than it was promised, one with long ones on no more."""
    short = Timing(lower=0.3, upper=0.5, heartbeat=0.05, stop_grace=2.0)
    for of_leader, of_others in ((short, TIMING), (TIMING, short)):
        story = Story()
        for node in story.ids:
            story.restart(node, of_leader if node == 1 else of_others)
        story.elect(1)
        story.live(20)
        shortest = min(of_leader.lower, of_others.lower)
        assert story.now < lease_end(story.state(1)) <= story.now + shortest * 0.99 + 1e-6
        end = lease_end(story.state(1))
        story.live(0.01, without={1})
        for node in (2, 3):
            assert story.state(node).refuse_until >= end


def test_an_answer_that_depends_on_the_disk_waits_for_it() -> None:
    story = _elected()
    story.stick_disk(2)
    story.deliver(AppendEntriesRequest)
    assert not story.waiting(AppendEntriesResponse, sender=2)
    assert story.waiting(AppendEntriesResponse, sender=3)
    story.free_disk(2)
    assert story.waiting(AppendEntriesResponse, sender=2)


# --- check-quorum -------------------------------------------------------------------------------------------


def test_a_leader_that_no_quorum_answers_steps_down_by_itself() -> None:
    story = Story()
    story.elect(1)
    story.live(5)
    story.live(TIMING.lower + 0.1, cut_off={1})
    (down,) = story.events(1, SteppedDown)
    assert down.term == 1
    assert (story.roles()[0], story.cores[1].leader) == ("follower", 0)


def test_a_leader_that_a_quorum_answers_stays() -> None:
    story = Story(nodes=5)
    story.elect(1)
    story.live(60, cut_off={4, 5})
    assert story.roles()[0] == "leader"


def test_a_new_leader_has_a_lower_election_timeout_for_its_first_lease() -> None:
    story = _elected()
    elected_at = story.now
    story.live(TIMING.lower - 0.01, without={2, 3})
    assert story.roles()[0] == "leader"
    story.live(0.02, without={2, 3})
    assert story.roles()[0] == "follower"
    assert story.now - elected_at == pytest.approx(TIMING.lower + 0.01)


def test_a_lost_lease_is_not_got_back_in_the_same_term() -> None:
    """The followers promise less than the leader would wait for its first lease."""
    story = Story()
    for node in (2, 3):
        story.restart(node, Timing(lower=1.0, upper=4.0))
    story.elect(1)
    assert story.work(1) == ["StartWork"]
    heartbeat = story.state(1).heartbeat_at
    story.live(0.9, cut_off={1})
    late = [AppendEntriesResponse(1, number, 1.0, 0, last_choice=False) for number in range(1, 20)]
    story.wait(0.2)
    assert story.now > heartbeat
    for answer in late:
        story.receive(1, 2, answer)
    assert story.roles()[0] == "follower"
    assert story.work(1) == ["StartWork", "EndWork"]


def test_nobody_is_elected_while_a_lease_runs() -> None:
    story = Story()
    story.elect(1)
    story.live(2.0)
    end = lease_end(story.state(1))
    for node in (2, 3):
        story.receive(node, 5 - node, PreVoteRequest(2, 1, 1, 1))
        story.receive(node, 5 - node, VoteRequest(2, 1, 1, transfer=False))
    assert not any(answer.granted for answer in story.waiting(VoteResponse))
    story.drop()
    story.live(20, without={1})
    assert "leader" in story.roles()[1:]
    winner = story.roles().index("leader", 1) + 1
    assert story.state(winner).leader_since > end


# --- heartbeats ---------------------------------------------------------------------------------------------


def test_an_unanswered_heartbeat_is_sent_again_to_who_did_not_answer() -> None:
    story = _elected()
    sent_at = story.now
    story.deliver(AppendEntriesRequest, to=2)
    story.deliver(AppendEntriesResponse)
    story.drop()
    story.fire(1)
    assert story.now == pytest.approx(sent_at + TIMING.heartbeat / 5)
    assert [letter.to for letter in story.post] == [3]


def test_who_has_been_silent_for_long_gets_only_the_regular_heartbeats() -> None:
    story = Story()
    story.elect(1)
    story.live(10, without={3})
    sent = []
    until = story.now + 4 * TIMING.heartbeat
    while story.wake_at[1] <= until:
        story.fire(1)
        sent += story.take(AppendEntriesRequest, to=3)
        story.deliver()
        story.deliver()
    assert len(sent) == 4


def test_a_heartbeat_of_an_older_term_is_refused() -> None:
    story = Story()
    story.elect(1)
    story.change_disk(2, term=8)
    story.restart(2)
    story.receive(2, 1, AppendEntriesRequest(1, 5, 6.0, 0, 0, 0))
    (refusal,) = story.waiting(AppendEntriesResponse)
    assert (refusal.term, refusal.promise) == (8, 0.0)
    assert story.cores[2].leader == 0
