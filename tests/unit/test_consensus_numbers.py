"""Numbers that no member can mean, told as stories: what has one is dropped, and who lags catches up all the same."""

import random

import msgspec
import pytest

from tests.simulation.rogue import rogue_messages, second_leader
from tests.unit.story import TIMING, Letter, Story
from trioraft.consensus import Role, numbers
from trioraft.consensus.events import NotMeant, SteppedDown
from trioraft.consensus.far_terms import TERM_FAR_MAX
from trioraft.messages import (
    TERM_LEAP,
    TERM_MAX,
    AppendEntriesRequest,
    AppendEntriesResponse,
    Entry,
    EntryKind,
    FormationRequest,
    InstallSnapshotResponse,
    PreVoteRequest,
    PreVoteResponse,
    VoteResponse,
)

FAR = 2**40


def _heartbeat(term: int) -> AppendEntriesRequest:
    return AppendEntriesRequest(term, 1, 6.0, 0, 0, 0)


def _led(nodes: int = 3) -> Story:
    story = Story(nodes)
    story.elect(1)
    story.propose(1, "a")
    story.live(2)
    story.drop()
    return story


# --- what is dropped ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("to", [1, 2])
def test_no_number_that_nobody_can_mean_changes_anything_or_is_answered(to: int, seed: int) -> None:
    story = _led()
    disk, term = story.disk[to], story.cores[to].term
    messages = rogue_messages(story.cores[to], random.Random(seed))
    for sender in (1, 2, 3, 99):
        for message in messages:
            story.receive(to, sender, message)
            assert (story.disk[to], story.post) == (disk, []), message
    dropped = story.events(to, NotMeant)
    assert {event.node for event in dropped} == {1, 2, 3, 99}
    # The others are answers to what was never asked.
    assert len(dropped) >= 4 * (len(messages) - 2)
    story.live(20)
    assert story.roles() == ["leader", "follower", "follower"]
    assert (story.cores[to].term, story.events(1, SteppedDown)) == (term, [])


def test_what_was_dropped_says_whose_it_was_and_which_number() -> None:
    story = _led()
    story.receive(2, 3, _heartbeat(TERM_MAX))
    story.receive(2, 3, msgspec.structs.replace(_heartbeat(1), work=1e8))
    assert story.events(2, NotMeant) == [
        NotMeant(3, "AppendEntriesRequest", f"term {TERM_MAX}, and this node knows term 1"),
        NotMeant(3, "AppendEntriesRequest", "leader work that may run for 100000000 s"),
    ]


def test_a_second_leader_of_a_term_is_not_followed() -> None:
    story = _led()
    story.receive(2, 3, second_leader(story.cores[2]))
    assert (story.cores[2].leader, story.post) == (1, [])
    assert story.events(2, NotMeant)[0].what == "a second leader in term 1"


def test_a_follower_that_has_more_than_its_leader_is_not_counted() -> None:
    story = _led()
    sequence = story.state(1).sequence + 1
    story.tick(1)
    story.fire(1)
    story.drop()
    story.receive(1, 2, AppendEntriesResponse(1, sequence, 3.0, story.state(1).log.last_index + 1, last_choice=False))
    assert story.state(1).followers[2].match_index <= story.state(1).log.last_index
    assert story.events(1, NotMeant)


def test_more_of_a_snapshot_than_there_is_is_not_acknowledged() -> None:
    story = Story(3)
    story.elect(1, among={1, 2})
    story.propose(1, *"abc")
    story.live(2, cut_off={3})
    snapshot = story.take_snapshot(1, b"s" * 10)
    while (sending := story.state(1).followers[3].sending) is None:
        story.fire(1)
        story.deliver()
    story.receive(1, 3, InstallSnapshotResponse(1, snapshot.index, 11, installed=False))
    assert (sending.acknowledged, sending.next) == (0, 10)


def test_no_formation_of_members_that_are_not_in_order_is_promised() -> None:
    story = Story(3, formed=False)
    story.receive(1, 2, FormationRequest(7, (2, 1, 3)))
    assert (story.disk[1].formation.promised, story.post) == (0, [])


def test_leader_work_of_years_that_an_earlier_release_has_believed_in_does_not_last() -> None:
    story = Story(3)
    story.change_disk(2, term=1, work=1e8, work_term=1)
    story.restart(2)
    assert story.state(2).work_until <= story.now + numbers.CLAIM_MAX


def test_nobody_stands_for_an_election_after_the_last_term() -> None:
    story = Story(3)
    for node in story.ids:
        story.change_disk(node, term=TERM_MAX)
        story.restart(node)
    story.live(30)
    assert story.roles() == ["follower"] * 3
    assert {hard.term for hard in story.disk.values()} == {TERM_MAX}


@pytest.mark.parametrize(
    ("terms", "fit"),
    [([], True), ([3], True), ([3, 3, 3], True), ([3, 4, 7], True), ([8], False), ([7, 8], False), ([4, 3], False),
     ([2], False), ([3, 5, 4, 7], False), ([7, 3, 7], False)],
)  # fmt: skip
def test_the_terms_of_entries_fit_to_one_another_and_to_the_leaders(terms: list[int], fit: bool) -> None:
    entries = tuple(Entry(term, EntryKind.NO_OP) for term in terms)
    assert (not numbers.why_not_meant(AppendEntriesRequest(7, 1, 1.0, 9, 3, 9, entries))) is fit


# --- how far terms are learned all the same -----------------------------------------------------------------


def _answer(story: Story, node: int, term: int = FAR) -> PreVoteResponse:
    """Make what answers a node's question, as a member says it that has got the question."""
    search = story.state(node).far_terms
    return PreVoteResponse(term, search.question if search is not None else 0, granted=False)


def test_the_only_voter_takes_a_far_term_over_from_nobody() -> None:
    story = Story(1, spare=2)
    story.elect(1)
    story.restart(1)  # it does not lead now, and nobody else can
    before = story.cores[1].term
    for _ in range(3):
        for stranger in (2, 3):
            story.receive(1, stranger, VoteResponse(FAR, granted=False, work=0.0, work_term=0))
            story.receive(1, stranger, _answer(story, 1))
        story.wait(TIMING.lower)
        story.drop()
    assert story.cores[1].term == before
    story.elect(1)


@pytest.mark.parametrize("leaps", [1, 3])
def test_a_fresh_node_joins_a_cluster_that_was_recovered(leaps: int) -> None:
    story = Story(1, spare=2)
    story.change_disk(1, term=leaps * TERM_LEAP + 5)
    story.restart(1)
    story.elect(1)
    story.change(1, [1], [2, 3])
    story.live(3 * TIMING.lower)
    term = leaps * TERM_LEAP + 6
    assert [story.cores[node].term for node in story.ids] == [term] * 3
    assert story.roles() == ["leader", "learner", "learner"]
    assert not any(story.events(node, NotMeant) for node in story.ids), "nobody has to look at that"
    story.propose(1, "a")
    story.live(1)
    assert story.applied[3] == [b"a"]


def test_one_message_does_not_lead_a_fresh_node_astray() -> None:
    story = Story(2, spare=1)
    for node in (1, 2):
        story.change_disk(node, term=TERM_LEAP)
        story.restart(node)
    story.elect(1)
    story.cores[3].receive(2, story.cores[1].cluster, _heartbeat(TERM_FAR_MAX), story.now)
    story.settle(3)
    story.cores[3].receive(2, story.cores[1].cluster, _heartbeat(TERM_FAR_MAX), story.now)
    story.settle(3)
    story.change(1, [1, 2], [3])
    story.live(3 * TIMING.lower)
    assert (story.cores[3].term, story.cores[3].leader) == (story.cores[1].term, 1)


@pytest.mark.parametrize("nodes", [3, 4, 5])
def test_a_member_that_was_away_for_a_million_elections_believes_most_of_the_others(nodes: int) -> None:
    story = Story(nodes)
    for node in story.ids:
        story.change_disk(node, term=FAR if node < nodes else 1)
        story.restart(node)
    story.elect(1)
    story.live(4 * TIMING.upper)
    assert {core.term for core in story.cores.values()} == {FAR + 1}
    assert story.cores[nodes].leader == 1
    assert story.events(nodes, NotMeant)


def test_a_single_member_is_not_believed_and_the_others_are_asked_seldom() -> None:
    story = Story(3)
    for _ in range(50):
        story.receive(2, 3, _heartbeat(FAR))
    assert story.cores[2].term == 0
    questions = [letter for letter in story.post if isinstance(letter.message, PreVoteRequest)]
    assert [(letter.sender, letter.to) for letter in questions] in ([(2, 1), (2, 3)], [(2, 3), (2, 1)])


def test_who_speaks_in_anothers_name_is_contradicted_by_that_one() -> None:
    story = Story(3)
    for rogue in (1, 3):
        story.receive(2, rogue, PreVoteResponse(0, 0, granted=False))
    story.receive(2, 1, VoteResponse(FAR, granted=False, work=0.0, work_term=0))
    story.exchange()  # the others are asked, and tell
    for rogue in (1, 3):
        story.receive(2, rogue, _answer(story, 2))
    assert story.cores[2].term == 0


def test_who_speaks_in_the_name_of_a_node_that_is_cut_off_is_never_believed() -> None:
    story = Story(3)
    story.elect(1)
    for _ in range(15):
        story.live(TIMING.upper, cut_off=(2,))
        story.receive(2, 3, _heartbeat(FAR))
        for question in (0, 1):
            story.receive(2, 3, PreVoteResponse(FAR, question, granted=True))
    assert story.cores[2].term < FAR
    story.live(3 * TIMING.upper)
    assert story.cores[2].leader == 1


def test_a_member_whose_voters_are_gone_believes_after_a_while_who_answers() -> None:
    story = Story(3)
    story.crash(1)
    story.change_disk(3, term=FAR)
    story.restart(3)
    story.live(9 * TIMING.upper)
    assert story.cores[2].term < FAR
    story.live(6 * TIMING.upper)
    assert story.cores[2].term >= FAR
    assert "leader" in story.roles()


def test_no_term_that_leaves_no_room_is_believed_however_many_say_it() -> None:
    story = Story(3)
    for _ in range(100):
        for node in (1, 3):
            story.hand_over(Letter(node, 2, story.cores[2].cluster, _heartbeat(TERM_FAR_MAX + 1)))
            story.receive(2, node, _answer(story, 2, TERM_FAR_MAX + 1))
        story.wait(1.0)
    assert story.cores[2].term == 0


def test_a_node_that_has_a_leader_looks_for_no_other_term() -> None:
    story = _led(5)
    for node in (3, 4, 5):
        story.receive(2, node, VoteResponse(FAR, granted=False, work=0.0, work_term=0))
    assert (story.cores[2].term, story.cores[2].role, story.post) == (1, Role.FOLLOWER, [])
