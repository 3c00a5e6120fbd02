"""The clock that deadlines are read from."""

import time
from typing import Final

# CLOCK_MONOTONIC stands still while a host is suspended; a lease does not.
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boottime() -> float:
    """Read the clock that leases and deadlines of leader work are counted on.

    Returns
    -------
    float
        Seconds since the machine started, suspended time included where the system counts it
        (``CLOCK_BOOTTIME``).
    """
    return time.clock_gettime(_CLOCK)
