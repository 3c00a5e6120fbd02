"""Members that are removed, told as stories (thesis 4.2.2 and 4.2.3)."""

from tests.unit.membership_story import led, roles, with_learners
from tests.unit.story import CLUSTER, TIMING, Story
from trioraft.consensus import Role
from trioraft.consensus.configuration import DEPARTED_MAX
from trioraft.consensus.events import (
    BecameLeader,
    EndWork,
    Removed,
    StartWork,
    SteppedDown,
    TooOld,
)
from trioraft.messages import (
    AppendEntriesRequest,
    AppendEntriesResponse,
    PreVoteRequest,
    PreVoteResponse,
    TimeoutNow,
    VoteRequest,
)
from trioraft.versions import Versions

# --- a leader that removes itself (thesis 4.2.2) ------------------------------------------------------------


def test_a_leader_that_removes_itself_leads_on_without_counting_itself() -> None:
    story = led(spare=0)
    story.change(1, (2, 3))
    story.deliver(AppendEntriesRequest)
    story.deliver(AppendEntriesResponse)
    assert story.members(1) == "2 3"
    story.propose(1, "a")
    story.deliver(AppendEntriesRequest, to=2)
    story.deliver(AppendEntriesResponse, sender=2)
    assert story.applied[1] == [], "node 2 alone is no majority of 2 and 3"
    story.deliver(AppendEntriesRequest, to=3)
    story.deliver(AppendEntriesResponse, sender=3)
    assert story.applied[1] == [b"a"]


def test_then_it_ends_its_work_gives_its_leadership_away_and_knows_that_it_is_removed() -> None:
    story = led(spare=0)
    story.live(1)
    assert story.work(1) == ["StartWork"]
    story.change(1, (2, 3))
    story.live(0.3)
    assert story.work(1) == ["StartWork", "EndWork"]
    assert story.cores[1].role is Role.LEADER, "until its work has ended"
    assert not story.events(1, Removed)
    story.cores[1].work_ended(story.now)
    story.settle(1)
    story.live(0.5)
    assert roles(story)[1] == "removed"
    assert story.events(1, Removed) == [Removed(while_away=False)]
    assert story.disk[1].removed
    leader = next(node for node in (2, 3) if story.cores[node].role is Role.LEADER)
    assert story.events(leader, BecameLeader)[-1].term == 2
    assert story.events(leader, StartWork), "all earlier work has ended, so it need not wait"


def test_a_removed_leader_whose_work_does_not_end_steps_down_and_is_removed_only_when_it_has() -> None:
    story = led(spare=0)
    story.change(1, (2, 3))
    story.live(20)
    assert story.events(1, SteppedDown)
    assert story.events(1, EndWork)
    assert not story.events(1, Removed)
    story.cores[1].work_ended(story.now)
    story.settle(1)
    assert story.events(1, Removed) == [Removed(while_away=False)]


def test_a_leader_that_becomes_a_learner_steps_down_and_stays_one() -> None:
    story = led(spare=0)
    story.change(1, (2, 3), (1,))
    story.live(0.3)
    story.cores[1].work_ended(story.now)
    story.settle(1)
    story.live(5)
    assert roles(story)[1] == "learner"
    assert not story.events(1, Removed)


def test_who_is_left_out_by_an_entry_that_only_it_has_leads_until_that_is_committed() -> None:
    """Figure 4.6 of the thesis: nobody else can get the entry committed, so it must be elected once more."""
    story = Story(2)
    story.elect(1)
    story.live(1)
    story.change(1, (2,))
    story.deliver(AppendEntriesRequest)
    story.deliver(AppendEntriesResponse)
    assert story.members(1) == "2"
    story.drop()
    story.restart(1)
    assert (story.members(1), story.members(2)) == ("2", "2 [1 2]")
    story.live(60)
    assert story.events(1, BecameLeader)[-1].term > 1
    story.cores[1].work_ended(story.now)
    story.settle(1)
    story.live(20)
    assert roles(story) == {1: "removed", 2: "leader"}


# --- a node that was removed (thesis 4.2.3) -----------------------------------------------------------------


def test_a_removed_node_never_comes_back_under_its_id_whoever_leads() -> None:
    story = with_learners()
    assert story.change(1, (1, 2, 3), (4,)) is None
    story.live(2)
    story.crash(1)
    story.live(20)
    leader = next(node for node in (2, 3) if story.state(node).role is Role.LEADER)
    for voters, learners in (((1, 2, 3), (4, 5)), ((1, 2, 3, 5), (4,))):
        refused = story.change(leader, voters, learners)
        assert refused == "node 0000000000000005 was removed; start it again, and it joins as another one"


def test_of_those_who_were_removed_the_last_ones_are_remembered() -> None:
    story = led(1, spare=1)
    for number in range(2, 2 + DEPARTED_MAX + 5):
        story.change(1, (1,), (number,))
        story.live(1)
        story.change(1, (1,), ())
        story.live(1)
    assert story.cores[1].configuration.departed == tuple(range(7, 7 + DEPARTED_MAX))


def test_a_removed_node_is_told_before_the_leader_forgets_it() -> None:
    story = led(spare=0)
    story.change(1, (1, 2))
    assert 3 in story.cores[1].progress(story.now)
    story.live(1)
    assert roles(story)[3] == "removed"
    assert story.disk[3].removed
    assert 3 not in story.cores[1].progress(story.now)
    story.restart(3)
    story.live(60)
    assert roles(story) == {1: "leader", 2: "follower", 3: "removed"}
    assert story.cores[1].term == 1


def test_a_node_that_comes_back_knows_that_it_was_removed_while_it_was_away() -> None:
    story = led(5, 0)
    story.live(1)
    story.change(1, (1, 2, 3, 4))
    story.live(20, without=(5,))
    story.restart(5)
    story.fire(5)
    story.exchange()
    story.live(3)
    assert story.events(5, Removed) == [Removed(while_away=True)]


def test_a_node_that_is_removed_while_it_takes_part_was_not_away() -> None:
    story = led(5, 0)
    story.live(1)
    story.change(1, (1, 2, 3, 4))
    story.live(1)
    assert story.events(5, Removed) == [Removed(while_away=False)]


def test_the_leader_forgets_a_removed_node_that_is_silent() -> None:
    story = led(spare=0)
    story.change(1, (1, 2))
    story.live(2 * TIMING.upper, without=(3,))
    assert 3 not in story.cores[1].progress(story.now)


def test_a_removed_node_that_missed_it_disturbs_nobody_and_is_told_when_it_asks() -> None:
    story = led(5, 0)
    story.change(1, (1, 2, 3, 4))
    story.live(20, without=(5,))
    story.propose(1, "a")
    story.live(1, without=(5,))
    story.fire(5)
    assert story.waiting(PreVoteRequest, sender=5)
    story.exchange()
    story.live(3)
    assert roles(story)[5] == "removed"
    assert (story.cores[1].role, story.cores[1].term) == (Role.LEADER, 1)


def test_a_removed_node_that_missed_it_is_told_by_the_first_part_of_a_snapshot() -> None:
    story = led(5, 0)
    story.change(1, (1, 2, 3, 4))
    story.live(20, without=(5,))
    story.take_snapshot(1, b"state")
    story.fire(5)
    story.exchange()
    story.live(2)
    assert roles(story)[5] == "removed"
    assert story.state(5).log.base_index == 0, "it has not installed it"


def test_a_removed_node_that_had_nothing_committed_after_its_restart_is_told_by_a_snapshot() -> None:
    story = with_learners(spare=1)
    story.restart(4)  # what is committed is not on its disk, so it does not know from its log that it is a member
    story.change(1, (1, 2, 3))
    story.live(20, without=(4,))
    story.take_snapshot(1, b"state")
    story.cores[1].hear_of_cluster(4, CLUSTER, story.now)
    story.settle(1)
    story.live(2)
    assert roles(story)[4] == "removed"
    assert story.state(4).log.base_index == 0, "it has not installed it"


def test_a_node_that_was_let_in_and_removed_before_it_heard_of_either_is_told_when_it_greets_the_leader() -> None:
    story = led(spare=1)
    story.change(1, (1, 2, 3), (4,))
    story.live(20, without=(4,))
    story.change(1, (1, 2, 3))
    story.live(20, without=(4,))
    story.restart(4)
    assert roles(story)[4] == "forming"
    story.cores[1].hear_of_cluster(4, 0, story.now)
    story.settle(1)
    story.live(2)
    assert roles(story)[4] == "removed"
    assert story.events(4, Removed) == [Removed(while_away=True)]


def test_a_removed_node_is_told_when_it_greets_the_leader() -> None:
    story = with_learners(spare=1)
    story.change(1, (1, 2, 3))
    story.live(20, without=(4,))
    story.cores[1].hear_of_cluster(4, CLUSTER, story.now)
    story.settle(1)
    story.live(2)
    assert roles(story)[4] == "removed"


def test_removed_nodes_with_a_newer_term_depose_nobody() -> None:
    story = led(5, 0)
    story.change(1, (1, 2, 3))
    story.live(20, without=(4, 5))
    story.crash(5)
    story.change_disk(5, term=9)
    story.start(5)
    story.live(60, without=(4,))
    assert story.state(5).round_number > 5, "it has asked for votes again and again"
    assert (story.cores[1].role, story.cores[1].term) == (Role.LEADER, 1)


def test_removed_nodes_that_are_a_majority_of_the_old_voters_elect_nobody() -> None:
    story = led(5, 0)
    story.live(1)
    assert story.change(1, (1, 2)) is None
    story.deliver(AppendEntriesRequest, to=2)
    story.deliver(AppendEntriesRequest, to=3)
    story.deliver(AppendEntriesResponse)
    story.drop(to=4)
    story.drop(to=5)
    story.live(5, without=(3, 4, 5))
    assert story.members(1) == "1 2"
    story.live(60, without=(1, 2))
    assert all(story.cores[node].role is not Role.LEADER for node in (3, 4, 5))
    story.live(20)
    assert [roles(story)[node] for node in (3, 4, 5)] == ["removed"] * 3


def test_a_removed_node_takes_no_part_any_more() -> None:
    story = led(spare=0)
    story.change(1, (1, 2))
    story.live(1)
    story.drop()
    for message in (PreVoteRequest(9, 1, 9, 8), VoteRequest(9, 9, 8, transfer=False), TimeoutNow(1, 0.0)):
        story.receive(3, 1, message)
    assert not story.post
    assert not story.waiting(PreVoteResponse)


# --- a removed node that is older than the cluster's version --------------------------------------------------


def test_a_removed_node_is_sent_nothing_that_comes_after_its_removal() -> None:
    story = led(spare=0)
    story.change(1, (1, 2))
    story.live(TIMING.upper / 2, without=(3,))  # the change is complete, and node 3 has heard of none of it
    removal = story.state(1).log.configuration_index
    assert story.members(1) == "1 2"
    story.propose(1, "a", "b")
    story.raise_version(1)
    story.live(TIMING.upper / 2, without=(3,))
    assert story.state(1).log.configuration_index > removal
    story.live(2)
    assert story.events(3, Removed) == [Removed(while_away=False)]
    assert story.state(3).log.last_index == removal
    assert 3 not in story.cores[1].progress(story.now)


def test_so_is_one_that_asks_again_after_others_have_been_removed() -> None:
    story = led(5, 0)
    story.change(1, (1, 2, 3, 4))
    story.live(20, without=(5,))
    removal = story.state(1).log.configuration_index
    story.propose(1, "a")
    story.change(1, (1, 2, 3))
    story.raise_version(1)
    story.live(20, without=(5,))
    story.fire(5)
    story.exchange()
    story.live(3)
    assert story.events(5, Removed)
    assert story.state(5).log.last_index == removal


def test_a_snapshot_tells_a_removed_node_so_even_if_it_is_of_a_version_that_the_node_does_not_speak() -> None:
    story = led(5, 0)
    story.restart(5)
    story.cores[5].versions = Versions(1, 1)
    story.change(1, (1, 2, 3, 4))
    story.live(20, without=(5,))
    story.raise_version(1)
    story.live(1, without=(5,))
    story.take_snapshot(1, b"state")
    story.fire(5)
    story.exchange()
    story.live(2)
    assert story.events(5, Removed)
    assert not story.events(5, TooOld)
