"""Finds the watches of a key, without a look at those of other keys.

A watch of a range is found by a prefix that all its keys have. So the watch of a prefix, which is what people watch,
is looked at for its own keys only, and that of another range for the keys around it too. What it costs to look grows
with the number of different lengths of prefixes, not with that of watches.
"""

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar


class Ranged(Protocol):
    """A watch, as far as it is found here."""

    @property
    def key(self) -> bytes:
        """The key, or the first one of a range."""

    @property
    def range_end(self) -> bytes:
        """The end of the range, as in :class:`~trioraft.kv.commands.Range`."""

    def matches(self, key: bytes) -> bool:
        """Check whether a key is watched."""


W = TypeVar("W", bound=Ranged)


class Watched(Generic[W]):
    """Watches, by what they watch."""

    def __init__(self) -> None:
        self._prefixes: dict[W, bytes] = {}
        self._of_key: dict[bytes, dict[W, None]] = {}
        self._of_length: dict[int, dict[bytes, dict[W, None]]] = {}  # by the length of the prefix, and the prefix

    def __len__(self) -> int:
        return len(self._prefixes)

    def __iter__(self) -> Iterator[W]:
        return iter(self._prefixes)

    def of(self, key: bytes) -> list[W]:
        """Return the watches of a key."""
        found = list(self._of_key.get(key, ()))
        for length, place in self._of_length.items():
            watches = place.get(key[:length])
            if watches is not None:
                found += [watch for watch in watches if watch.matches(key)]
        return found

    def add(self, watch: W) -> None:
        """Add a watch."""
        prefix = self._prefixes[watch] = _common_prefix(watch.key, watch.range_end)
        place = self._of_length.setdefault(len(prefix), {}) if watch.range_end else self._of_key
        place.setdefault(prefix, {})[watch] = None

    def remove(self, watch: W) -> None:
        """Remove a watch, if it is there."""
        prefix = self._prefixes.pop(watch, None)
        if prefix is None:
            return
        place = self._of_length[len(prefix)] if watch.range_end else self._of_key
        del place[prefix][watch]
        if not place[prefix]:
            del place[prefix]
        if watch.range_end and not place:
            del self._of_length[len(prefix)]


def _common_prefix(start: bytes, end: bytes) -> bytes:
    """Return a prefix that all keys of a watch have: the key, or as much as can be said of its range in short."""
    if not end:
        return start
    if end == b"\0":
        return b""
    both = enumerate(zip(start, end, strict=False))
    same = next((place for place, (one, other) in both if one != other), min(len(start), len(end)))
    # All keys from foo/ up to foo0 begin with foo/.
    ends_prefix = same + 1 == len(end) <= len(start) and start[same] + 1 == end[same]
    return start[: same + ends_prefix]
