"""Watching keys.

A watch is no queue but a place in the store's history, which is bounded and shared. It costs the same however far it
is behind, and a slow one goes on where it was as long as the history reaches back so far. After that it gets an error
that names the oldest revision, and its client has to read the keys again before it watches from the next revision.

Events come in pages, because an answer to a client has a largest size. A revision may be larger than any page: one
command can delete thousands of keys, and one change of a key with the largest values is more than an answer holds. So
a page may end within a revision, and even between a change and the former value of its key. The place where it ended
is given as a number of *halves*: two for each change of the revision that the watch matches, of which the first lacks
`prev_kv`. Every node has the same changes in the same order, so the number means the same at another node, or after a
restart.
"""

from collections.abc import Callable
from typing import Final

from msgspec import Struct, structs

from trioraft.kv.commands import Event
from trioraft.kv.questions import WHOLE_REVISIONS
from trioraft.kv.results import Error
from trioraft.kv.store import Change, KeyValueStore
from trioraft.kv.watched import Watched

# The bytes of keys and values in one page, as :func:`_size` counts them; a single half may have more.
TAKE_BYTES: Final = 2**20

_KEY_OVERHEAD: Final = 64  # bytes that the encoding of a key has besides its name and value, at most


class WatchBatch(Struct, frozen=True):
    """Events for a watch.

    Attributes
    ----------
    revision : int
        All events up to this revision have been given.
    events : tuple of Event
        The events, in order. Where `given` is odd the last one lacks its `prev_kv`, and the next batch begins with
        the same event, with `prev_kv` and without the value.
    given : int
        The number of halves of the events of the next revision that have been given too.
    """

    revision: int
    events: tuple[Event, ...]
    given: int = 0


class Watch:
    """A watch on some keys, made by :meth:`WatchHub.watch`."""

    def __init__(
        self,
        hub: "WatchHub",
        key: bytes,
        range_end: bytes,
        revision: int,
        wake: Callable[[], None],
        *,
        given: int,
        prev_kv: bool,
    ) -> None:
        self._hub = hub
        self.key = key
        self.range_end = range_end
        self._next = revision
        self._given = max(given, 0)  # of that revision
        self._divides = given != WHOLE_REVISIONS
        self._prev_kv = prev_kv
        self._wake = wake
        self._waiting = revision <= hub.revision  # whether there may be something to take

    @property
    def next_revision(self) -> int:
        """The revision before which everything was given; a client that loses the watch starts another one here."""
        return self._next if self._waiting else max(self._next, self._hub.revision + 1)

    @property
    def given(self) -> int:
        """The number of halves of the events of that revision that were given too."""
        return self._given if self.next_revision == self._next else 0

    def take(self, max_bytes: int = TAKE_BYTES) -> WatchBatch | Error | None:
        """Take the next events.

        Parameters
        ----------
        max_bytes : int
            The largest number of bytes of keys and values. One half of an event, or one revision where revisions must
            not be divided, is taken whatever its size.

        Returns
        -------
        WatchBatch, Error or None
            The events; or an error with the code ``compacted``, after which the watch is closed; or None where there
            are no events until it wakes its owner.
        """
        if not self._waiting:
            return None
        since = self._hub.store.events_since(self._next)
        if isinstance(since, Error):
            self.close()
            return since
        page = _Page(max_bytes)
        for revision_events in since:
            matching = [self._shown(event) for event in revision_events if self.matches(event.kv.key)]
            if not (self._take_part if self._divides else self._take_whole)(page, matching):
                return WatchBatch(self._next - 1, tuple(page.events), self._given)
            self._next += 1
            self._given = 0
        self._waiting = False
        return WatchBatch(self._next - 1, tuple(page.events)) if page.events else None

    @staticmethod
    def _take_whole(page: "_Page", matching: list[Event]) -> bool:
        """Add a revision to a page; return False where there is no room for it."""
        if page.events and not page.fits(*matching):
            return False
        page.add(*matching)
        return True

    def _take_part(self, page: "_Page", matching: list[Event]) -> bool:
        """Add the rest of a revision to a page, as far as there is room; return False where something remains."""
        for event in matching[self._given // 2 :]:
            halves = 2 - self._given % 2
            left = event if halves == 2 else _second_half(event)
            if not page.fits(left):
                if page.events:
                    return False
                if halves == 2 and event.prev_kv is not None:
                    page.add(_without_previous(event))
                    self._given += 1
                    return False
            page.add(left)
            self._given += halves
        return True

    def _shown(self, event: Event) -> Event:
        return event if self._prev_kv or event.prev_kv is None else _without_previous(event)

    def matches(self, key: bytes) -> bool:
        """Check whether a key is watched."""
        if not self.range_end:
            return key == self.key
        return self.key <= key and (self.range_end == b"\0" or key < self.range_end)

    def notify(self, revision: int) -> None:
        """Wake its owner for a revision, unless there is something to take already or the watch is further on."""
        if not self._waiting and revision >= self._next:
            self._given = self._given if revision == self._next else 0
            self._next = revision
            self._waiting = True
            self._wake()

    def close(self) -> None:
        """Close it; nothing more can be taken."""
        self._waiting = False
        self._hub.remove(self)


class _Page:
    """Events that are given together."""

    def __init__(self, max_bytes: int) -> None:
        self.events: list[Event] = []
        self._room = max_bytes

    def fits(self, *events: Event) -> bool:
        """Check whether there is room for events."""
        return sum(map(_size, events)) <= self._room

    def add(self, *events: Event) -> None:
        """Add events."""
        self.events += events
        self._room -= sum(map(_size, events))


class WatchHub:
    """All watches of a store; it wakes those that a change concerns.

    Parameters
    ----------
    store : KeyValueStore
        The store; let its `on_change` call :meth:`publish`.

    Attributes
    ----------
    store : KeyValueStore
        The store.
    revision : int
        The store's revision at the last change.
    """

    def __init__(self, store: KeyValueStore) -> None:
        self.store = store
        self.revision = store.revision
        self._watched: Watched[Watch] = Watched()

    def watch(
        self,
        key: bytes,
        range_end: bytes = b"",
        *,
        revision: int = 0,
        given: int = WHOLE_REVISIONS,
        prev_kv: bool = True,
        wake: Callable[[], None],
    ) -> Watch:
        """Watch a key, or the keys of a range.

        Parameters
        ----------
        key, range_end : bytes
            As in :class:`~trioraft.kv.commands.Range`.
        revision : int
            The first revision of interest, which may be one to come; 0 for the next one.
        given : int
            The number of halves of the events of that revision that were given before; :data:`WHOLE_REVISIONS` where
            batches must not divide a revision.
        prev_kv : bool
            Whether the events include the keys as they were before.
        wake : callable
            Called when there is something to take, once until everything is taken, and not for what there is when
            this returns. It must not make or close watches.

        Returns
        -------
        Watch
            The watch; its owner has to close it.
        """
        first = revision or self.revision + 1
        watch = Watch(self, key, range_end, first, wake, given=given, prev_kv=prev_kv)
        self._watched.add(watch)
        return watch

    def publish(self, change: Change) -> None:
        """Wake the watches of keys that a command has changed.

        Parameters
        ----------
        change : Change
            The change, as the store reports it.
        """
        if change.restored:  # the events in between are in the history, or lost
            places = [(watch, watch.next_revision) for watch in self._watched]
            self.revision = change.revision
            for watch, revision in places:
                if revision <= change.revision:
                    watch.notify(revision)
            return
        self.revision = change.revision
        if not self._watched:
            return
        for event in change.events:
            for watch in self._watched.of(event.kv.key):
                watch.notify(change.revision)

    def remove(self, watch: Watch) -> None:
        """Remove a watch; :meth:`Watch.close` calls it."""
        self._watched.remove(watch)


def _without_previous(event: Event) -> Event:
    return Event(event.kind, event.kv)


def _second_half(event: Event) -> Event:
    return Event(event.kind, structs.replace(event.kv, value=b""), event.prev_kv)


def _size(event: Event) -> int:
    return sum(_KEY_OVERHEAD + len(kv.key) + len(kv.value) for kv in (event.kv, event.prev_kv) if kv)
