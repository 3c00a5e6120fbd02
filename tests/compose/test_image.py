"""The image is made of what is pinned, and of nothing else."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from packaging.utils import canonicalize_name

from tests.compose.engine import ROOT, run
from tests.supply.locks import BUILD, RUN, pins

# Run in the image: its parts, and what their markers look at there.
_TELL = """
import importlib.metadata, platform
for part in importlib.metadata.distributions():
    print(part.metadata["Name"], part.version)
print("python_full_version", platform.python_version())
"""


def test_the_image_holds_what_is_pinned_and_the_program(image: str) -> None:
    told = run("docker", "run", "--rm", "--network", "none", "--entrypoint", "python", image, "-c", _TELL)
    *parts, (_, python) = (line.split() for line in told.splitlines())
    here = {"python_full_version": python, "python_version": python.rpartition(".")[0], "extra": ""}
    pinned = {
        str(canonicalize_name(pin.name)): str(pin.specifier).removeprefix("==")
        for pin, _ in pins(RUN)
        if pin.marker is None or pin.marker.evaluate(here)
    }
    found = {str(canonicalize_name(name)): version for name, version in parts}
    assert found.pop("trioraft")
    assert found == pinned


def test_a_part_that_is_not_the_one_that_was_pinned_is_not_installed(
    compose_command: list[str], image: str, tmp_path: Path
) -> None:
    for name in ("trioraft", "monitor"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "containers", tmp_path / "containers")
    for name in ("pyproject.toml", "README.md", "LICENSE", ".dockerignore"):
        shutil.copy(ROOT / name, tmp_path)
    (file,) = tmp_path.glob(f"containers/{BUILD.name}")
    file.write_text(re.sub("sha256:[0-9a-f]{64}", f"sha256:{'0' * 64}", file.read_text("utf-8")), "utf-8")
    built = subprocess.run(
        ["docker", "build", "--file", tmp_path / "containers" / "Dockerfile", tmp_path],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "DOCKER_BUILDKIT": "0"},
    )
    assert built.returncode != 0
    assert "DO NOT MATCH THE HASHES" in built.stdout + built.stderr
