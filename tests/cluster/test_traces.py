"""What real nodes record with TRACE_FILE is a behaviour of the specifications, too."""

import json
from pathlib import Path
from typing import Any

import trio

from tests.cluster.harness import Cluster
from tests.specification.test_specification import needs_java
from tests.specification.trace_election import check_elections
from tests.specification.trace_formation import check_formations
from tests.specification.trace_leader_work import check_leader_work

pytestmark = needs_java


def merged(files: list[Path]) -> list[dict[str, Any]]:
    """Put the lines of all nodes in order: processes of one machine have one clock."""
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return sorted(lines, key=lambda line: line["time"])


async def test_a_leader_is_killed_and_comes_back(tmp_path: Path) -> None:
    files = [tmp_path / f"node-{i + 1}.ndjson" for i in range(3)]
    each = [{"TRACE_FILE": str(file)} for file in files]
    async with Cluster(tmp_path, 3, each=each, modules=["tests.cluster.placeless"] * 3) as cluster:
        leader = cluster.index(await cluster.wait_leader())
        await cluster.kill(leader)
        await cluster.wait_leader(without=[leader])
        await cluster.start(leader)
        await cluster.wait_leader()
        await trio.sleep(1)
        await cluster.stop(cluster.index(await cluster.wait_leader()))
    lines = merged(files)
    actions = {line["action"] for line in lines}
    assert {"StartPreVote", "HandleVoteRequest", "StartWork", "Promise"} <= actions
    assert max(line["term"] for line in lines) >= 2
    elections = await trio.to_thread.run_sync(check_elections, lines, 200)
    assert elections.accepted, f"{elections}\n{elections.refused}"
    work = await trio.to_thread.run_sync(check_leader_work, lines, 200)
    assert work.accepted, f"{work}\n{work.refused}"
    formations = await trio.to_thread.run_sync(check_formations, lines, 200)
    assert formations.accepted, f"{formations}\n{formations.refused}"
