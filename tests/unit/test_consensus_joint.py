"""Joint consensus, told as stories (Raft, section 6)."""

import pytest

from tests.unit.membership_story import led, roles, with_learners
from tests.unit.story import TIMING
from trioraft.consensus import Role
from trioraft.consensus.configuration import Configuration, decode_configuration, encode_configuration
from trioraft.consensus.events import (
    ConfigurationChanged,
    ReadReady,
    StartWork,
    SteppedDown,
)
from trioraft.messages import (
    AppendEntriesRequest,
    AppendEntriesResponse,
    Entry,
    EntryKind,
    InstallSnapshotRequest,
)


def test_a_configuration_is_in_force_as_soon_as_it_is_in_the_log() -> None:
    story = with_learners()
    story.change(1, (3, 4, 5))
    assert story.members(1) == "3 4 5 [1 2 3]"
    story.deliver(AppendEntriesRequest, to=2)
    assert story.members(2) == "3 4 5 [1 2 3]"
    assert story.members(3) == "1 2 3 + 4 5"
    last = story.events(2, ConfigurationChanged)[-1]
    assert (last.configuration.old_voters, last.committed) == ((1, 2, 3), False)


@pytest.mark.parametrize("silent", [(2, 3), (4, 5)], ids=["old", "new"])
def test_while_joint_nothing_is_committed_without_both_majorities(silent: tuple[int, int]) -> None:
    story = with_learners(spare=3)  # 1 2 3 become 4 5 6
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
    story = with_learners(spare=3)
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
    story = with_learners(spare=3)
    story.stick_disk(lost[0])  # so that the change is not completed
    story.change(1, (4, 5, 6))
    story.drop()
    story.live(8, without=lost)
    assert story.events(1, SteppedDown)


@pytest.mark.parametrize("silent", [(2, 3), (5, 6)], ids=["old", "new"])
def test_while_joint_nobody_is_elected_without_both_majorities(silent: tuple[int, int]) -> None:
    story = with_learners(spare=3)
    story.change(1, (4, 5, 6))
    story.deliver(AppendEntriesRequest)  # all have the joint configuration, and nobody knows that it is committed
    story.drop()
    story.crash(1)
    story.live(40, without=silent)
    assert all(role != "leader" for role in roles(story).values())
    story.live(40)
    assert list(roles(story).values()).count("leader") == 1
    assert story.members(4) == story.members(6) == "4 5 6"


def test_one_joint_change_replaces_a_voter() -> None:
    story = with_learners(spare=1)
    story.crash(3)
    story.live(1)
    assert story.change(1, (1, 2, 4)) is None
    story.live(1)
    assert story.members(1) == story.members(4) == "1 2 4"
    seen = [event.configuration.voters for event in story.events(1, ConfigurationChanged)]
    assert (1, 2) not in seen
    assert (1, 2, 3, 4) not in seen


def test_a_voter_becomes_a_learner_and_votes_until_then() -> None:
    story = led(spare=0)
    assert story.change(1, (1, 2), (3,)) is None
    assert story.members(1) == "1 2 [1 2 3] + 3"
    story.live(1)
    assert roles(story) == {1: "leader", 2: "follower", 3: "learner"}


def test_a_change_that_nobody_else_has_is_rolled_back() -> None:
    story = with_learners()
    story.change(1, (3, 4, 5))
    story.drop()
    story.crash(1)
    story.live(15)
    story.start(1)
    assert story.members(1) == "3 4 5 [1 2 3]"
    story.live(5)
    assert {story.members(node) for node in story.ids} == {"1 2 3 + 4 5"}


def test_a_new_leader_completes_a_joint_change_that_is_in_its_log() -> None:
    story = with_learners()
    story.change(1, (3, 4, 5))
    story.deliver(AppendEntriesRequest)
    story.drop()
    story.crash(1)
    story.live(20)
    assert {story.members(node) for node in (3, 4, 5)} == {"3 4 5"}
    story.start(1)
    story.live(15)
    assert roles(story)[1] == roles(story)[2] == "removed"


def test_a_snapshot_carries_a_joint_configuration_and_its_receiver_completes_it() -> None:
    story = with_learners()
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
    story = led()
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
    story = led(spare=1)
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
    story = led(1, 2)
    story.change(1, (1,), (2, 3))
    story.live(2)
    assert story.change(1, (1, 2, 3)) is None
    story.live(1)
    assert roles(story) == {1: "leader", 2: "follower", 3: "follower"}
    assert story.change(1, (1,)) is None
    story.live(2)
    assert roles(story) == {1: "leader", 2: "removed", 3: "removed"}
    story.propose(1, "alone")
    assert story.applied[1] == [b"alone"]


# --- leases and leader work across changes ------------------------------------------------------------------


def test_a_leader_elected_by_new_voters_alone_waits_for_the_work_of_the_old_leader() -> None:
    """None of them ever voted for the old leader; they heard of its work in the messages that made them voters."""
    story = with_learners(spare=3)
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
    story = with_learners(spare=3)
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
