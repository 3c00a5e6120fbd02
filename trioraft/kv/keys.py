"""What a client can do with the keys of the store: read, write, transact and watch them."""

from abc import ABC
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import trio
from msgspec import structs

from trioraft.arguments import check_all, check_is, check_number
from trioraft.kv.access import StoreAccess
from trioraft.kv.codec import encode_command, pack_checked
from trioraft.kv.commands import (
    Compact,
    Compare,
    DeleteRange,
    KeyValue,
    Operation,
    Put,
    Range,
    Txn,
    prefix_range,
    to_bytes,
)
from trioraft.kv.errors import KeyValueError, expect
from trioraft.kv.questions import WatchEvents
from trioraft.kv.results import (
    CompactResult,
    DeleteRangeResult,
    ErrorCode,
    PutResult,
    RangeResult,
    TxnResult,
)
from trioraft.kv.watcher import Watcher

# The pauses, in seconds, before another node is asked because one was behind, and before everything is read again
# because it took too long.
_BEHIND_PAUSE: Final = 0.02
_AGAIN_PAUSE: Final = 0.05


class PutOutcome(NamedTuple):
    """The outcome of :meth:`KeyMethods.put_if`.

    Attributes
    ----------
    put : PutResult
        The result; its revision is 0 where the key was not as expected.
    left : int
        The lease that the key was detached from; 0 for none.
    """

    put: PutResult
    left: int


class KeyMethods(StoreAccess, ABC):
    """What a client can do with keys; see :class:`~trioraft.kv.client.KeyValueMethods`."""

    async def put(
        self,
        key: str | bytes,
        value: str | bytes,
        *,
        lease: int = 0,
        keep_lease: bool = False,
        prev_kv: bool = False,
    ) -> PutResult:
        """Set the value of a key; it is detached from its lease, unless that is given again or kept.

        Parameters
        ----------
        key, value : str or bytes
            The key, of at most 1,536 bytes, and its value, of at most 1 MiB.
        lease : int
            The lease to attach the key to; 0 for none.
        keep_lease : bool
            Whether the key stays attached to its lease, if any. The lease is looked up first, and again where it
            changes meanwhile.
        prev_kv : bool
            Whether the result includes the key as it was before.

        Returns
        -------
        PutResult
            The result, with the revision.
        """
        command = Put(to_bytes(key, "key"), to_bytes(value, "value"), lease, prev_kv)
        if check_is("keep_lease", keep_lease, bool):
            return (await self.put_if((), command, keep_lease=True)).put
        return expect(PutResult, await self._execute(command))

    async def put_many(self, items: Iterable[tuple[str | bytes, str | bytes]], *, lease: int = 0) -> list[PutResult]:
        """Set the values of many keys, as :meth:`put` does for one; they share what that costs.

        Each is a change of its own, with a revision of its own: readers may see some of them before the others. Use
        :meth:`txn` for changes that belong together.

        Parameters
        ----------
        items : iterable of tuple
            Each key and its value.
        lease : int
            The lease to attach the keys to; 0 for none.

        Returns
        -------
        list of PutResult
            The results, in the order of `items`.

        Raises
        ------
        KeyValueError
            If the store refuses one; the others are set all the same.
        BatchError
            If some have no result; its `outcomes` say which, and why.
        """
        pairs = check_all("items", items, tuple)
        if any(len(pair) != 2 for pair in pairs):
            raise ValueError("items must have pairs of a key and its value in it")
        commands = [Put(to_bytes(key, "key"), to_bytes(value, "value"), lease) for key, value in pairs]
        return [expect(PutResult, result) for result in await self._execute_all(commands)]

    async def put_if(self, compare: Sequence[Compare], put: Put, *, keep_lease: bool = False) -> "PutOutcome":
        """Set the value of a key if conditions hold, and return the lease that it was detached from.

        Parameters
        ----------
        compare : sequence of Compare
            The conditions.
        put : Put
            The key, its value, and the lease to attach it to.
        keep_lease : bool
            Whether the key stays attached to its lease, if any; that of `put` must be 0 then.

        Returns
        -------
        PutOutcome
            The outcome.
        """
        compare = check_all("compare", compare, Compare)
        encode_command(check_is("put", put, Put))
        if check_is("keep_lease", keep_lease, bool) and put.lease:
            raise ValueError("lease and keep_lease exclude each other; give one of them")
        look = Range(put.key, keys_only=True)
        while True:
            lease = _lease_of(await self.range(look)) if keep_lease else put.lease
            unchanged = (Compare.lease(put.key, "=", lease),) if keep_lease else ()
            changed = Put(put.key, put.value, lease, put.prev_kv)
            result = await self.txn((*compare, *unchanged), (look, changed), (look,))
            before = _lease_of(expect(RangeResult, result.responses[0]))
            if result.succeeded:
                return PutOutcome(expect(PutResult, result.responses[1]), before if before != lease else 0)
            if not keep_lease or before == lease:
                return PutOutcome(PutResult(0), 0)

    async def get(self, key: str | bytes, *, revision: int = 0, stale: bool = False) -> KeyValue | None:
        """Read a key.

        Parameters
        ----------
        key : str or bytes
            The key.
        revision : int
            Read the key as it was at that revision; 0 for now.
        stale : bool
            Whether an old answer is good enough; see :meth:`query`.

        Returns
        -------
        KeyValue or None
            The key with its value and revisions; None where there is no such key.
        """
        found = await self.range(Range(to_bytes(key, "key"), revision=revision), stale=stale)
        return found.kvs[0] if found.kvs else None

    async def list(
        self,
        prefix: str | bytes = b"",
        *,
        limit: int = 0,
        keys_only: bool = False,
        revision: int = 0,
        stale: bool = False,
    ) -> tuple[KeyValue, ...]:
        """Read the keys that start with a prefix, all at one revision.

        Parameters
        ----------
        prefix : str or bytes
            The prefix; empty for all keys.
        limit : int
            The largest number of keys; 0 for no limit.
        keys_only : bool
            Leave the values empty.
        revision : int
            Read the keys as they were at that revision; 0 for now.
        stale : bool
            Whether an old answer is good enough; see :meth:`query`.

        Returns
        -------
        tuple of KeyValue
            The keys, in ascending order.
        """
        key, range_end = prefix_range(to_bytes(prefix, "prefix"))
        return (await self.read_all(Range(key, range_end, limit, revision, keys_only), stale=stale)).kvs

    async def read_all(self, request: Range, *, stale: bool = False) -> RangeResult:
        """Read a range of keys, in as many parts as it takes, all at one revision.

        When that revision is compacted before the last part is read, everything is read again at a later one, unless
        the request names its revision.

        Parameters
        ----------
        request : Range
            What to read.
        stale : bool
            Whether an old answer is good enough; see :meth:`query`.

        Returns
        -------
        RangeResult
            The keys; `more` is true where the request's limit leaves some out.
        """
        while True:
            try:
                return await self._read_parts(request, stale=stale)
            except KeyValueError as error:
                if request.revision or error.code != ErrorCode.COMPACTED:
                    raise
            await trio.sleep(_AGAIN_PAUSE)

    async def _read_parts(self, request: Range, *, stale: bool) -> RangeResult:
        first = part = await self.range(request, stale=stale)
        found = list(first.kvs)
        at_first = structs.replace(request, revision=request.revision or first.revision)
        while part.more and part.kvs and len(found) != request.limit:
            room = request.limit and request.limit - len(found)
            rest = structs.replace(at_first, key=found[-1].key + b"\0", limit=room)
            try:
                part = await self.range(rest, stale=stale)
            except KeyValueError as error:
                if error.code != ErrorCode.FUTURE_REVISION:
                    raise
                await trio.sleep(_BEHIND_PAUSE)  # this node is behind the one that gave the first part
            else:
                found += part.kvs
        return RangeResult(first.revision, tuple(found), first.count, more=len(found) < first.count)

    async def range(self, request: Range, *, stale: bool = False) -> RangeResult:
        """Read a range of keys.

        Parameters
        ----------
        request : Range
            What to read.
        stale : bool
            Whether an old answer is good enough; see :meth:`query`.

        Returns
        -------
        RangeResult
            The keys; `more` is true where they do not fit into one answer.
        """
        return expect(RangeResult, await self._look_up(check_is("request", request, Range), stale=stale))

    async def delete(self, key: str | bytes, *, prefix: bool = False, prev_kv: bool = False) -> DeleteRangeResult:
        """Delete a key, or all keys that start with a prefix; refused where there are more than 10,000.

        Parameters
        ----------
        key : str or bytes
            The key, or the prefix.
        prefix : bool
            Whether it is a prefix.
        prev_kv : bool
            Whether the result includes the deleted keys.

        Returns
        -------
        DeleteRangeResult
            The result, with the number of keys that were deleted.
        """
        start, end = _bounds(key, prefix)
        return expect(DeleteRangeResult, await self._execute(DeleteRange(start, end, prev_kv)))

    async def cas(
        self,
        key: str | bytes,
        expected: str | bytes | None,
        value: str | bytes,
        *,
        lease: int = 0,
        keep_lease: bool = False,
    ) -> int:
        """Set the value of a key if it has the expected one (compare and swap).

        Parameters
        ----------
        key : str or bytes
            The key.
        expected : str, bytes or None
            The value that it must have; None if there must be no such key.
        value : str or bytes
            The new value.
        lease, keep_lease
            As in :meth:`put`: without either the key is detached from its lease.

        Returns
        -------
        int
            The revision of the change; 0 where the key was not as expected.
        """
        if expected is None:
            return await self.cas_revision(key, 0, value, lease=lease, keep_lease=keep_lease)
        compare = Compare.value(key, "=", to_bytes(expected, "expected"))
        put = Put(compare.key, to_bytes(value, "value"), lease)
        return (await self.put_if((compare,), put, keep_lease=keep_lease)).put.revision

    async def cas_revision(
        self, key: str | bytes, revision: int, value: str | bytes, *, lease: int = 0, keep_lease: bool = False
    ) -> int:
        """Set the value of a key if it was last changed at a revision.

        Parameters
        ----------
        key : str or bytes
            The key.
        revision : int
            The `mod_revision` that it must have; 0 if there must be no such key.
        value : str or bytes
            The new value.
        lease, keep_lease
            As in :meth:`put`: without either the key is detached from its lease.

        Returns
        -------
        int
            The revision of the change; 0 where the key was not as expected.
        """
        compare = Compare.mod_revision(key, "=", check_number("revision", revision))
        put = Put(compare.key, to_bytes(value, "value"), lease)
        return (await self.put_if((compare,), put, keep_lease=keep_lease)).put.revision

    async def txn(
        self, compare: Sequence[Compare], success: Sequence[Operation], failure: Sequence[Operation] = ()
    ) -> TxnResult:
        """Do several things at one revision, depending on conditions.

        Parameters
        ----------
        compare : sequence of Compare
            The conditions: ``Compare.value("a", "=", "0")``, ``Compare.missing("b")``.
        success, failure : sequence of Put, Range and DeleteRange
            The operations when all conditions hold, and otherwise: ``Put.of("a", "1")``, ``DeleteRange.of("b")``.

        Returns
        -------
        TxnResult
            Whether the conditions held, and the results of the operations.
        """
        command = Txn(
            check_all("compare", compare, Compare),
            check_all("success", success, Put, Range, DeleteRange),
            check_all("failure", failure, Put, Range, DeleteRange),
        )
        return expect(TxnResult, await self._execute(command))

    async def compact(self, revision: int) -> None:
        """Drop everything before a revision.

        Parameters
        ----------
        revision : int
            The oldest revision that can be read afterwards.
        """
        expect(CompactResult, await self._execute(Compact(revision)))

    def watch(self, key: str | bytes, *, prefix: bool = False, revision: int = 0, prev_kv: bool = False) -> "Watcher":
        """Watch a key, or all keys that start with a prefix.

        Parameters
        ----------
        key : str or bytes
            The key, or the prefix.
        prefix : bool
            Whether it is a prefix.
        revision : int
            The first revision of interest, at most the next one; 0 for all changes from now on.
        prev_kv : bool
            Whether the events include the keys as they were before.

        Returns
        -------
        Watcher
            For ``async for event in …``.
        """
        start, end = _bounds(key, prefix)
        pack_checked(WatchEvents(start, end, revision, prev_kv))
        return Watcher(self, start, end, revision, prev_kv=prev_kv)


def _bounds(key: str | bytes, prefix: bool) -> tuple[bytes, bytes]:
    encoded = to_bytes(key, "key")
    return prefix_range(encoded) if check_is("prefix", prefix, bool) else (encoded, b"")


def _lease_of(found: RangeResult) -> int:
    return found.kvs[0].lease if found.kvs else 0
