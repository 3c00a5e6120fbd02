"""Carries out etcd's requests, alone or in transactions, on a draft of the next revision.

A transaction is decided first, as a whole: all conditions, also of transactions within it, are looked at in the state
before it. Then everything that could be wrong is checked, and then the operations are done in order. Each sees what
those before it have changed, and its result has the revision that the store had after it.

Nothing is cut short: where the keys of a result are more than it holds, the request is refused. And what one request
may look at is bounded, because a node does nothing else meanwhile.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final, TypeAlias, Union

from msgspec import Struct

from trioraft.kv.checks import in_words, why_refused
from trioraft.kv.commands import DELETED_MAX, LONG_MAX, EventKind, KeyValue, Put
from trioraft.kv.conditions import holds
from trioraft.kv.draft import Draft
from trioraft.kv.lock_keys import LOCKS_RANGE, is_kept, why_not_deleted, why_not_put
from trioraft.kv.quota import is_for_locks, why_full
from trioraft.kv.reading import bounds, find, size
from trioraft.kv.refusals import RefusedError, check_lease, check_revision, compacted
from trioraft.kv.requests import (
    DeleteRangeRequest,
    EmptyRequest,
    PutRequest,
    RangeCompare,
    RangeRequest,
    TxnRequest,
)
from trioraft.kv.results import (
    DeleteRangeResult,
    ErrorCode,
    OperationResult,
    PutResult,
    RangeResult,
    TxnResult,
)
from trioraft.kv.selection import select, to_find
from trioraft.kv.state import State

# So many keys, and revisions of the history, may one request look at.
LOOKS_MAX: Final = 100_000

_LOCKS: Final = LOCKS_RANGE[0]


class _Decided(Struct):
    """A transaction whose conditions are decided."""

    succeeded: bool
    operations: list["_Step"]

    def requests(self) -> Iterator[PutRequest | RangeRequest | DeleteRangeRequest]:
        """Yield everything that is to be done, in order."""
        for operation in self.operations:
            if isinstance(operation, _Decided):
                yield from operation.requests()
            else:
                yield operation


_Step: TypeAlias = Union[PutRequest, RangeRequest, DeleteRangeRequest, _Decided]  # noqa: UP007 - see requests.py


class Evaluation:
    """One request, which is carried out on a draft.

    Parameters
    ----------
    state : State
        The state.
    quota : int
        The largest size of the store in bytes; 0 where there is none.
    room : int or None
        How many bytes of keys and values the result may have; None for any number.

    Attributes
    ----------
    draft : Draft
        The changes, to be committed by the caller.
    """

    def __init__(self, state: State, quota: int, room: int | None) -> None:
        self.draft = Draft(state)
        self._state = state
        self._quota = quota
        self._room = room
        self._looks = LOOKS_MAX
        self._deletes = DELETED_MAX

    def run(self, request: PutRequest | RangeRequest | DeleteRangeRequest | TxnRequest) -> OperationResult:
        """Carry a request out.

        Parameters
        ----------
        request : Request
            The request.

        Returns
        -------
        OperationResult
            Its result.

        Raises
        ------
        RefusedError
            If it is refused.
        """
        reason = why_refused(request)
        if reason is not None:
            raise RefusedError(reason, in_words(reason))
        if isinstance(request, TxnRequest):
            decided = self._decide(request)
            self._check(decided)
            result: OperationResult = self._run_txn(decided)
        else:
            if isinstance(request, PutRequest):
                self._check_lease(request)
                self._check_key(request)
            elif isinstance(request, RangeRequest):
                check_revision(self._state, request.revision)
            result = self._do(request)
        self._check_quota()
        return result

    # --- what a transaction does ----------------------------------------------------------------------------

    def _decide(self, txn: TxnRequest) -> _Decided:
        succeeded = all(map(self._holds, txn.compare))
        operations: list[_Step] = []
        for operation in txn.success if succeeded else txn.failure:
            if isinstance(operation, TxnRequest):
                operations.append(self._decide(operation))
            elif not isinstance(operation, EmptyRequest):
                operations.append(operation)
        return _Decided(succeeded, operations)

    def _holds(self, compare: RangeCompare) -> bool:
        found = find(self._state, compare, {})
        if not found.count:
            return holds(compare, None)
        for item in found.items:
            self._look(1)
            if not holds(compare, item):
                return False
        return True

    def _check(self, decided: _Decided) -> None:
        """Refuse puts, and then ranges, that cannot be carried out."""
        requests = list(decided.requests())
        for request in requests:
            if isinstance(request, PutRequest):
                self._check_key(request)
                self._check_lease(request)
        for request in requests:
            if isinstance(request, RangeRequest) and request.revision:
                check_revision(self._state, request.revision)
                if request.revision < (self._state.compacted or -1):  # etcd begins with -1
                    raise compacted(self._state, request.revision)

    def _check_key(self, put: PutRequest) -> None:
        if (put.ignore_value or put.ignore_lease) and self._state.items.get(put.key) is None:
            raise RefusedError(ErrorCode.KEY_NOT_FOUND, "there is no such key whose value or lease could stay")

    def _check_lease(self, put: PutRequest) -> None:
        if put.lease:
            check_lease(self._state, put.lease, put.key)

    # --- what is done ---------------------------------------------------------------------------------------

    def _run_txn(self, decided: _Decided) -> TxnResult:
        responses = tuple(
            self._run_txn(operation) if isinstance(operation, _Decided) else self._do(operation)
            for operation in decided.operations
        )
        return TxnResult(self.draft.revision, decided.succeeded, responses)

    def _do(self, request: PutRequest | RangeRequest | DeleteRangeRequest) -> OperationResult:
        match request:
            case PutRequest():
                return self._put(request)
            case RangeRequest():
                return self._range(request)
            case DeleteRangeRequest():
                return self._delete(request)

    def _put(self, put: PutRequest) -> PutResult:
        before = self.draft.get(put.key)
        value = before.value if put.ignore_value and before else put.value
        lease = before.lease if put.ignore_lease and before else put.lease
        reason = why_not_put(Put(put.key, value, lease)) if put.key.startswith(_LOCKS) else ""
        if reason:
            raise RefusedError(ErrorCode.LOCKED, reason)
        self.draft.put(put.key, value, lease)
        shown = before if put.prev_kv else None
        self._take_room((shown,) if shown else ())
        return PutResult(self.draft.revision, shown)

    def _delete(self, request: DeleteRangeRequest) -> DeleteRangeResult:
        found = find(self._state, request, self.draft.changed)
        self._deletes -= found.count
        if self._deletes < 0:
            text = f"more than {DELETED_MAX} keys would be deleted at once; delete smaller ranges"
            raise RefusedError(ErrorCode.TOO_LARGE, text)
        gone = tuple(found.items)
        for item in gone:
            if is_kept(item):
                raise RefusedError(ErrorCode.LOCKED, why_not_deleted(item))
            self.draft.delete(item)
        shown = gone if request.prev_kv else ()
        self._take_room(shown)
        return DeleteRangeResult(self.draft.revision, len(gone), shown)

    def _range(self, request: RangeRequest) -> RangeResult:
        changed = self.draft.changed
        if 0 < request.revision < self.draft.revision:
            self._look(self._state.revision - request.revision)
            changed = self._state.history.undo(request.revision, (), *bounds(request))
        found = find(self._state, request, changed)
        if request.count_only:
            return RangeResult(self.draft.revision, (), found.count, more=False)
        limit = to_find(request)
        self._look(min(found.count, limit or found.count))
        result = select(request, islice(found.items, limit or None), found.count, self.draft.revision)
        self._take_room(result.kvs)
        return result

    # --- bounds ---------------------------------------------------------------------------------------------

    def _look(self, keys: int) -> None:
        """Refuse to look at more keys than one request may."""
        self._looks -= keys
        if self._looks < 0:
            text = f"it has to look at more than {LOOKS_MAX} keys at once; read or compare smaller ranges"
            raise RefusedError(ErrorCode.TOO_LARGE, text)

    def _take_room(self, items: Sequence[KeyValue]) -> None:
        """Refuse a result that is larger than it may be."""
        if self._room is None:
            return
        self._room -= sum(map(size, items))
        if self._room < 0:
            text = f"what it finds is more than the {LONG_MAX} bytes of a result; ask for fewer keys"
            raise RefusedError(ErrorCode.TOO_LARGE, text)

    def _check_quota(self) -> None:
        """Refuse what the quota has no room for."""
        puts = [event.kv for event in self.draft.events if event.kind is EventKind.PUT]
        if self._quota and puts:
            state = self._state
            full = why_full(state.size, state.lock_size, self.draft.grows, self._quota, for_locks=is_for_locks(puts))
            if full:
                raise RefusedError(ErrorCode.NO_SPACE, full)
