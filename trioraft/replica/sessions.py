"""Applies the log, and each command of a client once, however often the client had to repeat it (thesis 6.3).

A client opens a session through the log, and numbers its commands. The replica keeps the result of each command until
the client says that it has it. So a command that comes again, perhaps to another leader, gets its first result and is
not applied again. Sessions end through the log too. Commands of a session that has ended are refused and never
applied, because nobody knows whether they were applied before. The cluster's settings are changed in sessions too.

All of this is part of the replicated state, and of snapshots.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Final, NamedTuple

import cbor2
import msgspec
from msgspec import Struct

from trioraft.consensus.configuration import decode_configuration
from trioraft.errors import StateKindError
from trioraft.messages import (
    FIRST_VERSION,
    TERM_LEAP,
    Batch,
    Counter,
    Entry,
    EntryKind,
    Index,
    PartOutcome,
    Refusal,
    Refused,
    Term,
    Version,
    decode_batch_untrusted,
)
from trioraft.replica.machine import Bounded, StateMachine, Versioned, state_kind
from trioraft.replica.settings import ClusterSettings

_CHUNK: Final = 64 * 1024
# The parts of a session's number: no log has more entries, and no cluster is made of old data more often.
_INDEX_BITS: Final = 48
_CLUSTERS: Final = 2**14
# The most that is kept for one session, and for all of them (and one more result for each). A client has no more
# commands under way than results are kept.
RESULTS_MAX: Final = 1024
RESULT_BYTES_MAX: Final = 4 * 1024 * 1024
RESULT_BYTES_MAX_OF_ALL: Final = 64 * 1024 * 1024
SESSIONS_MAX: Final = 10_000
# The version of the protocol from which on a text in the log means its UTF-8.
_TEXT_IS_TEXT: Final = 3


class SessionCommand(Struct, frozen=True, array_like=True):
    """A client's command.

    Attributes
    ----------
    session : int
        The client's session.
    number : int
        The number of the command in the session; the first one is 1.
    answered_below : int
        The number below which the client has the results of all its commands.
    data : bytes
        The command for the state machine, or the change of the settings.
    """

    session: Counter
    number: Counter
    answered_below: Counter
    data: bytes


class Result(Struct, frozen=True):
    """The outcome of an entry.

    Attributes
    ----------
    data : bytes
        The return value of the state machine, or the changed settings; empty for a new session.
    session : int
        The session that was opened.
    refused : str
        The reason why it was not carried out; empty when it was.
    code : str
        The reason for programs, one of :class:`~trioraft.messages.Refusal`.
    outcomes : sequence of bytes, Refused or None
        For a batch that was carried out, the outcome of each command.
    """

    data: bytes = b""
    session: int = 0
    refused: str = ""
    code: str = ""
    outcomes: Sequence[PartOutcome] = ()


_SESSION_ENDED: Final = Result(
    refused="the session has ended; it is not known whether the command was applied before",
    code=Refusal.SESSION_ENDED,
)
_HAS_RESULT: Final = Refused(Refusal.REFUSED, "the client has said that it has this command's result")
_TOO_MANY: Final = Refused(Refusal.BUSY, "busy: the client has too many results that it did not say it has")
_TOO_MUCH: Final = Refused(
    Refusal.BUSY, "busy: the clients have too many large results that they did not say they have"
)


class _Session(Struct):
    """What a replica remembers of a client."""

    answered_below: int = 1
    results: dict[int, bytes] = {}
    size: int = 0

    def forget(self, below: int) -> int:
        """Drop the results that the client has, and return how many bytes they had."""
        if below <= self.answered_below:
            return 0
        before = self.size
        given = range(self.answered_below, below)
        for number in given if len(given) < len(self.results) else [n for n in self.results if n < below]:
            self.size -= len(self.results.pop(number, b""))
        self.answered_below = below
        return before - self.size

    @property
    def is_full(self) -> bool:
        """Whether no more results may be kept."""
        return len(self.results) >= RESULTS_MAX or self.size >= RESULT_BYTES_MAX


def _session_number(index: Index, term: Term) -> int:
    """Choose a number for a session that no session had, even in a cluster that lacks the end of an older log.

    In a cluster that was made of old data, a client that does not know of that could otherwise send its commands as
    those of another client, which has the same number now.
    """
    return index + (term // TERM_LEAP % _CLUSTERS << _INDEX_BITS)


def _session_command(entry: Entry, version: Version) -> SessionCommand | None:
    """Decode a client's command; return None for an entry that is no command, which only a fault can have made.

    Before version 3 of the protocol a program on the node itself could propose a text. It was read as Base64 where it
    is valid Base64, and made all nodes end otherwise. The meaning of such entries must not change, because there are
    states that they have made.
    """
    try:
        fields = cbor2.loads(entry.data)
        text = fields[3]
        if isinstance(text, str):
            fields[3] = _base64(text) if version < _TEXT_IS_TEXT else text.encode()
        return msgspec.convert(fields, SessionCommand)
    except (ValueError, TypeError, LookupError, OverflowError, cbor2.CBORError):  # msgspec's is a ValueError
        return None


def _base64(text: str) -> bytes:
    try:
        return msgspec.convert(text, bytes)
    except msgspec.ValidationError:
        return text.encode()


class Replica:
    """A state machine with the sessions of its clients.

    Parameters
    ----------
    machine : StateMachine
        The user's state machine.

    Attributes
    ----------
    settings : ClusterSettings
        The cluster's settings.
    version : int
        The version of the protocol that the cluster speaks after the entries that are applied.
    state_kind : str
        The kind of the cluster's state; empty as long as no leader has named it.
    """

    def __init__(self, machine: StateMachine) -> None:
        self.machine = machine
        self.state_kind = ""
        self._follow_version(FIRST_VERSION)
        self._follow_settings(ClusterSettings())
        self.applied_index = 0
        self._sessions: dict[int, _Session] = {}
        self._size = 0  # bytes of all results that are kept

    @property
    def sessions(self) -> frozenset[int]:
        """The open sessions."""
        return frozenset(self._sessions)

    @property
    def session_count(self) -> int:
        """The number of open sessions."""
        return len(self._sessions)

    def unused_sessions(self) -> list[int]:
        """List the open sessions in which no command was ever carried out."""
        return [n for n, session in self._sessions.items() if session.answered_below == 1 and not session.results]

    def result_of(self, session: int, number: int) -> bytes | None:
        """Return the result of a client's command that was applied.

        Parameters
        ----------
        session, number : int
            The client's session, and the number of the command in it.

        Returns
        -------
        bytes or None
            The result; None where the command was not applied here, or its result is no longer kept.
        """
        known = self._sessions.get(session)
        return known.results.get(number) if known is not None else None

    def apply(self, index: Index, entry: Entry) -> Result:
        """Apply the next entry.

        Parameters
        ----------
        index : int
            Its index.
        entry : Entry
            The entry.

        Returns
        -------
        Result
            The outcome.
        """
        self.applied_index = index
        match entry.kind:
            case EntryKind.COMMAND:
                return Result(data=self._apply(entry.data))
            case EntryKind.BATCH:
                return self._apply_batch(decode_batch_untrusted(entry.data))
            case EntryKind.SESSION_COMMAND:
                return self._apply_once(_session_command(entry, self.version), self._apply)
            case EntryKind.SETTINGS:
                return self._apply_once(_session_command(entry, self.version), self._change_settings)
            case EntryKind.OPEN_SESSION:
                return self._open_session(_session_number(index, entry.term))
            case EntryKind.END_SESSION:
                self._end_session(int.from_bytes(entry.data, "big"))
            case EntryKind.STATE_KIND:
                self._follow_kind(self.state_kind or entry.data.decode(errors="replace"))
            case EntryKind.CONFIGURATION:
                configuration = decode_configuration(entry.data)
                if configuration is not None and configuration.version != self.version:
                    self._follow_version(configuration.version)
        return Result()

    def _follow_kind(self, kind: str) -> None:
        """Follow the kind of the cluster's state, unless this machine is of another kind."""
        own = state_kind(self.machine)
        if kind not in {"", own}:
            raise StateKindError(
                f"the state of this cluster is of kind {kind!r}, and this node's state machine"
                f" ({type(self.machine).__qualname__}) of kind {own!r}"
            )
        self.state_kind = kind

    def _follow_version(self, version: Version) -> None:
        """Follow another version of the protocol, with the state machine."""
        self.version = version
        if isinstance(self.machine, Versioned):
            self.machine.follow_version(version)

    def _follow_settings(self, settings: ClusterSettings) -> None:
        """Follow other settings, with the state machine."""
        self.settings = settings
        if isinstance(self.machine, Bounded):
            self.machine.follow_quota(settings.quota)

    def has_session(self, session: int) -> bool:
        """Check whether a session is open."""
        return session in self._sessions

    def _apply(self, command: bytes) -> bytes:
        """Let the state machine carry out a command; an exception stops this node, and every other one too."""
        try:
            result = self.machine.apply(command)
            if not isinstance(result, bytes):
                raise TypeError(f"apply must return bytes, and has returned {type(result).__name__}")
        except Exception as error:
            name = type(self.machine).__qualname__
            error.add_note(f"{name}.apply failed at entry {self.applied_index} of the log, {command[:100]!r}")
            raise
        return result

    def _open_session(self, number: int) -> Result:
        if len(self._sessions) >= SESSIONS_MAX:
            text = f"busy: there are {SESSIONS_MAX} sessions already; try again when some have ended"
            return Result(refused=text, code=Refusal.BUSY)
        self._sessions[number] = _Session()
        return Result(session=number)

    def _end_session(self, number: int) -> None:
        ended = self._sessions.pop(number, None)
        self._size -= ended.size if ended is not None else 0

    def _change_settings(self, change: bytes) -> bytes:
        self._follow_settings(self.settings.changed(change))
        return self.settings.encoded()

    def _apply_once(self, command: SessionCommand | None, apply: Callable[[bytes], bytes]) -> Result:
        if command is None:
            return Result(refused="the entry in the log is no command of a client", code=Refusal.REFUSED)
        session = self._sessions.get(command.session)
        if session is None:
            return _SESSION_ENDED
        if command.number in session.results:
            return Result(data=session.results[command.number])
        if command.number < max(session.answered_below, command.answered_below):
            return Result(refused=_HAS_RESULT.detail, code=_HAS_RESULT.code)
        self._size -= session.forget(command.answered_below)
        outcome = self._carry_out(session, command.number, command.data, apply)
        if isinstance(outcome, Refused):
            return Result(refused=outcome.detail, code=outcome.code)
        return Result(data=outcome)

    def _apply_batch(self, batch: Batch | None) -> Result:
        """Apply the commands of a batch, in order; those of a session once."""
        if batch is None:
            return Result(refused="the entry in the log is no batch of commands", code=Refusal.REFUSED)
        if not batch.session:
            return Result(outcomes=[self._apply(command) for command in batch.commands if command is not None])
        session = self._sessions.get(batch.session)
        if session is None:
            return _SESSION_ENDED
        self._size -= session.forget(batch.answered_below)
        outcomes: list[PartOutcome] = []
        for number, command in enumerate(batch.commands, batch.first):
            if number in session.results:
                outcomes.append(session.results[number])
            elif command is None:
                outcomes.append(None)
            elif number < session.answered_below:
                outcomes.append(_HAS_RESULT)
            else:
                outcomes.append(self._carry_out(session, number, command, self._apply))
        return Result(outcomes=outcomes)

    def _carry_out(
        self, session: _Session, number: int, command: bytes, apply: Callable[[bytes], bytes]
    ) -> bytes | Refused:
        """Carry out a command that was not carried out before, and keep its result."""
        # The first command that the client waits for is never refused: until it has that result, it keeps all others.
        if number != session.answered_below:
            if session.is_full:
                return _TOO_MANY
            if self._size >= RESULT_BYTES_MAX_OF_ALL:
                return _TOO_MUCH
        result = session.results[number] = apply(command)
        session.size += len(result)
        self._size += len(result)
        return result

    def snapshot(self) -> Iterator[bytes]:
        """Encode the sessions, the settings and the state machine's state as they are now.

        Returns
        -------
        iterator of bytes
            Chunks of at most 64 KiB, which later entries do not change.
        """
        sessions = [
            (number, session.answered_below, session.results.copy()) for number, session in self._sessions.items()
        ]
        chunks = iter(self.machine.snapshot())
        # A generator function does nothing until its first chunk is requested, and the state must not change until
        # then.
        first = list(islice(chunks, 1))
        further = {"settings": self.settings.encoded()} if self.settings.values else {}
        if self.state_kind:
            further["kind"] = self.state_kind.encode()
        return chain(_write_records([*sessions, *([further] if further else [])]), first, chunks)

    def restore(self, index: Index, chunks: Iterable[bytes], version: Version = FIRST_VERSION) -> None:
        """Replace everything by a snapshot.

        Parameters
        ----------
        index : int
            The last entry that it covers.
        chunks : iterable of bytes
            The chunks from :meth:`snapshot`.
        version : int
            The version of the protocol that the cluster spoke at that entry.
        """
        self._follow_version(version)
        stream = iter(chunks)
        self._sessions, further, left = _read_records(stream)
        self._follow_kind(further.get("kind", b"").decode(errors="replace"))
        self._follow_settings(ClusterSettings().changed(further.get("settings", b"")))
        self._size = sum(session.size for session in self._sessions.values())
        self.applied_index = index
        self.machine.restore(chain((left,), stream) if left else stream)


# --- records in a snapshot: each after its length in 4 bytes (big-endian), and a length of 0 at the end ------
# A session is an array; a map has everything else, by name.


def _write_records(records: Iterable[object]) -> Iterator[bytes]:
    """Encode records one after the other: all at once would keep an event loop waiting."""
    pending = bytearray()
    for record in records:
        data = cbor2.dumps(record)
        pending += len(data).to_bytes(4, "big") + data
        while len(pending) >= _CHUNK:
            yield bytes(pending[:_CHUNK])
            del pending[:_CHUNK]
    pending += bytes(4)
    for start in range(0, len(pending), _CHUNK):
        yield bytes(pending[start : start + _CHUNK])


class _Records(NamedTuple):
    """The sessions, everything else by name, and the rest of the last chunk that was read."""

    sessions: dict[int, _Session]
    further: dict[str, bytes]
    left: bytes


def _read_records(stream: Iterator[bytes]) -> _Records:
    """Decode the records at the beginning of a stream."""
    sessions: dict[int, _Session] = {}
    further: dict[str, bytes] = {}
    pending = bytearray()

    def take(size: int) -> bytes:
        while len(pending) < size:
            pending.extend(next(stream))
        taken = bytes(pending[:size])
        del pending[:size]
        return taken

    while size := int.from_bytes(take(4), "big"):
        record = cbor2.loads(take(size))
        if isinstance(record, dict):
            further.update(record)
        else:
            number, below, results = msgspec.convert(record, tuple[int, int, dict[int, bytes]])
            sessions[number] = _Session(below, results, sum(map(len, results.values())))
    return _Records(sessions, further, bytes(pending))
