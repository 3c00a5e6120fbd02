"""Answers in pages: ranges that are read page by page at one revision, and the keys of leases.

The first page of a range has a revision, and the client asks for the others at that revision. The history that all
replicas keep may not reach back to it any more, where large values are put all the time. So a node that has answered
with a part of a range remembers for a while what the keys of the range were before they changed. This is no part of
the replicated state, and may be lost: then the client begins again.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from msgspec import Struct

from trioraft.kv.commands import KeyValue, Range
from trioraft.kv.reading import bounds, size
from trioraft.kv.results import Error, RangeResult
from trioraft.kv.store import Change, KeyValueStore
from trioraft.messages import Instant

# A range is remembered for so many seconds after its last page was asked for.
READ_SECONDS: Final = 10.0
READS_MAX: Final = 64
# The size of everything that is remembered.
READS_BYTES_MAX: Final = 64 * 2**20

KEYS_PAGE_BYTES: Final = 2**20
LEASES_PAGE: Final = 2**16


class _Read(Struct, eq=False):
    """A range that is being read."""

    revision: int
    start: bytes
    end: bytes | None
    until: Instant
    before: dict[bytes, KeyValue | None]  # the keys that have changed since that revision, as they were then
    size: int

    def covers(self, request: Range) -> bool:
        """Check whether a request is for a further page of it."""
        start, end = bounds(request)
        return self.revision == request.revision and self.end == end and self.start <= start


class PagedReads:
    """The ranges that are being read from one node.

    Parameters
    ----------
    store : KeyValueStore
        The store.
    """

    def __init__(self, store: KeyValueStore) -> None:
        self._store = store
        self._reads: list[_Read] = []  # in the order of their last requests

    def read(self, request: Range, now: Instant) -> RangeResult | Error:
        """Read a range, or as much of it as fits into an answer.

        Parameters
        ----------
        request : Range
            What to read.
        now : float
            The time in seconds.

        Returns
        -------
        RangeResult or Error
            What was found.
        """
        known = None
        if request.revision:
            known = next((read for read in self._reads if read.covers(request)), None)
        if known is not None:
            self._reads.remove(known)
            self._reads.append(known)
            known.until = now + READ_SECONDS
            return self._store.read_before(request, known.before)
        found = self._store.query(request)
        if isinstance(found, RangeResult) and found.more and len(found.kvs) != request.limit:
            self._begin(request, found.revision, now)
        return found

    def _begin(self, request: Range, current: int, now: Instant) -> None:
        before = self._store.changed_since(request)
        filled = sum(map(_size, before.values()))
        read = _Read(request.revision or current, *bounds(request), now + READ_SECONDS, before, filled)
        self._reads.append(read)
        self._forget_some()

    def follow(self, change: Change) -> None:
        """Remember the former values of keys that have changed.

        Parameters
        ----------
        change : Change
            The change, as the store reports it.
        """
        if change.restored:
            self._reads.clear()
        grew = False
        for read in self._reads:
            for event in change.events:
                key = event.kv.key
                if read.start <= key and (read.end is None or key < read.end) and key not in read.before:
                    read.before[key] = event.prev_kv
                    read.size += _size(event.prev_kv)
                    grew = True
        if grew:
            self._forget_some()

    def _forget_some(self) -> None:
        while len(self._reads) > READS_MAX or sum(read.size for read in self._reads) > READS_BYTES_MAX:
            del self._reads[0]

    @property
    def are_kept(self) -> bool:
        """Whether further pages of some range may be requested."""
        return bool(self._reads)

    def end_old(self, now: Instant) -> None:
        """Forget the ranges for which no page was requested lately.

        Parameters
        ----------
        now : float
            The time in seconds.
        """
        self._reads = [read for read in self._reads if read.until > now]


def _size(item: KeyValue | None) -> int:
    return size(item) if item is not None else 0


class KeysPage(NamedTuple):
    """A part of a list of keys.

    Attributes
    ----------
    keys : tuple of bytes
        The keys.
    more : bool
        Whether further ones follow.
    """

    keys: tuple[bytes, ...]
    more: bool = False


def page_of_keys(keys: Iterable[bytes], after: bytes) -> KeysPage:
    """Return the keys that follow one, as many as fit into an answer.

    Parameters
    ----------
    keys : iterable of bytes
        Keys, in ascending order.
    after : bytes
        The key that they follow; empty for the beginning.

    Returns
    -------
    KeysPage
        The page.
    """
    page: list[bytes] = []
    room = KEYS_PAGE_BYTES
    for key in keys:
        if key > after:
            room -= len(key) + 3  # three bytes for the head of a byte string
            if room < 0:
                return KeysPage(tuple(page), more=True)
            page.append(key)
    return KeysPage(tuple(page))
