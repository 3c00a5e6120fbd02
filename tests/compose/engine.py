"""What the tests know of Docker: commands, containers, their logs, and one running project of compose.yaml."""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from trioraft.settings.variables import FORMER_NAMES, VARIABLES

ROOT: Final = Path(__file__).parents[2]
OUT: Final = ROOT / "tests" / "out"

Status = dict[str, Any]
_Found = TypeVar("_Found")


def run(*command: str, timeout: float = 60, env: Mapping[str, str] | None = None) -> str:
    """Run a command; return what it printed; fail with what it complained about."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=env, cwd=ROOT, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def succeeds(*command: str) -> bool:
    return (
        shutil.which(command[0]) is not None
        and subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0
    )


def wait_until(what: str, find: Callable[[], _Found | None], timeout: float, interval: float = 0.2) -> _Found:
    """Ask again until there is something; fail, naming it, when there is nothing in time."""
    deadline = time.monotonic() + timeout
    while not (found := find()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what}")
        time.sleep(interval)
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def clean_environment() -> dict[str, str]:
    """Return the environment without this software's own settings, which compose would pass on."""
    ours = {variable.name for variable in VARIABLES} | set(FORMER_NAMES)
    return {name: value for name, value in os.environ.items() if name not in ours}


@dataclass(frozen=True)
class LogLine:
    """One line of a node's JSON log."""

    time: float  # seconds since the epoch
    event: str
    fields: dict[str, Any]


@dataclass(frozen=True)
class Container:
    """One container of the node service."""

    id: str

    def inspect(self, template: str) -> str:
        return run("docker", "inspect", "--format", template, self.id).strip()

    @property
    def name(self) -> str:
        return self.inspect("{{.Name}}").lstrip("/")

    @property
    def ip(self) -> str:
        return self.inspect("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")

    @property
    def state(self) -> str:
        return self.inspect("{{.State.Status}}")

    def log(self, since: float = 0.0, event: str = "") -> list[LogLine]:
        """Read the log from a time on; all of it, or the lines about one event."""
        done = subprocess.run(
            ["docker", "logs", "--since", f"{since:.6f}", self.id],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=True,
        )
        return [line for line in _parse_log(done.stdout) if line.time >= since and (not event or line.event == event)]

    def died_at(self, since: float) -> float:
        """Ask the engine when the container died last, in seconds since the epoch."""
        filters = ["--filter", f"container={self.id}", "--filter", "event=die"]
        times = ["--since", f"{since:.6f}", "--until", f"{time.time():.6f}"]
        events = run("docker", "events", *filters, *times, "--format", "{{json .}}").splitlines()
        assert events, f"the engine has no die event of {self.id[:12]}"
        return float(json.loads(events[-1])["timeNano"]) / 1e9

    def processes(self) -> list[str]:
        """List the command lines that run in the container, as the engine sees them."""
        return run("docker", "top", self.id, "-o", "pid,args").splitlines()[1:]

    def docker(self, *command: str, timeout: float = 60) -> None:
        """Run a docker command on the container: ``kill``, ``stop``, ``start``, ``pause``, ``unpause``."""
        run("docker", *command, self.id, timeout=timeout)


def _parse_log(text: str) -> Iterator[LogLine]:
    for line in text.splitlines():
        if line.startswith("{"):
            fields = json.loads(line)
            stamp = datetime.fromisoformat(fields.pop("timestamp"))
            yield LogLine(stamp.timestamp(), fields.pop("event"), fields)


@dataclass
class Project:
    """A project of compose.yaml, with a name and a monitor port of its own."""

    compose_command: list[str]
    name: str
    image: str
    files: list[str] = field(default_factory=lambda: ["compose.yaml"])
    settings: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def network(self) -> str:
        return f"{self.name}_default"

    def compose(self, *arguments: str, timeout: float = 120) -> str:
        environment = clean_environment() | {
            "LOG_FORMAT": "json",
            "MONITOR_PORT": str(self.port),
            "TRIORAFT_IMAGE": self.image,
            **self.settings,
        }
        files = [part for file in self.files for part in ("-f", file)]
        command = [*self.compose_command, "-p", self.name, *files, *arguments]
        return run(*command, timeout=timeout, env=environment)

    def up(self) -> None:
        """Start what is there, or make it; wait until three nodes have one leader."""
        self.compose("up", "-d", "--no-build")
        self.wait_settled()

    def down(self, *, volumes: bool = False) -> None:
        self.compose("down", "--remove-orphans", *(["--volumes"] if volumes else []))

    def containers(self) -> list[Container]:
        """List the node containers, running or not."""
        labels = [f"com.docker.compose.project={self.name}", "com.docker.compose.service=node"]
        filters = [part for label in labels for part in ("--filter", f"label={label}")]
        listed = run("docker", "ps", "--all", "--quiet", "--no-trunc", *filters)
        return [Container(line) for line in sorted(listed.split())]

    def nodes(self) -> list[Status]:
        """Ask the monitor for the nodes; none while it does not answer."""
        try:
            with urllib.request.urlopen(f"{self.url}/nodes", timeout=3) as answer:  # noqa: S310 - our own monitor
                nodes: list[Status] = json.load(answer)["nodes"]
                return nodes
        except (urllib.error.URLError, OSError):
            return []

    def leader(self, above: int = -1) -> Status | None:
        """Find the one reachable node that says it leads, in a term above another one."""
        leaders = [
            node for node in self.nodes() if node["reachable"] and node["role"] == "leader" and node["term"] > above
        ]
        return leaders[0] if len(leaders) == 1 else None

    def agreed(self) -> list[Status] | None:
        """Return the statuses when three reachable nodes agree on term and leader, and that one leads."""
        nodes = [node for node in self.nodes() if node["reachable"]]
        leaders = [(node["term"], node["id"]) for node in nodes if node["role"] == "leader"]
        views = {(node["term"], node["leader"]) for node in nodes}
        return nodes if len(nodes) == 3 and len(leaders) == 1 and views == set(leaders) else None

    def wait_settled(self, timeout: float = 45) -> Status:
        """Wait until three nodes agree and the leader's script runs; return the leader."""
        nodes = wait_until(f"three nodes with one leader in {self.name}", self.agreed, timeout)
        return next(node for node in nodes if node["role"] == "leader")

    def wait_working(self, timeout: float = 30) -> Status:
        """Wait until the leader's script runs too, which waits for what earlier leaders may still be doing."""

        def working() -> Status | None:
            leader = self.leader()
            hook = leader["hook"] if leader else {"script": "", "state": ""}
            return leader if (hook["script"], hook["state"]) == ("leader", "running") else None

        self.wait_settled()
        return wait_until(f"the leader's script runs in {self.name}", working, timeout)

    def container_of(self, node: Status) -> Container:
        """Find the container in which a node runs, by the id in its log."""
        for container in self.containers():
            started = container.log(event="node started")
            if started and started[-1].fields["node"] == node["id"]:
                return container
        raise AssertionError(f"no container of {self.name} has logged as node {node['id']}")

    def wait_for_event(self, containers: list[Container], event: str, since: float, timeout: float) -> LogLine:
        """Wait until one of the containers logs an event; return the first such line."""

        def find() -> LogLine | None:
            lines = [line for container in containers for line in container.log(since, event)]
            return min(lines, key=lambda line: line.time, default=None)

        return wait_until(f"{event!r} in the log of {self.name}", find, timeout)

    def wait_for_job(self, since: float, timeout: float) -> LogLine:
        """Wait until a leader's script is started, on any node; return the first such line."""

        def find() -> LogLine | None:
            lines = [line for container in self.containers() for line in container.log(since, "script started")]
            jobs = [line for line in lines if line.fields["script"] == "leader"]
            return min(jobs, key=lambda line: line.time, default=None)

        return wait_until(f"a leader's script is started in {self.name}", find, timeout)

    def save_logs(self) -> None:
        """Keep the logs for whoever looks at a failure."""
        OUT.mkdir(exist_ok=True)
        for container in self.containers():
            log = subprocess.run(
                ["docker", "logs", container.id],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=60,
                check=False,
            )
            (OUT / f"{container.name}.log").write_bytes(log.stdout)
