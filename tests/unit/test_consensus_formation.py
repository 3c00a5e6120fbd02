"""Formations, told as stories: nodes without a cluster form one, and only one."""

import random

import pytest

from tests.unit.story import TIMING, Story
from trioraft.consensus import Timing
from trioraft.consensus.events import ForeignCluster, FormationEnded, Formed
from trioraft.messages import FormationRequest, FormationResponse, FormationView, PreVoteRequest


def _see_one_another(story: Story, *, without: set[int] | None = None) -> None:
    """Let the volatile round go on until somebody has promised a formation; requests stay in the post."""
    there = [node for node in story.ids if node not in (without or set())]
    for _ in range(30):
        for node in there:
            story.tick(node)
        for letter in story.take(FormationView):
            if letter.to in there:
                story.hand_over(letter)
        if any(story.cores[node].hard.formation.promised for node in there):
            return
        story.wait(TIMING.heartbeat)
    raise AssertionError("nobody proposed a formation")


def _clusters(story: Story) -> set[int]:
    return {hard.formation.cluster for hard in story.disk.values()}


# --- the volatile round -------------------------------------------------------------------------------------


def test_three_nodes_form_one_cluster() -> None:
    story = Story(formed=False)
    assert story.roles() == ["forming"] * 3
    story.live(4 * TIMING.heartbeat)
    (cluster,) = _clusters(story)
    assert cluster != 0
    for node in story.ids:
        assert story.events(node, Formed) == [Formed(cluster=cluster, members=(1, 2, 3))]
        assert story.cores[node].cluster == cluster


def test_fifty_one_nodes_form_one_cluster_and_spare_each_other_views() -> None:
    fast = Timing(lower=0.15, upper=0.3, heartbeat=0.05)
    story = Story(51, formed=False)
    for node in story.ids:
        story.restart(node, fast)
    views, end = 0, story.now + 3.0
    while story.now < end and any(core.cluster == 0 for core in story.cores.values()):
        due = min(story.wake_at.values())
        story.now = max(story.now, due)
        for node in [node for node, wake_at in story.wake_at.items() if wake_at <= story.now]:
            story.tick(node)
        views += len(story.waiting(FormationView))
        story.exchange()
    assert len(_clusters(story)) == 1
    assert {len(story.events(node, Formed)) for node in story.ids} == {1}
    assert views <= 5 * 51 * 50  # and not a round in each heartbeat interval


def test_nothing_is_written_before_all_have_seen_each_other() -> None:
    story = Story(formed=False)
    story.live(60, cut_off={3})
    assert story.roles() == ["forming"] * 3
    assert story.writes == {1: 0, 2: 0, 3: 0}


def test_a_link_that_works_one_way_only_is_no_seeing_each_other() -> None:
    story = Story(formed=False)
    for _ in range(40):
        for node in story.ids:
            story.tick(node)
        story.drop(sender=2, to=3)
        story.deliver()
        story.wait(TIMING.heartbeat)
    assert story.roles() == ["forming"] * 3
    assert story.writes == {1: 0, 2: 0, 3: 0}


def test_one_node_proposes_and_the_others_wait_for_it() -> None:
    story = Story(formed=False)
    _see_one_another(story)
    assert {letter.sender for letter in story.take(FormationRequest)} == {1}


def test_as_many_as_are_expected_form_without_the_rest() -> None:
    story = Story(nodes=5, formed=False, expect=3)
    story.live(60, cut_off={4, 5})
    assert [role == "forming" for role in story.roles()] == [False, False, False, True, True]
    assert story.disk[1].formation.members == (1, 2, 3)


def test_a_node_that_expects_nothing_never_forms() -> None:
    story = Story(formed=False, expect=0)
    story.live(60)
    assert story.roles() == ["forming"] * 3
    assert story.writes == {1: 0, 2: 0, 3: 0}


def test_one_node_that_expects_itself_is_a_cluster() -> None:
    story = Story(nodes=1, formed=False)
    story.live(10)
    assert story.roles() == ["leader"]


def test_a_late_node_without_state_waits_to_be_joined() -> None:
    story = Story(nodes=4, formed=False, expect=3)
    story.live(30, without={4})
    (cluster,) = _clusters(story) - {0}
    story.live(60)
    assert story.roles()[3] == "forming"
    assert story.cores[4].formation.heard_cluster == cluster
    assert story.writes[4] == 1, "that it waits for it"
    story.restart(4)
    assert story.cores[4].formation.heard_cluster == cluster


def test_who_heard_of_a_cluster_in_a_greeting_forms_no_other() -> None:
    story = Story(formed=False)
    story.cores[1].hear_of_cluster(77, 0xF00, story.now)
    story.live(60)
    assert story.roles() == ["forming"] * 3
    assert story.cores[1].formation.heard_cluster == 0xF00


# --- promises -----------------------------------------------------------------------------------------------


def test_a_promise_is_on_disk_before_it_is_told() -> None:
    story = Story(formed=False)
    story.stick_disk(1)
    for _ in range(4):
        story.live(TIMING.heartbeat)
    assert story.cores[1].hard.formation.promised != 0
    assert story.disk[1].formation.promised == 0
    assert not story.waiting(FormationRequest)
    assert story.writes == {1: 0, 2: 0, 3: 0}
    story.free_disk(1)
    assert story.waiting(FormationRequest)


def test_that_a_node_is_a_member_is_on_disk_before_it_is_told() -> None:
    """Else it could forget both its promise and its cluster after another has counted on them."""
    story = Story(nodes=2, formed=False)
    _see_one_another(story)
    story.stick_disk(2)
    story.deliver(FormationRequest)
    assert story.cores[2].formation.formed, "all have promised, as far as node 2 knows"
    assert story.cores[2].cluster == 0
    assert not story.events(2, Formed)
    assert not story.post
    story.crash(2)
    story.start(2)
    assert story.disk[2].formation.promised == 0
    story.live(10)
    assert _clusters(story) - {0} == {story.cores[1].cluster} == {story.cores[2].cluster}


def test_a_node_promises_one_formation_at_a_time_and_refuses_the_other_for_ever() -> None:
    story = Story(formed=False)
    story.receive(3, 1, FormationRequest(formation=0xA, members=(1, 2, 3)))
    story.drop()
    story.stick_disk(3)
    story.receive(3, 2, FormationRequest(formation=0xB, members=(1, 2, 3)))
    assert not story.post, "a refusal, too, is on disk before it is told"
    story.free_disk(3)
    assert story.waiting(FormationResponse, to=2) == [FormationResponse(formation=0xB, promised=False)]
    assert (story.disk[3].formation.promised, story.disk[3].formation.never) == (0xA, (0xB,))

    story.restart(3)
    story.receive(3, 1, FormationResponse(formation=0xA, promised=False))
    assert story.disk[3].formation.promised == 0
    story.drop()
    story.receive(3, 2, FormationRequest(formation=0xB, members=(1, 2, 3)))
    assert story.waiting(FormationResponse, to=2) == [FormationResponse(formation=0xB, promised=False)]


def test_one_refusal_ends_a_formation_for_all_and_another_one_comes() -> None:
    story = Story(formed=False)
    _see_one_another(story)
    first = story.disk[1].formation.promised
    story.deliver(FormationRequest, to=2)
    story.drop()
    assert story.disk[2].formation.promised == first
    story.change_disk(3, formation=type(story.disk[3].formation)(never=(first,)))
    story.restart(3)

    story.receive(3, 1, FormationRequest(formation=first, members=(1, 2, 3)))
    story.deliver(FormationResponse, to=1)
    assert isinstance(story.told[1][-1], FormationEnded)
    assert first in story.disk[1].formation.never
    story.deliver(FormationResponse, to=2)
    assert story.events(2, FormationEnded)
    story.live(10)
    (cluster,) = _clusters(story)
    assert cluster not in {0, first}


def test_a_promise_is_not_dropped_for_silence() -> None:
    story = Story(formed=False)
    _see_one_another(story)
    promised = story.disk[1].formation.promised
    story.drop()
    story.live(3600, without={2, 3})
    assert story.disk[1].formation.promised == promised


def test_the_proposer_crashes_when_all_have_promised() -> None:
    story = Story(formed=False)
    _see_one_another(story)
    formation = story.disk[1].formation.promised
    story.deliver(FormationRequest)
    story.crash(1)
    story.drop()
    story.live(2, without={1})
    assert [story.cores[node].cluster for node in (2, 3)] == [formation] * 2, "to ask is to have promised"
    assert story.disk[1].formation.promised == formation
    story.start(1)
    story.live(2)
    assert _clusters(story) == {formation}


def test_a_member_crashes_before_anybody_has_heard_of_its_promise() -> None:
    story = Story(formed=False)
    _see_one_another(story)
    formation = story.disk[1].formation.promised
    story.deliver(FormationRequest, to=2)
    story.deliver(FormationRequest, sender=1, to=3)
    story.drop(sender=3)
    story.crash(3)
    story.live(60, without={3})
    assert [story.cores[node].formation.missing for node in (1, 2)] == [(3,), (3,)]
    assert story.roles() == ["forming", "forming", "down"]
    story.start(3)
    story.live(2)
    assert _clusters(story) == {formation}


def test_the_proposer_crashes_before_anybody_has_heard_of_it() -> None:
    story = Story(formed=False)
    _see_one_another(story)
    formation = story.disk[1].formation.promised
    story.drop()
    story.crash(1)
    story.live(10, without={1})
    assert [story.disk[node].formation.promised for node in (2, 3)] == [0, 0]
    story.start(1)
    story.live(5)
    assert _clusters(story) == {formation}


def test_who_hears_a_member_speak_for_its_formation_knows_that_it_stands() -> None:
    story = Story(formed=False)
    _see_one_another(story)
    formation = story.disk[1].formation.promised
    story.deliver(FormationRequest)
    story.drop()
    story.cores[3].receive(2, formation, PreVoteRequest(2, 1, 1, 1), story.now)
    story.settle(3)
    assert story.cores[3].cluster == formation


def test_a_request_from_or_for_others_is_not_answered() -> None:
    story = Story(formed=False)
    story.receive(3, 1, FormationRequest(formation=0xA, members=(1, 2)))
    story.receive(3, 2, FormationRequest(formation=0xB, members=(1, 3)))
    assert (story.post, story.writes[3]) == ([], 0)


def test_a_formation_that_is_smaller_than_a_node_expects_is_refused() -> None:
    story = Story(nodes=5, formed=False)
    story.expect[3] = 3
    story.restart(3)
    story.receive(3, 1, FormationRequest(formation=0xA, members=(1, 3)))
    assert story.waiting(FormationResponse, to=1) == [FormationResponse(formation=0xA, promised=False)]


# --- a member that is lost ----------------------------------------------------------------------------------


def test_a_lost_member_is_named_and_given_up_on_an_operators_word() -> None:
    story = Story(nodes=4, formed=False, expect=3)
    _see_one_another(story)
    story.deliver(FormationRequest, to=2)
    story.deliver(FormationRequest, to=3)
    story.deliver(FormationResponse)
    story.drop()
    story.crash(4)
    story.live(60, without={4})
    for node in (1, 2, 3):
        assert story.roles()[node - 1] == "forming"
        assert story.cores[node].formation.missing == (4,)

    promised = story.cores[2].hard.formation.promised
    assert story.cores[2].formation.abandon(promised + 1, story.now) is not None, "it must be named"
    assert story.cores[2].formation.abandon(promised, story.now) is None
    story.settle(2)
    story.live(1, without={4})
    for node in (1, 2, 3):
        assert story.cores[node].formation.state.promised != promised, "who gives it up tells the others"
        assert story.cores[node].formation.abandon(promised, story.now) is None, "so to ask them, too, is no mistake"
    story.live(20, without={4})
    (cluster,) = {story.cores[node].cluster for node in (1, 2, 3)}
    assert cluster not in {0, promised}
    assert story.disk[1].formation.members == (1, 2, 3)


def test_who_was_away_when_the_others_gave_a_formation_up_learns_of_it() -> None:
    story = Story(nodes=4, formed=False, expect=2)
    _see_one_another(story)
    story.deliver(FormationRequest, to=2)
    story.deliver(FormationRequest, to=3)
    story.deliver(FormationResponse)
    story.drop()
    story.crash(4)
    story.live(5, without={4})
    story.crash(3)
    promised = story.cores[1].hard.formation.promised
    for node in (1, 2):
        assert story.cores[node].formation.abandon(promised, story.now) is None
        story.settle(node)
    story.live(20, without={3, 4})
    (cluster,) = {story.cores[node].cluster for node in (1, 2)}
    assert cluster not in {0, promised}
    story.start(3)
    assert story.disk[3].formation.promised == promised
    story.live(5, without={4})
    assert story.disk[3].formation.promised == 0
    assert story.cores[3].formation.heard_cluster == cluster


def test_a_member_of_a_cluster_abandons_nothing() -> None:
    story = Story()
    assert story.cores[1].formation.abandon(5, story.now) is not None


# --- members of a cluster -----------------------------------------------------------------------------------


def test_a_member_refuses_every_other_formation() -> None:
    story = Story()
    story.receive(1, 9, FormationRequest(formation=0xA, members=(1, 9)))
    story.receive(1, 2, FormationRequest(formation=story.cores[1].cluster, members=(1, 2, 3)))
    assert [answer.promised for answer in story.waiting(FormationResponse)] == [False, True]


def test_a_member_answers_who_has_no_cluster_and_no_other_member() -> None:
    """Else two members would answer one another for ever."""
    story = Story()
    view = FormationView(sees=(2,), expect=3)
    story.cores[1].receive(2, 0, view, story.now)
    story.settle(1)
    assert [letter.cluster for letter in story.take(FormationView)] == [story.cores[1].cluster]
    story.receive(1, 2, view)
    assert not story.post


def test_a_foreign_cluster_under_the_own_service_name_is_reported() -> None:
    story = Story()
    story.cores[1].hear_of_cluster(9, 0xBAD, story.now)
    story.cores[1].hear_of_cluster(2, story.cores[1].cluster, story.now)
    story.cores[1].hear_of_cluster(8, 0, story.now)
    story.settle(1)
    assert story.events(1, ForeignCluster) == [ForeignCluster(node=9, cluster=0xBAD)]


# --- bad networks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_ten_nodes_that_start_at_once_form_one_cluster_under_loss(seed: int) -> None:
    story = Story(nodes=10, formed=False, seed=seed)
    chance = random.Random(seed)
    started = story.now
    while any(core.cluster == 0 for core in story.cores.values()):
        due, node = min((due, node) for node, due in story.wake_at.items())
        story.now = max(story.now, due)
        story.tick(node)
        while story.post:
            letter = story.post.pop(0)
            if chance.random() >= 0.2:
                story.hand_over(letter)
        assert story.now - started < 30, f"seed {seed}: {story.roles()}"
    assert len(_clusters(story)) == 1
    assert not any(story.events(node, FormationEnded) for node in story.ids), "nobody chased anybody"
