"""The state of the store, and the elementary changes of it."""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from trioraft.kv.commands import LARGEST, Event, EventKind, KeyValue, Lease
from trioraft.kv.history import History, HistoryLimits
from trioraft.kv.lock_keys import is_kept
from trioraft.kv.quota import LEASE_BYTES, history_bytes, item_bytes
from trioraft.kv.requests import Alarm
from trioraft.kv.sorted_map import FrozenView, SortedMap

FIRST_REVISION: Final = 1  # of an empty store, as in etcd

# Scatters the ids that the store chooses, so that they hardly ever equal those that people choose. It is odd, so that
# they never equal each other.
_SCATTER: Final = 0x9E3779B97F4A7C15


class FrozenState(NamedTuple):
    """The state at one moment."""

    revision: int
    compacted: int
    grants: int
    oldest: int
    leases: FrozenView[int, Lease]
    items: FrozenView[bytes, KeyValue]
    history: tuple[tuple[Event, ...], ...]
    alarms: list[Alarm]


class State:
    """The content of the store.

    Parameters
    ----------
    limits : HistoryLimits
        The limits of the history.

    Attributes
    ----------
    revision : int
        The current revision.
    compacted : int
        The oldest revision that can be read; 0 for all.
    grants : int
        The number of leases that were granted so far.
    items : SortedMap of bytes to KeyValue
        The keys.
    leases : SortedMap of int to Lease
        The leases.
    attached : dict of int to set of bytes
        The keys of each lease that has some.
    history : History
        The last revisions.
    size : int
        The bytes that keys and leases take, as :mod:`~trioraft.kv.quota` counts them.
    lock_size : int
        Those of leases, and of keys that locks are held by.
    alarms : set of Alarm
        The alarms that are raised.
    """

    def __init__(self, limits: HistoryLimits) -> None:
        self.revision = FIRST_REVISION
        self.compacted = 0
        self.grants = 0
        self.items: SortedMap[bytes, KeyValue] = SortedMap()
        self.leases: SortedMap[int, Lease] = SortedMap()
        self.attached: dict[int, set[bytes]] = {}
        self.history = History(limits, FIRST_REVISION)
        self.history.append(())
        self.size = 0
        self.lock_size = 0
        self.alarms: set[Alarm] = set()

    def put(self, key: bytes, value: bytes, lease: int, revision: int) -> Event:
        """Set the value of a key, at a revision that is not committed yet."""
        before = self.items.get(key)
        if before is None:
            after = KeyValue(key, value, revision, revision, 1, lease)
            self.add(after)
        else:
            # Its key is the object that is there already, so that it exists once in memory.
            after = KeyValue(before.key, value, before.create_revision, revision, before.version + 1, lease)
            self._exchange(before, after)
        return Event(EventKind.PUT, after, before)

    def delete(self, start: bytes, end: bytes | None, revision: int) -> list[Event]:
        """Delete the keys from one up to another (exclusive; None: all), at a revision that is not committed yet."""
        gone = self.items.remove_range(start, end)
        self._forget(gone)
        return [Event(EventKind.DELETE, KeyValue(before.key, b"", 0, revision, 0), before) for before in gone]

    def replace(self, changed: Mapping[bytes, KeyValue | None]) -> None:
        """Make keys what they are at a revision that is not committed yet; None: there is no such key."""
        gone = [key for key, after in changed.items() if after is None and self.items.get(key) is not None]
        self._forget(self.items.remove_all(sorted(gone)))
        for key, after in changed.items():
            if after is not None:
                before = self.items.get(key)
                if before is None:
                    self.add(after)
                else:
                    self._exchange(before, after)

    def commit(self, events: tuple[Event, ...], quota: int) -> None:
        """Commit the puts and deletions as one revision; the history gets no more than the quota leaves for it."""
        self.revision += 1
        self.history.append(events)
        if quota:
            self.history.give_way(history_bytes(quota, self.size))
        self.compacted = max(self.compacted, self.history.oldest - 1)

    def compact(self, revision: int) -> None:
        """Drop everything before a revision."""
        self.compacted = revision
        self.history.drop_before(revision)

    def grant(self, lease_id: int, ttl: int) -> Lease:
        """Make a lease, and choose its id where 0 is given."""
        self.grants += 1
        lease = Lease(lease_id or self._choose_lease_id(), ttl, self.grants)
        self.add_lease(lease)
        return lease

    def add_lease(self, lease: Lease) -> None:
        """Add a lease that does not exist yet."""
        self.leases.put(lease.id, lease)
        self.size += LEASE_BYTES
        self.lock_size += LEASE_BYTES

    def end(self, lease_id: int) -> None:
        """Remove a lease."""
        self.leases.remove(lease_id)
        self.size -= LEASE_BYTES
        self.lock_size -= LEASE_BYTES

    def recall(self, lease: Lease) -> Lease:
        """Mark a lease as recalled, so that it cannot be kept alive."""
        recalled = Lease(lease.id, lease.ttl, 0)
        self.leases.put(lease.id, recalled)
        return recalled

    def _choose_lease_id(self) -> int:
        lease_id = self.grants * _SCATTER & LARGEST
        while lease_id == 0 or self.leases.get(lease_id) is not None:
            self.grants += 1
            lease_id = self.grants * _SCATTER & LARGEST
        return lease_id

    def would_hold(self, lease: int, key: bytes) -> int:
        """Count the keys of a lease as if this one were attached to it."""
        keys = self.attached.get(lease, ())
        return len(keys) + (key not in keys)

    def add(self, item: KeyValue) -> None:
        """Add a key that does not exist yet."""
        self.items.put(item.key, item)
        self.size += item_bytes(item)
        if item.lease:
            self._attach(item)

    def _exchange(self, before: KeyValue, after: KeyValue) -> None:
        """Exchange what a key is."""
        self.items.put(before.key, after)
        self.size += len(after.value) - len(before.value)
        if before.lease:
            self._detach(before)
        if after.lease:
            self._attach(after)

    def _forget(self, gone: Iterable[KeyValue]) -> None:
        """Count keys that were removed no more."""
        for item in gone:
            self.size -= item_bytes(item)
            if item.lease:
                self._detach(item)

    def _attach(self, item: KeyValue) -> None:
        """Attach a key to its lease."""
        self.attached.setdefault(item.lease, set()).add(item.key)
        if is_kept(item):
            self.lock_size += item_bytes(item)

    def _detach(self, item: KeyValue) -> None:
        """Detach a key from its lease."""
        keys = self.attached[item.lease]
        keys.remove(item.key)
        if not keys:
            del self.attached[item.lease]
        if is_kept(item):
            self.lock_size -= item_bytes(item)

    def freeze(self) -> FrozenState:
        """Take a view of the state that later changes do not reach."""
        return FrozenState(
            self.revision,
            self.compacted,
            self.grants,
            self.history.oldest,
            self.leases.freeze(),
            self.items.freeze(),
            self.history.freeze(),
            sorted(self.alarms),
        )
