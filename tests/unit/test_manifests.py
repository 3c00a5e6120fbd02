"""The manifests against their schemas, against each other, and against the settings they give."""

import re
from pathlib import Path
from typing import Any, Final

import jsonschema
import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from trioraft.settings import VARIABLES

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
def test_kubernetes_schema(document: Document, version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)


def test_kubernetes_schema_refuses_a_wrong_field() -> None:
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


def test_swarm_schema() -> None:
    (stack,) = _documents("containers/swarm.yaml")
    jsonschema.Draft202012Validator.check_schema(SWARM_SCHEMA)
    jsonschema.validate(stack, SWARM_SCHEMA, jsonschema.Draft202012Validator)


def test_swarm_schema_refuses_what_swarm_ignores() -> None:
    (stack,) = _documents("containers/swarm.yaml")
    stack["services"]["node"]["restart"] = "always"
    with pytest.raises(jsonschema.ValidationError, match="restart"):
        jsonschema.validate(stack, SWARM_SCHEMA, jsonschema.Draft202012Validator)


def test_swarm_names_exist() -> None:
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

# Variables that mean something for one side only, or that compose.yaml gives itself.
SUBSTITUTION: Final = re.compile(r"^\$\{([A-Z_]+):-([^${}]*)\}$")
