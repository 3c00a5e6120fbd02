"""Keeps the data of nodes for their own user: directories have mode 0700, files 0600, whatever the umask is.

Earlier releases left the modes to the umask, so those of their files are mended at each start. Where that is not
allowed, as on volumes whose files belong to another user and are reached through their group (``fsGroup`` of
Kubernetes), the node logs it once and starts.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

DIRECTORY_MODE: Final = 0o700
FILE_MODE: Final = 0o600
_OTHERS: Final = 0o077


def make_file(path: Path) -> None:
    """Make an empty file, unless there is one, before SQLite opens it and would make one that others can read."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))
    except FileExistsError:
        return  # closing it would drop the locks that SQLite has on it in this process


def open_new(path: Path) -> BinaryIO:
    """Make an empty file and open it for writing; a file or link that had its name is removed.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    binary file
        The file, which nobody else has open.
    """
    path.unlink(missing_ok=True)
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE), "wb")


def mend(data_dir: Path) -> list[str]:
    """Close the directories and files that nodes have made to other users.

    Parameters
    ----------
    data_dir : Path
        A ``DATA_DIR``. It is closed to others itself if nothing in it belongs to somebody else.

    Returns
    -------
    list of str
        The paths that others can still reach, each with the reason.
    """
    try:
        entries = sorted(data_dir.iterdir())
        found = data_dir.stat()
    except OSError as error:
        return [f"{data_dir}: {error.strerror}"]
    own = [entry for entry in entries if _is_of_a_node(entry)]
    problems = [problem for entry in own for problem in mend_tree(entry)]
    if len(own) == len(entries) and found.st_uid == os.geteuid() and found.st_mode & 0o007:
        problems += _mend_one(data_dir, data_dir, found.st_mode)
    return problems


def mend_tree(path: Path) -> list[str]:
    """Close a file, or a directory and everything in it, to other users; see :func:`mend`.

    Where others may write beside it, a name may become a link to anything between two looks at it. So no link is
    followed unless this user or root has made it, and the mode is changed of the file that was opened.
    """
    try:
        follow = path.is_symlink() and is_trusted(path)
    except OSError:
        return []
    return list(_mend_from(path.parent, path.resolve() if follow else path, None))


def is_trusted(path: Path) -> bool:
    """Check whether a name was given by this user or by root, so that it leads where it should."""
    return path.lstat().st_uid in {os.geteuid(), 0}


def _is_of_a_node(path: Path) -> bool:
    return path.name.isdecimal() or path.name in {"restoring", "lead.sh"}


def _mend_from(shown: Path, name: Path | str, inside: int | None) -> Iterator[str]:
    """Mend a directory before its content; links, and files that are gone meanwhile, are skipped."""
    path = shown / name
    inner = -1
    try:
        # O_PATH opens no file for good: closing it would drop the locks that SQLite has on it in this process.
        outer = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=inside)
    except OSError:
        return
    try:
        mode = os.fstat(outer).st_mode
        if stat.S_ISLNK(mode):
            return
        yield from _mend_one(path, Path(f"/proc/self/fd/{outer}"), mode)
        if stat.S_ISDIR(mode):
            inner = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=outer)
            for each in sorted(os.listdir(inner)):
                yield from _mend_from(path, each, inner)
    except OSError:
        return
    finally:
        os.close(outer)
        if inner >= 0:
            os.close(inner)


def _mend_one(path: Path, target: Path, mode: int) -> list[str]:
    if not mode & _OTHERS:
        return []
    try:
        target.chmod(stat.S_IMODE(mode) & ~_OTHERS)
        left = target.stat().st_mode & _OTHERS
    except FileNotFoundError:
        return []
    except OSError as error:
        return [f"{path}: {error.strerror}"]
    return [f"{path}: its file system keeps no modes"] if left else []
