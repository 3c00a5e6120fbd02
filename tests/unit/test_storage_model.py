"""The disk against a model of it: any writes, in any order, with restarts, crashes and refusals between them.

Snapshots are files beside the database: each is whole before it becomes the valid one, and only then older ones go.
"""

import random
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.power_cut.model import DiskState, chunks_of, next_write, snapshot_of
from tests.power_cut.workload import write_snapshot
from trioraft.storage.database import Durability, SqliteDisk
from trioraft.storage.errors import StorageError
from trioraft.storage.snapshots import SnapshotWriter, path_of, read_chunks, remove_leftovers, remove_older


def _read_snapshot(disk: SqliteDisk) -> None:
    if disk.snapshot is not None:
        assert list(read_chunks(disk.directory, disk.snapshot)) == chunks_of(disk.snapshot.index)


class DiskAgainstModel(RuleBasedStateMachine):
    """Writes to a disk and to a model, and opens the disk again."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.state = DiskState()
        self.number = 0
        self.durability: Durability = "sync"

    @initialize(durability=st.sampled_from(["sync", "memory"]))
    def make(self, durability: Durability) -> None:
        self.durability = durability
        self.disk = SqliteDisk(self.directory, durability=durability)
        self.node_id = self.disk.node_id
        if durability == "memory":
            self.disk.mark_unsynced()

    @rule(seed=st.integers(0, 2**32), count=st.integers(1, 5))
    def write(self, seed: int, count: int) -> None:
        chance = random.Random(seed)
        for _ in range(count):
            self.number += 1
            write = next_write(self.number, self.state, chance)
            if write.snapshot is not None:
                write_snapshot(self.directory, write.snapshot)
            self.disk.save_now(write)
            if write.snapshot is not None:
                remove_older(self.directory, write.snapshot)
            self.state = self.state.after(write)

    @rule(seed=st.integers(0, 2**32))
    def fail(self, seed: int) -> None:
        """Let a write fail, which leaves everything as it was."""
        write = next_write(self.number + 1, self.state, random.Random(seed))
        self.disk._db.execute("PRAGMA query_only = ON")
        try:
            self.disk.save_now(write)
        except StorageError:
            pass
        else:
            assert self.state.after(write) == self.state  # there was nothing to write
        self.reopen()

    @rule(index=st.integers(1, 100), whole=st.booleans())
    def leave_unfinished(self, index: int, whole: bool) -> None:
        """Crash while a snapshot is written, or when it is whole and not in the database yet."""
        if whole:
            write_snapshot(self.directory, snapshot_of(index, 1))
        else:
            SnapshotWriter(self.directory, index).write(b"some bytes")
        self.reopen()

    @rule()
    def reopen(self) -> None:
        """End the process and start it again, which removes what was left unfinished."""
        self.disk.close()
        self.disk = SqliteDisk(self.directory, durability=self.durability)
        remove_leftovers(self.directory, self.disk.snapshot)
        there = sorted(self.directory.glob("snapshot-*"))
        valid = self.disk.snapshot
        assert there == ([] if valid is None else [path_of(self.directory, valid)])

    @rule()
    def copy(self) -> None:
        """Open a copy of the files as they are now, which is what a killed process leaves."""
        copy = Path(tempfile.mkdtemp())
        shutil.copytree(self.directory, copy, dirs_exist_ok=True)
        found = SqliteDisk(copy)
        assert DiskState.of(found) == self.state
        assert found.log_is_unsynced == (self.durability == "memory")
        _read_snapshot(found)
        found.close()
        shutil.rmtree(copy)

    @invariant()
    def same_node(self) -> None:
        assert self.disk.node_id == self.node_id

    @invariant()
    def the_valid_snapshot_can_be_read(self) -> None:
        if self.state.snapshot is not None:
            assert list(read_chunks(self.directory, self.state.snapshot)) == chunks_of(self.state.snapshot.index)

    def teardown(self) -> None:
        self.reopen()
        assert DiskState.of(self.disk) == self.state
        self.disk.close()
        shutil.rmtree(self.directory)


TestDiskAgainstModel = DiskAgainstModel.TestCase
TestDiskAgainstModel.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
