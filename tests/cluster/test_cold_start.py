"""Ten nodes that start in the same second, from nothing, on a network that loses a fifth: one cluster of ten.

The full version is fifty such starts, one after the other::

    TRIORAFT_FORMATIONS=50 python -m pytest -s tests/cluster/test_cold_start.py
"""

import os
import random
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from tests.cluster.harness import DEFAULT_TIMEOUTS, Cluster, free_ports
from tests.cluster.relay import Faults, open_relay
from trioraft.client.status import ClusterStatus

RUNS = int(os.environ.get("TRIORAFT_FORMATIONS", "1"))
SIZE, EXPECT = 10, 6
MAX_VOTERS = 7  # the default
LOSS = 0.2
SECONDS = 90.0  # ten Python processes start on two busy processors


@dataclass(frozen=True)
class Start:
    """What came of one start.

    Attributes
    ----------
    formed, whole : float
        When there was a leader, and when all were members, in seconds since the first process was started.
    formation : int
        How many nodes formed the cluster; the others joined.
    elections, term : int
        How many there were, and the term at the end.
    lost : float
        Which part of the datagrams between nodes.
    """

    formed: float
    whole: float
    formation: int
    elections: int
    term: int
    lost: float

    def __str__(self) -> str:
        return (
            f"formed by {self.formation} after {self.formed:.1f} s, all {SIZE} in it after {self.whole:.1f} s,"
            f" {MAX_VOTERS} of them voters; {self.elections} elections, term {self.term};"
            f" {100 * self.lost:.0f} % of the datagrams lost"
        )


def is_whole(seen: ClusterStatus) -> bool:
    """Check whether all are members of one cluster, and as many of them vote as should."""
    leader = seen.leader
    if leader is None:
        return False
    members = {member.id: member.kind for member in leader.status.members}
    heard = {node.status.id: node.status for node in seen.nodes if node.reachable}
    voters = sum(kind == "voter" for kind in members.values())
    return (
        members.keys() == heard.keys()
        and len(heard) == SIZE
        and {status.cluster_id for status in heard.values()} == {leader.status.cluster_id}
        and {status.leader for status in heard.values()} == {leader.status.id}
        and set(members.values()) == {"voter", "learner"}
        and voters == MAX_VOTERS
    )


async def cold_start(directory: Path, seed: int) -> Start:
    """Start ten nodes at once, and wait until they are one cluster."""
    await trio.Path(directory).mkdir()
    ports = free_ports(SIZE)
    async with open_relay(ports, seed) as relay:
        relay.faults = Faults(loss=LOSS)
        each = [{"PEERS": relay.peers_of(i)} for i in range(SIZE)]
        environment = {**DEFAULT_TIMEOUTS, "BOOTSTRAP_EXPECT": str(EXPECT)}
        began = trio.current_time()
        async with Cluster(directory, SIZE, environment, each=each, ports=ports) as cluster:
            await cluster.wait_for(lambda seen: seen.leader is not None, SECONDS, "a leader")
            formed = trio.current_time() - began
            seen = await cluster.wait_for(is_whole, SECONDS, "one cluster of ten")
            whole = trio.current_time() - began
            logs = [line for i in range(SIZE) for line in cluster.logs(i)]
            # None of them was ever in another one.
            entered = [line for line in logs if line["event"] in {"cluster formed", "joined"}]
            assert {line["cluster"] for line in entered} == {seen.cluster_id}, entered
            assert len(entered) == SIZE, entered
            assert not any("cluster" in alert for node in seen.nodes for alert in node.status.alerts), seen.to_json()
            return Start(
                formed,
                whole,
                sum(line["event"] == "cluster formed" for line in entered),
                sum(line["event"] == "became leader" for line in logs),
                seen.term,
                relay.lost / (relay.lost + relay.relayed),
            )


@pytest.mark.timeout(60 + 2 * SECONDS * RUNS)
async def test_ten_nodes_started_at_once_form_one_cluster(tmp_path: Path) -> None:
    for number in range(RUNS):
        seed = random.randrange(10**6)
        start = await cold_start(tmp_path / str(number), seed)
        print(f"start {number + 1}, seed {seed}: {start}")
        assert start.lost > LOSS / 2
