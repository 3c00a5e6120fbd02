"""What a process asked of its file system, in order, as strace saw it."""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

_TRACED: Final = (
    "openat,write,pwrite64,writev,pwritev,pwritev2,fsync,fdatasync,ftruncate,truncate,fallocate,sync_file_range,"
    "rename,renameat,renameat2,unlink,unlinkat,link,linkat,mkdir,mkdirat,rmdir"
)


# What a line begins with that is meant for whoever reads the recording; others come from programs it starts.
MARK: Final = "# "


@dataclass(frozen=True)
class Said:
    """A line that the process wrote to its standard output, and that began with :data:`MARK`."""

    line: str


@dataclass(frozen=True)
class Created:
    """A name that is there from now on, of an empty file unless there was one."""

    path: str
    emptied: bool


@dataclass(frozen=True)
class Wrote:
    """Some bytes; `offset` is None where the file ends."""

    path: str
    offset: int | None
    data: bytes


@dataclass(frozen=True)
class Truncated:
    path: str
    size: int


@dataclass(frozen=True)
class Synced:
    path: str


@dataclass(frozen=True)
class Renamed:
    path: str
    to: str


@dataclass(frozen=True)
class Removed:
    path: str


Call: TypeAlias = Said | Created | Wrote | Truncated | Synced | Renamed | Removed

_LINE: Final = re.compile(r"^\d+ +(\w+)\((.*)\) += (-?\d+)")
_UNFINISHED: Final = re.compile(r"^(\d+) +(.*) <unfinished \.\.\.>$")
_RESUMED: Final = re.compile(r"^(\d+) +<\.\.\. \w+ resumed>(.*)$")
_STRING: Final = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_DESCRIPTOR: Final = re.compile(r"^(\d+)<((?:\\x[0-9a-f]{2})*)>")


def record(command: list[str], directory: Path, trace: Path) -> list[Call]:
    """Run a command to its end, and return what it asked for in a directory, and what it said.

    Parameters
    ----------
    command : list of str
        The command.
    directory : Path
        Where its files are.
    trace : Path
        A file for strace to write.

    Returns
    -------
    list of Call
        In the order they were done.
    """
    options = ["-f", "-qq", "-y", "-xx", "-s", "100000000", "-e", "signal=none", "-e", f"trace={_TRACED}"]
    subprocess.run(["strace", *options, "-o", str(trace), *command], check=True, stdout=subprocess.DEVNULL)
    with trace.open(encoding="ascii") as lines:
        return list(_calls(_whole(lines), f"{directory}"))


def _whole(lines: Iterator[str]) -> Iterator[str]:
    """Put calls together that another thread's came between."""
    begun: dict[str, str] = {}
    for line in lines:
        if match := _UNFINISHED.match(line):
            begun[match[1]] = match[0].removesuffix(" <unfinished ...>")
        elif match := _RESUMED.match(line):
            yield begun.pop(match[1]) + match[2]
        else:
            yield line


def _calls(lines: Iterator[str], directory: str) -> Iterator[Call]:
    for line in lines:
        match = _LINE.match(line)
        if match is None or int(match[3]) < 0:
            continue
        call = _call(match[1], match[2], int(match[3]), directory)
        if call is not None and not getattr(call, "path", "").endswith("-shm"):  # is made anew after a crash
            yield call


def _call(name: str, arguments: str, result: int, directory: str) -> Call | None:
    strings = [_bytes(found) for found in _STRING.findall(arguments)]
    descriptor = _DESCRIPTOR.match(arguments)
    path = _bytes(descriptor[2]).decode() if descriptor else ""
    if name == "write" and descriptor and descriptor[1] == "1":
        line = strings[0].decode(errors="replace")
        return Said(line.removeprefix(MARK).strip()) if line.startswith(MARK) else None
    if name in {"rename", "renameat", "renameat2", "unlink", "unlinkat", "openat"}:
        path = strings[0].decode()
    if not path.startswith(directory):
        return None
    match name:
        case "openat":
            return Created(path, "O_TRUNC" in arguments) if "O_CREAT" in arguments else None
        case "write":
            return Wrote(path, None, strings[0][:result])
        case "pwrite64":
            return Wrote(path, int(arguments.rsplit(",", 1)[1]), strings[0][:result])
        case "ftruncate":
            return Truncated(path, int(arguments.rsplit(",", 1)[1]))
        case "fsync" | "fdatasync":
            return Synced(path)
        case "rename" | "renameat" | "renameat2":
            return Renamed(path, strings[1].decode())
        case "unlink" | "unlinkat":
            return Removed(path)
    raise ValueError(f"{path}: the system call {name} is traced, but not known here")


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))
