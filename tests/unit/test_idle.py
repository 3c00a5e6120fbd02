"""What a node does while nobody asks anything of it: heartbeats, and next to nothing else."""

from collections import Counter

import pytest
import trio

from tests.unit.memory_client import key_value_cluster
from trioraft.consensus import Role
from trioraft.node.loop import Loop
from trioraft.versions import SPOKEN

HEARTBEATS = 20  # in a second
SECONDS = 60
# What comes beside heartbeats in a second: a look at addresses and members, now and then a look-up in DNS, and a
# datagram of the simulated network that is lost, late or doubled.
OTHERS = 3


@pytest.mark.parametrize("seed", [1, 2])
async def test_an_idle_node_takes_turns_for_heartbeats_only(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    turns: Counter[Loop] = Counter()
    turn = Loop.turn

    def counted(loop: Loop) -> None:
        turns[loop] += 1
        turn(loop)

    monkeypatch.setattr(Loop, "turn", counted)
    async with key_value_cluster(
        3, seed, heartbeat_repeat=1 / HEARTBEATS, election_timeout_lower=0.15, election_timeout_upper=0.3
    ) as cluster:
        await trio.sleep(10)
        turns.clear()
        await trio.sleep(SECONDS)
        for node in cluster.nodes.values():
            # A leader sends to both followers at once, and each of them answers in its own time.
            heartbeats = 3 * HEARTBEATS if node.role is Role.LEADER else HEARTBEATS
            assert node._loop is not None
            assert turns[node._loop] / SECONDS < heartbeats + OTHERS, node.role


@pytest.mark.parametrize("size", [1, 3])
async def test_a_new_cluster_speaks_the_newest_version_within_a_few_heartbeats(
    autojump_clock: trio.testing.MockClock, size: int
) -> None:
    settings = {"heartbeat_repeat": 1 / HEARTBEATS, "election_timeout_lower": 0.15, "election_timeout_upper": 0.3}
    async with key_value_cluster(size, 3, **settings) as cluster:
        with trio.fail_after(5 / HEARTBEATS):
            while any(node.status().cluster_version < SPOKEN.highest for node in cluster.nodes.values()):
                await trio.sleep(0.01)
