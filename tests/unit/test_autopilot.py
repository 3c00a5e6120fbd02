"""The decisions of the autopilot, and what it declines."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from trioraft.members.autopilot import (
    INTRODUCED_MAX,
    Change,
    Decision,
    Declined,
    Observation,
    Rules,
    Seen,
    decide,
    leave,
)
from trioraft.messages import MEMBERS_MAX

RULES = Rules(dead_after=60.0, stable_after=1.0, min_voters=3, max_voters=7)
WELL = Seen()
KEEPS_UP = Seen(kept_up=5.0)
SILENT = Seen(silent=10.0, has_answered=False)
LEAVES = Seen(kept_up=5.0, leaves=True)
GONE = Seen(silent=61.0, absent=61.0, has_answered=False)


def observation(
    voters: tuple[int, ...], learners: tuple[int, ...] = (), waiting: tuple[int, ...] = (), **seen: Seen
) -> Observation:
    """Make the observation of leader 1: all nodes are well, except those given as ``n3=...``."""
    known = {node: WELL for node in (*voters, *learners, *waiting) if node != 1}
    known |= {int(name[1:]): what for name, what in seen.items()}
    return Observation(1, voters, learners, known, waiting)


def change_of(decision: Decision) -> Change:
    assert decision.change is not None, decision.declined
    return decision.change


def members(change: Change) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return change.voters, change.learners


# --- joining and being promoted -----------------------------------------------------------------------------


def test_a_node_of_the_service_joins_as_a_learner() -> None:
    change = change_of(decide(observation((1, 2, 3), waiting=(4, 5)), RULES))
    assert members(change) == ((1, 2, 3), (4, 5))
    assert "joined the service" in change.reason


def test_made_up_nodes_neither_fill_the_cluster_nor_keep_out_nodes_that_others_name() -> None:
    ghosts = tuple(range(100, 150))
    seen = observation((1, 2, 3), waiting=ghosts)
    first = decide(seen, RULES)
    assert members(change_of(first)) == ((1, 2, 3), ghosts[:INTRODUCED_MAX])
    assert len(first.declined) == len(ghosts) - INTRODUCED_MAX
    assert "neither DNS nor PEERS names it" in first.declined[0]

    # They stay silent. Another node of that kind has to wait, and one that DNS names does not.
    learners = ghosts[:INTRODUCED_MAX]
    assert decide(observation((1, 2, 3), learners, waiting=(200,)), RULES).change is None
    seen = observation((1, 2, 3), learners, waiting=(200, 300))
    named = msgspec.structs.replace(seen, named_by_others=frozenset({200}))
    assert members(change_of(decide(named, RULES))) == ((1, 2, 3), (*learners, 200))

    # After a while all of them are gone at once, and the nodes that came meanwhile can join.
    seen = observation((1, 2, 3), learners)
    gone = msgspec.structs.replace(seen, seen={**seen.seen, **dict.fromkeys(learners, GONE)})
    assert members(change_of(decide(gone, RULES))) == ((1, 2, 3), ())


def test_learners_that_keep_up_or_that_others_name_keep_nobody_waiting() -> None:
    learners = tuple(range(4, 14))
    seen = observation((1, 2, 3), learners, waiting=(50,))
    seen = msgspec.structs.replace(seen, seen={**seen.seen, **dict.fromkeys(learners, KEEPS_UP)})
    assert members(change_of(decide(seen, RULES)))[1] == (*learners, 50)
    lagging = msgspec.structs.replace(
        observation((1, 2, 3), learners, waiting=(50,)), named_by_others=frozenset(learners)
    )
    assert members(change_of(decide(lagging, RULES)))[1] == (*learners, 50)


def test_nodes_that_others_name_join_first_where_there_is_little_room() -> None:
    voters = tuple(range(1, MEMBERS_MAX))
    seen = msgspec.structs.replace(observation(voters, waiting=(200, 300)), named_by_others=frozenset({300}))
    decision = decide(seen, Rules(max_voters=MEMBERS_MAX))
    assert change_of(decision).learners == (300,)
    assert f"{MEMBERS_MAX} members are the most" in decision.declined[0]


def test_a_learner_that_does_not_keep_up_or_has_only_begun_to_does_not_vote() -> None:
    for seen in (Seen(kept_up=-1.0), Seen(kept_up=0.5)):
        assert decide(observation((1,), (2, 3), n2=KEEPS_UP, n3=seen), RULES).change is None


def test_two_learners_are_promoted_together_so_that_the_number_stays_odd() -> None:
    change = change_of(decide(observation((1,), (2, 3), n2=KEEPS_UP, n3=KEEPS_UP), RULES))
    assert members(change) == ((1, 2, 3), ())


def test_one_learner_beside_three_voters_waits_and_the_reason_is_told() -> None:
    decision = decide(observation((1, 2, 3), (4,), n4=KEEPS_UP), RULES)
    assert decision.change is None
    assert "4 voters survive no more failures than 3" in decision.declined[0]


def test_there_are_never_more_voters_than_the_maximum() -> None:
    decision = decide(observation((1, 2, 3, 4, 5, 6, 7), (8, 9), n8=KEEPS_UP, n9=KEEPS_UP), RULES)
    assert decision.change is None
    assert all("MAX_VOTERS=7" in reason for reason in decision.declined)


def test_an_even_number_of_voters_is_made_odd_but_not_below_the_minimum() -> None:
    assert members(change_of(decide(observation((1, 2, 3, 4), n2=SILENT), RULES))) == ((1, 3, 4), (2,))
    assert decide(observation((1, 2)), RULES).change is None
    assert decide(observation((1, 2, 3, 4)), Rules(min_voters=4)).change is None


def test_a_cluster_that_was_formed_with_too_many_voters_demotes_the_rest() -> None:
    change = change_of(decide(observation(tuple(range(1, 11)), n3=SILENT), RULES))
    assert members(change) == ((1, 2, 4, 5, 6, 7, 8), (3, 9, 10))
    assert "MAX_VOTERS=7" in change.reason
    even = Rules(min_voters=3, max_voters=6)
    assert members(change_of(decide(observation(tuple(range(1, 8))), even))) == ((1, 2, 3, 4, 5), (6, 7))
    contradictory = Rules(min_voters=7, max_voters=3)
    assert members(change_of(decide(observation(tuple(range(1, 10))), contradictory)))[0] == tuple(range(1, 8))
    most_silent = observation((1, 2, 3, 4, 5, 6, 7, 8), n2=SILENT, n3=SILENT, n4=SILENT, n5=SILENT, n6=SILENT)
    assert decide(most_silent, RULES).change is None


# --- who is gone --------------------------------------------------------------------------------------------


def test_silence_alone_or_absence_alone_removes_nobody() -> None:
    for seen in (Seen(silent=1e6, absent=59.0, has_answered=False), Seen(silent=59.0, absent=1e6)):
        assert decide(observation((1, 2, 3, 4, 5), n5=seen), RULES).change is None


def test_a_silent_member_that_stays_is_named_with_the_reason() -> None:
    static = Seen(silent=100.0, absent=100.0, is_static=True, has_answered=False)
    (reason,) = decide(observation((1, 2, 3), n3=static), RULES).declined
    assert "named in PEERS" in reason
    (reason,) = decide(observation((1, 2, 3), n3=Seen(silent=100.0, absent=7.0, has_answered=False)), RULES).declined
    assert "absent from good DNS answers for 7 of 60 s" in reason


def test_nothing_is_declined_of_a_gone_learner_that_is_just_removed() -> None:
    decision = decide(observation((1, 2, 3), (4,), n4=GONE), RULES)
    assert members(change_of(decision)) == ((1, 2, 3), ())
    assert decision.declined == ()


def test_a_gone_voter_is_replaced_in_one_change() -> None:
    change = change_of(decide(observation((1, 2, 3), (4,), n3=GONE, n4=KEEPS_UP), RULES))
    assert members(change) == ((1, 2, 4), ())


def test_a_gone_voter_stays_where_fewer_than_the_minimum_would_be_left() -> None:
    decision = decide(observation((1, 2, 3), n3=GONE), RULES)
    assert decision.change is None
    assert "fewer than 3 voters" in decision.declined[0]


def test_two_of_five_that_are_gone_leave_three_voters_one_step_after_the_other() -> None:
    first = change_of(decide(observation((1, 2, 3, 4, 5), n4=GONE, n5=GONE), RULES))
    assert members(first) == ((1, 2, 3), (5,))
    second = change_of(decide(observation(first.voters, first.learners, n5=GONE), RULES))
    assert members(second) == ((1, 2, 3), ())


def test_a_removal_needs_a_quorum_of_the_voters_that_are_left() -> None:
    decision = decide(observation((1, 2, 3, 4, 5, 6), n4=SILENT, n5=SILENT, n6=GONE, n3=SILENT), RULES)
    assert decision.change is None
    assert any("no quorum of the 5 voters" in reason for reason in decision.declined)


def test_a_member_that_leaves_is_replaced_by_a_learner_and_never_leaves_too_few() -> None:
    left = leave(observation((1, 2, 3), (4,), n4=KEEPS_UP), 3, RULES)
    assert isinstance(left, Change)
    assert members(left) == ((1, 2, 4), ())
    assert leave(observation((1, 2, 3)), 3, RULES) == Declined("2 voters would be left, fewer than 3", for_now=False)


def test_a_member_that_leaves_may_ask_again_while_a_learner_is_catching_up() -> None:
    declined = leave(observation((1, 2, 3), (4,), n4=Seen(kept_up=0.5)), 3, RULES)
    assert declined == Declined("2 voters would be left, fewer than 3", for_now=True)


def test_a_learner_that_leaves_too_takes_nobodys_place() -> None:
    left = leave(observation((1, 2, 3), (4, 5), n4=LEAVES, n5=KEEPS_UP), 3, RULES)
    assert isinstance(left, Change)
    assert members(left) == ((1, 2, 5), (4,))
    declined = leave(observation((1, 2, 3), (4,), n4=LEAVES), 3, RULES)
    assert declined == Declined("2 voters would be left, fewer than 3", for_now=False)


def test_a_member_that_leaves_is_not_promoted_and_is_demoted_first() -> None:
    assert decide(observation((1,), (2, 3), n2=KEEPS_UP, n3=LEAVES), RULES).change is None
    odd = change_of(decide(observation((1, 2, 3, 4), n3=LEAVES, n4=SILENT), RULES))
    assert members(odd) == ((1, 2, 4), (3,))


def test_a_fourth_voter_that_leaves_is_not_replaced_because_three_survive_as_much() -> None:
    left = leave(observation((1, 2, 3, 4), (5,), n5=KEEPS_UP), 4, RULES)
    assert isinstance(left, Change)
    assert members(left) == ((1, 2, 3), (5,))


def test_four_of_seven_leave_one_after_the_other_and_then_no_more() -> None:
    voters: tuple[int, ...] = tuple(range(1, 8))
    for node in (4, 5, 6, 7):
        left = leave(observation(voters), node, RULES)
        assert isinstance(left, Change)
        voters = left.voters
    assert voters == (1, 2, 3)
    assert isinstance(leave(observation(voters), 3, RULES), Declined)


def test_nobody_leaves_without_a_quorum_of_the_voters_that_are_left() -> None:
    declined = leave(observation((1, 2, 3, 4, 5), n2=SILENT, n3=SILENT), 4, RULES)
    assert isinstance(declined, Declined)
    assert declined.for_now
    assert "no quorum of the 4 voters" in declined.reason


def test_a_learner_leaves_and_the_last_voter_does_not() -> None:
    left = leave(observation((1, 2, 3), (4,), n4=LEAVES), 4, RULES)
    assert isinstance(left, Change)
    assert members(left) == ((1, 2, 3), ())
    assert isinstance(leave(observation((1,)), 1, RULES), Declined)


seen_anyhow = st.builds(
    Seen,
    silent=st.sampled_from([0.0, 10.0, 100.0]),
    absent=st.sampled_from([0.0, 10.0, 100.0]),
    is_static=st.booleans(),
    kept_up=st.sampled_from([-1.0, 0.5, 5.0]),
    has_answered=st.booleans(),
    leaves=st.booleans(),
)


@given(st.integers(1, 8), st.integers(0, 5), st.integers(0, 3), st.data())
def test_every_change_is_safe_and_changes_come_to_an_end_whatever_is_seen(
    voters: int, learners: int, waiting: int, data: st.DataObject
) -> None:
    nodes = range(1, voters + learners + waiting + 1)
    seen = {node: data.draw(seen_anyhow) for node in nodes if node != 1}
    now = Observation(
        1,
        tuple(nodes[:voters]),
        tuple(nodes[voters : voters + learners]),
        seen,
        tuple(nodes[voters + learners :]),
        frozenset(data.draw(st.sets(st.sampled_from(nodes)))),
    )
    for _ in range(30):
        change = decide(now, RULES).change
        if change is None:
            return
        assert 1 in change.voters
        assert not {*change.voters} & {*change.learners}
        assert len(change.voters) >= min(RULES.min_voters, len(now.voters))
        assert (change.voters, change.learners) != (now.voters, now.learners)
        removed = {*now.voters, *now.learners} - {*change.voters, *change.learners}
        assert len(removed & {*now.voters}) <= 1
        for node in removed:
            assert not seen[node].is_static
            assert seen[node].silent >= 60.0
            assert seen[node].absent >= 60.0
        if change.voters != now.voters:
            answered = sum(node == 1 or seen[node].has_answered for node in change.voters)
            assert 2 * answered > len(change.voters)
        for node in {*change.voters} - {*now.voters}:
            assert seen[node].kept_up >= 1.0
        joined = {*change.voters, *change.learners}
        now = Observation(
            1, change.voters, change.learners, seen, tuple(node for node in now.waiting if node not in joined)
        )
    raise AssertionError("the changes do not come to an end")
