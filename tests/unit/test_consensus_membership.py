"""Learners, who may join, and which changes of the members are refused, told as stories (thesis, chapter 4)."""

import pytest

from tests.unit.membership_story import led, roles, with_learners
from tests.unit.story import CLUSTER, Letter, Story
from trioraft.consensus import Role
from trioraft.consensus.events import (
    ForeignCluster,
    Joined,
    SteppedDown,
)
from trioraft.messages import (
    AppendEntriesRequest,
    AppendEntriesResponse,
    FormationRequest,
    FormationResponse,
    InstallSnapshotRequest,
    PreVoteRequest,
    TimeoutNow,
)

# --- learners (thesis 4.2.1) --------------------------------------------------------------------------------


def test_a_node_without_a_cluster_joins_when_the_leader_speaks_to_it() -> None:
    story = led(spare=1)
    assert story.cores[4].role is Role.FORMING
    assert story.cores[4].formation.heard_cluster == CLUSTER
    story.propose(1, "a")
    assert story.change(1, (1, 2, 3), (4,)) is None
    story.live(2)
    assert story.events(4, Joined) == [Joined(cluster=CLUSTER)]
    assert roles(story)[4] == "learner"
    assert story.applied[4] == [b"a"]
    assert {story.members(node) for node in story.ids} == {"1 2 3 + 4"}


def test_that_it_is_a_member_is_on_its_disk_before_it_says_a_word() -> None:
    story = led(spare=1)
    story.stick_disk(4)
    story.change(1, (1, 2, 3), (4,))
    story.deliver(to=4)
    assert not story.waiting(AppendEntriesResponse, sender=4)
    assert story.cores[4].cluster == 0
    story.restart(4)
    assert story.cores[4].role is Role.FORMING
    story.live(2)
    assert story.disk[4].formation.cluster == CLUSTER
    story.restart(4)
    assert story.cores[4].cluster == CLUSTER


def test_a_learner_does_not_count_for_commits() -> None:
    story = with_learners()
    story.propose(1, "a")
    for node in (4, 5):
        story.deliver(AppendEntriesRequest, to=node)
        story.deliver(AppendEntriesResponse, sender=node)
    assert story.applied[1] == []
    story.deliver(AppendEntriesRequest, to=2)
    story.deliver(AppendEntriesResponse, sender=2)
    assert story.applied[1] == [b"a"]


def test_a_learner_does_not_hold_a_leader_up_that_lost_its_voters() -> None:
    story = with_learners()
    story.live(8, without=(2, 3))
    assert story.events(1, SteppedDown)


def test_a_learner_never_asks_for_votes() -> None:
    story = with_learners()
    story.live(60, without=(1, 2, 3))
    assert roles(story)[4] == roles(story)[5] == "learner"
    assert not story.waiting(PreVoteRequest)
    assert story.cores[4].term == 1


def test_a_learner_gets_the_snapshot_and_the_configuration_with_it() -> None:
    story = led(spare=1)
    story.propose(1, "a", "b")
    story.live(1)
    story.take_snapshot(1, b"ab")
    story.change(1, (1, 2, 3), (4,))
    for _ in range(6):
        story.live(0.5)
        story.store_parts(4)
    assert story.state(4).log.base_index == 3
    assert story.members(4) == "1 2 3 + 4"
    story.take_snapshot(4, b"ab")
    story.restart(4)
    assert story.members(4) == "1 2 3 + 4"
    assert story.cores[4].role is Role.LEARNER


def test_leadership_is_not_given_to_a_learner() -> None:
    story = with_learners()
    assert "not a voter" in (story.cores[1].transfer(4, story.now) or "")
    story.receive(4, 1, TimeoutNow(term=1, work=0.0))
    assert story.cores[4].role is Role.LEARNER


def test_a_learner_is_promoted_only_when_it_has_what_the_leader_had_an_election_timeout_ago() -> None:
    story = led(spare=1)
    story.change(1, (1, 2, 3), (4,))
    story.live(2, without=(4,))
    assert story.change(1, (1, 2, 3, 4)) == "learner 0000000000000004 has not caught up with the leader"
    story.live(3)
    assert story.change(1, (1, 2, 3, 4)) is None
    story.live(1)
    assert {story.members(node) for node in story.ids} == {"1 2 3 4"}
    assert roles(story)[4] == "follower"


def test_a_learner_that_answers_and_lags_is_not_promoted() -> None:
    story = with_learners(spare=1)
    for number in range(12):  # entries are lost on their way to it, and its answers to heartbeats come
        story.propose(1, f"{number}")
        story.wait(0.4)
        story.tick(1)
        for letter in story.take(AppendEntriesRequest, to=4):
            if not letter.message.entries:
                story.hand_over(letter)
        story.exchange()
    assert story.cores[1].progress(story.now)[4].heard_at > story.now - 1
    assert not story.cores[1].progress(story.now)[4].is_current
    assert story.change(1, (1, 2, 3, 4)) == "learner 0000000000000004 has not caught up with the leader"


def test_a_learner_that_lags_a_little_under_steady_load_keeps_up() -> None:
    story = with_learners(spare=1)
    held: list[Letter] = []
    for number in range(12):  # each entry reaches it a step late
        story.propose(1, f"{number}")
        story.wait(0.4)
        story.tick(1)
        for letter in held:
            story.hand_over(letter)
        held = story.take(AppendEntriesRequest, to=4)
        story.exchange()
    follower = story.state(1).followers[4]
    assert follower.match_index < story.state(1).log.last_index
    assert story.cores[1].progress(story.now)[4].is_current


# --- who may join (and who may not) -------------------------------------------------------------------------


def test_a_node_that_has_promised_a_formation_does_not_join_before_this_has_ended() -> None:
    story = led(spare=1)
    story.expect[4] = 2
    story.crash(4)
    story.disks[4].hard = type(story.disks[4].hard)()
    story.start(4)
    story.cores[4].formation.promise(0xF0, (4, 9), story.now)
    story.settle(4)
    story.change(1, (1, 2, 3), (4,))
    story.live(3)
    assert roles(story)[4] == "forming"
    assert story.events(4, ForeignCluster)[0].cluster == CLUSTER
    story.receive(4, 9, FormationResponse(formation=0xF0, promised=False))
    story.live(3)
    assert story.cores[4].role is Role.LEARNER


def test_a_member_of_another_cluster_does_not_join_and_one_that_joined_stays() -> None:
    story = led(spare=1)
    story.change(1, (1, 2, 3), (4,))
    story.live(2)
    for kind in (AppendEntriesRequest(9, 1, 0.0, 0, 0, 0), InstallSnapshotRequest(9, 1, 1, 0, 0, 0)):
        story.cores[4].receive(8, CLUSTER + 1, kind, story.now)
        story.settle(4)
    assert story.cores[4].cluster == CLUSTER
    assert story.cores[4].term == 1
    story.cores[4].hear_of_cluster(8, CLUSTER + 1, story.now)
    story.settle(4)
    assert story.events(4, ForeignCluster) == [ForeignCluster(node=8, cluster=CLUSTER + 1)]


def test_who_joined_refuses_every_formation() -> None:
    story = led(spare=1)
    story.change(1, (1, 2, 3), (4,))
    story.live(2)
    story.receive(4, 9, FormationRequest(formation=0xF0, members=(4, 9)))
    assert story.waiting(FormationResponse, to=9) == [FormationResponse(formation=0xF0, promised=False)]


def test_a_node_that_heard_of_two_clusters_says_so_loudly() -> None:
    story = Story(1, formed=False, expect=1)
    story.cores[1].hear_of_cluster(8, CLUSTER, story.now)
    story.cores[1].hear_of_cluster(9, CLUSTER + 1, story.now)
    story.settle(1)
    assert story.events(1, ForeignCluster) == [ForeignCluster(node=9, cluster=CLUSTER + 1)]


def test_a_first_member_that_missed_the_end_of_the_formation_hears_of_it_from_a_learner() -> None:
    story = Story(3, formed=False)
    story.cores[1].formation.promise(0xF0, (1, 2, 3), story.now)
    story.settle(1)
    story.cores[1].hear_of_cluster(7, 0xF0, story.now)
    story.settle(1)
    assert story.cores[1].cluster == 0xF0


# --- what is refused ----------------------------------------------------------------------------------------


def test_only_a_leader_changes_the_members_and_only_after_its_no_op_is_committed() -> None:
    """The bug of single-server changes: a leader that does so before can undo what an earlier one committed."""
    story = Story(3, spare=1)
    assert story.change(2, (1, 2)) == "this node is not the leader"
    assert story.change(4, (1, 2)) == "this node has no cluster yet"
    story.fire(1)
    for _ in range(4):
        story.deliver()
        if story.roles()[0] == "leader":
            break
    assert (story.change(1, (1, 2)) or "").startswith("the leader has not committed an entry of its term yet")
    story.exchange()
    story.live(1)
    assert story.change(1, (1, 2)) is None


def test_there_is_one_change_at_a_time() -> None:
    story = led(spare=2)
    assert story.change(1, (1, 2, 3), (4,)) is None
    assert (story.change(1, (1, 2, 3), (4, 5)) or "").startswith("another change of the members is under way")
    story.live(1)
    assert story.change(1, (1, 2), (4,)) is None
    assert story.members(1) == "1 2 [1 2 3] + 4"
    assert (story.change(1, (1, 2), (4, 5)) or "").startswith("another change of the members is under way")


@pytest.mark.parametrize(
    ("voters", "learners", "reason"),
    [
        ((), (1,), "a cluster needs a voter"),
        ((1, 2, 3), (), "the members are these already"),
        ((1, 2), (2,), "node 0000000000000002 cannot be a voter and a learner at once"),
        ((1, 2, 3, 4), (), "node 0000000000000004 is not a learner; add it as one first"),
        (range(1, 4), range(4, 105), "a cluster has at most 100 members"),
    ],
)
def test_a_change_that_can_never_be_is_refused_with_its_reason(
    voters: tuple[int, ...], learners: tuple[int, ...], reason: str
) -> None:
    story = led()
    before = story.log(1)
    assert story.change(1, voters, learners) == reason
    assert story.log(1) == before


def test_a_change_to_voters_that_are_not_there_is_refused() -> None:
    story = led(5, 0)
    story.live(4, without=(2, 3))
    refusal = story.change(1, (1, 2, 3))
    assert refusal == "too few of the voters that there would be have answered within a lower election timeout"
    assert story.change(1, (1, 4, 5)) is None


def test_there_is_no_change_while_leadership_is_given_away() -> None:
    story = led()
    assert story.cores[1].transfer(2, story.now) is None
    assert story.change(1, (1, 2)) == "leadership is being given to another node"
