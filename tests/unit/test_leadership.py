"""Leadership as structured concurrency: on memory nodes under the mocked clock, and the watchdog for real."""

import subprocess
import sys
from pathlib import Path

import trio
import trio.testing

from tests.unit.test_node import MemoryCluster, cluster_of
from trioraft.leadership import OVERRUN_STATUS, Leadership


async def work_on_all(cluster: MemoryCluster, log: list[tuple[float, str, int, int]]) -> None:
    """Record on each node when a body runs: the time, what happens, the node, the token."""

    async def worker(index: int) -> None:
        async def body(leadership: Leadership) -> None:
            log.append((trio.current_time(), "start", index, leadership.fencing_token))
            try:
                await trio.sleep_forever()
            finally:
                log.append((trio.current_time(), "end", index, leadership.fencing_token))

        await cluster.nodes[index].run_while_leader(body)

    async with trio.open_nursery() as nursery:
        for index in range(3):
            nursery.start_soon(worker, index)


async def test_a_body_runs_on_one_node_at_a_time_and_again_at_each_promotion(
    autojump_clock: trio.testing.MockClock,
) -> None:
    log: list[tuple[float, str, int, int]] = []
    async with cluster_of(3, 1) as cluster, trio.open_nursery() as nursery:
        await cluster.start()
        nursery.start_soon(work_on_all, cluster, log)
        for _ in range(5):
            leader = await cluster.leader()
            await trio.sleep(20)
            await cluster.nodes[leader].step_aside("test")
        await trio.sleep(20)
        nursery.cancel_scope.cancel()
    kinds = [kind for _, kind, _, _ in log]
    assert kinds == ["start", "end"] * (len(log) // 2)
    assert len(log) >= 12
    tokens = [token for _, kind, _, token in log if kind == "start"]
    assert tokens == sorted(set(tokens))


async def test_a_leader_that_is_cut_off_cancels_its_body_before_another_body_starts(
    autojump_clock: trio.testing.MockClock,
) -> None:
    log: list[tuple[float, str, int, int]] = []
    async with cluster_of(3, 2) as cluster, trio.open_nursery() as nursery:
        await cluster.start()
        nursery.start_soon(work_on_all, cluster, log)
        first = await cluster.leader()
        await trio.sleep(20)
        cluster.cut_off = {first}
        await trio.sleep(30)
        nursery.cancel_scope.cancel()
    (_, _, first_node, _), (ended, kind, _, _), (started, _, second_node, _) = log[:3]
    assert (kind, first_node, second_node) == (
        "end",
        first,
        (set(range(3)) - {first}).pop(),
    ) or first_node != second_node
    assert ended < started


PROGRAM = """
import sys, time, trio
from pathlib import Path
from trioraft.node import open_node
from trioraft.settings import NodeSettings

async def main():
    settings = NodeSettings(
        bind_port=int(sys.argv[2]), bootstrap_expect=1, data_dir=Path(sys.argv[1]), node_name="one",
        election_timeout_lower=0.3, election_timeout_upper=0.5, heartbeat_repeat=0.05, hook_stop_grace=0.2,
    )
    async with open_node(settings) as node:
        async with node.leadership():
            print("leading", flush=True)
            time.sleep(30)  # blocks the event loop: no cancellation can reach it

trio.run(main)
"""


def test_a_body_that_blocks_the_loop_is_ended_with_the_process(tmp_path: Path) -> None:
    port = "17411"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), port], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == OVERRUN_STATUS
    assert "leading" in done.stdout
    line = done.stderr.strip().splitlines()[-1]
    assert "leader work must be over, and has not ended: main (<string>:" in line
