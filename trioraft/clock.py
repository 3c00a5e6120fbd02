"""The clock that deadlines are read from, and infinity, by the names of what it stands for."""

import time
from typing import Final

# A moment that never comes, one before all others, and a duration without end.
NEVER: Final = float("inf")
LONG_AGO: Final = float("-inf")
FOREVER: Final = float("inf")

# CLOCK_MONOTONIC stands still while a host is suspended; a lease does not.
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boottime() -> float:
    """Read the clock of leases and of deadlines of leader work.

    Returns
    -------
    float
        Seconds since the machine started, suspended time included where the system counts it
        (``CLOCK_BOOTTIME``).
    """
    return time.clock_gettime(_CLOCK)
