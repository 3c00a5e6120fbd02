"""Snapshots on disk: one file each, beside the database, which records which of them is valid.

A file is a sequence of chunks, each after its length (4 bytes, big endian), so that a state machine gets back the
very chunks that it gave. The file is written under another name, synced, and renamed when it is whole.
"""

import contextlib
import errno
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from trioraft.consensus.ledger import SnapshotInfo
from trioraft.messages import Index
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
        The chunk as it stands in the file.
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
        Whether it comes from another node. This node may be writing one of its own, of the same entry, meanwhile.

    Raises
    ------
    StorageError
        If it could not be written; so do the methods. :class:`DiskFullError` when there was no room.
    """

    def __init__(self, directory: Path, index: Index, *, received: bool = False) -> None:
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
            A part of a chunk, or many chunks.
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
            Its size and checksum as they should be.

        Returns
        -------
        bool
            Whether they are; if not, the file is removed.
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
        """Remove it."""
        with contextlib.suppress(OSError):  # there may be no room for what is still buffered
            self._file.close()
        with _reported(self._path):
            self._path.unlink(missing_ok=True)


class PartsCheck:
    """Verifies a snapshot while it is read in parts, one after the other; a part that is read again is skipped.

    After the last part it begins anew with the first one. So damage that came later is found when the snapshot is
    read again from its beginning.

    Parameters
    ----------
    snapshot : SnapshotInfo
        Its size and checksum as they should be.
    """

    def __init__(self, snapshot: SnapshotInfo) -> None:
        self._snapshot = snapshot
        self._size = self._checksum = 0

    def accepts(self, offset: int, data: bytes) -> bool:
        """Check a part.

        Parameters
        ----------
        offset : int
            The place where it begins, in bytes.
        data : bytes
            The part.

        Returns
        -------
        bool
            Whether no damage is known yet; damage shows with the last part.
        """
        if offset == 0 and self._size >= self._snapshot.size:
            self._size = self._checksum = 0
        if offset <= self._size:
            new = data[self._size - offset :]
            self._checksum = zlib.crc32(new, self._checksum)
            self._size += len(new)
        return self._size < self._snapshot.size or self._checksum == self._snapshot.checksum


class SnapshotReader:
    """A snapshot that is read in parts, and verified meanwhile; once open, it can be read even after it was removed.

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
            The place where it begins, in bytes.
        size : int
            Its largest size in bytes.

        Returns
        -------
        bytes
            The part; it is shorter only where the snapshot ends.

        Raises
        ------
        StorageError
            If it cannot be read, or if it is the last part and the snapshot is not what was written.
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
        """Close the file."""
        self._file.close()


def path_of(directory: Path, snapshot: SnapshotInfo) -> Path:
    """Return the path of a snapshot, which differs from that of any other one, even of the same entry.

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
    """Remove the snapshots that are older than the valid one.

    A newer one stays: it may be whole, and about to become the valid one.

    Parameters
    ----------
    directory : Path
        The node's directory.
    snapshot : SnapshotInfo
        The one that is recorded as valid on disk.
    """
    with _reported(directory):
        for path in directory.glob("snapshot-*-*"):
            index = path.name.split("-")[1]
            if index.isdecimal() and int(index) < snapshot.index:
                path.unlink(missing_ok=True)


def remove_leftovers(directory: Path, valid: SnapshotInfo | None) -> None:
    """Remove the snapshots that an earlier process has left unfinished; call it while no snapshot is written.

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
