"""What others can do to a lock that somebody holds: on real processes."""

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import trio

from tests.cluster.harness import ROOT, Cluster, clean_environment
from trioraft import ClientSettings, LeaseLostError, sync
from trioraft.clock import boottime
from trioraft.kv.lock_keys import LOCKS

# Says that it runs, and takes a second to end when it is told to.
WORK = """
echo {name} began >>{file}
trap 'sleep 1; echo {name} ended >>{file}; exit' TERM
while :; do sleep 0.05; done
"""


async def run(cluster: Cluster, *words: str) -> tuple[int, str, str]:
    done = await trio.run_process(
        [sys.executable, "-m", "trioraft", *words],
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        env={**clean_environment(), "PYTHONPATH": str(ROOT), "PEERS": cluster.peers},
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


async def lock(cluster: Cluster, name: str, ttl: int, file: Path) -> trio.Process:
    work = WORK.format(name=name, file=file)
    return await trio.lowlevel.open_process(
        [sys.executable, "-m", "trioraft", "lock", "job", "--ttl", str(ttl), "--", "sh", "-c", work],
        env={**clean_environment(), "PYTHONPATH": str(ROOT), "PEERS": cluster.peers},
        stderr=subprocess.PIPE,
    )


def lines_of(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


async def lines(file: Path, number: int) -> list[str]:
    """Wait for so many lines."""
    with trio.fail_after(60):
        while len(lines_of(file)) < number:
            await trio.sleep(0.05)
    return lines_of(file)


async def test_nobody_takes_a_lock_from_its_holder(tmp_path: Path) -> None:
    file = tmp_path / "lines"
    async with Cluster(tmp_path, size=3) as cluster:
        await cluster.wait_leader(60)
        first = await lock(cluster, "first", 30, file)
        await lines(file, 1)
        (kv,) = await cluster.client.list(LOCKS)
        second = await lock(cluster, "second", 10, file)
        try:
            key = kv.key.decode()
            for words in (("delete", key), ("delete", "", "--prefix"), ("put", key, "x"), ("cas", key, "", "x")):
                status, out, err = await run(cluster, *words)
                assert (status, out, err.count("\n")) == (1, "", 1)
                assert LOCKS in err
            assert await lines(file, 1) == ["first began"]
            status, out, _ = await run(cluster, "lease", "revoke", f"{kv.lease:016x}")
            assert (status, out.startswith("deleted 0; a lock goes with it")) == (0, True)
            with trio.fail_after(20):  # long before its time to live is over: it has said that it has ended
                assert await lines(file, 3) == ["first began", "first ended", "second began"]
            assert first.stderr is not None
            assert b"was revoked" in await first.stderr.receive_some()
            assert await first.wait() == 1

            (kv,) = await cluster.client.list(LOCKS)
            second.send_signal(signal.SIGSTOP)  # it cannot say so, but its supervisor ends its work in time
            await cluster.client.lease_revoke(kv.lease)
            async with cluster.client.lock("job", wait=60):
                assert (await lines(file, 4))[3] == "second ended"
        finally:
            for process in (first, second):
                process.kill()
                await process.wait()


async def test_a_thread_relies_on_a_revoked_lock_for_as_long_as_it_may(tmp_path: Path) -> None:
    held, done = threading.Event(), threading.Event()
    until = left_at = 0.0

    def work(settings: ClientSettings) -> None:
        nonlocal until, left_at
        with sync.Client(settings, timeout=30) as client, client.lock("job", 20) as lock:
            held.set()
            done.wait(60)
            until, left_at = lock.lease.held_until, boottime()

    def be_told(settings: ClientSettings) -> None:
        with pytest.raises(LeaseLostError):
            work(settings)

    async with Cluster(tmp_path, size=1) as cluster:
        await cluster.wait_leader(60)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, be_told, ClientSettings.of(peers=cluster.peers))
            await trio.to_thread.run_sync(held.wait)
            (kv,) = await cluster.client.list(LOCKS)
            await cluster.client.lease_revoke(kv.lease)
            await trio.sleep(6)  # longer than a keep-alive takes, by which its client is told
            assert await cluster.client.list(LOCKS) == (kv,), "the thread may still work"
            done.set()
            async with cluster.client.lock("job", wait=30):
                assert left_at < boottime() < until, "it is free as soon as the thread has left the block"
