"""Cuts the power at every point of a recorded workload, and looks at what is there afterwards."""

import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.power_cut.filesystem import FileSystem, Kept
from tests.power_cut.model import DiskState, chunks_of, workload
from tests.power_cut.recording import Call, Said, record
from trioraft.messages import format_id
from trioraft.storage.database import Durability, SqliteDisk
from trioraft.storage.errors import StorageError
from trioraft.storage.snapshots import read_chunks, remove_leftovers

_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - what is written here is thrown away again


@dataclass
class Outcome:
    """What came of the cuts."""

    points: int = 0
    cuts: int = 0
    failures: list[str] = field(default_factory=list)


@dataclass
class _Promised:
    """What must be on disk at some point of the workload."""

    node: int = 0
    begun: int = 0
    saved: int = 0

    def hear(self, line: str) -> None:
        word, number = line.split()
        match word:
            case "opened":
                self.node = int(number)
            case "begin":
                self.begun = int(number)
            case "saved":
                self.saved = int(number)


@contextmanager
def scratch() -> Iterator[Path]:
    """Return a directory in memory, where there is one: thousands of disks are opened in it."""
    path = Path(tempfile.mkdtemp(prefix="power-cut-", dir=_MEMORY if _MEMORY.is_dir() else None))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def record_workload(
    directory: Path,
    seed: int,
    count: int,
    durability: Durability,
    *,
    program: Sequence[str] = ("tests.power_cut.workload",),
) -> list[Call]:
    """Run a workload to its end and give what it asked of the system."""
    data = directory / "data"
    data.mkdir()
    command = [sys.executable, "-m", *program, str(data), str(seed), str(count), durability]
    return record(command, data, directory / "trace")


class Cutter:
    """Cuts the power.

    Parameters
    ----------
    seed, count : int
        The workload.
    durability : {'sync', 'memory'}
        What the log promises to be: in memory, a write of nothing but entries may be lost.
    """

    def __init__(self, seed: int, count: int, durability: Durability = "sync") -> None:
        self._seed = seed
        self._count = count
        self._durability = durability
        self._writes = [write for write, _ in workload(seed, count)]
        self._states = [DiskState(), *(state for _, state in workload(seed, count))]

    def run(
        self,
        calls: list[Call],
        root: Path,
        *,
        randoms: int = 2,
        points: int | None = None,
        tell: Callable[[int, int], None] = lambda done, of: None,
    ) -> Outcome:
        """Cut the power after each call.

        Parameters
        ----------
        calls : list of Call
            What the workload asked for.
        root : Path
            Where its files were.
        randoms : int
            How often a cut is made at one point that leaves something by chance.
        points : int, optional
            So many points are chosen by chance; all of them by default.
        tell : callable
            Told how many points are done, and of how many.

        Returns
        -------
        Outcome
            What came of it.
        """
        outcome, promised, files = Outcome(), _Promised(), FileSystem(root)
        chosen = set(range(len(calls)))
        if points is not None and points < len(calls):
            chosen = set(random.Random(self._seed).sample(range(len(calls)), points))
        with scratch() as directory:
            for point, call in enumerate(calls):
                files.do(call)
                if isinstance(call, Said):
                    promised.hear(call.line)
                if point not in chosen:
                    continue
                outcome.points += 1
                kinds = ["nothing", "everything", *["something"] * randoms]
                for number, kind in enumerate(kinds):
                    files.leave(directory, Kept(kind, seed=point * 1000 + number))
                    outcome.cuts += 1
                    failure = self._failure(directory, promised)
                    if failure:
                        outcome.failures.append(f"cut after call {point} ({kind} of the rest is there): {failure}")
                tell(outcome.points, len(chosen))
        return outcome

    def _failure(self, directory: Path, promised: _Promised) -> str:
        """Say what is wrong with what a cut has left; nothing if it is right."""
        try:
            disk = SqliteDisk(directory)
        except StorageError as error:
            return str(error)
        try:
            return self._wrong(disk, promised)
        finally:
            disk.close()

    def _wrong(self, disk: SqliteDisk, promised: _Promised) -> str:
        if promised.node and disk.node_id != promised.node:
            return f"it was node {format_id(promised.node)} and is {format_id(disk.node_id)}"
        if promised.node and disk.log_is_unsynced != (self._durability == "memory"):
            return "the disk says the wrong thing of the log"
        found = DiskState.of(disk)
        least = self._least(promised.saved)
        if found not in self._states[least : promised.begun + 1]:
            known = [number for number, state in enumerate(self._states) if state == found]
            what = f"the state after write {known}" if known else "a state that never was"
            return f"{what}, where {least} must be there and {promised.begun} may"
        remove_leftovers(disk.directory, disk.snapshot)
        if disk.snapshot is not None:
            try:
                if list(read_chunks(disk.directory, disk.snapshot)) != chunks_of(disk.snapshot.index):
                    return "the snapshot has another content"
            except StorageError as error:
                return str(error)
        return ""

    def _least(self, saved: int) -> int:
        """Tell up to which write everything must be there."""
        if self._durability == "sync":
            return saved
        while saved and not self._is_synced(saved):
            saved -= 1
        return saved

    def _is_synced(self, number: int) -> bool:
        write = self._writes[number - 1]
        return write.snapshot is not None or write.hard != self._states[number - 1].hard
