"""The last revisions, from which watches go on and at which keys can be read."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final, NamedTuple

from trioraft.kv.commands import Event, KeyValue

_EVENT_OVERHEAD: Final = 100  # bytes that an event takes in addition to its keys and values, about


class HistoryLimits(NamedTuple):
    """The limits of a history. They are part of the state machine: they must be the same on every replica.

    Attributes
    ----------
    events : int
        The largest number of events.
    bytes : int
        The largest number of bytes of keys and values, earlier values included.
    """

    events: int = 50_000
    bytes: int = 32 * 2**20


class History:
    """Events by revision. Every revision changes something, so the revisions in it have no gaps.

    Parameters
    ----------
    limits : HistoryLimits
        How much is kept.
    oldest : int
        The revision of the first append.

    Attributes
    ----------
    oldest : int
        The oldest revision whose events are kept.
    overshoots : bool
        Whether revisions are kept until they *reach* the limits. Then a revision that is larger than the limits, such
        as the deletion of many large values, can be watched too.
    """

    def __init__(self, limits: HistoryLimits, oldest: int, *, overshoots: bool = False) -> None:
        self.oldest = oldest
        self.overshoots = overshoots
        self._limits = limits
        # This is a list because the middle of a deque is slow to reach. A revision that is dropped leaves an empty
        # place, until half of the list is empty.
        self._revisions: list[tuple[Event, ...]] = []
        self._sizes: list[int] = []  # of each, in bytes
        self._dropped = 0
        self._events = 0
        self._bytes = 0

    @property
    def next(self) -> int:
        """The revision that follows the last one."""
        return self.oldest + len(self._revisions) - self._dropped

    def append(self, events: tuple[Event, ...]) -> None:
        """Add the events of the next revision; drop the oldest revisions where the limits are passed."""
        self.put_back(events)
        if self._events >= self._limits.events or self._bytes >= self._limits.bytes:
            while self._is_too_much():
                self._drop_oldest()

    def put_back(self, events: tuple[Event, ...]) -> None:
        """Add the events of the next revision of a snapshot, and drop nothing.

        What another replica has kept is kept here too, although the limits may count otherwise by now.
        """
        size = 0
        for event in events:
            size += _size(event)
        self._revisions.append(events)
        self._sizes.append(size)
        self._events += len(events)
        self._bytes += size

    def _is_too_much(self) -> bool:
        """Check whether the oldest revision has to be dropped."""
        if not self.overshoots:
            return self._events > self._limits.events or self._bytes > self._limits.bytes
        events, size = len(self._revisions[self._dropped]), self._sizes[self._dropped]
        return self._events - events >= self._limits.events or self._bytes - size >= self._limits.bytes

    def give_way(self, bytes_max: int) -> None:
        """Drop the oldest revisions, but never the newest one, until the history has at most so many bytes."""
        while self._bytes > bytes_max and self._dropped < len(self._revisions) - 1:
            self._drop_oldest()

    def drop_before(self, revision: int) -> None:
        """Drop the revisions that are older than one."""
        while self.oldest < min(revision, self.next):
            self._drop_oldest()

    def since(self, revision: int) -> Iterator[tuple[Event, ...]]:
        """Yield the events of each revision, from one on that is not older than `oldest`."""
        for index in range(revision - self.oldest + self._dropped, len(self._revisions)):
            yield self._revisions[index]

    def undo(
        self, revision: int, later: Iterable[Event], start: bytes, end: bytes | None
    ) -> dict[bytes, KeyValue | None]:
        """Compute what the keys of a range were at a revision.

        Parameters
        ----------
        revision : int
            The revision, at least ``oldest - 1``.
        later : iterable of Event
            Events that are newer than this history, in order.
        start, end : bytes
            The keys from the first up to the second (exclusive; None: all).

        Returns
        -------
        dict of bytes to KeyValue or None
            Every key that has changed since, as it was then; None where it did not exist.
        """
        before: dict[bytes, KeyValue | None] = {}
        for event in chain(chain.from_iterable(self.since(revision + 1)), later):
            key = event.kv.key
            if key not in before and start <= key and (end is None or key < end):
                before[key] = event.prev_kv
        return before

    def freeze(self) -> tuple[tuple[Event, ...], ...]:
        """Return all events as they are now; this copies one reference for each revision."""
        return tuple(self._revisions[self._dropped :])

    def _drop_oldest(self) -> None:
        self._events -= len(self._revisions[self._dropped])
        self._bytes -= self._sizes[self._dropped]
        self._revisions[self._dropped] = ()
        self._dropped += 1
        self.oldest += 1
        if self._dropped > len(self._revisions) // 2:
            del self._revisions[: self._dropped]
            del self._sizes[: self._dropped]
            self._dropped = 0


def _size(event: Event) -> int:
    before = event.prev_kv
    return _EVENT_OVERHEAD + len(event.kv.key) + len(event.kv.value) + (len(before.value) if before else 0)
