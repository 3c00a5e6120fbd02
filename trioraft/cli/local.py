"""The clusters that ``trioraft up`` runs on this machine, which a command looks for when it has no other address.

Each ``trioraft up`` keeps a small file with its nodes' addresses, locked for as long as its process lives. So a
command finds the cluster by any of the nodes that are left, and the file of a killed process does not mislead it.
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
_CONTROL: Final = ".ctl"


def _directory() -> Path:
    """Return this user's directory for files that live as long as processes."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime, "trioraft") if runtime else Path(tempfile.gettempdir(), f"trioraft-up-{os.geteuid()}")


def _is_own(directory: Path) -> bool:
    """Check whether a directory exists in which no other user can have put anything."""
    try:
        found = directory.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022


@contextmanager
def announced(peers: str) -> Iterator[bool]:
    """Announce a cluster to commands for as long as the block lasts.

    Parameters
    ----------
    peers : str
        Its nodes, as ``PEERS`` has them.

    Yields
    ------
    bool
        Whether the cluster is announced; it runs all the same where there is no place for the file.
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
            # The file gets its name after it is locked. No two living clusters have the same ports, so the name is
            # not that of a living one.
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


def control_socket(peers: str) -> Path:
    """Return the path of the socket by which ``trioraft up ctl`` reaches a cluster.

    Parameters
    ----------
    peers : str
        Its nodes, as ``PEERS`` has them.

    Returns
    -------
    pathlib.Path
        The path, in this user's directory.
    """
    return _directory() / f"{peers.partition(',')[0]}{_CONTROL}"


def controlled_clusters() -> list[Path]:
    """List the sockets of the clusters that ``trioraft up`` runs now for this user."""
    living = {control_socket(peers) for peers in running_clusters()}
    return sorted(path for path in living if path.exists())


def running_clusters() -> list[str]:
    """List the clusters that ``trioraft up`` runs now for this user, each as ``PEERS`` has its nodes."""
    directory = _directory()
    if not _is_own(directory):
        return []
    return [
        peers
        for path in sorted(directory.iterdir())
        if path.suffix not in {".new", _CONTROL} and (peers := _read(path))
    ]


def _read(path: Path) -> str:
    """Read the file of a living process; empty where its process has ended."""
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
    """Return the nodes that a command asks when it has no other address.

    Returns
    -------
    str or None
        The nodes of the cluster that has the default port; else, where no other program has that port, those of the
        only cluster. None where no cluster runs.

    Raises
    ------
    CommandError
        If there are several clusters.
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
