"""A node without a key is for one machine only, unless somebody says that it may be reached from others."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import trio

import trioraft
from tests.cluster.harness import ROOT, Cluster, Place, clean_environment, free_ports

BOTH_WAYS_OUT = ("trioraft keygen --output FILE", "CLUSTER_KEY_FILE", "UNSEALED=allowed")


def trioraft_says(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "trioraft", *arguments],
        env={**clean_environment(), "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("command", [["node"], ["lead", "--", "true"]], ids=lambda command: command[0])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])  # noqa: S104 - what is tested
def test_a_node_without_a_key_does_not_start_where_others_reach_it(
    tmp_path: Path, command: list[str], host: str
) -> None:
    done = trioraft_says(*command, BIND_HOST=host, DATA_DIR=str(tmp_path / "data"))
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(f"trioraft: BIND_HOST={host}: ")
    for way in BOTH_WAYS_OUT:
        assert way in line
    assert not (tmp_path / "data").exists()


async def test_nor_does_one_in_a_program(tmp_path: Path) -> None:
    settings = trioraft.NodeSettings.of(bind_host="::", data_dir=tmp_path / "data")
    with pytest.raises(trioraft.NodeError, match=r"^BIND_HOST=::: .*UNSEALED=allowed$"):
        async with trioraft.open_node(settings):
            raise AssertionError("it has started")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("variables", [{}, {"CLUSTER_KEY": "ab" * 32}], ids=["unsealed", "sealed"])
async def test_one_that_may_be_reached_says_so(tmp_path: Path, variables: dict[str, str]) -> None:
    place = Place("127.0.0.1", "0.0.0.0")  # noqa: S104 - what is tested
    async with Cluster(tmp_path, 1, variables, places=[place]) as cluster:
        await cluster.wait_leader()
        table, document = [
            await trio.run_process(
                [sys.executable, "-m", "trioraft", "status", "--peers", cluster.peers, "--format", form],
                capture_stdout=True,
                env={**clean_environment(), "PYTHONPATH": str(ROOT), **variables},
            )
            for form in ("table", "json")
        ]
    is_exposed = not variables
    assert (b"not sealed, and not on loopback only: node-1; " in table.stdout) == is_exposed
    [node] = json.loads(document.stdout)["nodes"]
    assert (node["sealed"], node["exposed"]) == (not is_exposed, is_exposed)


async def test_on_loopback_it_needs_no_permission(tmp_path: Path) -> None:
    [port] = free_ports(1)
    settings = trioraft.NodeSettings.of(
        bind_host="127.0.0.5", bind_port=port, bootstrap_expect=1, data_dir=tmp_path, peers=f"127.0.0.5:{port}"
    )
    async with trioraft.open_node(settings):
        pass
