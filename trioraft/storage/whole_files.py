"""Files that are there whole or not at all, and that replace nothing."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from trioraft.storage.directories import sync_directory
from trioraft.storage.errors import FileError, FileIsThereError


@contextlib.contextmanager
def reported(path: Path) -> Iterator[None]:
    """Turn an error of the system into one line.

    Parameters
    ----------
    path : Path
        The file that is being written.

    Raises
    ------
    FileError
        In place of the error of the system.
    """
    try:
        yield
    except OSError as error:
        raise FileError(f"{path}: {error.strerror}; choose another place") from error


@contextlib.contextmanager
def unfinished_file(path: Path) -> Iterator[Path]:
    """Make an empty file beside the one that is to be made; it is removed when the block ends.

    Parameters
    ----------
    path : Path
        The file that is to be made; there must be none.

    Yields
    ------
    Path
        The file, for :func:`publish`.

    Raises
    ------
    FileError
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
    """Rename a file that is whole to its final name, durably.

    Parameters
    ----------
    unfinished : Path
        The file, in the same directory.
    path : Path
        Its name from now on. A file that got that name meanwhile stays, and it is an error.

    Raises
    ------
    FileError
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


def _exists(path: Path) -> FileIsThereError:
    return FileIsThereError(f"{path}: exists already; give another name, or remove it")
