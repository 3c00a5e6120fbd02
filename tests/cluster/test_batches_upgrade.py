"""Batches while real nodes are upgraded, and put back, one by one, under writers that put many keys at a time."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from tests.cluster import stand_in
from tests.cluster.harness import Cluster
from tests.cluster.test_kv import settings_of
from tests.cluster.test_upgrade import SIZE, STAND_IN, has_all, lead, restart, speaks
from trioraft.client.client import open_client
from trioraft.messages import EntryKind
from trioraft.storage.database import SqliteDisk
from trioraft.versions import BATCHES_FROM, SPOKEN

AT_ONCE = 20
WRITERS = 2


@dataclass
class Written:
    """How many rounds one writer has put, each of `AT_ONCE` keys."""

    rounds: int = 0


@asynccontextmanager
async def writing_many(cluster: Cluster) -> AsyncIterator[list[Written]]:
    """Put many keys at a time for as long as the block lasts, and see then that each was put once in each round."""
    written = [Written() for _ in range(WRITERS)]

    async def write(number: int) -> None:
        async with open_client(settings_of(cluster)) as client:
            while True:
                value = str(written[number].rounds)
                with trio.fail_after(15):
                    await client.put_many([(f"{number}/{key}", value) for key in range(AT_ONCE)])
                written[number].rounds += 1
                await trio.sleep(0.02)

    async with trio.open_nursery() as nursery:
        for number in range(WRITERS):
            nursery.start_soon(write, number)
        yield written
        nursery.cancel_scope.cancel()
    for number, each in enumerate(written):
        for kv in await cluster.client.list(f"{number}/"):
            # What was under way when the writer was cancelled may have been carried out too.
            assert kv.version in {each.rounds, each.rounds + 1}, f"{kv.key!r} was put {kv.version} times"


def batches_on_disk(cluster: Cluster, i: int) -> int:
    """Count the batches in the log of a node that is stopped."""
    disk = SqliteDisk(cluster.data_dir(i) / "0")
    log = disk.log
    assert log.last_index > 0
    count = sum(entry.kind is EntryKind.BATCH for entry in log.entries(log.base_index + 1, log.last_index))
    disk.close()
    return count


async def is_back(cluster: Cluster, i: int) -> None:
    """Wait until a node has all that the leader has."""
    await cluster.wait_for(lambda _: has_all(cluster, i), 20, f"node-{i + 1} is back")


async def test_batches_begin_when_all_nodes_know_them_and_no_write_is_lost_or_doubled(tmp_path: Path) -> None:
    older = stand_in.older(BATCHES_FROM - 1)
    each = [older] * SIZE
    async with Cluster(
        tmp_path, SIZE, {"SNAPSHOT_ENTRIES": "100000"}, each=each, modules=[STAND_IN] * SIZE
    ) as cluster:
        await cluster.wait_leader()
        await cluster.wait_for(speaks(BATCHES_FROM - 1), 20, "the cluster speaks what its nodes do")
        async with writing_many(cluster) as written:
            for i, back in ((0, True), (0, False), (1, False)):
                before = [writer.rounds for writer in written]
                cluster.each[i] = {}
                await restart(cluster, i)
                await lead(cluster, i)  # it is given batches, and takes them apart
                await trio.sleep(0.5)
                assert all(writer.rounds > rounds for writer, rounds in zip(written, before, strict=True))
                if back:
                    cluster.each[i] = older
                    await restart(cluster, i)
            assert speaks(BATCHES_FROM - 1)(await cluster.statuses())
            for i in range(SIZE):
                await cluster.stop(i)
                assert batches_on_disk(cluster, i) == 0, "older nodes could not read them"
                cluster.each[i] = {} if i < SIZE - 1 else older
                await cluster.start(i)
                await is_back(cluster, i)
            cluster.each[SIZE - 1] = {}
            await restart(cluster, SIZE - 1)
            await cluster.wait_for(speaks(SPOKEN.highest), 20, "the cluster goes on")
            await trio.sleep(1)
        await cluster.same_state()
        for i in range(SIZE):
            await cluster.stop(i)
            assert batches_on_disk(cluster, i) > 0
