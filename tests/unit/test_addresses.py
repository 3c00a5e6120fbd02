"""The table of addresses at which nodes may be: its bound, and which of them goes first."""

from trioraft.address import Address
from trioraft.dns.addresses import ADDRESSES_MAX, Addresses, Place


def address(number: int) -> Address:
    return Address(f"10.0.{number // 256}.{number % 256}", 7300)


def full(dropped: list[Place], *, discovered: bool) -> Addresses[Place]:
    places = Addresses(Place, worth=lambda place: -place.since, dropped=dropped.append)
    for number in range(ADDRESSES_MAX):
        places.add(address(number), float(number), discovered=discovered)
    return places


def test_an_address_that_is_only_named_finds_no_room_in_a_full_table() -> None:
    places = full([], discovered=False)
    assert places.add(address(1000), 9.0) is None
    assert len(places) == ADDRESSES_MAX


def test_a_discovered_address_takes_the_place_of_the_one_that_is_worth_least() -> None:
    dropped: list[Place] = []
    places = full(dropped, discovered=False)
    added = places.add(address(1000), 9.0, discovered=True)
    assert added == places[address(1000)] == Place(address(1000), 9.0, discovered=True)
    assert dropped == [Place(address(ADDRESSES_MAX - 1), float(ADDRESSES_MAX - 1))]
    assert len(places) == ADDRESSES_MAX


def test_no_discovered_address_has_to_go() -> None:
    places = full([], discovered=True)
    assert places.add(address(1000), 9.0, discovered=True) is None


def test_an_address_that_a_complete_look_up_misses_is_kept_as_one_that_is_only_named() -> None:
    places = Addresses(Place, worth=lambda place: place.since)
    for number in (1, 2):
        places.add(address(number), 0.0, discovered=True)
    places.add(address(3), 0.0)
    assert places.look_up_ended({address(1)}) == [places[address(2)]]
    assert [place.discovered for place in places.values()] == [True, False, False]
    assert places.look_up_ended({address(1)}) == []
    places.add(address(2), 5.0, discovered=True)
    assert places[address(2)] == Place(address(2), 0.0, discovered=True)
