"""Patroni runs on trioraft as it runs on etcd: it starts, survives its primary, and does not notice a new leader."""

import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import trio

from tests.etcd.patroni import Replica, wait_until
from tests.etcd.serving import Serving, free_tcp_ports

_SECONDS = 120.0


@asynccontextmanager
async def replicas(
    cluster: Serving, count: int, hosts: Sequence[int] = (), **options: Any
) -> AsyncIterator[list[Replica]]:
    """Run Patroni with PostgreSQL on a cluster for as long as a block lasts."""
    ports = free_tcp_ports(2 * count)
    etcd = [cluster.client_address(i) for i in hosts or range(cluster.size)]
    with TemporaryDirectory(prefix="patroni-") as directory:
        os.chmod(directory, 0o755)  # noqa: S103 - PostgreSQL runs as another user than root
        found = [
            Replica(i + 1, (ports[2 * i], ports[2 * i + 1]), etcd, Path(directory) / f"pg{i + 1}", **options)
            for i in range(count)
        ]
        try:
            yield found
        except BaseException:
            for one in found:
                print(f"--- {one.name}", one.log.read_text("utf-8", "replace")[-6000:] if one.log.exists() else "")
            raise
        finally:
            for one in found:
                one.kill()


async def wait(condition: Any, what: str, seconds: float = _SECONDS) -> Any:
    return await trio.to_thread.run_sync(wait_until, condition, seconds, what)


def is_streaming(primary: Replica, count: int) -> bool:
    return primary.query("select count(*) from pg_stat_replication where state = 'streaming'") == str(count)


async def test_patroni_starts_survives_its_primary_and_does_not_notice_a_new_leader(tmp_path: Path) -> None:
    async with Serving(tmp_path, 3) as cluster:
        await cluster.wait_ready()
        async with replicas(cluster, 2) as (first, second):
            first.start()
            await wait(lambda: first.is_primary, "the first one bootstraps")
            second.start()
            await wait(lambda: is_streaming(first, 1), "the second one follows")
            await wait(lambda: first.query("create table kept (n int); insert into kept values (1)") == "", "a write")

            leader = cluster.index(await cluster.wait_leader())
            await cluster.kill(leader)
            began = time.monotonic()
            while time.monotonic() < began + 6:  # longer than an election
                assert await trio.to_thread.run_sync(lambda: first.is_primary), "the primary gave way"
                assert await trio.to_thread.run_sync(first.query, "insert into kept values (2)") == ""
                await trio.sleep(0.2)
            await cluster.start(leader)

            rows = await trio.to_thread.run_sync(first.query, "select count(*) from kept")
            await wait(lambda: second.query("select count(*) from kept") == rows, "the second one has all rows")
            first.kill()
            await wait(lambda: second.is_primary, "the second one takes over")
            await wait(lambda: second.query("select pg_is_in_recovery()") == "f", "it is writable")
            assert await trio.to_thread.run_sync(second.query, "select count(*) from kept") == rows
            assert await trio.to_thread.run_sync(second.query, "insert into kept values (3)") == ""
