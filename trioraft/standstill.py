"""Notices that this process stood still, because it was stopped, got no processor, or its host was suspended.

The silence of others means nothing then, because nobody was there to hear them. Their silence is counted anew from
the end of the standstill on.
"""

from trioraft.clock import LONG_AGO, NEVER


class Standstill:
    """The end of the last standstill. It reads no clock: every call is given the time, in seconds.

    Parameters
    ----------
    within : float
        The longest time between two looks without a standstill, in seconds: a few times the usual interval.

    Attributes
    ----------
    ended_at : float
        The time at which this process went on after its last standstill.
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
