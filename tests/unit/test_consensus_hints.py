"""Hints that the leader's process is gone, told as stories: what they speed up, and what they cannot."""

import pytest

from tests.unit.story import LEASE, TIMING, Story
from trioraft.consensus.events import ReadReady
from trioraft.consensus.lease import lease_end, read_lease_end
from trioraft.messages import (
    AppendEntriesRequest,
    AppendEntriesResponse,
    EntryKind,
    PreVoteRequest,
    PreVoteResponse,
    Probe,
    VoteRequest,
    VoteResponse,
)

SILENCE = 1.25 * TIMING.heartbeat


def _led(nodes: int = 3) -> Story:
    """Let node 1 lead a cluster that speaks the newest version, in which older promises have ended."""
    story = Story(nodes)
    story.elect(1)
    story.raise_version(1)
    story.live(TIMING.lower + 2.1 * TIMING.heartbeat)
    assert story.roles() == ["leader", *["follower"] * (nodes - 1)]
    return story


def _fail(story: Story) -> None:
    """End the leader, a moment after it was heard, and lose what it said last."""
    story.drop()
    story.crash(1)
    story.wait(0.05)


def _change_reads(story: Story, *, by_lease: bool) -> None:
    """Change the settings; whoever applies the change goes by it."""
    assert story.cores[1].propose(EntryKind.SETTINGS, b"", story.now) is not None
    story.settle(1)
    story.live(TIMING.heartbeat)
    for core in story.cores.values():
        core.read_by_lease(by_lease)
    story.live(TIMING.heartbeat)


# --- with evidence ------------------------------------------------------------------------------------------


def test_with_an_error_of_a_quorum_the_next_leader_is_elected_at_once() -> None:
    story = _led()
    _fail(story)
    failed_at = story.now
    story.port_gone(2, 1)
    story.fire(2)
    assert story.now == failed_at
    story.deliver(PreVoteRequest, to=3)
    assert [probe.term for probe in story.waiting(Probe, sender=3, to=1)] == [1]
    assert story.waiting(PreVoteResponse) == [], "the answer waits"
    story.port_gone(3, 1)
    story.exchange()
    assert story.roles() == ["down", "leader", "follower"]
    assert story.now == failed_at


def test_a_voter_that_is_asked_believes_in_silence_no_sooner_than_it_has_promised() -> None:
    story = _led()
    promised_until = story.state(3).refuse_until
    _fail(story)
    story.port_gone(2, 1)
    story.live(promised_until - story.now - 0.01, without=[1])
    assert story.roles() == ["down", "pre-candidate", "follower"]
    story.live(2 * TIMING.heartbeat + 0.01)
    assert "leader" in story.roles()


def test_a_vote_needs_an_error_of_the_voters_own_too() -> None:
    story = _led()
    _fail(story)
    log = story.state(3).log
    request = VoteRequest(term=2, last_log_index=log.last_index, last_log_term=log.last_term, transfer=False)
    story.receive(3, 2, request)
    assert story.waiting(VoteResponse) == []
    assert [probe.term for probe in story.waiting(Probe, sender=3)] == [1]
    assert story.state(3).term == 1
    story.port_gone(3, 1)
    assert story.waiting(VoteResponse, to=2)[0].granted
    assert story.disk[3].voted_for == 2


def test_a_question_that_waits_is_refused_when_the_leader_is_heard() -> None:
    story = _led()
    story.wait(0.05)
    story.port_gone(2, 1)
    story.fire(2)
    story.deliver(PreVoteRequest, to=3)
    story.drop(PreVoteRequest)
    story.deliver(Probe, sender=3, to=1)
    story.deliver(AppendEntriesRequest, to=3)
    assert [answer.granted for answer in story.waiting(PreVoteResponse, sender=3)] == [False]


def test_what_is_heard_of_the_leader_cancels_the_error() -> None:
    story = _led()
    story.wait(0.05)
    story.port_gone(3, 1)
    story.receive(3, 1, PreVoteResponse(term=1, round=0, granted=False))
    story.wait(0.001)
    assert story.wake_at[3] > story.now + 0.01, "it begins no pre-vote"
    story.port_gone(2, 1)
    story.fire(2)
    story.deliver(PreVoteRequest, to=3)
    assert story.waiting(PreVoteResponse, sender=3) == []


def test_a_pre_vote_that_an_error_began_is_over_when_the_leader_is_heard() -> None:
    story = _led()
    story.wait(0.05)
    story.port_gone(2, 1)
    story.fire(2)
    story.port_gone(3, 1)
    story.deliver(PreVoteRequest, to=3)
    assert [answer.granted for answer in story.waiting(PreVoteResponse, sender=3)] == [True]
    story.deliver(PreVoteRequest, to=1)
    story.deliver(PreVoteResponse, sender=1)
    story.deliver(PreVoteResponse, sender=3)
    assert story.state(2).term == 1
    story.live(4 * TIMING.heartbeat)
    assert story.roles() == ["leader", "follower", "follower"]


def test_a_pre_vote_that_an_error_would_begin_again_waits_for_the_promise_when_the_leader_is_heard() -> None:
    story = _led()
    story.drop()
    story.port_gone(2, 1)
    story.fire(2)
    while story.state(2).round is not None:
        story.drop()
        story.fire(2)
    promised_until = story.state(2).refuse_until
    assert story.wake_at[2] < promised_until, "the next round is soon"
    story.receive(2, 1, PreVoteResponse(term=1, round=0, granted=False))
    assert story.wake_at[2] >= promised_until


def test_what_is_heard_of_the_leader_that_is_not_for_the_core_cancels_it_too() -> None:
    story = _led()
    story.wait(0.05)
    story.port_gone(3, 1)
    story.cores[3].heard_from(2, story.now)
    assert story.state(3).is_gone
    story.cores[3].heard_from(1, story.now)
    assert not story.state(3).is_gone


def test_a_live_leader_stays_although_one_follower_has_an_error() -> None:
    story = _led()
    story.wait(0.05)
    story.port_gone(2, 1)
    story.live(4 * TIMING.heartbeat)
    assert story.roles() == ["leader", "follower", "follower"]
    assert story.state(1).term == 1


def test_an_error_about_any_other_node_counts_for_nothing() -> None:
    story = _led()
    story.wait(0.05)
    before = story.wake_at[2]
    story.port_gone(2, 3)
    assert not story.state(2).is_gone
    assert story.wake_at[2] == before


def test_a_leader_takes_no_error_about_itself_or_others() -> None:
    story = _led()
    story.port_gone(1, 1)
    story.port_gone(1, 2)
    assert story.roles()[0] == "leader"
    assert not story.state(1).is_gone


def test_two_that_have_the_error_at_the_same_time_do_not_split_the_vote() -> None:
    story = _led(nodes=5)
    _fail(story)
    for node in (5, 4, 3, 2):
        story.port_gone(node, 1)
    assert len({story.wake_at[node] for node in (2, 3, 4, 5)}) == 4
    assert story.wake_at[2] == story.now
    story.live(0.1)
    assert story.roles() == ["down", "leader", *["follower"] * 3]
    assert story.state(2).term == 2


def test_who_is_the_last_choice_does_not_begin_because_of_an_error() -> None:
    story = _led()
    story.cores[2].be_last_choice(story.now)
    _fail(story)
    story.port_gone(2, 1)
    story.port_gone(3, 1)
    assert story.wake_at[2] > story.now + 1
    story.live(0.1)
    assert story.roles() == ["down", "follower", "leader"]


# --- leases -------------------------------------------------------------------------------------------------


def test_without_the_setting_promises_may_end_early_and_none_is_counted_for_reads() -> None:
    story = _led()
    story.propose(1, "a")
    story.deliver(AppendEntriesRequest)
    answers = story.waiting(AppendEntriesResponse)
    assert [answer.until_hint for answer in answers] == [True, True]
    story.exchange()
    state = story.state(1)
    assert lease_end(state) == pytest.approx(story.now + LEASE)
    assert read_lease_end(state) < story.now


def test_while_reads_go_by_the_lease_no_error_ends_a_promise_early() -> None:
    story = _led()
    _change_reads(story, by_lease=True)
    story.read(1, 7)
    assert story.events(1, ReadReady)[-1].by_lease
    end = read_lease_end(story.state(1))
    story.drop()
    story.wait(0.05)
    story.port_gone(2, 1)
    story.port_gone(3, 1)
    story.live(end - story.now - 0.01, without=[1])
    assert story.roles() == ["leader", "follower", "follower"]
    story.live(0.5, without=[1])
    assert "leader" in story.roles()[1:]


def test_a_voter_excludes_hints_as_soon_as_the_setting_is_in_its_log() -> None:
    story = _led()
    assert story.cores[1].propose(EntryKind.SETTINGS, b"", story.now) is not None
    story.settle(1)
    story.deliver(AppendEntriesRequest, to=2)
    assert story.state(2).commit_index < story.state(2).log.last_index
    assert not story.waiting(AppendEntriesResponse, sender=2)[0].until_hint
    story.port_gone(2, 1)
    assert story.wake_at[2] >= story.now + TIMING.lower


def test_a_voter_excludes_hints_until_a_later_setting_is_applied() -> None:
    story = _led()
    _change_reads(story, by_lease=True)
    assert story.cores[1].propose(EntryKind.SETTINGS, b"", story.now) is not None
    story.settle(1)
    story.deliver(AppendEntriesRequest, to=2)
    assert not story.waiting(AppendEntriesResponse, sender=2)[0].until_hint
    story.exchange()
    story.live(TIMING.heartbeat)
    for core in story.cores.values():
        core.read_by_lease(False)
    story.live(TIMING.lower)
    story.propose(1, "a")
    story.deliver(AppendEntriesRequest, to=2)
    assert story.waiting(AppendEntriesResponse, sender=2)[0].until_hint


def test_a_promise_that_was_counted_stays_when_the_setting_is_taken_back() -> None:
    story = _led()
    _change_reads(story, by_lease=True)
    promised_until = story.state(2).proof_until
    assert promised_until == story.state(2).refuse_until
    story.cores[2].read_by_lease(False)
    story.live(TIMING.heartbeat)
    assert story.state(2).proof_until == pytest.approx(promised_until, abs=0.6)
    story.port_gone(2, 1)
    assert story.wake_at[2] >= story.state(2).proof_until


def test_a_promise_that_is_resumed_after_a_restart_excludes_hints() -> None:
    story = _led()
    story.live(TIMING.heartbeat)
    story.restart(3)
    state = story.state(3)
    assert state.proof_until == state.refuse_until == pytest.approx(story.now + TIMING.lower)
    story.exchange()
    story.live(TIMING.heartbeat)
    story.port_gone(3, 1)
    assert story.wake_at[3] >= state.proof_until


def test_an_older_version_s_promise_is_counted_for_reads() -> None:
    story = Story(3)
    story.elect(1)
    story.live(TIMING.heartbeat)
    assert read_lease_end(story.state(1)) == lease_end(story.state(1)) > story.now


def test_while_the_cluster_speaks_an_older_version_an_error_counts_for_nothing() -> None:
    story = Story(3)
    story.elect(1)
    story.live(TIMING.heartbeat + 0.01)
    story.port_gone(2, 1)
    assert not story.state(2).is_gone
    story.live(TIMING.lower - 0.1, without=[1])
    assert story.waiting(Probe) == []
    assert story.roles() == ["leader", "follower", "follower"]


# --- somebody asks ------------------------------------------------------------------------------------------


def test_a_follower_probes_a_leader_that_misses_a_heartbeat() -> None:
    story = _led()
    story.drop()
    heard_at = story.state(2).heard_at
    story.fire(2)
    assert story.now == pytest.approx(heard_at + SILENCE)
    assert [letter.to for letter in story.take(Probe)] == [1]


def test_a_node_that_was_restarted_and_has_heard_of_no_leader_probes_nobody() -> None:
    story = _led()
    story.drop()
    story.restart(3)
    story.cores[3].somebody_waits(story.now)
    story.fire(3)
    assert story.waiting(Probe) == []


def test_an_idle_cluster_sends_no_probes() -> None:
    story = _led()
    probes: list[Probe] = []
    for _ in range(20):
        story.fire(min(story.wake_at, key=lambda node: story.wake_at[node]))
        probes += story.waiting(Probe)
        story.exchange()
    assert probes == []


def test_while_somebody_waits_a_silent_leader_is_probed_soon_and_then_more_rarely() -> None:
    story = _led()
    story.live(TIMING.heartbeat)
    story.fire(1)
    story.exchange()
    heard_at = story.state(2).heard_at
    assert heard_at == story.now
    story.cores[2].somebody_waits(story.now)
    story.settle(2)
    times = []
    for _ in range(4):
        story.fire(2)
        times.append(round(story.now - heard_at, 6))
        assert [letter.to for letter in story.take(Probe)] == [1]
    assert times == [0.02, 0.06, 0.14, 0.3]


def test_a_leader_answers_a_probe_with_a_heartbeat_to_that_follower_alone() -> None:
    story = _led()
    story.drop()
    story.receive(1, 3, Probe(term=1, number=7))
    assert [(letter.to, type(letter.message)) for letter in story.post] == [(3, AppendEntriesRequest)]
    story.exchange()
    assert story.state(3).heard_at == story.now


def test_a_leader_of_an_older_term_does_not_answer_a_probe() -> None:
    story = _led()
    story.drop()
    story.receive(1, 3, Probe(term=2, number=7))
    assert story.post == []
