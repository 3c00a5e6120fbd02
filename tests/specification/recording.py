"""Runs of the simulator, recorded as nodes record their transitions: one line of JSON each."""

import json
from typing import Any, Final

import msgspec

from tests.simulation.simulation import Result, Simulation
from trioraft.node.transitions import Recorder

# What the specifications leave out: changes of the members or of timeouts, an operator's word that a node is lost, and
# machines that stand still together with leader work.
LEFT_OUT: Final = frozenset({"change", "reconfigure", "abandon", "wipe", "freeze"})

Line = dict[str, Any]


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
        The lines, and what came of that life.
    """
    simulation = Simulation(seed, profile, nodes=nodes)
    rates = {kind: rate for kind, rate in simulation.profile.rates.items() if kind not in LEFT_OUT}
    simulation.profile = msgspec.structs.replace(
        simulation.profile, rates=rates, events=events or simulation.profile.events
    )
    lines: list[bytes] = []
    simulation.observer = Recorder(lines.append)
    result = simulation.run()
    return [json.loads(line) for line in lines], result
