"""Latencies, counted in buckets, so that a run of any length takes the same memory, and little time for each."""

import math
from collections import Counter
from typing import Final

# By how much each bucket reaches higher than the one before, and a percentile can be too large at most.
_STEP: Final = math.log1p(0.005)


class Latencies:
    """A distribution of latencies.

    Attributes
    ----------
    count : int
        The number of latencies.
    total : float
        Their sum in seconds.
    longest : float
        The longest in seconds; exact.
    """

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.longest = 0.0
        self._buckets: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        """Count one.

        Parameters
        ----------
        seconds : float
            The latency; more than 0.
        """
        self.count += 1
        self.total += seconds
        self.longest = max(self.longest, seconds)
        self._buckets[math.ceil(math.log(seconds) / _STEP)] += 1

    @property
    def mean(self) -> float:
        """The arithmetic mean in seconds; 0 without any latency."""
        return self.total / self.count if self.count else 0.0

    def percentile(self, percent: float) -> float:
        """Compute a percentile.

        Parameters
        ----------
        percent : float
            From 0 to 100.

        Returns
        -------
        float
            Seconds, never less than the truth and at most 0.5 % more; 0 without any latency.
        """
        rank = max(1, math.ceil(self.count * percent / 100))
        passed = 0
        for bucket, number in sorted(self._buckets.items()):
            passed += number
            if passed >= rank:
                return min(math.exp(bucket * _STEP), self.longest)
        return self.longest
