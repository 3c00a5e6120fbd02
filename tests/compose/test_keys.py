"""compose.yaml is sealed by itself: who has which key, what becomes of it, and every command there."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.compose.engine import ROOT, Project, wait_until

COMMANDS: Final = (ROOT / "trioraft" / "cli" / "COMMANDS.md").read_text("utf-8")
OPERATING: Final = (ROOT / "containers" / "OPERATING.md").read_text("utf-8")
# What is run for each command of the table in COMMANDS.md, in a container of a node.
IN_A_NODE: Final = {
    "put": "trioraft put greeting hello",
    "get": '[ "$(trioraft get greeting)" = hello ]',
    "list": "trioraft list | grep greeting",
    "cas": "trioraft cas greeting hello bye",
    "watch": (
        "trioraft watch greeting --revision 2 >/tmp/seen & until grep hello /tmp/seen; do sleep 0.2; done; kill $!"
    ),
    "delete": "trioraft delete greeting",
    "lease grant": "trioraft lease grant 60 && trioraft lease list",
    "lock": "trioraft lock job -- sh -c 'echo token $TRIORAFT_FENCING_TOKEN; test -z \"$CLUSTER_KEY_FILE\"'",
    "status": "trioraft status --format json",
    "transfer": "trioraft transfer",
    "step-down": "trioraft step-down",
    "settings": "trioraft settings --reads lease && trioraft settings --reads quorum",
    "members": "trioraft members",
    "healthcheck": "trioraft healthcheck --ready",
    "backup": "trioraft backup /tmp/cluster.backup",
    "restore": "trioraft restore /tmp/cluster.backup --data-dir /tmp/restored",
    "recover": "trioraft recover --data-dir /tmp/restored --force-new-cluster --yes",
    "bench": "trioraft bench --commands 20 && trioraft bench --local --nodes 1 --commands 20",
    "keygen": "trioraft keygen --output /tmp/new.key && trioraft keygen --derive client",
    "abandon-formation": "trioraft abandon-formation 2>&1 | grep 'a member of'",
    "locks": "trioraft locks",
    "lead": (
        "env BIND_HOST=127.0.0.1 BIND_PORT=7401 PEERS=127.0.0.1:7401 APP_NAME= BOOTSTRAP_EXPECT=1 DATA_DIR=/tmp/lead"
        " SCRIPT_LEADER_PATH= SCRIPT_FOLLOWER_PATH= timeout --preserve-status -s INT 20"
        " trioraft lead -- sh -c 'echo leads >/tmp/leads' & until [ -e /tmp/leads ]; do sleep 0.2; done"
    ),
    "node": "trioraft healthcheck",  # it is what the container runs
    "etcd": (
        "env -i PATH=$PATH trioraft etcd --data-dir /tmp/etcd --listen-peer-urls=http://127.0.0.1:7411"
        " --initial-cluster=default=http://127.0.0.1:7411 --listen-client-urls=http://127.0.0.1:7412"
        " >/tmp/told 2>&1 &"
        " for i in $(seq 100); do python -c 'import urllib.request as u; u.urlopen(\"http://127.0.0.1:7412/health\")'"
        " 2>/dev/null && kill $! && exec true; sleep 0.2; done; cat /tmp/told; exit 1"
    ),
    "monitor": "trioraft healthcheck",  # and so is this in the other one: the project asks it all the time
    "up": (
        "env SCRIPT_LEADER_PATH= SCRIPT_FOLLOWER_PATH= trioraft up --nodes 1 --base-port 7402 --monitor-port 8402"
        " >/tmp/up 2>&1 & for i in $(seq 100); do grep -q 'leader, term' /tmp/up && kill $! && exec true; sleep 0.2;"
        " done; cat /tmp/up; exit 1"
    ),
    "up ctl": (
        "env SCRIPT_LEADER_PATH= SCRIPT_FOLLOWER_PATH= trioraft up --nodes 1 --base-port 7403 --monitor-port 8403"
        " >/tmp/up 2>&1 & for i in $(seq 100); do trioraft up ctl pause node-1 && trioraft up ctl resume node-1 &&"
        " kill $! && exec true; sleep 0.2; done; cat /tmp/up; exit 1"
    ),
}

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def project(compose_command: list[str], image: str) -> Iterator[Project]:
    project = Project(compose_command, f"trioraft-keys-{os.getpid()}", image)
    try:
        project.up()
        yield project
    finally:
        project.save_logs()
        project.down(volumes=True)


def in_service(project: Project, service: str, command: str, *, timeout: float = 60) -> str:
    return project.compose("exec", "-T", service, "sh", "-c", command, timeout=timeout)


def key_of(project: Project) -> str:
    return in_service(project, "node", "cat /keys/cluster/cluster.key")


def all_are_sealed(project: Project, count: int = 3) -> bool:
    nodes = [node for node in project.nodes() if node["reachable"]]
    return len(nodes) == count and all(node["sealed"] and not node["exposed"] for node in nodes)


def test_all_nodes_are_sealed_and_the_monitor_can_only_watch(project: Project) -> None:
    assert all_are_sealed(project)
    table = in_service(project, "node", "trioraft status")
    assert "not sealed" not in table
    modes = "stat -c '%a %u %n' /keys/*/* 2>&1"
    assert in_service(project, "node", modes).splitlines() == [
        "600 10001 /keys/cluster/cluster.key",
        "600 10001 /keys/cluster/lock",
        "600 10001 /keys/cluster/made.key",
    ]
    assert in_service(project, "monitor", modes).splitlines() == ["600 10001 /keys/status/status.key"]
    for service, directory in (("node", "cluster"), ("monitor", "status")):
        in_service(project, service, f"! touch /keys/{directory}/new 2>/dev/null")
    refused = in_service(project, "monitor", "trioraft put greeting hello 2>&1 || true")
    assert "CLUSTER_KEY" in refused
    for container in project.containers():
        assert "CLUSTER_KEY=" not in container.inspect("{{.Config.Env}}")


def test_every_command_of_the_document_is_tried() -> None:
    rows = re.findall(r"^\| `trioraft ([a-z-]+(?: grant| ctl)?)", COMMANDS, re.MULTILINE)
    assert sorted(rows) == sorted(IN_A_NODE)


@pytest.mark.parametrize("name", IN_A_NODE)
def test_commands_in_a_node_have_the_key(project: Project, name: str) -> None:
    project.wait_working()
    in_service(project, "node", IN_A_NODE[name], timeout=120)


def test_a_program_elsewhere_is_given_a_client_key_as_the_document_says(project: Project, tmp_path: Path) -> None:
    (block,) = re.findall(r"```sh\n(\(umask 077; docker compose exec.*?)```", OPERATING, re.DOTALL)
    in_service(project, "node", "trioraft put greeting again")
    words = {"docker compose": f"{' '.join(project.compose_command)} -p {project.name} -f {ROOT}/compose.yaml"}
    words |= {"trioraft_default": project.network, " trioraft get": f" {project.image} get"}
    for here, there in words.items():
        assert here in block
        block = block.replace(here, there)
    done = subprocess.run(
        ["sh", "-ec", block], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (0, "again\n"), done.stderr


def test_a_killed_a_further_and_a_returning_node_have_the_same_key(project: Project) -> None:
    key, cluster = key_of(project), project.wait_settled()["cluster_id"]
    killed = project.containers()[0]
    killed.docker("kill")
    killed.docker("start")
    project.compose("up", "-d", "--no-build", "--scale", "node=4")
    wait_until("four sealed nodes", lambda: all_are_sealed(project, 4), 60)
    project.down()
    project.up()
    assert all_are_sealed(project)
    assert project.wait_settled()["cluster_id"] == cluster
    assert key_of(project) == key
    project.down(volumes=True)
    project.up()
    assert key_of(project) != key
    assert project.wait_settled()["cluster_id"] != cluster


def test_a_cluster_without_keys_is_sealed_by_the_next_up_and_can_have_a_key_of_ones_own(
    compose_command: list[str], image: str
) -> None:
    project = Project(compose_command, f"trioraft-moves-{os.getpid()}", image)
    try:
        project.files.append("containers/compose.unsealed.yaml")
        project.up()
        cluster = project.wait_settled()["cluster_id"]
        assert all(node["exposed"] and not node["sealed"] for node in project.nodes())
        assert "not sealed" in in_service(project, "node", "trioraft status")
        in_service(project, "node", "trioraft put kept yes")

        del project.files[1]
        project.settings["CLUSTER_KEY"] = own = "ab" * 32
        project.up()
        wait_until("three sealed nodes", lambda: all_are_sealed(project), 60)
        assert project.wait_settled()["cluster_id"] == cluster
        assert in_service(project, "node", "trioraft get kept") == "yes\n"
        assert key_of(project) == own + "\n"
        for container in project.containers():
            assert own not in container.inspect("{{.Config.Env}}")
    finally:
        project.save_logs()
        project.down(volumes=True)


def test_a_container_alone_needs_a_key_or_permission(image: str) -> None:
    done = subprocess.run(
        ["docker", "run", "--rm", "--network", "none", image], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("trioraft: BIND_HOST=::: ")
    assert done.stderr.endswith("UNSEALED=allowed\n")


def test_the_command_of_a_recovery_works_on_the_volume(project: Project) -> None:
    project.compose("stop", "node")
    with pytest.raises(AssertionError, match=r"(?s)\n/data/\d: node .*nothing was done; when a quorum can be"):
        project.compose("run", "--rm", "-T", "node", "recover", timeout=120)
    project.up()
    assert json.loads(in_service(project, "node", "trioraft status --format json"))["leader"]
