"""Snapshots on disk: one file each, beside the database, which says which of them is valid.

A file is a sequence of chunks, each with its length before it (4 bytes, big endian), so that a state machine gets
back the very chunks it gave. It is written under another name, synced, and renamed when it is whole.
"""

import contextlib
import errno
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from trioraft.consensus.ledger import SnapshotInfo
from trioraft.storage.directories import sync_directory
from trioraft.storage.errors import DiskFullError, StorageError
from trioraft.storage.private import open_new

_LENGTH: Final = 4
_READ: Final = 256 * 1024


@contextlib.contextmanager
def _reported(path: Path) -> Iterator[None]:
    """Turn an error of the system into one line."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DiskFullError(f"{path}: {error.strerror}; make room on the disk") from error
        raise StorageError(f"{path}: {error.strerror}; check the disk, and start the node again") from error


def frame(chunk: bytes) -> bytes:
    """Put a chunk's length before it.

    Parameters
    ----------
    chunk : bytes
        A chunk of a state machine.

    Returns
    -------
    bytes
        What stands for it in the file.
    """
    return len(chunk).to_bytes(_LENGTH, "big") + chunk


class SnapshotWriter:
    """A snapshot that is being written; used by one thread at a time.

    Parameters
    ----------
    directory : Path
        The node's directory.
    index : int
        The last entry that it covers.
    received : bool
        Whether it comes from another node; this one may just be writing its own of the same entry.

    Raises
    ------
    StorageError
        If it could not be written; so do the methods. :class:`DiskFullError` when there was no room.
    """

    def __init__(self, directory: Path, index: int, *, received: bool = False) -> None:
        self._directory = directory
        self._path = directory / f"snapshot-{index}.{'received' if received else 'new'}"
        with _reported(self._path):
            self._file: BinaryIO = open_new(self._path)
        self.size = 0
        self.checksum = 0

    def write(self, data: bytes) -> None:
        """Append some bytes.

        Parameters
        ----------
        data : bytes
            They may be a part of a chunk, or many.
        """
        with _reported(self._path):
            self._file.write(data)
        self.size += len(data)
        self.checksum = zlib.crc32(data, self.checksum)

    def finish(self, snapshot: SnapshotInfo) -> bool:
        """Make the snapshot durable.

        Parameters
        ----------
        snapshot : SnapshotInfo
            What it ought to be.

        Returns
        -------
        bool
            Whether it is; if not, nothing is left of it.
        """
        if (self.size, self.checksum) != (snapshot.size, snapshot.checksum):
            self.discard()
            return False
        with _reported(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._path.rename(path_of(self._directory, snapshot))
            sync_directory(self._directory)
        return True

    def discard(self) -> None:
        """Throw it away."""
        with contextlib.suppress(OSError):  # what is still buffered may find no room
            self._file.close()
        with _reported(self._path):
            self._path.unlink(missing_ok=True)


class PartsCheck:
    """Verifies a snapshot as it is read in parts, one after the other; parts that are read again are passed over.

    Once it has seen the whole, it begins anew with the first part. So damage that stays is found by whoever reads the
    snapshot from its beginning again and again.

    Parameters
    ----------
    snapshot : SnapshotInfo
        What it ought to be.
    """

    def __init__(self, snapshot: SnapshotInfo) -> None:
        self._snapshot = snapshot
        self._size = self._checksum = 0

    def accepts(self, offset: int, data: bytes) -> bool:
        """Look at a part.

        Parameters
        ----------
        offset : int
            Where it begins, in bytes.
        data : bytes
            The part.

        Returns
        -------
        bool
            Whether nothing is wrong yet; what is, shows when the last part has come.
        """
        if offset == 0 and self._size >= self._snapshot.size:
            self._size = self._checksum = 0
        if offset <= self._size:
            new = data[self._size - offset :]
            self._checksum = zlib.crc32(new, self._checksum)
            self._size += len(new)
        return self._size < self._snapshot.size or self._checksum == self._snapshot.checksum


class SnapshotReader:
    """A snapshot that is read in parts, and verified by that; once open, it can be read also when it was removed.

    Parameters
    ----------
    directory : Path
        The node's directory.
    snapshot : SnapshotInfo
        The snapshot.

    Raises
    ------
    StorageError
        If the file is missing.
    """

    def __init__(self, directory: Path, snapshot: SnapshotInfo) -> None:
        self.snapshot = snapshot
        self._path = path_of(directory, snapshot)
        self._check = PartsCheck(snapshot)
        try:
            self._file: BinaryIO = self._path.open("rb")
        except OSError as error:
            raise StorageError(f"{self._path}: {error.strerror}") from error

    def read(self, offset: int, size: int) -> bytes:
        """Read a part.

        Parameters
        ----------
        offset : int
            Where it begins, in bytes.
        size : int
            How many bytes it has, at most.

        Returns
        -------
        bytes
            The part; it is shorter only where the snapshot ends.

        Raises
        ------
        StorageError
            If it cannot be read, or it is the last one and the whole is not what was written.
        """
        wanted = min(size, self.snapshot.size - offset)
        try:
            self._file.seek(offset)
            data = self._file.read(wanted)
        except OSError as error:
            raise StorageError(f"{self._path}: {error.strerror}") from error
        if len(data) < wanted or not self._check.accepts(offset, data):
            raise StorageError(f"{self._path}: does not match its checksum")
        return data

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def path_of(directory: Path, snapshot: SnapshotInfo) -> Path:
    """Tell where a snapshot is: never where another one is, also of the same entry.

    Parameters
    ----------
    directory : Path
        The node's directory.
    snapshot : SnapshotInfo
        The snapshot.

    Returns
    -------
    Path
        Its file.
    """
    return directory / f"snapshot-{snapshot.index}-{snapshot.term}-{snapshot.checksum:08x}"


def read_chunks(directory: Path, snapshot: SnapshotInfo) -> Iterator[bytes]:
    """Read a snapshot back.

    Parameters
    ----------
    directory : Path
        The node's directory.
    snapshot : SnapshotInfo
        The snapshot.

    Yields
    ------
    bytes
        The chunks that the state machine gave.

    Raises
    ------
    StorageError
        If the file is missing or damaged, before the first chunk.
    """
    path = path_of(directory, snapshot)
    try:
        _verify(path, snapshot)
        with path.open("rb") as file:
            while head := file.read(_LENGTH):
                yield file.read(int.from_bytes(head, "big"))
    except OSError as error:
        raise StorageError(
            f"{path}: {error.strerror}; restore the directory, or remove it so that the node joins anew"
        ) from error


def _verify(path: Path, snapshot: SnapshotInfo) -> None:
    size = checksum = 0
    with path.open("rb") as file:
        while data := file.read(_READ):
            size += len(data)
            checksum = zlib.crc32(data, checksum)
    if (size, checksum) != (snapshot.size, snapshot.checksum):
        raise StorageError(
            f"{path}: does not match its checksum; the disk is damaged: restore the directory, or remove it so that"
            " the node joins anew"
        )


def remove_older(directory: Path, snapshot: SnapshotInfo) -> None:
    """Remove the snapshots that were valid before one.

    A newer one stays: it may be whole, and about to become the valid one.

    Parameters
    ----------
    directory : Path
        The node's directory.
    snapshot : SnapshotInfo
        The one that is valid, on disk, by now.
    """
    with _reported(directory):
        for path in directory.glob("snapshot-*-*"):
            index = path.name.split("-")[1]
            if index.isdecimal() and int(index) < snapshot.index:
                path.unlink(missing_ok=True)


def remove_leftovers(directory: Path, valid: SnapshotInfo | None) -> None:
    """Remove what an earlier process has left unfinished; when nobody writes a snapshot.

    Parameters
    ----------
    directory : Path
        The node's directory.
    valid : SnapshotInfo or None
        The one that stays.
    """
    kept = valid and path_of(directory, valid)
    with _reported(directory):
        for path in directory.glob("snapshot-*"):
            if path != kept:
                path.unlink(missing_ok=True)
