"""A process whose clients wait for changes that do not come, and keep leases alive, from one address."""

import json
import sys
from contextlib import AsyncExitStack
from typing import Any, Final

import trio

from tests.benchmarks.workers.lines import Answer, serve_on_trio, tell
from trioraft import Client, ClientSettings
from trioraft.client.client import running
from trioraft.datagrams.sealing import Domain
from trioraft.datagrams.socket import open_udp

_OF_A_CLIENT: Final = 1500  # a client may have a few more at one node
_TTL: Final = 600  # seconds: none ends meanwhile, and keep-alives are few beside what is measured
_AT_ONCE: Final = 100


class _Crowd:
    def __init__(self, nursery: trio.Nursery, clients: list[Client]) -> None:
        self._nursery = nursery
        self._clients = clients

    async def gather(self, watches: int, leases: int) -> Answer:
        """Begin so many watches, and hold so many leases."""
        for number in range(watches):
            self._nursery.start_soon(self._watch, self._client(number), f"watched/{number}")
        limit = trio.CapacityLimiter(_AT_ONCE)
        async with trio.open_nursery() as nursery:
            for number in range(leases):
                nursery.start_soon(self._grant, self._client(number), limit)
        return {"watches": watches, "leases": leases}

    def _client(self, number: int) -> Client:
        return self._clients[number // _OF_A_CLIENT]

    @staticmethod
    async def _watch(client: Client, key: str) -> None:
        async for _ in client.watch(key):
            raise AssertionError(f"nobody changes {key}")

    @staticmethod
    async def _grant(client: Client, limit: trio.CapacityLimiter) -> None:
        async with limit:
            await client.lease_grant(_TTL)


async def main(configuration: dict[str, Any]) -> None:
    """Run clients at an address, for there are limits for all clients of one address together."""
    number = -(-max(configuration["watches"], configuration["leases"]) // _OF_A_CLIENT)
    settings = ClientSettings.of(peers=configuration["peers"])
    async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
        clients = [Client(settings, Domain.ADMIN, await open_udp(configuration["host"], 0)) for _ in range(number)]
        for client in clients:
            await stack.enter_async_context(running(client))
        crowd = _Crowd(nursery, clients)
        tell({"started": True})

        async def gather(**_asked: Any) -> Answer:
            return await crowd.gather(configuration["watches"], configuration["leases"])

        await serve_on_trio({"gather": gather})
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, json.loads(sys.argv[1]))
