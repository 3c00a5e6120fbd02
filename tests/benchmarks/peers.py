"""Installs what trioraft is compared with, in a folder of its own: nothing of it is installed in the system.

PySyncObj comes from PyPI into a virtual environment; etcd from Debian, whose packages are only unpacked, so that no
service starts.
"""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.benchmarks.processes import Build

PYSYNCOBJ: Final = "pysyncobj==0.3.17"
_ETCD_PACKAGES: Final = ("etcd-server", "etcd-client")


@dataclass(frozen=True)
class Peers:
    """What was installed.

    Attributes
    ----------
    pysyncobj : Build
        The interpreter that has PySyncObj.
    etcd : Path
        The server.
    etcdctl : Path
        The command.
    versions : tuple of str
        What they say that they are.
    """

    pysyncobj: Build
    etcd: Path
    etcdctl: Path
    versions: tuple[str, ...]


def default_folder() -> Path:
    """Return the folder in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "trioraft-tests" / "peers"


def install(folder: Path) -> Peers:
    """Install what is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    python = folder / "venv" / "bin" / "python"
    if not python.exists():
        _run(sys.executable, "-m", "venv", folder / "venv")
    if _output(python, "-m", "pip", "freeze").strip() != PYSYNCOBJ:
        _run(python, "-m", "pip", "-q", "--disable-pip-version-check", "install", PYSYNCOBJ)
    root = folder / "etcd"
    etcd, etcdctl = (root / "usr" / "bin" / name for name in ("etcd", "etcdctl"))
    if not (etcd.exists() and etcdctl.exists()):
        packages = folder / "packages"
        packages.mkdir(exist_ok=True)
        _run("apt-get", "-qq", "download", *_ETCD_PACKAGES, cwd=packages)
        for package in sorted(packages.glob("*.deb")):
            _run("dpkg-deb", "-x", package, root)
    version = _output(etcd, "--version").splitlines()[0]
    return Peers(Build(str(python)), etcd, etcdctl, (PYSYNCOBJ, version))


def _run(*command: str | Path, cwd: Path | None = None) -> None:
    print("installing:", *command, file=sys.stderr)
    subprocess.run(command, cwd=cwd, check=True, stdout=sys.stderr)


def _output(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
