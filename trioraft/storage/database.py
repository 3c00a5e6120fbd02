"""The hard state and the log on disk.

A node's directory has one SQLite database (WAL, ``synchronous=FULL``): a commit returns when it is on disk. One
thread writes it; everything that came while a write was under way is written together in the next one (group commit).
A write that failed is never tried again, because the kernel may have dropped the data and report success for the next
fsync. The node stops instead, and finds out what the disk really holds at its next start. For the same reason the
checkpoints, which move the content of the WAL into the database, are made here: those that SQLite makes by itself
ignore errors in silence.

With ``DURABILITY=memory`` a write of nothing but entries is left to the kernel (``synchronous=NORMAL``: SQLite still
orders its writes, so the database stays whole). Such a log may lack entries that were acknowledged. The database
records that, and a node that finds such a log at its start sets it aside and takes a new id.
"""

import contextlib
import io
import random
import sqlite3
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Final, Literal, Protocol, TypeAlias

import msgspec

from trioraft.consensus.hard import FormationState, HardState
from trioraft.consensus.ledger import SnapshotInfo, Write
from trioraft.consensus.log import Log
from trioraft.logger import Logger
from trioraft.messages import LARGEST_ID, Entry, Index, NodeId, Term, format_id
from trioraft.storage.directories import set_aside, sync_directory, take_directory
from trioraft.storage.errors import DamagedError, StorageError, UnknownKindError
from trioraft.storage.place import place_of
from trioraft.storage.private import make_file
from trioraft.storage.records import (
    SavedHard,
    SavedSnapshot,
    entry_row,
    hard_row,
    read_entry,
    read_hard,
    read_snapshot,
    seal_hard,
    snapshot_row,
)
from trioraft.storage.wal import is_broken_inside
from trioraft.storage.worker import Ended, Worker

_log: Final = Logger("trioraft.storage")

Durability: TypeAlias = Literal["sync", "memory"]

_NOTHING: Final = HardState()
_APPLICATION_ID: Final = 0x7472_6166  # "traf": marks the database as one of this program
# A checkpoint is made when the WAL has grown by about so many bytes. A small write takes about two pages of it.
_CHECKPOINT_BYTES: Final = 4 * 1024 * 1024
_WRITE_BYTES: Final = 2 * 4096

# The additions of each version of the schema, from the first on.
_SCHEMA: Final = (
    """
CREATE TABLE hard_state (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    node_id  INTEGER NOT NULL,
    body     BLOB NOT NULL,     -- JSON of HardState
    checksum INTEGER NOT NULL   -- CRC-32 of node_id and body
) STRICT;
""",
    """
CREATE TABLE entry (
    idx      INTEGER PRIMARY KEY,
    term     INTEGER NOT NULL,
    kind     INTEGER NOT NULL,
    data     BLOB NOT NULL,
    checksum INTEGER NOT NULL   -- CRC-32 of all the other columns
) STRICT;
CREATE TABLE snapshot (
    only_row   INTEGER PRIMARY KEY CHECK (only_row = 1),
    body       BLOB NOT NULL,     -- JSON of SnapshotInfo
    base_index INTEGER NOT NULL,  -- the entries up to here are dropped
    base_term  INTEGER NOT NULL,
    checksum   INTEGER NOT NULL   -- CRC-32 of all the other columns
) STRICT;
CREATE TABLE log_is_unsynced (    -- has a row when the log may lack what was acknowledged
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1)
) STRICT;
""",
)
_SCHEMA_VERSION: Final = len(_SCHEMA)
# One statement adds at most so many rows, of so many values each, if SQLite is built for that.
_ROWS_MAX: Final = 1024
_VALUES: Final = 5
_INSERT: Final = "INSERT INTO entry SELECT * FROM (VALUES (?,?,?,?,?)"
_THAT_ARE_ENTRIES: Final = ") WHERE column1 IS NOT NULL"


class Disk(Protocol):
    """The place where a node keeps its id, its hard state and its log."""

    node_id: NodeId
    hard: HardState
    snapshot: SnapshotInfo | None
    directory: Path
    place: str  # of this process, as :func:`~trioraft.storage.place.place_of` names it
    written: int  # the number of the newest write of this process that is durable

    @property
    def log(self) -> Log:
        """The log that was on disk when the disk was opened."""

    def begin(self, write: Write, ended: Ended) -> None:
        """Begin to write hard state and entries, all or nothing; `ended` is told when they are durable."""

    def close_database(self) -> None:
        """Close it, and keep the directory locked."""

    def close(self) -> None:
        """Close it, and let others have the directory."""


# --- the database -------------------------------------------------------------------------------------------


class SqliteDisk:
    """The hard state and the log in a SQLite database.

    Parameters
    ----------
    directory : Path
        The node's directory; nobody else may use it.
    durability : {'sync', 'memory'}
        Whether a write of the log returns when it is on disk, or when it is in the kernel's memory.
    new_id : callable, optional
        Draws an id for a node that has none yet.
    hard : HardState, optional
        The hard state of such a node.
    lock : io.FileIO, optional
        The file that locks the directory; it is closed with the disk.

    Attributes
    ----------
    log_is_unsynced : bool
        Whether the log that was found may lack entries that were acknowledged.

    Raises
    ------
    StorageError
        If the database is damaged, foreign, or of a newer version, or cannot be written.
    """

    def __init__(
        self,
        directory: Path,
        *,
        durability: Durability = "sync",
        new_id: Callable[[], NodeId] | None = None,
        hard: HardState = _NOTHING,
        lock: io.FileIO | None = None,
    ) -> None:
        self._lock = lock
        self.place = "" if lock is None else place_of(lock)
        self._worker: Worker | None = None
        self._durability = durability
        self._has_failed = False
        self._synced = True  # as `PRAGMA synchronous` is set
        self._to_move = 0  # bytes that the WAL has grown by, about, since the last checkpoint
        self.written = 0
        self.directory = directory
        self.path = directory / "trioraft.db"
        try:
            self._see_that_the_wal_is_whole()
            make_file(self.path)
            # It is opened in this thread and written in another, one write at a time.
            self._db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            with contextlib.ExitStack() as undo:
                undo.callback(self._db.close)
                self._prepare(new_id or (lambda: random.SystemRandom().randint(1, LARGEST_ID)), hard)
                sync_directory(directory)
                self._verify()
                self.node_id, self.hard = self._load()
                saved = self._load_snapshot()
                self.snapshot = saved.info
                self.log = self._load_log(saved.base_index, saved.base_term)
                self._last_index = self.log.last_index  # of the newest entry in the database
                self.log_is_unsynced = bool(self._db.execute("SELECT 1 FROM log_is_unsynced").fetchone())
                self._body = msgspec.json.encode(self.hard)
                undo.pop_all()
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
            raise StorageError(f"{self.path}: {_words(error)}; check the disk, or restore the directory") from error

    def _see_that_the_wal_is_whole(self) -> None:
        """Refuse damage that SQLite would take for the end of what was written, and drop the rest."""
        try:
            wal = self.path.with_name(f"{self.path.name}-wal").read_bytes()
        except FileNotFoundError:
            return
        if is_broken_inside(wal) and not self._may_lack_something():
            raise self._damaged("a transaction in the midst of its write-ahead log does not match its checksum")

    def _may_lack_something(self) -> bool:
        """Check whether the log was not synced, by a connection that only reads and changes no file."""
        try:
            with contextlib.closing(sqlite3.connect(f"{self.path.resolve().as_uri()}?mode=ro", uri=True)) as db:
                return bool(db.execute("SELECT 1 FROM log_is_unsynced").fetchone())
        except sqlite3.Error:
            return False  # there is no such table yet, or more is damaged

    def _prepare(self, new_id: Callable[[], NodeId], hard: HardState) -> None:
        """Make the database, or check that it is one of this program and add what its schema lacks."""
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        empty = not self._db.execute("SELECT 1 FROM sqlite_schema").fetchone()
        if not empty and (application != _APPLICATION_ID or version < 1):
            raise StorageError(f"{self.path}: not a database of this program; give the node another DATA_DIR")
        if version > _SCHEMA_VERSION:
            raise StorageError(
                f"{self.path}: made by a newer version (schema {version}, this one knows {_SCHEMA_VERSION});"
                " run that version"
            )
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA wal_autocheckpoint = 0")
        # From now on the WAL has nothing but writes of this process (:mod:`trioraft.storage.wal`).
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if version == _SCHEMA_VERSION:
            return
        self._db.executescript(
            f"BEGIN; PRAGMA application_id = {_APPLICATION_ID}; PRAGMA user_version = {_SCHEMA_VERSION};"
            + "".join(_SCHEMA[version:])
        )
        if empty:
            self._db.execute("INSERT INTO hard_state VALUES (1, ?, ?, ?)", hard_row(new_id(), hard))
        self._db.execute("COMMIT")

    # --- reading --------------------------------------------------------------------------------------------

    def _verify(self) -> None:
        """Find damage that no checksum of a row shows, such as an entry that is missing from the end of its page."""
        (found,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise self._damaged(" ".join(found.split()))

    def _damaged(self, what: str) -> StorageError:
        return StorageError(
            f"{self.path}: {what}; the disk is damaged: restore the directory, or remove it so that the node joins"
            " anew"
        )

    def _load(self) -> SavedHard:
        try:
            return read_hard(self._db.execute("SELECT node_id, body, checksum FROM hard_state").fetchone())
        except DamagedError as error:
            raise self._damaged(str(error)) from error

    def _load_snapshot(self) -> SavedSnapshot:
        row = self._db.execute("SELECT body, base_index, base_term, checksum FROM snapshot").fetchone()
        try:
            return read_snapshot(row)
        except DamagedError as error:
            raise self._damaged(str(error)) from error

    def _load_log(self, base_index: Index, base_term: Term) -> Log:
        rows = self._db.execute("SELECT idx, term, kind, data, checksum FROM entry ORDER BY idx")
        try:
            entries = [read_entry(index, row) for index, row in enumerate(rows, base_index + 1)]
        except DamagedError as error:
            raise self._damaged(str(error)) from error
        except UnknownKindError as error:
            raise StorageError(f"{self.path}: {error}; run the version that has written it") from error
        log = Log(base_index, base_term, entries)
        if self.snapshot is not None and log.term_at(self.snapshot.index) != self.snapshot.term:
            raise self._damaged(f"entry {self.snapshot.index} of the log is not the one that the snapshot ends with")
        return log

    # --- writing --------------------------------------------------------------------------------------------

    def mark_unsynced(self) -> None:
        """Record on disk that from now on the log may lack entries that were acknowledged.

        Raises
        ------
        StorageError
            If it could not be written.
        """
        self._write(lambda: self._db.execute("INSERT OR IGNORE INTO log_is_unsynced VALUES (1)"))

    async def save(self, write: Write) -> None:
        """Write hard state and entries, all or nothing; return when they are durable.

        Parameters
        ----------
        write : Write
            The hard state, the entries and the snapshot.

        Raises
        ------
        StorageError
            If it could not be written; it must not be tried again.
        """
        await self._its_worker().run(partial(self.save_now, write))

    def begin(self, write: Write, ended: Ended) -> None:
        """Begin to write hard state and entries, all or nothing, and wait for nothing.

        Parameters
        ----------
        write : Write
            The hard state, the entries and the snapshot.
        ended : callable
            Told what became of it: that they are durable, or a `StorageError`; then it must not be tried again.
        """
        self._its_worker().begin(partial(self.save_now, write), ended)

    def _its_worker(self) -> Worker:
        if self._worker is None:
            self._worker = Worker("trioraft disk")
        return self._worker

    def save_now(self, write: Write) -> None:
        """Write hard state and entries in the calling thread, all or nothing.

        Parameters
        ----------
        write : Write
            The hard state, the entries and the snapshot.

        Raises
        ------
        StorageError
            If it could not be written; it must not be tried again.
        """
        body = msgspec.json.encode(write.hard)
        # A new snapshot is synced in any case: the files of older ones are removed as soon as it is valid.
        synced = self._durability == "sync" or body != self._body or write.snapshot is not None
        alone = body == self._body and write.snapshot is None and self._appends_at_once(write)
        self._write(partial(self._put, write, body), synced=synced, alone=alone)
        self._body = body
        self.written = write.number
        self._to_move += _WRITE_BYTES + sum(len(entry.data) for entry in write.entries)
        if self._to_move >= _CHECKPOINT_BYTES:
            self._to_move = 0
            self._do(lambda: self._db.execute("PRAGMA wal_checkpoint(PASSIVE)"))

    def _write(self, put: Callable[[], object], *, synced: bool = True, alone: bool = False) -> None:
        """Run statements as one transaction; a statement that is `alone` is one by itself."""

        def transaction() -> None:
            if synced != self._synced:
                self._db.execute(f"PRAGMA synchronous = {'FULL' if synced else 'NORMAL'}")
                self._synced = synced
            if alone:
                put()
                return
            self._db.execute("BEGIN IMMEDIATE")
            put()
            self._db.execute("COMMIT")

        self._do(transaction)

    def _do(self, job: Callable[[], object]) -> None:
        """Run a job on the database, and none any more once one has failed."""
        if self._has_failed:
            raise StorageError(f"{self.path}: an earlier write has failed; start the node again")
        try:
            job()
        except sqlite3.Error as error:
            self._has_failed = True
            raise StorageError(
                f"{self.path}: {_words(error)}; the node stops, because a failed write cannot be repeated safely:"
                " check the disk and start it again"
            ) from error

    def _put(self, write: Write, body: bytes) -> None:
        if body != self._body:
            self._db.execute("UPDATE hard_state SET body = ?, checksum = ?", seal_hard(self.node_id, body)[1:])
        if write.snapshot is not None:
            row = snapshot_row(write.snapshot, write.base_index, write.base_term)
            self._db.execute("INSERT OR REPLACE INTO snapshot VALUES (1, ?, ?, ?, ?)", row)
            self._db.execute("DELETE FROM entry WHERE idx <= ? OR ?", (write.base_index, write.restarts))
        if write.first_index:
            if write.first_index <= self._last_index:
                self._db.execute("DELETE FROM entry WHERE idx >= ?", (write.first_index,))
            self._insert(write.first_index, write.entries)
            self._last_index = write.first_index + len(write.entries) - 1

    def _appends_at_once(self, write: Write) -> bool:
        """Check whether a write adds entries by one statement, and changes nothing else."""
        return self._last_index < write.first_index and 0 < len(write.entries) <= self._rows_max

    @cached_property
    def _rows_max(self) -> int:
        """The most entries that one statement adds."""
        most = min(_ROWS_MAX, self._db.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER) // _VALUES)
        return 1 << most.bit_length() - 1

    def _insert(self, first: int, entries: Sequence[Entry]) -> None:
        """Add entries, many with each statement, because this thread waits for the interpreter's lock after each.

        A busy program lets another thread have that every 5 ms only. The numbers of rows are powers of two, so that
        few statements have to be compiled; the rows beyond the entries have no index, and are left out.
        """
        for start in range(0, len(entries), self._rows_max):
            part = entries[start : start + self._rows_max]
            rows = 1 << (len(part) - 1).bit_length()
            values: list[int | bytes | None] = []
            for index, entry in enumerate(part, first + start):
                values += entry_row(index, entry)
            values += [None] * (_VALUES * (rows - len(part)))
            self._db.execute(_INSERT + ",(?,?,?,?,?)" * (rows - 1) + _THAT_ARE_ENTRIES, values)

    # --- a database of another node ------------------------------------------------------------------------------

    def copy_to(self, path: Path) -> None:
        """Copy the database, whole and durably.

        Parameters
        ----------
        path : Path
            The copy; there must be no such file.

        Raises
        ------
        StorageError
            If it could not be written; the database itself is unchanged.
        """
        try:
            make_file(path)
            with contextlib.closing(sqlite3.connect(path)) as copy:
                self._db.backup(copy)
        except (sqlite3.Error, OSError) as error:
            raise StorageError(
                f"{path}: {_words(error)}; nothing was changed: make room, or check the disk"
            ) from error

    def become(self, node_id: NodeId, write: Write) -> None:
        """Make the database that of another node, all or nothing; the log stays.

        Parameters
        ----------
        node_id : int
            The other node's id.
        write : Write
            Its hard state, and the entries that are added to the log.

        Raises
        ------
        StorageError
            If it could not be written.
        """

        def put() -> None:
            self.node_id = node_id
            self._db.execute("UPDATE hard_state SET node_id = ?", (node_id,))
            self._db.execute(
                "DELETE FROM log_is_unsynced"
            )  # the other node has promised nothing that the log may lack
            self._put(write, msgspec.json.encode(write.hard))

        self._write(put)

    def close_database(self) -> None:
        """Close the database, and keep the directory locked."""
        if self._worker is not None:
            self._worker.stop()
        self._db.close()

    def close(self) -> None:
        """Close the database, and let others have the directory."""
        self.close_database()
        if self._lock is not None:
            self._lock.close()


def _words(error: Exception) -> str:
    text = (error.strerror if isinstance(error, OSError) else None) or " ".join(str(error).split())
    name = getattr(error, "sqlite_errorname", None)
    return f"{text} ({name})" if name else text


# --- a node's disk --------------------------------------------------------------------------------------------


def open_disk(data_dir: Path, durability: Durability = "sync") -> SqliteDisk:
    """Take a directory for a node, and open its database.

    A node whose log was not synced comes back as another one, because the log may lack entries that it acknowledged.
    So does a node that was removed from its cluster.

    Parameters
    ----------
    data_dir : Path
        The volume, which other nodes of this host may share.
    durability : {'sync', 'memory'}
        Whether the log is synced.

    Returns
    -------
    SqliteDisk
        The disk.

    Raises
    ------
    StorageError
        If no directory can be had, or the database is damaged.
    """
    taken = take_directory(data_dir)
    with contextlib.ExitStack() as undo:
        undo.enter_context(taken.lock)
        disk = SqliteDisk(taken.path, durability=durability, lock=taken.lock)
        if disk.hard.removed:
            waits = HardState(formation=FormationState(heard=disk.hard.formation.cluster))
            disk = _begin_anew(disk, taken.lock, durability, "this node was removed from its cluster", waits)
        elif disk.log_is_unsynced:
            text = "the log was not synced (DURABILITY=memory) and may lack what this node acknowledged"
            # It remembers nothing of its cluster: perhaps all members were restarted, and have to form one anew.
            disk = _begin_anew(disk, taken.lock, durability, text, HardState())
        undo.callback(disk.close_database)
        if durability == "memory":
            disk.mark_unsynced()
        undo.pop_all()
    return disk


def _begin_anew(before: SqliteDisk, lock: io.FileIO, durability: Durability, why: str, hard: HardState) -> SqliteDisk:
    """Set the data of a node aside, and make a node with a new id in its directory."""
    before.close_database()
    kept = set_aside(before.path, before.node_id, is_empty=not before.log.last_index)
    disk = SqliteDisk(before.directory, durability=durability, hard=hard, lock=lock)
    _log.warning(
        f"{why}: it comes back with a new id",
        node=format_id(disk.node_id),
        before=format_id(before.node_id),
        kept=str(kept or ""),
    )
    return disk
