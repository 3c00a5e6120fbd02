"""Backups of stopped nodes, and clusters made from backups."""

import contextlib
import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias

from trioraft.consensus.configuration import Configuration, encode_configuration
from trioraft.consensus.hard import FormationState, HardState
from trioraft.consensus.ledger import SnapshotInfo, Write
from trioraft.errors import StateKindError
from trioraft.messages import LARGEST_ID, Id, NodeId
from trioraft.replica.machine import StateMachine
from trioraft.replica.sessions import Replica
from trioraft.storage.backup_file import Backup, read_about, read_chunks_of, write_backup
from trioraft.storage.database import SqliteDisk
from trioraft.storage.directories import lock_directory, sync_directory
from trioraft.storage.errors import BackupError
from trioraft.storage.private import DIRECTORY_MODE
from trioraft.storage.snapshots import SnapshotWriter, frame, read_chunks

Progress: TypeAlias = Callable[[int, int], None]

# --- making one -----------------------------------------------------------------------------------------------


def back_up(path: Path, data_dir: Path, machine: StateMachine, tell: Progress) -> Backup:
    """Make a backup of stopped nodes, from the node whose log goes furthest.

    The backup has everything that was acknowledged if a majority of the cluster's nodes is under `data_dir`. Entries
    that a node has received and that were never committed are in it too.

    Parameters
    ----------
    path : Path
        The backup; there must be no such file.
    data_dir : Path
        The directory with those of the nodes.
    machine : StateMachine
        An empty state machine of the cluster's kind.
    tell : callable
        Called with the number of entries that are applied, and of all.

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
    """Explain what to do where the state is of another kind than the state machine."""
    try:
        yield
    except StateKindError as error:
        raise BackupError(
            f"{data_dir}: {error.kinds}; start the nodes, and take the backup of the running cluster"
        ) from None


@contextlib.contextmanager
def _furthest(data_dir: Path) -> Iterator[tuple[SqliteDisk, int]]:
    """Open the disk of the node whose log goes furthest, and keep all nodes that are there from starting.

    Yields the disk, and the highest term on all disks.
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


# --- restoring one ----------------------------------------------------------------------------------------------


class Restored(NamedTuple):
    """A cluster that was made from a backup.

    Attributes
    ----------
    backup : Backup
        What was in the backup.
    cluster : int
        The new cluster's id.
    """

    backup: Backup
    cluster: Id


def restore(path: Path, data_dir: Path, members: int, tell: Progress) -> Restored:
    """Make the data of a new cluster from a backup.

    The cluster has a new id and its nodes have new ids, so old members are foreign to it. Its terms begin 2³² above
    the highest in the data, so that fencing tokens keep growing; where that leaves no room, 2³² above the last
    entry's.

    Parameters
    ----------
    path : Path
        The backup.
    data_dir : Path
        The directory in which those of the nodes are made: ``0``, ``1``, ...; there must be none yet.
    members : int
        The number of nodes of the new cluster.
    tell : callable
        Called with the number of bytes that are written, and of all.

    Returns
    -------
    Restored
        The new cluster.

    Raises
    ------
    BackupError, StorageError
        If the file is damaged or no backup, its terms leave no room, or the data cannot be written.
    """
    about = read_about(path)
    draw = random.SystemRandom()
    nodes = tuple(draw.randint(1, LARGEST_ID) for _ in range(members))
    cluster = draw.randint(1, LARGEST_ID)
    term = about.next_term
    if term is None:
        raise BackupError(
            f"{path}: its last entry is of term {about.index_term}, which leaves no room for the terms of another"
            ' cluster; containers/OPERATING.md says under "When no terms are left" how the keys get into one that'
            " begins anew"
        )
    hard = HardState(term=term, formation=FormationState(cluster=cluster, members=nodes))
    made = data_dir / "restoring"
    try:
        data_dir.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
        if any(found.name.isdecimal() for found in data_dir.iterdir()):
            raise BackupError(f"{data_dir}: a node has kept something there already; give an empty directory")
        made.mkdir(DIRECTORY_MODE)
        for number, node in enumerate(nodes):
            tell_one = partial(_tell_one, tell, number * about.size, members * about.size)
            _make_node(made / str(number), node, hard, path, about, tell_one)
        for number in range(members):
            (made / str(number)).rename(data_dir / str(number))
        made.rmdir()
        sync_directory(data_dir)
    except FileExistsError as error:
        raise BackupError(f"{made}: left by a restore that was not finished; remove it") from error
    except OSError as error:
        raise BackupError(f"{data_dir}: {error.strerror}; it must be a writable directory") from error
    return Restored(about, cluster)


def _tell_one(tell: Progress, before: int, of: int, size: int) -> None:
    tell(before + size, of)


def _make_node(
    directory: Path, node: NodeId, hard: HardState, path: Path, about: Backup, tell: Callable[[int], None]
) -> None:
    """Make the directory of one node."""
    directory.mkdir(DIRECTORY_MODE)
    disk = SqliteDisk(directory, new_id=lambda: node)
    try:
        if not about.index:
            disk.save_now(Write(1, hard))
            return
        writer = SnapshotWriter(directory, about.index)
        for chunk in read_chunks_of(path, about):
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
