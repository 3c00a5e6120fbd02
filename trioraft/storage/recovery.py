"""Makes a new cluster of the data of one node, after the quorum of its cluster is lost for good.

Nothing is applied and nothing is decided again. The node keeps its snapshot and all of its log, including entries
that it does not know to be committed, because they may have been acknowledged. One entry is added, which makes the
node, under a new id, the only voter of a new cluster. This entry and the hard state are written in one transaction. A
copy of everything is made before, so a crash leaves the old node or the new one, and never loses the old data.

The members of the old cluster are foreign to the new one. Its terms begin 2³² above every term that the node knows,
so fencing tokens and the numbers of client sessions are larger than any that the old cluster can have given. That
leaves no room where somebody has made the node believe in a term near the largest. Then they begin 2³² above the
terms of the entries in its log: leaders of later terms have left nothing in it.
"""

import contextlib
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from trioraft.consensus.configuration import Configuration, encode_configuration
from trioraft.consensus.hard import FormationState, HardState
from trioraft.consensus.ledger import Write
from trioraft.consensus.log import Log
from trioraft.consensus.numbers import CLAIM_MAX
from trioraft.messages import LARGEST_ID, Entry, EntryKind, Id, Index, NodeId, Seconds, Term, first_term
from trioraft.storage.database import SqliteDisk
from trioraft.storage.directories import aside_of, lock_directory, sync_directory
from trioraft.storage.errors import RecoveryError, StorageError
from trioraft.storage.private import DIRECTORY_MODE, mend_tree
from trioraft.storage.snapshots import path_of, read_chunks

_DATABASE: Final = "trioraft.db"


class Survivor(Struct, frozen=True):
    """A stopped node, whose data a new cluster can be made of; it cannot be started meanwhile.

    Attributes
    ----------
    disk : SqliteDisk
        Its data.
    configuration : Configuration
        The newest configuration that it knows, committed or not.
    committed : int
        The index up to which entries are certainly committed, because they are in its snapshot.
    others : tuple of Path
        The directories of other nodes of the same cluster beside it, whose logs do not go further.
    """

    disk: SqliteDisk
    configuration: Configuration
    committed: Index
    others: tuple[Path, ...] = ()

    @property
    def log(self) -> Log:
        """Its log."""
        return self.disk.log

    @property
    def cluster(self) -> Id:
        """The cluster that it is a member of."""
        return self.disk.hard.formation.cluster

    @property
    def term(self) -> Term:
        """The highest term that it knows."""
        return max(self.disk.hard.term, self.log.last_term)

    @property
    def longest_work(self) -> Seconds:
        """How long leader work of its cluster may still run, as far as it knows, and never longer than is allowed."""
        return min(self.disk.hard.work, CLAIM_MAX)

    @property
    def next_term(self) -> Term:
        """The term above which those of a new cluster begin.

        Raises
        ------
        RecoveryError
            If its terms leave no room for another cluster.
        """
        term = first_term(self.term, self.log.last_term)
        if term is None:
            raise RecoveryError(
                f"{self.disk.directory}: its last entry is of term {self.log.last_term}, which leaves no room for the"
                ' terms of another cluster; containers/OPERATING.md says under "When no terms are left" how the keys'
                " get into one that begins anew"
            )
        return term


class Recovered(Struct, frozen=True):
    """The new cluster.

    Attributes
    ----------
    cluster, node : int
        Its id, and that of its only member.
    term : int
        The term above which its own begin.
    aside : Path
        The copy of the data as it was.
    """

    cluster: Id
    node: NodeId
    term: Term
    aside: Path


@contextlib.contextmanager
def open_survivor(data_dir: Path) -> Iterator[Survivor]:
    """Open and verify the data of a stopped node; of several nodes, that of the one whose log goes furthest.

    Parameters
    ----------
    data_dir : Path
        A ``DATA_DIR``, or the numbered directory of one node in it.

    Yields
    ------
    Survivor
        The node.

    Raises
    ------
    RecoveryError, StorageError
        If there is no node, it runs, it is no member of a cluster, or its data is damaged.
    """
    with contextlib.ExitStack() as opened:
        disks = [_open(directory, opened) for directory in _directories(data_dir)]
        members = [disk for disk in disks if disk.hard.formation.cluster and not disk.hard.removed]
        if not members:
            raise RecoveryError(_why_no_member(disks[0]))
        if len({disk.hard.formation.cluster for disk in members}) > 1:
            raise RecoveryError(f"{data_dir}: nodes of several clusters; give the directory of one node in it")
        furthest = max(members, key=lambda disk: (disk.log.last_term, disk.log.last_index))
        if furthest.snapshot is not None:
            next(read_chunks(furthest.directory, furthest.snapshot), None)  # reading it verifies it
        others = tuple(disk.directory for disk in members if disk is not furthest)
        committed = furthest.snapshot.index if furthest.snapshot is not None else 0
        yield Survivor(furthest, _newest_configuration(furthest), committed, others)


def _directories(data_dir: Path) -> list[Path]:
    if data_dir.resolve().name.isdecimal() and (data_dir / _DATABASE).is_file():
        return [data_dir]
    found = [path.parent for path in data_dir.glob(f"*/{_DATABASE}") if path.parent.name.isdecimal()]
    if not found:
        raise RecoveryError(f"{data_dir}: no node has kept anything there; give the DATA_DIR of a stopped member")
    return sorted(found)


def _open(directory: Path, opened: contextlib.ExitStack) -> SqliteDisk:
    try:
        lock = lock_directory(directory)
    except OSError as error:
        raise RecoveryError(f"{directory}: {error.strerror}; it must be a directory that can be written") from error
    if lock is None:
        raise RecoveryError(f"{directory}: its node runs; stop it first, or let it go on if it has a quorum")
    opened.enter_context(lock)
    disk = SqliteDisk(directory)
    opened.callback(disk.close)
    return disk


def _why_no_member(disk: SqliteDisk) -> str:
    if disk.hard.removed:
        return (
            f"{disk.directory}: this node was removed from its cluster, and lacks what that did afterwards; give the"
            " DATA_DIR of a member, or restore a backup"
        )
    return f"{disk.directory}: this node is no member of a cluster yet, so it has nothing to make another one of"


def _newest_configuration(disk: SqliteDisk) -> Configuration:
    formed = Configuration(tuple(sorted(disk.hard.formation.members)))
    disk.log.begin_with((disk.snapshot and disk.snapshot.members()) or formed)
    return disk.log.configuration


def make_new_cluster(survivor: Survivor, work: Seconds) -> Recovered:
    """Make a new cluster of the data of a node, which becomes its only member.

    Parameters
    ----------
    survivor : Survivor
        The node.
    work : float
        How long leader work of the old cluster may still run after the new node's start, at least, in seconds. A
        longer claim that the node remembers counts instead.

    Returns
    -------
    Recovered
        The new cluster.

    Raises
    ------
    RecoveryError
        If its terms leave no room for another cluster.
    StorageError
        If it could not be written. Then it is not known whether the change was made; the copy is there.
    """
    disk, draw = survivor.disk, random.SystemRandom()
    node, cluster = draw.randint(1, LARGEST_ID), draw.randint(1, LARGEST_ID)
    term = survivor.next_term
    aside = _keep_copy(disk)
    name = survivor.configuration.name(disk.node_id)
    names = ((node, name),) if name else ()
    alone = msgspec.structs.replace(survivor.configuration, voters=(node,), old_voters=(), learners=(), names=names)
    hard = HardState(
        term=term,
        voted_for=node,
        promise=disk.hard.promise,
        work=max(work, survivor.longest_work),
        work_term=term,
        # No first members are named: the log has those of the old cluster, and after them this one alone.
        formation=FormationState(cluster=cluster),
    )
    entry = Entry(term=term, kind=EntryKind.CONFIGURATION, data=encode_configuration(alone))
    disk.become(node, Write(1, hard, disk.log.last_index + 1, (entry,)))
    return Recovered(cluster, node, term, aside)


def _keep_copy(disk: SqliteDisk) -> Path:
    """Copy a node's data, in place of what an interrupted attempt has left."""
    building, aside = disk.directory / "recovering", aside_of(disk.directory, disk.node_id)
    try:
        for left in (building, aside):
            if left.exists():
                shutil.rmtree(left)
        building.mkdir(DIRECTORY_MODE)
        disk.copy_to(building / _DATABASE)
        if disk.snapshot is not None:
            shutil.copy2(path_of(disk.directory, disk.snapshot), building)
        mend_tree(building)
        for path in building.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        sync_directory(building)
        building.rename(aside)
        sync_directory(disk.directory)
    except OSError as error:
        raise StorageError(
            f"{building}: the data cannot be copied: {error.strerror}; nothing was changed: make room, or check the"
            " disk"
        ) from error
    return aside
