"""Where ``trioraft up`` runs clusters on this machine: commands that are told nothing else look there.

Each of them keeps a small file with its nodes' addresses, locked for as long as its process lives; so a command finds
the cluster by whichever nodes are left, and is not led astray by one that was killed.
"""

import errno
import fcntl
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from trioraft.cli.exits import WRONG, CommandError
from trioraft.launching import LOOPBACK
from trioraft.settings.variables import DEFAULT_PORT
from trioraft.storage.private import open_new

_DEFAULT: Final = f"{LOOPBACK}:{DEFAULT_PORT}"
_FILE_MAX: Final = 64 * 1024


def _directory() -> Path:
    """Give this user's directory for what lasts as long as processes do."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime, "trioraft") if runtime else Path(tempfile.gettempdir(), f"trioraft-up-{os.geteuid()}")


def _is_own(directory: Path) -> bool:
    """Tell whether a directory is there that nobody else may have put anything in."""
    try:
        found = directory.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022


@contextmanager
def announced(peers: str) -> Iterator[bool]:
    """Tell commands of a cluster for as long as the block lasts.

    Parameters
    ----------
    peers : str
        Its nodes, as ``PEERS`` has them.

    Yields
    ------
    bool
        Whether they are told; a cluster runs all the same where there is no place to.
    """
    directory = _directory()
    with ExitStack() as stack:
        try:
            directory.mkdir(mode=0o700, exist_ok=True)
            if not _is_own(directory):
                raise PermissionError(errno.EPERM, "is somebody else's", str(directory))
            name = directory / f"{os.getpid()}.new"
            stack.callback(_remove, name)
            file = stack.enter_context(open_new(name))
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(peers.encode("ascii"))
            file.flush()
            # Nobody sees it before it is locked. No two live ones have the same ports, so no live one is replaced.
            stack.callback(_remove, name.replace(directory / peers.partition(",")[0]))
        except OSError:
            yield False
            return
        yield True


def _remove(name: Path) -> None:
    with suppress(OSError):
        name.unlink()
    with suppress(OSError):
        name.parent.rmdir()


def running_clusters() -> list[str]:
    """List the clusters that ``trioraft up`` runs now for this user, each as ``PEERS`` has its nodes."""
    directory = _directory()
    if not _is_own(directory):
        return []
    return [peers for path in sorted(directory.iterdir()) if path.suffix != ".new" and (peers := _read(path))]


def _read(path: Path) -> str:
    """Read a file whose process lives, else nothing."""
    try:
        with path.open(encoding="ascii", errors="replace") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read(_FILE_MAX)
    except OSError:
        pass
    return ""


def default_peers() -> str | None:
    """Tell where a command looks that is told nothing.

    Returns
    -------
    str or None
        The nodes of the cluster that has the default port; else, where nothing else has it, those of the only cluster
        there is. None where none runs.

    Raises
    ------
    CommandError
        If there are several.
    """
    found = running_clusters()
    for peers in found:
        if _DEFAULT in peers.split(","):
            return peers
    if not found or _is_taken():
        return None
    if len(found) > 1:
        those = " and ".join(peers.partition(",")[0] for peers in found)
        raise CommandError(f"several clusters run here, at {those}: choose one with --peers", WRONG)
    return found[0]


def _is_taken() -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((LOOPBACK, DEFAULT_PORT))
        except OSError:
            return True
    return False
