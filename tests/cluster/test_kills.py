"""``kill -9`` of any node at random moments under load, and of all nodes at once: nothing acknowledged is lost.

The full version is 200 kills of one node and 50 of all of them::

    TRIORAFT_KILLS=200 TRIORAFT_KILLS_OF_ALL=50 python -m pytest -s tests/cluster/test_kills.py

``TRIORAFT_KILLS_SEED`` gives the same victims and pauses again; how they meet what the nodes do stays chance.
"""

import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.cluster.harness import Cluster
from trioraft.client.client import Client, open_client
from trioraft.kv.commands import Put
from trioraft.settings.settings import ClientSettings

KILLS = int(os.environ.get("TRIORAFT_KILLS", "6"))
KILLS_OF_ALL = int(os.environ.get("TRIORAFT_KILLS_OF_ALL", "2"))
SEED = int(os.environ.get("TRIORAFT_KILLS_SEED", random.randrange(10**6)))
SIZE = 3
WRITERS = 3
COMMANDS_AT_ONCE = 6  # of each writer, in one session
CHECKED_EVERY = 5
# Some commands take the disks longer than the network, so that an acknowledgement could come too early.
BULK_BYTES = (0, 100, 40_000)
BULK_KEYS = 20
# Snapshots are taken, and sent to nodes that come back, all the time.
SETTINGS = {"SNAPSHOT_ENTRIES": "400"}


class Load:
    """Writers that remember what was acknowledged.

    Each command counts its writer's commands in the version of one key, and makes a key of its own; all that it does
    is one revision. So what is lost, and what is applied twice, shows in the versions and in the store's revision.
    """

    def __init__(self) -> None:
        self.acknowledged: dict[str, int] = {}  # the key that a command has made, and its revision
        self._sent = [0] * WRITERS
        self._under_way = 0
        self._open = trio.Event()
        self._open.set()
        self._ended = trio.Event()

    async def write(self, client: Client, writer: int) -> None:
        """Have one command after another carried out."""
        while True:
            while not self._open.is_set():  # once it is, nothing may come between that and counting this command
                await self._open.wait()
            self._sent[writer] += 1
            key = f"entry/{writer}/{self._sent[writer]:06}"
            self._under_way += 1
            number = self._sent[writer]
            puts = (
                Put(f"count/{writer}".encode(), key.encode()),
                Put(key.encode(), b"%d" % number),
                Put(f"bulk/{writer}/{number % BULK_KEYS}".encode(), os.urandom(random.choice(BULK_BYTES))),
            )
            self.acknowledged[key] = (await client.txn((), puts)).revision
            self._under_way -= 1
            self._ended.set()
            self._ended = trio.Event()

    async def wait_acknowledged(self, number: int, seconds: float) -> None:
        """Wait until so many further commands are acknowledged."""
        wanted = len(self.acknowledged) + number
        with trio.move_on_after(seconds):
            while len(self.acknowledged) < wanted:
                await self._ended.wait()
            return
        raise AssertionError(f"only {len(self.acknowledged)} of {wanted} commands were acknowledged in {seconds} s")

    async def check(self, cluster: Cluster) -> None:
        """Let what is under way be acknowledged, then compare it with what is there, on every node."""
        self._open = trio.Event()
        with trio.fail_after(30):
            while self._under_way:
                await self._ended.wait()
        entries = await cluster.client.list("entry/")
        found = {kv.key.decode(): kv.mod_revision for kv in entries}
        differing = sorted(found.items() ^ self.acknowledged.items())
        assert found == self.acknowledged, f"not both acknowledged and there: {differing}"
        assert {kv.version for kv in entries} <= {1}
        assert [kv.version for kv in await cluster.client.list("count/")] == self._sent
        last = max(self.acknowledged.values())
        assert last == 1 + len(self.acknowledged), "each command is one revision"
        await cluster.same_state()
        self._open.set()


@asynccontextmanager
async def loaded(directory: Path, source: random.Random) -> AsyncIterator[tuple[Cluster, Load]]:
    """Run a cluster under load; say what to start with where something fails."""
    load_ = Load()
    try:
        async with Cluster(directory, SIZE, SETTINGS) as cluster, trio.open_nursery() as nursery:
            await cluster.wait_leader()
            for writer in range(WRITERS):
                nursery.start_soon(_write, cluster, load_, writer)
            await load_.wait_acknowledged(100, 30)
            yield cluster, load_
            nursery.cancel_scope.cancel()
    except BaseException:
        print(f"TRIORAFT_KILLS_SEED={SEED}")
        raise


async def _write(cluster: Cluster, load_: Load, writer: int) -> None:
    settings = ClientSettings.of(peers=cluster.peers)
    async with open_client(settings) as client, trio.open_nursery() as nursery:
        for _ in range(COMMANDS_AT_ONCE):
            nursery.start_soon(load_.write, client, writer)


@pytest.mark.timeout(60 + 10 * KILLS)
async def test_nothing_is_lost_or_done_twice_when_nodes_are_killed(tmp_path: Path) -> None:
    source = random.Random(SEED)
    leaders = 0
    async with loaded(tmp_path, source) as (cluster, load_):
        for number in range(1, KILLS + 1):
            await trio.sleep(source.uniform(0, 0.5))
            victim = source.randrange(SIZE)
            before = cluster.node(victim)
            leaders += before is not None and before.status.role == "leader"
            await cluster.kill(victim)
            await trio.sleep(source.uniform(0, 0.5))
            await cluster.start(victim)
            await load_.wait_acknowledged(source.randrange(1, 200), 30)
            if number % CHECKED_EVERY == 0 or number == KILLS:
                await load_.check(cluster)
        snapshots = sum(line["event"] == "snapshot received" for i in range(SIZE) for line in cluster.logs(i))
    print(
        f"seed {SEED}: {KILLS} kills, {leaders} of them of the leader; {len(load_.acknowledged)} commands"
        f" acknowledged, all there, none twice; {snapshots} snapshots received; all replicas equal"
    )


@pytest.mark.timeout(60 + 20 * KILLS_OF_ALL)
async def test_nothing_is_lost_or_done_twice_when_all_nodes_are_killed_at_once(tmp_path: Path) -> None:
    source = random.Random(SEED)
    async with loaded(tmp_path, source) as (cluster, load_):
        for _ in range(KILLS_OF_ALL):
            await load_.wait_acknowledged(source.randrange(1, 300), 30)
            await trio.sleep(source.uniform(0, 0.2))
            for victim in range(SIZE):
                cluster.process(victim).kill()
            for victim in range(SIZE):
                await cluster.ended(victim, 15)
            for victim in range(SIZE):
                await cluster.start(victim)
            await load_.wait_acknowledged(1, 30)
            await load_.check(cluster)
    print(
        f"seed {SEED}: {KILLS_OF_ALL} kills of all {SIZE} nodes; {len(load_.acknowledged)} commands acknowledged,"
        " all there, none twice; all replicas equal"
    )
