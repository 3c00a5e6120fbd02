"""The harness itself, and the client against real nodes."""

import os
import signal
from pathlib import Path

import pytest
import trio

from tests.cluster.harness import Cluster
from trioraft.datagrams.keys import generate_key
from trioraft.messages import Transfer


async def test_client_sees_what_happens_to_the_nodes(tmp_path: Path) -> None:
    async with Cluster(tmp_path, environment={"CLUSTER_KEY": generate_key()}) as cluster:
        leader = await cluster.wait_leader(30)
        pids = {node.status.pid for node in (await cluster.statuses()).nodes}
        assert pids == {process.pid for process in cluster.processes if process is not None}

        other = next(node for node in cluster.client.nodes.values() if node.status.role == "follower")
        await trio.sleep(0.3)  # a leader hands over to nobody who has not answered a heartbeat of its own yet
        answer = await cluster.client.command(None, Transfer(int(other.status.id, 16)), 15)
        assert answer.done, answer.detail
        assert (await cluster.wait_leader(10)).status.id == other.status.id

        i = cluster.index(leader)
        cluster.pause(i)
        await cluster.wait_for(lambda seen: not _is_back(cluster, i), 5, "the paused node is unreachable")
        cluster.resume(i)
        await cluster.wait_leader(10)

        await cluster.kill(i)
        await cluster.wait_leader(10)
        await cluster.start(i)
        again = await cluster.wait_for(lambda seen: _is_back(cluster, i), 20, "it is back")
        assert leader.status.id in {node.status.id for node in again.nodes}, "it came back with another identity"
        pids = {p.pid for p in cluster.processes if p is not None}
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def _is_back(cluster: Cluster, i: int) -> bool:
    node = cluster.node(i)
    return node is not None and node.reachable and node.status.pid == _pid(cluster, i)


def _pid(cluster: Cluster, i: int) -> int:
    process = cluster.processes[i]
    return process.pid if process is not None else 0


async def test_a_failing_test_shows_the_logs_and_leaves_no_process(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pids = []

    async def fail() -> None:
        async with Cluster(tmp_path, size=1) as cluster:
            await cluster.wait_leader(20)
            pids.append(cluster.process(0).pid)
            with trio.fail_after(10):  # the status may come before the line, which another thread writes
                while "became leader" not in [line.get("event") for line in cluster.logs(0)]:
                    await trio.sleep(0.01)
            raise RuntimeError("the test's own")

    with pytest.raises(RuntimeError, match="the test's own"):
        await fail()
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)
    assert '"event": "became leader"' in capfd.readouterr().out


async def test_nodes_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    async with Cluster(tmp_path, size=1) as cluster:
        await cluster.wait_leader(20)
        stdin = cluster.process(0).stdin
        assert stdin is not None
        await stdin.aclose()
        with trio.fail_after(10):
            assert await cluster.process(0).wait() == 0
    assert signal.SIGTERM.name in {line.get("reason") for line in cluster.logs(0)}
