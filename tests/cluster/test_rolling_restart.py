"""All replicas are restarted, one after the other, under load: no request fails, and no write waits for long.

The full version is 20 rounds::

    TRIORAFT_ROLLING_RESTARTS=20 python -m pytest -s tests/cluster/test_rolling_restart.py

The election timeouts are the default ones, 3 to 5 s: what is measured is that a leader gives its leadership away
before it stops.
"""

import os
import time
from collections import Counter
from pathlib import Path

import pytest
import trio

from tests.cluster.harness import Cluster
from trioraft.client.client import open_client
from trioraft.settings.settings import ClientSettings

ROUNDS = int(os.environ.get("TRIORAFT_ROLLING_RESTARTS", "1"))
SIZE = 3
WRITERS = 4
READERS = 2
# How long a client rests between two requests, so that two processors are left to the nodes that start.
PAUSE = 0.01
# The longest time in which a client gets no answer to what it has asked, in seconds.
LONGEST = 1.0
DEFAULTS = {
    "ELECTION_TIMEOUT_LOWER_MILLIS": "3000",
    "ELECTION_TIMEOUT_UPPER_MILLIS": "5000",
    "HEARTBEAT_REPEAT_MILLIS": "500",
    "HOOK_STOP_GRACE_MILLIS": "5000",
}


class Load:
    """Clients that put and get without an end, each with a session of its own; a request that fails ends the test."""

    def __init__(self, cluster: Cluster) -> None:
        self.done: Counter[str] = Counter()
        self.written: dict[str, int] = {}
        self.longest = {"put": 0.0, "get": 0.0}  # from one answer to the next, of one client
        self._settings = ClientSettings.of(peers=cluster.peers)

    async def write(self, writer: int) -> None:
        """Count in a key."""
        key = f"writer/{writer}"
        async with open_client(self._settings) as client:
            last = time.monotonic()
            while True:
                await client.put(key, str(self.written.get(key, 0) + 1))
                self.written[key] = self.written.get(key, 0) + 1
                last = self._note("put", last)
                await trio.sleep(PAUSE)

    async def read(self, reader: int) -> None:
        """Look at a key; what was acknowledged before is there."""
        key = f"writer/{reader}"
        async with open_client(self._settings) as client:
            last = time.monotonic()
            while True:
                at_least = self.written.get(key, 0)
                found = await client.get(key)
                assert found is not None or not at_least
                assert found is None or int(found.value) >= at_least
                last = self._note("get", last)
                await trio.sleep(PAUSE)

    def _note(self, what: str, last: float) -> float:
        now = time.monotonic()
        self.done[what] += 1
        self.longest[what] = max(self.longest[what], now - last)
        return now


async def restart(cluster: Cluster, i: int) -> None:
    """Restart a node, as a rolling update does: go on once it takes part."""
    assert await cluster.stop(i) == 0
    await cluster.start(i)
    pid = cluster.process(i).pid

    def is_back(_: object) -> bool:
        node = cluster.node(i)
        if node is None or node.status.pid != pid or node.status.role not in {"follower", "leader"}:
            return False
        others = [other.status.applied_index for other in cluster.client.nodes.values()]
        return node.status.leader is not None and node.status.applied_index >= max(others) - 1000

    await cluster.wait_for(is_back, 30, "it is back and follows")


@pytest.mark.timeout(60 + 30 * ROUNDS)
async def test_no_request_fails_while_all_replicas_are_restarted(tmp_path: Path) -> None:
    of_leaders = 0
    async with Cluster(tmp_path, SIZE, DEFAULTS) as cluster, trio.open_nursery() as nursery:
        await cluster.wait_leader()
        load = Load(cluster)
        for writer in range(WRITERS):
            nursery.start_soon(load.write, writer)
        for reader in range(READERS):
            nursery.start_soon(load.read, reader)
        for _ in range(ROUNDS):
            for i in range(SIZE):
                await trio.sleep(1)
                leader = await cluster.wait_leader(30)
                of_leaders += cluster.index(leader) == i
                await restart(cluster, i)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    print(
        f"{ROUNDS * SIZE} restarts, {of_leaders} of them of the leader: {load.done['put']} puts and"
        f" {load.done['get']} gets, none failed; the longest time without an answer was"
        f" {load.longest['put']:.3f} s for a writer, {load.longest['get']:.3f} s for a reader"
    )
    assert min(load.written.values()) > 0
    assert load.longest["put"] < LONGEST
    assert load.longest["get"] < LONGEST
