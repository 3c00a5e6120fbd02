"""Clients and key-value nodes in memory, under trio's mocked clock: the real code over a network that can fail."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import trio

from tests.unit.memory_cluster import MemoryCluster
from tests.unit.memory_world import MemoryNetwork, memory_world
from trioraft.address import Address, PeerName
from trioraft.client.client import Client, running
from trioraft.datagrams.endpoint import Domain
from trioraft.kv.service import KeyValueService
from trioraft.node.node import open_node
from trioraft.settings.settings import ClientSettings, NodeSettings

CLIENT_PORT = 9000


class KeyValueCluster(MemoryCluster):
    """Nodes with the key-value store; ``services[i]`` is that of node ``i``."""

    def __init__(self, nursery: trio.Nursery, size: int, seed: int, **settings: object) -> None:
        super().__init__(nursery, size, seed, script_leader_path=None, script_follower_path=None, **settings)
        self.services: dict[int, KeyValueService] = {}
        self.make_service: Callable[[int], KeyValueService] = lambda index: KeyValueService()
        self.addresses = [self.address(index) for index in range(size)]

    async def _run(self, index: int, changes: dict[str, object], *, task_status: trio.TaskStatus[None]) -> None:
        settings = NodeSettings(
            **{  # type: ignore[arg-type]  # a test names any settings
                "bind_port": 7300 + index,
                "node_name": f"node-{index + 1}",
                "data_dir": Path("/nowhere"),
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
        service = self.services[index] = self.make_service(index)
        with trio.CancelScope() as self._scopes[index]:
            async with (
                open_node(settings, service, world=world) as self.nodes[index],
                trio.open_nursery() as nursery,
            ):
                self.nodes[index].answer_questions(service.answer)
                nursery.start_soon(service.run, self.nodes[index])
                task_status.started()
                await trio.sleep_forever()
        del self.nodes[index]

    async def same_state(self) -> str:
        """Wait until all nodes have the same state, and return its hash."""
        with trio.fail_after(30):
            while True:
                digests = {self.services[index].store.digest() for index in self.nodes}
                if len(digests) == 1:
                    return digests.pop()
                await trio.sleep(0.1)


@asynccontextmanager
async def key_value_cluster(size: int, seed: int, **settings: object) -> AsyncIterator[KeyValueCluster]:
    """Run a cluster that has a leader."""
    try:
        async with trio.open_nursery() as nursery:
            cluster = KeyValueCluster(nursery, size, seed, **settings)
            await cluster.start()
            await cluster.leader()
            yield cluster
            nursery.cancel_scope.cancel()
    except BaseException:
        print(f"seed {seed}")
        raise


@asynccontextmanager
async def memory_client(
    network: MemoryNetwork, known: list[Address], number: int = 0, max_datagram_bytes: int = 1200
) -> AsyncIterator[Client]:
    """Open a client in the network of a cluster."""
    settings = ClientSettings(
        app_name="trioraft",
        peers=tuple(PeerName(address.host, address.port) for address in known),
        max_datagram_bytes=max_datagram_bytes,
    )
    socket = await network.open_socket("127.0.0.1", CLIENT_PORT + number)
    client = Client(settings, Domain.CLIENT, socket)
    try:
        async with running(client):
            yield client
    finally:
        socket.close()


def cut(cluster: KeyValueCluster, *ports: int) -> None:
    """Stop all traffic to and from some ports."""
    cluster.network.carries = lambda source, to: not {source.port, to.port} & set(ports)


def cut_between(cluster: KeyValueCluster, one: int, other: int) -> None:
    """Stop all traffic between two ports."""
    cluster.network.carries = lambda source, to: {source.port, to.port} != {one, other}
