"""The directories of nodes.

``DATA_DIR`` may be one volume that all replicas of a service share on one host: each node takes the first directory
in it whose lock is free, or makes a new one, so that after a restart of all replicas the same ids come back. The lock
is an ``flock`` that is held until the process has ended; a forked copy of the process does not hold it.
"""

import fcntl
import io
import os
import shutil
from pathlib import Path
from typing import Final, NamedTuple

from trioraft.forks import keep_from_forks
from trioraft.logger import Logger
from trioraft.messages import NodeId, format_id
from trioraft.storage.errors import StorageError
from trioraft.storage.private import DIRECTORY_MODE, is_trusted, mend

_log: Final = Logger("trioraft.storage")

_DIRECTORIES_MAX: Final = 1000
# So many logs that were set aside are kept: if all nodes were restarted, somebody may want what is left of them.
_ASIDE_MAX: Final = 3


class TakenDirectory(NamedTuple):
    """A node's directory that no other process uses.

    Attributes
    ----------
    path : Path
        The directory.
    lock : io.FileIO
        The file whose lock keeps others away from it for as long as the file is open.
    """

    path: Path
    lock: io.FileIO


def take_directory(data_dir: Path) -> TakenDirectory:
    """Take the first free node directory under `data_dir`, or make a new one.

    Parameters
    ----------
    data_dir : Path
        The volume, which other nodes of this host may share.

    Returns
    -------
    TakenDirectory
        The directory.

    Raises
    ------
    StorageError
        If none can be made or locked.
    """
    try:
        data_dir.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
        for number in range(_DIRECTORIES_MAX):
            directory = data_dir / f"{number}"
            directory.mkdir(DIRECTORY_MODE, exist_ok=True)
            if directory.is_symlink() and not is_trusted(directory):
                raise StorageError(f"{directory}: a link that another user has made; remove it, or choose a DATA_DIR")
            lock = lock_directory(directory)
            if lock is not None:
                sync_directory(data_dir)
                _mend(data_dir)
                return TakenDirectory(directory, lock)
    except OSError as error:
        raise StorageError(f"DATA_DIR={data_dir}: {error.strerror}; it must be a writable directory") from error
    raise StorageError(f"DATA_DIR={data_dir}: {_DIRECTORIES_MAX} nodes use it already; give this one another")


def _mend(data_dir: Path) -> None:
    """Close to other users what an earlier release has left open, or log once that it cannot be done."""
    problems = mend(data_dir)
    if problems:
        _log.warning(
            "other users may reach what nodes keep in DATA_DIR, and this user may not change that",
            data_dir=str(data_dir),
            paths=len(problems),
            first=problems[0],
        )


def lock_directory(directory: Path) -> io.FileIO | None:
    """Lock a node's directory for as long as a file is open, and at most for as long as the process lives.

    Parameters
    ----------
    directory : Path
        The directory.

    Returns
    -------
    io.FileIO or None
        The file; None when another process has the lock.
    """
    file = io.FileIO(os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "r+")
    keep_from_forks(file)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable.

    Parameters
    ----------
    path : Path
        The directory.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def aside_of(directory: Path, node_id: NodeId) -> Path:
    """Return the place for the data of a node that had this directory before.

    Parameters
    ----------
    directory : Path
        The directory.
    node_id : int
        The id of that node.

    Returns
    -------
    Path
        A directory in it.
    """
    return directory / f"aside-{format_id(node_id)}"


def set_aside(database: Path, node_id: NodeId, *, is_empty: bool) -> Path | None:
    """Set the data of a node aside, so that it can begin anew.

    The database is moved last, so a crash before that leaves the node as it was.

    Parameters
    ----------
    database : Path
        The node's database, in its directory; closed.
    node_id : int
        The node's id.
    is_empty : bool
        Whether there is nothing in it to keep.

    Returns
    -------
    Path or None
        The place where it is now; None when nothing was kept.

    Raises
    ------
    StorageError
        If it cannot be moved.
    """
    directory = database.parent
    aside = aside_of(directory, node_id)
    try:
        if is_empty:
            database.unlink()
            return None
        aside.mkdir(DIRECTORY_MODE, exist_ok=True)
        for path in [*directory.glob("snapshot-*"), database]:
            path.rename(aside / path.name)
        sync_directory(aside)
        sync_directory(directory)
        older = sorted(directory.glob("aside-*"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for path in older[_ASIDE_MAX:]:
            shutil.rmtree(path)
    except OSError as error:
        raise StorageError(f"{database}: cannot be moved to {aside}: {error.strerror}; check the disk") from error
    return aside
