"""Nodes in network namespaces: a link goes down under a node, a node moves, and nothing is left behind."""

import os
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.cluster.harness import ROOT, Cluster, clean_environment
from tests.cluster.namespaces import PORT, Links, open_links, why_not
from trioraft.client.status import ClusterStatus

SIZE = 3
SECONDS = 30.0

pytestmark = pytest.mark.skipif(bool(why_not()), reason=f"no network namespaces: {why_not()}")


@asynccontextmanager
async def open_cluster(directory: Path) -> AsyncIterator[tuple[Cluster, Links]]:
    async with open_links(SIZE, seed=1) as links:
        places = [links.place(i) for i in range(SIZE)]
        async with Cluster(directory, SIZE, ports=[PORT] * SIZE, places=places) as cluster:
            await cluster.wait_leader(SECONDS)
            yield cluster, links


def ours() -> list[str]:
    """List the namespaces of this process."""
    directory = Path("/run/netns")
    found = directory.iterdir() if directory.exists() else ()
    return sorted(path.name for path in found if f"-{os.getpid()}-" in path.name)


def is_at(cluster: Cluster, i: int, host: str, seen: ClusterStatus) -> bool:
    """Check whether a node answers at an address, and follows or leads."""
    node = cluster.node(i)
    return (
        seen.leader is not None
        and node is not None
        and node.reachable
        and node.status.leader == seen.leader.status.id
        and str(node.address) == f"{host}:{PORT}"
    )


async def test_signals_reach_nodes_in_namespaces_and_nothing_is_left_behind(tmp_path: Path) -> None:
    async with open_cluster(tmp_path) as (cluster, _):
        assert len(ours()) == SIZE
        here = os.stat("/proc/self/ns/net").st_ino
        for i in range(SIZE):
            node, pid = cluster.node(i), cluster.process(i).pid
            assert node is not None
            assert node.status.pid == pid, "what was started has become the node"
            assert os.stat(f"/proc/{pid}/ns/net").st_ino != here
        cluster.pause(0)
        await cluster.wait_for(lambda _: not reachable(cluster, 0), SECONDS, "the paused node is silent")
        cluster.resume(0)
        await cluster.wait_for(lambda _: reachable(cluster, 0), SECONDS, "it is back")
        assert await cluster.stop(0) == 0
    assert ours() == []


def reachable(cluster: Cluster, i: int) -> bool:
    node = cluster.node(i)
    return node is not None and node.reachable


async def test_a_leader_whose_link_goes_down_is_replaced_and_follows_when_it_is_up_again(tmp_path: Path) -> None:
    async with open_cluster(tmp_path) as (cluster, links):
        old = cluster.index(await cluster.wait_leader())
        async with links.down(old):
            new = cluster.index(await cluster.wait_leader(SECONDS, without=[old]))
            assert new != old
            with trio.fail_after(SECONDS):
                await cluster.client.put("key", "value")
        await cluster.wait_leader(SECONDS)
        node = cluster.node(old)
        assert node is not None
        assert node.status.role == "follower"
        assert node.status.counters["send_enetunreach"] > 0, node.status.counters
        await cluster.same_state()


@pytest.mark.parametrize("restarted", [True, False], ids=["restarted", "running"])
async def test_nodes_are_found_at_other_addresses_also_by_those_that_come_later(
    tmp_path: Path, restarted: bool
) -> None:
    async with open_cluster(tmp_path) as (cluster, links):
        source = random.Random(1)
        for i in range(SIZE):
            before = links.hosts[i]
            if restarted:
                await cluster.stop(i)
            await links.move(i, source)
            assert links.hosts[i] != before
            cluster.move(i, links.place(i))
            if restarted:
                await cluster.start(i)
            there = partial(is_at, cluster, i, links.hosts[i])
            await cluster.wait_for(there, SECONDS, f"node-{i + 1} is at {links.hosts[i]}")
            await cluster.wait_leader(SECONDS)
        with trio.fail_after(SECONDS):
            await cluster.client.put("key", "value")
        assert set(cluster.peers.split(",")) == {f"{host}:{PORT}" for host in links.hosts}
        await cluster.kill(0)
        await cluster.start(0)
        await cluster.wait_leader(SECONDS)
        await cluster.same_state()


async def test_a_command_that_reaches_only_followers_says_where_the_leader_is(tmp_path: Path) -> None:
    async with open_cluster(tmp_path) as (cluster, links):
        leader = cluster.index(await cluster.wait_leader())
        follower = (leader + 1) % SIZE
        route = ["ip", "route", "add", "unreachable", f"{links.hosts[leader]}/32"]
        peers = f"{links.hosts[follower]}:{PORT}"
        where = f"the leader is node node-{leader + 1} at {links.hosts[leader]}:{PORT}"
        told = f"answers, but does not lead; {where}"
        await trio.run_process(route)
        try:
            for words in (
                ["put", "k", "v", "--timeout", "3"],
                ["lock", "l", "--wait", "3", "--", "true"],
                ["transfer"],
            ):
                done = await trio.run_process(
                    [sys.executable, "-m", "trioraft", words[0], "--peers", peers, *words[1:]],
                    capture_stdout=True,
                    capture_stderr=True,
                    check=False,
                    env={**clean_environment(), "PYTHONPATH": str(ROOT)},
                )
                assert done.returncode == 1
                assert told in done.stderr.decode(), words
        finally:
            await trio.run_process(["ip", "route", "del", *route[3:]])
