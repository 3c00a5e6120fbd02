"""The node's directory, and the hard state in it.

``DATA_DIR`` may be one volume that all replicas of a service share on one host: each node takes the first
directory under it whose lock is free, or makes a new one, so the same identities come back after a restart of
all. The lock is an ``flock`` that is held until the process has ended.

In the directory is one SQLite database (WAL, ``synchronous=FULL``): a commit returns when the disk has it. A
write that failed is never tried again, because the kernel may have dropped what it could not write and call the
next fsync a success; the node stops instead, and what the disk really holds is read at its next start.
"""

import contextlib
import fcntl
import os
import random
import sqlite3
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import msgspec
import trio

from trioraft.consensus.state import HardState
from trioraft.messages import LARGEST_ID

_APPLICATION_ID: Final = 0x7472_6166  # "traf": the database is ours
_SCHEMA_VERSION: Final = 1
_DIRECTORIES_MAX: Final = 1000

_SCHEMA: Final = """
CREATE TABLE hard_state (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    node_id  INTEGER NOT NULL,
    body     BLOB NOT NULL,     -- JSON of HardState
    checksum INTEGER NOT NULL   -- CRC-32 of node_id and body
) STRICT;
"""


class StorageError(Exception):
    """The disk does not hold, or did not take, what it should: what, where, and what to do, in one line."""


class Disk(Protocol):
    """Where a node's identity and hard state are kept."""

    node_id: int
    hard: HardState
    directory: Path

    async def save(self, hard: HardState) -> None:
        """Write a hard state; return when it is durable."""

    def close(self) -> None:
        """Let go of it."""


# --- the directory ------------------------------------------------------------------------------------------


def take_directory(data_dir: Path) -> Path:
    """Take the first free node directory under `data_dir`, or make a new one.

    Parameters
    ----------
    data_dir : Path
        The volume, which other nodes of this host may share.

    Returns
    -------
    Path
        A directory that no other process uses as long as this one lives.

    Raises
    ------
    StorageError
        If none can be made or locked.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        for number in range(_DIRECTORIES_MAX):
            directory = data_dir / f"{number}"
            directory.mkdir(exist_ok=True)
            if _lock(directory / "lock"):
                _sync_directory(data_dir)
                return directory
    except OSError as error:
        raise StorageError(f"DATA_DIR={data_dir}: {error.strerror}; it must be a writable directory") from error
    raise StorageError(f"DATA_DIR={data_dir}: {_DIRECTORIES_MAX} nodes use it already; give this one another")


def _lock(path: Path) -> bool:
    """Lock a file for as long as the process lives; its descriptor is meant to stay open."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    return True


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- the database -------------------------------------------------------------------------------------------


class SqliteDisk:
    """The hard state in a SQLite database.

    Parameters
    ----------
    directory : Path
        The node's directory, taken before.
    new_id : callable
        Draws the id of a node that has none yet.

    Raises
    ------
    StorageError
        If the database is damaged, foreign, or of a newer version, or cannot be written.
    """

    def __init__(self, directory: Path, new_id: Callable[[], int] | None = None) -> None:
        self.directory = directory
        self.path = directory / "trioraft.db"
        try:
            # One write at a time is under way, each in a worker thread of trio's.
            self._db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            with contextlib.ExitStack() as undo:
                undo.callback(self._db.close)
                self._prepare(new_id or (lambda: random.SystemRandom().randint(1, LARGEST_ID)))
                _sync_directory(directory)
                self.node_id, self.hard = self._load()
                undo.pop_all()
        except (sqlite3.Error, OSError) as error:
            raise StorageError(f"{self.path}: {error}; check the disk, or restore the directory") from error

    def _prepare(self, new_id: Callable[[], int]) -> None:
        """Make the database, or see that it is one of ours."""
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        empty = not self._db.execute("SELECT 1 FROM sqlite_schema").fetchone()
        if application not in {0, _APPLICATION_ID} or (application == 0 and not empty):
            raise StorageError(f"{self.path}: not a database of this program; give the node another DATA_DIR")
        if version > _SCHEMA_VERSION:
            raise StorageError(
                f"{self.path}: made by a newer version (schema {version}, this one knows {_SCHEMA_VERSION});"
                " run that version"
            )
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        if empty:
            body = msgspec.json.encode(HardState())
            node_id = new_id()
            self._db.executescript(
                f"BEGIN; PRAGMA application_id = {_APPLICATION_ID};PRAGMA user_version = {_SCHEMA_VERSION}; {_SCHEMA}"
            )
            self._db.execute("INSERT INTO hard_state VALUES (1, ?, ?, ?)", (node_id, body, _checksum(node_id, body)))
            self._db.execute("COMMIT")

    def _load(self) -> tuple[int, HardState]:
        row = self._db.execute("SELECT node_id, body, checksum FROM hard_state").fetchone()
        if row is None:
            raise StorageError(f"{self.path}: the hard state is missing; restore the directory, or remove it")
        node_id, body, checksum = row
        if checksum != _checksum(node_id, body):
            raise StorageError(
                f"{self.path}: the hard state does not match its checksum; the disk is damaged:"
                " restore the directory, or remove it so that the node joins anew"
            )
        return node_id, msgspec.json.decode(body, type=HardState)

    async def save(self, hard: HardState) -> None:
        """Write a hard state; return when it is durable.

        Parameters
        ----------
        hard : HardState
            The new hard state.

        Raises
        ------
        StorageError
            If it could not be written; it must not be tried again.
        """
        await trio.to_thread.run_sync(self._save, hard)

    def _save(self, hard: HardState) -> None:
        body = msgspec.json.encode(hard)
        try:
            self._db.execute("UPDATE hard_state SET body = ?, checksum = ?", (body, _checksum(self.node_id, body)))
        except sqlite3.Error as error:
            raise StorageError(
                f"{self.path}: {error}; the node stops, because a failed write cannot be repeated safely:"
                " check the disk and start it again"
            ) from error

    def close(self) -> None:
        """Let go of the database."""
        self._db.close()


def _checksum(node_id: int, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(node_id.to_bytes(8, "big")))
