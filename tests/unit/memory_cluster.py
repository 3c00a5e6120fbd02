"""A cluster of real nodes under trio's mocked clock; only the world around them is in memory.

What lasts in it, lasts for a quarter of an hour; the full version is an hour of each::

    TRIORAFT_NODE_MINUTES=60 python -m pytest tests/unit/test_node.py tests/unit/test_node_work.py
"""

import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import trio

from tests.unit.memory_launcher import MemoryLauncher
from tests.unit.memory_world import MemoryDisk, MemoryNetwork, memory_world
from trioraft.address import Address
from trioraft.consensus import Role
from trioraft.dns.discovery import Answer
from trioraft.messages import format_id
from trioraft.node.node import Node, open_node
from trioraft.replica.machine import NothingToReplicate, StateMachine
from trioraft.settings.settings import NodeSettings
from trioraft.versions import SPOKEN

MINUTES = int(os.environ.get("TRIORAFT_NODE_MINUTES", "15"))


class MemoryCluster:
    """Nodes in one network; each can be killed, started again, cut off, and have its disk stuck."""

    def __init__(self, nursery: trio.Nursery, size: int, seed: int, **settings: object) -> None:
        self.chance = random.Random(seed)
        self.network = MemoryNetwork(nursery, self.chance)
        self.disks = [MemoryDisk(node_id=index + 1) for index in range(size)]
        self.launchers = [MemoryLauncher(trio.current_time) for _ in range(size)]
        self.nodes: dict[int, Node] = {}
        self.cut_off: set[int] = set()
        self.answer: Callable[[], Answer] = self.everybody  # the answer of DNS
        self.answers: dict[int, Callable[[], Answer]] = {}  # its answers to some nodes instead
        self.network.carries = lambda source, to: not self.cut_off & {source.port - 7300, to.port - 7300}
        self.versions = [SPOKEN] * size
        self.machine: Callable[[int], StateMachine] = lambda index: NothingToReplicate()
        self._nursery = nursery
        self._scopes: dict[int, trio.CancelScope] = {}
        self._settings = {"bootstrap_expect": size, **settings}

    def everybody(self) -> Answer:
        addresses = frozenset(self.address(index) for index in range(len(self.disks)))
        return Answer(addresses=addresses, complete=True, problems=())

    def look_up(self, index: int) -> Answer:
        return self.answers.get(index, self.answer)()

    @staticmethod
    def address(index: int) -> Address:
        return Address("127.0.0.1", 7300 + index)

    async def start(self, *indices: int, **changes: object) -> None:
        for index in indices or range(len(self.disks)):
            await self._nursery.start(self._run, index, changes)

    async def _run(self, index: int, changes: dict[str, object], *, task_status: trio.TaskStatus[None]) -> None:
        settings = NodeSettings(
            **{  # type: ignore[arg-type]
                "bind_port": 7300 + index,
                "node_name": f"node-{index + 1}",
                "data_dir": Path("/nowhere"),
                "script_leader_path": "/leader",
                "script_follower_path": "/follower",
                **self._settings,
                **changes,
            }
        )
        world = memory_world(
            self.network,
            self.disks[index],
            partial(self.look_up, index),
            chance=self.chance,
            launcher=self.launchers[index],
        )
        world = replace(world, versions=self.versions[index])
        with trio.CancelScope() as self._scopes[index]:
            async with open_node(settings, self.machine(index), world=world) as self.nodes[index]:
                task_status.started()
                await trio.sleep_forever()
        del self.nodes[index]

    async def run_alone(self, index: int) -> None:
        """Run a node until it fails."""
        try:
            await self._run(index, {}, task_status=trio.TASK_STATUS_IGNORED)
        finally:
            self.nodes.pop(index, None)

    async def kill(self, index: int) -> None:
        self._scopes[index].cancel()
        while index in self.nodes:
            await trio.sleep(0.001)

    def leaders(self) -> list[int]:
        return [index for index, node in self.nodes.items() if node.role is Role.LEADER]

    def terms(self) -> set[int]:
        return {node.status().term for node in self.nodes.values()}

    async def leader(self, within: float = 60.0) -> int:
        """Wait until one node leads and all that are not cut off know it."""
        with trio.fail_after(within):
            while True:
                reached = [node for index, node in self.nodes.items() if index not in self.cut_off]
                leaders = [i for i in self.leaders() if i not in self.cut_off]
                if len(leaders) == 1 and {n.status().leader for n in reached} == {
                    format_id(self.disks[leaders[0]].node_id)
                }:
                    return leaders[0]
                await trio.sleep(0.01)


@asynccontextmanager
async def cluster_of(size: int, seed: int, **settings: object) -> AsyncIterator[MemoryCluster]:
    try:
        async with trio.open_nursery() as nursery:
            yield MemoryCluster(nursery, size, seed, **settings)
            nursery.cancel_scope.cancel()
    except BaseException:
        print(f"seed {seed}")
        raise
