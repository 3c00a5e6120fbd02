"""The log, told as stories: what is committed and when, and how logs that differ become equal again."""

import msgspec
import pytest

from tests.unit.story import TIMING, Letter, Story
from trioraft.consensus import Role, append_entries
from trioraft.consensus.events import StartWork, SteppedDown
from trioraft.messages import (
    AppendEntriesRequest,
    AppendEntriesResponse,
    Entry,
    EntryKind,
    PreVoteRequest,
    PreVoteResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)


def led(nodes: int = 3, *, log_waits: bool = True) -> Story:
    """Let node 1 lead, and its no-op be committed everywhere."""
    story = Story(nodes, log_waits=log_waits)
    story.elect(1)
    story.live(2)
    story.wait(0.01)
    return story


def elected(story: Story, *voters: int) -> None:
    """Let node 1 win with some votes; its first messages lie in the post."""
    story.fire(1)
    for kind in (PreVoteRequest, PreVoteResponse, VoteRequest, VoteResponse):
        for voter in voters:
            story.deliver(kind, to=voter)
            story.deliver(kind, sender=voter)
        story.drop(kind)
    assert story.roles()[0] == "leader"


def entries(letters: list[Letter]) -> list[Letter]:
    return [letter for letter in letters if letter.message.entries]


# --- what is committed, and when ----------------------------------------------------------------------------


def test_a_command_is_committed_when_a_quorum_has_it_and_applied_by_all() -> None:
    story = led()
    story.propose(1, "a", "b")
    assert story.applied[1] == []
    story.deliver(AppendEntriesRequest, to=2)
    story.deliver(AppendEntriesResponse)
    assert story.applied == {1: [b"a", b"b"], 2: [], 3: []}
    story.live(1)
    assert story.applied[2] == story.applied[3] == [b"a", b"b"]


def test_the_leaders_own_copy_counts_only_when_it_is_on_disk() -> None:
    story = led()
    story.stick_disk(1)
    story.propose(1, "a")
    story.deliver(AppendEntriesRequest, to=2)
    story.deliver(AppendEntriesResponse)
    assert story.applied[1] == []
    story.free_disk(1)
    assert story.applied[1] == [b"a"]


def test_the_leader_sends_while_it_writes_and_others_can_commit_without_its_disk() -> None:
    story = led()
    story.stick_disk(1)
    story.propose(1, "a")
    story.exchange()
    assert story.applied[1] == [b"a"]
    assert story.disks[1].last_index == 1


def test_an_acknowledgement_waits_for_the_disk_and_the_answer_to_a_heartbeat_does_not() -> None:
    story = led()
    story.stick_disk(2)
    story.propose(1, "a")
    story.deliver(AppendEntriesRequest, to=2)
    assert not story.waiting(AppendEntriesResponse)
    story.drop()
    while not any(not message.entries for message in story.waiting(AppendEntriesRequest, to=2)):
        story.drop()
        story.fire(1)
    story.deliver(AppendEntriesRequest, to=2)
    (answer,) = story.waiting(AppendEntriesResponse)
    assert (answer.matched, answer.promise) == (1, TIMING.lower)
    story.drop()
    story.free_disk(2)
    assert [acknowledged.matched for acknowledged in story.waiting(AppendEntriesResponse)] == [2]


def test_an_acknowledgement_that_was_not_on_disk_at_a_crash_was_never_given() -> None:
    story = led()
    story.stick_disk(2)
    story.propose(1, "a")
    story.deliver(AppendEntriesRequest, to=2)
    story.restart(2)
    assert story.log(2) == [1]
    assert not story.waiting(AppendEntriesResponse, sender=2)


def test_where_the_log_is_in_memory_only_the_hard_state_waits_for_the_disk() -> None:
    story = led(log_waits=False)
    for node in story.ids:
        story.stick_disk(node)
    story.propose(1, "a", "b")
    story.exchange()
    assert story.applied[1] == [b"a", b"b"]
    assert [story.disks[node].last_index for node in story.ids] == [1, 1, 1]
    story.free_disk(1)
    story.free_disk(2)
    story.live(3 * TIMING.upper, cut_off={1})
    assert story.state(2).role is not Role.LEADER, "no vote leaves before it is on disk"
    story.free_disk(3)
    story.live(3 * TIMING.upper, cut_off={1})
    assert story.state(2).role is Role.LEADER or story.state(3).role is Role.LEADER


def test_where_the_log_is_in_memory_what_is_replaced_counts_no_more() -> None:
    story = led(log_waits=False)
    story.propose(1, "a", "b")
    story.drop()
    story.live(TIMING.lower + 0.1, cut_off={1})
    story.drop()
    story.elect(2)
    story.live(2)
    assert story.log(1) == story.log(2) == [1, story.state(2).term]
    assert story.state(1).ledger.durable_index == 2


def test_a_leader_says_no_when_too_much_is_not_committed() -> None:
    story = led()
    large = b"." * (9 * 2**20)
    assert story.cores[1].propose(EntryKind.COMMAND, large, story.now) is not None
    assert story.cores[1].propose(EntryKind.COMMAND, large, story.now) is None
    story.settle(1)
    story.exchange()
    assert story.cores[1].propose(EntryKind.COMMAND, large, story.now) is not None


def test_what_an_earlier_leader_could_not_commit_counts_too_until_it_is_committed() -> None:
    story = led()
    story.propose(1, "." * (9 * 2**20))
    story.drop()
    story.restart(1)
    story.wait(TIMING.upper)
    elected(story, 2)
    large = b"." * (9 * 2**20)
    assert story.cores[1].propose(EntryKind.COMMAND, large, story.now) is None
    story.settle(1)
    story.exchange()
    assert story.state(1).uncommitted_bytes == 0
    assert story.cores[1].propose(EntryKind.COMMAND, large, story.now) is not None


def test_many_small_commands_are_too_much_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    most = 1000
    monkeypatch.setattr(append_entries, "UNCOMMITTED_BYTES_MAX", most * 16)
    story = led()
    story.drop()
    taken = [story.cores[1].propose(EntryKind.COMMAND, b"", story.now) is not None for _ in range(most + 1)]
    assert taken == [True] * most + [False]


def test_who_does_not_lead_proposes_nothing() -> None:
    story = led()
    assert story.cores[2].propose(EntryKind.COMMAND, b"a", story.now) is None


# --- section 5.4.2: only entries of the current term are committed by counting ------------------------------


def test_figure_8_an_entry_of_an_older_term_is_not_committed_by_counting() -> None:
    story = Story(nodes=5)
    for node, terms in {1: [1, 2], 2: [1, 2], 3: [1], 4: [1], 5: [1, 3]}.items():
        story.change_log(node, terms, term=3)
    elected(story, 2, 3, 4)
    (entry,) = story.state(1).log.entries(2, 2)
    story.drop()
    for node in (3, 4):
        story.receive(node, 1, AppendEntriesRequest(4, 1, 6.0, 1, 1, 0, (entry,)))
        story.drop(AppendEntriesResponse)
        # Say so to the leader in its own words, for a message that it has sent.
        story.receive(1, node, AppendEntriesResponse(4, 1, 3.0, 2, last_choice=False))
    assert [story.log(node) for node in (1, 3, 4)] == [[1, 2, 4], [1, 2], [1, 2]], "a quorum has it"
    assert story.state(1).commit_index == 0

    story.crash(1)
    story.wait(TIMING.upper)
    for node in (2, 3, 4):
        story.restart(node)
    story.wait(TIMING.upper)
    story.fire(5)
    story.exchange()  # learns of term 4
    story.elect(5)
    story.live(2, without={1})
    assert [story.log(node) for node in (2, 3, 4, 5)] == [[1, 3, 5]] * 4, "and it is overwritten all the same"


def test_figure_8_it_is_committed_together_with_an_entry_of_the_current_term() -> None:
    story = Story(nodes=5)
    for node, terms in {1: [1, 2], 2: [1, 2], 3: [1], 4: [1], 5: [1, 3]}.items():
        story.change_log(node, terms, term=3)
    elected(story, 2, 3, 4)
    story.exchange(among={1, 3, 4})
    assert story.state(1).commit_index == 3
    assert story.applied[1] == [b"1", b"2"]
    story.crash(1)
    story.wait(TIMING.upper)
    story.fire(5)
    story.exchange()
    assert story.roles()[4] != "leader", "who lacks it cannot win"


def test_a_no_op_opens_a_term_and_leader_work_waits_until_it_is_committed() -> None:
    story = Story()
    elected(story, 2)
    opening = entries(story.take(AppendEntriesRequest))
    story.exchange()
    assert [letter.message.entries for letter in opening] == [(Entry(1, EntryKind.NO_OP),)] * 2
    assert story.events(1, StartWork) == []
    story.hand_over(opening[0])
    story.exchange()
    assert len(story.events(1, StartWork)) == 1


# --- logs that differ ---------------------------------------------------------------------------------------


def _rejections(story: Story, seconds: float) -> dict[int, int]:
    """Let time pass, and count by follower how often it could not use what it was sent."""
    counts = dict.fromkeys(story.ids, 0)
    hand_over = story.hand_over

    def counting(letter: Letter) -> None:
        if isinstance(letter.message, AppendEntriesResponse) and letter.message.rejected:
            counts[letter.sender] += 1
        hand_over(letter)

    story.hand_over = counting  # type: ignore[method-assign]
    story.live(seconds)
    return counts


def test_figure_7_all_logs_become_the_leaders_in_a_few_round_trips() -> None:
    story = Story(nodes=7)
    logs = {
        1: [1, 1, 1, 4, 4, 5, 5, 6, 6, 6],
        2: [1, 1, 1, 4, 4, 5, 5, 6, 6],
        3: [1, 1, 1, 4],
        4: [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
        5: [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
        6: [1, 1, 1, 4, 4, 4, 4],
        7: [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    }
    for node, terms in logs.items():
        story.change_log(node, terms, term=7)
    elected(story, 2, 3, 6, 7)
    rejections = _rejections(story, 2.0)
    assert all(story.log(node) == [*logs[1], 8] for node in story.ids)
    assert rejections == {1: 0, 2: 1, 3: 1, 4: 0, 5: 0, 6: 1, 7: 1}
    assert len({tuple(story.applied[node]) for node in story.ids}) == 1


@pytest.mark.parametrize("length", [10, 1000])
def test_a_long_diverged_log_is_repaired_in_as_many_round_trips_as_it_has_terms(length: int) -> None:
    story = Story()
    for node in (1, 2):
        story.change_log(node, [1, *[5] * length], term=5)
    story.change_log(3, [1, *[2] * length, *[3] * length, *[4] * length], term=5)
    elected(story, 2)
    rejections = _rejections(story, 5.0)
    assert story.log(3) == story.log(1) == [1, *[5] * length, 6]
    assert rejections[3] == 1


def test_terms_that_alternate_cost_a_round_trip_each() -> None:
    story = Story()
    for node in (1, 2):
        story.change_log(node, [1, 2, 2, 4, 4, 6, 6], term=6)
    story.change_log(3, [1, 1, 1, 3, 3, 5, 5], term=6)
    elected(story, 2)
    rejections = _rejections(story, 2.0)
    assert story.log(3) == [1, 2, 2, 4, 4, 6, 6, 7]
    assert rejections[3] <= 3


def test_what_replaces_other_entries_is_acknowledged_when_it_is_on_disk_itself() -> None:
    story = Story()
    story.change_log(3, [1, 1, 1, 1], term=1)
    story.stick_disk(3)
    story.receive(3, 2, AppendEntriesRequest(2, 1, 6.0, 1, 1, 0, (Entry(2, EntryKind.COMMAND, b"new"),) * 3))
    story.free_disk(3)
    story.drop()
    story.stick_disk(3)
    story.receive(3, 1, AppendEntriesRequest(3, 1, 6.0, 2, 2, 0, (Entry(3, EntryKind.COMMAND, b"newer"),) * 2))
    story.receive(3, 1, AppendEntriesRequest(3, 2, 6.0, 2, 2, 2))
    assert (story.log(3), story.state(3).matched_index) == ([1, 2, 3, 3], 4)
    assert story.state(3).ledger.durable_index == 2
    assert not story.waiting(AppendEntriesResponse), "term 3 is not on disk either"
    story.free_disk(3)
    assert [answer.matched for answer in story.waiting(AppendEntriesResponse)] == [2, 4]
    story.drop()

    story.stick_disk(3)
    story.receive(3, 1, AppendEntriesRequest(3, 3, 6.0, 4, 3, 2, (Entry(3, EntryKind.COMMAND, b"more"),)))
    story.receive(3, 1, AppendEntriesRequest(3, 4, 6.0, 2, 2, 2))
    assert [answer.matched for answer in story.waiting(AppendEntriesResponse)] == [4]
    story.restart(3)
    assert story.log(3) == [1, 2, 3, 3]


def test_an_acknowledgement_of_what_was_replaced_meanwhile_is_of_the_old_term() -> None:
    story = Story()
    story.stick_disk(3)
    story.receive(3, 2, AppendEntriesRequest(1, 1, 6.0, 0, 0, 0, (Entry(1, EntryKind.COMMAND, b"old"),) * 3))
    story.receive(3, 1, AppendEntriesRequest(2, 1, 6.0, 0, 0, 0, (Entry(2, EntryKind.COMMAND, b"new"),)))
    story.free_disk(3)
    answers = [
        (letter.to, letter.message.term, letter.message.matched) for letter in story.take(AppendEntriesResponse)
    ]
    assert answers == [(2, 1, 3), (1, 2, 1)]
    assert story.disks[3].hard.term == 2, "so that the leader of term 1, if there still is one, cannot be deceived"
    assert [entry.data for entry in story.disks[3].entries] == [b"new"]


def test_what_is_committed_is_never_cut_off() -> None:
    story = led()
    story.propose(1, "a")
    story.exchange()
    story.live(1)
    story.receive(2, 1, AppendEntriesRequest(1, 99, 6.0, 0, 0, 0, (Entry(1, EntryKind.NO_OP),)))
    assert story.log(2) == [1, 1], "what comes late is no reason to cut off what came after it"


def test_a_follower_that_was_restarted_learns_from_a_heartbeat_what_is_committed() -> None:
    story = led()
    story.propose(1, "a")
    story.live(1)
    story.restart(2)
    assert story.applied[2] == []
    story.live(1)
    assert story.applied[2] == [b"a"]
    assert story.log(1) == [1, 1], "without another command"


def test_a_follower_does_not_take_a_commit_index_for_its_own_uncommitted_entries() -> None:
    story = Story()
    story.change_log(3, [1, 1, 1], term=2)
    story.receive(3, 1, AppendEntriesRequest(3, 1, 6.0, 3, 3, 3))
    assert story.state(3).commit_index == 0
    story.receive(3, 1, AppendEntriesRequest(3, 2, 6.0, 2, 1, 2))
    assert story.state(3).commit_index == 2, "for an entry of the same index and term is the same, with all before it"


def test_a_refusal_of_an_earlier_terms_message_does_not_count_in_a_later_one() -> None:
    """The same node leads again, and numbers its messages from 1 again."""
    story = led()
    story.propose(1, "a")
    (late,) = story.take(AppendEntriesRequest, to=2)
    story.drop()
    story.live(TIMING.lower + 0.1, cut_off={1})
    story.drop()
    story.elect(1)
    story.stick_disk(2)
    story.propose(1, "b")
    (under_way,) = entries(story.take(AppendEntriesRequest, to=2))
    story.hand_over(under_way)
    before = story.state(1).followers[2].match_index
    number = under_way.message.sequence
    story.hand_over(late._replace(message=msgspec.structs.replace(late.message, sequence=number)))
    story.deliver(AppendEntriesResponse)
    assert story.state(1).followers[2].match_index == before
    assert number in story.state(1).followers[2].sent


# --- several messages under way -----------------------------------------------------------------------------


def test_a_slow_follower_does_not_slow_the_rest() -> None:
    story = led()
    story.state(1).batch_bytes = 1
    sent = 0
    for number in range(500):
        story.propose(1, f"{number}")
        sent += story.drop(AppendEntriesRequest, to=3)
        story.exchange(among={1, 2})
    assert len(story.applied[1]) == 500
    assert sent <= 64, "and what is under way to it is bounded"
    story.live(5)
    assert len(story.applied[3]) == 500


def _pipelined(number: int) -> tuple[Story, list[Letter]]:
    """Let so many messages be under way to node 2."""
    story = led()
    story.state(1).batch_bytes = 1
    story.propose(1, *(f"{one}" for one in range(number)))
    story.drop(to=3)
    letters = story.take(AppendEntriesRequest)
    assert [len(letter.message.entries) for letter in letters] == [1] * number
    return story, letters


def test_a_reordered_pipeline_is_not_sent_again() -> None:
    story, letters = _pipelined(5)
    for place in (1, 0, 4, 3, 2):
        story.hand_over(letters[place])
    story.deliver(AppendEntriesResponse)
    assert story.log(2) == [1] * 6
    assert story.state(1).followers[2].match_index == 6
    assert not entries(story.take(AppendEntriesRequest, to=2))


def test_one_lost_message_of_a_pipeline_is_sent_again_and_no_other() -> None:
    story, letters = _pipelined(20)
    for letter in letters[1:]:
        story.hand_over(letter)
    story.deliver(AppendEntriesResponse)
    again = entries(story.take(AppendEntriesRequest, to=2))
    assert [letter.message.prev_log_index for letter in again] == [1], "without waiting for the timer"
    story.hand_over(again[0])
    story.deliver(AppendEntriesResponse)
    assert story.state(1).followers[2].match_index == 21
    assert not entries(story.take(AppendEntriesRequest, to=2))


def test_a_lost_pipeline_is_sent_again_in_time() -> None:
    story, _ = _pipelined(20)
    story.live(1.0)
    assert story.log(2) == [1] * 21


def test_what_overtook_is_forgotten_with_its_leader() -> None:
    story, letters = _pipelined(3)
    story.hand_over(letters[2])
    story.crash(1)
    story.wait(TIMING.upper)
    story.elect(3)
    story.live(1)
    assert story.log(2) == story.log(3) == [1, 2]


# --- reads (thesis 6.4) -------------------------------------------------------------------------------------


def _answers(story: Story, node: int = 1) -> list[str]:
    kinds = ("ReadReady", "ReadFailed")
    return [type(event).__name__ for event in story.told[node] if type(event).__name__ in kinds]


def test_a_read_needs_a_round_that_began_after_it() -> None:
    story = led()
    story.fire(1)
    story.deliver(AppendEntriesRequest)
    story.wait(0.01)
    story.read(1)
    story.deliver(AppendEntriesResponse)
    assert _answers(story) == []
    story.exchange()
    assert _answers(story) == ["ReadReady"]


def test_one_round_serves_all_reads_that_wait() -> None:
    story = led()
    story.read(1, 1)
    for number in range(2, 50):
        story.read(1, number)
    assert len(story.waiting(AppendEntriesRequest)) == 2
    story.deliver(AppendEntriesRequest)
    story.deliver(AppendEntriesResponse)
    assert _answers(story) == ["ReadReady"] * 49
    assert not story.waiting(AppendEntriesRequest)


def test_a_deposed_leader_that_does_not_know_it_answers_no_read() -> None:
    story = led()
    story.live(2, without={1})
    story.live(4, without={1})
    story.read(1)
    assert _answers(story) == ["ReadFailed"], "it was paused, and notices before it does anything else"

    story = led()
    story.read(1)
    story.drop()
    story.live(TIMING.lower + 0.1, cut_off={1})
    assert _answers(story) == ["ReadFailed"]


def test_a_new_leader_answers_reads_once_its_no_op_is_committed() -> None:
    story = Story()
    elected(story, 2)
    opening = entries(story.take(AppendEntriesRequest))
    story.read(1)
    story.exchange()
    assert _answers(story) == []
    story.hand_over(opening[0])
    story.exchange()
    assert _answers(story) == ["ReadReady"]


def test_a_leader_alone_that_was_paused_steps_down_when_it_is_asked_something() -> None:
    story = Story(nodes=1)
    story.elect(1)
    story.wait(TIMING.lower)
    story.read(1)
    assert len(story.events(1, SteppedDown)) == 1
    assert story.work(1) == ["StartWork", "EndWork"]


# --- transfers ----------------------------------------------------------------------------------------------


def test_leadership_is_offered_only_to_who_has_caught_up() -> None:
    story = led()
    story.propose(1, "a", "b")
    story.drop(to=2)
    story.exchange(among={1, 3})
    assert story.cores[1].transfer(2, story.now) is None
    story.settle(1)
    story.cores[1].work_ended(story.now)
    story.settle(1)
    assert not story.waiting(TimeoutNow)
    assert story.cores[1].propose(EntryKind.COMMAND, b"c", story.now) is None, "and meanwhile nothing new is taken"
    while not story.waiting(TimeoutNow):
        story.fire(1)
        story.deliver(AppendEntriesRequest)
        story.deliver(AppendEntriesResponse)
    assert story.log(2) == story.log(1)
    story.exchange()
    assert story.roles() == ["follower", "leader", "follower"]


def test_a_turn_hands_out_no_more_bytes_than_are_applied_in_a_moment() -> None:
    story = Story(1, log_waits=False)
    story.fire(1)
    member = story.running[1]
    for size in (10_000, 10_000, 10_000, 100_000, 10, 10):
        assert member.core.propose(EntryKind.COMMAND, bytes(size), story.now) is not None
    turns = []
    while member.wants_turn:
        entries = member.turn(story.now).apply
        turns.append([len(entry.data) for _, entry in entries])
        member.apply(entries)
    assert turns == [[10_000, 10_000, 10_000], [100_000], [10, 10]]
