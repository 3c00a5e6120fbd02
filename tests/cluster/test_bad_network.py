"""A bad network: with default timeouts, the leader stays.

The full version is five clusters, observed for a minute each; three at a time are enough for two processors::

    TRIORAFT_BAD_NETWORK_RUNS=5 TRIORAFT_BAD_NETWORK_SECONDS=60 python -m pytest -s tests/cluster/test_bad_network.py
"""

import os
import random
from pathlib import Path

import pytest
import trio

from tests.cluster.harness import DEFAULT_TIMEOUTS, Cluster, free_ports
from tests.cluster.relay import Faults, open_relay

RUNS = int(os.environ.get("TRIORAFT_BAD_NETWORK_RUNS", "1"))
SECONDS = float(os.environ.get("TRIORAFT_BAD_NETWORK_SECONDS", "15"))
AT_ONCE = 3
SIZE = 3


async def keeps_its_leader(directory: Path, seed: int) -> None:
    """Observe one cluster on a bad network; every election that any node saw is in its log."""
    await trio.Path(directory).mkdir()
    ports = free_ports(SIZE)
    async with open_relay(ports, seed) as relay:
        each = [{"PEERS": relay.peers_of(i)} for i in range(SIZE)]
        async with Cluster(directory, SIZE, DEFAULT_TIMEOUTS, each=each, ports=ports) as cluster:
            before = await cluster.wait_leader(30)
            relay.faults = Faults(loss=0.3, duplication=0.1, delay=0.1, jitter=0.05, late=0.1, late_by=1.0)
            relay.relayed = relay.lost = relay.overtaken = 0
            await trio.sleep(SECONDS)
            after = await cluster.statuses()
            carried = relay.relayed + relay.lost
            print(
                f"seed {seed}: {SECONDS:.0f} s, {carried} datagrams, {relay.lost} lost, {relay.overtaken} overtook"
                f" another; leader {before.status.id} in term {before.status.term} before, and after it"
                f" {after.leader and after.leader.status.id} in term {after.term}"
            )
            # So bad was the network.
            assert relay.lost > 0.2 * carried
            assert relay.overtaken > 0.02 * carried
            assert len(after.nodes) == SIZE
            assert {n.status.term for n in after.nodes} == {before.status.term}
            assert after.leader is not None
            assert after.leader.status.id == before.status.id
            elected = [line for i in range(SIZE) for line in cluster.logs(i) if line["event"] == "became leader"]
            lost = [line for i in range(SIZE) for line in cluster.logs(i) if line["event"] == "stepped down"]
            assert (len(elected), lost) == (1, [])


@pytest.mark.timeout(60 + 2 * SECONDS * (1 + RUNS // AT_ONCE))
async def test_a_bad_network_costs_no_leader(tmp_path: Path) -> None:
    limiter = trio.CapacityLimiter(AT_ONCE)

    async def one(number: int) -> None:
        async with limiter:
            await keeps_its_leader(tmp_path / str(number), random.randrange(10**6))

    async with trio.open_nursery() as nursery:
        for number in range(RUNS):
            nursery.start_soon(one, number)
