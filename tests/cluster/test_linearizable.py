"""What clients see is linearizable, whatever happens to the network, the nodes, their disks and their members.

This is a short life of :mod:`tests.cluster.chaos`; the full version is::

    python -m tests.cluster.chaos --minutes 10

As root on Linux each node has a network namespace of its own. ``TRIORAFT_LIFE_SEED`` is the seed of this one; how
faults meet what the nodes do stays chance.
"""

import os
import random
from pathlib import Path

import pytest

from tests.cluster.chaos.life import live
from tests.cluster.chaos.picture import draw
from tests.cluster.chaos.verdict import judge, sum_up, with_a_stale_read
from tests.cluster.namespaces import why_not
from tests.linearizability import KeyValueModel, Verdict, check

SECONDS = 16.0
SEED = int(os.environ.get("TRIORAFT_LIFE_SEED", random.randrange(10**6)))


@pytest.mark.timeout(180)
async def test_what_clients_see_is_linearizable(tmp_path: Path) -> None:
    print(f"TRIORAFT_LIFE_SEED={SEED}")
    life = await live(tmp_path / "life", SEED, SECONDS, nodes=3, clients=8)
    judgement = judge(life)
    print(sum_up(life, judgement), judgement.saw, life.clients.done, life.storm.count)
    assert judgement.violations == ()
    assert life.on_loopback == why_not()
    assert judgement.unanswered == 0, "every command is answered at last"
    assert check(KeyValueModel(), with_a_stale_read(life.history.operations())).verdict is Verdict.VIOLATED
    # Enough to prove something; how much there is hangs on how busy the machine is.
    assert judgement.operations > 5 * SECONDS
    for outcome, least in (("found", 5), ("deleted", 1), ("swapped", 1), ("not swapped", 1), ("written", 5)):
        assert judgement.saw[outcome] > least * SECONDS / 10, judgement.saw
    assert life.clients.done["reads by followers"] > SECONDS / 2, life.clients.done
    assert life.lost > SECONDS
    assert life.overtaken > SECONDS / 5
    assert life.clients.lost > SECONDS / 5
    assert judgement.terms > 1, "the leader has changed"
    draw(life, judgement, tmp_path / "timeline.png")
    assert (tmp_path / "timeline.png").stat().st_size > 10_000
