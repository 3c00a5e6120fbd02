"""What is compared with what, part by part."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tests.benchmarks.from_client import Daemons, daemons_subject, etcd_subject, start_daemons
from tests.benchmarks.idle import CORES, measure_idle
from tests.benchmarks.in_process import (
    PYSYNCOBJ_MODES,
    Durability,
    pysyncobj_subject,
    start_trioraft,
    trioraft_subject,
)
from tests.benchmarks.measuring import P50, Measure, Plan, commits, measure_load
from tests.benchmarks.peers import Peers
from tests.benchmarks.processes import ROOT, Build, Processes
from tests.benchmarks.systems import Subject

THIS: Final = Build(sys.executable, ROOT)
IN_PROCESS_LEVELS: Final = (64, 256, 1000, 4000, 16_000)
CLIENT_LEVELS: Final = (64, 256, 1000)
GROWTH_LEVELS: Final = (1, 8, 64, 256, 1000, 4000, 16_000)
_MODERATE: Final = (256,)
_DURABILITIES: Final[tuple[Durability, ...]] = ("memory", "sync")
# Those of three nodes are too short for 51 on a few processors; nodes are compared by the same ones.
_LONG_TIMEOUTS: Final[dict[str, Any]] = {
    "heartbeat_repeat_millis": 500,
    "election_timeout_lower_millis": 3000,
    "election_timeout_upper_millis": 5000,
}
_QUOTA: Final = 2**30


@dataclass(frozen=True)
class Comparison:
    """One subject, and those that it is compared with, by the best of them for each figure.

    Attributes
    ----------
    ours : str
        The subject.
    others : tuple of str
        The others.
    goals : mapping
        The ratios that are to be reached, by the figure.
    """

    ours: str
    others: tuple[str, ...]
    goals: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """What is measured in turns.

    Attributes
    ----------
    name : str
        What files are called.
    title : str
        What tables and charts are called.
    subjects : tuple of Subject
        All that are measured.
    measure : callable
        How.
    levels : tuple of int
        With how many commands outstanding.
    comparisons : tuple of Comparison
        What is compared.
    """

    name: str
    title: str
    subjects: tuple[Subject, ...]
    measure: Measure
    levels: tuple[int, ...] = ()
    comparisons: tuple[Comparison, ...] = ()

    def plan(self, plan: Plan) -> Plan:
        """Return how to measure this part."""
        return replace(plan, levels=plan.levels or self.levels)


def in_process(peers: Peers, interface: str) -> list[Part]:
    """Compare trioraft as a library with PySyncObj."""
    ours = [trioraft_subject(f"trioraft, {durability}", THIS, durability, interface) for durability in _DURABILITIES]
    tasks = trioraft_subject("trioraft, memory, a task for each", THIS, "memory", "propose")
    others = [pysyncobj_subject(peers.pysyncobj, mode) for mode in PYSYNCOBJ_MODES]
    names = tuple(other.name for other in others)
    goals = {P50: 1.0, **_goals({64: 2.0, 256: 1.5, 1000: 1.25, 4000: 1.25})}
    comparisons = Comparison(ours[0].name, names, goals), Comparison(tasks.name, names)
    title = "in process: proposals within the leader's process, 3 nodes"
    return [Part("process", title, (*ours, tasks, *others), measure_load, IN_PROCESS_LEVELS, comparisons)]


def from_client(peers: Peers, interface: str) -> list[Part]:
    """Compare trioraft's daemons with etcd."""
    throughput = _goals(dict.fromkeys(CLIENT_LEVELS, 1.25))
    pairs = {
        "memory": (etcd_subject("etcd without fsync", peers, "--unsafe-no-fsync"), 1.5),
        "sync": (etcd_subject("etcd", peers), 1.0),
    }
    tasks = daemons_subject("trioraft, memory, a task for each", THIS, "memory", "put")
    subjects = [tasks]
    comparisons = [Comparison(tasks.name, (pairs["memory"][0].name,))]
    for durability, (other, p50) in pairs.items():
        ours = daemons_subject(
            f"trioraft, {durability}", THIS, "memory" if durability == "memory" else "sync", interface
        )
        subjects += ours, other
        comparisons.append(Comparison(ours.name, (other.name,), {P50: p50, **throughput}))
    title = "a client's process: puts to 3 daemons"
    return [Part("client", title, tuple(subjects), measure_load, CLIENT_LEVELS, tuple(comparisons))]


def idle(peers: Peers, key: str) -> list[Part]:
    """Compare what nodes cost that nothing is asked of."""
    daemons, library = "trioraft, daemon", "trioraft, open_node"
    subjects = (
        daemons_subject(daemons, THIS, "sync"),
        trioraft_subject(library, THIS, "sync"),
        Subject("trioraft, open_node, sealed", lambda processes: start_trioraft(processes, THIS, cluster_key=key)),
        pysyncobj_subject(peers.pysyncobj, "unbatched"),
        etcd_subject("etcd", peers),
    )
    others = (subjects[3].name,)
    comparisons = (Comparison(daemons, others, {CORES: 1.0}), Comparison(library, others))
    return [Part("idle", "idle: 3 nodes, heartbeat 50 ms", subjects, measure_idle, comparisons=comparisons)]


def builds(baseline: Build, interface: str) -> list[Part]:
    """Compare this build with another one, of which nothing is asked that it does not have."""
    parts = []
    kinds: dict[str, Callable[[str, Build, Durability, str], Subject]] = {
        "in process": trioraft_subject,
        "a client's process": daemons_subject,
    }
    for kind, subject in kinds.items():
        levels = IN_PROCESS_LEVELS if subject is trioraft_subject else CLIENT_LEVELS
        for durability in _DURABILITIES:
            ours = subject("this build", THIS, durability, interface)
            other = subject("the other build", baseline, durability, "")
            name = f"build-{'process' if subject is trioraft_subject else 'client'}-{durability}"
            comparison = Comparison(ours.name, (other.name,))
            title = f"this build and another one, {kind}, {durability}"
            parts.append(Part(name, title, (ours, other), measure_load, levels, (comparison,)))
    return parts


def growth_by_outstanding(interface: str) -> list[Part]:
    """Measure how it goes on with more commands outstanding."""
    subject = trioraft_subject("trioraft, memory", THIS, "memory", interface)
    title = "growth: commands outstanding, in process, 3 nodes"
    return [Part("growth-outstanding", title, (subject,), measure_load, GROWTH_LEVELS)]


def growth_by_nodes(interface: str, sizes: Sequence[int]) -> list[Part]:
    """Measure how it goes on with more nodes."""

    def subject(size: int) -> Subject:
        return Subject(
            f"{size} nodes",
            lambda processes: start_trioraft(
                processes, THIS, size=size, interface=interface, durability="memory", **_LONG_TIMEOUTS
            ),
        )

    title = "growth: nodes, in process, timeouts 3–5 s, heartbeat 500 ms"
    return [_growth("nodes", title, [subject(size) for size in sizes])]


def growth_by_keys(interface: str, numbers: Sequence[int]) -> list[Part]:
    """Measure how it goes on with more keys in the store."""

    def subject(keys: int) -> Subject:
        def start(processes: Processes) -> Daemons:
            daemons = start_daemons(processes, THIS, interface=interface, durability="memory")
            daemons.client.ask("fill", keys=keys, quota=_QUOTA, seconds=keys / 1000)
            return daemons

        return Subject(f"{keys:,} keys", start)

    return [_growth("keys", "growth: keys, a client's process, 3 daemons", [subject(keys) for keys in numbers])]


def growth_by_watches(interface: str, numbers: Sequence[int]) -> list[Part]:
    """Measure how it goes on with more watches and leases, none of which concern what is put."""

    def subject(number: int) -> Subject:
        def start(processes: Processes) -> Daemons:
            daemons = start_daemons(processes, THIS, interface=interface, durability="memory")
            for host in ("127.0.0.1", "127.0.0.2") if number else ():
                configuration = {"host": host, "peers": daemons.peers, "watches": number // 2, "leases": number // 2}
                crowd = processes.worker(f"crowd-{host}", THIS, "trioraft_crowd", configuration)
                crowd.started()
                crowd.ask("gather", seconds=number / 100)
            return daemons

        return Subject(f"{number:,} watches and leases", start)

    title = "growth: watches and leases, a client's process, 3 daemons"
    return [_growth("watches", title, [subject(number) for number in numbers])]


def _growth(name: str, title: str, subjects: Sequence[Subject]) -> Part:
    first, *others = subjects
    comparisons = tuple(Comparison(other.name, (first.name,)) for other in others)
    return Part(f"growth-{name}", title, tuple(subjects), measure_load, _MODERATE, comparisons)


def _goals(throughput: Mapping[int, float]) -> dict[str, float]:
    return {commits(level): ratio for level, ratio in throughput.items()}
