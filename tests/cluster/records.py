"""What :mod:`tests.cluster.recording_script` has recorded, and what of it still runs."""

import os
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tests.unit.processes import write_script

_SCRIPT = Path(__file__).with_name("recording_script.py")
VARIABLE = "RECORD_DIR"
KINDS = ("child", "script", "session")


@dataclass(frozen=True)
class Interval:
    """When processes of one token ran on one node: from the first to the last time that one of them recorded."""

    token: int
    node: str
    start: float
    end: float
    kinds: tuple[str, ...]


class Records:
    """The records of a cluster's leader scripts in a directory, which must be empty at first."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "records"
        self.directory.mkdir()
        scripts = directory / "scripts"
        scripts.mkdir()
        self.script = write_script(scripts, f"exec {sys.executable} -I -S {_SCRIPT}")

    @property
    def environment(self) -> dict[str, str]:
        """What the nodes need in their environment."""
        return {"SCRIPT_LEADER_PATH": self.script, VARIABLE: str(self.directory)}

    def intervals(self) -> list[Interval]:
        """List what ran, by start."""
        files: dict[tuple[int, str], list[tuple[str, float, float]]] = {}
        for path in self.directory.iterdir():
            token, node, kind, _ = path.name.split(".")
            lines = path.read_text().splitlines()
            if lines:
                files.setdefault((int(token), node), []).append((kind, float(lines[0]), float(lines[-1])))
        found = [
            Interval(
                token,
                node,
                min(start for _, start, _ in times),
                max(end for _, _, end in times),
                tuple(sorted(kind for kind, _, _ in times)),
            )
            for (token, node), times in files.items()
        ]
        return sorted(found, key=lambda interval: interval.start)

    def newest_token(self) -> int:
        return max((int(path.name.split(".")[0]) for path in self.directory.iterdir()), default=0)

    def processes_of(self, token: int) -> list[int]:
        """List the processes that have recorded under a token, whether they still run or not."""
        names = [path.name.split(".") for path in self.directory.iterdir()]
        return [int(name[3]) for name in names if int(name[0]) == token]

    def carriers(self) -> list[int]:
        """List the processes that this directory is in the environment of: nodes, supervisors and scripts."""
        marker = f"{VARIABLE}={self.directory}".encode()
        return [pid for pid in _processes() if marker in _environment(pid)]


def check_exclusive(intervals: list[Interval]) -> None:
    """See that no two intervals overlap, and that tokens only grow."""
    for one, other in pairwise(intervals):
        assert one.token < other.token, f"{other} started with an older token than {one}"
        assert one.end < other.start, f"{other} started {one.end - other.start:.3f} s before the end of {one}"


def supervisor_of(node: int) -> int:
    """Find the supervisor of a node by the node's process id."""
    for pid in _processes():
        if _parent(pid) == node and b"supervisor.py" in _command(pid):
            return pid
    raise AssertionError(f"process {node} has no supervisor")


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _environment(pid: int) -> list[bytes]:
    return _read(pid, "environ").split(b"\0")


def _command(pid: int) -> bytes:
    return _read(pid, "cmdline")


def _parent(pid: int) -> int:
    stat = _read(pid, "stat").rpartition(b")")[2].split()
    return int(stat[1]) if stat else 0


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""
