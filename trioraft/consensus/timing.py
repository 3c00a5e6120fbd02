"""The durations that a node runs by, and how far the rates of clocks may differ."""

from typing import Final

from msgspec import Struct

from trioraft.messages import Seconds

# No two clocks of a cluster may differ in *rate* by more than this. Quartz clocks stay within 0.0002, and the
# kernel slews by at most 0.0005; the rest is for virtual machines.
CLOCK_DRIFT: Final = 0.01

# The time, in seconds, that the last process of leader work may take to be gone after SIGKILL, and that the
# supervisor may be late.
WORK_MARGIN: Final = 1.0


class Timing(Struct, frozen=True):
    """The durations of one node, all in seconds.

    Attributes
    ----------
    lower, upper : float
        The election timeout is drawn uniformly between them (section 5.2). For `lower` seconds a node that heard from
        a leader refuses to vote for any other node.
    heartbeat : float
        The interval of regular heartbeats.
    stop_grace : float
        The time that leader work may take to end once it has been told to.
    """

    lower: float = 3.0
    upper: float = 5.0
    heartbeat: Seconds = 0.5
    stop_grace: float = 2.0

    @property
    def work_claim(self) -> Seconds:
        """How long after an AppendEntries the leader work that it allows may still run: lease, grace and margin."""
        return self.lower + self.stop_grace + WORK_MARGIN

    def resend(self, round_trip: Seconds) -> Seconds:
        """Compute how long to wait for an answer before a request is sent again.

        Parameters
        ----------
        round_trip : float
            The estimated round-trip time in seconds.

        Returns
        -------
        float
            Seconds after the request.
        """
        return max(2 * round_trip, self.heartbeat / 5)


def here(seconds: Seconds) -> Seconds:
    """Convert a duration of another clock to one of this clock, so that it has passed there once it has passed here.

    Parameters
    ----------
    seconds : float
        A duration on another node's clock.

    Returns
    -------
    float
        A duration on this node's clock that is no shorter, given `CLOCK_DRIFT`.
    """
    return seconds * (1 + CLOCK_DRIFT)


def there(seconds: Seconds) -> Seconds:
    """Convert a duration of another clock to one of this clock, so that it has passed here before it passes there.

    Parameters
    ----------
    seconds : float
        A duration on another node's clock.

    Returns
    -------
    float
        A duration on this node's clock that is no longer, given `CLOCK_DRIFT`.
    """
    return seconds * (1 - CLOCK_DRIFT)
