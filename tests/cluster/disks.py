"""Disks of real nodes, and what goes wrong with them: small file systems that can be full, system calls that fail."""

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import trio


class NoDiskError(Exception):
    """A file system cannot be made or mounted here."""


def _done(*command: str) -> bool:
    """Run a command, out of reach of a Ctrl-C that is meant for this process; tells whether it has succeeded."""
    try:
        return subprocess.run(command, capture_output=True, check=False, start_new_session=True).returncode == 0
    except FileNotFoundError:
        return False


def _mount(path: Path, size: str, *, in_memory: bool) -> None:
    if in_memory:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    else:
        image = path.with_suffix(".img")
        if not (_done("truncate", "-s", size, str(image)) and _done("mkfs.ext4", "-q", "-F", str(image))):
            raise NoDiskError(f"cannot make a file system in {image}")
        command = ["mount", "-o", "loop", str(image), str(path)]
    if not _done(*command):
        raise NoDiskError(f"cannot mount: {' '.join(command)}")


@contextmanager
def small_disk(path: Path, size: str, *, in_memory: bool = True) -> Iterator[None]:
    """Have a file system of its own in a directory.

    Parameters
    ----------
    path : Path
        The directory, which must not exist yet.
    size : str
        As ``truncate`` writes it: ``2m``.
    in_memory : bool
        Whether it is in memory. Otherwise it is in a file beside the directory, and what is synced goes to the
        disk of that file.

    Raises
    ------
    NoDiskError
        That cannot be done here.
    """
    path.mkdir(parents=True)
    _mount(path, size, in_memory=in_memory)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True, start_new_session=True)


def fill(path: Path) -> None:
    """Write until there is no room."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    assert shutil.disk_usage(path.parent).free == 0


def can_tamper() -> bool:
    """Check whether :func:`tampered` works here."""
    return os.geteuid() == 0 and shutil.which("strace") is not None


async def _is_free(pid: int) -> bool:
    return "TracerPid:\t0\n" in await trio.Path(f"/proc/{pid}/status").read_text("ascii")


@asynccontextmanager
async def tampered(pid: int, *injections: str) -> AsyncIterator[None]:
    """Have system calls of a process fail or take long, for as long as the block lasts."""
    options = [option for injection in injections for option in ("-e", f"inject={injection}")]
    names = ",".join(injection.split(":")[0] for injection in injections)
    tracer = await trio.lowlevel.open_process(
        ["strace", "-f", "-qq", "-p", str(pid), "-e", f"trace={names}", "-o", "/dev/null", *options]
    )
    try:
        with trio.fail_after(10):
            # A process may have ended of it before this is seen.
            while tracer.poll() is None and await _is_free(pid):
                await trio.sleep(0.01)
        yield
    finally:
        if tracer.returncode is None:
            tracer.terminate()
        with trio.CancelScope(shield=True):
            await tracer.wait()
