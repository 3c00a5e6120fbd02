"""A process with clients of trioraft's daemons, and load from it.

`INTERFACES` has what users can put with, each one small function that keeps so many puts outstanding. The best that
the measured build has is taken where none is named.
"""

import json
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Final

import trio

from tests.benchmarks.workers.lines import KEYS, VALUE, WARM_UP, Answer, latencies, rate, serve_on_trio, tell
from trioraft import Client, ClientSettings, KeyValueError, NoAnswerError, ProposalError, open_client

# A session has at most 1,024 commands under way.
COMMANDS_OF_A_CLIENT: Final = 500
# How many of them one call of `put_many` has.
COMMANDS_AT_ONCE: Final = 128
_LEADER: Final = "leader"
_PAUSE: Final = 0.001  # seconds, after a command that was not carried out
_FILLING: Final = 1000  # puts outstanding while keys are made


class ClosedLoop:
    """What an interface is to put, and what has become of it."""

    def __init__(self, keys: int) -> None:
        self.done = self.errors = self.revision = 0
        self._keys = keys
        self._number = 0

    def next(self) -> str:
        """Return the next key."""
        self._number += 1
        # Those of a large state come in an order that is not the order in which they were made.
        return KEYS[self._number % 1000] if self._keys <= 1000 else key_of(self._number * 7919 % self._keys)

    def put(self, revision: int) -> None:
        """Count a put."""
        self.done += 1
        self.revision = max(self.revision, revision)


def key_of(number: int) -> str:
    """Name one of many keys."""
    return f"many/{number:07}"


async def by_put(clients: list[Client], loop: ClosedLoop, outstanding: int) -> None:
    """Await `Client.put` in a task for each put that is outstanding."""

    async def work(client: Client) -> None:
        while True:
            try:
                loop.put((await client.put(loop.next(), VALUE)).revision)
            except (ProposalError, KeyValueError):
                loop.errors += 1
                await trio.sleep(_PAUSE)

    async with trio.open_nursery() as nursery:
        for number in range(outstanding):
            nursery.start_soon(work, clients[number % len(clients)])


async def by_put_many(clients: list[Client], loop: ClosedLoop, outstanding: int) -> None:
    """Await `Client.put_many` in a few tasks, each of which puts a part of what is outstanding at once."""
    tasks = max(2 * len(clients), outstanding // COMMANDS_AT_ONCE)

    async def work(client: Client, number: int) -> None:
        while True:
            try:
                for put in await client.put_many([(loop.next(), VALUE) for _ in range(number)]):
                    loop.put(put.revision)
            except (ProposalError, KeyValueError):
                loop.errors += 1
                await trio.sleep(_PAUSE)

    async with trio.open_nursery() as nursery:
        for task in range(tasks):
            number = outstanding // tasks + (task < outstanding % tasks)
            nursery.start_soon(work, clients[task % len(clients)], number)


Interface = Callable[[list[Client], ClosedLoop, int], Awaitable[None]]
# By the method of Client that it uses, the best last.
INTERFACES: Final[dict[str, Interface]] = {"put": by_put, "put_many": by_put_many}


def _best() -> str:
    return [name for name in INTERFACES if hasattr(Client, name)][-1]


class Clients:
    """The clients of this process, opened when they are needed, and what they are asked to do."""

    def __init__(self, peers: str, stack: AsyncExitStack) -> None:
        self._settings = ClientSettings.of(peers=peers)
        self._stack = stack
        self._open: list[Client] = []
        self._keys = len(KEYS)
        self._revision = 0

    async def get(self, outstanding: int) -> list[Client]:
        """Return as many as so many commands need."""
        number = -(-outstanding // COMMANDS_OF_A_CLIENT)
        while len(self._open) < number:
            client = await self._stack.enter_async_context(open_client(self._settings))
            await client.put("opened", b"")
            self._open.append(client)
        return self._open[:number]

    async def latency(self, seconds: float) -> Answer:
        """Have one put outstanding at a time."""
        (client,) = await self.get(1)
        loop, took = ClosedLoop(self._keys), []
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            key = loop.next()
            began = time.perf_counter_ns()
            try:
                loop.put((await client.put(key, VALUE)).revision)
                took.append(time.perf_counter_ns() - began)
            except (ProposalError, KeyValueError):
                loop.errors += 1
        self._revision = loop.revision
        return latencies(took, loop.errors)

    async def load(self, outstanding: int, seconds: float, interface: str = "") -> Answer:
        """Have so many outstanding."""
        clients = await self.get(outstanding)
        loop, name = ClosedLoop(self._keys), interface or _best()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(INTERFACES[name], clients, loop, outstanding)
            await trio.sleep(WARM_UP)
            began, before = time.monotonic(), loop.done
            await trio.sleep(seconds)
            ended, after = time.monotonic(), loop.done
            nursery.cancel_scope.cancel()
        self._revision = loop.revision
        return {**rate(loop.done, after - before, ended - began, loop.errors), "interface": name}

    async def fill(self, keys: int, quota: int) -> Answer:
        """Make so many keys, and use them from now on."""
        clients = await self.get(_FILLING)
        await clients[0].change_cluster_settings(quota=quota)
        numbers = iter(range(keys))

        async def work(client: Client) -> None:
            for number in numbers:
                self._revision = (await client.put(key_of(number), VALUE)).revision

        async with trio.open_nursery() as nursery:
            for number in range(_FILLING):
                nursery.start_soon(work, clients[number % len(clients)])
        self._keys = keys
        return {"filled": keys}

    async def status(self) -> Answer:
        """Tell for each node who leads, and up to which revision it has what was put: 0 while its state differs."""
        (client,) = await self.get(1)
        seen = [node.status for node in (await client.statuses()).nodes if node.reachable]
        digests = {}
        for each in seen:
            try:
                told = await client.state_digest(each.id, 10)
                digests[each.id] = told.index, told.digest
            except (NoAnswerError, ProposalError):
                digests[each.id] = 0, each.id
        own = next((digests[each.id] for each in seen if each.role == _LEADER), None)
        return {
            "nodes": [
                {
                    "leads": each.role == _LEADER,
                    "term": each.term,
                    "applied": self._revision if digests[each.id] == own else 0,
                    "known": sum(member.kind == "voter" for member in each.members),
                }
                for each in seen
            ]
        }


async def main(configuration: dict[str, Any]) -> None:
    """Run clients."""
    async with AsyncExitStack() as stack:
        clients = Clients(configuration["peers"], stack)
        tell({"started": True})
        await serve_on_trio(
            {
                "latency": clients.latency,
                "load": clients.load,
                "fill": clients.fill,
                "status": clients.status,
            }
        )


if __name__ == "__main__":
    trio.run(main, json.loads(sys.argv[1]))
