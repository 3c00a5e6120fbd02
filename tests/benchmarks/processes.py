"""The processes of a benchmark: workers that answer in lines of JSON, and what the kernel counts for each process."""

import json
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

from tests.cluster.harness import clean_environment

ROOT: Final = Path(__file__).parents[2]
TICKS: Final = os.sysconf("SC_CLK_TCK")
_PATIENCE: Final = 60.0  # seconds that an answer may take longer than it was asked to


class WorkerError(Exception):
    """A process of the benchmark has ended, or does not answer."""


@dataclass(frozen=True)
class Build:
    """An interpreter with trioraft, or with a peer.

    Attributes
    ----------
    python : str
        The interpreter.
    sources : Path or None
        Where trioraft is imported from; None for what is installed for the interpreter.
    """

    python: str
    sources: Path | None = None

    def environment(self, directory: Path) -> dict[str, str]:
        """Return the environment of its processes: of the workers' modules there is nothing but a link."""
        modules = directory / "modules"
        if not modules.exists():
            modules.mkdir()
            (modules / "tests").symlink_to(ROOT / "tests")
        path = [str(modules), *([str(self.sources)] if self.sources else [])]
        return {**clean_environment(), "PYTHONPATH": ":".join(path), "PYTHONDONTWRITEBYTECODE": "1"}


class Processes:
    """Processes that end with the block, each by its id; their output is kept in a directory until then.

    Attributes
    ----------
    directory : Path
        The directory, which is also theirs for their data.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="trioraft-benchmark-", ignore_cleanup_errors=True)
        self.directory = Path(self._folder.name)
        self._started: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        self._folder.cleanup()

    def end(self) -> None:
        """Kill all, which only a benchmark may do that is done with them."""
        for process in self._started:
            process.kill()
        for process in self._started:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(BrokenPipeError):
                        pipe.close()
        self._started.clear()

    def start(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], *, talks: bool = False
    ) -> "subprocess.Popen[str]":
        """Start a process whose standard error, or all of its output, goes to a file of that name."""
        with self.log(name).open("wb") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if talks else log,
                stderr=log,
                env=environment,
                cwd=self.directory,
                text=True,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    @property
    def pids(self) -> list[int]:
        """All that were started, those included that have ended."""
        return [process.pid for process in self._started]

    def log(self, name: str) -> Path:
        """Return where the output of a process goes."""
        return self.directory / f"{name}.log"

    def worker(self, name: str, build: Build, module: str, configuration: Mapping[str, Any]) -> "Worker":
        """Start a module of :mod:`tests.benchmarks.workers`."""
        command = [build.python, "-P", "-m", f"tests.benchmarks.workers.{module}", json.dumps(configuration)]
        return Worker(self.start(name, command, build.environment(self.directory), talks=True), self.log(name))


class Worker:
    """A process that answers in lines of JSON.

    Parameters
    ----------
    process : subprocess.Popen
        The process.
    log : Path
        Where its standard error goes.
    """

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        self.pid = process.pid
        self._process = process
        self._log = log

    def started(self) -> None:
        """Wait until it has started."""
        self._read(_PATIENCE)

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Have it carry out a command, and return its answer."""
        asked, _ = _pipes(self._process)
        with suppress(BrokenPipeError):
            asked.write(json.dumps({"command": command, **arguments}) + "\n")
            asked.flush()
        return self._read(_PATIENCE + float(arguments.get("seconds", 0)))

    def _read(self, seconds: float) -> dict[str, Any]:
        _, answers = _pipes(self._process)
        impatient = threading.Timer(seconds, os.kill, (self.pid, signal.SIGKILL))
        impatient.start()
        try:
            line = answers.readline()
        finally:
            impatient.cancel()
        if not line:
            told = self._log.read_text("utf-8", "replace").splitlines()[-12:]
            raise WorkerError("\n".join([f"{self._log.stem} has ended or did not answer", *told]))
        answer: dict[str, Any] = json.loads(line)
        return answer


def _pipes(process: "subprocess.Popen[str]") -> tuple[IO[str], IO[str]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


def cpu_seconds(pids: Sequence[int]) -> float:
    """Add up what processes have used of processors, at a resolution of 10 ms."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def resident_mebibytes(pid: int) -> float:
    """Return the memory that a process has in use."""
    for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(pid)
