"""Virtual time: a heap of calls, and the one random source."""

import random
from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from typing import Any


class Loop:
    """Calls that are due at a time, in true seconds; ties go in the order in which they were made."""

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        self.events = 0
        self.random = random.Random(seed)
        self._heap: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._made = 0

    def at(self, when: float, call: Callable[..., object], *arguments: Any) -> None:
        """Call something at a time."""
        self._made += 1
        heappush(self._heap, (when, self._made, call, arguments))

    def waiting(self) -> Iterator[tuple[Any, ...]]:
        """Give the arguments of all calls that are still to be made."""
        for _, _, _, arguments in self._heap:
            yield arguments

    def run(self, *, until: float, events: int) -> None:
        """Run what is due until a time, or until so many events have happened since the start."""
        heap = self._heap
        while heap and self.events < events:
            if heap[0][0] > until:
                self.now = until
                return
            self.now, _, call, arguments = heappop(heap)
            self.events += 1
            call(*arguments)
