"""One client that opens session after session, against real processes: another one writes meanwhile."""

from pathlib import Path

import trio

from tests.cluster.harness import Cluster
from tests.cluster.test_kv import command, settings_of
from trioraft.asking import waiting
from trioraft.client.client import open_client
from trioraft.datagrams.endpoint import Domain
from trioraft.messages import OpenSession
from trioraft.node.session_room import OF_ONE_CLIENT_MAX


async def test_one_client_does_not_end_writing_for_all(tmp_path: Path) -> None:
    codes: list[str] = []
    async with (
        Cluster(tmp_path, size=3) as cluster,
        open_client(settings_of(cluster), Domain.CLIENT) as greedy,
        trio.open_nursery() as nursery,
    ):
        await cluster.wait_leader()

        async def open_one() -> None:
            codes.append((await waiting.call(greedy._calls, OpenSession)).code)

        for _ in range(200):
            nursery.start_soon(open_one)
        with trio.fail_after(10):
            await cluster.client.put("a", "1")
        assert (await command(cluster, "put", "b", "2"))[0] == 0
        with trio.fail_after(10):
            while len(codes) < 200:
                await trio.sleep(0.05)
    assert codes.count("limit") == 200 - OF_ONE_CLIENT_MAX
