"""``docker compose up -d --scale node=N`` on a running cluster: the members follow, and a writer notices nothing.

By default one way up and down with LEAVE_ON_STOP, and one replica that is lost with its data. The full version starts
at one replica and at three, with LEAVE_ON_STOP and without, where members are gone after a minute::

    TRIORAFT_COMPOSE_SCALING=full tests/run -s tests/compose/test_scaling.py

What was measured is printed, and added to ``tests/out/compose-scaling.txt``.
"""

import os
import time
from collections.abc import Iterator
from typing import Final

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Window
from tests.compose.engine import OUT, Container, Project, run
from tests.compose.scaling import Scaled, Writer, lost, report, stretched

FULL: Final = "TRIORAFT_COMPOSE_SCALING" in os.environ
SIZES: Final = (3, 5, 3, 7)
SETTLED: Final = 10.0
# What the browser may take to show it, in milliseconds.
SEEN: Final = 10_000
# The election timeouts of compose.yaml.
TIMEOUT_LOWER: Final = 3.0
TIMEOUT_UPPER: Final = 5.0
DEAD_SERVER: Final = 60.0 if FULL else 5.0
# Where it begins, and LEAVE_ON_STOP.
WAYS: Final = [(1, "true"), (3, "true"), (1, "false"), (3, "false")] if FULL else [(1, "true")]

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def scaled(request: pytest.FixtureRequest, compose_command: list[str], image: str) -> Iterator[Scaled]:
    expected, leaves = request.param
    project = Project(compose_command, f"trioraft-scaled-{expected}-{leaves}-{os.getpid()}", image)
    project.settings |= {
        "BOOTSTRAP_EXPECT": str(expected),
        "LEAVE_ON_STOP": leaves,
        "DEAD_SERVER_MILLIS": str(round(DEAD_SERVER * 1000)),
    }
    scaled = Scaled(project)
    try:
        scaled.scale(expected, 45)
        yield scaled
    finally:
        project.save_logs()
        project.down(volumes=True)


@pytest.fixture
def page(scaled: Scaled, browser: Browser) -> Iterator[Page]:
    window = Window(browser, viewport={"width": 1280, "height": 900})
    try:
        window.page.goto(scaled.project.url)
        # The browser has to share a busy machine with whatever is tested beside it.
        expect(window.page.locator("#connection-text")).to_have_text("live", timeout=30_000)
        yield window.page
    finally:
        # That the network has changed, for example: every container that comes or goes changes it.
        print(f"the page complained: {window.complaints}")
        window.context.close()


def survives(voters: int) -> str:
    failures = (voters - 1) // 2
    return f"{voters} voter{'s' * (voters > 1)}: survives {failures or 'no'} failure{'s' * (failures > 1)}"


@pytest.mark.parametrize("scaled", WAYS, indirect=True, ids=lambda way: f"{way[0]}-leave_{way[1]}")
def test_members_follow_the_number_of_replicas(scaled: Scaled, page: Page) -> None:
    project = scaled.project
    leaves = project.settings["LEAVE_ON_STOP"] == "true"
    count = len(project.containers())
    with Writer(project) as writer:
        for wanted in SIZES:
            if wanted == count:
                continue
            if wanted < count:
                scaled.let_last_lead()
            scaled.scale(wanted, SETTLED + (0.0 if leaves or wanted > count else DEAD_SERVER))
            expect(page.locator("#survives")).to_have_text(survives(wanted), timeout=stretched(SEEN))
            expect(page.locator("#figure-reachable")).to_have_text(f"{wanted} of {wanted}", timeout=stretched(SEEN))
            count = wanted
        time.sleep(1)
        writes = writer.stop()
    report(project.name, scaled.steps, writes)
    story = page.get_by_role("region", name="Autopilot")
    for told in ("joined the service", "7 voters now", "leaves" if leaves else "is gone"):
        expect(story.get_by_role("listitem").filter(has_text=told).first).to_be_visible()
    expect(page.get_by_role("list", name="Voters").get_by_role("listitem")).to_have_count(7)
    OUT.mkdir(exist_ok=True)
    page.screenshot(path=OUT / f"{project.name.rpartition('-')[0]}.png", full_page=True)
    assert lost(project, writes) == []
    assert max(write.took for write in writes) < stretched(2 * TIMEOUT_LOWER)


@pytest.mark.parametrize("scaled", [(3, "false")], indirect=True, ids=["3"])
@pytest.mark.parametrize("role", ["leader", "follower"] if FULL else ["follower"])
def test_a_replica_that_is_lost_with_its_data_is_replaced(scaled: Scaled, role: str) -> None:
    project = scaled.project
    dead = next(node for node in project.nodes() if node["role"] == role)
    with Writer(project) as writer:
        destroy(project, project.container_of(dead))
        scaled.scale(3, DEAD_SERVER + SETTLED)
        time.sleep(1)
        writes = writer.stop()
    report(f"{project.name} without its {role}", scaled.steps, writes)
    assert dead["id"] not in {member["id"] for member in scaled.members()}
    assert lost(project, writes) == []
    assert max(write.took for write in writes) < stretched(2 * TIMEOUT_UPPER)


def destroy(project: Project, container: Container) -> None:
    """Delete a container, and the directory of the volume in which it has its data."""
    find = r"ls -l /proc/[0-9]*/fd 2>/dev/null | grep -o '/data/[0-9]*' | sort -u"
    (directory,) = run("docker", "exec", container.id, "sh", "-c", find).split()
    container.docker("rm", "--force")
    run("docker", "exec", project.containers()[0].id, "rm", "-r", directory)
