"""A run of chaos that is broken off leaves nothing behind: no node, no mount, no loop device, no namespace."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from tests.cluster.harness import ROOT, clean_environment

NODES = 3


def nodes_of(directory: Path) -> list[int]:
    """List the processes, paused ones too, whose data is in a directory."""
    wanted = f"DATA_DIR={directory}/".encode()
    found: list[int] = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes().split(b"\0")
        except OSError:
            continue  # it has just ended, or is somebody else's
        if any(variable.startswith(wanted) for variable in environment):
            found.append(int(process.name))
    return found


def left_of(directory: Path, pid: int) -> Iterator[str]:
    """List what there is of a run: nodes, mounts, loop devices and namespaces."""
    yield from (f"process {node}" for node in nodes_of(directory))
    yield from (mount for mount in Path("/proc/self/mounts").read_text().splitlines() if f" {directory}/" in mount)
    for loop in Path("/sys/block").glob("loop*/loop/backing_file"):
        with suppress(OSError):  # that of another test has just been detached
            if loop.read_text().startswith(f"{directory}/"):
                yield str(loop)
    if Path("/run/netns").exists():
        yield from (path.name for path in Path("/run/netns").iterdir() if f"-{pid}-" in path.name)


@pytest.mark.skipif(sys.platform != "linux", reason="what is left is looked for in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
async def test_a_run_that_is_broken_off_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    directory = tmp_path / "life"
    arguments = ["--minutes", "5", "--nodes", str(NODES), "--directory", str(directory)]
    with (tmp_path / "output").open("w") as output:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "tests.cluster.chaos", *arguments],
            cwd=ROOT,
            env=clean_environment(),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        history = directory / "history.ndjson"
        with trio.fail_after(60):
            while not history.exists() or history.stat().st_size == 0 or len(nodes := nodes_of(directory)) < NODES:
                assert process.poll() is None, (tmp_path / "output").read_text()
                await trio.sleep(0.1)
        assert list(left_of(directory, process.pid))
        with suppress(ProcessLookupError):  # the storm may just have killed it
            os.kill(nodes[0], signal.SIGSTOP)
        os.killpg(process.pid, number)  # to all of the group, as a terminal does
        with trio.fail_after(60):
            assert await process.wait() == 128 + number, (tmp_path / "output").read_text()
    finally:
        if process.poll() is None:
            process.terminate()
    assert f"broken off by {number.name}" in (tmp_path / "output").read_text()
    with trio.move_on_after(10):
        while list(left_of(directory, process.pid)):
            await trio.sleep(0.1)
    assert list(left_of(directory, process.pid)) == []
