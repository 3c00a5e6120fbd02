"""The script that makes the keys of compose.yaml: once, whole or not at all, and never over what is there."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.cluster.harness import ROOT, clean_environment
from trioraft.datagrams.keys import KeyRing, derive_key, generate_key

SCRIPT: Final = ROOT / "containers" / "make-keys"
PROGRAMS: Final = ("cat", "flock", "mv", "rm", "sync", "trioraft")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Have each program that the script runs kill it first, when that is the one whose turn it is."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in PROGRAMS:
        real = f"{sys.executable} -m trioraft" if name == "trioraft" else f"env PATH=$REAL_PATH {name}"
        (programs / name).write_text(
            "#!/bin/sh\n"
            f"echo {name} >>{tmp_path}/done\n"
            f'[ "$(wc -l <{tmp_path}/done)" != "$KILL_AT" ] || kill -9 $PPID\n'
            f'exec {real} "$@"\n'
        )
        (programs / name).chmod(0o755)
    return {
        **clean_environment(),
        "PYTHONPATH": str(ROOT),
        "REAL_PATH": os.environ["PATH"],
        "PATH": f"{programs}:{os.environ['PATH']}",
        "KILL_AT": "never",
    }


def new_volumes(parent: Path) -> Path:
    for name in ("cluster", "status"):
        (parent / name).mkdir(parents=True)
    return parent


def run(volumes: Path, environment: dict[str, str], **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, volumes], env={**environment, **variables}, capture_output=True, text=True, timeout=120, check=False
    )


def keys_in(volumes: Path) -> tuple[str, str, str]:
    files = [volumes / "cluster" / "made.key", volumes / "cluster" / "cluster.key", volumes / "status" / "status.key"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    made, used, status = (file.read_text() for file in files)
    KeyRing.parse(made)
    assert status == derive_key(used, "status") + "\n"
    return made, used, status


def test_keys_are_made_once(tmp_path: Path, environment: dict[str, str]) -> None:
    volumes = new_volumes(tmp_path / "keys")
    first = run(volumes, environment)
    assert (first.returncode, first.stdout, first.stderr) == (0, "a new cluster key is made\n", "")
    made = keys_in(volumes)
    assert made[0] == made[1]
    again = run(volumes, environment)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert keys_in(volumes) == made


def test_a_key_of_ones_own_is_used_as_long_as_it_is_given(tmp_path: Path, environment: dict[str, str]) -> None:
    volumes = new_volumes(tmp_path / "keys")
    own = f"{generate_key()},{generate_key()}"
    assert run(volumes, environment, CLUSTER_KEY=own).returncode == 0
    made, used, _ = keys_in(volumes)
    assert used == own + "\n"

    for wrong in ({"CLUSTER_KEY": "12"}, {"CLUSTER_KEY": own, "CLUSTER_KEY_FILE": "/elsewhere"}):
        done = run(volumes, environment, **wrong)
        assert done.returncode == 2
        assert "CLUSTER_KEY" in done.stderr
        assert keys_in(volumes) == (made, used, derive_key(own, "status") + "\n"), "what was there stays"

    assert run(volumes, environment).returncode == 0
    assert keys_in(volumes)[:2] == (made, made)


def test_it_may_be_killed_at_any_step_and_run_again(tmp_path: Path, environment: dict[str, str]) -> None:
    done = tmp_path / "done"
    run(new_volumes(tmp_path / "whole"), environment)
    steps = len(done.read_text().splitlines())
    assert steps >= 9
    for step in range(1, steps + 1):
        done.unlink()
        volumes = new_volumes(tmp_path / str(step))
        killed = run(volumes, environment, KILL_AT=str(step))
        assert killed.returncode == -signal.SIGKILL, step
        left = {file.name: file.read_text() for file in volumes.glob("*/*.key")}
        for name, text in left.items():
            KeyRing.parse(text)
            assert text.endswith("\n"), f"{name} is whole at step {step}"
        assert run(volumes, environment).returncode == 0
        made, used, _ = keys_in(volumes)
        assert made == used
        assert {left.get("made.key", made), left.get("cluster.key", made)} == {made}, "no key is made over another"


def test_two_at_a_time_make_one_key(tmp_path: Path, environment: dict[str, str]) -> None:
    volumes = new_volumes(tmp_path / "keys")
    both = [subprocess.Popen([SCRIPT, volumes], env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(said) == ["", "a new cluster key is made\n"]
    assert len(set(keys_in(volumes)[:2])) == 1
