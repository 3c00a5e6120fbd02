import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.compose.engine import Project, Status, succeeds
from tests.conftest import unavailable

IMAGE: Final = "trioraft-test"


@pytest.fixture(scope="session")
def compose_command() -> list[str]:
    if not succeeds("docker", "version"):
        unavailable("no Docker engine answers")
    found = [command for command in (["docker", "compose"], ["docker-compose"]) if succeeds(*command, "version")]
    if not found:
        unavailable("there is no docker compose")
    return found[0]


def _index_settings() -> dict[str, str]:
    """Find the package indexes of this machine that a build can reach too; those in files it cannot."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, timeout=60, check=True
    )
    found = {}
    for line in listed.stdout.splitlines():
        name, _, value = line.partition("=")
        urls = [url for url in value.strip("'\"").split() if url.startswith(("http://", "https://"))]
        if name.endswith("index-url") and urls:
            found["PIP_" + name.rpartition(".")[2].upper().replace("-", "_")] = " ".join(urls)
    return found


@pytest.fixture(scope="session")
def image(compose_command: list[str]) -> str:
    """Build the image, as ``docker compose build`` does for everybody."""
    builder = Project(compose_command, "trioraft-build", IMAGE, settings=_index_settings())
    builder.compose("build", timeout=600)
    return IMAGE


@pytest.fixture(scope="module", params=["sealed", "unsealed"])
def project(request: pytest.FixtureRequest, compose_command: list[str], image: str) -> Iterator[Project]:
    """Run compose.yaml, as it is or without keys; one at a time, for all tests of a module."""
    project = Project(compose_command, f"trioraft-{request.param}-{os.getpid()}", image)
    if request.param == "unsealed":
        project.files.append("containers/compose.unsealed.yaml")
    try:
        project.up()
        yield project
    finally:
        project.save_logs()
        project.down(volumes=True)


@pytest.fixture
def leader(project: Project) -> Status:
    """Have three nodes and one leader at work, whatever an earlier test has left behind."""
    for container in project.containers():
        state = container.state
        if state in {"paused", "exited"}:
            container.docker("unpause" if state == "paused" else "start")
    return project.wait_working()


@pytest.fixture(scope="session")
def measured() -> Iterator[dict[str, list[float]]]:
    """Collect what was measured, and write it down beside the screenshots."""
    times: dict[str, list[float]] = {}
    yield times
    for name, seconds in times.items():
        print(f"\n{name}: {', '.join(f'{second:.3f}' for second in seconds)} s")
    out = Path(__file__).parents[1] / "out"
    out.mkdir(exist_ok=True)
    (out / "compose-times.json").write_text(json.dumps(times, indent=1) + "\n")
