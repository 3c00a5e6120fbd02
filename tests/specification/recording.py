"""Runs of the simulator, recorded as nodes record their transitions: one line of JSON each."""

import json
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec

from tests.simulation.simulation import Result, Simulation
from tests.specification.trace_election import check_elections
from tests.specification.trace_formation import check_formations
from tests.specification.trace_leader_work import check_leader_work
from tests.specification.traced_mutants import TracedMutant
from tests.specification.traces import Line, Verdict
from trioraft.messages import format_id
from trioraft.node.trace import Recorder

# What the specifications leave out: changes of the members or of timeouts, an operator's word that a node is lost, a
# lost disk, a clock that leaps, and machines that stand still together with leader work. The modules for traces leave
# out, beside that, what a leader says that is started again where it was killed; LeaderWork has it.
LEFT_OUT: Final = frozenset({"change", "reconfigure", "abandon", "wipe", "freeze", "clock leap", "damage"})

# Some bugs let nodes talk without end; what begins as a behaviour may still be one.
_MUTANT_LINES: Final = 2000


def record(seed: int, profile: str, *, nodes: int = 0, events: int = 0) -> tuple[list[Line], Result]:
    """Live one life of the simulator, and record it.

    Parameters
    ----------
    seed : int
        Its seed.
    profile : str
        Its profile; without the faults that are `LEFT_OUT`.
    nodes : int
        How many nodes; 0 leaves it to chance.
    events : int
        How many events before all faults are over; 0 leaves it to chance.

    Returns
    -------
    tuple of list and Result
        The lines, and what came of that life. Each line has, beside what nodes record, what the clocks of all nodes
        showed then.
    """
    simulation = Simulation(
        seed, profile, nodes=nodes, rogue=False
    )  # no specification tells what a rogue member may say
    rates = {kind: rate for kind, rate in simulation.profile.rates.items() if kind not in LEFT_OUT}
    simulation.profile = msgspec.structs.replace(
        simulation.profile, rates=rates, events=events or simulation.profile.events
    )
    for host in simulation.hosts:
        host.place = ""
    lines: list[Line] = []

    def write(line: bytes) -> None:
        now = simulation.loop.now
        clocks = {format_id(host.node): host.local(now) for host in simulation.hosts}
        lines.append(json.loads(line) | {"clocks": clocks})

    simulation.observer = Recorder(write)
    return lines, simulation.run()


# --- what is recorded, and by what it is checked ------------------------------------------------------------


class Kind(NamedTuple):
    """A kind of trace.

    Attributes
    ----------
    profiles : tuple of str
        The simulator's profiles whose lives are taken, in turn.
    nodes : int
        How many nodes; 0 leaves it to chance.
    check : callable
        Lets TLC decide about the lines.
    """

    profiles: tuple[str, ...]
    nodes: int
    check: Callable[[Sequence[Line]], Verdict]


KINDS: Final = {
    "elections": Kind(("election", "restart", "lease", "transfer", "divergence"), 3, check_elections),
    "formations": Kind(("formation",), 0, check_formations),
    "work": Kind(("work", "transfer", "restart", "drift"), 3, check_leader_work),
}


def check_life(kind: str, seed: int, events: int) -> Verdict:
    """Record a life, and let TLC decide whether it is a behaviour.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    seed : int
        The seed; it chooses the profile, too.
    events : int
        How many events before all faults are over.

    Returns
    -------
    Verdict
        What TLC says.
    """
    profiles, nodes, check = KINDS[kind]
    lines, result = record(seed, profiles[seed % len(profiles)], nodes=nodes, events=events)
    if result.violation:
        raise AssertionError(f"{kind}, seed {seed}: {result.violation}")
    return check(lines)


def check_mutant(mutant: TracedMutant, events: int) -> tuple[int, Verdict | None]:
    """Put a bug into the code, and find a trace of it that is refused.

    Parameters
    ----------
    mutant : TracedMutant
        The bug.
    events : int
        How many events before all faults are over.

    Returns
    -------
    tuple of int and Verdict or None
        The seed, and what TLC says of its trace; None when those of all seeds are behaviours.
    """
    _, nodes, check = KINDS[mutant.kind]
    for seed in range(mutant.first, mutant.first + mutant.seeds):
        with mutant.applied():
            lines, _ = record(seed, mutant.profile, nodes=nodes, events=events)
        verdict = check(lines[:_MUTANT_LINES])
        if not verdict.accepted:
            return seed, verdict
    return -1, None
