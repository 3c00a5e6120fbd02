"""Elections, told as stories: pre-vote, vote, stickiness, and what a bad network does to them."""

from itertools import pairwise

import pytest

from tests.unit.story import CLUSTER, TIMING, Story
from trioraft.consensus import Role, Timing
from trioraft.consensus.events import BecameLeader, SteppedDown
from trioraft.consensus.roles import retry_soon
from trioraft.messages import (
    AppendEntriesRequest,
    AppendEntriesResponse,
    PreVoteRequest,
    PreVoteResponse,
    VoteRequest,
    VoteResponse,
)

# --- pre-vote (thesis 9.6) ----------------------------------------------------------------------------------


def test_a_node_asks_before_it_raises_the_term() -> None:
    story = Story()
    story.fire(1)
    assert story.roles() == ["pre-candidate", "follower", "follower"]
    assert story.waiting(PreVoteRequest, to=2)[0].term == 1
    assert story.disk[1].term == 0

    story.deliver(PreVoteRequest)
    assert [answer.granted for answer in story.waiting(PreVoteResponse)] == [True, True]
    assert story.writes == {1: 0, 2: 0, 3: 0}, "a pre-vote is kept nowhere"

    story.deliver(PreVoteResponse)
    assert story.roles() == ["candidate", "follower", "follower"]
    assert (story.disk[1].term, story.disk[1].voted_for) == (1, 1)

    story.deliver(VoteRequest)
    assert (story.disk[2].term, story.disk[2].voted_for) == (1, 1)
    story.deliver(VoteResponse)
    assert story.roles() == ["leader", "follower", "follower"]
    assert story.events(1, BecameLeader) == [BecameLeader(term=1)]

    story.deliver(AppendEntriesRequest)
    assert [story.cores[node].leader for node in story.ids] == [1, 1, 1]


def test_a_node_that_was_cut_off_neither_raises_the_term_nor_disturbs_the_leader() -> None:
    story = Story()
    story.elect(1)
    story.live(60, cut_off={3})
    assert (story.cores[3].role, story.cores[3].term) == (Role.PRE_CANDIDATE, 1)
    assert story.state(3).round_number > 10, "it asked again and again"
    story.live(20)
    assert story.roles() == ["leader", "follower", "follower"]
    assert {core.term for core in story.cores.values()} == {1}
    assert not story.events(1, SteppedDown)


def test_a_node_back_from_a_pause_does_not_raise_the_term() -> None:
    story = Story()
    story.elect(1)
    story.live(10, without={3})
    story.tick(3)  # it runs again, and its timer is the first thing it sees
    story.live(10)
    assert story.roles() == ["leader", "follower", "follower"]
    assert story.cores[3].term == 1


def test_a_quorum_of_pre_votes_must_come_from_the_same_round() -> None:
    story = Story()
    story.fire(1)
    story.deliver(PreVoteRequest)
    late = story.take(PreVoteResponse)
    story.fire(1)
    while story.state(1).round is not None:
        story.fire(1)  # asks again, then gives the round up
    story.drop()
    story.fire(1)
    assert story.state(1).round_number == 2
    for letter in late:
        story.hand_over(letter)
    assert story.roles()[0] == "pre-candidate"


def test_a_pre_candidate_takes_over_a_newer_term_from_a_refusal_and_asks_again_soon() -> None:
    story = Story()
    story.change_disk(2, term=7)
    story.restart(2)
    story.fire(1)
    story.deliver(PreVoteRequest, to=2)
    (refusal,) = story.waiting(PreVoteResponse, to=1)
    assert (refusal.granted, refusal.term) == (False, 7)

    story.deliver(PreVoteResponse)
    assert (story.roles()[0], story.disk[1].term) == ("follower", 7)
    assert story.wake_at[1] - story.now <= TIMING.heartbeat


# --- one vote in each term (Raft, section 5.2) --------------------------------------------------------------


def test_the_first_candidate_of_a_term_gets_the_vote() -> None:
    story = Story()
    request = VoteRequest(term=4, last_log_index=0, last_log_term=0, transfer=False)
    story.receive(3, 1, request)
    story.receive(3, 2, request)
    story.receive(3, 1, request)
    assert [(a.granted, a.term) for a in story.waiting(VoteResponse)] == [(True, 4), (False, 4), (True, 4)]


def test_a_vote_outlives_a_restart() -> None:
    story = Story()
    request = VoteRequest(term=4, last_log_index=0, last_log_term=0, transfer=False)
    story.receive(3, 1, request)
    story.drop()
    story.restart(3)
    story.receive(3, 2, request)
    story.receive(3, 1, request)
    assert [answer.granted for answer in story.waiting(VoteResponse)] == [False, True]


def test_a_vote_leaves_only_when_it_is_on_disk() -> None:
    story = Story()
    story.stick_disk(3)
    story.receive(3, 1, VoteRequest(term=4, last_log_index=0, last_log_term=0, transfer=False))
    assert story.post == []
    story.free_disk(3)
    assert story.waiting(VoteResponse)[0].granted
    assert story.disk[3].voted_for == 1


def test_a_vote_that_was_not_on_disk_at_a_crash_was_never_given() -> None:
    story = Story()
    story.stick_disk(3)
    story.receive(3, 1, VoteRequest(term=4, last_log_index=0, last_log_term=0, transfer=False))
    story.restart(3)
    assert story.post == []
    story.receive(3, 2, VoteRequest(term=4, last_log_index=0, last_log_term=0, transfer=False))
    assert story.waiting(VoteResponse)[0].granted


def test_a_candidate_counts_its_own_vote_only_when_it_is_on_disk() -> None:
    story = Story(nodes=2)
    story.fire(1)
    story.deliver(PreVoteRequest)
    story.stick_disk(1)
    story.deliver(PreVoteResponse)
    assert (story.roles()[0], story.post) == ("candidate", [])
    # the vote of node 2, however it came to be given
    story.receive(1, 2, VoteResponse(term=1, granted=True, work=0.0, work_term=0))
    assert story.roles()[0] == "candidate"
    story.free_disk(1)
    assert story.roles()[0] == "leader"


def test_votes_of_an_earlier_term_do_not_count() -> None:
    story = Story()
    story.change_disk(1, term=5)
    story.restart(1)
    story.fire(1)
    story.receive(1, 2, PreVoteResponse(term=5, round=1, granted=True))
    assert (story.roles()[0], story.cores[1].term) == ("candidate", 6)
    story.receive(1, 2, VoteResponse(term=5, granted=True, work=0.0, work_term=0))
    assert story.roles()[0] == "candidate"
    story.receive(1, 2, VoteResponse(term=6, granted=True, work=0.0, work_term=0))
    assert story.roles()[0] == "leader"


def test_the_same_vote_twice_is_one_vote() -> None:
    story = Story(nodes=5)
    story.fire(1)
    for node in (2, 3):
        story.receive(1, node, PreVoteResponse(term=0, round=1, granted=True))
    for _ in range(3):
        story.receive(1, 2, VoteResponse(term=1, granted=True, work=0.0, work_term=0))
    assert story.roles()[0] == "candidate"


def test_a_candidate_follows_the_leader_of_its_term() -> None:
    story = Story()
    story.fire(1)
    story.receive(1, 2, PreVoteResponse(term=0, round=1, granted=True))
    story.receive(1, 3, AppendEntriesRequest(1, 1, 6.0, 0, 0, 0))
    assert (story.roles()[0], story.cores[1].leader) == ("follower", 3)


def test_a_split_vote_is_tried_again_within_a_heartbeat_in_a_newer_term() -> None:
    story = Story(nodes=2)
    for node in (1, 2):
        story.fire(node)
    story.deliver(PreVoteRequest)
    story.deliver(PreVoteResponse)
    assert story.roles() == ["candidate", "candidate"]
    story.deliver(VoteRequest)
    split_at = story.now
    story.deliver(VoteResponse)
    assert story.roles() == ["pre-candidate", "pre-candidate"]
    assert all(due <= split_at + TIMING.heartbeat for due in story.wake_at.values())
    story.live(TIMING.upper)
    assert sorted(story.roles()) == ["follower", "leader"]


# --- stickiness (thesis 4.2.3) ------------------------------------------------------------------------------


@pytest.mark.parametrize("ask", [PreVoteRequest(5, 1, 1, 1), VoteRequest(5, 1, 1, transfer=False)])
def test_who_hears_a_leader_refuses_with_an_answer_that_names_its_own_term(
    ask: PreVoteRequest | VoteRequest,
) -> None:
    story = Story()
    story.elect(1)
    story.receive(2, 3, ask)
    story.receive(1, 3, ask)
    answers = [letter.message for letter in story.post if letter.to == 3]
    assert [(answer.granted, answer.term) for answer in answers] == [(False, 1), (False, 1)]
    assert {story.disk[node].term for node in (1, 2)} == {1}, "nor is the newer term taken over"


def test_who_has_not_heard_a_leader_for_a_lower_election_timeout_grants() -> None:
    story = Story()
    story.elect(1)
    story.wait(TIMING.lower - 0.001)
    story.receive(2, 3, PreVoteRequest(2, 1, 1, 1))
    assert not story.waiting(PreVoteResponse)[0].granted
    story.drop()
    story.wait(0.002)
    story.receive(2, 3, PreVoteRequest(2, 1, 1, 1))
    assert story.waiting(PreVoteResponse)[0].granted


def test_a_leader_that_sees_a_newer_term_in_an_answer_steps_down() -> None:
    story = Story()
    story.elect(1)
    story.change_disk(3, term=9)
    story.restart(3)
    story.fire(1)
    story.deliver(AppendEntriesRequest, to=3)
    (refusal,) = story.waiting(AppendEntriesResponse, sender=3)
    assert (refusal.term, refusal.promise) == (9, 0.0)
    story.deliver(AppendEntriesResponse, sender=3)
    assert (story.roles()[0], story.disk[1].term) == ("follower", 9)
    assert [event.term for event in story.events(1, SteppedDown)] == [1]


def test_a_restart_keeps_the_promise() -> None:
    story = Story()
    story.elect(1)
    story.wait(100.0)
    story.restart(2)
    assert story.disk[2].promise == TIMING.lower
    story.receive(2, 3, VoteRequest(2, 1, 1, transfer=False))
    assert not story.waiting(VoteResponse)[0].granted, "it may have heard from the leader just before it ended"
    story.drop()
    story.wait(TIMING.lower + 0.001)
    story.receive(2, 3, VoteRequest(2, 1, 1, transfer=False))
    assert story.waiting(VoteResponse)[0].granted


def test_a_restart_with_a_shorter_timeout_keeps_the_longer_promise() -> None:
    story = Story()
    story.elect(1)
    story.restart(2, Timing(lower=1.0, upper=1.5, heartbeat=0.2))
    assert story.wake_at[2] >= story.now + TIMING.lower
    story.wait(TIMING.lower - 0.001)
    story.receive(2, 3, VoteRequest(2, 1, 1, transfer=False))
    assert not story.waiting(VoteResponse)[0].granted


def test_a_node_does_not_stand_for_election_before_its_own_promise_has_passed() -> None:
    story = Story()
    story.elect(1)
    for _ in range(20):
        story.restart(2)
        assert story.wake_at[2] >= story.now + TIMING.lower


def test_the_first_election_after_the_own_formation_waits_for_nothing() -> None:
    story = Story(formed=False)
    story.live(TIMING.heartbeat * 4)
    formed_at = story.now
    assert "forming" not in story.roles()
    story.live(2 * TIMING.heartbeat)
    assert "leader" in story.roles()
    assert story.now - formed_at < TIMING.lower / 2


def test_a_start_without_any_promise_given_refuses_nothing() -> None:
    story = Story()
    story.receive(2, 3, VoteRequest(1, 1, 0, transfer=False))
    assert story.waiting(VoteResponse)[0].granted


# --- bad networks -------------------------------------------------------------------------------------------


def test_an_unanswered_request_is_sent_again_after_a_fifth_of_a_heartbeat() -> None:
    story = Story()
    story.fire(1)
    asked_at = story.now
    assert story.drop(PreVoteRequest) == 2
    story.fire(1)
    assert story.now == pytest.approx(asked_at + TIMING.heartbeat / 5)
    assert story.drop(PreVoteRequest) == 2


def test_a_request_is_sent_again_only_to_those_who_have_not_answered() -> None:
    story = Story(nodes=5)
    story.fire(1)
    story.deliver(PreVoteRequest, to=2)
    story.deliver(PreVoteResponse)
    story.drop()
    story.fire(1)
    assert sorted(letter.to for letter in story.post) == [3, 4, 5]


def test_a_request_is_sent_again_less_and_less_often_but_once_a_heartbeat() -> None:
    story = Story()
    story.state(1).inconclusive = 10  # now a round is as long as it gets
    story.fire(1)
    sent_at = []
    while story.waiting(PreVoteRequest):
        sent_at.append(story.now)
        story.drop()
        story.fire(1)
    pauses = [after - before for before, after in pairwise(sent_at)]
    fifth = TIMING.heartbeat / 5
    assert pauses == pytest.approx([fifth, 2 * fifth, 4 * fifth, *[TIMING.heartbeat] * 4])
    assert story.now == pytest.approx(sent_at[0] + TIMING.lower), "the round is over"


def test_only_an_answer_to_what_was_sent_once_measures_the_network() -> None:
    story = Story(nodes=5)
    story.fire(1)
    story.deliver(PreVoteRequest, to=2)
    late = story.take(PreVoteRequest, to=3)
    story.drop(PreVoteRequest)
    story.wait(0.05)
    story.deliver(PreVoteResponse)
    story.fire(1)
    story.deliver(PreVoteRequest, to=3)
    for letter in late:
        story.hand_over(letter)
    story.deliver(PreVoteResponse)
    assert story.state(1).round_trips == {2: pytest.approx(0.05)}, "who knows which one the third answered"


def test_on_a_slow_network_a_request_is_sent_again_after_two_round_trips() -> None:
    story = Story()
    story.elect(1)
    for _ in range(60):  # heartbeats that take 0.2 s there and back
        story.fire(1)
        story.deliver(AppendEntriesRequest)
        story.wait(0.2)
        story.deliver(AppendEntriesResponse)
    story.now = story.state(1).heartbeat_at
    story.tick(1)
    sent_at = story.now
    resend_at = min(follower.resend_at for follower in story.state(1).followers.values())
    assert resend_at - sent_at == pytest.approx(0.4, rel=0.05)


def test_many_voters_that_would_all_begin_an_election_do_not_begin_it_at_once() -> None:
    story = Story(51)

    def pauses(inconclusive: int) -> list[float]:
        for node in story.ids:
            story.state(node).inconclusive = inconclusive
            retry_soon(story.state(node), story.now)
        return sorted(story.state(node).election_deadline - story.now for node in story.ids)

    assert 0.9 * 0.52 < pauses(0)[-1] <= 0.53
    assert 4 * 0.52 < pauses(4)[-1] <= 16 * 0.53
    assert pauses(9)[-1] <= 16 * 0.53


def test_an_inconclusive_round_is_followed_by_another_within_a_heartbeat() -> None:
    story = Story()
    story.fire(1)
    while story.state(1).round is not None:
        story.drop()
        story.fire(1)
    ended_at = story.now
    story.fire(1)
    assert story.now - ended_at <= TIMING.heartbeat
    assert story.waiting(PreVoteRequest), "and begins with a pre-vote"


def test_a_round_ends_at_once_when_a_quorum_has_refused() -> None:
    story = Story()
    story.fire(1)
    asked_at = story.now
    for node in (2, 3):
        story.receive(1, node, PreVoteResponse(term=0, round=1, granted=False))
    assert story.state(1).round is None
    assert story.wake_at[1] <= asked_at + TIMING.heartbeat


def test_what_another_cluster_says_and_what_a_stranger_answers_changes_nothing() -> None:
    """A stranger's requests are taken: it may be a member, and this node does not know yet (thesis 4.1)."""
    story = Story()
    story.receive(1, 99, VoteResponse(5, granted=True, work=0.0, work_term=0))
    story.receive(1, 99, PreVoteResponse(term=5, round=1, granted=True))
    story.cores[1].receive(2, CLUSTER + 1, VoteRequest(5, 1, 1, transfer=False), story.now)
    story.settle(1)
    assert story.post == []
    assert story.disk[1].term == 0


# --- who cannot lead ----------------------------------------------------------------------------------------


def test_a_leader_that_was_paused_steps_down_before_it_does_anything_else() -> None:
    story = Story()
    story.elect(1)
    story.drop()
    story.wait(10.0)
    story.receive(1, 2, PreVoteRequest(2, 1, 1, 1))
    assert story.roles()[0] == "follower"
    assert story.waiting(PreVoteResponse, sender=1)[0].granted, "it has no lease that could forbid it"
    assert story.cores[1].term == 1


def test_a_leader_whose_disk_is_stuck_steps_down_after_a_lower_election_timeout() -> None:
    story = Story()
    story.fire(1)
    for kind in (PreVoteRequest, PreVoteResponse, VoteRequest):
        story.deliver(kind)
    story.stick_disk(1)
    story.deliver(VoteResponse)
    assert story.roles()[0] == "leader"
    story.live(TIMING.lower - 0.1)
    assert story.roles()[0] == "leader", "heartbeats and their answers do not wait for the leader's disk"
    assert story.work(1) == [], "leader work waits until its claim is on disk"
    story.live(0.2)
    (down,) = story.events(1, SteppedDown)
    assert "disk" in down.reason


def test_a_leader_whose_disk_ends_write_after_write_goes_on_leading() -> None:
    story = Story()
    story.elect(1)
    story.stick_disk(1)
    story.propose(1, "a")
    for command in "bcde":
        story.live(TIMING.lower * 0.7)
        story.propose(1, command)
        story.write_one(1)
    assert story.roles()[0] == "leader", "each answer came in time; what was proposed meanwhile had to wait for two"
    story.live(TIMING.lower + 0.1)
    assert story.roles()[0] != "leader"


def test_a_node_whose_disk_is_stuck_does_not_stand_for_election() -> None:
    story = Story()
    story.stick_disk(1)
    story.receive(1, 2, VoteRequest(1, 1, 0, transfer=False))
    story.wait(60.0)
    for _ in range(10):
        story.fire(1)
    assert (story.roles()[0], story.post) == ("follower", [])
    story.free_disk(1)
    story.drop()
    story.fire(1)
    assert story.waiting(PreVoteRequest)


def test_a_cluster_of_one_leads_itself() -> None:
    story = Story(nodes=1)
    story.elect(1)
    story.live(60)
    assert story.roles() == ["leader"]
    assert story.cores[1].term == 1
