"""Latencies, counted in buckets: a run of any length takes the same memory, and little time for each."""

import math
from collections import Counter
from typing import Final

# Each bucket reaches so much higher than the one before: a percentile is at most so much too large.
_STEP: Final = math.log1p(0.005)


class Latencies:
    """How long many things took.

    Attributes
    ----------
    count : int
        How many there are.
    total : float
        Their sum in seconds.
    longest : float
        The longest of them in seconds; exact.
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
            How long it took; more than 0.
        """
        self.count += 1
        self.total += seconds
        self.longest = max(self.longest, seconds)
        self._buckets[math.ceil(math.log(seconds) / _STEP)] += 1

    @property
    def mean(self) -> float:
        """The arithmetic mean in seconds, 0 for nothing."""
        return self.total / self.count if self.count else 0.0

    def percentile(self, percent: float) -> float:
        """Tell how long the given part of them took at most.

        Parameters
        ----------
        percent : float
            From 0 to 100.

        Returns
        -------
        float
            Seconds: never less than the truth, and at most 0.5 % more. 0 for nothing.
        """
        rank = max(1, math.ceil(self.count * percent / 100))
        passed = 0
        for bucket, number in sorted(self._buckets.items()):
            passed += number
            if passed >= rank:
                return min(math.exp(bucket * _STEP), self.longest)
        return self.longest
