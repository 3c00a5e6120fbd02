"""Leaderships that ended with their processes, told as stories: nobody waits for what has surely ended."""

import pytest

from tests.unit.story import CLAIM, TIMING, Letter, Story
from trioraft.consensus import Timing
from trioraft.consensus.events import StartWork
from trioraft.messages import (
    AppendEntriesRequest,
    LeadershipEnded,
    PreVoteRequest,
    PreVoteResponse,
    VoteRequest,
    VoteResponse,
)
from trioraft.versions import ENDS_FROM


def led(nodes: int = 3, leader: int = 1) -> Story:
    """Begin with a leader, whose work runs, of a cluster that speaks the newest version."""
    story = Story(nodes)
    story.elect(leader)
    story.raise_version(leader)
    story.live(5)
    assert {core.configuration.version >= ENDS_FROM for core in story.cores.values()} == {True}
    return story


def killed(nodes: int = 3, leader: int = 1) -> Story:
    """Begin with a leader that was killed, and started again at once; nobody has heard of that yet."""
    story = led(nodes, leader)
    story.restart(leader)
    return story


def heard_of_ended_work(story: Story, node: int = 2) -> None:
    """Let a node hear that all work of node 1 has ended."""
    story.end_scripts(1)
    story.deliver(LeadershipEnded, to=node)


# --- what is said -------------------------------------------------------------------------------------------


def test_a_leader_that_was_killed_says_so_when_it_is_started_again() -> None:
    story = killed()
    assert story.waiting(LeadershipEnded, to=2) == [LeadershipEnded(1, work_ended=False)]
    assert story.waiting(LeadershipEnded, to=3) == [LeadershipEnded(1, work_ended=False)]


def test_it_says_that_work_has_ended_only_when_no_script_is_left() -> None:
    story = killed()
    story.live(1.0, cut_off={1})
    story.end_scripts(1)
    assert story.waiting(LeadershipEnded, to=2) == [LeadershipEnded(1, work_ended=True)]
    assert story.disk[1].work == 0


def test_it_says_so_again_and_again_until_what_the_voters_remember_has_passed() -> None:
    story = killed()
    story.drop()
    told = 0
    end = story.now + CLAIM
    while story.now < end + 10:
        story.wait(0.05)
        if story.wake_at[1] <= story.now:
            story.tick(1)
        told += len(story.waiting(LeadershipEnded, to=2))
        assert story.now < end or not story.waiting(LeadershipEnded)
        story.drop()
    assert 10 <= told <= 3 * CLAIM / TIMING.heartbeat


def test_it_says_so_at_once_to_a_node_that_it_has_only_just_met() -> None:
    story = killed()
    story.drop()
    story.cores[1].peers_changed(frozenset())
    story.settle(1)
    assert not story.waiting(LeadershipEnded)
    story.cores[1].peers_changed(frozenset({2}))
    story.settle(1)
    assert story.waiting(LeadershipEnded, to=2)


def test_nothing_is_said_in_a_cluster_of_two_versions() -> None:
    story = Story()
    story.elect(1)
    story.raise_version(1, node_3=ENDS_FROM - 1)
    story.live(5)
    story.restart(1)
    story.end_scripts(1)
    story.live(1)
    assert not story.waiting(LeadershipEnded)
    assert story.disk[1].work == pytest.approx(CLAIM)


def test_who_followed_says_nothing() -> None:
    story = led()
    story.restart(2)
    story.end_scripts(2)
    assert not story.waiting(LeadershipEnded)


@pytest.mark.parametrize("place", ["another place", ""])
def test_a_copy_of_the_directory_says_nothing(place: str) -> None:
    """Its process knows nothing of the original's, which may lead and work all the time."""
    story = led()
    story.places[1] = place
    story.restart(1)
    story.end_scripts(1)
    assert not story.waiting(LeadershipEnded)
    assert story.state(1).work_until == pytest.approx(story.now + CLAIM)


def test_who_has_followed_another_leader_since_says_nothing_about_its_own_leadership() -> None:
    story = led()
    story.crash(1)
    story.wait(60)
    story.elect(2, among={2, 3})
    story.start(1)
    story.live(2)
    story.restart(1)
    story.end_scripts(1)
    assert not story.waiting(LeadershipEnded, sender=1)


def test_who_led_twice_speaks_of_the_later_term() -> None:
    story = killed()
    story.drop()
    story.wait(60)
    story.elect(1)
    story.live(1)
    term = story.cores[1].term
    story.restart(1)
    assert set(story.waiting(LeadershipEnded)) == {LeadershipEnded(term, work_ended=False)}


def test_a_leader_that_still_waited_for_earlier_work_never_says_that_all_work_has_ended() -> None:
    story = led()
    story.crash(1)
    story.elect(2, among={2, 3})
    assert (story.work(2), story.disk[2].work_alone) == ([], False)
    story.restart(2)
    story.end_scripts(2)
    assert story.waiting(LeadershipEnded, to=3) == [LeadershipEnded(2, work_ended=False)]


def test_that_the_wait_for_earlier_work_is_over_is_on_disk_before_it_is_said() -> None:
    story = led()
    story.crash(1)
    story.elect(2, among={2, 3})
    story.live(CLAIM + 1)
    assert story.work(2) == ["StartWork"]
    assert story.disk[2].work_alone
    story.restart(2)
    story.end_scripts(2)
    assert LeadershipEnded(2, work_ended=True) in story.waiting(LeadershipEnded, to=3)


# --- the voters ---------------------------------------------------------------------------------------------


def test_a_voter_votes_at_once_although_it_has_promised_the_leader_to_wait() -> None:
    story = killed()
    story.receive(2, 3, PreVoteRequest(2, 1, 9, 1))
    assert [answer.granted for answer in story.waiting(PreVoteResponse)] == [False]
    story.drop(PreVoteResponse)
    story.deliver(LeadershipEnded, to=2)
    assert story.state(2).leader == 0
    story.receive(2, 3, PreVoteRequest(2, 1, 9, 1))
    assert [answer.granted for answer in story.waiting(PreVoteResponse, sender=2)] == [True]


def test_the_voters_elect_another_leader_within_a_heartbeat() -> None:
    story = killed()
    began = story.now
    story.live(TIMING.heartbeat + 0.1)
    leader = story.roles().index("leader") + 1
    assert story.state(leader).leader_since - began <= TIMING.heartbeat
    assert leader != 1, "the others go first: what has killed it may do so again"


def test_a_single_node_leads_again_at_once() -> None:
    story = led(nodes=1)
    story.restart(1)
    story.end_scripts(1)
    story.live(2 * TIMING.heartbeat + 0.1)
    assert story.roles() == ["leader"]
    assert len(story.events(1, StartWork)) == 2


def test_a_voter_drops_the_claim_and_its_vote_says_so() -> None:
    story = killed()
    heard_of_ended_work(story)
    assert story.state(2).work_until == story.now
    story.receive(2, 3, VoteRequest(2, 9, 1, transfer=False))
    (vote,) = story.waiting(VoteResponse, sender=2)
    assert (vote.granted, vote.work, vote.work_term) == (True, 0.0, 1)


def test_the_vote_of_a_voter_that_dropped_the_claim_waits_until_that_is_on_disk() -> None:
    story = killed()
    story.stick_disk(2)
    heard_of_ended_work(story)
    story.receive(2, 3, VoteRequest(2, 9, 1, transfer=False))
    assert not story.waiting(VoteResponse)
    story.free_disk(2)
    assert story.waiting(VoteResponse)
    assert story.disk[2].work == 0


def test_a_voter_that_dropped_the_claim_does_not_remember_it_after_a_restart() -> None:
    story = killed()
    heard_of_ended_work(story)
    story.restart(2)
    assert story.state(2).work_until == story.now


def test_a_voter_that_was_restarted_knows_whose_claim_it_has() -> None:
    story = killed()
    story.restart(2)
    assert story.state(2).work_until == pytest.approx(story.now + CLAIM)
    heard_of_ended_work(story)
    assert story.state(2).work_until == story.now
    assert story.state(2).refuse_until <= story.now


@pytest.mark.parametrize("sender", [2, 3])
def test_nobody_else_can_say_it_for_the_node_that_led(sender: int) -> None:
    story = led()
    voter = 5 - sender
    before = story.state(voter).work_until, story.state(voter).refuse_until
    story.receive(voter, sender, LeadershipEnded(1, work_ended=True))
    assert (story.state(voter).work_until, story.state(voter).refuse_until) == before
    assert story.state(voter).leader == 1


@pytest.mark.parametrize("term", [1, 3])
def test_the_end_of_another_term_changes_nothing(term: int) -> None:
    story = led()
    story.crash(1)
    story.wait(60)
    story.elect(2, among={2, 3})
    story.live(1, without={1})
    before = story.disk[3], story.state(3).work_until, story.state(3).refuse_until
    for sender in (1, 2):
        story.receive(3, sender, LeadershipEnded(term, work_ended=True))
    assert (story.disk[3], story.state(3).work_until, story.state(3).refuse_until) == before
    assert story.state(3).leader == 2


def test_a_heartbeat_of_the_process_that_ended_comes_late_and_costs_only_time() -> None:
    story = killed()
    heard_of_ended_work(story)
    story.receive(2, 1, AppendEntriesRequest(1, 10**6, 6.0, 0, 0, 0))
    assert story.state(2).work_until == pytest.approx(story.now + CLAIM)
    assert story.disk[2].work == pytest.approx(CLAIM)
    story.receive(2, 1, LeadershipEnded(1, work_ended=True))
    assert (story.state(2).work_until, story.disk[2].work) == (story.now, 0)


def test_what_is_heard_twice_does_not_put_off_the_election() -> None:
    story = killed()
    story.deliver(LeadershipEnded, to=2)
    due = story.wake_at[2]
    story.receive(2, 1, LeadershipEnded(1, work_ended=True))
    assert story.wake_at[2] == due


# --- the next leader ----------------------------------------------------------------------------------------


def test_the_next_leader_starts_work_at_once() -> None:
    story = killed()
    story.end_scripts(1)
    story.live(TIMING.heartbeat + 0.1)
    leader = story.roles().index("leader") + 1
    assert len(story.events(leader, StartWork)) == 1


def test_a_leader_that_waits_for_earlier_work_waits_no_longer_when_it_hears_that_it_has_ended() -> None:
    story = led()
    story.crash(1)
    story.elect(2, among={2, 3})
    story.start(1)
    story.drop()
    assert (story.work(2), story.state(2).work_until > story.now + 1) == ([], True)
    story.end_scripts(1)
    story.deliver(LeadershipEnded, sender=1, to=2)
    assert story.work(2) == ["StartWork"]


def test_the_next_leader_is_the_same_node_and_hears_from_its_own_supervisor() -> None:
    story = killed()
    story.deliver(LeadershipEnded)
    story.wait(2 * TIMING.heartbeat)
    story.tick(1)
    story.exchange()
    assert (story.roles()[0], story.work(1)) == ("leader", ["StartWork"])
    story.end_scripts(1)
    assert story.work(1) == ["StartWork", "StartWork"]


def test_a_vote_that_was_under_way_does_not_bring_the_claim_back() -> None:
    story = led()
    story.crash(1)
    story.fire(2)
    while not story.waiting(VoteRequest):
        story.deliver()
    story.deliver(VoteRequest, to=3)
    story.start(1)
    heard_of_ended_work(story)
    (vote,) = story.waiting(VoteResponse, sender=3)
    assert vote.work > 1
    story.exchange(among={2, 3})
    assert story.work(2) == ["StartWork"]


def test_a_leader_goes_on_waiting_for_work_of_a_later_term() -> None:
    """Its voters remember work of term 2, of which it has not heard itself."""
    story = killed(nodes=5)
    story.drop()
    story.live(0.01, cut_off={1, 2, 3, 4, 5})
    story.crash(3)
    story.crash(4)
    story.fire(5)
    story.drop()
    for node in (2, 4):
        story.receive(5, node, PreVoteResponse(1, story.state(5).round_number, granted=True))
    story.drop()
    story.receive(5, 2, VoteResponse(story.cores[5].term, granted=True, work=4.0, work_term=1))
    story.receive(5, 4, VoteResponse(story.cores[5].term, granted=True, work=2.0, work_term=2))
    assert story.roles()[4] == "leader"
    elected_at = story.now
    story.receive(5, 1, LeadershipEnded(1, work_ended=True))
    assert story.state(5).work_until == pytest.approx(elected_at + 2.0, rel=0.02)


def test_work_that_has_begun_since_does_not_end_with_what_was_before_it() -> None:
    story = led()
    story.crash(1)
    story.elect(2, among={2, 3})
    story.live(CLAIM + 1)
    assert story.work(2) == ["StartWork"]
    until = story.state(2).work_until
    story.receive(2, 1, LeadershipEnded(1, work_ended=True))
    assert story.state(2).work_until == until


def test_a_claim_holds_where_an_earlier_release_has_written_it() -> None:
    """It does not tell whose claim it is."""
    story = led()
    story.crash(2)
    story.change_disk(2, work_of=0)
    story.start(2)
    story.receive(2, 1, LeadershipEnded(1, work_ended=True))
    assert story.state(2).work_until == pytest.approx(story.now + CLAIM)


def test_a_node_that_was_put_back_to_an_earlier_release_has_forgotten_its_place() -> None:
    story = led()
    story.crash(1)
    story.change_disk(1, work_of=0, work_place="", work_alone=False)
    story.start(1)
    story.end_scripts(1)
    assert not story.waiting(LeadershipEnded)


def test_a_leader_with_a_longer_grace_is_waited_for_unless_it_says_that_its_work_has_ended() -> None:
    story = Story()
    story.restart(1, Timing(lower=3.0, upper=5.0, heartbeat=0.5, stop_grace=60.0))
    story.elect(1)
    story.raise_version(1)
    story.live(5)
    story.restart(1)
    story.live(TIMING.heartbeat + 0.2)
    leader = story.roles().index("leader") + 1
    assert story.state(leader).work_until > story.now + 50
    story.end_scripts(1)
    story.live(0.1)
    assert len(story.events(leader, StartWork)) == 1


def test_only_a_message_of_the_cluster_is_heard() -> None:
    story = killed()
    story.hand_over(Letter(1, 2, 0xBAD, LeadershipEnded(1, work_ended=True)))
    assert story.state(2).leader == 1
