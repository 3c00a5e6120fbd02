"""When a leader script that has ended is run again, under trio's mocked clock, and what a node says of its job."""

from itertools import pairwise

import pytest
import structlog.testing
import trio
import trio.testing

from tests.unit.memory_cluster import cluster_of
from tests.unit.memory_launcher import Behaviour, MemoryLauncher
from tests.unit.test_hooks import LEASE, Settings, launcher, roles, running
from trioraft.consensus import Role
from trioraft.hooks.launcher import Exited, Killing
from trioraft.settings.restart import RestartPolicy, restart_policy

__all__ = ["launcher"]  # the fixture

Clock = trio.testing.MockClock
FAILS = Behaviour(lifetime=1, exit_status=3)


def kept(policy: str = "on-failure", hook_failure: str = "ignore") -> Settings:
    return Settings(
        script_follower_path=None, hook_failure=hook_failure, script_leader_restart=restart_policy(policy)
    )


@pytest.mark.parametrize(
    ("policy", "exit_status", "starts"),
    [("never", 3, 1), ("on-failure", 3, 3), ("on-failure", 0, 1), ("always", 0, 5), ("always", 3, 3)],
)
async def test_a_script_that_ended_is_run_again_as_its_policy_says(
    autojump_clock: Clock, launcher: MemoryLauncher, policy: str, exit_status: int, starts: int
) -> None:
    """Runs of one second, after pauses of one second that double with each failure, in nine seconds."""
    launcher.behaviours["/leader"] = Behaviour(lifetime=1, exit_status=exit_status)
    async with running(kept(policy), launcher) as node:
        await trio.sleep(1)
        node.start()
        await node.lead(9)
        assert roles(launcher) == ["leader"] * starts
        assert {run.token for run in launcher.runs} == {node.term}
        assert node.failed == []


async def test_failures_in_a_row_are_answered_by_longer_pauses_until_the_script_is_given_up(
    autojump_clock: Clock, launcher: MemoryLauncher
) -> None:
    launcher.behaviours["/leader"] = FAILS
    async with running(kept("on-failure:8"), launcher) as node:
        await trio.sleep(1)
        node.start()
        await node.lead(300)
        began = [run.started for run in launcher.runs]
        pauses = [after - before - 1 for before, after in pairwise(began)]
        assert pauses == pytest.approx([1, 2, 4, 8, 16, 30, 30])
        assert node.hooks.job_status.text == "failed (exit 3), given up after 8 starts"
        assert node.failed == []
        node.step_down()
        await trio.sleep(1)
        node.start()
        await node.lead(4)
        assert launcher.runs[-1].token == node.term, "the next term begins anew"


async def test_a_script_that_ran_for_a_while_has_started_well(
    autojump_clock: Clock, launcher: MemoryLauncher
) -> None:
    launcher.behaviours["/leader"] = Behaviour(lifetime=10, exit_status=3)
    async with running(kept("on-failure:2"), launcher) as node:
        await trio.sleep(1)
        node.start()
        await node.lead(50)
        assert [run.started for run in launcher.runs] == pytest.approx([1, 12, 23, 34, 45])


async def test_a_script_that_cannot_be_run_at_first_is_tried_again(
    autojump_clock: Clock, launcher: MemoryLauncher
) -> None:
    launcher.behaviours["/leader"] = Behaviour(missing=True)
    async with running(kept(), launcher) as node:
        await trio.sleep(1)
        node.start()
        await node.lead(0.5)
        assert node.hooks.job_status.text == "failed (cannot be run), again in 0.5 s"
        del launcher.behaviours["/leader"]
        await node.lead(2)
        assert roles(launcher) == ["leader"]


async def test_the_next_run_begins_when_nothing_of_the_last_one_is_left(
    autojump_clock: Clock, launcher: MemoryLauncher
) -> None:
    """A script's own process has ended with 3, and a child of it ignores SIGTERM."""
    async with running(kept(), launcher) as node:
        await trio.sleep(1)
        node.start()
        await node.lead(1)
        assert launcher.link is not None
        launcher.behaviours["/leader"] = Behaviour(stops_in=4)
        launcher.link._events.append(Exited(status=3))
        launcher.link._news.set()
        await node.lead(10)
        first, second = launcher.runs
        assert (first.ended, second.started) == pytest.approx((6, 7))
        assert node.ended == []


async def test_a_child_that_does_not_end_is_killed_before_the_next_run(
    autojump_clock: Clock, launcher: MemoryLauncher
) -> None:
    async with running(kept(), launcher) as node:
        await trio.sleep(1)
        node.start()
        await node.lead(1)
        assert launcher.link is not None
        launcher.behaviours["/leader"] = Behaviour(stops_in=100)
        launcher.link._events += [Exited(status=3), Killing(left=1, denied=())]
        launcher.link._news.set()
        await node.lead(10)
        assert launcher.runs[0].killed
        assert launcher.runs[1].started == pytest.approx(launcher.runs[0].ended + 1)


async def test_work_that_ends_in_the_pause_is_told_at_once_and_nothing_runs_any_more(
    autojump_clock: Clock, launcher: MemoryLauncher
) -> None:
    launcher.behaviours["/leader"] = FAILS
    async with running(kept(), launcher) as node:
        await trio.sleep(1)
        node.start()
        await node.lead(1.5)
        node.step_down()
        await trio.sleep(0.1)
        assert node.ended == [2.5]
        assert node.hooks.job_status.state == "none"
        await trio.sleep(60)
        assert len(launcher.runs) == 1
        assert node.ended == [2.5]


async def test_no_run_begins_after_the_deadline(autojump_clock: Clock, launcher: MemoryLauncher) -> None:
    """The lease is not renewed, and the pause is over after it."""
    launcher.behaviours["/leader"] = Behaviour(lifetime=2.5, exit_status=3)
    async with running(kept(), launcher) as node:
        await trio.sleep(1)
        node.start()
        await trio.sleep(60)
        (run,) = launcher.runs
        assert run.ended == 3.5 < 1 + LEASE
        assert len(node.ended) == 1


async def test_after_the_last_failure_hook_failure_decides(autojump_clock: Clock, launcher: MemoryLauncher) -> None:
    launcher.behaviours["/leader"] = FAILS
    async with running(kept("on-failure:3", "step-down"), launcher) as node:
        await trio.sleep(1)
        node.start()
        await node.lead(6)
        assert node.failed == []
        await node.lead(10)
        assert node.failed == ["the leader script /leader failed: exit status 3, given up after 3 starts"]


async def test_the_log_has_a_line_for_each_end_that_says_what_follows(
    autojump_clock: Clock, launcher: MemoryLauncher
) -> None:
    launcher.behaviours["/leader"] = FAILS
    async with running(kept(), launcher) as node:
        await trio.sleep(1)
        with structlog.testing.capture_logs() as logs:
            node.start()
            await node.lead(2.5)
    told = [(line["event"], line.get("again_in")) for line in logs]
    assert told == [("script started", None), ("script failed", 1.0), ("script started", None)]


async def test_a_job_is_told_in_words_and_numbers(autojump_clock: Clock, launcher: MemoryLauncher) -> None:
    launcher.behaviours["/leader"] = FAILS
    async with running(kept(), launcher) as node:
        assert node.hooks.job_status.text == ""
        await trio.sleep(1)
        node.start()
        await node.lead(0.9)
        assert node.hooks.job_status.text == "runs for 0 s, token 2"
        await node.lead(0.2)
        job = node.hooks.job_status
        assert (job.state, job.text, job.exit_status) == ("again", "failed (exit 3), again in 0.9 s", 3)
        assert job.starts_in_seconds == pytest.approx(0.9)
        launcher.behaviours["/leader"] = Behaviour(lifetime=70)
        await node.lead(66)
        assert node.hooks.job_status.text == "runs for 0:01:05, token 2, start 2"
        await node.lead(10)
        assert (node.hooks.job_status.state, node.hooks.job_status.text) == ("over", "over (exit 0)")


async def test_a_new_leader_says_for_whose_work_it_waits_and_what_then_becomes_of_its_own(
    autojump_clock: Clock,
) -> None:
    async with cluster_of(3, 1) as cluster:
        await cluster.start()
        first = await cluster.leader()
        await trio.sleep(20)
        status = cluster.nodes[first].status()
        assert (status.job.state, status.job.token) == ("runs", status.term)
        assert cluster.nodes[first].why_no_leader_work() == ""
        name = cluster.nodes[first].name
        await cluster.kill(first)
        with structlog.testing.capture_logs() as logs:
            second = await cluster.leader()
            node = cluster.nodes[second]
            job = node.status().job
            assert job.state == "waits"
            assert job.starts_in_seconds is not None
            assert job.text == f"starts in {job.starts_in_seconds:.1f} s: waits for the end of {name}'s"
            assert node.why_no_leader_work() == f"its job: {job.text}"
            await trio.sleep(job.starts_in_seconds - 0.1)
            assert node.status().job.state == "waits"
            await trio.sleep(0.2)
            assert node.status().job.state == "runs"
            other = next(one for i, one in cluster.nodes.items() if i not in {first, second})
            assert (other.role, other.status().job.text) == (Role.FOLLOWER, "")
            assert other.why_no_leader_work() == "this node does not lead"
        (told,) = [line for line in logs if line["event"] == "leader work waits"]
        assert f"waits for the end of {name}'s" in told["why"]


async def test_a_leader_whose_lease_has_run_out_says_that_no_work_runs(autojump_clock: Clock) -> None:
    async with cluster_of(3, 1) as cluster:
        await cluster.start()
        leader = await cluster.leader()
        await trio.sleep(20)
        node = cluster.nodes[leader]
        assert node.why_no_leader_work() == ""
        cluster.cut_off = {leader}
        with trio.fail_after(10):
            while not (why := node.why_no_leader_work()):
                await trio.sleep(0.01)
        assert why in {"its job: it has come to its deadline", "its job: ends", "this node does not lead"}


def test_policies_are_read_and_written_alike() -> None:
    for text in ("never", "on-failure", "always", "on-failure:3", "always:1"):
        assert str(restart_policy(text)) == text
    assert restart_policy("ON-FAILURE:3") == RestartPolicy("on-failure", 3)
    for wrong in ("", "sometimes", "never:3", "on-failure:", "on-failure:0", "always:-1", "always:99999999"):
        with pytest.raises(ValueError, match=r"unknown|not a number"):
            restart_policy(wrong)
