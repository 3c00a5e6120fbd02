"""A sorted map of which a frozen view can be taken at once, however large it is.

:mod:`sortedcontainers` keeps the order. It is pure Python and well maintained, and an insertion into a million keys
does not move half of them, as :mod:`bisect` on one list would.
"""

import weakref
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final, Generic, TypeVar

from sortedcontainers import SortedList

K = TypeVar("K", bytes, int)
V = TypeVar("V")

_BATCH: Final = 256


class SortedMap(Generic[K, V]):
    """A map in ascending order of its keys."""

    def __init__(self) -> None:
        self._values: dict[K, V] = {}
        self._keys: SortedList[K] = SortedList()
        self._views: list[weakref.ref[FrozenView[K, V]]] = []

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: K) -> V | None:
        """Return the value of a key, or None."""
        return self._values.get(key)

    def put(self, key: K, value: V) -> None:
        """Set the value of a key."""
        if self._views:
            self._keep(key)
        if key not in self._values:
            self._keys.add(key)
        self._values[key] = value

    def remove(self, key: K) -> None:
        """Remove a key that is there."""
        if self._views:
            self._keep(key)
        del self._values[key]
        self._keys.remove(key)

    def remove_range(self, start: K, end: K | None) -> list[V]:
        """Remove the keys from one up to another (exclusive; None: all), and return their values in order."""
        return self.remove_all(list(self._keys.islice(*self._positions(start, end))))

    def remove_all(self, keys: Sequence[K]) -> list[V]:
        """Remove keys that are there, in ascending order, and return their values."""
        if not keys:
            return []
        if self._views:
            for key in keys:
                self._keep(key)
        first = self._keys.bisect_left(keys[0])
        if self._keys.bisect_right(keys[-1]) == first + len(keys):
            del self._keys[first : first + len(keys)]  # far less work than one by one
        else:
            for key in keys:
                self._keys.remove(key)
        return [self._values.pop(key) for key in keys]

    def values(self, start: K, end: K | None) -> Iterator[V]:
        """Iterate over the values from one key up to another (exclusive; None: all), while the map stays as it is."""
        return map(self._values.__getitem__, self._keys.irange(start, end, (True, False)))

    def unsorted_values(self) -> list[V]:
        """Return all values, in no particular order."""
        return list(self._values.values())

    def count(self, start: K, end: K | None) -> int:
        """Count the keys from one up to another (exclusive; None: all)."""
        first, last = self._positions(start, end)
        return last - first

    def freeze(self) -> "FrozenView[K, V]":
        """Take a view of the map as it is now; costs the same for any size."""
        view = FrozenView(self._values, self._keys)
        self._views.append(weakref.ref(view, self._views.remove))
        return view

    def _positions(self, start: K, end: K | None) -> tuple[int, int]:
        first = self._keys.bisect_left(start)
        last = len(self._keys) if end is None else self._keys.bisect_left(end)
        return first, max(first, last)

    def _keep(self, key: K) -> None:
        value = self._values.get(key)
        for reference in self._views:
            view = reference()
            if view is not None:
                view.keep(key, value)


class FrozenView(Generic[K, V]):
    """The values of a map as they were when it was frozen, to be iterated over once.

    A view reads the living map from one end to the other. Before the map changes a key that the view has not reached
    yet, it hands the old value to the view. So a view takes memory only for what changes while it is read, and
    nothing is copied when it is taken. It must be read in the thread that changes the map.
    """

    def __init__(self, values: dict[K, V], keys: "SortedList[K]") -> None:
        self._values: dict[K, V] = values
        self._keys: SortedList[K] = keys
        self._kept: dict[K, V | None] = {}
        self._kept_keys: SortedList[K] = SortedList()
        self._done_to: K | None = None
        self._done = False

    def keep(self, key: K, value: V | None) -> None:
        """Keep the value of a key (None: there is no such key), because it is about to change."""
        if self._done or (self._done_to is not None and key <= self._done_to) or key in self._kept:
            return
        self._kept[key] = value
        self._kept_keys.add(key)

    def __iter__(self) -> Iterator[V]:
        while not self._done:
            yield from self._next_batch()

    def _next_batch(self) -> list[V]:
        after: Any = self._done_to  # None: from the beginning, which the type stubs do not know
        keys = list(islice(self._keys.irange(after, None, (False, True)), _BATCH))
        last: Any = keys[-1] if len(keys) == _BATCH else None
        batch: dict[K, V | None] = {key: self._values[key] for key in keys}
        kept = list(self._kept_keys.irange(None, last))
        for key in kept:
            batch[key] = self._kept.pop(key)
        del self._kept_keys[: len(kept)]
        self._done_to, self._done = last, last is None
        return [value for key in sorted(batch) if (value := batch[key]) is not None]
