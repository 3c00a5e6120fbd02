"""The file of a backup: the replicated state of a cluster, in a form of its own.

A file has a head, the chunks of a snapshot, and a foot. The foot comes last, because the size is known only then, and
its end shows that the file is whole::

    "trioraft backup 1" | length, chunk | ... | foot (JSON) | its length | CRC-32 of all before | "end"
"""

import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from trioraft.messages import FIRST_VERSION, Counter, Index, OptionalId, Term, Version, first_term
from trioraft.storage.errors import BackupError
from trioraft.storage.private import open_new
from trioraft.storage.snapshots import frame
from trioraft.storage.whole_files import publish, reported, unfinished_file
from trioraft.versions import SPOKEN

_HEAD: Final = b"trioraft backup 1\n"
_END: Final = b"end\n"
_FOOT_MAX: Final = 64 * 1024
_PIECE: Final = 1024 * 1024


class Backup(Struct, frozen=True):
    """What is in a backup.

    Attributes
    ----------
    cluster : int
        The id of the cluster; 0 when its nodes had not formed one.
    term : int
        The highest term in the data, or, of a running cluster, the term in which the backup was made.
    index, index_term : int
        Index and term of the last entry that was applied.
    size : int
        The size of its chunks, with their lengths, in bytes.
    version : int
        The version of the protocol that the cluster spoke, which says what chunks may have
        (:mod:`trioraft.versions`).
    """

    cluster: OptionalId
    term: Term
    index: Index
    index_term: Term
    size: Counter
    version: Version = FIRST_VERSION

    @property
    def next_term(self) -> Term | None:
        """The term above which those of a cluster made from it begin; None where there is no room for them."""
        return first_term(self.term, self.index_term)


def write_backup(path: Path, about: Backup, chunks: Iterable[bytes]) -> Backup:
    """Write a backup, all or nothing.

    Parameters
    ----------
    path : Path
        The file; there must be none.
    about : Backup
        What is in it, except for the size.
    chunks : iterable of bytes
        The snapshot.

    Returns
    -------
    Backup
        What is in it.

    Raises
    ------
    BackupError
        If it cannot be written.
    """
    with unfinished_file(path) as unfinished:
        writer = BackupWriter(unfinished)
        try:
            for chunk in chunks:
                writer.write(frame(chunk))
            about = writer.finish(about)
        finally:
            writer.close()
        publish(unfinished, path)
    return about


class BackupWriter:
    """A backup that is being written; used by one thread at a time.

    Parameters
    ----------
    path : Path
        The file; one that was there is lost.

    Attributes
    ----------
    written : int
        The size of the file so far, in bytes.

    Raises
    ------
    BackupError
        If it cannot be written; so do the methods.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._checksum = 0
        self.written = 0
        with reported(path):
            self._file = open_new(path)
        self.write(_HEAD)

    def write(self, data: bytes) -> None:
        """Append chunks.

        Parameters
        ----------
        data : bytes
            Chunks of the snapshot, each in its :func:`~trioraft.storage.snapshots.frame`.
        """
        with reported(self._path):
            self._file.write(data)
        self._checksum = zlib.crc32(data, self._checksum)
        self.written += len(data)

    def finish(self, about: Backup) -> Backup:
        """Write the foot, after all chunks.

        Parameters
        ----------
        about : Backup
            What is in it, except for the size.

        Returns
        -------
        Backup
            What is in it.
        """
        about = msgspec.structs.replace(about, size=self.written - len(_HEAD))
        foot = msgspec.json.encode(about)
        self.write(foot + len(foot).to_bytes(4, "big"))
        self.write(self._checksum.to_bytes(4, "big") + _END)
        self.close()
        return about

    def close(self) -> None:
        """Close the file."""
        with reported(self._path):
            self._file.close()


def read_about(path: Path) -> Backup:
    """Verify a backup, and read what is in it.

    Parameters
    ----------
    path : Path
        The backup.

    Returns
    -------
    Backup
        What is in it.

    Raises
    ------
    BackupError
        If it is damaged, or no backup.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            if file.read(len(_HEAD)) != _HEAD:
                raise BackupError(f"{path}: no backup of this program")
            checksum = zlib.crc32(_HEAD)
            left = size - len(_HEAD) - len(_END) - 4
            tail = b""
            while left > 0 and (data := file.read(min(_PIECE, left))):
                checksum = zlib.crc32(data, checksum)
                tail = (tail + data)[-_FOOT_MAX:]
                left -= len(data)
            end = file.read(4 + len(_END))
    except OSError as error:
        raise BackupError(f"{path}: {error.strerror}") from error
    if left or end != checksum.to_bytes(4, "big") + _END:
        raise BackupError(f"{path}: is not whole, or does not match its checksum; take another backup")
    length = int.from_bytes(tail[-4:], "big")
    try:
        about = msgspec.json.decode(tail[-4 - length : -4], type=Backup)
    except msgspec.DecodeError as error:
        raise BackupError(f"{path}: cannot be understood: {error}; a newer version may have made it") from error
    if about.version > SPOKEN.highest:
        raise BackupError(
            f"{path}: of a cluster that spoke version {about.version} of the protocol; this software speaks {SPOKEN}:"
            " use the newer one"
        )
    return about


def read_chunks_of(path: Path, about: Backup) -> Iterator[bytes]:
    """Read the chunks of a backup; :func:`read_about` has verified it.

    Parameters
    ----------
    path : Path
        The backup.
    about : Backup
        What is in it.

    Yields
    ------
    bytes
        The chunks of the snapshot.
    """
    with path.open("rb") as file:
        file.seek(len(_HEAD))
        left = about.size
        while left > 0:
            head = file.read(4)
            chunk = file.read(int.from_bytes(head, "big"))
            left -= len(head) + len(chunk)
            yield chunk
