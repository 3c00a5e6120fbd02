"""How long answers take, estimated as TCP estimates its round trips (RFC 6298, section 2)."""

from trioraft.messages import Seconds


def smooth(known: Seconds | None, measured: Seconds) -> Seconds:
    """Take one measurement into a smoothed round trip.

    Parameters
    ----------
    known : float or None
        The estimate before; None before the first measurement.
    measured : float
        How long the answer took.

    Returns
    -------
    float
        The estimate from now on.
    """
    return measured if known is None else known + (measured - known) / 8


class RoundTrip:
    """An estimate of a round trip, and of how much it varies.

    Attributes
    ----------
    smoothed : float or None
        The estimate; None before the first measurement.
    deviation : float
        By how much measurements differ from it.
    """

    __slots__ = ("deviation", "smoothed")

    def __init__(self) -> None:
        self.smoothed: Seconds | None = None
        self.deviation: Seconds = 0.0

    def measured(self, seconds: Seconds) -> None:
        """Take one measurement into the estimate.

        Parameters
        ----------
        seconds : float
            How long the answer took.
        """
        if self.smoothed is None:
            self.deviation = seconds / 2
        else:
            self.deviation += (abs(seconds - self.smoothed) - self.deviation) / 4
        self.smoothed = smooth(self.smoothed, seconds)

    def timeout(self, first: Seconds, margin: Seconds = 0.0) -> Seconds:
        """Compute after what time an answer counts as missing.

        Parameters
        ----------
        first : float
            The result before the first measurement.
        margin : float
            By how much the result exceeds the estimate at least.

        Returns
        -------
        float
            The round trip and four deviations.
        """
        return first if self.smoothed is None else self.smoothed + max(4 * self.deviation, margin)
