"""The leader's clock of leases, at given times."""

import pytest

from trioraft.kv import Change, KeyValueStore, Lease, LeaseExpire, LeaseGrant, LeaseRevoke, Lessor

SHORT, LONG = Lease(1, ttl=5, grant=1), Lease(2, ttl=60, grant=2)


def test_a_new_leader_gives_every_lease_its_full_time() -> None:
    lessor = Lessor([SHORT, LONG], now=1000.0)
    assert lessor.next_deadline() == pytest.approx(1005.0)
    assert lessor.due(1004.9) == []
    assert lessor.due(1005.0) == [LeaseExpire(1, grant=1)]
    assert lessor.next_deadline() == pytest.approx(1007.0)
    assert lessor.remaining(2, 1005.0) == pytest.approx(55.0)


def test_a_keep_alive_starts_the_time_again() -> None:
    lessor = Lessor([SHORT], now=0.0)
    for now in (4.0, 8.0, 12.0):
        assert lessor.keep_alive(1, now) == 5
        assert lessor.due(now) == []
    assert lessor.next_deadline() == pytest.approx(17.0)
    assert lessor.remaining(1, 15.0) == pytest.approx(2.0)
    assert lessor.due(17.0) == [LeaseExpire(1, grant=1)]


def test_once_its_end_is_proposed_a_lease_cannot_be_kept_alive() -> None:
    lessor = Lessor([SHORT], now=0.0)
    assert lessor.due(6.0) == [LeaseExpire(1, grant=1)]
    assert lessor.keep_alive(1, 6.0) is None
    assert lessor.remaining(1, 6.0) == pytest.approx(0.0)


def test_an_end_that_is_not_applied_is_proposed_again() -> None:
    lessor = Lessor([SHORT], now=0.0)
    assert lessor.due(5.0) == [LeaseExpire(1, grant=1)]
    assert lessor.due(6.9) == []
    assert lessor.due(7.0) == [LeaseExpire(1, grant=1)]
    lessor.ended(1)
    assert lessor.next_deadline() is None
    assert lessor.due(100.0) == []


def test_no_more_leases_are_due_at_once_than_asked_for() -> None:
    lessor = Lessor([Lease(number, 1, number) for number in range(1, 6)], now=0.0)
    assert [command.id for command in lessor.due(1.0, limit=3)] == [1, 2, 3]
    assert [command.id for command in lessor.due(1.0, limit=3)] == [4, 5]


def test_an_unknown_lease_has_no_time() -> None:
    lessor = Lessor([], now=0.0)
    assert (lessor.keep_alive(1, 0.0), lessor.remaining(1, 0.0), lessor.next_deadline()) == (None, None, None)


def test_a_lessor_follows_what_the_store_grants_and_ends() -> None:
    now = 100.0
    store = KeyValueStore()
    lessor = Lessor(store.leases(), now)
    store.on_change = lambda change: lessor.follow(change, now)
    store.execute(LeaseGrant(5, id=1))
    now = 103.0
    store.execute(LeaseRevoke(1))
    store.execute(LeaseGrant(5, id=1))
    assert lessor.due(105.0) == []  # the time of the first one
    commands = lessor.due(108.0)
    assert commands == [LeaseExpire(1, grant=2)]
    store.execute(commands[0])
    assert lessor.due(200.0) == []
    assert store.leases() == []


def test_a_lease_that_is_granted_again_while_it_was_expiring_can_be_kept_alive() -> None:
    lessor = Lessor([SHORT], now=0.0)
    lessor.due(5.0)
    lessor.follow(Change(2, ended=(1,)), 5.5)
    lessor.follow(Change(2, granted=(Lease(1, 5, 9),)), 6.0)
    assert lessor.keep_alive(1, 7.0) == 5
    assert lessor.due(11.9) == []
    assert lessor.due(12.0) == [LeaseExpire(1, grant=9)]
