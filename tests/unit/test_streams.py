"""Standard streams that neither block nor fail: real pipes and files, and programs that end."""

import fcntl
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from trioraft.streams import QueuedStream

ROOT = Path(__file__).parents[2]
LINE = "x" * 99 + "\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    yield reader, writer
    for end in (reader, writer):
        try:
            os.close(end)
        except OSError:
            continue


def read_all(descriptor: int, until: str, seconds: float = 10) -> str:
    os.set_blocking(descriptor, False)
    text, deadline = "", time.monotonic() + seconds
    while until not in text:
        assert time.monotonic() < deadline, text[-1000:]
        try:
            text += os.read(descriptor, 1 << 20).decode()
        except BlockingIOError:
            time.sleep(0.01)
    return text


@pytest.mark.parametrize("blocking", [True, False])
def test_lines_that_nobody_reads_are_counted_but_for_the_newest(pipe: tuple[int, int], blocking: bool) -> None:
    reader, writer = pipe
    os.set_blocking(writer, blocking)
    stream = QueuedStream(writer)
    began = time.monotonic()
    for number in range(20_000):
        stream.write(f"{number:05} {LINE}")
    print("the last one", file=stream)
    assert time.monotonic() - began < 5
    assert stream.lines_dropped > 5000
    text = read_all(reader, "the last one\n")
    numbers = [int(line[:5]) for line in text.splitlines() if line.endswith("x")]
    gaps = [int(line.split()[1]) for line in text.splitlines() if "lines were dropped here" in line]
    assert sum(gaps) == stream.lines_dropped
    assert numbers == sorted(numbers)
    assert len(numbers) == 20_000 - stream.lines_dropped
    assert numbers[-1] == 19_999


def test_a_reader_that_has_gone_is_no_error(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    stream = QueuedStream(writer)
    print("one", file=stream, flush=True)
    assert read_all(reader, "\n") == "one\n"
    os.close(reader)
    for number in range(10):
        print(number, file=stream, flush=True)
    stream.drain(5)
    assert stream.lines_dropped == 10


def test_a_line_that_found_no_room_leaves_the_next_ones_whole(tmp_path: Path) -> None:
    file = tmp_path / "log"
    program = f"""
import os, resource, sys
from trioraft.streams import QueuedStream
stream = QueuedStream(os.open({str(file)!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
limits = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (150, limits[1]))
print("a" * 99, file=stream)
print("b" * 99, file=stream)
print("c" * 99, file=stream)
stream.drain(5)
resource.setrlimit(resource.RLIMIT_FSIZE, limits)
print("d" * 99, file=stream)
stream.drain(5)
print(stream.lines_dropped)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "2\n"
    lines = file.read_text().splitlines()
    assert lines == ["a" * 99, "b" * 50, "trioraft: 2 lines were dropped here", "d" * 99]


def test_characters_that_an_encoding_lacks_are_escaped(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    print("süß \udcff", file=QueuedStream(writer, "ascii"))
    assert read_all(reader, "\n") == "s\\xfc\\xdf \\udcff\n"


def run_command(*arguments: str, redirections: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command under a shell that redirects its streams."""
    script = f'exec "$@" {redirections}'
    return subprocess.run(
        ["sh", "-c", script, "sh", sys.executable, "-m", "trioraft", *arguments],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("redirections", ["", "2>/dev/full", "2>&-"])
def test_a_command_ends_with_its_status_whatever_standard_error_is(redirections: str) -> None:
    done = run_command("node", redirections=redirections, ELECTION_TIMEOUT_LOWER_MILLIS="no")
    assert done.returncode == 2
    assert done.stderr.count("\n") == (0 if redirections else 1)


def test_the_reason_of_an_end_comes_out_after_the_log(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
        old_name = {"FASTAPI_TITLE": "gives a warning"}
        done = run_command(
            "node", redirections="", DATA_DIR=str(tmp_path), BIND_HOST="127.0.0.1", BIND_PORT=port, **old_name
        )
    assert done.returncode == 2
    *log, reason = done.stderr.splitlines()
    assert log
    assert reason.startswith("trioraft: BIND_HOST=127.0.0.1 BIND_PORT=")


def test_a_full_pipe_delays_the_end_of_a_command_by_a_second_at_most(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.write(writer, b"\n" * 4096)
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "trioraft", "nonsense"], cwd=ROOT, stderr=writer, timeout=30, check=False
    )
    assert done.returncode == 2
    assert time.monotonic() - began < 10
    assert os.read(reader, 8192) == b"\n" * 4096


BODY = """
import time
import trio
from trioraft.hooks.bodies import Bodies
async def main():
    bodies = Bodies(time.monotonic, 0.1, lambda: None, "exit")
    bodies.start_work(1, time.monotonic() + 1)
    async with bodies.leadership("one that blocks"):
        time.sleep(20)
trio.run(main)
"""


@pytest.mark.parametrize("kind", ["full disk", "full pipe", "closed", "read"])
def test_a_body_that_does_not_end_ends_its_process_whatever_standard_error_is(
    pipe: tuple[int, int], kind: str
) -> None:
    reader, writer = pipe
    if kind == "full pipe":
        os.write(writer, b"\n" * 4096)
    script = {"full disk": 'exec "$@" 2>/dev/full', "closed": 'exec "$@" 2>&-'}.get(kind, 'exec "$@"')
    done = subprocess.run(
        ["sh", "-c", script, "sh", sys.executable, "-c", BODY], cwd=ROOT, stderr=writer, timeout=15, check=False
    )
    assert done.returncode == 70
    if kind == "read":
        assert "one that blocks; ending the process" in read_all(reader, "\n")
