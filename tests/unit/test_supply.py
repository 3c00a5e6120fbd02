"""What is shipped: parts are pinned by their content, and the same source makes the same wheel."""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

import pytest

from tests.supply.locks import BUILD, ROOT, RUN, pins, wanted
from trioraft import __version__

PYTHONS: Final = ("3.11", "3.12", "3.13")


def environment(python: str, machine: str) -> dict[str, str]:
    """Describe an image of a Python on a processor."""
    return {
        "python_version": python,
        "python_full_version": f"{python}.9",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "sys_platform": "linux",
        "os_name": "posix",
        "extra": "",
    }


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("file", [RUN, BUILD], ids=lambda file: file.name)
def test_everything_that_the_image_installs_is_pinned_with_hashes(file: Path, python: str, machine: str) -> None:
    here = environment(python, machine)
    found = [(pin, hashes) for pin, hashes in pins(file) if pin.marker is None or pin.marker.evaluate(here)]
    assert all(hashes for _, hashes in found)
    versions = {pin.name: str(pin.specifier).removeprefix("==") for pin, _ in found}
    assert len(versions) == len(found), "pinned twice"
    for requirement in wanted()[file]:
        if requirement.marker is None or requirement.marker.evaluate(here):
            name = requirement.name.lower().replace("_", "-")
            assert requirement.specifier.contains(versions[name]), f"{requirement}: run `tests/run full supply lock`"


def test_the_image_installs_nothing_else() -> None:
    dockerfile = (ROOT / "containers" / "Dockerfile").read_text("utf-8")
    lines = dockerfile.replace("\\\n", " ").splitlines()
    installs = [part for line in lines if line.startswith("RUN ") for part in line.split("&&") if " install " in part]
    pip = [part for part in installs if "pip" in part]
    assert len(pip) == 3
    for part in pip:
        assert "--require-hashes --only-binary :all:" in part or "--no-deps wheels/*.whl" in part
    assert "--no-build-isolation" in dockerfile
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert "!containers/requirements*.txt" in ignored


def _build(copy: Path, out: Path, *, umask: int) -> bytes:
    for name in ("trioraft", "monitor"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for path in copy.rglob("*"):  # as a checkout at another time, by somebody with another umask, has them
        path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)
        os.utime(path, (umask * 1e6, umask * 1e6))
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", out],
        cwd=copy,
        env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"},
        check=True,
        capture_output=True,
    )
    (wheel,) = out.glob("*.whl")
    return wheel.read_bytes()


def test_the_same_source_makes_the_same_wheel(tmp_path: Path) -> None:
    digests = set()
    for umask in (0o022, 0o077):
        copy = tmp_path / f"{umask:o}"
        copy.mkdir()
        digests.add(hashlib.sha256(_build(copy, copy / "out", umask=umask)).hexdigest())
    assert len(digests) == 1
    (wheel,) = (tmp_path / "22" / "out").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {"trioraft/__init__.py", "trioraft/monitor/static/monitor.js"} < set(names)
    assert {name.partition("/")[0] for name in names} == {"trioraft", f"trioraft-{__version__}.dist-info"}
    assert not [name for name in names if "__pycache__" in name]
