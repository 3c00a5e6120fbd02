"""The next revision while it is made: what would change, and how the store would look then.

Nothing is changed before a draft is committed. So a request whose last operation is refused has changed nothing, and
what it would take is known before.
"""

from collections.abc import Iterable, Mapping

from trioraft.kv.commands import Event, EventKind, KeyValue
from trioraft.kv.quota import item_bytes
from trioraft.kv.state import State


class Draft:
    """The next revision of a state.

    Parameters
    ----------
    state : State
        The state, which must not change meanwhile.

    Attributes
    ----------
    events : list of Event
        The changes, in order.
    """

    def __init__(self, state: State) -> None:
        self.events: list[Event] = []
        self._state = state
        self._changed: dict[bytes, KeyValue | None] = {}

    @property
    def changed(self) -> Mapping[bytes, KeyValue | None]:
        """What would differ from the state; None where there would be no such key."""
        return self._changed

    @property
    def revision(self) -> int:
        """The revision that the store would have: the present one as long as nothing would change."""
        return self._state.revision + bool(self.events)

    @property
    def grows(self) -> int:
        """By how many bytes the store would become larger, as the quota counts them; negative for smaller."""
        before = map(self._state.items.get, self._changed)
        return _bytes(self._changed.values()) - _bytes(before)

    def get(self, key: bytes) -> KeyValue | None:
        """Return a key as it would be, or None."""
        return self._changed[key] if key in self._changed else self._state.items.get(key)

    def put(self, key: bytes, value: bytes, lease: int) -> None:
        """Set the value of a key."""
        revision, before = self._state.revision + 1, self.get(key)
        if before is None:
            after = KeyValue(key, value, revision, revision, 1, lease)
        else:
            # Its key is the object that is there already, so that it exists once in memory.
            after = KeyValue(before.key, value, before.create_revision, revision, before.version + 1, lease)
        self._changed[key] = after
        self._note(EventKind.PUT, after)

    def delete(self, item: KeyValue) -> None:
        """Delete a key that would be there."""
        self._changed[item.key] = None
        self._note(EventKind.DELETE, KeyValue(item.key, b"", 0, self._state.revision + 1, 0))

    def _note(self, kind: EventKind, after: KeyValue) -> None:
        # As in etcd, what was before is what the revision before had, even where a key changes twice; and nothing was
        # before a key that is created, even where this revision has deleted it.
        is_new = kind is EventKind.PUT and after.create_revision == after.mod_revision
        self.events.append(Event(kind, after, None if is_new else self._state.items.get(after.key)))

    def commit(self, quota: int) -> tuple[Event, ...]:
        """Make it the state, if anything would change, and return the changes."""
        events = tuple(self.events)
        if events:
            self._state.replace(self._changed)
            self._state.commit(events, quota)
        return events


def _bytes(items: Iterable[KeyValue | None]) -> int:
    return sum(item_bytes(item) for item in items if item is not None)
