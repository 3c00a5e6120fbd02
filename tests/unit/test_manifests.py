"""The manifests against their schemas, against each other, and against the settings they give."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import jsonschema
import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from tests.conftest import unavailable
from trioraft.cli.exits import WRONG
from trioraft.settings.settings import MonitorSettings, load
from trioraft.settings.variables import FORMER_NAMES, VARIABLES

ROOT: Final = Path(__file__).parents[2]
UID: Final = 10001

Document = dict[str, Any]


def _documents(name: str) -> list[Document]:
    return list(yaml.safe_load_all((ROOT / name).read_text(encoding="utf-8")))


def _kubernetes(kind: str, name: str) -> Document:
    (found,) = (
        document
        for document in _documents("containers/kubernetes.yaml")
        if (document["kind"], document["metadata"]["name"]) == (kind, name)
    )
    return found


# --- Kubernetes ---------------------------------------------------------------------------------------------

# The oldest version with everything the manifest uses, and the newest one the package knows.
KUBERNETES_VERSIONS: Final = ("1.27", kubernetes_validate.latest_version())


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
@pytest.mark.parametrize("document", _documents("containers/kubernetes.yaml"), ids=lambda d: d["metadata"]["name"])
def test_the_kubernetes_manifest_fits_the_schema(document: Document, version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)


def test_the_kubernetes_schema_refuses_a_wrong_field() -> None:
    document = _kubernetes("StatefulSet", "trioraft")
    document["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(jsonschema.ValidationError, match="readinesProbe"):
        kubernetes_validate.validate(document, KUBERNETES_VERSIONS[-1], strict=True)


@pytest.mark.parametrize(
    ("workload", "service"),
    [(("StatefulSet", "trioraft"), "trioraft"), (("Deployment", "trioraft-monitor"), "trioraft-monitor")],
)
def test_kubernetes_service_finds_its_pods(workload: tuple[str, str], service: str) -> None:
    spec, front = _kubernetes(*workload)["spec"], _kubernetes("Service", service)["spec"]
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"] == labels == front["selector"]
    ports = {port["name"]: port["protocol"] for port in spec["template"]["spec"]["containers"][0]["ports"]}
    assert {port["targetPort"]: port["protocol"] for port in front["ports"]} == ports


def test_kubernetes_nodes_are_found_before_they_are_ready() -> None:
    service, nodes = _kubernetes("Service", "trioraft"), _kubernetes("StatefulSet", "trioraft")
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert nodes["spec"]["serviceName"] == "trioraft"
    assert nodes["spec"]["podManagementPolicy"] == "Parallel"
    container = nodes["spec"]["template"]["spec"]["containers"][0]
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert environment["APP_NAME"] == "trioraft"
    assert environment["BOOTSTRAP_EXPECT"] == str(nodes["spec"]["replicas"])
    assert "--ready" in container["readinessProbe"]["exec"]["command"]
    assert "--ready" not in container["livenessProbe"]["exec"]["command"]
    claims = [claim["metadata"]["name"] for claim in nodes["spec"]["volumeClaimTemplates"]]
    assert {mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] in claims} == {
        environment["DATA_DIR"]
    }


def test_the_monitor_may_be_asked_under_the_names_of_its_services() -> None:
    (container,) = _kubernetes("Deployment", "trioraft-monitor")["spec"]["template"]["spec"]["containers"]
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    names = load(MonitorSettings, {"ALLOWED_HOSTS": environment["ALLOWED_HOSTS"].replace("$(NAMESPACE)", "raft")})
    assert names.allowed_hosts == tuple(
        f"trioraft-monitor{rest}" for rest in ("", ".raft", ".raft.svc", ".raft.svc.cluster.local")
    )
    assert list(environment).index("NAMESPACE") < list(environment).index("ALLOWED_HOSTS")
    for probe in ("livenessProbe", "readinessProbe"):  # they use the pod's address
        assert set(container[probe]["httpGet"]) == {"path", "port"}
    for manifest in ("compose.yaml", "containers/swarm.yaml"):
        environment = _documents(manifest)[0]["services"]["monitor"]["environment"]
        assert environment["ALLOWED_HOSTS"] == "${ALLOWED_HOSTS:-monitor}"


@pytest.mark.parametrize("workload", [("StatefulSet", "trioraft"), ("Deployment", "trioraft-monitor")])
def test_kubernetes_pods_are_restricted(workload: tuple[str, str]) -> None:
    pod = _kubernetes(*workload)["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == UID
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


# --- who may reach the pods ---------------------------------------------------------------------------------


def _policy(name: str) -> Document:
    documents = _documents("containers/network-policy.yaml")
    (found,) = (document["spec"] for document in documents if document["metadata"]["name"] == name)
    return dict(found)


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
@pytest.mark.parametrize(
    "document", _documents("containers/network-policy.yaml"), ids=lambda d: d["metadata"]["name"]
)
def test_the_network_policies_fit_the_schema(document: Document, version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("workload", [("StatefulSet", "trioraft"), ("Deployment", "trioraft-monitor")])
def test_network_policies_are_for_the_pods_that_there_are_and_their_ports(workload: tuple[str, str]) -> None:
    template, policy = _kubernetes(*workload)["spec"]["template"], _policy(workload[1])
    assert policy["podSelector"]["matchLabels"] == template["metadata"]["labels"]
    ports = {port["name"]: port["protocol"] for port in template["spec"]["containers"][0]["ports"]}
    (ingress,) = policy["ingress"]
    assert {port["port"]: port["protocol"] for port in ingress["ports"]} == ports
    assert "Ingress" in policy["policyTypes"]


def test_nodes_are_reached_by_each_other_and_the_monitor_which_reaches_them_and_dns_alone() -> None:
    labels = [
        _kubernetes(*workload)["spec"]["template"]["metadata"]["labels"]
        for workload in (("StatefulSet", "trioraft"), ("Deployment", "trioraft-monitor"))
    ]
    allowed = [peer["podSelector"]["matchLabels"] for peer in _policy("trioraft")["ingress"][0]["from"]]
    assert allowed == [*labels, {"trioraft.client": "true"}]
    to_nodes, to_dns = _policy("trioraft-monitor")["egress"]
    assert [peer["podSelector"]["matchLabels"] for peer in to_nodes["to"]] == labels[:1]
    assert {port["port"] for port in to_dns["ports"]} == {53}


# --- systemd ------------------------------------------------------------------------------------------------

UNITS: Final = ("trioraft.service", "trioraft-monitor.service")


def _unit(name: str) -> dict[str, list[str]]:
    settings: dict[str, list[str]] = {}
    for line in (ROOT / "containers" / name).read_text("utf-8").splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            settings.setdefault(key, []).append(value)
    return settings


@pytest.mark.parametrize("name", UNITS)
def test_units_give_keys_as_credentials_to_a_user_of_their_own(name: str) -> None:
    unit = _unit(name)
    given = [item for line in unit["Environment"] for item in line.split()]
    (key,) = [item for item in given if item.startswith("CLUSTER_KEY")]
    (credential,) = unit["LoadCredential"]
    assert key == f"CLUSTER_KEY_FILE=%d/{credential.partition(':')[0]}"
    assert {item.partition("=")[0] for item in given} <= {variable.name for variable in VARIABLES}
    assert unit["DynamicUser"] == unit["NoNewPrivileges"] == ["yes"]
    assert unit["ProtectSystem"] == ["strict"]
    assert unit["CapabilityBoundingSet"] == [""]
    assert unit["RestartPreventExitStatus"] == [str(WRONG)]


@pytest.mark.parametrize("name", UNITS)
def test_units_are_understood_and_confine_what_they_start(name: str, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        unavailable("there is no systemd-analyze")
    unit = tmp_path / name
    text = (ROOT / "containers" / name).read_text("utf-8")
    unit.write_text(text.replace("/opt/trioraft/bin/trioraft ", f"{sys.executable} -m trioraft "), "utf-8")
    assert sys.executable in unit.read_text("utf-8")
    verified = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")
    looked = ["systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=20", str(unit)]
    confined = subprocess.run(looked, capture_output=True, text=True, check=False)
    assert confined.returncode == 0, confined.stdout[-2000:]


# --- Swarm --------------------------------------------------------------------------------------------------

_TEXT: Final = {"type": "string"}
_TEXTS: Final = {"type": "array", "items": _TEXT, "uniqueItems": True}
_DURATION: Final = {"type": "string", "pattern": r"^(\d+(h|ms|us|m|s))+$"}
_COUNT: Final = {"type": "integer", "minimum": 1}


def _object(required: tuple[str, ...] = (), **properties: Any) -> Document:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _named(items: Document) -> Document:
    return {
        "type": "object",
        "patternProperties": {"^[a-zA-Z0-9._-]+$": items},
        "additionalProperties": False,
    }


# The part of the Compose file format 3.8 that `docker stack deploy` acts upon, written down from its
# documentation: what Swarm would ignore (build, depends_on, restart, container_name, security_opt, tmpfs, …) is
# not in it, and so is an error here.
SWARM_SCHEMA: Final = _object(
    ("version", "services"),
    version={"const": "3.8"},
    services=_named(
        _object(
            ("image", "deploy"),
            image=_TEXT,
            command=_TEXTS,
            environment=_named(_TEXT),
            init={"type": "boolean"},
            cap_add=_TEXTS,
            cap_drop=_TEXTS,
            read_only={"type": "boolean"},
            networks=_TEXTS,
            stop_grace_period=_DURATION,
            secrets={
                "type": "array",
                "items": _object(
                    ("source",), source=_TEXT, target=_TEXT, uid=_TEXT, gid=_TEXT, mode={"type": "integer"}
                ),
            },
            volumes={
                "type": "array",
                "items": {
                    "oneOf": [
                        {"type": "string", "pattern": "^[a-z]+:/[a-z/]+(:ro)?$"},
                        _object(
                            ("type", "target"),
                            type={"enum": ["bind", "volume", "tmpfs"]},
                            source=_TEXT,
                            target=_TEXT,
                            read_only={"type": "boolean"},
                        ),
                    ]
                },
            },
            ports={
                "type": "array",
                "items": _object(
                    ("target",),
                    target=_COUNT,
                    published=_COUNT,
                    protocol={"enum": ["tcp", "udp"]},
                    mode={"enum": ["host", "ingress"]},
                ),
            },
            healthcheck=_object(
                ("test",),
                test=_TEXTS,
                interval=_DURATION,
                timeout=_DURATION,
                retries=_COUNT,
                start_period=_DURATION,
            ),
            deploy=_object(
                ("replicas",),
                mode={"enum": ["global", "replicated"]},
                replicas=_COUNT,
                placement=_object(constraints=_TEXTS, max_replicas_per_node=_COUNT),
                update_config=_object(
                    parallelism=_COUNT,
                    delay=_DURATION,
                    order={"enum": ["start-first", "stop-first"]},
                    failure_action={"enum": ["continue", "pause", "rollback"]},
                ),
                restart_policy=_object(condition={"enum": ["any", "none", "on-failure"]}, delay=_DURATION),
                resources=_object(limits=_object(cpus=_TEXT, memory=_TEXT, pids=_COUNT)),
            ),
        )
    ),
    networks=_named(_object(driver=_TEXT)),
    volumes=_named({"type": ["object", "null"]}),
    secrets=_named(_object(external={"type": "boolean"}, file=_TEXT)),
) | {"patternProperties": {"^x-": {}}}


def test_the_swarm_file_fits_the_schema() -> None:
    (stack,) = _documents("containers/swarm.yaml")
    jsonschema.Draft202012Validator.check_schema(SWARM_SCHEMA)
    jsonschema.validate(stack, SWARM_SCHEMA, jsonschema.Draft202012Validator)


def test_the_swarm_schema_refuses_what_swarm_ignores() -> None:
    (stack,) = _documents("containers/swarm.yaml")
    stack["services"]["node"]["restart"] = "always"
    with pytest.raises(jsonschema.ValidationError, match="restart"):
        jsonschema.validate(stack, SWARM_SCHEMA, jsonschema.Draft202012Validator)


def test_every_name_in_the_swarm_file_exists() -> None:
    (stack,) = _documents("containers/swarm.yaml")
    node, monitor = stack["services"]["node"], stack["services"]["monitor"]
    assert node["environment"]["APP_NAME"] == monitor["environment"]["RAFT_SERVICE_NAME"] == "tasks.node"
    assert node["environment"]["BOOTSTRAP_EXPECT"] == str(node["deploy"]["replicas"])
    for service in stack["services"].values():
        (secret,) = service["secrets"]
        assert secret["source"] in stack["secrets"]
        assert secret["uid"] == secret["gid"] == str(UID)
        assert service["environment"]["CLUSTER_KEY_FILE"] == f"/run/secrets/{secret['source']}"
        assert set(service["networks"]) <= set(stack["networks"])


# --- Compose ------------------------------------------------------------------------------------------------

SUBSTITUTION: Final = re.compile(r"^\$\{([A-Z_]+):-([^${}]*)\}$")
# Where compose.yaml says something else than the program, because it is a container that it sets up.
COMPOSE_DEFAULTS: Final = {
    "ALLOWED_HOSTS": "monitor",
    "APP_NAME": "node",
    "RAFT_SERVICE_NAME": "node",
    "BIND_HOST": "::",
    "BOOTSTRAP_EXPECT": "3",
    "CLUSTER_KEY_FILE": "/keys/cluster/cluster.key",
    "DATA_DIR": "/data",
    "LOG_FORMAT": "console",
    "SCRIPT_LEADER_PATH": "/hooks/announce-leader.sh",
    "SCRIPT_FOLLOWER_PATH": "/hooks/announce-follower.sh",
    # A default here would hide the value of a former name.
    **dict.fromkeys(FORMER_NAMES.values(), ""),
    **dict.fromkeys(FORMER_NAMES, ""),
}
# What v2 takes and v1.29 does not, or does in another way (long ports, nested substitution).
NOT_IN_COMPOSE_V1: Final = ("name", "include", "version")


def _compose(service: str) -> Document:
    found: Document = _documents("compose.yaml")[0]["services"][service]
    return found


@pytest.mark.parametrize("service", ["node", "monitor"])
def test_compose_passes_every_documented_variable(service: str) -> None:
    environment = _compose(service)["environment"]
    defaults = {
        variable.name: COMPOSE_DEFAULTS.get(variable.name, variable.default)
        for variable in VARIABLES
        if service in variable.used_by
    }
    # A key among the variables can be read by whoever may look into the container; only `keys` is given one.
    del defaults["CLUSTER_KEY"]
    if service == "monitor":
        defaults |= dict.fromkeys(FORMER_NAMES, "")
        defaults["CLUSTER_KEY_FILE"] = "/keys/status/status.key"
        # Published on a fixed port: the variable is the nodes'.
        assert str(environment.pop("BIND_PORT")) == defaults.pop("BIND_PORT") == "8000"
    assert environment == {name: f"${{{name}:-{default}}}" for name, default in defaults.items()}


def test_compose_is_for_old_and_new_versions() -> None:
    (document,) = _documents("compose.yaml")
    assert not set(document) & set(NOT_IN_COMPOSE_V1)
    for service in document["services"].values():
        assert "start_interval" not in service.get("healthcheck", {})
        assert all(isinstance(port, str) for port in service.get("ports", []))
        assert all(
            SUBSTITUTION.match(str(value)) or "$" not in str(value) for value in service["environment"].values()
        )


@pytest.mark.parametrize("service", ["keys", "node", "monitor"])
def test_compose_services_are_restricted(service: str) -> None:
    definition = _compose(service)
    assert definition["cap_drop"] == ["ALL"]
    assert definition["read_only"] is True
    assert definition["init"] is True
    assert "no-new-privileges:true" in definition["security_opt"]
    assert not {"privileged", "cap_add", "user"} & set(definition)


def test_compose_gives_each_service_the_key_that_it_needs() -> None:
    (document,) = _documents("compose.yaml")
    mounts = {
        name: [mount for mount in service["volumes"] if mount.split(":")[0] in {"cluster-key", "status-key"}]
        for name, service in document["services"].items()
    }
    assert mounts == {
        "keys": ["cluster-key:/keys/cluster", "status-key:/keys/status"],
        "node": ["cluster-key:/keys/cluster:ro"],
        "monitor": ["status-key:/keys/status:ro"],
    }
    assert _compose("keys")["environment"] == {name: f"${{{name}:-}}" for name in ("CLUSTER_KEY", "CLUSTER_KEY_FILE")}
    for name in ("node", "monitor"):
        assert _compose(name)["depends_on"]["keys"] == {"condition": "service_completed_successfully"}
    # The first one that is built by docker-compose 1.29, which builds one after the other.
    assert _compose("keys")["build"] == _compose("node")["build"]


def test_compose_can_do_without_keys() -> None:
    (document,) = _documents("containers/compose.unsealed.yaml")
    assert document == {
        "services": {
            "node": {"environment": {"CLUSTER_KEY_FILE": "", "UNSEALED": "allowed"}},
            "monitor": {"environment": {"CLUSTER_KEY_FILE": ""}},
        }
    }


def test_compose_mounts_the_hooks_that_it_runs() -> None:
    node = _compose("node")
    assert "./hooks:/hooks:ro" in node["volumes"]
    for name in ("SCRIPT_LEADER_PATH", "SCRIPT_FOLLOWER_PATH"):
        script = ROOT / "hooks" / Path(COMPOSE_DEFAULTS[name]).name
        assert script.stat().st_mode & 0o111 == 0o111


def test_scripts_get_their_time_before_docker_kills() -> None:
    grace = next(int(variable.default) for variable in VARIABLES if variable.name == "HOOK_STOP_GRACE_MILLIS") / 1000
    pod = _kubernetes("StatefulSet", "trioraft")["spec"]["template"]["spec"]
    swarm = _documents("containers/swarm.yaml")[0]["services"]["node"]
    (unit,) = _unit("trioraft.service")["TimeoutStopSec"]
    for given in (_compose("node")["stop_grace_period"], swarm["stop_grace_period"], unit):
        assert int(given.removesuffix("s")) > 2 * grace
    assert pod["terminationGracePeriodSeconds"] > 2 * grace


# --- the image ----------------------------------------------------------------------------------------------


def test_image_and_manifests_agree() -> None:
    dockerfile = (ROOT / "containers" / "Dockerfile").read_text(encoding="utf-8")
    assert f"\nUSER {UID}:{UID}\n" in dockerfile
    assert "BIND_HOST=::" in dockerfile
    assert "DATA_DIR=/data" in dockerfile
    # A new volume has the owner and the mode of what it is mounted over.
    assert f"install -d -o {UID} -g {UID} -m 0700 /keys/cluster /keys/status" in dockerfile
    assert not re.search(r"^#\s*syntax\s*=", dockerfile, re.MULTILINE | re.IGNORECASE), "it would need a registry"
    (stage,) = re.findall(r"^ARG BASE=(.*)$", dockerfile, re.MULTILINE)
    assert _compose("node")["build"]["args"]["BASE"] == f"${{BASE_IMAGE:-{stage}}}"
