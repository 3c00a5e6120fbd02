"""``trioraft bench`` on real processes: a cluster of its own, and one that runs already."""

import json
import os
import subprocess
import sys
from pathlib import Path

import trio

from tests.cluster.harness import FAST, ROOT, Cluster, clean_environment


async def bench(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[bytes]":
    with trio.fail_after(60):
        return await trio.run_process(
            [sys.executable, "-m", "trioraft", "bench", *arguments, "--format", "json"],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env={**clean_environment(), "PYTHONPATH": str(ROOT), **environment},
        )


async def test_bench_starts_a_cluster_measures_it_and_leaves_nothing(tmp_path: Path) -> None:
    done = await bench(
        *("--local", "--durability", "memory", "--data-dir", str(tmp_path), "--commands", "300"), **FAST
    )
    assert (done.returncode, done.stderr) == (0, b""), "no progress bar where there is no terminal"
    shown = json.loads(done.stdout)
    assert (shown["commits"], shown["nodes"], shown["durability"]) == (300, 3, "memory")
    latencies = shown["latency_milliseconds"]
    assert 0 < latencies["p50"] <= latencies["p90"] <= latencies["p99"] <= latencies["p99.9"] <= latencies["max"]
    assert 0 < shown["commits_per_second"] * latencies["p50"] / 1000 <= 2 * shown["concurrency"], "Little's law"
    assert 0 < shown["udp_round_trip_milliseconds"] < latencies["p50"], "a commit takes more than a round trip"
    assert shown["disk_sync_milliseconds"] > 0
    assert os.listdir(tmp_path) == []


async def test_bench_of_a_running_cluster_removes_its_keys(tmp_path: Path) -> None:
    async with Cluster(tmp_path, size=3) as cluster:
        await cluster.wait_leader()
        await cluster.client.put("mine", "stays")
        done = await bench("--seconds", "1", "--concurrency", "600", "--size", "10", PEERS=cluster.peers)
        left = await cluster.client.list()
        written = (await cluster.client.put("mine", "stays")).revision
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert (shown["nodes"], shown["value_bytes"], shown["clients"]) == (3, 10, 2)
    assert [kv.key for kv in left] == [b"mine"]
    assert written > shown["commits"] > 600, "every commit was a revision of the store"


async def test_bench_reports_an_error_in_one_line() -> None:
    wrong = await bench("--local", "--nodes", "1", HEARTBEAT_REPEAT_MILLIS="soon")
    missing = await bench("--peers", "127.0.0.1:9")
    assert [(done.returncode, done.stdout) for done in (wrong, missing)] == [(2, b""), (1, b"")]
    for done, named in ((wrong, b"HEARTBEAT_REPEAT_MILLIS"), (missing, b"127.0.0.1:9")):
        (line,) = done.stderr.splitlines()
        assert named in line
