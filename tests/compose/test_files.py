"""The tools themselves read compose.yaml and the Swarm manifest."""

import pytest
import yaml

from tests.compose.engine import Project, run, succeeds


@pytest.mark.parametrize("files", [["compose.yaml"], ["compose.yaml", "containers/compose.unsealed.yaml"]])
def test_compose_reads_its_file(compose_command: list[str], files: list[str]) -> None:
    project = Project(compose_command, "trioraft-read", "example/trioraft", files)
    read = yaml.safe_load(project.compose("config"))
    assert set(read["services"]) == {"keys", "node", "monitor"}
    assert {service["image"] for service in read["services"].values()} == {"example/trioraft"}
    assert read["services"]["node"]["environment"]["ELECTION_TIMEOUT_LOWER_MILLIS"] == "3000"


def test_settings_reach_the_services(compose_command: list[str]) -> None:
    project = Project(compose_command, "trioraft-read", "example/trioraft")
    project.settings |= {"HEARTBEAT_REPEAT_MILLIS": "123", "FASTAPI_TITLE": "as before"}
    services = yaml.safe_load(project.compose("config"))["services"]
    assert services["node"]["environment"]["HEARTBEAT_REPEAT_MILLIS"] == "123"
    assert services["monitor"]["environment"]["FASTAPI_TITLE"] == "as before"
    assert not services["monitor"]["environment"]["API_TITLE"]


def test_swarm_reads_its_file() -> None:
    if not succeeds("docker", "version") or "\n  config " not in run("docker", "stack", "--help"):
        pytest.skip("this docker command has no 'stack config'")
    read = yaml.safe_load(run("docker", "stack", "config", "-c", "containers/swarm.yaml"))
    assert read["services"]["node"]["deploy"]["replicas"] == 3
