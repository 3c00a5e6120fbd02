"""A process that writes to a disk and says, in a line each, what it begins and what was acknowledged.

It is run under strace, which records what it really asks of the system:
``python -m tests.power_cut.workload DIRECTORY SEED COUNT DURABILITY``.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import trio

from tests.power_cut.model import chunks_of, workload
from tests.power_cut.recording import MARK
from trioraft.consensus.ledger import SnapshotInfo
from trioraft.storage import database as storage
from trioraft.storage.database import Durability, SqliteDisk
from trioraft.storage.snapshots import SnapshotWriter, frame, remove_older

# The database is closed and opened again after so many writes.
_REOPEN = 40


def say(line: str) -> None:
    os.write(1, f"{MARK}{line}\n".encode())


def write_snapshot(directory: Path, snapshot: SnapshotInfo) -> None:
    writer = SnapshotWriter(directory, snapshot.index)
    for chunk in chunks_of(snapshot.index):
        writer.write(frame(chunk))
    if not writer.finish(snapshot):
        raise AssertionError("the snapshot is not what it ought to be")


async def run(directory: Path, seed: int, count: int, durability: Durability) -> None:
    disk: SqliteDisk | None = None
    for write, _ in workload(seed, count):
        if disk is None:
            disk = SqliteDisk(directory, durability=durability)
            if durability == "memory":
                disk.mark_unsynced()
            say(f"opened {disk.node_id}")
        say(f"begin {write.number}")
        if write.snapshot is not None:
            write_snapshot(directory, write.snapshot)
        await disk.save(write)
        say(f"saved {write.number}")
        if write.snapshot is not None:
            remove_older(directory, write.snapshot)
        if write.number % _REOPEN == 0:
            disk.close()
            disk = None


def main(arguments: Sequence[str]) -> None:
    directory, seed, count, durability = arguments
    mode: Durability = "memory" if durability == "memory" else "sync"
    with mock.patch.object(storage, "_CHECKPOINT_BYTES", 60_000):
        trio.run(run, Path(directory), int(seed), int(count), mode)


if __name__ == "__main__":
    main(sys.argv[1:])
