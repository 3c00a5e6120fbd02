"""What becomes of a node's log never disturbs the node: pipes that nobody reads, readers that go, full disks."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
import trio

from tests.cluster.harness import DEFAULT_TIMEOUTS, LOOPBACK, ROOT, Cluster, Place, clean_environment, free_ports
from tests.unit.processes import write_script
from trioraft.client.client import open_client
from trioraft.settings.settings import ClientSettings

# For how long the pipes are blocked; the full version is `tests/run full log-pipe`.
SECONDS = float(os.environ.get("TRIORAFT_LOG_PIPE_SECONDS", "4"))
# A hundred lines a second; long ones, so that a queue is full soon.
CHATTER = "line=$(printf '%04000d' 1); while :; do echo $line; sleep 0.01; done"
CLOSED = Place(command=("sh", "-c", 'exec "$@" 2>&-', "sh"))


class Piped(Cluster):
    """A cluster whose nodes write to descriptors that the test has."""

    writers: Sequence[int] = ()

    def open_output(self, i: int) -> IO[bytes]:
        return os.fdopen(os.dup(self.writers[i]), "wb", buffering=0)


@contextmanager
def pipes(number: int) -> Iterator[list[tuple[int, int]]]:
    """Make small pipes."""
    made = [os.pipe() for _ in range(number)]
    try:
        for _, writer in made:
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        yield made
    finally:
        for end in {end for pair in made for end in pair}:
            os.close(end)


@contextmanager
def full_disk() -> Iterator[int]:
    """Open a file that takes nothing."""
    with Path("/dev/full").open("wb") as file:
        yield file.fileno()


def status_of(cluster: Cluster, i: int) -> tuple[str, int, int | None, int]:
    """Return a node's role and term, the process of its script, and how many lines of its log were dropped."""
    node = cluster.node(i)
    assert node is not None
    status = node.status
    return status.role, status.term, status.hook.pid, status.log_lines_dropped


@pytest.mark.parametrize("kind", ["reader gone", "full disk", "closed"])
async def test_a_leader_goes_on_whatever_standard_error_is(tmp_path: Path, kind: str) -> None:
    script = write_script(tmp_path, CHATTER)
    places = [CLOSED if kind == "closed" else Place()]
    with pipes(1) as [(reader, writer)], full_disk() as full:
        cluster = Piped(tmp_path, 1, {"SCRIPT_LEADER_PATH": script}, places=places)
        cluster.writers = [full if kind == "full disk" else writer]
        async with cluster:
            if kind == "reader gone":
                os.dup2(writer, reader)  # closes the only end that could be read
            await cluster.wait_leader(60)
            await cluster.wait_for(lambda _: status_of(cluster, 0)[2] is not None, 60, "its script runs")
            role, term, script_pid, dropped = status_of(cluster, 0)
            await cluster.wait_for(lambda _: status_of(cluster, 0)[3] > dropped + 100, 60, "lines are dropped")
            assert status_of(cluster, 0)[:3] == (role, term, script_pid)
            assert await cluster.stop(0) == 0


@pytest.mark.timeout(180 + 2 * SECONDS)
async def test_a_cluster_whose_logs_nobody_reads_keeps_its_leader(tmp_path: Path) -> None:
    script = write_script(tmp_path, CHATTER)
    with pipes(3) as made:
        cluster = Piped(tmp_path, 3, {"SCRIPT_LEADER_PATH": script, **DEFAULT_TIMEOUTS})
        cluster.writers = [writer for _, writer in made]
        async with cluster:
            leader = await cluster.wait_leader(60)
            await cluster.wait_for(lambda _: status_of(cluster, cluster.index(leader))[2] is not None, 60, "it works")
            before = [status_of(cluster, i) for i in range(3)]
            elections = leader.status.term
            await trio.sleep(SECONDS)
            await cluster.wait_for(lambda _: status_of(cluster, cluster.index(leader))[3] > 100, 60, "it drops")
            after = [status_of(cluster, i) for i in range(3)]
            print(
                f"blocked for {SECONDS:g} s: {max(term for _, term, _, _ in after) - elections} elections; ", end=""
            )
            print(f"log lines dropped: {', '.join(str(dropped) for *_, dropped in after)}")
            assert [one[:3] for one in after] == [one[:3] for one in before]
            for i in range(3):
                cluster.process(i).send_signal(signal.SIGTERM)
            assert [await cluster.ended(i, 30) for i in range(3)] == [0, 0, 0]


async def test_status_tells_how_many_lines_are_missing_and_so_does_the_log(tmp_path: Path) -> None:
    script = write_script(tmp_path, CHATTER)
    with pipes(1) as [(reader, writer)]:
        os.set_blocking(writer, False)  # as somebody may have done who writes to it too
        cluster = Piped(tmp_path, 1, {"SCRIPT_LEADER_PATH": script})
        cluster.writers = [writer]
        async with cluster:
            await cluster.wait_leader(60)
            await cluster.wait_for(lambda _: status_of(cluster, 0)[3] > 0, 60, "lines are dropped")
            command = [sys.executable, "-m", "trioraft", "status", "--peers", cluster.peers]
            shown = await trio.run_process(command, capture_stdout=True, env=clean_environment(), cwd=ROOT)
            assert b"lines of its log were dropped" in shown.stdout
            text = b""
            with trio.fail_after(60):
                while b"are missing here" not in text:
                    await trio.lowlevel.wait_readable(reader)
                    text += os.read(reader, 65536)
                while not text.endswith(b"\n"):
                    text += os.read(reader, 1)
            lines = [json.loads(line) for line in text.splitlines()]
            gap, *_ = (line for line in lines if "are missing here" in line["event"])
            assert (gap["level"], gap["lines"] > 0) == ("warning", True)


async def test_every_line_of_a_script_that_writes_5000_a_second_is_in_the_log(tmp_path: Path) -> None:
    lines = 10_000
    paced = f"import time; [print(n, flush=True) or (n % 50 or time.sleep(0.01)) for n in range({lines})]"
    script = write_script(tmp_path, f"{sys.executable} -c '{paced}'; echo end; exec sleep 1000")
    async with Cluster(tmp_path, 1, {"SCRIPT_LEADER_PATH": script}) as cluster:
        leader = await cluster.wait_leader(60)

        def written() -> list[str]:
            return [line["line"] for line in cluster.logs(0) if line["event"] == "script output"]

        await cluster.wait_for(lambda _: written()[-1:] == ["end"], 60, "the script has written all")
        assert written() == [*map(str, range(lines)), "end"]
        role, term, _, dropped = status_of(cluster, 0)
        assert (role, term, dropped) == ("leader", leader.status.term, 0)


async def test_up_goes_on_when_nobody_reads_what_it_shows(tmp_path: Path) -> None:
    script = write_script(tmp_path, CHATTER)
    ports = free_ports(1)
    with pipes(1) as [(_, writer)]:
        process = await trio.lowlevel.open_process(
            [
                *(sys.executable, "-m", "trioraft", "up", "--nodes", "1", "--base-port", str(ports[0])),
                *("--monitor-port", str(free_ports(1)[0])),
            ],
            stdout=writer,
            stderr=writer,
            cwd=ROOT,
            env={**clean_environment(), "SCRIPT_LEADER_PATH": script},
            start_new_session=True,
        )
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(process.wait)
                async with open_client(ClientSettings.of(peers=f"{LOOPBACK}:{ports[0]}")) as client:
                    await client.observe(0.2)
                    with trio.fail_after(60):
                        while not any(node.status.hook.pid for node in client.nodes.values()):
                            await client.changed(client.version)
                await trio.sleep(1.5)  # its script fills the pipe soon
                assert process.returncode is None
                began = time.monotonic()
                process.send_signal(signal.SIGTERM)
                with trio.fail_after(60):
                    await process.wait()
            assert process.returncode == 0
            print(f"ended {time.monotonic() - began:.1f} s after SIGTERM")
        finally:
            process.kill()


def ask(url: str) -> Any:
    """Get a document; None while nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own monitor
            return json.load(answer)
    except urllib.error.URLError:
        return None


async def test_the_monitor_answers_whatever_standard_error_is(tmp_path: Path) -> None:
    port = free_ports(1)[0]
    with full_disk() as full:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "trioraft", "monitor"],
            stderr=full,
            stdout=subprocess.DEVNULL,
            cwd=ROOT,
            env={**clean_environment(), "BIND_HOST": LOOPBACK, "BIND_PORT": str(port), "PEERS": f"{LOOPBACK}:9"},
        )
    try:
        with trio.fail_after(60):
            dropped = None  # then the line that says that it listens, which a thread writes
            while dropped != 1:
                document = await trio.to_thread.run_sync(ask, f"http://{LOOPBACK}:{port}/api/cluster")
                dropped = document and document["monitor"]["log_lines_dropped"]
                await trio.sleep(0.1)
        process.terminate()
        with trio.fail_after(10):
            assert await process.wait() == 0
    finally:
        process.kill()
