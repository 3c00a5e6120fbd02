"""Reads of any size on a node's own store, for what serves clients in its process: in parts, at one revision.

Between two parts other tasks have their turn, and the store may change.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final
from zlib import crc32

import trio
from msgspec import Struct

from trioraft.kv.checks import in_words, why_refused
from trioraft.kv.codec import pack
from trioraft.kv.commands import KeyValue, Range
from trioraft.kv.paging import PagedReads
from trioraft.kv.requests import RangeRequest
from trioraft.kv.results import Error, RangeResult
from trioraft.kv.selection import select, to_find
from trioraft.kv.store import KeyValueStore
from trioraft.messages import Instant

# More keys than this are sorted in a thread.
_SORTED_HERE: Final = 10_000


class HashKV(Struct, frozen=True):
    """The hash of the keys at a revision, which is the same on all nodes.

    Attributes
    ----------
    revision : int
        The store's present revision.
    hash : int
        32 bits.
    compact_revision : int
        The oldest revision that can be read; 0 while every one can.
    """

    revision: int
    hash: int
    compact_revision: int


class LocalReads:
    """Reads on one node, which has to make sure before that its state is fresh enough.

    Parameters
    ----------
    store : KeyValueStore
        The store.
    reads : PagedReads
        Remembers what the keys of a range were.
    now : callable
        Returns the time in seconds.
    """

    def __init__(self, store: KeyValueStore, reads: PagedReads, now: Callable[[], Instant]) -> None:
        self._store = store
        self._reads = reads
        self._now = now

    async def range(self, request: RangeRequest) -> RangeResult | Error:
        """Read keys.

        Parameters
        ----------
        request : RangeRequest
            What to read.

        Returns
        -------
        RangeResult or Error
            All of it.
        """
        reason = why_refused(request)
        if reason is not None:
            return Error(self._store.revision, reason, in_words(reason))
        found: list[KeyValue] = []
        first: RangeResult | None = None
        asked = Range(
            request.key,
            request.range_end,
            to_find(request),
            max(request.revision, 0),
            count_only=request.count_only,
        )
        async with aclosing(self._parts(asked)) as parts:
            async for part in parts:
                if isinstance(part, Error):
                    return part
                first = first or part
                found += part.kvs
        assert first is not None  # noqa: S101 - there is always a first part
        if len(found) <= _SORTED_HERE:
            return select(request, found, first.count, first.revision)
        return await trio.to_thread.run_sync(select, request, found, first.count, first.revision)

    async def hash_kv(self, revision: int = 0) -> HashKV | Error:
        """Compute the hash of all keys.

        Parameters
        ----------
        revision : int
            The revision; 0 for now.

        Returns
        -------
        HashKV or Error
            The hash.
        """
        hashed, current, compacted = 0, self._store.revision, self._store.compacted
        async with aclosing(self._parts(Range(b"\0", b"\0", revision=revision))) as parts:
            async for part in parts:
                if isinstance(part, Error):
                    return part
                hashed = crc32(pack(part.kvs), hashed)
        return HashKV(current, hashed, compacted)

    async def _parts(self, request: Range) -> AsyncGenerator[RangeResult | Error, None]:
        """Yield a range in parts, all of them at the revision of the first one."""
        limit, key, revision = request.limit, request.key, request.revision
        while True:
            asked = Range(key, request.range_end, limit, revision, count_only=request.count_only)
            part = self._reads.read(asked, self._now())
            yield part
            if isinstance(part, Error) or not part.more or not part.kvs or len(part.kvs) == limit:
                return
            limit = limit and limit - len(part.kvs)
            key, revision = part.kvs[-1].key + b"\0", revision or part.revision
            await trio.lowlevel.checkpoint()
