"""The disk against a model of it: any writes, in any order, with restarts and refusals of the system between them."""

import random
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.power_cut.model import DiskState, next_write
from trioraft.storage.database import SqliteDisk, StorageError


class DiskAgainstModel(RuleBasedStateMachine):
    """Writes to a disk and to a model, and opens the disk again."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.state = DiskState()
        self.number = 0

    @initialize()
    def make(self) -> None:
        self.disk = SqliteDisk(self.directory)
        self.node_id = self.disk.node_id

    @rule(seed=st.integers(0, 2**32), count=st.integers(1, 5))
    def write(self, seed: int, count: int) -> None:
        chance = random.Random(seed)
        for _ in range(count):
            self.number += 1
            write = next_write(self.number, self.state, chance)
            self.disk.save_now(write)
            self.state = self.state.after(write)

    @rule(seed=st.integers(0, 2**32))
    def fail(self, seed: int) -> None:
        """Have a write refused, which leaves everything as it was."""
        write = next_write(self.number + 1, self.state, random.Random(seed))
        self.disk._db.execute("PRAGMA query_only = ON")
        try:
            self.disk.save_now(write)
        except StorageError:
            pass
        else:
            assert self.state.after(write) == self.state  # there was nothing to write
        self.reopen()

    @rule()
    def reopen(self) -> None:
        self.disk.close()
        self.disk = SqliteDisk(self.directory)

    @rule()
    def copy(self) -> None:
        """Open a copy of the files as they are now: what a process leaves that is killed."""
        copy = Path(tempfile.mkdtemp())
        shutil.copytree(self.directory, copy, dirs_exist_ok=True)
        found = SqliteDisk(copy)
        assert DiskState.of(found) == self.state
        found.close()
        shutil.rmtree(copy)

    @invariant()
    def same_node(self) -> None:
        assert self.disk.node_id == self.node_id

    def teardown(self) -> None:
        self.reopen()
        assert DiskState.of(self.disk) == self.state
        self.disk.close()
        shutil.rmtree(self.directory)


TestDiskAgainstModel = DiskAgainstModel.TestCase
TestDiskAgainstModel.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
