"""The ledger: the hard state and the entries that wait for the disk, and the messages that depend on them."""

import enum
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from msgspec import Struct

from trioraft.clock import NEVER
from trioraft.consensus.configuration import Configuration, decode_configuration
from trioraft.consensus.hard import HardState
from trioraft.consensus.log import Log, entry_bytes
from trioraft.messages import Entry, Index, Instant, Message, NodeId, Term, Version

# Entries that nobody waits for are written together once they have so many bytes, or so many seconds after the first.
GATHERED_BYTES: Final = 64 * 1024
GATHERED_SECONDS: Final = 0.01


class After(enum.Enum):
    """The state that must be on disk before a message leaves."""

    NOTHING = enum.auto()
    HARD_STATE = enum.auto()
    LOG = enum.auto()


class SnapshotInfo(Struct, frozen=True):
    """A snapshot.

    Attributes
    ----------
    index, term : int
        The last entry that it covers.
    size : int
        Its size in bytes.
    checksum : int
        Its CRC-32.
    configuration : bytes
        The configuration that is in force after that entry, encoded as in entries; empty when it is the formation's.
    """

    index: int
    term: int
    size: int
    checksum: int
    configuration: bytes = b""

    def members(self) -> Configuration | None:
        """Decode the configuration; None when it is the formation's."""
        return decode_configuration(self.configuration)

    @property
    def version(self) -> Version:
        """The version of the protocol that the cluster spoke after that entry."""
        return (self.members() or Configuration()).version


class Write(Struct, frozen=True):
    """One write to the disk, which must be done as a whole, and after all earlier ones.

    Attributes
    ----------
    number : int
        The number that :meth:`Ledger.persisted` is given when the write is on disk.
    hard : HardState
        The hard state.
    first_index : int
        The entries from this index on are replaced; 0 when the log has not changed.
    entries : tuple of Entry
        The new end of the log.
    snapshot : SnapshotInfo or None
        A snapshot that is valid from now on; None when there is no new one.
    base_index, base_term : int
        The last entry that is dropped, with all before it, when there is a snapshot.
    restarts : bool
        Whether all entries are dropped, because a received snapshot contradicts them.
    """

    number: int
    hard: HardState
    first_index: Index = 0
    entries: tuple[Entry, ...] = ()
    snapshot: SnapshotInfo | None = None
    base_index: Index = 0
    base_term: Term = 0
    restarts: bool = False


class Outgoing(NamedTuple):
    """A message, and the node that it goes to."""

    to: NodeId
    message: Message


class _Held(NamedTuple):
    """A message that waits until the change with a number is on disk."""

    number: int
    outgoing: Outgoing


class HandedOut(NamedTuple):
    """A write that the disk was given, and the last entry of the log then."""

    number: int
    last_index: Index


class Ledger:
    """The changes that the disk does not have yet, and the messages that wait for them.

    Every change of the hard state or the log gets a number. A message leaves only when the change that it depends on
    is on disk: the newest change of the hard state, unless its sender names another dependency. So no rule has to
    think of the disk, and no answer to a heartbeat waits for entries.

    Where no message waits for entries either, they gather in memory and are written together: a write costs the node
    as much as all else that it does for one entry.

    Parameters
    ----------
    hard : HardState
        The hard state on disk.
    log : Log
        The log, all of it on disk.
    snapshot : SnapshotInfo, optional
        The snapshot that is on disk.
    log_waits : bool
        Whether a message that depends on entries waits until they are on disk. It need not on a node that never comes
        back with this log, however it ends (``DURABILITY=memory``).
    """

    def __init__(
        self, hard: HardState, log: Log, snapshot: SnapshotInfo | None = None, *, log_waits: bool = True
    ) -> None:
        self.hard = hard
        self.log = log
        self.snapshot = snapshot
        self._new_snapshot: SnapshotInfo | None = None
        self._restarts = False
        self.written = 0  # number of the newest change
        self.hard_written = 0  # number of the newest change of the hard state
        self.handed_out = 0  # number of the newest change that was given to the disk
        self.durable = 0  # number of the newest change that is on disk
        self.durable_index = log.last_index  # up to here the log is on disk as it is in memory, or need not be
        self.log_waits = log_waits
        # Since when the disk owes an answer. A disk that ends write after write is busy, not stuck, however much is
        # to be written meanwhile; and changes that were not handed to it yet say nothing about it.
        self.waiting_since = NEVER
        self._changed_from = 0  # first index that was not handed to the disk yet
        self.write_at = NEVER  # when the entries that gather are handed out
        self._gathered = 0  # bytes of them
        self._is_closing = False
        self._handed_to: deque[HandedOut] = deque()
        self._held: dict[After, deque[_Held]] = {
            After.HARD_STATE: deque(),
            After.LOG: deque(),
        }
        self._ready: list[Outgoing] = []
        self.noted: list[Outgoing] | None = None  # everything that was sent, for an observer

    def _note_change(self) -> None:
        self.written += 1

    def persist(self, hard: HardState) -> None:
        """Change the hard state.

        Parameters
        ----------
        hard : HardState
            The new state.
        """
        if hard != self.hard:
            self.hard = hard
            self._note_change()
            self.hard_written = self.written

    def append(self, entry: Entry) -> Index:
        """Add an entry to the log.

        Parameters
        ----------
        entry : Entry
            The entry.

        Returns
        -------
        int
            Its index.
        """
        self.extend((entry,))
        return self.log.last_index

    def extend(self, entries: Sequence[Entry]) -> None:
        """Add entries to the log, as one change.

        Parameters
        ----------
        entries : sequence of Entry
            The entries.
        """
        first = self.log.last_index + 1
        self.log.extend(entries)
        if not self.log_waits:
            self.durable_index = self.log.last_index
            self._gathered += sum(map(entry_bytes, entries))
        self._changed_from = min(self._changed_from or first, first)
        self._note_change()

    def truncate(self, first: int) -> None:
        """Drop the end of the log.

        Parameters
        ----------
        first : int
            The first index that is dropped.
        """
        self.log.truncate(first)
        self.durable_index = min(self.durable_index, first - 1)
        self._handed_to = deque(HandedOut(number, min(last, first - 1)) for number, last in self._handed_to)
        self._changed_from = min(self._changed_from or first, first)
        self._note_change()

    def take_snapshot(self, snapshot: SnapshotInfo, base: Index) -> None:
        """Note that a snapshot that this node took is on disk, and drop entries that it covers.

        Parameters
        ----------
        snapshot : SnapshotInfo
            The snapshot.
        base : int
            The last entry that is dropped, not after the snapshot's.
        """
        self.log.drop_until(base)
        self._note_snapshot(snapshot)

    def install_snapshot(self, snapshot: SnapshotInfo) -> None:
        """Note that a received snapshot is on disk, and let the log follow it.

        Parameters
        ----------
        snapshot : SnapshotInfo
            The snapshot.
        """
        if self.log.term_at(snapshot.index) == snapshot.term:
            self.log.drop_until(snapshot.index)
        else:
            self.log.restart_after(snapshot.index, snapshot.term, snapshot.members())
            self.durable_index = 0
            self._handed_to = deque(HandedOut(number, 0) for number, _ in self._handed_to)
            self._changed_from = 0
            self._restarts = True
        self._note_snapshot(snapshot)

    def _note_snapshot(self, snapshot: SnapshotInfo) -> None:
        self.snapshot = self._new_snapshot = snapshot
        if self._changed_from:
            self._changed_from = max(self._changed_from, self.log.base_index + 1)
        self._note_change()

    def send(self, to: NodeId, message: Message, after: After = After.HARD_STATE) -> None:
        """Send a message once the state that it depends on is on disk.

        Parameters
        ----------
        to : int
            The receiver's node id.
        message : Message
            The message.
        after : After
            The state that it depends on.
        """
        if self.noted is not None:
            self.noted.append(Outgoing(to, message))
        if after is After.NOTHING:
            number = 0
        else:
            number = self.written if after is After.LOG and self.log_waits else self.hard_written
        if number > self.durable:
            self._held[after].append(_Held(number, Outgoing(to, message)))
        else:
            self._ready.append(Outgoing(to, message))

    def to_persist(self, now: Instant) -> Write | None:
        """Hand out the changes that the disk does not have yet.

        Parameters
        ----------
        now : float
            The time in seconds.

        Returns
        -------
        Write or None
            The changes; None when there is nothing new, when the disk is still busy with the write before, or while
            entries gather that nobody waits for.
        """
        if self.handed_out == self.written or self._must_wait(now):
            return None
        self.write_at, self._gathered = NEVER, 0
        self.handed_out = self.written
        self.waiting_since = min(self.waiting_since, now)
        first, self._changed_from = self._changed_from, 0
        self._handed_to.append(HandedOut(self.written, self.log.last_index))
        snapshot, self._new_snapshot = self._new_snapshot, None
        restarts, self._restarts = self._restarts, False
        return Write(
            self.written,
            self.hard,
            first,
            tuple(self.log.entries(first, self.log.last_index)) if first else (),
            snapshot,
            self.log.base_index,
            self.log.base_term,
            restarts,
        )

    def _must_wait(self, now: Instant) -> bool:
        """Check whether the disk is busy, or entries may gather for longer; note until when they do."""
        if self._is_closing:
            return False
        if self.durable < self.handed_out:
            return True
        if (
            self.log_waits
            or self.hard_written > self.handed_out
            or self._new_snapshot is not None
            or self._gathered >= GATHERED_BYTES
        ):
            return False
        self.write_at = min(self.write_at, now + GATHERED_SECONDS)
        return now < self.write_at

    def close(self) -> None:
        """Hand out all that the disk lacks from now on, even while it is busy: the node stops."""
        self._is_closing = True

    def persisted(self, number: int, now: Instant) -> None:
        """Release the messages that waited for a write.

        Parameters
        ----------
        number : int
            The write that is on disk now, as are all before it.
        now : float
            The time in seconds.
        """
        self.durable = max(self.durable, number)
        while self._handed_to and self._handed_to[0].number <= self.durable:
            self.durable_index = max(self.durable_index, self._handed_to.popleft().last_index)
        self.waiting_since = now if self.durable < self.handed_out else NEVER
        for held in self._held.values():
            while held and held[0].number <= self.durable:
                self._ready.append(held.popleft().outgoing)

    def to_send(self) -> list[Outgoing]:
        """Drain the messages that may leave.

        Returns
        -------
        list of Outgoing
            In the order they were sent.
        """
        ready, self._ready = self._ready, []
        return ready
