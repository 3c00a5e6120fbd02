"""Stories of rounds: one message to all followers that need the same, and what a leader computes when it changes."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.story import LEASE, Story
from trioraft.consensus.configuration import Configuration
from trioraft.consensus.lease import contact_end
from trioraft.consensus.ledger import Outgoing
from trioraft.consensus.tally import Tally
from trioraft.consensus.turn import together
from trioraft.messages import AppendEntriesRequest, AppendEntriesResponse, Message


def entries_sent(story: Story, node: int) -> list[tuple[int, AppendEntriesRequest]]:
    """List the messages with entries that a node has in the post, and whom they go to."""
    return [
        (letter.to, letter.message)
        for letter in story.post
        if letter.sender == node and isinstance(letter.message, AppendEntriesRequest) and letter.message.entries
    ]


def messages_of(sent: Sequence[tuple[int, AppendEntriesRequest]]) -> list[list[int]]:
    """List the receivers of each message that is one and the same to several."""
    return [list(receivers) for receivers, _ in together(Outgoing(to, message) for to, message in sent)]


def led(nodes: int = 5) -> Story:
    """Begin with a leader, whom all follow, and whose no-op all have."""
    story = Story(nodes)
    story.fire(1)
    story.exchange()
    story.live(1.0)
    assert story.cores[1].leader == 1
    story.post.clear()
    return story


def test_entries_go_to_all_followers_in_one_message() -> None:
    story = led()
    story.propose(1, "a", "b")
    assert messages_of(entries_sent(story, 1)) == [[2, 3, 4, 5]]


def test_a_heartbeat_that_some_have_not_answered_is_sent_again_in_one_message() -> None:
    story = led()
    due = story.state(1).heartbeat_at
    while story.now < due:
        story.fire(1)
    story.exchange(among={1, 2, 5})
    story.post.clear()
    story.fire(1)
    assert [(letter.to, letter.message.sequence) for letter in story.post] == [
        (3, story.state(1).sequence),
        (4, story.state(1).sequence),
    ]


def test_a_follower_that_lags_gets_rounds_of_its_own_and_nobody_waits_for_it() -> None:
    story = led()
    story.propose(1, "lost by 3")
    story.exchange(among={1, 2, 4, 5})
    story.post.clear()
    story.fire(1)
    while not (sent := entries_sent(story, 1)):
        story.exchange(among={1, 2, 4, 5})
        story.fire(1)  # until what 3 lacks is sent again
    assert messages_of(sent) == [[3]]
    story.propose(1, "for all")
    assert messages_of(entries_sent(story, 1)[len(sent) :]) == [[2, 4, 5]]
    story.exchange()
    story.live(1.0)
    story.propose(1, "once more")
    assert messages_of(entries_sent(story, 1)) == [[2, 3, 4, 5]]


def test_a_round_is_no_larger_than_the_smallest_path_of_its_receivers_takes() -> None:
    story = led(3)
    for node, room in ((2, 100), (3, 10_000)):
        story.state(1).batch_room[node] = room
    story.propose(1, *["x" * 30] * 6)
    sizes = [len(message.entries) for _, message in entries_sent(story, 1)]
    assert messages_of(entries_sent(story, 1)) == [[2, 3]] * 3
    assert sizes == [2] * 6


def test_an_answer_counts_for_its_sender_only() -> None:
    story = led()
    story.propose(1, "a")
    [(_, request), *_] = entries_sent(story, 1)
    committed, index = story.state(1).commit_index, story.state(1).log.last_index
    story.post.clear()
    for _ in range(2):  # the second one is a copy
        answer = AppendEntriesResponse(1, request.sequence, promise=3.0, matched=index, last_choice=False)
        story.receive(1, 2, answer)
    state = story.state(1)
    assert [state.followers[node].match_index == index for node in (2, 3, 4, 5)] == [True, False, False, False]
    assert [request.sequence in state.followers[node].sent for node in (2, 3, 4, 5)] == [False, True, True, True]
    assert state.commit_index == committed
    story.receive(1, 3, AppendEntriesResponse(1, request.sequence, promise=3.0, matched=index, last_choice=False))
    assert state.commit_index == index


def test_contact_follows_the_configuration() -> None:
    story = Story(3, spare=2)
    story.fire(1)
    story.exchange()
    story.live(1.0)
    assert story.change(1, [1, 2, 3], [4, 5]) is None
    story.live(2.0)
    state = story.state(1)
    before = contact_end(state)
    assert story.change(1, [1, 4, 5]) is None  # joint: a majority of either
    state.followers[4].promised_until = state.followers[5].promised_until = story.now - 1.0
    state.contact.configuration = None
    assert contact_end(state) == story.now - 1.0 < before


def test_contact_reaches_to_a_round_once_a_quorum_has_answered_it() -> None:
    story = led()
    before = contact_end(story.state(1))
    due = story.state(1).heartbeat_at
    while story.now < due:
        story.fire(1)
    for node, reaches in ((2, False), (3, True), (4, True)):
        story.deliver(to=node)
        story.deliver(sender=node)
        assert (contact_end(story.state(1)) > before) is reaches
    assert abs(contact_end(story.state(1)) - due - LEASE) < 1e-6


def test_what_is_in_flight_is_counted_however_it_ends() -> None:
    story = led(3)
    state = story.state(1)

    def counted() -> bool:
        return all(
            follower.in_flight_bytes == sum(message.size for message in follower.in_flight.values())
            for follower in state.followers.values()
        )

    state.batch_bytes = 100
    state.batch_room.clear()
    story.propose(1, *["x" * 30] * 10)
    assert state.followers[2].in_flight_bytes == 10 * 46
    assert counted()
    story.hand_over(next(letter for letter in story.post if letter.to == 2))
    story.deliver(sender=2)
    assert 0 < state.followers[2].in_flight_bytes < 10 * 46
    assert counted()
    story.post.clear()
    story.fire(1)  # both get the rest again
    assert state.followers[2].probing
    assert counted()
    story.live(2.0)
    assert state.followers[2].in_flight_bytes == state.followers[3].in_flight_bytes == 0
    assert state.commit_index == state.log.last_index


# --- tallies ------------------------------------------------------------------------------------------------

_VOTERS = st.sets(st.integers(1, 9), min_size=1).map(lambda nodes: tuple(sorted(nodes)))
_CONFIGURATIONS = st.builds(Configuration, voters=_VOTERS, old_voters=st.one_of(st.just(()), _VOTERS))


@given(
    st.lists(_CONFIGURATIONS, min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 5)), max_size=60),
)
def test_a_tally_is_what_a_quorum_has_reached(
    configurations: list[Configuration], steps: list[tuple[int, int]]
) -> None:
    values: dict[int, float] = dict.fromkeys(range(1, 10), 0.0)
    tally, leader = Tally(), 1
    for number, (node, more) in enumerate(steps):
        configuration = configurations[number * len(configurations) // len(steps)]
        if node != leader:
            tally.note(node, values[node], values[node] + more)
        values[node] += more
        if tally.may_have_grown(configuration):
            tally.compute(configuration, values, leader)
        assert tally.value == configuration.quorum_value(values)


def test_a_tally_is_computed_once_in_a_round_however_many_answer() -> None:
    configuration = Configuration(tuple(range(1, 52)))
    values: dict[int, float] = dict.fromkeys(configuration.voters, 0.0)
    tally, computed = Tally(), 0
    for beat in range(1, 11):
        values[1] = beat
        for node in range(2, 52):
            tally.note(node, values[node], beat)
            values[node] = beat
            if tally.may_have_grown(configuration):
                tally.compute(configuration, values, 1)
                computed += 1
    assert computed == 11  # and the first one, which knows nothing


def test_a_message_to_a_thousand_is_grouped_once() -> None:
    message: Message = AppendEntriesRequest(1, 1, 0.0, 0, 0, 0)
    other: Message = AppendEntriesRequest(1, 2, 0.0, 0, 0, 0)
    many = [Outgoing(to, message) for to in range(1000)]
    [first, second, third] = together([*many, Outgoing(1, other), Outgoing(2, message)])
    assert first.receivers == tuple(range(1000))
    assert (second.receivers, third.receivers) == ((1,), (2,))
