"""A leader whose process is killed and started again at once: its job runs again soon, and never twice at a time.

The full version has 50 changes of the leader, and takes about four minutes::

    TRIORAFT_RESTARTS=50 python -m pytest -s tests/cluster/test_endings.py -k killed_and_started
"""

import os
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import NamedTuple

import pytest
import trio

from tests.cluster.harness import DEFAULT_TIMEOUTS, Cluster
from tests.cluster.records import supervisor_of
from tests.unit.processes import write_script
from trioraft.clock import boottime
from trioraft.versions import ENDS_FROM

RESTARTS = int(os.environ.get("TRIORAFT_RESTARTS", "3"))
# From the kill until the job runs again, with the default settings, without what the node waits for a processor.
WITHIN = 2.5

# A job that takes some time to end when it is told to, and says when it began and ended.
_JOB = """
begun() {{ echo "$(cut -d ' ' -f 1 /proc/uptime) $1 $TRIORAFT_FENCING_TOKEN $TRIORAFT_NODE_NAME" >> {records}; }}
trap 'sleep {ending}; begun end; exit 0' TERM
begun start
while :; do sleep 0.02; done
"""


class Note(NamedTuple):
    """What a job wrote down: when, whether it began or ended, under which token, and where."""

    at: float
    what: str
    token: int
    node: str


class Job:
    """The leader script of a cluster, and what it has written down."""

    def __init__(self, directory: Path, ending: float) -> None:
        self._records = directory / "job"
        self._records.touch()
        text = _JOB.format(records=self._records, ending=ending)
        self.environment = {"SCRIPT_LEADER_PATH": write_script(directory, text), **DEFAULT_TIMEOUTS}

    def notes(self) -> list[Note]:
        words = [line.split() for line in self._records.read_text().splitlines()]
        return [Note(float(at), what, int(token), node) for at, what, token, node in words]

    async def begins(self, after: int, within: float) -> Note:
        """Wait until the job begins under a later token."""
        with trio.fail_after(within):
            while True:
                for note in self.notes():
                    if note.what == "start" and note.token > after:
                        return note
                await trio.sleep(0.02)

    def overlaps(self) -> list[str]:
        """List where one began before the one before it had ended."""
        return [
            f"{other} before the end of {one}"
            for one, other in pairwise(self.notes())
            if (one.what, other.what) == ("start", "start")
        ]


async def _ready(cluster: Cluster) -> int:
    """Wait until the cluster speaks the version that this needs, and return which node leads."""
    leader = await cluster.wait_leader(30)
    await cluster.wait_for(
        lambda seen: all(node.status.cluster_version >= ENDS_FROM for node in seen.nodes), 20, "it speaks the version"
    )
    return cluster.index(leader)


class Away(NamedTuple):
    """How long a job was away, in seconds; how much of that its node waited for a processor; and where it runs."""

    seconds: float
    waited: float
    back: Note


async def _kill_and_start(cluster: Cluster, job: Job, token: int) -> Away:
    """Kill the leader's process, and start it again at once."""
    leader = await _ready(cluster)
    killed_at = boottime()
    await cluster.kill(leader)
    await cluster.start(leader)
    pid = cluster.process(leader).pid
    note = await job.begins(token, within=30)
    return Away(note.at - killed_at, _waited(pid) + _waited(supervisor_of(pid)), note)


def _waited(pid: int) -> float:
    """Return for how many seconds a process could have run and got no processor."""
    return int(Path(f"/proc/{pid}/schedstat").read_text("ascii").split()[1]) / 1e9


@pytest.mark.timeout(90 + 15 * RESTARTS)
async def test_the_job_of_a_leader_that_is_killed_and_started_again_runs_soon_and_never_twice(tmp_path: Path) -> None:
    job = Job(tmp_path, ending=0.05)
    away = []
    async with Cluster(tmp_path, 3, job.environment) as cluster:
        token = (await job.begins(0, 30)).token
        for _ in range(RESTARTS):
            away.append(await _kill_and_start(cluster, job, token))
            token = away[-1].back.token
    assert not job.overlaps()
    took = [one.seconds for one in away]
    print(f"\n{RESTARTS} kills: the job runs again after {median(took):.2f} s, at most {max(took):.2f} s")
    print(f"of that its node waited for a processor: {', '.join(f'{one.waited:.2f}' for one in away)} s")
    assert median(one.seconds - one.waited for one in away) <= WITHIN, away


async def test_a_job_that_takes_long_to_end_is_waited_for(tmp_path: Path) -> None:
    job = Job(tmp_path, ending=1.5)
    async with Cluster(tmp_path, 3, job.environment) as cluster:
        token = (await job.begins(0, 30)).token
        away = await _kill_and_start(cluster, job, token)
    assert not job.overlaps()
    assert away.seconds >= 1.5


async def test_without_the_locks_two_jobs_run_at_a_time(tmp_path: Path) -> None:
    """So the tests above would notice that."""
    job = Job(tmp_path, ending=4.0)
    async with Cluster(tmp_path, 3, job.environment, modules=["tests.cluster.unlocked"] * 3) as cluster:
        token = (await job.begins(0, 30)).token
        for _ in range(4):
            token = (await _kill_and_start(cluster, job, token)).back.token
            if job.overlaps():
                return
            await trio.sleep(4)
    raise AssertionError("nothing was noticed")
