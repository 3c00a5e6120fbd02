"""The key-value store: a deterministic state machine with etcd's data model."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

from msgspec import Struct

from trioraft.kv.codec import decode_command, encode_result
from trioraft.kv.commands import (
    COMMAND_MAX,
    LARGEST,
    LONG_FROM,
    LONG_MAX,
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
)
from trioraft.kv.conditions import has_overlaps, holds
from trioraft.kv.evaluation import Evaluation
from trioraft.kv.history import HistoryLimits
from trioraft.kv.lock_keys import lease_of
from trioraft.kv.operations import Operations
from trioraft.kv.quota import LEASE_BYTES, QUOTA_FROM, why_full
from trioraft.kv.reading import bounds, read, read_before
from trioraft.kv.refusals import RefusedError, check_revision, no_lease
from trioraft.kv.requests import (
    Alarm,
    AlarmAction,
    AlarmRequest,
    AlarmType,
    DeleteRangeRequest,
    PutRequest,
    RangeRequest,
    Request,
    TxnRequest,
    version_needed,
)
from trioraft.kv.results import (
    AlarmResult,
    CompactResult,
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
        largest = LONG_MAX if self.version >= LONG_FROM else COMMAND_MAX
        if len(command) > largest:
            text = f"the command is too large: at most {largest} bytes are allowed"
            return encode_result(Error(self.revision, ErrorCode.TOO_LARGE, text))
        try:
            decoded = self.decode(command)
        except ValueError:
            # This has no words of the libraries: another version of them on another replica might use others.
            text = "this is no command of the key-value store, or a field of it is out of bounds"
            return encode_result(Error(self.revision, ErrorCode.MALFORMED, text))
        return encode_result(self.execute(decoded))

    def decode(self, command: bytes) -> Command | Request:
        """Decode a command, as a release would that knows nothing later than the cluster's version.

        Parameters
        ----------
        command : bytes
            The command, from anybody.

        Returns
        -------
        Command or Request
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

    def execute(self, command: Command | Request) -> Result:
        """Carry out a command.

        Parameters
        ----------
        command : Command or Request
            The command, its fields within their bounds.

        Returns
        -------
        Result
            Its result; when that is an :class:`~trioraft.kv.results.Error`, nothing has changed.
        """
        try:
            return self._carry_out(command)
        except RefusedError as refused:
            return self._refuse(refused)

    def _carry_out(self, command: Command | Request) -> Result:
        result: Result
        match command:
            case Put():
                result = self._put(command)
            case Range():
                check_revision(self._state, command.revision)
                result = read(self._state, command, self.revision, (), RESULT_MAX)
            case DeleteRange():
                result = self._run((command,))[0]
            case Txn():
                result = self._transact(command)
            case LeaseGrant():
                result = self._grant(command)
            case LeaseRevoke():
                result = self._end_lease(command.id, None)
            case LeaseRecall():
                result = self._recall(command.id)
            case LeaseExpire():
                result = self._end_lease(command.id, command.grant)
            case Compact():
                result = self._compact(command)
            case AlarmRequest():
                result = self._alarm(command)
            case _:
                result = self._evaluate(command)
        return result

    def _refuse(self, refused: RefusedError) -> Error:
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

    def evaluate(self, request: RangeRequest | TxnRequest) -> OperationResult | Error:
        """Carry out a request that only reads, without the log, as :meth:`query` does; its result has any size.

        Parameters
        ----------
        request : RangeRequest or TxnRequest
            The request, which changes nothing (:func:`~trioraft.kv.checks.is_read_only`).

        Returns
        -------
        OperationResult or Error
            What was found.
        """
        try:
            return Evaluation(self._state, self.quota, room=None).run(request)
        except RefusedError as refused:
            return self._refuse(refused)

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

    @property
    def compacted(self) -> int:
        """The oldest revision that can be read; 0 while every one can."""
        return self._state.compacted

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        """The alarms that are raised, in ascending order."""
        return tuple(sorted(self._state.alarms))

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
        return list(self._state.leases.values(-LARGEST - 1, None))

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

    @property
    def _operations(self) -> Operations:
        return Operations(self._state, self.version, self.quota)

    def _put(self, put: Put) -> PutResult:
        """Carry out a put as :meth:`_run` would: alone, it contradicts nothing, and its result is not too large."""
        self._operations.check_put(put)
        event = self._state.put(put.key, put.value, put.lease, self._state.revision + 1)
        self._commit((event,))
        return PutResult(self._state.revision, event.prev_kv if put.prev_kv else None)

    def _run(self, operations: Sequence[Operation]) -> tuple[OperationResult, ...]:
        """Carry out operations as one revision, or refuse all of them."""
        done = self._operations.run(operations)
        if done.events:
            self._commit(done.events)
        return done.results

    def _transact(self, txn: Txn) -> TxnResult:
        if has_overlaps(txn.success) or has_overlaps(txn.failure):
            text = "a key is put twice, or put and deleted, in one transaction"
            raise RefusedError(ErrorCode.DUPLICATE_KEY, text)
        succeeded = all(holds(compare, self._state.items.get(compare.key)) for compare in txn.compare)
        responses = self._run(txn.success if succeeded else txn.failure)
        return TxnResult(self.revision, succeeded, responses)

    def _evaluate(self, request: PutRequest | RangeRequest | DeleteRangeRequest | TxnRequest) -> OperationResult:
        evaluation = Evaluation(self._state, self.quota, LONG_MAX)
        result = evaluation.run(request)
        events = evaluation.draft.commit(self.quota)
        if events:
            self._tell(Change(self.revision, events))
        return result

    def _alarm(self, request: AlarmRequest) -> AlarmResult:
        alarms = self._state.alarms
        alarm = Alarm(request.member, request.alarm)
        match request.action:
            case AlarmAction.ACTIVATE:
                alarms.add(alarm)
                return AlarmResult(self.revision, (alarm,))
            case AlarmAction.DEACTIVATE:
                ended = alarms & {alarm}
                alarms -= ended
                return AlarmResult(self.revision, tuple(ended))
            case AlarmAction.GET:
                shown = (found for found in self.alarms if request.alarm in {AlarmType.NONE, found.alarm})
                return AlarmResult(self.revision, tuple(shown))

    def _grant(self, command: LeaseGrant) -> LeaseGrantResult:
        if command.id and self._state.leases.get(command.id) is not None:
            raise RefusedError(ErrorCode.LEASE_EXISTS, f"there is a lease {command.id:016x} already")
        state = self._state
        full = why_full(state.size, state.lock_size, LEASE_BYTES, self.quota, for_locks=True) if self.quota else ""
        if full:
            raise RefusedError(ErrorCode.TOO_LARGE, full)
        lease = self._state.grant(command.id, command.ttl)
        self._tell(Change(self.revision, granted=(lease,)))
        return LeaseGrantResult(self.revision, lease.id, lease.ttl)

    def _end_lease(self, lease_id: int, grant: int | None) -> LeaseRevokeResult:
        lease = self._state.leases.get(lease_id)
        if lease is None or grant not in {None, lease.grant}:
            raise no_lease(lease_id)
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
        check_revision(self._state, command.revision)
        if not command.revision and not self._state.compacted and self.version >= LONG_FROM:
            return CompactResult(self.revision)  # as in etcd: it drops nothing
        if command.revision in {0, self._state.compacted}:
            oldest = self._state.compacted
            text = f"everything before revision {oldest} is compacted already"
            raise RefusedError(ErrorCode.COMPACTED, text, oldest)
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
