"""The Pythons that are found here, each with the lowest and with the newest versions of what trioraft depends on.

``python -m tests.pythons`` installs trioraft for each of them and runs the unit tests and the smoke test of the page.
"""

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from enum import StrEnum
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROJECT = ROOT / "pyproject.toml"
_TELL = "import sqlite3, ssl, sys; print(sys.version_info.micro)"  # some were built without these


class Versions(StrEnum):
    """Which versions of the dependencies; the names are those of uv."""

    LOWEST = "lowest-direct"
    NEWEST = "highest"


@cache
def found() -> dict[str, Path]:
    """Find a Python for each minor version that the metadata allows: the newest of it."""
    at_least = re.search(r'^requires-python = ">=3\.(\d+)"', PROJECT.read_text("utf-8"), re.MULTILINE)
    assert at_least is not None
    newest: dict[int, tuple[int, Path]] = {}
    for minor, executable in _candidates():
        if minor < int(at_least[1]):
            continue
        told = subprocess.run([executable, "-c", _TELL], capture_output=True, text=True, check=False)
        if told.returncode == 0:
            newest[minor] = max(newest.get(minor, (-1, executable)), (int(told.stdout), executable))
    return {f"3.{minor}": executable for minor, (_, executable) in sorted(newest.items())}


def _candidates() -> Iterator[tuple[int, Path]]:
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    path = [
        Path(directory) for directory in os.get_exec_path() if not directory.endswith("shims")
    ]  # pyenv's: no Pythons
    for directory in (Path(sys.base_prefix, "bin"), *path, Path("/usr/local/bin"), *pyenv.glob("3.*/bin")):
        for executable in directory.glob("python3.*"):
            if version := re.fullmatch(r"python3\.(\d+)", executable.name):
                yield int(version[1]), executable


def install(version: str, versions: Versions, *, to_test: bool = False) -> Path:
    """Install trioraft for a Python, or only trioraft where the rest is there already; return the interpreter.

    Parameters
    ----------
    version : str
        The Python, such as ``"3.13"``.
    versions : Versions
        Which versions of the dependencies.
    to_test : bool
        Whether what the tests need is to be there, too; always the newest versions.
    """
    base = ROOT / os.environ.get("TRIORAFT_VENV", ".venv-tests")
    venv = base.with_name(f"{base.name}-{version}-{versions.name.lower()}")
    python, pins, stamp = venv / "bin" / "python", venv / "pins.txt", venv / "installed"
    present = hashlib.sha256(PROJECT.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text("ascii") != present:
        _uv("venv", "--clear", "--python", found()[version], venv)
        resolve = ("pip", "compile", "--python", python, "--resolution", versions, "--extra", "all")
        _uv(*resolve, PROJECT, "--output-file", pins)
        _uv("pip", "install", "--python", python, "--constraints", pins, f"{ROOT}[all]")
        stamp.write_text(present, "ascii")
    if to_test:
        _uv("pip", "install", "--python", python, "--constraints", pins, f"{ROOT}[test]")
    _uv("pip", "install", "--python", python, "--no-deps", "--reinstall-package", "trioraft", ROOT)
    return python


def _uv(*arguments: str | Path) -> None:
    environment = {"UV_SYSTEM_CERTS": "1", **os.environ}
    done = subprocess.run(
        [str(Path(sys.executable).with_name("uv")), "--quiet", *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"uv {' '.join(map(str, arguments[:2]))} for {arguments[-1]}: {done.stderr}")


def main() -> int:
    """Run the unit tests with each; return the exit status."""
    failed = []
    for version in found():
        for versions in Versions:
            name = f"Python {version}, {versions.name.lower()} versions"
            print(f"tests.pythons: {name}", flush=True)
            python = install(version, versions, to_test=True)
            command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/unit"]
            test = "test_the_page_is_served_with_every_python"
            smoke = f"tests/cluster/test_pythons.py::{test}[{version}-{versions.name.lower()}]"
            environment = {**os.environ, "TRIORAFT_EVERY_PYTHON": "1"}
            if subprocess.run([*command, smoke], cwd=ROOT, env=environment, check=False).returncode:
                failed.append(name)
    print(f"tests.pythons: failed: {'; '.join(failed) or 'none'}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
