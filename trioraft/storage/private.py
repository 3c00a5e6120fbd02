"""What nodes keep is for their own user alone: directories have mode 0700, files 0600, whatever the umask is.

Earlier releases left that to the umask, so what they have made is mended at each start. Where that is not allowed,
as on volumes whose files belong to another user and are reached by their group (``fsGroup`` of Kubernetes), the node
says so once and starts.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

DIRECTORY_MODE: Final = 0o700
FILE_MODE: Final = 0o600
_OTHERS: Final = 0o077


def make_file(path: Path) -> None:
    """Make an empty file, unless there is one, before something opens it that would make one for others to read."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))
    except FileExistsError:
        return  # it is not opened: to close it would drop the locks that SQLite has in this process


def mend(data_dir: Path) -> list[str]:
    """Take from others what they may do with the directories and files that nodes have made.

    Parameters
    ----------
    data_dir : Path
        A ``DATA_DIR``. It is closed to others itself if there is nothing of somebody else in it.

    Returns
    -------
    list of str
        What others still may do something with, and why.
    """
    try:
        entries = sorted(data_dir.iterdir())
        found = data_dir.stat()
    except OSError as error:
        return [f"{data_dir}: {error.strerror}"]
    own = [entry for entry in entries if _is_of_a_node(entry)]
    problems = [problem for entry in own for problem in mend_tree(entry)]
    if len(own) == len(entries) and found.st_uid == os.geteuid() and found.st_mode & 0o007:
        problems += _mend_one(data_dir, found.st_mode)
    return problems


def mend_tree(path: Path) -> list[str]:
    """Take from others what they may do with a directory and what is in it, or with a file; see :func:`mend`."""
    return [problem for each, mode in _walk(path) for problem in _mend_one(each, mode)]


def _is_of_a_node(path: Path) -> bool:
    return path.name.isdecimal() or path.name in {"restoring", "lead.sh"}


def _walk(path: Path) -> Iterator[tuple[Path, int]]:
    """Give a directory before what is in it; what has gone meanwhile, and links in it, are passed over."""
    try:
        mode = path.stat().st_mode
        yield path, mode
        if not stat.S_ISDIR(mode):
            return
        inside = sorted(path.iterdir())
    except OSError:
        return
    for each in inside:
        if not each.is_symlink():
            yield from _walk(each)


def _mend_one(path: Path, mode: int) -> list[str]:
    if not mode & _OTHERS:
        return []
    try:
        path.chmod(stat.S_IMODE(mode) & ~_OTHERS)
        left = path.stat().st_mode & _OTHERS
    except FileNotFoundError:
        return []
    except OSError as error:
        return [f"{path}: {error.strerror}"]
    return [f"{path}: its file system keeps no modes"] if left else []
