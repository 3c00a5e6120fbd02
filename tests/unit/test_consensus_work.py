"""Leader work, told as stories: it has ended before any other node starts leader work."""

import pytest

from tests.unit.story import CLAIM, LEASE, TIMING, Story
from trioraft.consensus import Timing
from trioraft.consensus.events import EndWork, ExtendWork, StartWork
from trioraft.consensus.lease import contact_end
from trioraft.consensus.timing import CLOCK_DRIFT, WORK_MARGIN
from trioraft.messages import (
    AppendEntriesRequest,
    AppendEntriesResponse,
    EntryKind,
    PreVoteResponse,
    VoteRequest,
    VoteResponse,
)


def test_the_first_leader_starts_work_as_soon_as_it_has_a_lease() -> None:
    story = Story()
    story.elect(1)
    (start,) = story.events(1, StartWork)
    assert start.token == 1
    assert start.deadline == pytest.approx(story.now + LEASE)


def test_work_starts_only_when_its_claim_is_on_disk() -> None:
    story = Story()
    story.fire(1)
    while not story.waiting(VoteResponse):
        story.deliver()
    story.stick_disk(1)
    story.exchange()
    assert (story.roles()[0], story.work(1)) == ("leader", [])
    story.free_disk(1)
    assert story.work(1) == ["StartWork"]
    assert story.disk[1].work == pytest.approx(CLAIM)


def test_each_renewal_of_the_lease_extends_the_work() -> None:
    story = Story()
    story.elect(1)
    story.live(3 * TIMING.heartbeat)
    deadlines = [event.deadline for event in story.events(1, ExtendWork)]
    assert len(deadlines) == 3
    assert deadlines == sorted(deadlines)
    assert deadlines[-1] == pytest.approx(story.state(1).heartbeat_at - TIMING.heartbeat + LEASE)


def test_work_is_told_once_a_heartbeat_however_often_the_lease_is_renewed() -> None:
    story = Story()
    story.elect(1)
    began, told = story.now, 0
    (start,) = story.events(1, StartWork)
    known = start.deadline
    while story.now < began + 10 * TIMING.heartbeat:
        story.propose(1, "x")
        story.live(TIMING.heartbeat / 20)
        for event in story.events(1, ExtendWork)[told:]:
            assert story.now < known - TIMING.heartbeat, "it is told long before what it knows has run out"
            assert event.deadline > known
            known, told = event.deadline, told + 1
        assert contact_end(story.state(1)) - known < TIMING.heartbeat
    assert 9 <= len(story.events(1, ExtendWork)) <= 11


def test_work_is_told_of_what_little_was_renewed_before_the_lease_that_it_knows_ends() -> None:
    story = Story()
    story.elect(1)
    story.live(TIMING.heartbeat / 2)
    story.propose(1, "x")
    story.live(0.01)
    (start,), end = story.events(1, StartWork), contact_end(story.state(1))
    assert story.events(1, ExtendWork) == []
    assert start.deadline < end < start.deadline + TIMING.heartbeat
    story.live(start.deadline - story.now, cut_off={1})
    assert [event.deadline for event in story.events(1, ExtendWork)] == [end]
    assert story.roles()[0] == "leader"


@pytest.mark.parametrize("first", ["timer", "proposal"])
def test_a_leader_that_stood_still_until_its_work_ended_by_itself_steps_down_although_it_has_a_lease(
    first: str,
) -> None:
    story = Story()
    story.elect(1)
    story.live(TIMING.heartbeat / 2)
    story.propose(1, "x")
    story.live(0.01)
    (start,), lease = story.events(1, StartWork), contact_end(story.state(1))
    assert start.deadline < lease, "the lease was renewed, and work was not told yet"
    story.wait((start.deadline + lease) / 2 - story.now)
    if first == "timer":
        story.tick(1)
    else:
        assert story.cores[1].propose(EntryKind.COMMAND, b"y", story.now) is None
        story.settle(1)
    assert story.roles()[0] == "follower"
    assert story.work(1)[-1] == "EndWork"


def test_work_is_told_to_end_when_its_leader_steps_down() -> None:
    story = Story()
    story.elect(1)
    story.live(TIMING.lower + 1, cut_off={1})
    assert story.work(1) == ["StartWork", "EndWork"]
    story.receive(1, 2, AppendEntriesRequest(2, 1, 6.0, 0, 0, 0))
    assert len(story.events(1, EndWork)) == 1


def test_a_heartbeat_says_how_long_after_it_work_may_run() -> None:
    story = Story()
    story.elect(1)
    story.fire(1)
    claims = {message.work for message in story.waiting(AppendEntriesRequest)}
    assert claims == {TIMING.lower + TIMING.stop_grace + WORK_MARGIN}


# --- the next leader waits ----------------------------------------------------------------------------------


def test_a_new_leader_waits_for_what_remains_of_the_old_ones_work() -> None:
    story = Story()
    story.elect(1)
    story.live(10)
    heard_at = max(story.state(2).work_until, story.state(3).work_until) - CLAIM
    story.crash(1)
    story.elect(2)
    elected_at = story.now
    assert elected_at < heard_at + CLAIM, "the election was faster than the work is slow"
    assert story.work(2) == []
    story.live(heard_at + CLAIM - story.now - 0.001)
    assert story.work(2) == []
    story.live(CLAIM * CLOCK_DRIFT + 0.01)
    (start,) = story.events(2, StartWork)
    assert start.token == 2
    assert story.now < start.deadline < story.now + LEASE


def test_the_largest_remainder_in_the_quorum_counts() -> None:
    story = Story(nodes=5)
    story.elect(1)
    story.crash(1)
    story.live(1.0, without={3, 4, 5})
    story.fire(2)
    asked_at = story.now
    for node in (3, 4):
        story.receive(2, node, PreVoteResponse(term=1, round=story.state(2).round_number, granted=True))
    story.drop()
    story.receive(2, 3, VoteResponse(term=2, granted=True, work=4.0, work_term=1))
    story.receive(2, 4, VoteResponse(term=2, granted=True, work=30.0, work_term=0))
    assert story.roles()[1] == "leader"
    assert story.state(2).work_until == pytest.approx(asked_at + 30.0 * (1 + CLOCK_DRIFT))


def test_a_voter_assumes_after_a_restart_that_the_heartbeat_has_just_come() -> None:
    story = Story()
    story.elect(1)
    story.live(5)
    story.wait(60.0)
    story.restart(2)
    story.wait(TIMING.lower + 0.001)
    story.receive(2, 3, VoteRequest(2, 1, 1, transfer=False))
    (vote,) = story.waiting(VoteResponse)
    assert vote.granted
    assert vote.work == pytest.approx(CLAIM - TIMING.lower - 0.001)


def test_a_leader_that_restarts_assumes_that_its_own_work_still_runs() -> None:
    story = Story()
    story.elect(1)
    story.live(5)
    story.restart(1)
    assert story.state(1).work_until == pytest.approx(story.now + CLAIM)


def test_a_leader_that_still_waits_claims_what_it_waits_for() -> None:
    """So that the one after it waits too, even if it has never heard of the first."""
    story = Story(nodes=5)
    grave = Timing(lower=3.0, upper=5.0, heartbeat=0.5, stop_grace=60.0)
    story.restart(1, grave)
    story.elect(1)
    story.live(1.0, without={4, 5})
    until = max(story.state(node).work_until for node in (2, 3))
    story.crash(1)
    story.wait(TIMING.upper)
    story.fire(2)
    story.exchange(among={2, 3, 4})  # 3 remembers the work of 1, and node 4 does not
    assert (story.roles()[1], story.work(2)) == ("leader", [])
    assert story.state(4).work_until >= until

    story.crash(2)
    story.crash(3)
    story.wait(TIMING.upper)
    story.start(2)
    story.wait(TIMING.upper)
    story.elect(4)
    assert story.work(4) == []
    assert story.state(4).work_until >= until


def test_a_newer_leader_replaces_the_claim_of_an_older_one() -> None:
    story = Story()
    story.receive(3, 1, AppendEntriesRequest(1, 1, 40.0, 0, 0, 0))
    assert story.state(3).work_until == pytest.approx(story.now + 40.0 * (1 + CLOCK_DRIFT))
    story.receive(3, 2, AppendEntriesRequest(2, 1, 6.0, 0, 0, 0))
    assert story.state(3).work_until == pytest.approx(story.now + 6.0 * (1 + CLOCK_DRIFT))
    assert story.disk[3].work == pytest.approx(6.06)
    assert story.disk[3].work_term == 2


def test_a_heartbeat_that_was_overtaken_does_not_bring_an_old_claim_back() -> None:
    story = Story()
    story.receive(3, 1, AppendEntriesRequest(1, 2, 0.0, 0, 0, 0))
    story.receive(3, 1, AppendEntriesRequest(1, 1, 6.0, 0, 0, 0))
    assert story.state(3).work_until == story.now


def test_the_length_of_a_claim_is_written_once_and_not_at_each_heartbeat() -> None:
    story = Story()
    story.elect(1)
    story.live(1)
    writes = dict(story.writes)
    story.live(60)
    assert story.writes == writes


# --- whose own work still runs ------------------------------------------------------------------------------


def test_who_is_elected_again_waits_until_its_own_work_has_ended() -> None:
    story = Story()
    story.elect(1)
    story.live(TIMING.lower + 0.1, cut_off={1})
    assert story.work(1) == ["StartWork", "EndWork"]
    story.wait(60.0)
    story.tick(2)
    story.drop()
    story.elect(1)
    story.live(5)
    assert story.roles()[0] == "leader"
    assert story.work(1) == ["StartWork", "EndWork"]
    story.cores[1].work_ended(story.now)
    story.settle(1)
    assert story.work(1) == ["StartWork", "EndWork", "StartWork"]
    assert story.events(1, StartWork)[-1].token > story.events(1, StartWork)[0].token


def test_that_ones_own_work_has_ended_says_nothing_about_a_later_leaders() -> None:
    story = Story()
    story.elect(1)
    story.receive(1, 2, AppendEntriesRequest(2, 1, 6.0, 0, 0, 0))
    until = story.state(1).work_until
    story.cores[1].work_ended(story.now)
    story.settle(1)
    assert story.state(1).work_until == until > story.now


def test_who_knows_that_its_own_work_has_ended_says_so_with_its_vote() -> None:
    story = Story()
    story.elect(1)
    story.live(TIMING.lower + 0.1, cut_off={1})
    story.cores[1].work_ended(story.now)
    story.settle(1)
    story.receive(1, 2, VoteRequest(5, 1, 1, transfer=False))
    (vote,) = story.waiting(VoteResponse, sender=1)
    assert (vote.granted, vote.work, vote.work_term) == (True, 0.0, 1)


def test_work_does_not_start_without_a_lease() -> None:
    story = Story()
    story.fire(1)
    while story.roles()[0] != "leader":
        story.deliver()
    story.drop()
    story.live(1.0, without={2, 3})
    assert story.work(1) == []
    story.receive(1, 2, AppendEntriesResponse(1, 1, 0.5, 0, last_choice=False))
    assert story.work(1) == [], "what that answer promised has passed already"


def test_tokens_only_grow() -> None:
    story = Story()
    tokens = []
    for turn in range(6):
        leader = turn % 3 + 1
        story.wait(60.0)
        story.elect(leader)
        tokens += [event.token for event in story.events(leader, StartWork)[-1:]]
        story.restart(leader)
    assert tokens == sorted(set(tokens))
    assert len(tokens) == 6
