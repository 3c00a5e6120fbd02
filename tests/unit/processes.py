"""Real scripts, and what has become of their processes."""

from pathlib import Path

import trio

from trioraft.clock import boottime

# A script with a family: a child, one in a session of its own, and one whose parent has ended and that has done
# everything to become a daemon. All write down their process ids. {ignore} is run by each of them first.
_FAMILY = """
{ignore}
echo $$ >> {pids}
sh -c '{ignore}
  echo $$ >> {pids}; while :; do sleep 0.05; done' &
setsid sh -c '{ignore}
  echo $$ >> {pids}; while :; do sleep 0.05; done' &
python3 -c '
import os, signal, sys, time
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
if "{ignore}": signal.signal(signal.SIGTERM, signal.SIG_IGN)
open("{pids}", "a").write(str(os.getpid()) + chr(10))
os.closerange(0, 100)
time.sleep(1000)'
while :; do sleep 0.05; done
"""
FAMILY_SIZE = 4


def write_script(directory: Path, body: str) -> str:
    """Write an executable, for sh unless the body says otherwise."""
    path = directory / f"script-{len(list(directory.iterdir()))}"
    path.write_text(body if body.startswith("#!") else f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def family(pids: Path, *, ignores_sigterm: bool) -> str:
    """Return the body of a script with a family of FAMILY_SIZE, who write their process ids to a file."""
    return _FAMILY.format(pids=pids, ignore='trap "" TERM' if ignores_sigterm else "")


def is_alive(pid: int) -> bool:
    """Check whether a process can still do anything: it is no zombie, and has not lost its memory while it ends."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return False
    virtual_memory = rest[19]  # field 23 of proc(5), counted from the process id
    return state != "Z" and virtual_memory != "0"


def numbers_in(path: Path) -> list[int]:
    return [int(word) for word in path.read_text().split()] if path.exists() else []


async def pids_in(path: Path, count: int) -> list[int]:
    """Wait until scripts have written down the process ids of what they started."""
    with trio.fail_after(20):
        while len(numbers_in(path)) < count:
            await trio.sleep(0.01)
    return numbers_in(path)


async def gone(*pids: int, within: float = 2.0) -> float:
    """Wait until processes have ended, and return the time."""
    with trio.fail_after(within):
        while any(is_alive(pid) for pid in pids):
            await trio.sleep(0.005)
    return boottime()
