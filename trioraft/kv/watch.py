"""Watching keys.

A watch is no queue but a place in the store's history, which is bounded and shared: a watch costs the same however
far it is behind, and a slow one goes on where it was as long as the history reaches back so far. After that it gets
an error that names the oldest revision there is, and has to read the keys again before it watches from the next one.
"""

from collections.abc import Callable
from itertools import chain
from typing import Final

from msgspec import Struct

from trioraft.kv.commands import Event
from trioraft.kv.results import Error
from trioraft.kv.store import Change, KeyValueStore

TAKE_BYTES: Final = 2**20


class WatchBatch(Struct, frozen=True):
    """Events for a watch.

    Attributes
    ----------
    revision : int
        All events up to this revision have been given.
    events : tuple of Event
        The events, in order; those of one revision are never divided.
    """

    revision: int
    events: tuple[Event, ...]


class Watch:
    """A watch on some keys, made by :meth:`WatchHub.watch`."""

    def __init__(
        self, hub: "WatchHub", key: bytes, range_end: bytes, revision: int, wake: Callable[[], None]
    ) -> None:
        self._hub = hub
        self._key = key
        self._range_end = range_end
        self._next = revision
        self._wake = wake
        self._waiting = revision <= hub.revision  # whether there may be something to take

    @property
    def next_revision(self) -> int:
        """Everything before this revision was given; whoever loses the watch starts another one here."""
        return self._next if self._waiting else max(self._next, self._hub.revision + 1)

    def take(self, max_bytes: int = TAKE_BYTES) -> WatchBatch | Error | None:
        """Take the next events.

        Parameters
        ----------
        max_bytes : int
            Take no further revision when there are so many bytes of keys and values.

        Returns
        -------
        WatchBatch, Error or None
            Events; or an error with the code ``compacted``, after which the watch is closed; or None where there is
            nothing, until it wakes its owner.
        """
        if not self._waiting:
            return None
        since = self._hub.store.events_since(self._next)
        if isinstance(since, Error):
            self.close()
            return since
        events: list[Event] = []
        filled = 0
        for revision_events in since:
            if filled >= max_bytes:
                return WatchBatch(self._next - 1, tuple(events))
            matching = [event for event in revision_events if self.matches(event.kv.key)]
            events += matching
            filled += sum(map(_size, matching))
            self._next += 1
        self._waiting = False
        return WatchBatch(self._next - 1, tuple(events)) if events else None

    def matches(self, key: bytes) -> bool:
        """Tell whether a key is watched."""
        if not self._range_end:
            return key == self._key
        return self._key <= key and (self._range_end == b"\0" or key < self._range_end)

    def notify(self, revision: int) -> None:
        """Let it look into the history from a revision on, or from where it is if it has not come so far."""
        if not self._waiting and revision >= self._next:
            self._next = revision
            self._waiting = True
            self._wake()

    def close(self) -> None:
        """End it; nothing more can be taken."""
        self._waiting = False
        self._hub.remove(self, self._key, self._range_end)


class WatchHub:
    """Wakes the watches that a change concerns.

    Parameters
    ----------
    store : KeyValueStore
        The store; let its `on_change` call :meth:`publish`.

    Attributes
    ----------
    store : KeyValueStore
        As above.
    revision : int
        The store's revision at the last change.
    """

    def __init__(self, store: KeyValueStore) -> None:
        self.store = store
        self.revision = store.revision
        self._of_key: dict[bytes, list[Watch]] = {}
        self._of_range: list[Watch] = []

    def watch(self, key: bytes, range_end: bytes = b"", *, revision: int = 0, wake: Callable[[], None]) -> Watch:
        """Watch a key, or the keys of a range.

        Parameters
        ----------
        key, range_end : bytes
            As in :class:`~trioraft.kv.commands.Range`.
        revision : int
            The first revision of interest, also one to come; 0 for the next one.
        wake : callable
            Called when there is something to take, once until everything is taken; not for what there is already
            when this returns. It must not make or close watches.

        Returns
        -------
        Watch
            The watch; close it in the end.
        """
        watch = Watch(self, key, range_end, revision or self.revision + 1, wake)
        if range_end:
            self._of_range.append(watch)
        else:
            self._of_key.setdefault(key, []).append(watch)
        return watch

    def publish(self, change: Change) -> None:
        """Take notice of what a command has changed.

        Parameters
        ----------
        change : Change
            What the store told.
        """
        if change.restored:  # what happened in between stands in the history, or is lost
            places = [(watch, watch.next_revision) for watch in self._watches()]
            self.revision = change.revision
            for watch, revision in places:
                if revision <= change.revision:
                    watch.notify(revision)
            return
        self.revision = change.revision
        for event in change.events:
            key = event.kv.key
            for watch in self._of_key.get(key, ()):
                watch.notify(change.revision)
            for watch in self._of_range:
                if watch.matches(key):
                    watch.notify(change.revision)

    def _watches(self) -> list[Watch]:
        return [*self._of_range, *chain.from_iterable(self._of_key.values())]

    def remove(self, watch: Watch, key: bytes, range_end: bytes) -> None:
        """Forget a watch; for :meth:`Watch.close`."""
        watches = self._of_range if range_end else self._of_key.get(key, [])
        if watch in watches:
            watches.remove(watch)
        if not watches and not range_end:
            self._of_key.pop(key, None)


def _size(event: Event) -> int:
    return len(event.kv.key) + len(event.kv.value) + (len(event.prev_kv.value) if event.prev_kv else 0)
