"""Notices that this process stood still: it was stopped, got no processor, or its host was suspended.

For how long others were silent says nothing then, because nobody was there to hear them. What is judged by silence
is judged anew from the end of the standstill on.
"""

from trioraft.clock import LONG_AGO, NEVER


class Standstill:
    """Knows when the last standstill ended. Reads no clock: every call is told the time, in seconds.

    Parameters
    ----------
    within : float
        Whoever looks later than this after the look before, in seconds, stood still: a few times the usual interval.

    Attributes
    ----------
    ended_at : float
        When this process went on after it stood still last.
    """

    def __init__(self, within: float) -> None:
        self._within = within
        self.ended_at = LONG_AGO
        self._looked_at = NEVER

    def look(self, now: float) -> bool:
        """Look at the clock.

        Parameters
        ----------
        now : float
            The time.

        Returns
        -------
        bool
            Whether this process stood still since the last look.
        """
        stood_still = now - self._looked_at > self._within
        if stood_still:
            self.ended_at = now
        self._looked_at = now
        return stood_still
