"""The place where a process runs: the lock of its node's directory, under the kernel that keeps the lock.

A process that has the lock of the very file that an earlier process had locked knows that the earlier one has ended.
That is so only under the same kernel, which keeps the locks, and only with the same file. A copy of the directory has
another file, so its processes know nothing of the original's.
"""

import io
import os
from pathlib import Path
from typing import Final

# It is drawn when the kernel starts (Linux: random(4)).
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def place_of(lock: io.FileIO) -> str:
    """Name the place of the process that holds a lock.

    Parameters
    ----------
    lock : io.FileIO
        The file whose lock it holds.

    Returns
    -------
    str
        The kernel's boot, the file system and the file; empty where the system does not tell the first.
    """
    try:
        boot = _BOOT_ID.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    file = os.fstat(lock.fileno())
    return f"{boot} {file.st_dev} {file.st_ino}" if boot else ""
