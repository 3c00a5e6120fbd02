"""Scripts and commands that run as the user of a node, or of `trioraft lock`, find no key of the cluster."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import trio

from tests.cluster.harness import ROOT, Cluster, Place, clean_environment
from trioraft.datagrams.keys import generate_key
from trioraft.hooks.supervisor import MARKER

KEY: Final = generate_key()
# Root without capabilities is as any other user towards processes of the same user.
ORDINARY: Final = ("setpriv", "--inh-caps=-all", "--bounding-set=-all") if os.geteuid() == 0 else ()

pytestmark = pytest.mark.skipif(bool(ORDINARY) and shutil.which("setpriv") is None, reason="needs setpriv")


@pytest.fixture
def search(tmp_path: Path) -> Iterator[Path]:
    """Make a script that looks for the key wherever an ordinary user can, and one process that shows it.

    What was found is written to `found`: the processes, and whether the script was given the key itself.
    """
    (tmp_path / "wanted").write_text(KEY)
    script = tmp_path / "search.sh"
    script.write_text(
        "#!/bin/sh\n"
        f"cd {tmp_path}\n"
        "{ grep -l -a -F -f wanted /proc/[0-9]*/environ 2>/dev/null; env | grep ^CLUSTER_KEY; echo all; } > finding\n"
        "mv finding found\n"
    )
    script.chmod(0o755)
    shown = subprocess.Popen([*ORDINARY, "sleep", "120"], env={**os.environ, "SHOWN": KEY})
    try:
        yield script
    finally:
        shown.kill()
        shown.wait()


async def found_by(script: Path) -> list[str]:
    with trio.fail_after(30):
        while not (script.parent / "found").exists():
            await trio.sleep(0.05)
    *found, end = (script.parent / "found").read_text().splitlines()
    assert end == "all"
    (script.parent / "found").unlink()
    return found


def is_one_process(found: list[str]) -> bool:
    return [line.split("/")[1:2] for line in found] == [["proc"]]


@pytest.mark.parametrize("as_file", [False, True], ids=["CLUSTER_KEY", "CLUSTER_KEY_FILE"])
async def test_scripts_and_commands_find_no_key(tmp_path: Path, search: Path, as_file: bool) -> None:
    variables = {"CLUSTER_KEY": KEY}
    if as_file:
        (tmp_path / "cluster.key").write_text(KEY)
        variables = {"CLUSTER_KEY": "", "CLUSTER_KEY_FILE": str(tmp_path / "cluster.key")}
    each = [{**variables, "SCRIPT_LEADER_PATH": str(search)}]
    common = {"CLUSTER_KEY": KEY}  # of the client that watches it
    (tmp_path / "nodes").mkdir()
    async with Cluster(tmp_path / "nodes", 1, common, each=each, places=[Place(command=ORDINARY)]) as cluster:
        await cluster.wait_leader()
        assert is_one_process(await found_by(search)), "the script sees the process that shows the key, and no other"
        done = await trio.run_process(
            [*ORDINARY, sys.executable, "-m", "trioraft", "lock", "job", "--", search],
            env={**clean_environment(), "PYTHONPATH": str(ROOT), "PEERS": cluster.peers, **variables},
            check=False,
        )
        assert done.returncode == 0
        assert is_one_process(await found_by(search)), "and so does the command under a lock"


@pytest.mark.parametrize(
    ("variables", "dumpable"),
    [
        ({}, "1"),
        ({"CLUSTER_KEY": KEY}, "0"),
        ({"CLUSTER_KEY_FILE": "cluster.key"}, "0"),
        ({"CLUSTER_KEY_FILE": "cluster.key", MARKER: "work"}, "1"),  # it must be found, to be ended with the work
    ],
    ids=["no key", "key", "file", "work of a script"],
)
def test_a_process_with_a_key_cannot_be_looked_into(variables: dict[str, str], dumpable: str) -> None:
    code = "import ctypes; from trioraft.cli import main as cli; cli.run = lambda arguments: {}; cli.main()"
    got = code.format("print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))")
    environment = {**clean_environment(), "PYTHONPATH": str(ROOT), **variables}
    environment.pop(MARKER, None) if MARKER not in variables else None
    done = subprocess.run([sys.executable, "-c", got], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"{dumpable}\n"
