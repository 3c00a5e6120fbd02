"""A follower that was away catches up while writes go on: over the log, and over a snapshot.

Memory stays bounded on every node, and no event loop is blocked. The full version is 100,000 entries, and a snapshot
of 100 MB::

    TRIORAFT_AWAY_ENTRIES=100000 TRIORAFT_SNAPSHOT_MEGABYTES=100 python -m pytest -s tests/cluster/test_catching_up.py
"""

import os
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count, islice
from pathlib import Path

import pytest
import trio

from tests.cluster.harness import Cluster
from trioraft.client.client import Client, NoAnswerError, open_client
from trioraft.kv.codec import decode_result, encode_command
from trioraft.kv.commands import Put, Range
from trioraft.kv.results import RangeResult
from trioraft.messages import Query
from trioraft.settings.settings import ClientSettings

ENTRIES = int(os.environ.get("TRIORAFT_AWAY_ENTRIES", "5000"))
MEGABYTES = int(os.environ.get("TRIORAFT_SNAPSHOT_MEGABYTES", "8"))
SIZE = 3
KEYS = 500
VALUE = 100  # bytes of a small value
LARGE = 10_000  # bytes of a large one
AT_ONCE = 128
# Writes that go on, per second; and for how long a node may show what is older, to count as caught up.
GO_ON = 200
LAG_SECONDS = 0.5
HEARTBEAT = 0.5
TIMEOUTS = {
    "ELECTION_TIMEOUT_LOWER_MILLIS": "1500",
    "ELECTION_TIMEOUT_UPPER_MILLIS": "3000",
    "HEARTBEAT_REPEAT_MILLIS": f"{HEARTBEAT * 1000:.0f}",
}
MB = 10**6


class Memory:
    """The resident memory of each node, looked at again and again."""

    def __init__(self, cluster: Cluster) -> None:
        self.peak = [0] * SIZE
        self.first = [0] * SIZE
        self._cluster = cluster

    async def watch(self) -> None:
        while True:
            for i, process in enumerate(self._cluster.processes):
                size = _resident(process.pid) if process is not None else 0
                self.first[i] = self.first[i] or size
                self.peak[i] = max(self.peak[i], size)
            await trio.sleep(0.05)

    def __str__(self) -> str:
        peaks = ", ".join(f"{size / MB:.0f}" for size in self.peak)
        return f"resident memory at most {peaks} MB ({max(self.first) / MB:.0f} MB at the start)"


def _resident(pid: int) -> int:
    try:
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text("ascii"))
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


class Writer:
    """Writes that go on at a steady pace; each says which one it is."""

    def __init__(self, client: Client) -> None:
        self.acknowledged: list[float] = []  # when each of them was
        self.slowest = 0.0
        self._client = client
        self._room = trio.CapacityLimiter(AT_ONCE)

    async def run(self, size: int) -> None:
        async with trio.open_nursery() as nursery:
            begun = trio.current_time()
            for number in count():
                await trio.sleep_until(begun + number / GO_ON)
                await self._room.acquire_on_behalf_of(number)
                nursery.start_soon(self._put, number, size)

    async def _put(self, number: int, size: int) -> None:
        called = trio.current_time()
        value = str(number).encode()
        key = f"other/{number % KEYS}".encode()
        await self._client.txn((), (Put(b"number", value), Put(key, os.urandom(size))))
        self.slowest = max(self.slowest, trio.current_time() - called)
        self.acknowledged.append(trio.current_time())
        self._room.release_on_behalf_of(number)

    async def caught_up(self, node_id: str, seconds: float) -> float:
        """Wait until a node shows, by itself, what was acknowledged just before; return how long it took."""
        begun = trio.current_time()
        with trio.move_on_after(seconds):
            while True:
                old = sum(at < trio.current_time() - LAG_SECONDS for at in self.acknowledged)
                if old and await self._shown_by(node_id) >= max(0, old - AT_ONCE):
                    return trio.current_time() - begun
                await trio.sleep(0.05)
        raise AssertionError(f"the node has not caught up within {seconds} s")

    async def _shown_by(self, node_id: str) -> int:
        question = Query(encode_command(Range(b"number")), linearizable=False)
        try:
            answer = await self._client.command(node_id, question, 2)
        except NoAnswerError:
            return -1
        found = decode_result(answer.data) if answer.done else None
        return int(found.kvs[0].value) if isinstance(found, RangeResult) and found.kvs else -1


@asynccontextmanager
async def observed(
    directory: Path, environment: dict[str, str]
) -> AsyncIterator[tuple[Cluster, Client, Memory, trio.Nursery]]:
    async with Cluster(directory, SIZE, {**TIMEOUTS, **environment}) as cluster:
        await cluster.wait_leader(20)
        memory = Memory(cluster)
        settings = ClientSettings.of(peers=cluster.peers)
        async with open_client(settings) as client, trio.open_nursery() as nursery:
            nursery.start_soon(memory.watch)
            yield cluster, client, memory, nursery
            nursery.cancel_scope.cancel()


async def fill(client: Client, numbers: Iterator[int], puts: int, size: int) -> float:
    """Have many commands of so many puts carried out; return how many seconds it took."""
    begun = time.monotonic()

    async def work() -> None:
        for number in numbers:
            keys = (f"key/{number * puts + i:07}".encode() for i in range(puts))
            await client.txn((), tuple(Put(key, os.urandom(size)) for key in keys))

    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE if size < LARGE else 8):
            nursery.start_soon(work)
    return time.monotonic() - begun


async def lose_a_follower(cluster: Cluster, *, paused: bool = False) -> tuple[int, str]:
    """Kill a follower, or let it hear and do nothing; return its number and its id."""
    leader = cluster.index(await cluster.wait_leader())
    away = (leader + 1) % SIZE
    node = cluster.node(away)
    assert node is not None
    if paused:
        cluster.pause(away)
    else:
        await cluster.kill(away)
    return away, node.status.id


async def come_back(cluster: Cluster, writer: Writer, away: int, node_id: str, seconds: float) -> str:
    """Let the follower come back while writes go on; it must catch up, and nobody else notice. Tell how it was."""
    await trio.sleep(1)
    before, slowest_before = len(writer.acknowledged), writer.slowest
    begun = trio.current_time()
    if cluster.processes[away] is None:
        await cluster.start(away)
    else:
        cluster.resume(away)
    took = await writer.caught_up(node_id, seconds)
    rate = (len(writer.acknowledged) - before) / (trio.current_time() - begun)
    assert rate > GO_ON / 2, f"writes went on at {rate:.0f}/s only"
    return (
        f"caught up {took:.1f} s after it came back while {rate:.0f} writes/s went on,"
        f" the slowest in {writer.slowest * 1000:.0f} ms (before: {slowest_before * 1000:.0f} ms)"
    )


def snapshots(cluster: Cluster, i: int, what: str) -> list[int]:
    """Return the sizes of the snapshots that a node has taken or received."""
    return [line["bytes"] for line in cluster.logs(i) if line["event"] == f"snapshot {what}"]


async def check_loops(cluster: Cluster, paused: str = "") -> str:
    """Report for how long the event loops were blocked: never for longer than a tenth of a heartbeat.

    That is processor time. By the clock it takes as long as others use the processors too, which is reported only.
    """
    nodes = [node for node in (await cluster.statuses()).nodes if node.status.id != paused]
    longest = [node.status.counters.get("loop_longest_millis", 0) for node in nodes]
    cpu = [node.status.counters.get("loop_longest_cpu_millis", 0) for node in nodes]
    number = [node.status.counters.get("loop_stalls", 0) for node in nodes]
    text = f"longest turns of the event loops {longest} ms ({cpu} ms of processor time), {number} above a tenth of"
    assert max(cpu) <= HEARTBEAT / 10 * 1000, text
    return f"{text} a heartbeat"


@pytest.mark.timeout(120 + ENTRIES / 200)
@pytest.mark.parametrize("by", ["log", "snapshot"])
async def test_a_follower_that_was_away_for_many_entries_catches_up(tmp_path: Path, by: str) -> None:
    paused = by == "log"
    # How many commands an entry has hangs on how they were proposed, so the snapshot is taken for the bytes of them.
    snapshot_bytes = 10**9 if by == "log" else ENTRIES // 2 * VALUE
    environment = {"SNAPSHOT_ENTRIES": str(10**7), "SNAPSHOT_BYTES": str(snapshot_bytes)}
    async with observed(tmp_path, environment) as (cluster, client, memory, nursery):
        away, node_id = await lose_a_follower(cluster, paused=paused)
        seconds = await fill(client, (number % KEYS for number in range(ENTRIES)), 1, VALUE)
        writer = Writer(client)
        nursery.start_soon(writer.run, VALUE)
        story = await come_back(cluster, writer, away, node_id, 60 + ENTRIES / 500)
        blocked = await check_loops(cluster, node_id if paused else "")
        nursery.cancel_scope.cancel()
    received = snapshots(cluster, away, "received")
    print(f"{ENTRIES} entries in {seconds:.1f} s, by {by}: {story}; {memory}; {blocked}")
    assert bool(received) == (by == "snapshot")
    # An entry that is kept, in the log and as an event for those who watch, costs some 500 bytes.
    kept = ENTRIES if by == "log" else ENTRIES // 2
    assert max(memory.peak) < 100 * MB + 800 * kept


@pytest.mark.timeout(120 + 5 * MEGABYTES)
async def test_a_follower_behind_a_large_snapshot_catches_up(tmp_path: Path) -> None:
    environment = {"SNAPSHOT_BYTES": str(min(16 * 2**20, MEGABYTES * MB // 4))}
    async with observed(tmp_path, environment) as (cluster, client, memory, nursery):
        away, node_id = await lose_a_follower(cluster)
        puts = 50
        commands = count()
        seconds = await fill(client, islice(commands, MEGABYTES * MB // (puts * LARGE)), puts, LARGE)
        leader = cluster.index(await cluster.wait_leader(without=[away]))
        while max((size for size in snapshots(cluster, leader, "taken")), default=0) < MEGABYTES * MB:
            seconds += await fill(client, islice(commands, 1 + MEGABYTES // 20), puts, LARGE)
        writer = Writer(client)
        nursery.start_soon(writer.run, VALUE)
        story = await come_back(cluster, writer, away, node_id, 60 + MEGABYTES)
        blocked = await check_loops(cluster)
        nursery.cancel_scope.cancel()
    received = snapshots(cluster, away, "received")
    written = next(commands) * puts * LARGE / MB
    print(f"{written:.1f} MB in {seconds:.1f} s: {story}; snapshots received: {received}; {memory}; {blocked}")
    assert max(received) >= MEGABYTES * MB
    assert max(memory.peak) < 100 * MB + 1.6 * max(received)
