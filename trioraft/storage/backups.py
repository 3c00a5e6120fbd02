"""Backups: the replicated state of a cluster in one file, and clusters made from it.

A file is a head, the chunks of a snapshot, and a foot. The foot comes last, because only then is it known how much
there is, and its end says that the file is whole::

    "trioraft backup 1" | length, chunk | ... | foot (JSON) | its length | CRC-32 of all before | "end"
"""

import contextlib
import os
import random
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, TypeAlias

import msgspec
from msgspec import Struct

from trioraft.consensus.configuration import Configuration, encode_configuration
from trioraft.consensus.hard import FormationState, HardState
from trioraft.consensus.ledger import SnapshotInfo, Write
from trioraft.errors import StateKindError
from trioraft.messages import FIRST_VERSION, LARGEST_ID, Counter, OptionalId, Version, first_term
from trioraft.replica.machine import StateMachine
from trioraft.replica.sessions import Replica
from trioraft.storage.database import SqliteDisk
from trioraft.storage.directories import lock_directory, sync_directory
from trioraft.storage.errors import BackupError, BackupExistsError
from trioraft.storage.private import DIRECTORY_MODE, open_new
from trioraft.storage.snapshots import SnapshotWriter, frame, read_chunks
from trioraft.versions import SPOKEN

_HEAD: Final = b"trioraft backup 1\n"
_END: Final = b"end\n"
_FOOT_MAX: Final = 64 * 1024
_PIECE: Final = 1024 * 1024

Progress: TypeAlias = Callable[[int, int], None]


class Backup(Struct, frozen=True):
    """What is in a backup.

    Attributes
    ----------
    cluster : int
        The cluster it is of; 0 when its nodes had not formed one.
    term : int
        The highest term in the data, or, of a running cluster, that there was when it was made.
    index, index_term : int
        The last entry that was applied.
    size : int
        Bytes of its chunks, with their lengths.
    version : int
        Which version of the protocol the cluster spoke, and so what the chunks may hold (:mod:`trioraft.versions`).
    """

    cluster: OptionalId
    term: Counter
    index: Counter
    index_term: Counter
    size: Counter
    version: Version = FIRST_VERSION

    @property
    def next_term(self) -> int | None:
        """Above which one the terms of a cluster made from it begin; None where there is no room for them."""
        return first_term(self.term, self.index_term)


# --- making one -----------------------------------------------------------------------------------------------


def back_up(path: Path, data_dir: Path, machine: StateMachine, tell: Progress) -> Backup:
    """Make a backup of stopped nodes, from the one whose log goes furthest: it has all that was acknowledged.

    That needs a majority of the cluster's nodes under `data_dir`; what one of them has taken in and not committed
    is in the backup too.

    Parameters
    ----------
    path : Path
        The backup; there must be none.
    data_dir : Path
        Where the nodes' directories are.
    machine : StateMachine
        An empty one of the cluster's kind.
    tell : callable
        Told how many entries are applied, and of how many.

    Returns
    -------
    Backup
        What is in it.

    Raises
    ------
    BackupError, StorageError
        If a node runs, the data is damaged, or the file cannot be written.
    """
    with _furthest(data_dir) as (disk, term), _of_its_kind(data_dir):
        replica = Replica(machine)
        if disk.snapshot is not None:
            chunks = read_chunks(disk.directory, disk.snapshot)
            replica.restore(disk.snapshot.index, chunks, disk.snapshot.version)
        log, first = disk.log, replica.applied_index + 1
        entries = log.entries(first, log.last_index)
        for done, entry in enumerate(entries):
            replica.apply(first + done, entry)
            tell(done + 1, len(entries))
        about = Backup(disk.hard.formation.cluster, term, log.last_index, log.last_term, 0, replica.version)
        return write_backup(path, about, replica.snapshot())


@contextlib.contextmanager
def _of_its_kind(data_dir: Path) -> Iterator[None]:
    """Say so where the state is of another kind than what it is read with."""
    try:
        yield
    except StateKindError as error:
        raise BackupError(
            f"{data_dir}: {error.kinds}; start the nodes, and take the backup of the running cluster"
        ) from None


@contextlib.contextmanager
def _furthest(data_dir: Path) -> Iterator[tuple[SqliteDisk, int]]:
    """Open the disk of the node, of all that are there, whose log goes furthest; keep the others from starting.

    Tells the highest term in all of them, too.
    """
    directories = sorted(path.parent for path in data_dir.glob("*/trioraft.db") if path.parent.name.isdecimal())
    if not directories:
        raise BackupError(f"{data_dir}: no node has kept anything there; give the DATA_DIR of stopped nodes")
    with contextlib.ExitStack() as opened:
        disks = []
        for directory in directories:
            lock = lock_directory(directory)
            if lock is None:
                raise BackupError(f"{directory}: its node runs; stop all nodes first")
            opened.enter_context(lock)
            disks.append(SqliteDisk(directory))
            opened.callback(disks[-1].close)
        if len({disk.hard.formation.cluster for disk in disks}) > 1:
            raise BackupError(f"{data_dir}: nodes of several clusters; give a directory with the nodes of one")
        term = max(max(disk.hard.term, disk.log.last_term) for disk in disks)
        yield max(disks, key=lambda disk: (disk.log.last_term, disk.log.last_index)), term


def write_backup(path: Path, about: Backup, chunks: Iterable[bytes]) -> Backup:
    """Write a backup, all or nothing.

    Parameters
    ----------
    path : Path
        Where; there must be nothing.
    about : Backup
        What is in it, but for the size.
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


@contextlib.contextmanager
def reported(path: Path) -> Iterator[None]:
    """Turn an error of the system into one line.

    Parameters
    ----------
    path : Path
        What is being written.

    Raises
    ------
    BackupError
        In its place.
    """
    try:
        yield
    except OSError as error:
        raise BackupError(f"{path}: {error.strerror}; choose another place") from error


@contextlib.contextmanager
def unfinished_file(path: Path) -> Iterator[Path]:
    """Have an empty file beside a file that is to be made; it is removed when the block ends.

    Parameters
    ----------
    path : Path
        A backup, or another file that is whole or not there at all; there must be none.

    Yields
    ------
    Path
        The file, for :func:`publish`.

    Raises
    ------
    BackupError
        If there is something at `path`, or nothing can be written there.
    """
    if os.path.lexists(path):
        raise _exists(path)
    with reported(path):
        descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", suffix=".new", dir=path.parent)
        os.close(descriptor)
    try:
        yield Path(name)
    finally:
        with reported(path):
            Path(name).unlink(missing_ok=True)


def publish(unfinished: Path, path: Path) -> None:
    """Give a file that is whole its name, durably.

    Parameters
    ----------
    unfinished : Path
        The file, in the same directory.
    path : Path
        Its name from now on; what has got that name meanwhile stays.

    Raises
    ------
    BackupError
        If it cannot have that name.
    """
    with reported(path):
        descriptor = os.open(unfinished, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        try:
            os.link(unfinished, path)
        except FileExistsError:
            raise _exists(path) from None
        except OSError:  # a file system without links
            if os.path.lexists(path):
                raise _exists(path) from None
            unfinished.rename(path)
        sync_directory(path.parent)


def _exists(path: Path) -> BackupExistsError:
    return BackupExistsError(f"{path}: exists already; give another name, or remove it")


class BackupWriter:
    """A backup that is being written; used by one thread at a time.

    Parameters
    ----------
    path : Path
        The file; what was there is lost.

    Attributes
    ----------
    written : int
        How many bytes the file has by now.

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
        """Say that all chunks are written.

        Parameters
        ----------
        about : Backup
            What is in it, but for the size.

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
        """Write to it no more."""
        with reported(self._path):
            self._file.close()


# --- restoring one ----------------------------------------------------------------------------------------------


def restore(path: Path, data_dir: Path, members: int, tell: Progress) -> tuple[Backup, int]:
    """Make the data of a new cluster from a backup.

    It has a new cluster id and new node ids, so old members are foreign to it, and its terms begin 2³² above the
    highest in the data, so that fencing tokens keep growing; where that leaves no room, 2³² above the last entry's.

    Parameters
    ----------
    path : Path
        The backup.
    data_dir : Path
        Where the nodes' directories are made: ``0``, ``1``, ...; there must be none.
    members : int
        How many nodes the new cluster has.
    tell : callable
        Told how many bytes are written, and of how many.

    Returns
    -------
    tuple of Backup and int
        What was in it, and the new cluster's id.

    Raises
    ------
    BackupError, StorageError
        If the file is damaged or no backup, its terms leave no room, or the data cannot be written.
    """
    about = read_about(path)
    draw = random.SystemRandom()
    nodes = [draw.randint(1, LARGEST_ID) for _ in range(members)]
    cluster = draw.randint(1, LARGEST_ID)
    term = about.next_term
    if term is None:
        raise BackupError(
            f"{path}: its last entry is of term {about.index_term}, which leaves no room for the terms of another"
            ' cluster; containers/OPERATING.md says under "When no terms are left" how the keys get into one that'
            " begins anew"
        )
    hard = HardState(term=term, formation=FormationState(cluster=cluster, members=tuple(nodes)))
    made = data_dir / "restoring"
    try:
        data_dir.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
        if any(found.name.isdecimal() for found in data_dir.iterdir()):
            raise BackupError(f"{data_dir}: a node has kept something there already; give an empty directory")
        made.mkdir(DIRECTORY_MODE)
        for number, node in enumerate(nodes):
            directory = made / str(number)
            directory.mkdir(DIRECTORY_MODE)
            done = number * about.size

            def tell_one(size: int, done: int = done) -> None:
                tell(done + size, members * about.size)

            _fill(directory, node, hard, about, read_chunks_of(path, about), tell_one)
        for number in range(members):
            (made / str(number)).rename(data_dir / str(number))
        made.rmdir()
        sync_directory(data_dir)
    except FileExistsError as error:
        raise BackupError(f"{made}: left by a restore that was not finished; remove it") from error
    except OSError as error:
        raise BackupError(f"{data_dir}: {error.strerror}; it must be a writable directory") from error
    return about, cluster


def _fill(
    directory: Path, node: int, hard: HardState, about: Backup, chunks: Iterator[bytes], tell: Callable[[int], None]
) -> None:
    """Make the directory of one node."""
    disk = SqliteDisk(directory, new_id=lambda: node)
    try:
        if not about.index:
            disk.save_now(Write(1, hard))
            return
        writer = SnapshotWriter(directory, about.index)
        for chunk in chunks:
            writer.write(frame(chunk))
            tell(writer.size)
        configuration = Configuration(tuple(sorted(hard.formation.members)), version=about.version)
        snapshot = SnapshotInfo(
            about.index, about.index_term, writer.size, writer.checksum, encode_configuration(configuration)
        )
        writer.finish(snapshot)
        disk.save_now(Write(1, hard, 0, (), snapshot, about.index, about.index_term, restarts=True))
    finally:
        disk.close()


def read_about(path: Path) -> Backup:
    """Verify a backup, and tell what is in it.

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
        If it is damaged, or none.
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
    """Read the chunks of a backup that was verified.

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
