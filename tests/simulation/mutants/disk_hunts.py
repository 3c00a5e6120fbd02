"""Hunts on the real disk: a bit of a file is flipped, or the power is cut, and then it is opened again."""

import random
import re
import shutil
import tempfile
from pathlib import Path
from typing import Final

from tests.power_cut.checking import Cutter, record_workload, scratch
from tests.power_cut.model import DiskState, chunks_of, workload
from tests.power_cut.workload import write_snapshot
from tests.simulation.mutants.found import Found
from trioraft.storage.database import SqliteDisk
from trioraft.storage.errors import StorageError
from trioraft.storage.snapshots import path_of, read_chunks

_WRITES: Final = 12
_FLIPS: Final = 24
# Of the power cuts: how long the workload is, and at how many points of it the power is cut.
_CUT_WRITES: Final = 40
_CUT_POINTS: Final = 120
# Where it happened to be.
_PLACE: Final = re.compile(r"/\S*/")


# --- damage -------------------------------------------------------------------------------------------------


def damage(seed: int, _mutant: str) -> Found | None:
    """Flip bits in what a node has written: it is noticed, or changes nothing."""
    chance = random.Random(seed)
    with scratch() as directory:
        node = _write(directory / "whole", seed)
        for flip in range(_FLIPS):
            shutil.copytree(directory / "whole", directory / "damaged")
            where = _flip(directory / "damaged", chance)
            told = _difference(directory / "damaged", node, seed)
            if told:
                return Found(seed, f"flip {flip}, of {where}: {told}")
            shutil.rmtree(directory / "damaged")
    return None


def _write(directory: Path, seed: int) -> int:
    directory.mkdir()
    disk = SqliteDisk(directory, new_id=lambda: 7)
    for write, _ in workload(seed, _WRITES):
        if write.snapshot is not None:
            write_snapshot(directory, write.snapshot)
        disk.save_now(write)
    disk.close()
    return disk.node_id


def _flip(directory: Path, chance: random.Random) -> str:
    """Flip one bit: anywhere, or in the hard state, which is small."""
    path = chance.choice(sorted(directory.iterdir()))
    data = bytearray(path.read_bytes())
    hard = data.find(b'{"term"')
    at = hard + chance.randrange(60) if hard >= 0 and chance.random() < 0.5 else chance.randrange(len(data))
    data[at] ^= 1 << chance.randrange(8)
    path.write_bytes(data)
    return f"byte {at} of {path.name}"


def _difference(directory: Path, node: int, seed: int) -> str:
    """Say what is taken for whole and is not; nothing when the damage is noticed or has changed nothing."""
    (state,) = [state for write, state in workload(seed, _WRITES) if write.number == _WRITES]
    try:
        disk = SqliteDisk(directory)
        try:
            if disk.node_id != node or DiskState.of(disk) != state:
                return "what is on disk was changed, and nobody noticed"
            if disk.snapshot is not None and path_of(directory, disk.snapshot).exists():
                found = list(read_chunks(directory, disk.snapshot))
                return "" if found == chunks_of(disk.snapshot.index) else "the snapshot was changed, unnoticed"
        finally:
            disk.close()
    except StorageError:
        return ""
    except Exception as error:  # whatever is not reported as damage
        return f"{type(error).__name__}: {error}"
    return ""


# --- power cuts ---------------------------------------------------------------------------------------------


def power_cut(seed: int, mutant: str) -> Found | None:
    """Cut the power at many points of a workload: what was acknowledged is there."""
    program = ("tests.power_cut.workload",) if not mutant else ("tests.simulation.mutants.workload", mutant)
    with tempfile.TemporaryDirectory() as name:
        calls = record_workload(Path(name), seed, _CUT_WRITES, "sync", program=program)
        outcome = Cutter(seed, _CUT_WRITES).run(calls, Path(name) / "data", randoms=1, points=_CUT_POINTS)
    return Found(seed, _PLACE.sub("", outcome.failures[0])) if outcome.failures else None
