"""A project of compose.yaml whose number of replicas changes while a writer writes, and what is seen of it."""

import json
import os
import subprocess
import time
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from tests.compose.engine import OUT, ROOT, Project, Status, run, wait_until

# How long the processes of new replicas may take to start on a busy machine, in seconds.
_START: Final = 30.0
_WRITER: Final = ROOT / "tests" / "compose" / "writer.py"


class Write(NamedTuple):
    """A write that was acknowledged."""

    number: int
    at: float  # when it was begun, in seconds since the epoch
    took: float


class Step(NamedTuple):
    """One change of the number of replicas."""

    name: str
    began: float  # in seconds since the epoch
    command: float  # how long the command took, in seconds
    started: float  # from then on until the last process of a new replica ran, in seconds
    settled: float  # from then on, in seconds


class Writer:
    """A container that writes to the cluster for as long as the block lasts."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._id = ""

    def __enter__(self) -> "Writer":
        project = self._project
        self._id = run(
            *("docker", "run", "--detach", "--init", "--network", project.network, "--read-only"),
            *("--volume", f"{_WRITER}:/writer.py:ro", "--env", "APP_NAME=node", "--entrypoint", "python"),
            *("--volume", f"{project.name}_cluster-key:/keys:ro", "--env", "CLUSTER_KEY_FILE=/keys/cluster.key"),
            *(project.image, "/writer.py"),
        ).strip()
        wait_until("the first write", self.writes, 30)
        return self

    def __exit__(self, *exception: object) -> None:
        run("docker", "rm", "--force", "--volumes", self._id)

    def writes(self) -> list[Write]:
        """Read what has been acknowledged so far."""
        log = subprocess.run(["docker", "logs", self._id], capture_output=True, text=True, timeout=60, check=True)
        assert not log.stderr, f"the writer failed: {log.stderr}"
        # The last line may be half written.
        return [Write(**json.loads(line)) for line in log.stdout.splitlines() if line.endswith("}")]

    def stop(self) -> list[Write]:
        """End it; return all that was acknowledged."""
        run("docker", "kill", self._id)
        return self.writes()


@dataclass
class Scaled:
    """A project and the steps that it went through."""

    project: Project
    steps: list[Step] = field(default_factory=list)

    def members(self) -> list[Status]:
        """Return the members as the one leader takes them; nothing while there is none."""
        leader = self.project.leader()
        return leader["members"] if leader else []

    def has_settled(self, count: int) -> bool:
        """Check whether all replicas vote, nobody else is a member, and all follow one leader."""
        here = [node for node in self.project.nodes() if node["reachable"]]
        leaders = {(node["term"], node["leader"]) for node in here}
        members = {(member["id"], member["kind"]) for member in self.members()}
        voters = {(node["id"], "voter") for node in here if node["voter"]}
        seems = len(here) == len(voters) == count and len(leaders) == 1 and members == voters
        # The monitor takes a moment to notice that somebody is not there any more.
        return seems and {node["id"] for node in here} == self.ids()

    def ids(self) -> set[str]:
        """Return the ids under which the nodes in the containers have started."""
        started = [container.log(event="node started") for container in self.project.containers()]
        return {lines[-1].fields["node"] for lines in started if lines}

    def let_last_lead(self) -> None:
        """Transfer leadership to the replica that compose would stop first."""
        last = max(self.project.containers(), key=lambda container: int(container.name.rpartition("-")[2]))
        node = last.log(event="node started")[-1].fields["node"]
        run("docker", "exec", last.id, "trioraft", "transfer", "--to", node, "--peers", "127.0.0.1:7300")
        wait_until(f"{last.name} leads", lambda: (self.project.leader() or {}).get("id") == node, 10)

    def scale(self, count: int, limit: float) -> Step:
        """Change the number of replicas; see that the cluster follows within `limit` seconds.

        These are counted from when all processes run: to start Python takes a busy machine as long as it takes.
        """
        limit = stretched(limit)
        before = {container.id for container in self.project.containers()}
        began = time.time()
        self.project.compose("up", "-d", "--no-build", "--scale", f"node={count}")
        done = time.time()
        wait_until(f"{count} replicas are the voters", lambda: self.has_settled(count), limit + _START)
        settled = time.time()
        new = [container for container in self.project.containers() if container.id not in before]
        running = max([done, *(container.log(event="node started")[0].time for container in new)])
        step = Step(f"{len(before)} → {count}", began, done - began, running - done, settled - running)
        self.steps.append(step)
        assert step.settled < limit, step
        return step


def stretched(seconds: float) -> float:
    """Return a time that holds on a quiet machine, stretched by how many processes want each processor now."""
    return seconds * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def lost(project: Project, writes: list[Write]) -> list[Write]:
    """List the writes that were acknowledged and are not there, or were carried out twice."""
    reader = project.containers()[0]
    listed = json.loads(run("docker", "exec", reader.id, "trioraft", "list", "written/", "--format", "json"))
    found = {kv["key"]: (kv["value"], kv["version"]) for kv in listed}
    return [write for write in writes if found.get(f"written/{write.number:08}") != (str(write.number), 1)]


def report(name: str, steps: list[Step], writes: list[Write]) -> None:
    """Tell how long each step took, and how long the writes took meanwhile; write it down too."""
    OUT.mkdir(exist_ok=True)
    with (OUT / "compose-scaling.txt").open("a") as file:
        for step, end in zip(steps, [*(step.began for step in steps[1:]), float("inf")], strict=True):
            during = [write.took for write in writes if step.began <= write.at < end]
            line = (
                f"{name}: {step.name}: a command of {step.command:.1f} s, replicas run {step.started:.1f} s later,"
                f" settled {step.settled:.1f} s later; {len(during)} writes, slowest {max(during, default=0.0):.3f} s"
            )
            print(f"\n{line}", end="")
            print(line, file=file)
