"""Leader work is exclusive: real nodes, scripts and supervisors, and a leader that is lost in every way.

The full version has 50 changes of the leader and takes about two minutes::

    TRIORAFT_LEADER_CHANGES=50 python -m pytest -s tests/cluster/test_leader_work.py -k every_way
"""

import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
import trio

from tests.cluster.harness import Cluster, free_ports
from tests.cluster.records import KINDS, Records, check_exclusive, supervisor_of
from tests.cluster.relay import Relay, open_relay
from tests.unit.processes import gone, is_alive, write_script
from trioraft.client.status import ClusterStatus
from trioraft.clock import boottime
from trioraft.messages import Transfer

CHANGES = int(os.environ.get("TRIORAFT_LEADER_CHANGES", "5"))
WAYS = ("kill", "stop", "transfer", "pause", "partition")
SIZE = 3
LOWER, UPPER, HEARTBEAT, GRACE, MARGIN = 0.3, 0.6, 0.05, 0.3, 1.0
TIMES = {
    "ELECTION_TIMEOUT_LOWER_MILLIS": f"{LOWER * 1000:.0f}",
    "ELECTION_TIMEOUT_UPPER_MILLIS": f"{UPPER * 1000:.0f}",
    "HEARTBEAT_REPEAT_MILLIS": f"{HEARTBEAT * 1000:.0f}",
    "HOOK_STOP_GRACE_MILLIS": f"{GRACE * 1000:.0f}",
}
# For longer than leader work may run after the last heartbeat.
PAUSE = LOWER + GRACE + MARGIN + 0.5


@dataclass
class Worked:
    """A cluster behind a relay whose leader runs the recording script."""

    cluster: Cluster
    relay: Relay
    records: Records

    async def work_after(self, token: int, within: float = 20.0) -> int:
        """Wait until leader work with a newer token runs, all three processes of it, and return the token."""
        with trio.fail_after(within):
            while True:
                newest = self.records.newest_token()
                if newest > token and len(self.records.processes_of(newest)) == len(KINDS):
                    return newest
                await trio.sleep(0.02)

    async def settled(self) -> None:
        """Wait until every node answers in its present process."""
        cluster = self.cluster

        def settled(_: ClusterStatus) -> bool:
            nodes = [(cluster.node(i), cluster.process(i).pid) for i in range(SIZE)]
            return all(node is not None and node.reachable and node.status.pid == pid for node, pid in nodes)

        await cluster.wait_for(settled, 15, "every node answers")

    def said(self, i: int) -> list[str]:
        return [line["event"] for line in self.cluster.logs(i)]

    def hook_state(self, i: int) -> str:
        node = self.cluster.node(i)
        current = node is not None and node.status.pid == self.cluster.process(i).pid
        return node.status.hook.state if node is not None and current else ""

    async def end(self) -> None:
        """Stop all nodes, and see that nothing is left of them."""
        for i in range(SIZE):
            self.cluster.process(i).terminate()
        assert [await self.cluster.ended(i, 10) for i in range(SIZE)] == [0] * SIZE
        left = self.records.carriers()
        assert not left, f"processes {left} are left"


@asynccontextmanager
async def open_worked(directory: Path, seed: int, **environment: str) -> AsyncIterator[Worked]:
    records = Records(directory)
    ports = free_ports(SIZE)
    async with open_relay(ports, seed) as relay:
        each = [{"PEERS": relay.peers_of(i)} for i in range(SIZE)]
        everywhere = {**TIMES, **records.environment, **environment}
        async with Cluster(directory, SIZE, everywhere, each=each, ports=ports) as cluster:
            yield Worked(cluster, relay, records)


async def lose_leader(worked: Worked, way: str, token: int) -> int:
    """Take the leadership from the leader in some way, wait for the next one's work, and let the first return."""
    cluster, relay = worked.cluster, worked.relay
    old = await cluster.wait_leader()
    leader = cluster.index(old)
    began = trio.current_time()
    match way:
        case "kill":
            await cluster.kill(leader)
        case "stop":
            assert await cluster.stop(leader) == 0
        case "transfer":
            response = await cluster.client.command(old.status.id, Transfer())
            assert response.done, response.detail
        case "pause":
            cluster.pause(leader)
        case "partition":
            relay.faults.cut_off(leader, range(SIZE))
    newest = await worked.work_after(token)
    match way:
        case "kill" | "stop":
            await cluster.start(leader)
        case "pause":
            await trio.sleep_until(began + PAUSE)
            cluster.resume(leader)
        case "partition":
            relay.faults.cut.clear()
    await worked.settled()
    await cluster.wait_leader()
    return newest


@pytest.mark.timeout(60 + 20 * CHANGES)
async def test_no_two_leaders_work_at_once_in_every_way_to_lose_one(tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    done: Counter[str] = Counter()
    print(f"seed {seed}")
    async with open_worked(tmp_path, seed) as worked:
        token = await worked.work_after(0)
        for number in range(CHANGES):
            way = WAYS[number % len(WAYS)]
            await trio.sleep(chance.uniform(0, 2 * LOWER))
            token = await lose_leader(worked, way, token)
            done[way] += 1
            check_exclusive(worked.records.intervals())
        await worked.end()
        intervals = worked.records.intervals()
    check_exclusive(intervals)
    # Neither the return of the old leader nor anything else costs another election, but that a busy machine may
    # once have kept a leader from its heartbeats.
    more = len(intervals) - (CHANGES + 1)
    assert 0 <= more <= max(1, CHANGES // 10)
    assert sum(interval.kinds == KINDS for interval in intervals) > CHANGES
    gaps = [other.start - one.end for one, other in pairwise(intervals)]
    print(f"{CHANGES} changes of the leader: {dict(done)}, and {more} more")
    print(f"{len(intervals)} intervals of work; none overlaps; {min(gaps):.3f} to {max(gaps):.3f} s between them")


async def test_a_node_that_loses_its_supervisor_kills_what_is_left_and_steps_down(tmp_path: Path) -> None:
    async with open_worked(tmp_path, 1) as worked:
        token = await worked.work_after(0)
        old = await worked.cluster.wait_leader()
        leader = worked.cluster.index(old)
        processes = worked.records.processes_of(token)
        assert len(processes) == len(KINDS)
        assert all(map(is_alive, processes))
        os.kill(supervisor_of(worked.cluster.process(leader).pid), signal.SIGKILL)
        await gone(*processes, within=LOWER + GRACE + MARGIN)
        newest = await worked.work_after(token)
        new = await worked.cluster.wait_leader()
        assert (worked.cluster.index(new) != leader, new.status.term) == (True, newest)
        assert "lost the supervisor of scripts; killing what is left of them" in worked.said(leader)
        # It has another one by now, and can work again.
        response = await worked.cluster.client.command(new.status.id, Transfer(int(old.status.id, 16)))
        assert response.done, response.detail
        await worked.work_after(newest)
        assert worked.cluster.index(await worked.cluster.wait_leader()) == leader
        await worked.end()
        check_exclusive(worked.records.intervals())


async def test_a_node_that_starts_again_waits_for_the_work_of_its_earlier_process(tmp_path: Path) -> None:
    grace = 6.0  # it starts within that, also on a busy machine
    follower = tmp_path / "follower"
    script = write_script(tmp_path, f"cut -d ' ' -f 1 /proc/uptime >> {follower}.$TRIORAFT_NODE_NAME")
    times = {"HOOK_STOP_GRACE_MILLIS": f"{grace * 1000:.0f}", "SCRIPT_FOLLOWER_PATH": script}
    async with open_worked(tmp_path, 2, **times) as worked:
        token = await worked.work_after(0)
        cluster = worked.cluster
        leader = cluster.index(await cluster.wait_leader())
        await cluster.kill(leader)
        killed_at = boottime()
        await cluster.start(leader)
        await cluster.wait_for(lambda _: worked.hook_state(leader) == "waiting", grace, "it waits")
        # One process of the work ignores SIGTERM, so it lives until the end of the grace.
        assert any(map(is_alive, worked.records.processes_of(token)))
        ended_at = await gone(*worked.records.processes_of(token), within=grace + MARGIN)
        assert ended_at - killed_at >= grace - 0.1
        path = follower.with_name(f"{follower.name}.node-{leader + 1}")
        with trio.fail_after(5):
            while len(path.read_text().split()) < 2:  # the first run was before it led
                await trio.sleep(0.02)
        assert float(path.read_text().split()[-1]) >= ended_at - 0.02
        await worked.work_after(token)
        await worked.end()
        check_exclusive(worked.records.intervals())
