"""Carries out the operations that every version of the protocol has, as one revision.

Their results, their refusals and the order of those are part of the meaning of a version: a release that knows no
later one must come to the same. :mod:`~trioraft.kv.evaluation` does etcd's requests in full.
"""

from collections.abc import Sequence
from itertools import chain

from msgspec import Struct

from trioraft.kv.commands import DELETED_MAX, RESULT_MAX, DeleteRange, Event, Operation, Put, Range
from trioraft.kv.lock_keys import KEPT_FROM, LOCKS_RANGE, is_kept, why_not_deleted, why_not_put
from trioraft.kv.quota import growth, is_for_locks, item_bytes, why_full
from trioraft.kv.reading import bounds, read, size
from trioraft.kv.refusals import RefusedError, check_lease, check_revision
from trioraft.kv.results import DeleteRangeResult, ErrorCode, OperationResult, PutResult
from trioraft.kv.state import State


class Done(Struct, frozen=True):
    """What operations have done.

    Attributes
    ----------
    results : tuple of OperationResult
        The result of each.
    events : tuple of Event
        The changes, which are not committed yet.
    """

    results: tuple[OperationResult, ...]
    events: tuple[Event, ...]


class Operations:
    """Operations on a state.

    Parameters
    ----------
    state : State
        The state.
    version : int
        The version of the protocol that the cluster speaks.
    quota : int
        The largest size of the store in bytes; 0 where there is none.
    """

    def __init__(self, state: State, version: int, quota: int) -> None:
        self._state = state
        self._version = version
        self._quota = quota

    def run(self, operations: Sequence[Operation]) -> Done:
        """Carry out operations, or refuse all of them.

        Parameters
        ----------
        operations : sequence of Put, Range and DeleteRange
            The operations, which do not contradict each other.

        Returns
        -------
        Done
            Their results, and the changes that the caller has to commit.

        Raises
        ------
        RefusedError
            If one is refused; nothing has changed.
        """
        room = RESULT_MAX
        deleted = grows = 0
        changes = False
        for operation in operations:
            match operation:
                case Put():
                    room -= self._check_put(operation)
                    grows += item_bytes(operation)
                    changes = True
                case DeleteRange():
                    deleted += self._state.items.count(*bounds(operation))
                    changes = changes or deleted > 0
                    if deleted <= DELETED_MAX:
                        self._check_locks(operation)
                    room -= self._check_delete(operation, room)
                case Range():
                    check_revision(self._state, operation.revision)
            if room < 0:
                text = f"the previous values are more than the {RESULT_MAX} bytes of a result; ask for fewer of them"
                raise RefusedError(ErrorCode.TOO_LARGE, text)
        if deleted > DELETED_MAX:
            text = f"{deleted} keys would be deleted at once, at most {DELETED_MAX} can be; delete smaller ranges"
            raise RefusedError(ErrorCode.TOO_LARGE, text)
        if self._quota and changes and self._state.size + grows > self._quota:
            self._check_quota(operations)
        return self._carry_out(operations, self._state.revision + changes, room)

    def check_put(self, put: Put) -> None:
        """Refuse a put that is all there is, as :meth:`run` would."""
        self._check_put(put)
        if self._quota and self._state.size + item_bytes(put) > self._quota:
            self._check_quota((put,))

    def _carry_out(self, operations: Sequence[Operation], revision: int, room: int) -> Done:
        events: list[Event] = []
        results: list[OperationResult] = []
        for operation in operations:
            match operation:
                case Put():
                    event = self._state.put(operation.key, operation.value, operation.lease, revision)
                    events.append(event)
                    results.append(PutResult(revision, event.prev_kv if operation.prev_kv else None))
                case DeleteRange():
                    deleted = self._state.delete(*bounds(operation), revision)
                    events += deleted
                    before = tuple(event.prev_kv for event in deleted if event.prev_kv) if operation.prev_kv else ()
                    results.append(DeleteRangeResult(revision, len(deleted), before))
                case Range():
                    found = read(self._state, operation, revision, events, room)
                    room -= sum(map(size, found.kvs))
                    results.append(found)
        return Done(tuple(results), tuple(events))

    def _check_put(self, put: Put) -> int:
        """Refuse a put that must not be, and return how many bytes the former value takes in the result."""
        if put.key.startswith(LOCKS_RANGE[0]) and self._version >= KEPT_FROM:
            reason = why_not_put(put)
            if reason:
                raise RefusedError(ErrorCode.LEASE_EXISTS, reason)
        if put.lease:
            check_lease(self._state, put.lease, put.key)
        previous = self._state.items.get(put.key) if put.prev_kv else None
        return size(previous) if previous else 0

    def _check_locks(self, delete: DeleteRange) -> None:
        """Refuse to delete a key by which a lock is held, or waited for."""
        if self._version < KEPT_FROM:
            return
        start, end = bounds(delete)
        first, last = LOCKS_RANGE
        start, end = max(start, first), last if end is None else min(end, last)
        for item in self._state.items.values(start, end) if start < end else ():
            if is_kept(item):
                raise RefusedError(ErrorCode.LEASE_EXISTS, why_not_deleted(item))

    def _check_delete(self, delete: DeleteRange, room: int) -> int:
        """Return how many bytes the former values take in the result, or just more than there is room for."""
        total = 0
        if delete.prev_kv:
            for item in self._state.items.values(*bounds(delete)):
                total += size(item)
                if total > room:
                    break
        return total

    def _check_quota(self, operations: Sequence[Operation]) -> None:
        """Refuse operations whose puts alone would not fit, unless they replace or delete enough."""
        puts = [operation for operation in operations if isinstance(operation, Put)]
        deletes = [operation for operation in operations if isinstance(operation, DeleteRange)]
        deleted = chain.from_iterable(self._state.items.values(*bounds(delete)) for delete in deletes)
        grows = growth(self._state.items, puts, deleted)
        reason = why_full(self._state.size, self._state.lock_size, grows, self._quota, for_locks=is_for_locks(puts))
        if reason:
            raise RefusedError(ErrorCode.TOO_LARGE, reason)
