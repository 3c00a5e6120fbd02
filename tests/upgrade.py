"""``tests/run full upgrade``: from the real release before to this tree, node by node, under load.

The release before comes from the history of git, and is installed into a virtual environment of its own in a
temporary folder. Three nodes of it are real processes on loopback, sealed once and once not. Writers of both releases
go on all the time. The nodes are upgraded one by one, some are put back, and the cluster key is rotated meanwhile;
commands and monitors of both releases, with keys of both generations, use the mixed cluster at each step. In the end
every acknowledged write is there once.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from tests.cluster.harness import DEFAULT_TIMEOUTS, LOOPBACK, ROOT, Cluster, clean_environment, free_ports
from tests.cluster.test_upgrade import has_all, lead, speaks
from trioraft.client.client import open_client
from trioraft.client.status import ObservedNode
from trioraft.datagrams.keys import generate_key
from trioraft.settings.settings import ClientSettings
from trioraft.versions import SPOKEN

# The last one that speaks version 3 of the protocol.
RELEASE_BEFORE: Final = "9332d7f"
SPOKE: Final = 3
SIZE: Final = 3
# Nothing may take longer, in seconds: by default an election alone takes up to 5, and none is needed.
LONGEST_WRITE: Final = 5.0
_SCRIPT: Final = ROOT / "tests" / "cluster" / "writing_script.py"


@dataclass(frozen=True)
class Release:
    """Something that can be run.

    Attributes
    ----------
    name : str
        What it is called here.
    python : str
        Its interpreter.
    environment : mapping
        What else it needs to be found.
    """

    name: str
    python: str
    environment: Mapping[str, str]

    async def run(self, variables: Mapping[str, str], *words: str) -> tuple[int, str, str]:
        """Run a command; return its exit status, and what it wrote to standard output and standard error."""
        with trio.fail_after(300):  # only to find what hangs
            done = await trio.run_process(
                [self.python, "-m", "trioraft", *words],
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                env={**clean_environment(), **self.environment, **variables},
            )
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    async def keygen(self, key: str, kind: str) -> str:
        """Derive a key with its own command."""
        status, out, err = await self.run({"CLUSTER_KEY": key}, "keygen", "--derive", kind)
        assert status == 0, err
        return out.strip()


NEW: Final = Release("new", sys.executable, {"PYTHONPATH": str(ROOT)})


class NoHistoryError(Exception):
    """The release before is not in the history that is there."""


def install(commit: str, directory: Path) -> Release:
    """Install the release of a commit in a virtual environment of its own."""
    source, venv = directory / "source", directory / "venv"
    if subprocess.run(["git", "cat-file", "-e", f"{commit}^{{commit}}"], cwd=ROOT, capture_output=True).returncode:  # noqa: PLW1510 - looked at
        raise NoHistoryError(
            f"the commit {commit}, the release before, is not in the history here; in a shallow clone:"
            " git fetch --unshallow"
        )
    source.mkdir()
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    subprocess.run(["tar", "--extract", "--directory", source], input=archive.stdout, check=True)
    uv: list[str | Path] = [Path(sys.executable).with_name("uv"), "--quiet"]
    environment = {"UV_SYSTEM_CERTS": "1", **os.environ}
    subprocess.run([*uv, "venv", "--python", sys.executable, venv], check=True, env=environment)
    python = venv / "bin" / "python"
    subprocess.run(
        [*uv, "pip", "install", "--compile-bytecode", "--python", python, source], check=True, env=environment
    )
    # Neither from nor beside the sources of this tree.
    release = Release("old", str(python), {"PYTHONPATH": "", "PYTHONSAFEPATH": "1"})
    told = "import trioraft.versions as it; print(it.SPOKEN.highest, it.__file__)"
    spoken, file = subprocess.run(
        [python, "-c", told], env={**os.environ, **release.environment}, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.split()
    assert (int(spoken), Path(file).is_relative_to(venv)) == (SPOKE, True), (spoken, file)
    return release


class Writer:
    """A process that writes, and goes on where it was when it is given another key."""

    def __init__(self, name: str, release: Release, directory: Path) -> None:
        self.name = name
        self.took: list[float] = []
        self._release = release
        self._output = directory / f"{name}.out"
        self._process: trio.Process | None = None

    async def start(self, variables: Mapping[str, str]) -> None:
        """Go on writing."""
        with self._output.open("wb") as output:
            self._process = await trio.lowlevel.open_process(
                [self._release.python, _SCRIPT, self.name, str(len(self.took) + 1), str(LONGEST_WRITE * 2)],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**clean_environment(), **self._release.environment, **variables},
            )

    async def stop(self) -> None:
        """End it behind what it writes now."""
        assert self._process is not None
        process, self._process = self._process, None
        process.terminate()
        with trio.fail_after(LONGEST_WRITE * 4):
            status = await process.wait()
        text = self._output.read_text("utf-8")
        assert status in {0, -15}, f"the writer {self.name} has ended: {text[-3000:]}"
        for line in text.splitlines():
            number, seconds = line.split()
            self.took.append(float(seconds))
            assert int(number) == len(self.took)
        self._output.write_bytes(b"")

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()


class Monitor:
    """A monitor, and what it shows."""

    def __init__(self, release: Release, directory: Path) -> None:
        self.release = release
        self._log = directory / f"monitor-{release.name}.log"
        (self._port,) = free_ports(1)
        self._process: trio.Process | None = None

    async def start(self, variables: Mapping[str, str]) -> None:
        """Start it."""
        with self._log.open("ab") as log:
            self._process = await trio.lowlevel.open_process(
                [self.release.python, "-m", "trioraft", "monitor"],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={
                    **clean_environment(),
                    **self.release.environment,
                    "BIND_HOST": LOOPBACK,
                    "BIND_PORT": str(self._port),
                    **variables,
                },
            )

    async def stop(self) -> None:
        """End it."""
        assert self._process is not None
        process, self._process = self._process, None
        process.terminate()
        with trio.fail_after(20):
            assert await process.wait() == 0

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()

    async def show_all(self, seconds: float = 300) -> None:
        """Wait until it shows all nodes, and who leads them."""
        shown: Any = None

        def ask() -> Any:
            with urllib.request.urlopen(f"http://{LOOPBACK}:{self._port}/api/cluster", timeout=5) as answer:
                cluster = json.load(answer)
            with urllib.request.urlopen(f"http://{LOOPBACK}:{self._port}/api/nodes", timeout=5) as answer:
                return cluster, json.load(answer)

        with trio.move_on_after(seconds):
            while True:
                try:
                    shown = await trio.to_thread.run_sync(ask)
                except (OSError, ValueError) as error:
                    shown = error
                else:
                    text = json.dumps(shown)
                    if text.count('"reachable": true') >= SIZE and shown[0].get("leader"):
                        return
                await trio.sleep(0.2)
        raise AssertionError(f"the {self.release.name} monitor does not show all: {shown}")


@dataclass(frozen=True)
class Keys:
    """A cluster key, and what the commands of both releases derive from it; all empty when nothing is sealed."""

    cluster: str = ""
    old_client: str = ""
    old_status: str = ""
    client: str = ""
    status: str = ""
    reader: str = ""
    admin: str = ""

    @classmethod
    async def make(cls, old: Release) -> "Keys":
        """Make a cluster key."""
        key = generate_key()
        return cls(
            key,
            await old.keygen(key, "client"),
            await old.keygen(key, "status"),
            *[await NEW.keygen(key, kind) for kind in ("client", "status", "reader", "admin")],
        )

    @property
    def is_there(self) -> bool:
        """Whether datagrams are sealed."""
        return bool(self.cluster)


@dataclass
class Upgrade:
    """One upgrade of one cluster, and what was seen in it."""

    cluster: Cluster
    old: Release
    keys: Keys
    directory: Path
    began: float = field(default_factory=time.monotonic)
    elections: int = 0
    needed: int = 0
    unneeded: list[str] = field(default_factory=list)
    alerts: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    restarts: int = 0
    commands: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.writers = {
            "old-release": Writer("old-release", self.old, self.directory),
            "cluster-key": Writer("cluster-key", NEW, self.directory),
        }
        if self.keys.is_there:
            self.writers["both-keys"] = Writer("both-keys", NEW, self.directory)
        self.monitors = [Monitor(self.old, self.directory), Monitor(NEW, self.directory)]
        self.releases = [self.old] * SIZE

    def say(self, text: str) -> None:
        """Tell how far it is."""
        speak = "".join("o" if release is self.old else "n" for release in self.releases)
        print(f"  {time.monotonic() - self.began:6.1f} s  [{speak}] {text}", flush=True)

    def variables(self, key: str = "") -> dict[str, str]:
        """Return what a client needs."""
        return {"PEERS": self.cluster.peers, "CLUSTER_KEY": key}

    async def start_clients(self) -> None:
        """Let writers and monitors go on, with the keys of now."""
        keys = self.keys
        await self.writers["old-release"].start(self.variables(keys.old_client))
        await self.writers["cluster-key"].start(self.variables(keys.cluster))
        if keys.is_there:
            await self.writers["both-keys"].start(self.variables(f"{keys.old_client},{keys.client}"))
        await self.monitors[0].start(self.variables(keys.old_status))
        await self.monitors[1].start(self.variables(f"{keys.old_status},{keys.status}" if keys.is_there else ""))

    def _clients(self) -> list[Writer | Monitor]:
        return [*self.writers.values(), *self.monitors]

    async def stop_clients(self) -> None:
        """Let writers and monitors end."""
        for each in self._clients():
            await each.stop()

    def kill_clients(self) -> None:
        """End writers and monitors at once."""
        for each in self._clients():
            each.kill()

    def _note(self, before: ObservedNode, after: ObservedNode, needed: bool, what: str) -> None:
        held = after.status.term - before.status.term
        self.elections += held
        self.needed += needed
        if held != needed:
            self.unneeded.append(f"{what}: {held} instead of {int(needed)}")

    async def restart(
        self, i: int, release: Release | None = None, key: str | None = None, away: float = 0.0
    ) -> None:
        """Restart a node, of another release or with other keys, and wait until it has all."""
        before = await self.cluster.wait_leader(30)
        led = self.cluster.index(before) == i
        self.releases[i] = release or self.releases[i]
        new_key = self.cluster.each[i].get("CLUSTER_KEY", "") if key is None else key
        assert await self.cluster.stop(i) == 0
        await trio.sleep(away)
        self.cluster.pythons[i] = self.releases[i].python
        self.cluster.each[i] = {**self.releases[i].environment, "CLUSTER_KEY": new_key}
        await self.cluster.start(i)
        await self.cluster.wait_for(lambda _: has_all(self.cluster, i), 60, f"node-{i + 1} is back")
        what = f"restart of node-{i + 1} ({self.releases[i].name})"
        self._note(before, await self.cluster.wait_leader(30), led, what)
        self.restarts += 1
        self.say(what + (", which led" if led else ""))

    async def lead(self, i: int) -> None:
        """Let a node lead."""
        before = await self.cluster.wait_leader(30)
        await lead(self.cluster, i)
        self._note(before, await self.cluster.wait_leader(30), self.cluster.index(before) != i, f"node-{i + 1} leads")

    async def look(self, what: str) -> None:
        """Use the cluster in all ways, and note the alerts."""
        seen = await self.cluster.statuses()
        assert len([node for node in seen.nodes if node.reachable]) == SIZE
        leader = await self.cluster.wait_leader(30)
        leads = self.releases[self.cluster.index(leader)]
        keys, old = self.keys, self.old
        both = f"{keys.old_client},{keys.client}" if keys.is_there else ""
        both_status = f"{keys.old_status},{keys.status}" if keys.is_there else ""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._put, old, "its client key", keys.old_client)
            nursery.start_soon(self._put, NEW, "the cluster key", keys.cluster)
            nursery.start_soon(self._status, old, keys.old_status)
            nursery.start_soon(self._status, NEW, both_status)
            for monitor in self.monitors:
                nursery.start_soon(monitor.show_all)
        if keys.is_there:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._put, old, "the cluster key", keys.cluster)
                nursery.start_soon(self._put, NEW, "both client keys", both)
                nursery.start_soon(self._put, NEW, "the old client key", keys.old_client)
                nursery.start_soon(self._put_alone, leads)
        for node in (await self.cluster.statuses()).nodes:
            assert node.status.sealed == keys.is_there
            for alert in node.status.alerts:
                self.alerts[alert].add(what)
        self.say(f"{what}; {leader.status.name} ({leads.name}) leads in term {leader.status.term}")

    async def _put(self, release: Release, name: str, key: str) -> None:
        self.commands[release.name] += 1
        words = (f"command/{release.name}/{name}", str(time.monotonic()))
        ended = await release.run(self.variables(key), "put", *words)
        assert ended[0] == 0, (release.name, name, ended)
        got = await release.run(self.variables(key), "get", words[0])
        assert got[:2] == (0, f"{words[1]}\n"), (release.name, name, got)
        for line in f"{ended[2]}{got[2]}".splitlines():
            self.alerts[f"({release.name} command, {name}) {line}"].add("commands")

    async def _put_alone(self, leads: Release) -> None:
        """Put with a key that nodes of the release before do not know."""
        self.commands["new"] += 1
        ended = await NEW.run(self.variables(self.keys.client), "put", "command/alone", "x", "--timeout", "5")
        assert (ended[0] == 0) == (leads is NEW), (leads.name, ended)
        for line in ended[2].splitlines():
            self.alerts[f"(new command, new client key, {leads.name} leader) {line}"].add("commands")

    async def _status(self, release: Release, key: str) -> None:
        self.commands[release.name] += 1
        ended = await release.run(self.variables(key), "status", "--format", "json")
        assert ended[0] == 0, (release.name, ended)
        nodes = [node for node in json.loads(ended[1])["nodes"] if node["reachable"]]
        assert [node["sealed"] for node in nodes] == [self.keys.is_there] * SIZE, (release.name, ended[1])

    async def check_all_is_there(self, settings: ClientSettings) -> None:
        """Look whether each acknowledged write is there, once, and nothing else."""
        async with open_client(settings) as client:
            for writer in self.writers.values():
                assert writer.took, writer.name
                with trio.fail_after(60):
                    found = await client.list(f"{writer.name}/")
                numbers = {int(kv.value): kv.version for kv in found}
                assert numbers == dict.fromkeys(range(1, len(writer.took) + 1), 1), writer.name
        await self.cluster.same_state()

    async def rotate_keys(self, second: Keys) -> None:
        """Bring the second key, which all nodes have behind the first, to the front, and take the first away."""
        first = self.keys
        await self.stop_clients()
        for i in range(SIZE):
            if i == 1:  # nodes that seal with one key and with the other, and clients that have the second
                await self.cluster.use_key(second.cluster)
                self.keys = second
                await self.start_clients()
                await self.look("one has the second key first")
            await self.restart(i, key=f"{second.cluster},{first.cluster}")
        await self.look("all have the second key first")
        await self.restart(1, self.old, away=6)
        await self.look("one is put back")
        await self.restart(1, NEW)
        for i in range(SIZE):
            await self.restart(i, key=second.cluster)
        await self.look("all have the second key only")

    def tell(self) -> bool:
        """Print what was seen; return whether it was good."""
        print(f"  {time.monotonic() - self.began:.0f} s, {self.restarts} restarts, {self.commands.total()} commands")
        slowest = {name: max(writer.took) for name, writer in self.writers.items()}
        for name, writer in self.writers.items():
            print(f"  writer {name}: {len(writer.took)} writes, all there once, the slowest in {slowest[name]:.3f} s")
        print(f"  {self.elections} elections, {self.needed} of them because the leader was stopped or told to")
        for line in self.unneeded:
            print(f"  ELECTIONS: {line}")
        for alert, stages in sorted(self.alerts.items()):
            print(f"  alert: {alert}  [{'; '.join(sorted(stages))}]")
        lines: Counter[tuple[str, str]] = Counter()
        shortened = 0
        for i in range(SIZE):
            for entry in self.cluster.logs(i):
                shortened += entry["event"] == "snapshot received"
                if entry.get("level", "error") in {"warning", "error", "critical"}:
                    lines[entry.get("level", "?"), json.dumps({k: v for k, v in entry.items() if k in _TOLD})] += 1
        for (level, text), number in sorted(lines.items()):
            print(f"  log: {number} × {level}: {text}")
        print(f"  {shortened} snapshots received")
        return not self.unneeded and max(slowest.values()) < LONGEST_WRITE


_TOLD: Final = {"event", "reason", "text", "alert", "error", "problem"}


async def upgrade(old: Release, directory: Path, *, sealed: bool) -> bool:
    """Upgrade a cluster; return whether all was good."""
    first = await Keys.make(old) if sealed else Keys()
    second = await Keys.make(old) if sealed else Keys()
    variables = {**DEFAULT_TIMEOUTS, "SNAPSHOT_ENTRIES": "200", "UNSEALED": "", "CLUSTER_KEY": first.cluster}
    each = [{**old.environment, "CLUSTER_KEY": first.cluster}] * SIZE
    cluster = Cluster(directory, SIZE, variables, each=each)
    cluster.pythons = [old.python] * SIZE
    async with cluster:
        await cluster.wait_leader(30)
        await cluster.wait_for(speaks(SPOKE), 30, "the cluster speaks what its nodes do")
        it = Upgrade(cluster, old, first, directory)
        try:
            await it.start_clients()
            await it.look("all are of the release before")
            await it.restart(0, NEW)
            await it.look("one is upgraded")
            await it.lead(0)
            await it.look("one is upgraded, and leads")
            await it.restart(0, old, away=6)
            await it.look("it is put back")
            await it.restart(0, NEW, away=6)
            if sealed:
                for i in range(SIZE):
                    await it.restart(i, key=f"{first.cluster},{second.cluster}")
                await it.look("all have the second key behind the first")
            await it.restart(1, NEW)
            await it.lead(2)
            await it.look("two are upgraded, and the third leads")
            if sealed:
                await it.rotate_keys(second)
            await it.lead(1)
            assert speaks(SPOKE)(await cluster.statuses())
            await it.restart(2, NEW)
            await cluster.wait_for(speaks(SPOKEN.highest), 30, "the cluster goes on")
            await it.look("all are upgraded")
            if sealed:
                for key, words in {second.reader: ("get", "command/alone"), second.admin: ("settings",)}.items():
                    ended = await NEW.run(it.variables(key), *words)
                    assert ended[0] == 0, ended
            for i in range(SIZE):
                await it.restart(i)
            await it.look("all are restarted")
            await it.stop_clients()
            await it.check_all_is_there(ClientSettings.from_environ(it.variables(it.keys.cluster)))
            shown = await NEW.run(it.variables(it.keys.cluster), "status")
            print(shown[1])
        finally:
            it.kill_clients()
    return it.tell()


def main() -> int:
    """Upgrade a sealed cluster and another one; return the exit status."""
    parser = argparse.ArgumentParser(prog="tests/run full upgrade")
    parser.add_argument("--commit", default=RELEASE_BEFORE, help="the release before (default: %(default)s)")
    parser.add_argument("--kind", choices=("sealed", "unsealed"), help="only this one")
    parser.add_argument("--times", type=int, default=1, help="how many times (default: %(default)s)")
    chosen = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory(prefix="trioraft-upgrade-") as temporary:
        try:
            old = install(chosen.commit, Path(temporary))
        except NoHistoryError as error:
            print(f"tests.upgrade: {error}", file=sys.stderr)
            return 2
        for kind in [chosen.kind] if chosen.kind else ["sealed", "unsealed"]:
            for number in range(chosen.times):
                print(f"tests.upgrade: {kind}, from {chosen.commit}", flush=True)
                directory = Path(temporary, f"{kind}-{number}")
                directory.mkdir()
                good = trio.run(partial(upgrade, old, directory, sealed=kind == "sealed")) and good
    print(f"tests.upgrade: {'good' if good else 'FAILED'}")
    return not good


if __name__ == "__main__":
    sys.exit(main())
