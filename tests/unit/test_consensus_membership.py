"""Changes of the members, told as stories (Raft, section 6; thesis, chapter 4)."""

import pytest

from tests.unit.story import CLUSTER, TIMING, Letter, Story
from trioraft.consensus import Role
from trioraft.consensus.configuration import DEPARTED_MAX, Configuration, decode_configuration, encode_configuration
from trioraft.consensus.events import (
    BecameLeader,
    ConfigurationChanged,
    EndWork,
    ForeignCluster,
    Joined,
    ReadReady,
    Removed,
    StartWork,
    SteppedDown,
)
from trioraft.messages import (
    AppendEntriesRequest,
    AppendEntriesResponse,
    Entry,
    EntryKind,
    FormationRequest,
    FormationResponse,
    InstallSnapshotRequest,
    PreVoteRequest,
    PreVoteResponse,
    TimeoutNow,
    VoteRequest,
)


def _led(nodes: int = 3, spare: int = 2) -> Story:
    """Let node 1 lead the first nodes, and its no-op be committed everywhere; the spare ones have heard of it."""
    story = Story(nodes, spare=spare)
    story.elect(1)
    story.live(2)
    story.wait(0.01)
    return story


def _with_learners(nodes: int = 3, spare: int = 2) -> Story:
    """Let all spare nodes be learners, too, that have caught up."""
    story = _led(nodes, spare)
    assert story.change(1, range(1, nodes + 1), range(nodes + 1, nodes + spare + 1)) is None
    story.live(3)
    story.wait(0.01)
    return story


def _roles(story: Story) -> dict[int, str]:
    return {node: core.role.value for node, core in story.cores.items()}


# --- learners (thesis 4.2.1) --------------------------------------------------------------------------------


def test_a_node_without_a_cluster_joins_when_the_leader_speaks_to_it() -> None:
    story = _led(spare=1)
    assert story.cores[4].role is Role.FORMING
    assert story.cores[4].formation.heard_cluster == CLUSTER
    story.propose(1, "a")
    assert story.change(1, (1, 2, 3), (4,)) is None
    story.live(2)
    assert story.events(4, Joined) == [Joined(cluster=CLUSTER)]
    assert _roles(story)[4] == "learner"
    assert story.applied[4] == [b"a"]
    assert {story.members(node) for node in story.ids} == {"1 2 3 + 4"}


def test_that_it_is_a_member_is_on_its_disk_before_it_says_a_word() -> None:
    story = _led(spare=1)
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
    story = _with_learners()
    story.propose(1, "a")
    for node in (4, 5):
        story.deliver(AppendEntriesRequest, to=node)
        story.deliver(AppendEntriesResponse, sender=node)
    assert story.applied[1] == []
    story.deliver(AppendEntriesRequest, to=2)
    story.deliver(AppendEntriesResponse, sender=2)
    assert story.applied[1] == [b"a"]


def test_a_learner_does_not_hold_a_leader_up_that_lost_its_voters() -> None:
    story = _with_learners()
    story.live(8, without=(2, 3))
    assert story.events(1, SteppedDown)


def test_a_learner_never_asks_for_votes() -> None:
    story = _with_learners()
    story.live(60, without=(1, 2, 3))
    assert _roles(story)[4] == _roles(story)[5] == "learner"
    assert not story.waiting(PreVoteRequest)
    assert story.cores[4].term == 1


def test_a_learner_gets_the_snapshot_and_the_configuration_with_it() -> None:
    story = _led(spare=1)
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
    story = _with_learners()
    assert "not a voter" in (story.cores[1].transfer(4, story.now) or "")
    story.receive(4, 1, TimeoutNow(term=1, work=0.0))
    assert story.cores[4].role is Role.LEARNER


def test_a_learner_is_promoted_only_when_it_has_what_the_leader_had_an_election_timeout_ago() -> None:
    story = _led(spare=1)
    story.change(1, (1, 2, 3), (4,))
    story.live(2, without=(4,))
    assert story.change(1, (1, 2, 3, 4)) == "learner 0000000000000004 has not caught up with the leader"
    story.live(3)
    assert story.change(1, (1, 2, 3, 4)) is None
    story.live(1)
    assert {story.members(node) for node in story.ids} == {"1 2 3 4"}
    assert _roles(story)[4] == "follower"


def test_a_learner_that_answers_and_lags_is_not_promoted() -> None:
    story = _with_learners(spare=1)
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
    story = _with_learners(spare=1)
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
    story = _led(spare=1)
    story.expect[4] = 2
    story.crash(4)
    story.disks[4].hard = type(story.disks[4].hard)()
    story.start(4)
    story.cores[4].formation.promise(0xF0, (4, 9), story.now)
    story.settle(4)
    story.change(1, (1, 2, 3), (4,))
    story.live(3)
    assert _roles(story)[4] == "forming"
    assert story.events(4, ForeignCluster)[0].cluster == CLUSTER
    story.receive(4, 9, FormationResponse(formation=0xF0, promised=False))
    story.live(3)
    assert story.cores[4].role is Role.LEARNER


def test_a_member_of_another_cluster_does_not_join_and_one_that_joined_stays() -> None:
    story = _led(spare=1)
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
    story = _led(spare=1)
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
    story = _led(spare=2)
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
    story = _led()
    before = story.log(1)
    assert story.change(1, voters, learners) == reason
    assert story.log(1) == before


def test_a_change_to_voters_that_are_not_there_is_refused() -> None:
    story = _led(5, 0)
    story.live(4, without=(2, 3))
    refusal = story.change(1, (1, 2, 3))
    assert refusal == "too few of the voters that there would be have answered within a lower election timeout"
    assert story.change(1, (1, 4, 5)) is None


def test_there_is_no_change_while_leadership_is_given_away() -> None:
    story = _led()
    assert story.cores[1].transfer(2, story.now) is None
    assert story.change(1, (1, 2)) == "leadership is being given to another node"


# --- joint consensus (Raft, section 6) ----------------------------------------------------------------------


def test_a_configuration_is_in_force_as_soon_as_it_is_in_the_log() -> None:
    story = _with_learners()
    story.change(1, (3, 4, 5))
    assert story.members(1) == "3 4 5 [1 2 3]"
    story.deliver(AppendEntriesRequest, to=2)
    assert story.members(2) == "3 4 5 [1 2 3]"
    assert story.members(3) == "1 2 3 + 4 5"
    last = story.events(2, ConfigurationChanged)[-1]
    assert (last.configuration.old_voters, last.committed) == ((1, 2, 3), False)


@pytest.mark.parametrize("silent", [(2, 3), (4, 5)], ids=["old", "new"])
def test_while_joint_nothing_is_committed_without_both_majorities(silent: tuple[int, int]) -> None:
    story = _with_learners(spare=3)  # 1 2 3 become 4 5 6
    assert story.change(1, (4, 5, 6)) is None
    story.propose(1, "a")
    for node in {2, 3, 4, 5, 6} - set(silent):
        story.deliver(AppendEntriesRequest, to=node)
        story.deliver(AppendEntriesResponse, sender=node)
    assert story.applied[1] == []
    assert story.members(1) == "4 5 6 [1 2 3]"
    story.deliver(AppendEntriesRequest, to=silent[0])
    story.deliver(AppendEntriesResponse, sender=silent[0])
    assert story.applied[1] == [b"a"]
    assert story.members(1) == "4 5 6"


def test_while_joint_a_read_needs_the_word_of_both_majorities() -> None:
    story = _with_learners(spare=3)
    story.change(1, (4, 5, 6))
    story.drop()
    story.wait(0.01)
    story.read(1)
    for node in (2, 3):
        story.deliver(AppendEntriesRequest, to=node)
        story.deliver(AppendEntriesResponse, sender=node)
    assert not story.events(1, ReadReady)
    for node in (4, 5):
        story.deliver(AppendEntriesRequest, to=node)
        story.deliver(AppendEntriesResponse, sender=node)
    assert story.events(1, ReadReady)


@pytest.mark.parametrize("lost", [(2, 3), (4, 5)], ids=["old", "new"])
def test_while_joint_a_leader_steps_down_without_the_word_of_either_majority(lost: tuple[int, int]) -> None:
    story = _with_learners(spare=3)
    story.stick_disk(lost[0])  # so that the change is not completed
    story.change(1, (4, 5, 6))
    story.drop()
    story.live(8, without=lost)
    assert story.events(1, SteppedDown)


@pytest.mark.parametrize("silent", [(2, 3), (5, 6)], ids=["old", "new"])
def test_while_joint_nobody_is_elected_without_both_majorities(silent: tuple[int, int]) -> None:
    story = _with_learners(spare=3)
    story.change(1, (4, 5, 6))
    story.deliver(AppendEntriesRequest)  # all have the joint configuration, and nobody knows that it is committed
    story.drop()
    story.crash(1)
    story.live(40, without=silent)
    assert all(role != "leader" for role in _roles(story).values())
    story.live(40)
    assert list(_roles(story).values()).count("leader") == 1
    assert story.members(4) == story.members(6) == "4 5 6"


def test_one_joint_change_replaces_a_voter() -> None:
    story = _with_learners(spare=1)
    story.crash(3)
    story.live(1)
    assert story.change(1, (1, 2, 4)) is None
    story.live(1)
    assert story.members(1) == story.members(4) == "1 2 4"
    seen = [event.configuration.voters for event in story.events(1, ConfigurationChanged)]
    assert (1, 2) not in seen
    assert (1, 2, 3, 4) not in seen


def test_a_voter_becomes_a_learner_and_votes_until_then() -> None:
    story = _led(spare=0)
    assert story.change(1, (1, 2), (3,)) is None
    assert story.members(1) == "1 2 [1 2 3] + 3"
    story.live(1)
    assert _roles(story) == {1: "leader", 2: "follower", 3: "learner"}


def test_a_change_that_nobody_else_has_is_rolled_back() -> None:
    story = _with_learners()
    story.change(1, (3, 4, 5))
    story.drop()
    story.crash(1)
    story.live(15)
    story.start(1)
    assert story.members(1) == "3 4 5 [1 2 3]"
    story.live(5)
    assert {story.members(node) for node in story.ids} == {"1 2 3 + 4 5"}


def test_a_new_leader_completes_a_joint_change_that_is_in_its_log() -> None:
    story = _with_learners()
    story.change(1, (3, 4, 5))
    story.deliver(AppendEntriesRequest)
    story.drop()
    story.crash(1)
    story.live(20)
    assert {story.members(node) for node in (3, 4, 5)} == {"3 4 5"}
    story.start(1)
    story.live(15)
    assert _roles(story)[1] == _roles(story)[2] == "removed"


def test_a_snapshot_carries_a_joint_configuration_and_its_receiver_completes_it() -> None:
    story = _with_learners()
    story.change(1, (3, 4, 5))
    for node in (2, 3, 4):
        story.deliver(AppendEntriesRequest, to=node)
    story.deliver(AppendEntriesResponse)
    story.drop()  # node 1 has appended the new configuration, and nobody else has it
    assert story.members(1) == "3 4 5"
    index = story.state(1).log.configuration_index - 1
    configuration = decode_configuration(story.cores[1].describe_snapshot(index).configuration)
    assert configuration == Configuration((3, 4, 5), (1, 2, 3), departed=(1, 2))


def test_an_entry_or_a_snapshot_with_no_configuration_in_it_is_ignored() -> None:
    story = _led()
    for data in (
        b"",
        b"{",
        b"[]",
        b'{"voters":[]}',
        b'{"voters":[0]}',
        b'{"voters":["1"]}',
        b"\xff",
        b'{"voters":1}',
    ):
        entry = Entry(1, EntryKind.CONFIGURATION, data)
        story.receive(2, 1, AppendEntriesRequest(1, 99, 0.0, 1, 1, 0, (entry,)))
        if data:
            story.receive(2, 1, InstallSnapshotRequest(1, 9, 1, 1, 0, 0, b"", data))
    assert story.log(2) == [1]
    assert story.state(2).receiving is None
    assert story.members(2) == "1 2 3"


def test_a_configuration_is_written_and_read() -> None:
    for configuration in (
        Configuration((1, 2, 3)),
        Configuration((1, 2**63 - 1), (2,), (5,), ((1, "node-1"), (5, "Ωmega")), (9, 8)),
    ):
        assert decode_configuration(encode_configuration(configuration)) == configuration


def test_members_keep_their_names() -> None:
    story = _led(spare=1)
    story.cores[1].change_members((1, 2, 3), (4,), story.now, {1: "node-1", 4: "node-4"})
    story.settle(1)
    story.live(2)
    story.cores[1].change_members((1, 2, 3, 4), (), story.now, {2: "node-2"})
    story.settle(1)
    story.live(1)
    assert story.cores[4].configuration.names == ((1, "node-1"), (2, "node-2"), (4, "node-4"))
    assert story.cores[4].configuration.name(4) == "node-4"
    assert story.cores[4].configuration.name(3) == ""


def test_a_cluster_of_one_grows_to_three_and_shrinks_again() -> None:
    story = _led(1, 2)
    story.change(1, (1,), (2, 3))
    story.live(2)
    assert story.change(1, (1, 2, 3)) is None
    story.live(1)
    assert _roles(story) == {1: "leader", 2: "follower", 3: "follower"}
    assert story.change(1, (1,)) is None
    story.live(2)
    assert _roles(story) == {1: "leader", 2: "removed", 3: "removed"}
    story.propose(1, "alone")
    assert story.applied[1] == [b"alone"]


# --- a leader that removes itself (thesis 4.2.2) ------------------------------------------------------------


def test_a_leader_that_removes_itself_leads_on_without_counting_itself() -> None:
    story = _led(spare=0)
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
    story = _led(spare=0)
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
    assert _roles(story)[1] == "removed"
    assert story.events(1, Removed) == [Removed(while_away=False)]
    assert story.disk[1].removed
    leader = next(node for node in (2, 3) if story.cores[node].role is Role.LEADER)
    assert story.events(leader, BecameLeader)[-1].term == 2
    assert story.events(leader, StartWork), "all earlier work has ended, so it need not wait"


def test_a_removed_leader_whose_work_does_not_end_steps_down_and_is_removed_only_when_it_has() -> None:
    story = _led(spare=0)
    story.change(1, (2, 3))
    story.live(20)
    assert story.events(1, SteppedDown)
    assert story.events(1, EndWork)
    assert not story.events(1, Removed)
    story.cores[1].work_ended(story.now)
    story.settle(1)
    assert story.events(1, Removed) == [Removed(while_away=False)]


def test_a_leader_that_becomes_a_learner_steps_down_and_stays_one() -> None:
    story = _led(spare=0)
    story.change(1, (2, 3), (1,))
    story.live(0.3)
    story.cores[1].work_ended(story.now)
    story.settle(1)
    story.live(5)
    assert _roles(story)[1] == "learner"
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
    assert _roles(story) == {1: "removed", 2: "leader"}


# --- a node that was removed (thesis 4.2.3) -----------------------------------------------------------------


def test_a_removed_node_never_comes_back_under_its_id_whoever_leads() -> None:
    story = _with_learners()
    assert story.change(1, (1, 2, 3), (4,)) is None
    story.live(2)
    story.crash(1)
    story.live(20)
    leader = next(node for node in (2, 3) if story.state(node).role is Role.LEADER)
    for voters, learners in (((1, 2, 3), (4, 5)), ((1, 2, 3, 5), (4,))):
        refused = story.change(leader, voters, learners)
        assert refused == "node 0000000000000005 was removed; start it again, and it joins as another one"


def test_of_those_who_were_removed_the_last_ones_are_remembered() -> None:
    story = _led(1, spare=1)
    for number in range(2, 2 + DEPARTED_MAX + 5):
        story.change(1, (1,), (number,))
        story.live(1)
        story.change(1, (1,), ())
        story.live(1)
    assert story.cores[1].configuration.departed == tuple(range(7, 7 + DEPARTED_MAX))


def test_a_removed_node_is_told_before_the_leader_forgets_it() -> None:
    story = _led(spare=0)
    story.change(1, (1, 2))
    assert 3 in story.cores[1].progress(story.now)
    story.live(1)
    assert _roles(story)[3] == "removed"
    assert story.disk[3].removed
    assert 3 not in story.cores[1].progress(story.now)
    story.restart(3)
    story.live(60)
    assert _roles(story) == {1: "leader", 2: "follower", 3: "removed"}
    assert story.cores[1].term == 1


def test_a_node_that_comes_back_knows_that_it_was_removed_while_it_was_away() -> None:
    story = _led(5, 0)
    story.live(1)
    story.change(1, (1, 2, 3, 4))
    story.live(20, without=(5,))
    story.restart(5)
    story.fire(5)
    story.exchange()
    story.live(3)
    assert story.events(5, Removed) == [Removed(while_away=True)]


def test_a_node_that_is_removed_while_it_takes_part_was_not_away() -> None:
    story = _led(5, 0)
    story.live(1)
    story.change(1, (1, 2, 3, 4))
    story.live(1)
    assert story.events(5, Removed) == [Removed(while_away=False)]


def test_the_leader_forgets_a_removed_node_that_is_silent() -> None:
    story = _led(spare=0)
    story.change(1, (1, 2))
    story.live(2 * TIMING.upper, without=(3,))
    assert 3 not in story.cores[1].progress(story.now)


def test_a_removed_node_that_missed_it_disturbs_nobody_and_is_told_when_it_asks() -> None:
    story = _led(5, 0)
    story.change(1, (1, 2, 3, 4))
    story.live(20, without=(5,))
    story.propose(1, "a")
    story.live(1, without=(5,))
    story.fire(5)
    assert story.waiting(PreVoteRequest, sender=5)
    story.exchange()
    story.live(3)
    assert _roles(story)[5] == "removed"
    assert (story.cores[1].role, story.cores[1].term) == (Role.LEADER, 1)


def test_a_removed_node_that_missed_it_is_told_by_the_first_part_of_a_snapshot() -> None:
    story = _led(5, 0)
    story.change(1, (1, 2, 3, 4))
    story.live(20, without=(5,))
    story.take_snapshot(1, b"state")
    story.fire(5)
    story.exchange()
    story.live(2)
    assert _roles(story)[5] == "removed"
    assert story.state(5).log.base_index == 0, "it has not installed it"


def test_a_removed_node_that_had_nothing_committed_after_its_restart_is_told_by_a_snapshot() -> None:
    story = _with_learners(spare=1)
    story.restart(4)  # what is committed is not on its disk, so it does not know from its log that it is a member
    story.change(1, (1, 2, 3))
    story.live(20, without=(4,))
    story.take_snapshot(1, b"state")
    story.cores[1].hear_of_cluster(4, CLUSTER, story.now)
    story.settle(1)
    story.live(2)
    assert _roles(story)[4] == "removed"
    assert story.state(4).log.base_index == 0, "it has not installed it"


def test_a_node_that_was_let_in_and_removed_before_it_heard_of_either_is_told_when_it_greets_the_leader() -> None:
    story = _led(spare=1)
    story.change(1, (1, 2, 3), (4,))
    story.live(20, without=(4,))
    story.change(1, (1, 2, 3))
    story.live(20, without=(4,))
    story.restart(4)
    assert _roles(story)[4] == "forming"
    story.cores[1].hear_of_cluster(4, 0, story.now)
    story.settle(1)
    story.live(2)
    assert _roles(story)[4] == "removed"
    assert story.events(4, Removed) == [Removed(while_away=True)]


def test_a_removed_node_is_told_when_it_greets_the_leader() -> None:
    story = _with_learners(spare=1)
    story.change(1, (1, 2, 3))
    story.live(20, without=(4,))
    story.cores[1].hear_of_cluster(4, CLUSTER, story.now)
    story.settle(1)
    story.live(2)
    assert _roles(story)[4] == "removed"


def test_removed_nodes_with_a_newer_term_depose_nobody() -> None:
    story = _led(5, 0)
    story.change(1, (1, 2, 3))
    story.live(20, without=(4, 5))
    story.crash(5)
    story.change_disk(5, term=9)
    story.start(5)
    story.live(60, without=(4,))
    assert story.state(5).round_number > 5, "it has asked for votes again and again"
    assert (story.cores[1].role, story.cores[1].term) == (Role.LEADER, 1)


def test_removed_nodes_that_are_a_majority_of_the_old_voters_elect_nobody() -> None:
    story = _led(5, 0)
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
    assert [_roles(story)[node] for node in (3, 4, 5)] == ["removed"] * 3


def test_a_removed_node_takes_no_part_any_more() -> None:
    story = _led(spare=0)
    story.change(1, (1, 2))
    story.live(1)
    story.drop()
    for message in (PreVoteRequest(9, 1, 9, 8), VoteRequest(9, 9, 8, transfer=False), TimeoutNow(1, 0.0)):
        story.receive(3, 1, message)
    assert not story.post
    assert not story.waiting(PreVoteResponse)


# --- leases and leader work across changes ------------------------------------------------------------------


def test_a_leader_elected_by_new_voters_alone_waits_for_the_work_of_the_old_leader() -> None:
    """None of them ever voted for the old leader; they heard of its work in the messages that made them voters."""
    story = _with_learners(spare=3)
    story.live(1)
    assert story.work(1) == ["StartWork"]
    assert story.change(1, (4, 5, 6)) is None
    story.deliver(AppendEntriesRequest)
    story.deliver(AppendEntriesResponse)
    assert story.members(1) == "4 5 6"
    changed_at = story.now
    story.deliver(AppendEntriesRequest)
    story.drop()
    for node in (1, 2, 3):
        story.crash(node)  # and the script of node 1 has not noticed
    story.live(40)
    (leader,) = (node for node in (4, 5, 6) if story.cores[node].role is Role.LEADER)
    story.live(20)
    assert story.work(leader) == ["StartWork"]
    assert story.state(leader).work_until >= changed_at + TIMING.work_claim


def test_new_voters_elect_nobody_while_the_old_leaders_lease_runs() -> None:
    story = _with_learners(spare=3)
    story.live(1)
    story.change(1, (4, 5, 6))
    story.deliver(AppendEntriesRequest)
    story.deliver(AppendEntriesResponse)
    lease = next(event.deadline for event in story.events(1, StartWork))
    story.deliver(AppendEntriesRequest)
    story.drop()
    for node in (1, 2, 3):
        story.crash(node)
    while story.now < lease:
        node = min((4, 5, 6), key=lambda one: story.wake_at[one])
        story.fire(node)
        story.exchange()
        assert story.cores[node].role is not Role.LEADER or story.now >= lease
