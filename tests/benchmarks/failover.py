"""How long nobody can write when the leader's process is killed: trioraft, etcd and PySyncObj, in turns, in one run.

    tests/run full failover                  # 50 trials of each at 150–300 ms and at 3000–5000 ms: an hour
    tests/run full failover --trials 5 --timeouts short --subjects trioraft

In each trial a cluster of three is made, on loopback and with its data on disk. A client begins a new put every 5 ms;
then the leader is killed. What counts is the time until the first put is committed that was begun after that. The
client of etcd has a connection to each server that is left, and puts at both. That of trioraft knows those two, and
follows what they say. PySyncObj, which keeps nothing on disk, has no client: both nodes that are left begin a command
every 5 ms.

etcd insists on an election timeout of five heartbeats; it draws from one to two of these. `stop` is trioraft with a
leader that is told to stop, and `idle` with one that is killed while nobody asks for anything: there the time is
until another node leads.
"""

import argparse
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import trio

from tests.benchmarks.from_client import start_etcd
from tests.benchmarks.in_process import start_pysyncobj
from tests.benchmarks.peers import Peers, default_folder, install
from tests.benchmarks.processes import Processes
from tests.benchmarks.systems import Standing
from tests.benchmarks.workers.h2 import Puts, put_request
from tests.cluster.harness import LOOPBACK, Cluster
from trioraft import Client, ClientSettings, KeyValueError, NoAnswerError, ProposalError, open_client
from trioraft.versions import HINTS_FROM

_PUT_EVERY: Final = 0.005
_PATIENCE: Final = 60.0


class Timeouts(NamedTuple):
    """Durations in milliseconds."""

    lower: int
    upper: int
    heartbeat: int


TIMEOUTS: Final = {"short": Timeouts(150, 300, 50), "default": Timeouts(3000, 5000, 500)}


def a_while(timeouts: Timeouts) -> float:
    """Draw when the leader is killed: anywhere between two heartbeats."""
    return 0.3 + random.random() * timeouts.heartbeat / 1000


# --- trioraft -----------------------------------------------------------------------------------------------


class _PutsOfClient:
    """A client that begins a put every 5 ms."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.since = float("inf")
        self.committed = trio.Event()
        self.committed_at = 0.0

    async def _put(self) -> None:
        began = time.monotonic()
        with suppress(KeyValueError, ProposalError, NoAnswerError):
            await self._client.put("probe", "x" * 64)
            if began >= self.since and not self.committed.is_set():
                self.committed_at = time.monotonic()
                self.committed.set()

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                nursery.start_soon(self._put)
                await trio.sleep(_PUT_EVERY)


async def lose_leader(
    directory: Path, timeouts: Timeouts, *, by: signal.Signals = signal.SIGKILL, idle: bool = False
) -> float:
    """Make a cluster, end its leader, and return how long nobody could write, in seconds."""
    names = ("ELECTION_TIMEOUT_LOWER_MILLIS", "ELECTION_TIMEOUT_UPPER_MILLIS", "HEARTBEAT_REPEAT_MILLIS")
    variables = dict(zip(names, map(str, timeouts), strict=True))
    async with Cluster(directory, 3, variables) as cluster:
        leader = cluster.index(await cluster.wait_leader(_PATIENCE))
        await cluster.wait_for(
            lambda seen: all(node.status.cluster_version >= HINTS_FROM for node in seen.nodes), _PATIENCE
        )
        await trio.sleep(1.1 * timeouts.lower / 1000)  # promises of the older version exclude hints
        if idle:
            await trio.sleep(a_while(timeouts))
            ended_at = time.monotonic()
            cluster.process(leader).send_signal(by)
            await cluster.wait_leader(_PATIENCE, without=[leader])
            return time.monotonic() - ended_at
        rest = ",".join(cluster.address(i) for i in range(3) if i != leader)
        async with open_client(ClientSettings.from_environ({**cluster.shared, "PEERS": rest})) as client:
            await client.put("probe", "x")
            puts = _PutsOfClient(client)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(puts.run)
                await trio.sleep(a_while(timeouts))
                puts.since = time.monotonic()
                cluster.process(leader).send_signal(by)
                with trio.fail_after(_PATIENCE):
                    await puts.committed.wait()
                nursery.cancel_scope.cancel()
            return puts.committed_at - puts.since


# --- the peers ----------------------------------------------------------------------------------------------


def _formed(standing: Callable[[], Standing]) -> int:
    """Wait for a leader that all know, and return which one it is."""
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        told = standing()
        if told.leader is not None and told.connected:
            return told.leader
        time.sleep(0.05)
    raise TimeoutError(f"no leader within {_PATIENCE} s")


def etcd(processes: Processes, peers: Peers, timeouts: Timeouts) -> float:
    """Do the same with etcd."""
    flags = ("--heartbeat-interval", str(min(timeouts.heartbeat, timeouts.lower // 5)))
    system = start_etcd(processes, peers, (*flags, "--election-timeout", str(timeouts.lower)))
    leader = _formed(system.standing)
    clients = [Puts(LOOPBACK, port) for i, port in enumerate(system.ports) if i != leader]
    time.sleep(a_while(timeouts))
    killed_at = time.monotonic()
    processes.kill(system.pids[leader])
    next_put, until = 0.0, killed_at + _PATIENCE
    while (now := time.monotonic()) < until:
        if now >= next_put:
            next_put = now + _PUT_EVERY
            for client in clients:
                client.call(put_request(b"probe", b"x" * 64))
        for client in clients:
            client.pump(0.001)
            if any(each.succeeded for each in client.take()):
                return time.monotonic() - killed_at
    raise TimeoutError(f"no put was committed within {_PATIENCE} s")


def pysyncobj(processes: Processes, peers: Peers, timeouts: Timeouts) -> float:
    """Do the same with PySyncObj, in the mode that commits soonest."""
    options = {
        "appendEntriesPeriod": timeouts.heartbeat / 1000,
        "raftMinTimeout": timeouts.lower / 1000 + 0.001,
        "raftMaxTimeout": timeouts.upper / 1000 + 0.001,
        "autoTickPeriod": 0.01,
    }
    system = start_pysyncobj(processes, peers.pysyncobj, "unbatched", options)
    leader = _formed(system.standing)
    time.sleep(a_while(timeouts))
    killed_at = time.monotonic()
    processes.kill(system.pids[leader])
    rest = [worker for i, worker in enumerate(system.workers) if i != leader]
    for worker in rest:
        worker.begin("commit", every=_PUT_EVERY, seconds=_PATIENCE)
    return min(float(worker.answer(_PATIENCE)["committed_at"]) for worker in rest) - killed_at


# --- all of it ----------------------------------------------------------------------------------------------


def trial(subject: str, timeouts: Timeouts, peers: Peers | None) -> float:
    """Make one cluster, end its leader, and return how long nobody could write, in seconds."""
    if peers is not None and subject in {"etcd", "PySyncObj"}:
        with Processes() as processes:
            return (etcd if subject == "etcd" else pysyncobj)(processes, peers, timeouts)
    by = signal.SIGTERM if subject == "stop" else signal.SIGKILL
    with tempfile.TemporaryDirectory() as folder:
        return trio.run(lambda: lose_leader(Path(folder), timeouts, by=by, idle=subject == "idle"))


def main(arguments: list[str] | None = None) -> int:
    """Measure what was asked for, in turns, and print the median and the worst of each."""
    subjects = ("trioraft", "etcd", "PySyncObj", "stop", "idle")
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--timeouts", nargs="+", choices=TIMEOUTS, default=[*TIMEOUTS])
    parser.add_argument("--subjects", nargs="+", choices=subjects, default=[*subjects])
    asked = parser.parse_args(arguments)
    peers = install(default_folder()) if {"etcd", "PySyncObj"} & set(asked.subjects) else None
    for name in asked.timeouts:
        took: dict[str, list[float]] = {subject: [] for subject in asked.subjects}
        for number in range(asked.trials):
            for subject in asked.subjects:
                took[subject].append(1000 * trial(subject, TIMEOUTS[name], peers))
            print(
                f"{name} {number + 1}:", *(f"{each[-1]:.0f}" for each in took.values()), file=sys.stderr, flush=True
            )
        for subject, each in took.items():
            print(
                f"{name} timeouts, {subject}: median {statistics.median(each):.0f} ms, worst {max(each):.0f} ms,"
                f" of {len(each)}",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
