"""`trioraft lead` as a process: its command is kept running, its output passes through, and its state is told."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE

import trio

from tests.cluster.harness import LOOPBACK, ROOT, clean_environment, free_ports
from tests.unit.processes import is_alive

# The first run writes bytes that are no text, leaves a child behind that ignores SIGTERM, and fails.
FIRST_FAILS = r"""
if mkdir "$0/ran" 2>/dev/null; then
    printf 'out \377\0 no line'
    echo err >&2
    (trap '' TERM; sleep 1000) >/dev/null 2>&1 & echo $! >"$0/left"
    exit 3
fi
kill -0 "$(cat "$0/left")" 2>/dev/null && echo overlap
echo "again $TRIORAFT_FENCING_TOKEN"
exec sleep 1000
"""


async def run(port: int, *arguments: str) -> tuple[int, str]:
    """Run a command beside the node, and return its exit status and all that it wrote."""
    command = [sys.executable, "-m", "trioraft", *arguments]
    environment = {**clean_environment(), "BIND_PORT": str(port), "PYTHONPATH": str(ROOT)}
    with trio.fail_after(60):
        done = await trio.run_process(command, check=False, capture_stdout=True, capture_stderr=True, env=environment)
    return done.returncode, (done.stdout + done.stderr).decode()


@asynccontextmanager
async def lead(tmp_path: Path, port: int, *arguments: str) -> AsyncIterator[trio.Process]:
    environment = {
        **clean_environment(),
        "BIND_HOST": LOOPBACK,
        "BIND_PORT": str(port),
        "PEERS": f"{LOOPBACK}:{port}",
        "PYTHONPATH": str(ROOT),
        "DATA_DIR": str(tmp_path / "data"),
        "BOOTSTRAP_EXPECT": "1",
        "ELECTION_TIMEOUT_LOWER_MILLIS": "600",
        "ELECTION_TIMEOUT_UPPER_MILLIS": "1200",
        "HEARTBEAT_REPEAT_MILLIS": "100",
        "HOOK_STOP_GRACE_MILLIS": "300",
        "LOG_FORMAT": "json",
    }
    command = [sys.executable, "-m", "trioraft", "lead", *arguments]
    process = await trio.lowlevel.open_process(command, env=environment, stdout=PIPE, stderr=PIPE)
    try:
        yield process
    finally:
        process.terminate()
        with trio.CancelScope(shield=True):
            await process.wait()


async def read_until(stream: trio.abc.ReceiveStream | None, wanted: bytes) -> bytes:
    assert stream is not None
    data = b""
    with trio.fail_after(90):
        while wanted not in data:
            chunk = await stream.receive_some()
            assert chunk, data
            data += chunk
    return data


async def test_a_command_that_fails_runs_again_and_its_output_is_its_own(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    async with lead(tmp_path, port, "--", "sh", "-c", FIRST_FAILS, str(tmp_path)) as process:
        out = await read_until(process.stdout, b"again")
        assert out.startswith(b"out \xff\0 no lineagain "), out
        log = await read_until(process.stderr, b'"again_in"')
        assert b"\nerr\n" in b"\n" + log
        status, said = await run(port, "healthcheck", "--leader")
        assert (status, said) == (0, "")
        assert "its job: runs for" in (await run(port, "status", "--peers", f"{LOOPBACK}:{port}"))[1]
        assert not is_alive(int((tmp_path / "left").read_text()))


async def test_a_command_that_fails_each_time_is_given_up_and_that_is_told(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    arguments = ("--restart", "on-failure:2", "--log-output", "json", "--", "sh", "-c", "echo a line; exit 3")
    async with lead(tmp_path, port, *arguments) as process:
        assert process.stderr is not None
        log = await read_until(process.stderr, b'"again_in"')
        assert b'"line": "a line"' in log
        with trio.fail_after(90):
            while (await run(port, "healthcheck"))[0] == 0:
                await trio.sleep(0.1)
        for option in ((), ("--leader",)):
            status, said = await run(port, "healthcheck", *option)
            assert status == 1
            assert "its job: failed (exit 3), given up after 2 starts" in said
