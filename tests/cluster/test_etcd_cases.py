"""A node answers what etcd 3.5.1 was recorded to answer."""

from functools import partial
from pathlib import Path
from typing import Final

import trio

from tests.etcd.replay import CASES, Replay
from tests.etcd.serving import Serving

# What trioraft does not have; its README says so.
ABSENT: Final = {
    "maintenance: snapshot": "there is no database of etcd to send",
    "auth: a user and a role": "there are no users and roles",
    "auth: enabled": "there are no users and roles",
}


async def test_a_node_answers_what_etcd_was_recorded_to_answer(tmp_path: Path) -> None:
    cases = [case for case in CASES if case["name"] not in ABSENT]
    assert len(CASES) - len(cases) == len(ABSENT)
    async with Serving(tmp_path) as cluster:
        await cluster.wait_ready()
        replay = Replay(cluster.client_address(0))
        problems = {}
        for case in cases:
            problem = await trio.to_thread.run_sync(partial(replay.run, case))
            if problem:
                problems[case["name"]] = problem[:1000]
        assert not problems
