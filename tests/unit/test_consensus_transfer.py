"""Transfers, told as stories: stopping a leader costs a round trip, and never two leaders' work at a time."""

import pytest

from tests.unit.story import CLAIM, TIMING, Story
from trioraft.clock import LONG_AGO
from trioraft.consensus import lease
from trioraft.consensus.events import EndWork, StartWork, SteppedDown
from trioraft.consensus.transfer import LAST_CHOICE
from trioraft.messages import AppendEntriesRequest, TimeoutNow, VoteRequest, VoteResponse


def _led(nodes: int = 3) -> Story:
    """Let node 1 lead for a while."""
    story = Story(nodes)
    story.elect(1)
    story.live(5)
    return story


def _transfer(story: Story, target: int = 0) -> str | None:
    refusal = story.cores[1].transfer(target, story.now)
    story.settle(1)
    return refusal


def _end_work(story: Story, node: int = 1) -> None:
    story.cores[node].work_ended(story.now)
    story.settle(node)


def test_a_leader_ends_its_work_first_and_still_serves() -> None:
    story = _led()
    assert _transfer(story, 2) is None
    assert len(story.events(1, EndWork)) == 1
    assert not story.waiting(TimeoutNow)
    story.live(1.0)
    assert story.roles()[0] == "leader"
    assert lease.lease_end(story.state(1)) > story.now


def test_then_it_offers_and_holds_no_lease_from_that_moment_on() -> None:
    story = _led()
    _transfer(story, 2)
    _end_work(story)
    assert story.waiting(TimeoutNow, to=2) == [TimeoutNow(term=1, work=0.0)]
    assert lease.lease_end(story.state(1)) == LONG_AGO
    story.exchange(among={1, 3})
    assert lease.lease_end(story.state(1)) == LONG_AGO, "whoever answers its heartbeats now"


def test_the_successor_leads_and_works_after_a_round_trip() -> None:
    story = _led()
    _transfer(story, 2)
    _end_work(story)
    offered_at = story.now
    story.drop(AppendEntriesRequest)
    story.deliver(TimeoutNow)
    assert story.roles()[1] == "candidate", "without a pre-vote"
    story.deliver(VoteRequest)
    assert [vote.granted for vote in story.waiting(VoteResponse)] == [True, True], "although they heard the leader"
    story.deliver(VoteResponse)
    story.exchange()
    assert story.roles() == ["follower", "leader", "follower"]
    assert story.now == offered_at
    assert story.events(2, StartWork)[0].token == 2, "no wait: the old leader said that all work has ended"
    assert {core.term for core in story.cores.values()} == {2}


def test_the_best_successor_is_one_that_answers() -> None:
    story = _led()
    story.live(10, without={2})
    assert _transfer(story) is None
    _end_work(story)
    assert {letter.to for letter in story.take(TimeoutNow)} == {3}


@pytest.mark.parametrize(
    ("asked", "target", "reason"),
    [
        (2, 0, "not the leader"),
        (1, 1, "leads already"),
        (1, 77, "not a voter"),
        (1, 3, "has not answered"),
    ],
)
def test_a_transfer_that_cannot_be_is_refused_with_its_reason(asked: int, target: int, reason: str) -> None:
    story = _led()
    story.live(10, without={3})
    refusal = story.cores[asked].transfer(target, story.now)
    assert refusal is not None
    assert reason in refusal
    assert not story.events(asked, EndWork)


def test_a_second_transfer_is_refused_while_one_is_under_way() -> None:
    story = _led()
    assert _transfer(story, 2) is None
    refusal = _transfer(story, 3)
    assert refusal is not None
    assert "already" in refusal


def test_an_alone_leader_cannot_give_its_leadership_away() -> None:
    story = Story(nodes=1)
    story.elect(1)
    assert _transfer(story) is not None
    assert story.roles() == ["leader"]


def test_a_lost_offer_is_repeated_and_then_made_to_somebody_else() -> None:
    story = _led()
    _transfer(story, 2)
    _end_work(story)
    offered: list[int] = []
    while 3 not in offered:
        offered += [letter.to for letter in story.take(TimeoutNow)]
        story.fire(1)
        story.drop(AppendEntriesRequest, to=2)
        story.deliver(AppendEntriesRequest)
    assert offered.count(2) > 1
    while not story.waiting(TimeoutNow, to=3):
        story.fire(1)
    story.deliver(TimeoutNow)
    story.exchange(among={1, 3})
    assert story.roles() == ["follower", "follower", "leader"]


def test_who_finds_no_successor_steps_down_and_does_no_work_in_that_term() -> None:
    story = _led()
    _transfer(story, 2)
    _end_work(story)
    for _ in range(200):
        story.drop(TimeoutNow)
        if story.roles()[0] != "leader":
            break
        story.fire(1)
        story.drop(TimeoutNow)
        story.exchange()
    (down,) = story.events(1, SteppedDown)
    assert "in time" in down.reason
    assert story.work(1) == ["StartWork", "EndWork"]


def test_a_late_offer_is_ignored_in_a_newer_term() -> None:
    story = _led()
    _transfer(story, 2)
    _end_work(story)
    (offer,) = story.take(TimeoutNow)
    story.drop()
    story.crash(1)
    story.wait(TIMING.upper)
    story.elect(3)
    assert story.cores[2].term == 2
    story.hand_over(offer)
    assert story.roles()[1] == "follower"
    assert story.cores[2].term == 2


def test_an_offer_counts_only_from_the_leader_that_is_followed_and_only_once() -> None:
    story = _led()
    story.receive(2, 3, TimeoutNow(term=1, work=0.0))
    assert story.roles()[1] == "follower"
    story.receive(2, 1, TimeoutNow(term=1, work=0.0))
    story.receive(2, 1, TimeoutNow(term=1, work=0.0))
    assert story.cores[2].term == 2


def test_the_bypass_is_valid_in_the_term_directly_after_and_in_no_other() -> None:
    story = _led()
    story.receive(3, 2, VoteRequest(3, 1, 1, transfer=True))
    (vote,) = story.take(VoteResponse)
    assert (vote.message.granted, vote.message.term) == (False, 1)
    story.receive(3, 2, VoteRequest(2, 1, 1, transfer=True))
    assert story.waiting(VoteResponse)[0].granted


def test_an_answer_to_a_bypass_is_repeated_when_it_was_lost() -> None:
    story = _led()
    for _ in range(2):
        story.receive(3, 2, VoteRequest(2, 1, 1, transfer=True))
        assert story.take(VoteResponse)[0].message.granted


def test_a_leader_that_made_no_offer_is_not_unseated_by_a_bypass() -> None:
    story = _led()
    story.receive(1, 2, VoteRequest(2, 1, 1, transfer=True))
    assert not story.waiting(VoteResponse)[0].granted
    assert (story.roles()[0], story.cores[1].term) == ("leader", 1)


def test_a_failed_successor_begins_anew_with_a_pre_vote_and_without_the_bypass() -> None:
    story = _led()
    _transfer(story, 2)
    _end_work(story)
    story.deliver(TimeoutNow)
    story.drop()
    while story.state(2).round is not None:
        story.fire(2)
        assert all(request.transfer for request in story.waiting(VoteRequest, sender=2))
        story.drop()
    story.now = max(story.now, story.state(2).election_deadline)
    story.tick(2)
    assert story.roles()[1] == "pre-candidate"
    assert not story.waiting(VoteRequest)


def test_who_is_elected_after_a_failed_transfer_waits_unless_a_voter_knows_better() -> None:
    """The claim of 0 goes with the heartbeat before the offer, so whoever heard that one knows."""
    story = _led()
    heard_at = story.state(3).work_until - CLAIM
    _transfer(story, 2)
    _end_work(story)
    story.deliver(AppendEntriesRequest, to=2)
    story.drop()
    assert story.state(2).work_until == story.now
    assert story.disk[2].work == 0.0
    story.crash(1)
    story.wait(TIMING.lower)
    story.elect(3)
    assert story.work(3) == [], "node 3 only knows the claim before"
    assert story.state(3).work_until == pytest.approx(heard_at + CLAIM, abs=0.01)


def test_an_offer_tells_what_remains_of_the_work_of_earlier_leaders() -> None:
    story = Story()
    story.receive(1, 3, AppendEntriesRequest(1, 1, 40.0, 0, 0, 0))
    until = story.state(1).work_until
    story.crash(3)
    story.wait(TIMING.upper)
    story.elect(1)
    assert story.work(1) == []
    story.live(1.0)
    assert _transfer(story, 2) is None
    (offer,) = story.waiting(TimeoutNow)
    assert offer.work == pytest.approx(until - story.now)
    story.exchange()
    assert (story.roles()[1], story.work(2)) == ("leader", [])
    assert story.state(2).work_until >= until


# --- leader work that fails ---------------------------------------------------------------------------------


def test_a_leader_whose_work_failed_hands_over_and_is_the_last_choice_for_a_minute() -> None:
    story = _led()
    story.cores[1].work_failed(story.now)
    story.settle(1)
    assert len(story.events(1, EndWork)) == 1
    _end_work(story)
    story.exchange()
    (winner,) = (node for node in (2, 3) if story.roles()[node - 1] == "leader")
    story.live(1.0)
    other = 5 - winner
    assert story.state(winner).followers[1].last_choice
    story.cores[winner].transfer(0, story.now)
    story.settle(winner)
    _end_work(story, winner)
    assert {letter.to for letter in story.take(TimeoutNow)} == {other}
    story.live(LAST_CHOICE)
    leader = story.roles().index("leader") + 1
    assert not (leader != 1 and story.state(leader).followers[1].last_choice)


def test_a_leader_whose_work_failed_steps_down_when_nobody_else_can_lead() -> None:
    story = Story(nodes=1)
    story.elect(1)
    story.cores[1].work_failed(story.now)
    story.settle(1)
    assert story.roles() == ["follower"]
    assert story.wake_at[1] >= story.now + TIMING.lower + TIMING.upper
