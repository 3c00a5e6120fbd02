"""The durations that a cluster runs by, and how far its clocks may be apart."""

from typing import Final

from msgspec import Struct

from trioraft.messages import Seconds

# No two clocks of a cluster may differ in *rate* by more than this. Quartz clocks stay within 0.0002, and the
# kernel slews by at most 0.0005; the rest is for virtual machines.
CLOCK_DRIFT: Final = 0.01

# How long after SIGKILL the last process of leader work may take to be gone, and how late the supervisor may be.
WORK_MARGIN: Final = 1.0


class Timing(Struct, frozen=True):
    """The durations of one node, all in seconds.

    Attributes
    ----------
    lower, upper : float
        The election timeout is drawn uniformly between them. `lower` is also how long a node that heard from a
        leader refuses to vote for anybody else.
    heartbeat : float
        The interval of heartbeats.
    stop_grace : float
        How long leader work may take to end once it has been told to.
    """

    lower: float = 3.0
    upper: float = 5.0
    heartbeat: Seconds = 0.5
    stop_grace: float = 2.0

    @property
    def work_claim(self) -> Seconds:
        """How long after a heartbeat the leader work that it allows may still run: lease, grace and margin."""
        return self.lower + self.stop_grace + WORK_MARGIN

    def resend(self, round_trip: Seconds) -> Seconds:
        """Tell when an unanswered request is sent again.

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
    """Translate a duration that another clock counts, so that it has surely passed there when it has here.

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
    """Translate a duration that another clock counts, so that it has not passed there before it has here.

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
