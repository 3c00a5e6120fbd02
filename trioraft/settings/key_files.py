"""The users who may read a file with keys.

A user who reads the key of a cluster controls the cluster. So a node and the monitor warn of a key file that every
user of the machine may read or change. A file that its group may read is fine: Kubernetes gives pods their secrets by
a group (``fsGroup``). So is any mode on a file system that is mounted read-only, as the secrets of Docker and
Kubernetes are: a container has no other users, and from inside nobody sees who may read the file outside.
"""

import os
import stat
from pathlib import Path
from typing import Final

_OTHERS: Final = stat.S_IROTH | stat.S_IWOTH


def why_not_secret(path: str) -> str:
    """Describe why a file is no secret.

    Parameters
    ----------
    path : str
        A file with keys, or a link to one.

    Returns
    -------
    str
        One line, for a warning; empty where only the owner and the group may read the file.
    """
    try:
        real = Path(path).resolve()
        mode = real.stat().st_mode
        is_read_only = bool(os.statvfs(real).f_flag & os.ST_RDONLY)
        can_be_reached = all(directory.stat().st_mode & stat.S_IXOTH for directory in real.parents)
    except OSError:
        return ""  # the file is gone, or is none
    if not stat.S_ISREG(mode) or not mode & _OTHERS or is_read_only or not can_be_reached:
        return ""
    what = "read" if mode & stat.S_IROTH else "change"
    return (
        f"{real}: every user of this machine may {what} this file with a key (mode {stat.S_IMODE(mode):03o});"
        " chmod 600 it, and make a new key if somebody may have had it"
    )


def key_file_warning(path: str) -> str:
    """Warn of the key file of a program.

    Parameters
    ----------
    path : str
        ``CLUSTER_KEY_FILE``; empty for none.

    Returns
    -------
    str
        One line; empty without a reason to warn.
    """
    problem = why_not_secret(path) if path else ""
    return f"CLUSTER_KEY_FILE={problem}" if problem else ""
