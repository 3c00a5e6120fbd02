"""When scripts run: the rules under trio's mocked clock, with supervisors in memory that keep the deadlines."""

import itertools
import math
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog.testing
import trio
import trio.testing

from tests.unit.memory_launcher import Behaviour, MemoryLauncher, MemoryRun
from trioraft.hooks.hooks import HookContext, Hooks, Launcher
from trioraft.settings.restart import NEVER_AGAIN, RestartPolicy, restart_policy

GRACE = 5.0
LEASE = 3.0

Clock = trio.testing.MockClock


@dataclass(frozen=True)
class Settings:
    script_leader_path: str | None = "/leader"
    script_follower_path: str | None = "/follower"
    script_leader_arguments: tuple[str, ...] | None = None
    script_leader_restart: RestartPolicy = NEVER_AGAIN
    script_leader_output: str = "log"
    hook_stop_grace: float = GRACE
    hook_failure: str = "ignore"
    election_timeout_lower: float = LEASE


class Node:
    """Stands for the node: a term, and what the hooks have told it, with the time."""

    def __init__(self, settings: Settings, launcher: Launcher, directory: Path = Path("/nowhere")) -> None:
        self.term = 1
        self.ended: list[float] = []
        self.failed: list[str] = []
        self.hooks = Hooks(
            settings,
            directory,
            lambda: HookContext(
                node_id="00000000000000a1",
                node_name="node-1",
                cluster_id="00000000000000c1",
                term=self.term,
                leader_id="",
            ),
            launcher=launcher,
            on_work_ended=lambda: self.ended.append(trio.current_time()),
            on_work_failed=self.failed.append,
        )

    def start(self, lease: float = LEASE) -> None:
        self.term += 1
        self.hooks.start_work(self.term, trio.current_time() + lease)

    async def lead(self, seconds: float) -> None:
        """Renew the lease for some time."""
        until = trio.current_time() + seconds
        while trio.current_time() < until:
            self.hooks.extend_work(trio.current_time() + LEASE)
            await trio.sleep(min(0.5, until - trio.current_time()))

    def step_down(self) -> None:
        self.hooks.end_work()
        self.hooks.become_follower()

    async def state(self, wanted: str, within: float = 10.0) -> None:
        with trio.fail_after(within):
            while self.hooks.status.state != wanted:
                await trio.sleep(0.01)


@asynccontextmanager
async def running(settings: Settings, launcher: MemoryLauncher) -> AsyncIterator[Node]:
    node = Node(settings, launcher)
    async with trio.open_nursery() as nursery:
        await nursery.start(node.hooks.run)
        yield node
        nursery.cancel_scope.cancel()


@pytest.fixture
def launcher() -> MemoryLauncher:
    return MemoryLauncher(trio.current_time)


def roles(launcher: MemoryLauncher) -> list[str]:
    return [run.role for run in launcher.runs]


async def test_without_scripts_no_supervisor_runs_and_work_ends_at_once(
    autojump_clock: Clock, launcher: MemoryLauncher
) -> None:
    async with running(Settings(script_leader_path=None, script_follower_path=None), launcher) as node:
        node.hooks.become_follower()
        node.start()
        await node.lead(10)
        node.ended.clear()
        node.step_down()
        began = trio.current_time()
        await trio.sleep(1)
        assert node.ended == [began]
        assert node.hooks.status.state == "none"
    assert launcher.link is None


async def test_the_callbacks_never_come_from_within_a_method(autojump_clock: Clock, launcher: MemoryLauncher) -> None:
    async with running(Settings(), launcher) as node:
        await trio.sleep(1)
        node.hooks.end_work()
        assert node.ended == []
        await trio.testing.wait_all_tasks_blocked()
        assert len(node.ended) == 1


async def test_the_leader_script_runs_while_the_lease_is_renewed(
    autojump_clock: Clock, launcher: MemoryLauncher
) -> None:
    async with running(Settings(script_follower_path=None), launcher) as node:
        await trio.sleep(1)
        node.start()
        await node.lead(100)
        (run,) = launcher.running()
        assert (run.role, run.token, run.path, run.started) == ("leader", 2, "/leader", 1.0)
        status = node.hooks.status
        assert (status.state, status.script, status.path, status.pid) == ("running", "leader", "/leader", run.pid)
        assert status.since_seconds == pytest.approx(100)
        node.hooks.end_work()
        await trio.sleep(1)
        assert run.ended == pytest.approx(101)
        assert node.ended == [pytest.approx(101)]
        assert (node.hooks.status.state, node.hooks.status.exit_status) == ("idle", -15)


async def test_a_script_learns_its_node_and_term(autojump_clock: Clock, launcher: MemoryLauncher) -> None:
    async with running(Settings(), launcher) as node:
        node.hooks.become_follower()
        await trio.sleep(1)
        node.start()
        await trio.sleep(1)
    common = {
        "TRIORAFT_NODE_ID": "00000000000000a1",
        "TRIORAFT_NODE_NAME": "node-1",
        "TRIORAFT_CLUSTER_ID": "00000000000000c1",
        "TRIORAFT_LEADER_ID": "",
    }
    follower, leader = launcher.runs
    assert follower.environment == common | {
        "TRIORAFT_ROLE": "follower",
        "TRIORAFT_TERM": "1",
        "TRIORAFT_FENCING_TOKEN": "0",
    }
    assert leader.environment == common | {
        "TRIORAFT_ROLE": "leader",
        "TRIORAFT_TERM": "2",
        "TRIORAFT_FENCING_TOKEN": "2",
    }


async def test_the_follower_script_runs_once_until_the_next_leader_work(
    autojump_clock: Clock, launcher: MemoryLauncher
) -> None:
    launcher.behaviours["/follower"] = Behaviour(lifetime=0.1)
    async with running(Settings(), launcher) as node:
        node.hooks.become_follower()
        await trio.sleep(1)
        node.hooks.become_follower()  # as after a lost election
        await trio.sleep(1)
        assert roles(launcher) == ["follower"]
        node.start()
        await node.lead(2)
        node.step_down()
        await trio.sleep(1)
        node.hooks.become_follower()
        await trio.sleep(1)
        assert roles(launcher) == ["follower", "leader", "follower"]
        assert launcher.runs[2].started == launcher.runs[1].ended


async def test_the_follower_script_has_ended_before_the_leader_script_starts(
    autojump_clock: Clock, launcher: MemoryLauncher
) -> None:
    launcher.behaviours["/follower"] = Behaviour(stops_in=2.0)
    async with running(Settings(), launcher) as node:
        node.hooks.become_follower()
        await trio.sleep(1)
        node.start()
        await node.lead(10)
        follower, leader = launcher.runs
        assert (follower.ended, leader.started) == (3.0, 3.0)
        assert leader.token == 2
        assert node.failed == []


async def test_work_ends_at_its_deadline_when_the_node_says_nothing(
    autojump_clock: Clock, launcher: MemoryLauncher
) -> None:
    launcher.behaviours["/leader"] = Behaviour(stops_in=math.inf)
    async with running(Settings(script_follower_path=None), launcher) as node:
        await trio.sleep(1)
        node.start()
        await trio.sleep(20)
        (run,) = launcher.runs
        assert run.ended == 1 + LEASE + GRACE
        assert run.killed
        assert node.ended == [run.ended]
        assert node.failed == []
        # A node that still leads has a leader without work.
        node.hooks.extend_work(trio.current_time() + LEASE)
        node.hooks.extend_work(trio.current_time() + LEASE)
        await trio.sleep(1)
        assert len(node.failed) == 1
        assert "deadline" in node.failed[0]
        assert len(launcher.runs) == 1


async def test_a_short_leader_script_ends_and_leadership_goes_on(
    autojump_clock: Clock, launcher: MemoryLauncher
) -> None:
    launcher.behaviours["/leader"] = Behaviour(lifetime=2)
    async with running(Settings(hook_failure="step-down"), launcher) as node:
        await trio.sleep(1)
        node.start()
        await node.lead(10)
        assert (node.hooks.status.state, node.hooks.status.exit_status) == ("exited", 0)
        assert (node.ended, node.failed, roles(launcher)) == ([3.0], [], ["leader"])
        node.step_down()
        await trio.sleep(1)
        assert node.ended == [3.0, 11.0]
        assert roles(launcher) == ["leader", "follower"]


@pytest.mark.parametrize("hook_failure", ["ignore", "step-down"])
@pytest.mark.parametrize("behaviour", [Behaviour(lifetime=2, exit_status=7), Behaviour(missing=True)])
async def test_a_leader_script_that_fails_ends_leadership_only_with_step_down(
    autojump_clock: Clock, launcher: MemoryLauncher, hook_failure: str, behaviour: Behaviour
) -> None:
    launcher.behaviours["/leader"] = behaviour
    async with running(Settings(hook_failure=hook_failure), launcher) as node:
        await trio.sleep(1)
        with structlog.testing.capture_logs() as logs:
            node.start()
            await node.lead(10)
        (report,) = [entry for entry in logs if entry["event"] == "script failed"]
        assert (report["path"], report["log_level"]) == ("/leader", "warning")
        assert report["reason"] == (
            "cannot be run: No such file or directory" if behaviour.missing else "exit status 7"
        )
        assert node.hooks.status.state == "failed"
        assert node.hooks.status.exit_status == (None if behaviour.missing else 7)
        assert len(node.ended) == 1
        assert len(node.failed) == (hook_failure == "step-down")
        assert all("/leader" in reason for reason in node.failed)


async def test_a_follower_script_that_fails_is_only_reported(autojump_clock: Clock, launcher: MemoryLauncher) -> None:
    launcher.behaviours["/follower"] = Behaviour(lifetime=1, exit_status=1)
    async with running(Settings(hook_failure="step-down"), launcher) as node:
        with structlog.testing.capture_logs() as logs:
            node.hooks.become_follower()
            await trio.sleep(2)
        assert [entry["event"] for entry in logs] == ["script started", "script failed"]
        assert (node.hooks.status.state, node.failed) == ("failed", [])


async def test_a_script_that_is_told_to_end_has_not_failed(autojump_clock: Clock, launcher: MemoryLauncher) -> None:
    async with running(Settings(hook_failure="step-down"), launcher) as node:
        await trio.sleep(1)
        node.start()
        await node.lead(1)
        with structlog.testing.capture_logs() as logs:
            node.step_down()
            await trio.sleep(1)
        assert node.failed == []
        assert not [entry for entry in logs if entry["log_level"] != "info"]


async def test_a_hanging_script_is_reported_by_name(autojump_clock: Clock, launcher: MemoryLauncher) -> None:
    launcher.behaviours["/leader"] = Behaviour(stops_in=math.inf)
    async with running(Settings(), launcher) as node:
        await trio.sleep(1)
        node.start()
        await node.lead(1)
        with structlog.testing.capture_logs() as logs:
            node.step_down()
            assert node.hooks.status.state == "ending"
            await trio.sleep(GRACE + 1)
        (report,) = [entry for entry in logs if "killed" in entry["event"]]
        assert (report["script"], report["path"], report["log_level"]) == ("leader", "/leader", "warning")
        assert node.ended == [2.0 + GRACE]


async def test_work_that_comes_back_waits_for_its_own_end(autojump_clock: Clock, launcher: MemoryLauncher) -> None:
    launcher.behaviours["/leader"] = Behaviour(stops_in=2.0)
    async with running(Settings(), launcher) as node:
        await trio.sleep(1)
        node.start()
        await node.lead(1)
        node.step_down()
        await trio.sleep(0.5)
        node.start()
        await node.lead(10)
        first, second = launcher.runs
        assert (first.role, second.role, second.token) == ("leader", "leader", 3)
        assert first.ended == second.started == 4.0
        assert node.ended == []  # for there was always some to come


async def test_nothing_runs_before_earlier_work_has_ended(autojump_clock: Clock, launcher: MemoryLauncher) -> None:
    launcher.behaviours["/leader"] = Behaviour(stops_in=4.0)
    earlier = await launcher.launch(Path("/nowhere"), GRACE)
    await earlier.receive()
    process = Node(Settings(), launcher)
    process.hooks._link, process.hooks._ready = earlier, True
    process.start(lease=1.0)
    await trio.sleep(0.1)
    async with running(Settings(), launcher) as node:  # the earlier process of the node has ended at 0.1
        await node.state("waiting")
        node.start()
        node.hooks.end_work()
        await node.lead(2)
        assert node.ended == []
        node.start()
        await node.lead(5)
        old, new = launcher.runs
        assert new.started == old.ended == pytest.approx(4.1)
        assert node.hooks.status.state == "running"


async def test_a_lost_supervisor_makes_the_leader_step_down(autojump_clock: Clock, launcher: MemoryLauncher) -> None:
    async with running(Settings(), launcher) as node:
        await trio.sleep(1)
        node.start()
        await node.lead(1)
        lost = launcher.link
        assert lost is not None
        lost.lose()
        await trio.sleep(0.1)
        assert launcher.runs[0].killed
        assert len(node.failed) == 1
        assert "supervisor" in node.failed[0]
        assert node.ended == []  # before another one has shown that nothing is left
        node.step_down()
        await trio.sleep(2)
        assert len(node.ended) == 1
        assert launcher.link is not lost
        assert roles(launcher) == ["leader", "follower"]


async def test_a_supervisor_that_cannot_be_started_is_tried_again(
    autojump_clock: Clock, launcher: MemoryLauncher
) -> None:
    launcher.unlaunchable = True
    async with running(Settings(), launcher) as node:
        node.start()
        await node.lead(20)
        assert node.hooks.status.state == "failed"
        launcher.unlaunchable = False
        await node.lead(11)
        assert roles(launcher) == ["leader"]
        assert node.failed == []


@pytest.mark.parametrize("stops_in", [0.0, 2.0, math.inf])
async def test_cancelling_ends_the_script_first(
    autojump_clock: Clock, launcher: MemoryLauncher, stops_in: float
) -> None:
    launcher.behaviours["/leader"] = Behaviour(stops_in=stops_in)
    async with running(Settings(), launcher) as node:
        await trio.sleep(1)
        node.start()
        await node.lead(1)
    ended = 2 + min(stops_in, GRACE)
    assert trio.current_time() == ended
    assert [run.ended for run in launcher.runs] == [ended]
    assert node.ended == [ended]
    assert roles(launcher) == ["leader"]


async def test_cancelling_starts_nothing_more(autojump_clock: Clock, launcher: MemoryLauncher) -> None:
    launcher.behaviours["/leader"] = Behaviour(stops_in=2.0)
    async with running(Settings(), launcher) as node:
        await trio.sleep(1)
        node.start()
        await node.lead(1)
        node.step_down()
    assert trio.current_time() == 4.0
    assert roles(launcher) == ["leader"]


class Story:
    """Random orders; the claims that must hold are checked at each callback."""

    def __init__(self, seed: int, launcher: MemoryLauncher) -> None:
        self.chance = random.Random(seed)
        self.launcher = launcher
        self.asked_to_end = False
        self.leading = False

    def at_work(self) -> list[MemoryRun]:
        return [run for run in self.launcher.running() if run.role == "leader"]

    def shuffle(self) -> None:
        for path in ("/leader", "/follower"):
            self.launcher.behaviours[path] = Behaviour(
                lifetime=self.chance.choice([0.0, 1.0, 5.0, math.inf]),
                exit_status=self.chance.choice([0, 0, 1]),
                stops_in=self.chance.choice([0.0, 0.5, 4.0, math.inf]),
                missing=self.chance.random() < 0.1,
            )

    def act(self, node: Node) -> None:
        orders: list[Callable[[], None]] = [self.shuffle, node.hooks.become_follower]
        if self.leading:
            orders += [self.extend(node)] * 4 + [self.end(node)]
        elif not self.asked_to_end:  # as consensus: no new work before the end of the last has been told
            orders += [self.start(node)]
        if self.launcher.link is not None and self.chance.random() < 0.1:
            orders += [self.launcher.link.lose]
        self.chance.choice(orders)()

    def extend(self, node: Node) -> Callable[[], None]:
        return lambda: node.hooks.extend_work(trio.current_time() + LEASE)

    def start(self, node: Node) -> Callable[[], None]:
        def order() -> None:
            self.leading = True
            node.start()

        return order

    def end(self, node: Node) -> Callable[[], None]:
        def order() -> None:
            self.leading, self.asked_to_end = False, True
            node.step_down()

        return order

    def work_ended(self) -> None:
        assert not self.at_work()
        self.asked_to_end = False


@pytest.mark.parametrize("seed", range(20))
async def test_the_rules_hold_for_any_sequence_of_calls(
    autojump_clock: Clock, launcher: MemoryLauncher, seed: int
) -> None:
    print(f"seed {seed}")
    story = Story(seed, launcher)
    settings = Settings(
        hook_failure=story.chance.choice(["ignore", "step-down"]),
        script_leader_restart=restart_policy(story.chance.choice(["never", "on-failure:3", "always"])),
    )
    async with running(settings, launcher) as node:
        node.hooks._on_work_ended = story.work_ended
        for _ in range(300):
            story.act(node)
            await trio.sleep(story.chance.choice([0.0, 0.01, 0.3, 2.0]))
        if story.leading:
            story.end(node)()
        await trio.sleep(30)
        assert not story.asked_to_end, "the end of the work was never told"
    runs = launcher.runs
    assert {run.role for run in runs} == {"leader", "follower"}
    assert all(before.ended <= after.started for before, after in itertools.pairwise(runs))
    assert all(run.ended < math.inf for run in runs)
    tokens = [run.token for run in runs if run.role == "leader"]
    assert tokens == sorted(tokens)
    assert settings.script_leader_restart.when != "never" or len(tokens) == len(set(tokens))
    # Once at first, and once after each leader work that was ordered.
    assert sum(run.role == "follower" for run in runs) <= node.term
