"""The recipes in the real engine: the worker in an image of its own is kept running, and on one replica at a time."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from tests.compose.engine import ROOT, Container, clean_environment, run, wait_until
from trioraft.datagrams.keys import generate_key

LINES = 10_000

# The recipe's worker, obedient to a file in the volume that all replicas share.
WORKER = f"""
import os, pathlib, sys, time

order, token = pathlib.Path("/data/order"), os.environ["TRIORAFT_FENCING_TOKEN"]
while True:
    # All containers of a machine have one monotonic clock.
    print("works", token, time.monotonic(), flush=True)
    time.sleep(0.1)
    if order.exists():
        what = order.read_text()
        order.unlink()
        if what == "flood":
            began = time.monotonic()
            for number in range({LINES}):
                print("line", number, flush=True)
                time.sleep(max(0.0, number / 5000 - (time.monotonic() - began)))
        else:
            sys.exit(int(what))
"""


@dataclass
class Recipe:
    """The worker's recipe, run as its README says, under a name of its own."""

    compose_command: list[str]
    folder: Path
    name: str

    def compose(self, *arguments: str, timeout: float = 120) -> str:
        command = [*self.compose_command, "-p", self.name, "--project-directory", str(self.folder)]
        files = ("-f", str(self.folder / "compose.yaml"), "--env-file", str(self.folder / ".env"))
        return run(*command, *files, *arguments, timeout=timeout, env=clean_environment())

    def containers(self) -> list[Container]:
        listed = run(
            "docker",
            "ps",
            "--all",
            "--quiet",
            "--no-trunc",
            "--filter",
            f"label=com.docker.compose.project={self.name}",
        )
        return [Container(line) for line in sorted(listed.split())]

    def output(self, container: Container) -> str:
        return subprocess.run(
            ["docker", "logs", container.id], capture_output=True, text=True, timeout=60, check=True
        ).stdout

    def work(self, container: Container) -> list[tuple[int, float]]:
        """List when a container's worker worked, with its tokens."""
        return [
            (int(token), float(at)) for token, at in re.findall(r"^works (\d+) (\S+)$", self.output(container), re.M)
        ]

    def worker(self, above: int = 0) -> Container | None:
        """Find the container that works under a token above another one."""
        for container in self.containers():
            if any(token > above for token, _ in self.work(container)):
                return container
        return None

    def order(self, what: str) -> None:
        running = next(one for one in self.containers() if one.state == "running")
        run("docker", "exec", running.id, "sh", "-c", f"printf %s '{what}' >/data/new && mv /data/new /data/order")


@pytest.fixture
def recipe(compose_command: list[str], image: str, tmp_path: Path) -> Iterator[Recipe]:
    folder = tmp_path / "worker"
    shutil.copytree(ROOT / "containers" / "recipes" / "worker", folder)
    dockerfile = folder / "Dockerfile"
    dockerfile.write_text(dockerfile.read_text().replace("FROM trioraft\n", f"FROM {image}\n"))
    (folder / "worker.py").write_text(WORKER)
    (folder / ".env").write_text(f"CLUSTER_KEY={generate_key()}\n")
    recipe = Recipe(compose_command, folder, f"trioraft-worker-{os.getpid()}")
    try:
        recipe.compose("up", "-d", "--build", timeout=300)
        yield recipe
    finally:
        recipe.compose("down", "--volumes", "--rmi", "local", "--timeout", "1")


def test_readme_shows_the_recipe_as_it_is() -> None:
    readme, folder = (ROOT / "README.md").read_text(), ROOT / "containers" / "recipes" / "worker"
    for name in ("Dockerfile", "compose.yaml"):
        assert (folder / name).read_text() in readme


@pytest.mark.timeout(600)
def test_the_worker_is_kept_running_on_one_replica_at_a_time(recipe: Recipe) -> None:
    first = wait_until("a worker works", recipe.worker, 60)
    (token,) = {token for token, _ in recipe.work(first)}

    recipe.order("3")
    wait_until("it failed", lambda: '"again_in": 1.0' in _errors(first), 30)
    seen = len(recipe.work(first))
    wait_until("it works again", lambda: len(recipe.work(first)) > seen + 5, 30)
    assert {token for token, _ in recipe.work(first)} == {token}

    recipe.order("flood")
    numbers = wait_until("all lines are there", lambda: _all_lines(recipe.output(first)), 60)
    assert numbers == list(range(LINES))

    first.docker("kill")
    second = wait_until("another works after a crash", lambda: recipe.worker(token), 60)
    assert second.id != first.id
    first.docker("start")
    token = max(token for token, _ in recipe.work(second))
    _wait_whole(second)

    second.docker("stop")
    third = wait_until("another works after a stop", lambda: recipe.worker(token), 60)
    token = max(token for token, _ in recipe.work(third))
    second.docker("start")
    _wait_whole(third)

    third.docker("pause")
    fourth = wait_until("another works during a pause", lambda: recipe.worker(token), 60)
    token = max(token for token, _ in recipe.work(fourth))
    third.docker("unpause")
    _wait_whole(fourth)

    recipe.order("0")
    status = wait_until("it is over", lambda: _job(fourth, "over"), 30)
    assert status["text"] == "over (exit 0)"
    _check_exclusive(recipe, third)


def _errors(container: Container) -> str:
    return subprocess.run(
        ["docker", "logs", container.id], capture_output=True, text=True, timeout=60, check=True
    ).stderr


def _all_lines(output: str) -> list[int] | None:
    numbers = [int(number) for number in re.findall(r"^line (\d+)$", output, re.M)]
    return numbers if len(numbers) >= LINES else None


def _status(container: Container) -> dict[str, object]:
    found: dict[str, object] = json.loads(run("docker", "exec", container.id, "trioraft", "status", "-o", "json"))
    return found


def _wait_whole(container: Container) -> None:
    wait_until("the cluster is whole", lambda: _status(container)["survives"] == 1, 60)


def _job(container: Container, state: str) -> dict[str, object] | None:
    status = json.loads(run("docker", "exec", container.id, "trioraft", "status", "-o", "json"))
    jobs = [node["job"] for node in status["nodes"] if node["job"]["state"] == state]
    return jobs[0] if jobs else None


def _check_exclusive(recipe: Recipe, paused: Container) -> None:
    """No worker worked while another one did, but one that was paused as a whole, with its node and supervisor."""
    times: dict[tuple[str, int], list[float]] = {}
    for container in recipe.containers():
        for token, at in recipe.work(container):
            times.setdefault((container.id, token), []).append(at)
    runs = sorted((token, min(at), max(at), container) for (container, token), at in times.items())
    assert len(runs) == len({token for token, *_ in runs}) == 4
    for before, after in pairwise(runs):
        assert before[2] < after[1] or before[3] == paused.id
