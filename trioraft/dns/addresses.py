"""The addresses at which nodes may be, as a node and a client each keep them.

Some are *discovered*: DNS or an operator names them. The others were named by nodes, or by anybody who pretends to be
one, so there is a bound on how many are kept, and a discovered one always finds room.
"""

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from trioraft.address import Address
from trioraft.messages import Instant

ADDRESSES_MAX: Final = 256


@dataclass(slots=True)
class Place:
    """An address at which a node is, or may be.

    Attributes
    ----------
    address : Address
        The address.
    since : float
        The time at which it was added.
    discovered : bool
        Whether the last complete look-up found it.
    """

    address: Address
    since: Instant
    discovered: bool = False


P = TypeVar("P", bound=Place)


class Addresses(dict[Address, P], Generic[P]):
    """The places that are known, by their addresses.

    Parameters
    ----------
    make : callable
        Makes the place at an address that is added at a given time.
    worth : callable
        Returns a key for a place; of those that are not discovered, the one with the least key has to go.
    dropped : callable
        Called with each place that was dropped.
    """

    def __init__(
        self,
        make: Callable[[Address, Instant], P],
        worth: Callable[[P], Any],
        dropped: Callable[[P], None] = lambda place: None,
    ) -> None:
        super().__init__()
        self._make = make
        self._worth = worth
        self._dropped = dropped

    def add(self, address: Address, now: Instant, *, discovered: bool = False) -> P | None:
        """Find the place at an address, or add one.

        Parameters
        ----------
        address : Address
            The address.
        now : float
            The time, in seconds.
        discovered : bool
            Whether DNS or an operator names it; then another place has to go where there is no room.

        Returns
        -------
        Place or None
            The place; None where there is no room for it.
        """
        place = self.get(address)
        if place is None:
            if len(self) >= ADDRESSES_MAX and not (discovered and self._make_room()):
                return None
            place = self[address] = self._make(address, now)
        place.discovered |= discovered
        return place

    def _make_room(self) -> bool:
        others = [place for place in self.values() if not place.discovered]
        if others:
            self.drop(min(others, key=self._worth))
        return bool(others)

    def drop(self, place: P) -> None:
        """Forget a place.

        Parameters
        ----------
        place : Place
            The place.
        """
        del self[place.address]
        self._dropped(place)

    def look_up_ended(self, found: AbstractSet[Address]) -> list[P]:
        """Note what a complete look-up has found; an incomplete one takes nothing away.

        Parameters
        ----------
        found : set of Address
            All addresses that it found.

        Returns
        -------
        list of Place
            The places that were discovered before, and are not any more.
        """
        lost = [place for place in self.values() if place.discovered and place.address not in found]
        for place in lost:
            place.discovered = False
        return lost
