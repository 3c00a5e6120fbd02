"""The state as a stream of bytes.

A stream is a sequence of frames, each after its length in 4 bytes (big-endian), cut into chunks regardless of the
frames. A frame is the CBOR of :class:`Header` (first), :class:`Leases`, :class:`Items`, :class:`Events` (any number
of each, in this order), :class:`Alarms` (where there are some), or :class:`End` (last). Equal states give equal
streams.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Final, TypeAlias, TypeVar

from msgspec import Struct

from trioraft.kv.codec import Box, pack, unpack
from trioraft.kv.commands import LONG_MAX, Event, KeyValue, Lease, Number
from trioraft.kv.history import History, HistoryLimits
from trioraft.kv.requests import Alarm
from trioraft.kv.state import FIRST_REVISION, FrozenState, State

CHUNK_MAX: Final = 2**16

_FORMAT: Final = 1
_FRAME_BYTES: Final = CHUNK_MAX // 2  # keeps each step short; only the last item makes a frame larger
_FRAME_MAX: Final = 2 * LONG_MAX + 2 * CHUNK_MAX
_ITEM_OVERHEAD: Final = 24

T = TypeVar("T", Lease, KeyValue, Event)


class SnapshotError(ValueError):
    """A snapshot is not one that this module has written."""


class Header(Struct, frozen=True, array_like=True, tag=0):
    """The numbers of a :class:`~trioraft.kv.state.State`.

    Attributes
    ----------
    format : int
        The format of the stream: 1.
    revision, compacted, grants : int
        As in the state.
    oldest : int
        The revision of the first event.
    """

    format: Number
    revision: Number
    compacted: Number
    grants: Number
    oldest: Number


class Leases(Struct, frozen=True, array_like=True, tag=1):
    """Leases, in ascending order of their ids."""

    leases: list[Lease]


class Items(Struct, frozen=True, array_like=True, tag=2):
    """Keys, in ascending order."""

    items: list[KeyValue]


class Events(Struct, frozen=True, array_like=True, tag=3):
    """The history, in its order."""

    events: list[Event]


class End(Struct, frozen=True, array_like=True, tag=4):
    """The numbers of leases, keys and events in the stream."""

    leases: Number
    items: Number
    events: Number


class Alarms(Struct, frozen=True, array_like=True, tag=5):
    """The alarms that are raised, in ascending order; since version 6."""

    alarms: list[Alarm]


Frame: TypeAlias = Header | Leases | Items | Events | Alarms | End


class _AnyFrame(Box[Frame], frozen=True, array_like=True):
    pass


def write_snapshot(state: FrozenState) -> Iterator[bytes]:
    """Encode a state.

    Parameters
    ----------
    state : FrozenState
        The state.

    Yields
    ------
    bytes
        A chunk of at most 64 KiB.
    """
    pending = bytearray()
    for frame in _frames(state):
        data = pack(frame)
        pending += len(data).to_bytes(4)
        pending += data
        while len(pending) >= CHUNK_MAX:
            yield bytes(pending[:CHUNK_MAX])
            del pending[:CHUNK_MAX]
    if pending:
        yield bytes(pending)


def _frames(state: FrozenState) -> Iterator[Frame]:
    leases = items = events = 0
    yield Header(_FORMAT, state.revision, state.compacted, state.grants, state.oldest)
    for some_leases in _batches(state.leases, lambda lease: 0):
        leases += len(some_leases)
        yield Leases(some_leases)
    for some_items in _batches(state.items, _item_size):
        items += len(some_items)
        yield Items(some_items)
    for some_events in _batches(chain.from_iterable(state.history), _event_size):
        events += len(some_events)
        yield Events(some_events)
    if state.alarms:
        yield Alarms(state.alarms)
    yield End(leases, items, events)


def _batches(items: Iterable[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    batch: list[T] = []
    filled = 0
    for item in items:
        batch.append(item)
        filled += size(item) + _ITEM_OVERHEAD
        if filled >= _FRAME_BYTES:
            yield batch
            batch, filled = [], 0
    if batch:
        yield batch


def _item_size(item: KeyValue) -> int:
    return len(item.key) + len(item.value)


def _event_size(event: Event) -> int:
    return _item_size(event.kv) + (_item_size(event.prev_kv) if event.prev_kv else 0)


class SnapshotReader:
    """Builds a state from a stream, chunk by chunk, so that its owner can do other things in between.

    Parameters
    ----------
    limits : HistoryLimits
        The limits of the history.
    history_overshoots : bool
        See :class:`~trioraft.kv.history.History`.
    """

    def __init__(self, limits: HistoryLimits, *, history_overshoots: bool = False) -> None:
        self._limits = limits
        self._overshoots = history_overshoots
        self._pending = bytearray()
        self._header: Header | None = None
        self._end: End | None = None
        self._state = State(limits)
        self._events = 0
        self._unfinished: list[Event] = []  # of the revision that is being read
        self._latest: dict[bytes, KeyValue] = {}  # each key of the history as it was last

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes.

        Parameters
        ----------
        chunk : bytes
            Any part of the stream.

        Raises
        ------
        SnapshotError
            If it cannot belong to a snapshot.
        """
        pending = self._pending
        pending += chunk
        while len(pending) >= 4:
            end = 4 + int.from_bytes(pending[:4])
            if end > _FRAME_MAX:
                raise SnapshotError("the snapshot is damaged: there is no frame where one should be")
            if len(pending) < end:
                return
            try:
                self._take(unpack(bytes(pending[4:end]), _AnyFrame))
            except ValueError as error:
                raise SnapshotError(f"the snapshot is damaged: {error}") from error
            del pending[:end]

    def finish(self) -> State:
        """Return the state, after the whole stream was fed.

        Returns
        -------
        State
            The state.

        Raises
        ------
        SnapshotError
            If something is missing.
        """
        if self._header is None or self._end is None or self._pending:
            raise SnapshotError("the snapshot is cut short")
        state = self._state
        self._close_revision()
        found = (len(state.leases), len(state.items), self._events)
        if found != (self._end.leases, self._end.items, self._end.events):
            raise SnapshotError("the snapshot is damaged: something in it is missing or repeated")
        if state.history.next != state.revision + 1:
            raise SnapshotError("the snapshot is damaged: its history does not end at its revision")
        return state

    def _take(self, frame: Frame) -> None:
        if (self._header is None) != isinstance(frame, Header) or self._end is not None:
            raise SnapshotError("its frames are out of order")
        match frame:
            case Header():
                self._take_header(frame)
            case Leases():
                for lease in frame.leases:
                    self._state.add_lease(lease)
            case Items():
                for item in frame.items:
                    self._state.add(item)
            case Events():
                for event in frame.events:
                    self._take_event(event)
            case Alarms():
                self._state.alarms.update(frame.alarms)
            case End():
                self._end = frame

    def _take_header(self, header: Header) -> None:
        if header.format != _FORMAT:
            raise SnapshotError(f"it has format {header.format}; this version reads format {_FORMAT}")
        self._header = header
        state = self._state
        state.revision, state.compacted, state.grants = header.revision, header.compacted, header.grants
        state.history = History(self._limits, header.oldest, overshoots=self._overshoots)
        if header.oldest == FIRST_REVISION:
            state.history.put_back(())

    def _take_event(self, event: Event) -> None:
        if event.kv.mod_revision != self._state.history.next:
            self._close_revision()
        if event.kv.mod_revision != self._state.history.next:
            raise SnapshotError("its history has a gap")
        self._unfinished.append(self._shared(event))
        self._events += 1

    def _shared(self, event: Event) -> Event:
        """Let an event share the objects that the state and earlier events have: else they would exist twice."""
        key = event.kv.key
        now, before = self._state.items.get(key), self._latest.get(key)
        kv = self._latest[key] = now if now is not None and now == event.kv else event.kv
        return Event(event.kind, kv, before if before == event.prev_kv else event.prev_kv)

    def _close_revision(self) -> None:
        if self._unfinished:
            self._state.history.put_back(tuple(self._unfinished))
            self._unfinished = []
