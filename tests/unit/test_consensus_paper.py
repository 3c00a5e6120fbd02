"""What the paper says that no other story tells: sections 5.1 to 5.5, and traps that others have fallen into.

``STORIES.md`` lists the paragraphs of the paper and the thesis with the stories about each.
"""

import pytest

from tests.unit.story import TIMING, Story
from trioraft.consensus import Role
from trioraft.consensus.events import BecameLeader, SteppedDown
from trioraft.messages import (
    AppendEntriesRequest,
    AppendEntriesResponse,
    Entry,
    EntryKind,
    InstallSnapshotRequest,
    InstallSnapshotResponse,
    PreVoteRequest,
    PreVoteResponse,
    VoteRequest,
    VoteResponse,
)


def _entries(*terms: int) -> tuple[Entry, ...]:
    return tuple(Entry(term, EntryKind.COMMAND, b"%d" % number) for number, term in enumerate(terms))


def _led(nodes: int = 3, spare: int = 0) -> Story:
    story = Story(nodes, spare=spare)
    story.elect(1)
    story.live(2)
    story.wait(0.01)
    return story


def _live_deaf(story: Story, deaf: int, seconds: float) -> None:
    """Let time pass in which one node is heard, and hears nothing."""
    end = story.now + seconds
    while True:
        due, node = min((due, node) for node, due in story.wake_at.items())
        if due > end:
            return
        story.now = max(story.now, due)
        story.tick(node)
        while story.post:
            story.drop(to=deaf)
            story.deliver()


# --- roles and terms (5.1) ----------------------------------------------------------------------------------


def test_a_follower_only_answers() -> None:
    story = _led()
    for _ in range(40):
        story.fire(1)
        for letter in story.take(sender=1):
            story.hand_over(letter)
        said = story.take(sender=2) + story.take(sender=3)
        assert {type(letter.message) for letter in said} == {AppendEntriesResponse}
        for letter in said:
            story.hand_over(letter)
    assert story.roles() == ["leader", "follower", "follower"]


@pytest.mark.parametrize("role", ["leader", "candidate", "pre-candidate", "follower"])
def test_who_hears_of_a_newer_term_takes_it_over_and_follows(role: str) -> None:
    story = Story()
    if role == "leader":
        story.elect(1)
    elif role != "follower":
        story.fire(1)
        if role == "candidate":
            story.receive(1, 2, PreVoteResponse(term=0, round=1, granted=True))
    assert story.roles()[0] == role
    story.receive(1, 3, AppendEntriesRequest(7, 1, 6.0, 0, 0, 0))
    assert (story.roles()[0], story.cores[1].term, story.cores[1].leader) == ("follower", 7, 3)
    assert story.disk[1].term == 7


def test_a_request_of_an_older_term_is_refused_by_who_it_may_reach() -> None:
    """Whatever kind it is, the answer names the newer term and nothing else changes."""
    story = Story()
    story.change_disk(2, term=8)
    story.restart(2)
    before = story.disk[2]
    story.receive(2, 1, VoteRequest(7, 50, 6, transfer=False))
    story.receive(2, 1, PreVoteRequest(8, 1, 50, 7))
    story.receive(2, 1, AppendEntriesRequest(7, 1, 6.0, 0, 0, 0, _entries(7)))
    story.receive(2, 1, InstallSnapshotRequest(7, 9, 7, 1, 0, 0, b"s"))
    (vote,) = story.waiting(VoteResponse)
    (pre_vote,) = story.waiting(PreVoteResponse)
    (appended,) = story.waiting(AppendEntriesResponse)
    (installed,) = story.waiting(InstallSnapshotResponse)
    assert {answer.term for answer in (vote, pre_vote, appended, installed)} == {8}
    assert (vote.granted, pre_vote.granted, appended.matched, installed.installed) == (False, False, 0, False)
    assert (story.disk[2], story.log(2), story.cores[2].leader) == (before, [], 0)


# --- elections (5.2) ----------------------------------------------------------------------------------------


def test_a_majority_of_all_members_elects_and_one_vote_less_does_not() -> None:
    story = Story(nodes=5)
    story.fire(1)
    story.deliver(PreVoteRequest)
    story.deliver(PreVoteResponse)
    assert story.roles()[0] == "candidate"
    story.receive(1, 2, VoteResponse(1, True, 0.0, 0))
    assert story.roles()[0] == "candidate", "two of five"
    story.receive(1, 3, VoteResponse(1, True, 0.0, 0))
    assert story.roles()[0] == "leader"
    story.deliver(VoteRequest)
    assert {letter.to for letter in story.take(AppendEntriesRequest, sender=1)} == {2, 3, 4, 5}, "it says so to all"


def test_a_candidate_rejects_a_leader_of_an_older_term_and_goes_on() -> None:
    story = Story()
    story.fire(1)
    story.deliver(PreVoteRequest)
    story.deliver(PreVoteResponse)
    assert (story.roles()[0], story.cores[1].term) == ("candidate", 1)
    story.receive(1, 3, AppendEntriesRequest(0, 1, 6.0, 0, 0, 0))
    assert story.roles()[0] == "candidate"
    (refusal,) = story.waiting(AppendEntriesResponse, to=3)
    assert (refusal.term, refusal.promise, refusal.matched) == (1, 0.0, 0)
    story.exchange()
    assert story.roles()[0] == "leader"


def test_each_election_timeout_is_drawn_anew_between_its_bounds() -> None:
    story = _led()
    waits = []
    for _ in range(200):
        story.fire(1)
        story.exchange()
        waits.append(story.state(2).election_deadline - story.now)
    assert len({*waits}) > 100
    assert TIMING.lower <= min(waits) < TIMING.lower + 0.2
    assert TIMING.upper - 0.2 < max(waits) <= TIMING.upper


# --- replication (5.3, 5.5) ---------------------------------------------------------------------------------


def test_who_was_away_gets_all_of_it_although_clients_were_answered_long_ago() -> None:
    story = _led()
    for number in range(50):
        story.propose(1, f"command {number}")
        story.live(1, without={3})
    assert len(story.applied[1]) == 50
    assert story.applied[3] == []
    story.live(2)
    assert story.applied[3] == story.applied[1]


def test_the_commit_index_reaches_followers_with_the_next_heartbeat() -> None:
    story = _led()
    story.propose(1, "a")
    story.deliver(AppendEntriesRequest)
    story.deliver(AppendEntriesResponse)
    assert (story.applied[1], story.applied[2]) == ([b"a"], [])
    story.drop()
    story.fire(1)
    story.deliver(AppendEntriesRequest)
    assert story.applied[2] == [b"a"]


def test_the_same_message_twice_is_as_good_as_once() -> None:
    story = Story()
    message = AppendEntriesRequest(1, 1, 6.0, 0, 0, 1, _entries(1, 1, 1))
    story.receive(2, 1, message)
    once = (story.log(2), story.applied[2], story.disks[2].entries)
    story.receive(2, 1, message)
    assert (story.log(2), story.applied[2], story.disks[2].entries) == once
    first, second = story.waiting(AppendEntriesResponse)
    assert first == second


@pytest.mark.parametrize("length", [0, 1, 2])
def test_a_late_message_with_less_than_there_is_cuts_nothing_off(length: int) -> None:
    """Only a conflict does: what follows may have been acknowledged (a trap of careless implementations)."""
    story = Story()
    story.receive(2, 1, AppendEntriesRequest(1, 2, 6.0, 0, 0, 0, _entries(1, 1, 1)))
    story.receive(2, 1, AppendEntriesRequest(1, 1, 6.0, 0, 0, 0, _entries(*[1] * length)))
    assert story.log(2) == [1, 1, 1]
    assert len(story.disks[2].entries) == 3


def test_a_leader_never_changes_its_own_log() -> None:
    story = Story()
    story.change_log(1, [1, 1, 2], term=3)
    story.change_log(2, [1, 1], term=3)
    story.change_log(3, [1, 1], term=3)
    story.elect(1)
    assert story.log(1) == [1, 1, 2, 4]
    story.receive(1, 2, AppendEntriesRequest(4, 1, 6.0, 0, 0, 4, _entries(4, 4)))
    story.receive(1, 2, AppendEntriesRequest(3, 1, 6.0, 0, 0, 2, _entries(3, 3)))
    story.live(1)
    assert [story.log(node) for node in story.ids] == [[1, 1, 2, 4]] * 3


# --- who may be elected (5.4.1) -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("index", "term", "granted"),
    [(3, 2, True), (4, 2, True), (1, 3, True), (2, 2, False), (9, 1, False), (0, 0, False)],
)
def test_a_vote_is_for_a_log_that_ends_no_earlier_than_ones_own(index: int, term: int, granted: bool) -> None:
    story = Story()
    story.change_log(2, [1, 2, 2], term=4)
    story.receive(2, 1, PreVoteRequest(5, 1, index, term))
    story.receive(2, 1, VoteRequest(5, index, term, transfer=False))
    assert [answer.granted for answer in story.waiting(PreVoteResponse)] == [granted]
    assert [answer.granted for answer in story.waiting(VoteResponse)] == [granted]
    assert (story.disk[2].term, story.disk[2].voted_for) == (5, 1 if granted else 0)


def test_who_lacks_what_is_committed_is_not_elected_whatever_it_does() -> None:
    story = _led()
    story.propose(1, "kept")
    story.live(1, without={3})
    story.crash(1)
    for _ in range(5):
        story.wait(TIMING.upper)
        story.tick(3)
        story.exchange()
    story.live(60)
    assert story.cores[2].role is Role.LEADER
    assert story.events(3, BecameLeader) == []
    assert story.applied[3] == [b"kept"]


# --- leadership transfer (thesis 3.10) ----------------------------------------------------------------------


def test_a_leader_that_gives_its_leadership_away_takes_no_more_commands() -> None:
    """What it took before reaches the successor, so that nothing is lost and the successor is not held up."""
    story = _led()
    story.propose(1, "before")
    assert story.cores[1].transfer(2, story.now) is None
    assert story.cores[1].propose(EntryKind.COMMAND, b"after", story.now) is None
    story.cores[1].work_ended(story.now)
    story.settle(1)
    story.live(1)
    assert story.roles() == ["follower", "leader", "follower"]
    assert story.applied[2] == [b"before"]
    story.propose(2, "after")
    story.live(1)
    assert story.applied[1] == [b"before", b"after"]


# --- traps: pre-vote and check-quorum together --------------------------------------------------------------


def test_a_node_with_a_newer_term_does_not_stay_stuck_outside() -> None:
    """It refuses what its leader says, and hears no votes while the others have a leader: its answers free it."""
    story = _led()
    story.change_disk(3, term=9)
    story.restart(3)
    story.live(30)
    assert sorted(story.roles()) == ["follower", "follower", "leader"]
    terms = {core.term for core in story.cores.values()}
    assert len(terms) == 1
    assert terms.pop() > 9
    assert len({core.leader for core in story.cores.values()}) == 1


def test_two_that_ask_at_once_end_with_one_leader() -> None:
    """Both may be told yes, and both vote for themselves: the votes are split, and the next round decides."""
    for seed in range(20):
        story = Story(seed=seed)
        story.wait(TIMING.upper)
        story.tick(1)
        story.tick(2)
        story.live(3 * TIMING.upper)
        assert sorted(story.roles()) == ["follower", "follower", "leader"], f"seed {seed}"


def test_survivors_whose_logs_differ_elect_the_one_that_has_more() -> None:
    """The one that is behind asks first, is refused, and must not keep the other from winning."""
    story = _led()
    story.propose(1, "a")
    story.live(1, without={3})
    story.crash(1)
    for _ in range(3):
        story.fire(3)
        story.exchange()
    assert story.cores[3].role is Role.PRE_CANDIDATE
    assert story.cores[2].term == 1, "a refused pre-vote changes nothing"
    story.live(2 * TIMING.upper)
    assert story.cores[2].role is Role.LEADER


def test_a_leader_that_can_only_speak_gives_way() -> None:
    """It hears no answers: without check-quorum it would keep all others from an election for ever."""
    story = _led()
    _live_deaf(story, 1, 4 * TIMING.upper)
    assert story.events(1, SteppedDown)
    assert "leader" in story.roles()[1:]


# --- traps: changes of the members --------------------------------------------------------------------------


def test_an_unfinished_change_of_an_earlier_leader_cannot_undo_a_later_one() -> None:
    """The bug of single-server changes (raft-dev, July 2015): two majorities that have nobody in common."""
    story = Story(4, spare=1)
    story.elect(1)
    story.live(2)
    assert story.change(1, (1, 2, 3, 4), (5,)) is None
    story.live(4)
    story.wait(0.01)
    assert story.change(1, (1, 2, 3, 4, 5)) is None
    story.exchange(among={1, 5})  # nobody else has it
    assert story.members(1) == "1 2 3 4 5 [1 2 3 4]"
    story.crash(1)

    story.live(3 * TIMING.upper, without={5})
    (second,) = [node for node in (2, 3, 4) if story.cores[node].role is Role.LEADER]
    assert story.change(second, (2, 3, 4)) is None
    story.live(1, without={5})
    assert story.members(second) == "2 3 4"
    story.propose(second, "kept")
    story.live(1, without={5})
    assert story.applied[second] == [b"kept"]

    story.start(1)  # with its unfinished change, and node 5, which has it too
    for _ in range(50):
        story.fire(min((1, 5), key=lambda node: story.wake_at[node]))
        story.exchange(among={1, 5})
    assert not story.events(5, BecameLeader)
    assert story.cores[1].role is not Role.LEADER
    story.live(30)
    assert [story.applied[node][-1:] for node in (2, 3, 4)] == [[b"kept"]] * 3


def test_a_leader_that_a_node_has_never_heard_of_is_followed_and_voted_for() -> None:
    """Who it takes for members may be long outdated; that must not keep it from its cluster (thesis 4.1)."""
    story = _led(spare=1)
    assert story.change(1, (1, 2, 3), (4,)) is None
    story.live(3, without={3})
    assert story.change(1, (1, 2, 3, 4)) is None
    story.live(2, without={3})
    assert story.members(3) == "1 2 3"
    story.receive(3, 4, AppendEntriesRequest(2, 1, 6.0, 0, 0, 0))
    assert (story.cores[3].leader, story.cores[3].term) == (4, 2)
    story.wait(TIMING.lower)
    story.receive(3, 4, VoteRequest(3, 50, 2, transfer=False))
    assert [answer.granted for answer in story.waiting(VoteResponse, to=4)] == [True]


# --- traps: snapshots and entries that race -----------------------------------------------------------------


def test_a_snapshot_of_what_there_is_already_changes_nothing() -> None:
    """It comes late, or by mistake: what follows it is kept (section 7)."""
    story = _led()
    for number in range(10):
        story.propose(1, f"command {number}")
    story.live(1)
    log, applied = story.log(3), story.applied[3].copy()
    assert len(applied) == 10
    story.receive(3, 1, InstallSnapshotRequest(1, 5, 1, 10, 0, 0, b"s" * 10))
    story.store_parts(3)
    (answer,) = story.waiting(InstallSnapshotResponse)
    assert (answer.index, answer.installed) == (5, True)
    assert (story.log(3), story.applied[3]) == (log, applied)
    assert story.disks[3].snapshot is None


def test_each_node_takes_snapshots_by_itself() -> None:
    story = _led()
    for number in range(10):
        story.propose(1, f"command {number}")
    story.live(1)
    snapshot = story.take_snapshot(3, b"state")
    assert (story.disks[3].snapshot, story.disks[3].entries) == (snapshot, [])
    assert (story.disks[1].snapshot, story.disks[2].snapshot) == (None, None)
    story.propose(1, "later")
    story.live(1)
    assert story.applied[3][-1] == b"later"
    story.restart(3)
    assert story.state(3).commit_index == snapshot.index, "what a snapshot covers is committed"
