"""Applies the log: commands once each, however often a client had to repeat them (thesis 6.3).

A client opens a session, through the log, and numbers its commands. The replica keeps the result of each command
until the client says that it has it, so a command that comes again, perhaps to another leader, gets its first
result and is not applied again. Sessions end through the log too: commands of a session that has ended are
refused, never applied, because nobody knows any more whether they were applied before. The cluster's settings are
changed in sessions too.

All of this is part of the replicated state, and of snapshots.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Final

import cbor2
import msgspec
from msgspec import Struct

from trioraft.consensus.configuration import decode_configuration
from trioraft.errors import StateKindError
from trioraft.messages import FIRST_VERSION, TERM_LEAP, Counter, Entry, EntryKind, Refusal
from trioraft.replica.machine import Bounded, StateMachine, Versioned, state_kind
from trioraft.replica.settings import ClusterSettings

_CHUNK: Final = 64 * 1024
# Of a session's number: no log has more entries, and no cluster is made of old data more often.
_INDEX_BITS: Final = 48
_CLUSTERS: Final = 2**14
# What is kept at most, of one session and of all of them (and one result more of each). A client has no more commands
# under way than results are kept.
RESULTS_MAX: Final = 1024
RESULT_BYTES_MAX: Final = 4 * 1024 * 1024
RESULT_BYTES_MAX_OF_ALL: Final = 64 * 1024 * 1024
SESSIONS_MAX: Final = 10_000
# The version of the protocol from which on a text in the log is nothing but its UTF-8.
_TEXT_IS_TEXT: Final = 3


class SessionCommand(Struct, frozen=True, array_like=True):
    """A client's command.

    Attributes
    ----------
    session : int
        The client's session.
    number : int
        Which of its commands this is; the first one is 1.
    answered_below : int
        The client has the results of all its commands before this number.
    data : bytes
        What the state machine is to do, or how the settings are to be changed.
    """

    session: Counter
    number: Counter
    answered_below: Counter
    data: bytes


class Result(Struct, frozen=True):
    """What became of an entry.

    Attributes
    ----------
    data : bytes
        What the state machine returned, or the changed settings; for a new session empty.
    session : int
        The session that was opened.
    refused : str
        Why it was not carried out; empty when it was.
    code : str
        The same for programs, one of :class:`~trioraft.messages.Refusal`.
    """

    data: bytes = b""
    session: int = 0
    refused: str = ""
    code: str = ""


class _Session(Struct):
    """What is remembered of a client."""

    answered_below: int = 1
    results: dict[int, bytes] = {}
    size: int = 0

    def forget(self, below: int) -> int:
        """Drop the results that the client has, and tell how many bytes that were."""
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
        """Whether no more results can be kept."""
        return len(self.results) >= RESULTS_MAX or self.size >= RESULT_BYTES_MAX


def _session_number(index: int, term: int) -> int:
    """Give a session a number that none had, also where a cluster made of old data lacks the end of the old log.

    A client that does not know of that would otherwise send its commands as those of whoever has its number now.
    """
    return index + (term // TERM_LEAP % _CLUSTERS << _INDEX_BITS)


def _session_command(entry: Entry, version: int) -> SessionCommand | None:
    """Read a client's command; None where nobody can, for then it can be in the log by a fault only.

    Before version 3 of the protocol a text was taken from a program on the node itself, and read as Base64 where it
    is that; else all nodes ended. What such entries mean must not change: there is a state that they have made.
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
        Which version of the protocol the cluster speaks after what is applied.
    state_kind : str
        What kind of state the cluster has; empty as long as no leader has named it.
    """

    def __init__(self, machine: StateMachine) -> None:
        self.machine = machine
        self.state_kind = ""
        self._follow_version(FIRST_VERSION)
        self._follow_settings(ClusterSettings())
        self.applied_index = 0
        self._sessions: dict[int, _Session] = {}
        self._size = 0  # of all results that are kept

    @property
    def sessions(self) -> frozenset[int]:
        """The open sessions."""
        return frozenset(self._sessions)

    @property
    def session_count(self) -> int:
        """How many sessions are open."""
        return len(self._sessions)

    def unused_sessions(self) -> list[int]:
        """List the open sessions in which no command was ever carried out."""
        return [n for n, session in self._sessions.items() if session.answered_below == 1 and not session.results]

    def result_of(self, session: int, number: int) -> bytes | None:
        """Give the result of a client's command that has been applied.

        Parameters
        ----------
        session, number : int
            The client's session, and which of its commands.

        Returns
        -------
        bytes or None
            The result; None where the command has not been applied here, or its result is not kept any more.
        """
        known = self._sessions.get(session)
        return known.results.get(number) if known is not None else None

    def apply(self, index: int, entry: Entry) -> Result:
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
            What became of it.
        """
        self.applied_index = index
        match entry.kind:
            case EntryKind.COMMAND:
                return Result(data=self._apply(entry.data))
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
        """Take the state for what it is, unless this machine is of another kind."""
        own = state_kind(self.machine)
        if kind not in {"", own}:
            raise StateKindError(
                f"the state of this cluster is of kind {kind!r}, and this node's state machine"
                f" ({type(self.machine).__qualname__}) of kind {own!r}"
            )
        self.state_kind = kind

    def _follow_version(self, version: int) -> None:
        """Go by another version of the protocol, and let the state machine do so."""
        self.version = version
        if isinstance(self.machine, Versioned):
            self.machine.follow_version(version)

    def _follow_settings(self, settings: ClusterSettings) -> None:
        """Go by other settings, and let the state machine do so."""
        self.settings = settings
        if isinstance(self.machine, Bounded):
            self.machine.follow_quota(settings.quota)

    def has_session(self, session: int) -> bool:
        """Tell whether a session is open."""
        return session in self._sessions

    def _apply(self, command: bytes) -> bytes:
        """Let the state machine carry out a command; whatever it raises stops the node, and every other one too."""
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
            text = "the session has ended; it is not known whether the command was applied before"
            return Result(refused=text, code=Refusal.SESSION_ENDED)
        if command.number in session.results:
            return Result(data=session.results[command.number])
        if command.number < max(session.answered_below, command.answered_below):
            return Result(refused="the client has said that it has this command's result", code=Refusal.REFUSED)
        self._size -= session.forget(command.answered_below)
        # The first command that the client waits for is never put off: only its result lets the others be forgotten.
        if command.number != session.answered_below:
            if session.is_full:
                text = "busy: the client has too many results that it did not say it has"
                return Result(refused=text, code=Refusal.BUSY)
            if self._size >= RESULT_BYTES_MAX_OF_ALL:
                text = "busy: the clients have too many large results that they did not say they have"
                return Result(refused=text, code=Refusal.BUSY)
        result = session.results[command.number] = apply(command.data)
        session.size += len(result)
        self._size += len(result)
        return Result(data=result)

    def snapshot(self) -> Iterator[bytes]:
        """Give the sessions, the settings and the state machine's state as they are now.

        Returns
        -------
        iterator of bytes
            Chunks of at most 64 KiB; later entries do not change them.
        """
        sessions = [
            (number, session.answered_below, session.results.copy()) for number, session in self._sessions.items()
        ]
        chunks = iter(self.machine.snapshot())
        # A generator function does nothing until its first chunk is asked for: by then the state would be another.
        first = list(islice(chunks, 1))
        further = {"settings": self.settings.encoded()} if self.settings.values else {}
        if self.state_kind:
            further["kind"] = self.state_kind.encode()
        return chain(_write_records([*sessions, *([further] if further else [])]), first, chunks)

    def restore(self, index: int, chunks: Iterable[bytes], version: int = FIRST_VERSION) -> None:
        """Take over a snapshot.

        Parameters
        ----------
        index : int
            The last entry that it covers.
        chunks : iterable of bytes
            What :meth:`snapshot` gave.
        version : int
            Which version of the protocol the cluster spoke there.
        """
        self._follow_version(version)
        stream = iter(chunks)
        self._sessions, further, left = _read_records(stream)
        self._follow_kind(further.get("kind", b"").decode(errors="replace"))
        self._follow_settings(ClusterSettings().changed(further.get("settings", b"")))
        self._size = sum(session.size for session in self._sessions.values())
        self.applied_index = index
        self.machine.restore(chain((left,), stream) if left else stream)


# --- records in a snapshot: each after its length in 4 bytes (big-endian), and a length of 0 -----------------
# A session is an array; a map names what else there is.


def _write_records(records: Iterable[object]) -> Iterator[bytes]:
    """Write records one after the other: all at once would keep an event loop waiting."""
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


def _read_records(stream: Iterator[bytes]) -> tuple[dict[int, _Session], dict[str, bytes], bytes]:
    """Read sessions, and what else there is, back, and give what is left of the last chunk."""
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
    return sessions, further, bytes(pending)
