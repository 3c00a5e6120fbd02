"""The key-value store: a deterministic state machine with etcd's data model."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Final

from msgspec import Struct

from trioraft.kv.codec import decode_command, encode_result
from trioraft.kv.commands import (
    COMMAND_MAX,
    DELETED_MAX,
    RESULT_MAX,
    Command,
    Compact,
    DeleteRange,
    Event,
    KeyValue,
    Lease,
    LeaseExpire,
    LeaseGrant,
    LeaseRecall,
    LeaseRevoke,
    Operation,
    Put,
    Range,
    Txn,
    version_needed,
)
from trioraft.kv.conditions import has_overlaps, holds
from trioraft.kv.history import HistoryLimits
from trioraft.kv.lock_keys import KEPT_FROM, LOCKS_RANGE, is_kept, lease_of, why_not_deleted, why_not_put
from trioraft.kv.quota import LEASE_BYTES, QUOTA_FROM, growth, is_for_locks, item_bytes, why_full
from trioraft.kv.reading import bounds, read, read_before, size
from trioraft.kv.results import (
    CompactResult,
    DeleteRangeResult,
    Error,
    ErrorCode,
    LeaseGrantResult,
    LeaseRevokeResult,
    OperationResult,
    PutResult,
    RangeResult,
    Result,
    TxnResult,
)
from trioraft.kv.snapshot import SnapshotReader, write_snapshot
from trioraft.kv.state import State
from trioraft.messages import FIRST_VERSION
from trioraft.replica.settings import DEFAULT_QUOTA

DEFAULT_HISTORY: Final = HistoryLimits()


class Change(Struct, frozen=True):
    """The changes that a command has made, for watches and clocks.

    Attributes
    ----------
    revision : int
        The store's revision after the command.
    events : tuple of Event
        The changes of keys.
    granted : tuple of Lease
        The leases that are new, and those that were recalled.
    ended : tuple of int
        The ids of leases that were revoked or have expired.
    restored : bool
        Whether a snapshot has replaced everything; the other fields are empty then.
    """

    revision: int
    events: tuple[Event, ...] = ()
    granted: tuple[Lease, ...] = ()
    ended: tuple[int, ...] = ()
    restored: bool = False


# The version of the protocol from which on the history keeps a revision that is larger than its limits.
_HISTORY_OVERSHOOTS: Final = 3

# So many keys of a state that a snapshot has replaced are freed in one step.
_FREED_AT_ONCE: Final = 1000


class _RefusedError(Exception):
    def __init__(self, code: ErrorCode, message: str, oldest_revision: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.oldest_revision = oldest_revision


class KeyValueStore:
    """A state machine (`trioraft.StateMachine`); the same commands give the same results and state everywhere.

    Parameters
    ----------
    history : HistoryLimits
        The limits of the history, for watching and for reading at older revisions; the same on every replica.
    on_change : callable or None
        Called after every change, with the change.

    Attributes
    ----------
    on_change : callable or None
        As above.
    version : int
        The version of the protocol that the cluster speaks at the command that is being applied.
    """

    def __init__(
        self, history: HistoryLimits = DEFAULT_HISTORY, on_change: Callable[[Change], None] | None = None
    ) -> None:
        self.on_change = on_change
        self.version = FIRST_VERSION
        self._limits = history
        self._quota = DEFAULT_QUOTA
        self._state = State(history)

    # --- the state machine ----------------------------------------------------------------------------------

    def apply(self, command: bytes) -> bytes:
        """Carry out an encoded command.

        Parameters
        ----------
        command : bytes
            A command from :func:`~trioraft.kv.codec.encode_command`; the result of anything else is an error.

        Returns
        -------
        bytes
            The result, for :func:`~trioraft.kv.codec.decode_result`.
        """
        if len(command) > COMMAND_MAX:
            text = f"the command is too large: at most {COMMAND_MAX} bytes are allowed"
            return encode_result(Error(self.revision, ErrorCode.TOO_LARGE, text))
        try:
            decoded = self.decode(command)
        except ValueError:
            # This has no words of the libraries: another version of them on another replica might use others.
            text = "this is no command of the key-value store, or a field of it is out of bounds"
            return encode_result(Error(self.revision, ErrorCode.MALFORMED, text))
        return encode_result(self.execute(decoded))

    def decode(self, command: bytes) -> Command:
        """Decode a command, as a release would that knows nothing later than the cluster's version.

        Parameters
        ----------
        command : bytes
            The command, from anybody.

        Returns
        -------
        Command
            The command.

        Raises
        ------
        ValueError
            If it is no command, or needs a later version.
        """
        decoded = decode_command(command)
        if version_needed(decoded) > self.version:
            raise ValueError("it needs a later version of the protocol")
        return decoded

    def version_needed(self, command: bytes) -> int:
        """Return the version that a command needs; see :meth:`trioraft.replica.machine.Versioned.version_needed`."""
        try:
            return version_needed(decode_command(command))
        except ValueError:
            return FIRST_VERSION

    def follow_version(self, version: int) -> None:
        """Follow a version; see :meth:`trioraft.replica.machine.Versioned.follow_version`."""
        self.version = version
        self._state.history.overshoots = self._overshoots

    @property
    def size(self) -> int:
        """The bytes that keys and leases take, as the quota counts them; the history is bounded separately."""
        return self._state.size

    @property
    def quota(self) -> int:
        """The bytes that they may take; 0 while the cluster speaks a version of the protocol that has no quota."""
        return self._quota if self.version >= QUOTA_FROM else 0

    def follow_quota(self, quota: int) -> None:
        """Follow a quota; see :meth:`trioraft.replica.machine.Bounded.follow_quota`."""
        self._quota = quota

    @property
    def _overshoots(self) -> bool:
        return self.version >= _HISTORY_OVERSHOOTS

    def execute(self, command: Command) -> Result:
        """Carry out a command.

        Parameters
        ----------
        command : Command
            The command, its fields within their bounds.

        Returns
        -------
        Result
            Its result; when that is an :class:`~trioraft.kv.results.Error`, nothing has changed.
        """
        try:
            match command:
                case Put():
                    return self._put(command)
                case Range():
                    self._check_revision(command.revision)
                    return read(self._state, command, self.revision, (), RESULT_MAX)
                case DeleteRange():
                    return self._run((command,))[0]
                case Txn():
                    return self._transact(command)
                case LeaseGrant():
                    return self._grant(command)
                case LeaseRevoke():
                    return self._end_lease(command.id, None)
                case LeaseRecall():
                    return self._recall(command.id)
                case LeaseExpire():
                    return self._end_lease(command.id, command.grant)
                case Compact():
                    return self._compact(command)
        except _RefusedError as refused:
            return Error(self.revision, refused.code, str(refused), refused.oldest_revision)

    def snapshot(self) -> Iterator[bytes]:
        """Encode the state as it is now, while later commands are applied.

        Returns
        -------
        iterator of bytes
            Chunks of at most 64 KiB. Iterate in the thread that applies commands, in as many steps as you like.
        """
        return write_snapshot(self._state.freeze())

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace the state by that of a snapshot; where that fails, the earlier state stays.

        Parameters
        ----------
        chunks : iterable of bytes
            The stream from :meth:`snapshot`, cut in any way.

        Raises
        ------
        SnapshotError
            If it is damaged or not complete.
        """
        reader = self.begin_restore()
        for chunk in chunks:
            reader.feed(chunk)
        replaced = self._state.items.unsorted_values()
        self.finish_restore(reader)
        # Freeing a large state at once would keep all other threads waiting, an event loop among them.
        while replaced:
            del replaced[-_FREED_AT_ONCE:]

    def begin_restore(self) -> SnapshotReader:
        """Begin what :meth:`restore` does, in steps: feed chunks to the reader, and call :meth:`finish_restore`.

        Returns
        -------
        SnapshotReader
            The reader; the store does not change meanwhile.
        """
        return SnapshotReader(self._limits, history_overshoots=self._overshoots)

    def finish_restore(self, reader: SnapshotReader) -> None:
        """Replace the state by the one that was fed to a reader.

        Parameters
        ----------
        reader : SnapshotReader
            The reader from :meth:`begin_restore`.

        Raises
        ------
        SnapshotError
            If it is damaged or not complete.
        """
        self._state = reader.finish()
        self._tell(Change(self.revision, restored=True))

    def digest(self) -> str:
        """Compute the hash of a snapshot of the state, history included; takes as long as the snapshot.

        Returns
        -------
        str
            64 hexadecimal digits.
        """
        digest = hashlib.sha256()
        for chunk in self.snapshot():
            digest.update(chunk)
        return digest.hexdigest()

    # --- reading --------------------------------------------------------------------------------------------

    @property
    def revision(self) -> int:
        """The current revision; 1 while nothing was ever changed."""
        return self._state.revision

    @property
    def oldest_revision(self) -> int:
        """The oldest revision that can be watched from."""
        return self._state.history.oldest

    def query(self, request: Range) -> RangeResult | Error:
        """Read keys without the log; the caller has to make sure that the state is fresh enough.

        Parameters
        ----------
        request : Range
            What to read.

        Returns
        -------
        RangeResult or Error
            What was found.
        """
        result = self.execute(request)
        assert isinstance(result, RangeResult | Error)  # noqa: S101 - tells the type checker what `execute` does
        return result

    def read_before(self, request: Range, changed: Mapping[bytes, KeyValue | None]) -> RangeResult:
        """Read keys as they were before some of them changed, even where the history does not reach back so far.

        Parameters
        ----------
        request : Range
            What to read.
        changed : mapping of bytes to KeyValue or None
            The keys that have changed since, as they were before; None where a key did not exist.

        Returns
        -------
        RangeResult
            What was found.
        """
        return read_before(self._state, request, self.revision, changed, RESULT_MAX)

    def changed_since(self, request: Range) -> dict[bytes, KeyValue | None]:
        """Collect the keys of a range that have changed since the revision of a request, as they were then.

        Parameters
        ----------
        request : Range
            A request that :meth:`query` has answered.

        Returns
        -------
        dict of bytes to KeyValue or None
            Every such key; None where it did not exist.
        """
        if not request.revision:
            return {}
        return self._state.history.undo(request.revision, (), *bounds(request))

    def events_since(self, revision: int) -> Iterator[tuple[Event, ...]] | Error:
        """Return the events from a revision on.

        Parameters
        ----------
        revision : int
            The first revision; there are no events of one that is still to come.

        Returns
        -------
        iterator of tuple of Event, or Error
            The events of each revision, to be consumed before the next command is applied; or an error with the code
            ``compacted`` and the oldest revision that there is.
        """
        history = self._state.history
        if revision < history.oldest:
            return Error(
                self.revision,
                ErrorCode.COMPACTED,
                f"revision {revision} is compacted; the oldest that can be watched from is {history.oldest}",
                history.oldest,
            )
        return history.since(revision)

    def leases(self) -> list[Lease]:
        """List all leases, in ascending order of their ids."""
        return list(self._state.leases.values(0, None))

    def lease_ids(self, after: int, limit: int) -> list[int]:
        """List the ids of leases above one, in ascending order, up to a limit."""
        return [lease.id for lease in islice(self._state.leases.values(after + 1, None), limit)]

    def lease(self, lease_id: int) -> Lease | None:
        """Return a lease, or None."""
        return self._state.leases.get(lease_id)

    def lease_keys(self, lease_id: int) -> list[bytes]:
        """List the keys that are attached to a lease, in ascending order."""
        return sorted(self._state.attached.get(lease_id, ()))

    # --- the commands ---------------------------------------------------------------------------------------

    def _transact(self, txn: Txn) -> TxnResult:
        if has_overlaps(txn.success) or has_overlaps(txn.failure):
            text = "a key is put twice, or put and deleted, in one transaction"
            raise _RefusedError(ErrorCode.DUPLICATE_KEY, text)
        succeeded = all(holds(compare, self._state.items.get(compare.key)) for compare in txn.compare)
        responses = self._run(txn.success if succeeded else txn.failure)
        return TxnResult(self.revision, succeeded, responses)

    def _put(self, put: Put) -> PutResult:
        """Carry out a put as :meth:`_run` would: alone, it contradicts nothing, and its result is not too large."""
        self._check_put(put)
        if self.quota and self._state.size + item_bytes(put) > self.quota:
            self._check_quota((put,))
        event = self._state.put(put.key, put.value, put.lease, self._state.revision + 1)
        self._commit((event,))
        return PutResult(self._state.revision, event.prev_kv if put.prev_kv else None)

    def _run(self, operations: Sequence[Operation]) -> tuple[OperationResult, ...]:
        """Carry out operations as one revision, or refuse all of them."""
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
                    self._check_revision(operation.revision)
            if room < 0:
                text = f"the previous values are more than the {RESULT_MAX} bytes of a result; ask for fewer of them"
                raise _RefusedError(ErrorCode.TOO_LARGE, text)
        if deleted > DELETED_MAX:
            text = f"{deleted} keys would be deleted at once, at most {DELETED_MAX} can be; delete smaller ranges"
            raise _RefusedError(ErrorCode.TOO_LARGE, text)
        if self.quota and changes and self._state.size + grows > self.quota:
            self._check_quota(operations)
        return self._carry_out(operations, self.revision + changes, room)

    def _carry_out(self, operations: Sequence[Operation], revision: int, room: int) -> tuple[OperationResult, ...]:
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
        if events:
            self._commit(tuple(events))
        return tuple(results)

    def _check_locks(self, delete: DeleteRange) -> None:
        """Refuse to delete a key by which a lock is held, or waited for."""
        if self.version < KEPT_FROM:
            return
        start, end = bounds(delete)
        first, last = LOCKS_RANGE
        start, end = max(start, first), last if end is None else min(end, last)
        for item in self._state.items.values(start, end) if start < end else ():
            if is_kept(item):
                raise _RefusedError(ErrorCode.LEASE_EXISTS, why_not_deleted(item))

    def _check_quota(self, operations: Sequence[Operation]) -> None:
        """Refuse operations whose puts alone would not fit, unless they replace or delete enough."""
        puts = [operation for operation in operations if isinstance(operation, Put)]
        deletes = [operation for operation in operations if isinstance(operation, DeleteRange)]
        deleted = chain.from_iterable(self._state.items.values(*bounds(delete)) for delete in deletes)
        self._check_room(growth(self._state.items, puts, deleted), for_locks=is_for_locks(puts))

    def _check_room(self, grows: int, *, for_locks: bool) -> None:
        """Refuse a change that would make the store larger than its quota."""
        reason = why_full(self._state.size, self._state.lock_size, grows, self.quota, for_locks=for_locks)
        if reason:
            raise _RefusedError(ErrorCode.TOO_LARGE, reason)

    def _check_put(self, put: Put) -> int:
        """Refuse a put that must not be, and return how many bytes the former value takes in the result."""
        if put.key.startswith(LOCKS_RANGE[0]) and self.version >= KEPT_FROM:
            reason = why_not_put(put)
            if reason:
                raise _RefusedError(ErrorCode.LEASE_EXISTS, reason)
        if put.lease:
            self._check_lease(put)
        previous = self._state.items.get(put.key) if put.prev_kv else None
        return size(previous) if previous else 0

    def _check_lease(self, put: Put) -> None:
        """Refuse to attach a key to a lease that does not exist, or has the most keys."""
        if self._state.leases.get(put.lease) is None:
            raise _no_lease(put.lease)
        if self._state.would_hold(put.lease, put.key) > DELETED_MAX:
            text = f"the lease {put.lease:016x} has {DELETED_MAX} keys, which is the most; use another one"
            raise _RefusedError(ErrorCode.TOO_LARGE, text)

    def _check_delete(self, delete: DeleteRange, room: int) -> int:
        total = 0
        if delete.prev_kv:
            for item in self._state.items.values(*bounds(delete)):
                total += size(item)
                if total > room:
                    break
        return total

    def _check_revision(self, revision: int) -> None:
        if revision > self.revision:
            text = f"revision {revision} is still to come; the current one is {self.revision}"
            raise _RefusedError(ErrorCode.FUTURE_REVISION, text)
        if 0 < revision < self._state.compacted:
            oldest = self._state.compacted
            text = f"revision {revision} is compacted; the oldest that can be read is {oldest}"
            raise _RefusedError(ErrorCode.COMPACTED, text, oldest)

    def _grant(self, command: LeaseGrant) -> LeaseGrantResult:
        if command.id and self._state.leases.get(command.id) is not None:
            raise _RefusedError(ErrorCode.LEASE_EXISTS, f"there is a lease {command.id:016x} already")
        if self.quota:
            self._check_room(LEASE_BYTES, for_locks=True)
        lease = self._state.grant(command.id, command.ttl)
        self._tell(Change(self.revision, granted=(lease,)))
        return LeaseGrantResult(self.revision, lease.id, lease.ttl)

    def _end_lease(self, lease_id: int, grant: int | None) -> LeaseRevokeResult:
        lease = self._state.leases.get(lease_id)
        if lease is None or grant not in {None, lease.grant}:
            raise _no_lease(lease_id)
        events: list[Event] = []
        for key in self.lease_keys(lease_id):
            events += self._state.delete(key, key + b"\0", self.revision + 1)
        self._state.end(lease_id)
        if events:
            self._state.commit(tuple(events), self.quota)
        self._tell(Change(self.revision, tuple(events), ended=(lease_id,)))
        return LeaseRevokeResult(self.revision, len(events))

    def _recall(self, lease_id: int) -> LeaseRevokeResult:
        lease = self._state.leases.get(lease_id)
        if lease is None or all(lease_of(key) != lease_id for key in self._state.attached.get(lease_id, ())):
            return self._end_lease(lease_id, None)
        if lease.grant:
            recalled = self._state.recall(lease)
            self._tell(Change(self.revision, granted=(recalled,)))
        return LeaseRevokeResult(self.revision, 0)

    def _compact(self, command: Compact) -> CompactResult:
        self._check_revision(command.revision)
        if command.revision in {0, self._state.compacted}:
            oldest = self._state.compacted
            text = f"everything before revision {oldest} is compacted already"
            raise _RefusedError(ErrorCode.COMPACTED, text, oldest)
        self._state.compact(command.revision)
        return CompactResult(self.revision)

    def _commit(self, events: tuple[Event, ...]) -> None:
        """Commit changes of keys as one revision."""
        self._state.commit(events, self.quota)
        if self.on_change is not None:
            self.on_change(Change(self._state.revision, events))

    def _tell(self, change: Change) -> None:
        if self.on_change is not None:
            self.on_change(change)


def _no_lease(lease_id: int) -> _RefusedError:
    return _RefusedError(ErrorCode.LEASE_NOT_FOUND, f"there is no lease {lease_id:016x}; it may have expired")
