"""Recognizing datagrams that were received before."""

from typing import Final


class ReplayWindow:
    """Remembers which counters of one sender were seen (the idea is that of RFC 6479).

    It is wide because a sender counts all that it seals with one counter: where it sends to 50 receivers, the window
    of each still holds about 80 datagrams.

    Parameters
    ----------
    floor : int
        This counter and all before it count as seen.
    """

    WIDTH: Final = 4096
    _ALL: Final = (1 << WIDTH) - 1

    __slots__ = ("_highest", "_seen")

    def __init__(self, floor: int = 0) -> None:
        self._highest = floor
        self._seen = self._ALL  # bit n is for the counter `highest - n`

    def accept(self, counter: int) -> bool:
        """Note a counter as seen, unless it was seen before or is too old to know.

        Parameters
        ----------
        counter : int
            The counter of a datagram that has opened.

        Returns
        -------
        bool
            Whether it is new.
        """
        ahead = counter - self._highest
        if ahead > 0:
            self._highest = counter
            self._seen = ((self._seen << ahead) | 1) & self._ALL if ahead < self.WIDTH else 1
            return True
        if not self.is_new(counter):
            return False
        self._seen |= 1 << -ahead
        return True

    def is_new(self, counter: int) -> bool:
        """Check whether a counter would be accepted, without noting it.

        Parameters
        ----------
        counter : int
            The counter of a datagram that has opened.

        Returns
        -------
        bool
            Whether it was not seen before, and is not too old to know.
        """
        behind = self._highest - counter
        return behind < 0 or (behind < self.WIDTH and not self._seen >> behind & 1)
