"""compose.yaml in the real engine: what a newcomer does to it, and what must be seen then.

Everything runs as it is; without keys, too, what a newcomer does first, and everything in the full version. There a
follower is cut off for longer, and leaders are killed more often than once::

    TRIORAFT_COMPOSE_KILLS=10 tests/run tests/compose

Times are taken from the engine's events and from the nodes' own logs, which have one clock; what was measured
is written to ``tests/out/compose-times.json``.
"""

import json
import os
import signal
import time
from functools import partial
from typing import Final

import pytest
from playwright.sync_api import Browser, expect

from tests.compose.engine import OUT, Container, Project, Status, run, wait_until
from tests.compose.scaling import stretched
from trioraft.datagrams.keys import generate_key

KILLS: Final = int(os.environ.get("TRIORAFT_COMPOSE_KILLS", "1"))
ELECTION_TIMEOUT_UPPER: Final = 5.0
SLACK: Final = 0.5
# For how long a job was away before a crash ended its own wait, and within what it runs again now.
AWAY_BEFORE: Final = 15.0
AWAY_NOW: Final = 2.5
# What the monitor and the engine may take to show what has happened.
SEEN: Final = 5.0
PAUSE: Final = 10.0
FULL: Final = "TRIORAFT_COMPOSE_KILLS" in os.environ
CUT_OFF: Final = 30.0 if FULL else 12.0  # more than two election timeouts

Measured = dict[str, list[float]]

pytestmark = pytest.mark.timeout(900)
in_full_without_keys_too = pytest.mark.parametrize(
    "project", ["sealed", "unsealed"] if FULL else ["sealed"], indirect=True
)


def _others(project: Project, container: Container) -> list[Container]:
    return [other for other in project.containers() if other.id != container.id]


def _terms(project: Project) -> set[int]:
    return {node["term"] for node in project.nodes() if node["reachable"]}


def test_status_and_monitor_name_the_same_leader(project: Project, leader: Status) -> None:
    container = project.container_of(leader)
    said = json.loads(run("docker", "exec", container.id, "trioraft", "status", "--format", "json"))
    shown = project.nodes()
    assert said["leader"] == leader["id"]
    assert said["term"] == leader["term"]
    assert {node["id"]: node["name"] for node in said["nodes"]} == {node["id"]: node["name"] for node in shown}
    assert {node["address"] for node in said["nodes"]} == {f"{each.ip}:7300" for each in project.containers()}
    assert [node["role"] for node in sorted(shown, key=lambda node: str(node["role"]))] == [
        "follower",
        "follower",
        "leader",
    ]


def _is_healthy(container: Container) -> bool:
    return container.inspect("{{.State.Health.Status}}") == "healthy"


def test_containers_are_healthy_and_restricted(project: Project, leader: Status) -> None:
    for container in project.containers():
        wait_until(f"{container.name} is healthy", partial(_is_healthy, container), 30)
        assert run("docker", "exec", container.id, "id", "-u").strip() == "10001"
        assert container.inspect("{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}}") == "true [ALL]"
        limits = run("docker", "exec", container.id, "grep", "^CapBnd", "/proc/self/status")
        assert int(limits.split()[1], 16) == 0
        run("docker", "exec", container.id, "trioraft", "healthcheck", "--ready")


def test_the_announce_pair_runs(project: Project, leader: Status) -> None:
    for container in project.containers():
        project.wait_for_event([container], "script output", 0, SEEN)
        said = [line.fields["line"] for line in container.log(event="script output")]
        assert any("follows in term" in line for line in said)
    leading = project.container_of(leader).log(event="script output")[-1]
    assert leading.fields["line"].startswith(f"{leader['name']} ({leader['id']}) leads in term {leader['term']} ")


def test_page_shows_the_nodes_and_the_leader(project: Project, leader: Status, browser: Browser) -> None:
    OUT.mkdir(exist_ok=True)
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    try:
        page.goto(project.url)
        expect(page.locator("#leader-headline")).to_contain_text(leader["name"])
        expect(page.locator("tr[data-id]")).to_have_count(3)
        for node in project.nodes():
            row = page.locator(f"tr[data-id='{node['id']}']")
            expect(row).to_contain_text(node["name"])
            expect(row).to_contain_text(node["address"])
            role = "leader" if node["id"] == leader["id"] else "follower"
            expect(row.locator("[data-label=Role]")).to_contain_text(role)
        page.screenshot(path=OUT / f"compose-{project.name.split('-')[1]}.png", full_page=True)
    finally:
        page.close()


def test_another_leads_when_the_leader_is_killed(project: Project, leader: Status, measured: Measured) -> None:
    for _ in range(KILLS):
        killed = project.container_of(leader)
        since = time.time()
        killed.docker("kill")
        elected = project.wait_for_event(
            _others(project, killed), "became leader", since, ELECTION_TIMEOUT_UPPER + SEEN
        )
        took = elected.time - killed.died_at(since)
        measured.setdefault(f"kill {project.name}", []).append(took)
        assert took <= ELECTION_TIMEOUT_UPPER + SLACK
        assert elected.fields["term"] > leader["term"]
        wait_until("the monitor shows the new leader", partial(project.leader, above=leader["term"]), SEEN)
        killed.docker("start")
        leader = project.wait_settled()
        assert leader["id"] == elected.fields["node"], "a node that comes back must not take the lead"
        assert leader["term"] == elected.fields["term"], "a node that comes back must not raise the term"


def test_the_job_runs_again_soon_when_the_engine_restarts_the_leader(
    project: Project, leader: Status, measured: Measured
) -> None:
    for _ in range(KILLS):
        killed = project.container_of(leader)
        since = time.time()
        (pid,) = [line.split()[0] for line in killed.processes() if "/python" in line and line.endswith(" node")]
        os.kill(int(pid), signal.SIGKILL)
        begun = project.wait_for_job(since, AWAY_BEFORE)
        took = begun.time - killed.died_at(since)
        measured.setdefault(f"restart {project.name}", []).append(took)
        assert took <= stretched(AWAY_NOW)
        leader = project.wait_working()


@in_full_without_keys_too
def test_another_leads_at_once_when_the_leader_is_stopped(
    project: Project, leader: Status, measured: Measured
) -> None:
    stopped = project.container_of(leader)
    since = time.time()
    stopped.docker("stop")
    (stopping,) = stopped.log(since, "stopping")
    elected = project.wait_for_event(_others(project, stopped), "became leader", since, SEEN)
    took = elected.time - stopping.time
    measured.setdefault(f"stop {project.name}", []).append(took)
    assert took <= SLACK
    assert elected.fields["term"] == leader["term"] + 1
    assert stopped.inspect("{{.State.ExitCode}}") == "0"


@in_full_without_keys_too
def test_a_paused_leader_steps_down_when_it_comes_back(project: Project, leader: Status, measured: Measured) -> None:
    paused = project.container_of(leader)
    assert any("announce-leader" in process for process in paused.processes())
    since = time.time()
    paused.docker("pause")
    wait_until(
        "the monitor shows the paused leader as unreachable",
        lambda: not next(node["reachable"] for node in project.nodes() if node["id"] == leader["id"]),
        SEEN,
    )
    elected = project.wait_for_event(_others(project, paused), "became leader", since, ELECTION_TIMEOUT_UPPER + SEEN)
    measured.setdefault(f"pause {project.name}", []).append(elected.time - since)
    assert elected.fields["term"] == leader["term"] + 1
    time.sleep(max(0.0, since + PAUSE - time.time()))
    back = time.time()
    paused.docker("unpause")
    down = project.wait_for_event([paused], "stepped down", back, SEEN)
    measured.setdefault(f"step down {project.name}", []).append(down.time - back)
    wait_until(
        "the old leader's script is ended",
        lambda: not any("announce-leader" in process for process in paused.processes()),
        SEEN,
    )
    now_leading = project.wait_settled()
    assert (now_leading["id"], now_leading["term"]) == (elected.fields["node"], elected.fields["term"])
    time.sleep(ELECTION_TIMEOUT_UPPER)
    assert _terms(project) == {elected.fields["term"]}


@in_full_without_keys_too
def test_a_follower_that_was_cut_off_does_not_raise_the_term(project: Project, leader: Status) -> None:
    follower = project.container_of(next(node for node in project.nodes() if node["role"] == "follower"))
    since = time.time()
    run("docker", "network", "disconnect", project.network, follower.id)
    time.sleep(CUT_OFF)
    assert project.leader() is not None
    run("docker", "network", "connect", "--alias", "node", project.network, follower.id)
    settled = project.wait_settled()
    time.sleep(ELECTION_TIMEOUT_UPPER)
    assert (settled["id"], settled["term"]) == (leader["id"], leader["term"])
    assert _terms(project) == {leader["term"]}
    elected = [line for each in project.containers() for line in each.log(since, "became leader")]
    assert elected == []


def test_down_and_up_bring_the_same_nodes_back(project: Project, leader: Status) -> None:
    before = project.nodes()
    project.down()
    assert project.containers() == []
    project.up()
    after = project.nodes()
    assert {node["id"] for node in after} == {node["id"] for node in before}
    assert {node["cluster_id"] for node in after} == {leader["cluster_id"]}
    assert min(node["term"] for node in after) > leader["term"]


@pytest.mark.parametrize("project", ["sealed"], indirect=True)
def test_a_node_with_a_wrong_key_stays_out_and_says_why(project: Project, leader: Status) -> None:
    since = time.time()
    stranger = Container(
        run(
            *("docker", "run", "--detach", "--network", project.network, "--network-alias", "node"),
            *("--read-only", "--tmpfs", "/tmp"),  # noqa: S108 - in the container, and its own
            *("--env", f"CLUSTER_KEY={generate_key()}", "--env", "APP_NAME=node"),
            *("--env", "BOOTSTRAP_EXPECT=3", "--env", "LOG_FORMAT=json"),
            project.image,
        ).strip()
    )
    try:

        def reasons() -> list[str]:
            alerts = [line.fields["text"] for line in stranger.log(since, "alert")]
            return [text for text in alerts if "a key that this process does not have" in text]

        assert "CLUSTER_KEY" in wait_until("the stranger says that it has another key", reasons, 20)[0]
        time.sleep(ELECTION_TIMEOUT_UPPER)
        said = json.loads(
            run(
                *("docker", "exec", stranger.id, "trioraft", "status", "--format", "json"),
                *("--peers", "127.0.0.1:7300"),
            )
        )
        assert [(node["role"], node["cluster_id"]) for node in said["nodes"]] == [("forming", None)]
        settled = project.wait_settled()
        assert (settled["id"], settled["term"]) == (leader["id"], leader["term"])
        assert said["nodes"][0]["id"] not in {node["id"] for node in project.nodes()}
    finally:
        run("docker", "rm", "--force", "--volumes", stranger.id)
