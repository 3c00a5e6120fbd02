"""Real nodes leave the cluster when they are stopped."""

import time
from pathlib import Path

from tests.cluster.harness import Cluster
from tests.cluster.test_members import command, kinds, role

SIZE = 7
# As Docker does it, which kills what has not ended ten seconds after SIGTERM.
DOCKERS_PATIENCE = 10.0
SETTINGS = {"LEAVE_ON_STOP": "true", "ELECTION_TIMEOUT_LOWER_MILLIS": "3000", "ELECTION_TIMEOUT_UPPER_MILLIS": "5000"}


def events(cluster: Cluster, i: int) -> list[str]:
    return [line["event"] for line in cluster.logs(i)]


async def stopped_at_once(cluster: Cluster, *chosen: int) -> float:
    """Send SIGTERM to some nodes at once; return the seconds after which the last has ended."""
    began = time.monotonic()
    for i in chosen:
        cluster.process(i).terminate()
    for i in chosen:
        assert await cluster.ended(i, DOCKERS_PATIENCE) == 0
    return time.monotonic() - began


async def test_seven_become_three_and_one_comes_back_as_another(tmp_path: Path) -> None:
    async with Cluster(tmp_path, SIZE, SETTINGS) as cluster:
        await cluster.wait_for(lambda c: list(kinds(c).values()) == ["voter"] * SIZE, 30, "seven voters")
        leader = cluster.index(await cluster.wait_leader())
        await command(cluster, "put", "key", "value")
        # The leader and three others, in the same instant.
        leaving = [leader, *(i for i in range(SIZE) if i != leader)][:4]
        took = await stopped_at_once(cluster, *leaving)
        print(f"four of seven have left after {took:.3f} s")
        staying = [i for i in range(SIZE) if i not in leaving]
        leader = cluster.index(await cluster.wait_leader(without=leaving))
        expected = {f"node-{i + 1}": "voter" for i in staying}
        await cluster.wait_for(lambda c: kinds(c) == expected, 5, "three voters")
        assert all("left the cluster" in events(cluster, i) for i in leaving)

        # The next one is a member still: three is the fewest by default.
        (away,) = [i for i in staying if i != leader][:1]
        await stopped_at_once(cluster, away)
        (declined,) = [line for line in cluster.logs(away) if line["event"] == "stops but stays a member"]
        assert declined["reason"] == "2 voters would be left, fewer than 3"
        await cluster.start(away)
        await cluster.wait_for(lambda _: role(cluster, away) == "follower", 15, "it is back")
        assert kinds(await cluster.statuses()) == expected
        assert (await command(cluster, "get", "key")).strip() == "value"

        # One that has left joins as another node.
        back = leaving[0]
        old_ids = {n.status.id for n in cluster.client.nodes.values() if n.status.name == f"node-{back + 1}"}
        await cluster.start(back)
        await cluster.wait_for(
            lambda c: any(
                n.status.role == "learner" and n.status.name == f"node-{back + 1}" and n.status.id not in old_ids
                for n in c.nodes
            ),
            20,
            "it joined as a learner, as another node",
        )
