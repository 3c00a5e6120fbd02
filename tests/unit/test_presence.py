"""How absence of members is judged from answers of DNS."""

from trioraft.address import Address
from trioraft.members.presence import Heard, Presence

PLACES = {node: Address(f"10.0.0.{node}", 7300) for node in range(1, 7)}
HEARD = {node: Heard(PLACES[node], 0.0) for node in (1, 2, 3)}
THREE = (1, 2, 3)


def at(*nodes: int) -> frozenset[Address]:
    return frozenset(PLACES[node] for node in nodes)


def test_absence_is_counted_between_good_answers() -> None:
    presence = Presence()
    for now in (0.0, 2.0, 4.0):
        presence.answered(at(1, 2), HEARD, THREE, THREE, now)
    assert presence.absence(3) == 4.0
    assert presence.absence(2) == 0.0
    presence.answered(at(1, 2, 3), HEARD, THREE, THREE, 6.0)
    assert presence.absence(3) == 0.0


def test_failed_look_ups_add_nothing_and_take_nothing_away() -> None:
    presence = Presence()
    presence.answered(at(1, 2), HEARD, THREE, THREE, 0.0)
    presence.answered(at(1, 2), HEARD, THREE, THREE, 2.0)
    for _ in range(1800):
        presence.unknown()
    presence.answered(at(1, 2), HEARD, THREE, THREE, 3600.0)
    assert presence.absence(3) == 2.0
    presence.answered(at(1, 2), HEARD, THREE, THREE, 3602.0)
    assert presence.absence(3) == 4.0


def test_absence_is_counted_anew_when_a_member_speaks() -> None:
    presence = Presence()
    for now in (0.0, 50.0, 100.0):  # DNS may list only those that are ready
        presence.answered(at(1, 2), HEARD, THREE, THREE, now)
    presence.spoke(3)
    assert presence.absence(3) == 0.0
    presence.answered(at(1, 2), HEARD, THREE, THREE, 110.0)
    assert presence.absence(3) == 0.0, "it spoke in between, nobody knows when"
    presence.answered(at(1, 2), HEARD, THREE, THREE, 120.0)
    assert presence.absence(3) == 10.0


def test_an_answer_without_a_quorum_of_the_voters_does_not_know_the_service() -> None:
    presence = Presence()
    strangers = frozenset(Address(f"192.168.0.{n}", 7300) for n in range(5))
    for now in range(0, 7200, 2):
        presence.answered(strangers | at(1), HEARD, THREE, THREE, float(now))
    assert presence.absence(2) == presence.absence(3) == 0.0


def test_a_member_whose_address_another_one_has_taken_over_is_absent() -> None:
    presence = Presence()
    moved = {**HEARD, 4: Heard(PLACES[3], 1.0)}
    for now in (0.0, 10.0):
        presence.answered(at(1, 2, 3), moved, THREE, (*THREE, 4), now)
    assert presence.absence(3) == 10.0


def test_a_member_that_was_never_heard_may_be_at_an_address_where_no_node_was_heard() -> None:
    presence = Presence()
    known = {node: HEARD[node] for node in (1, 2)}
    for now in (0.0, 10.0):
        presence.answered(at(1, 2, 5), known, THREE, THREE, now)
    assert presence.absence(3) == 0.0
