"""What must hold of speed on any machine that does nothing else meanwhile; ``tests/run`` runs it after all others.

How fast trioraft is beside its peers is measured by ``python -m tests.benchmarks``.
"""

from statistics import median

import pytest

from tests.benchmarks.in_process import start_trioraft
from tests.benchmarks.machine import Machine
from tests.benchmarks.parts import THIS
from tests.benchmarks.processes import Processes
from tests.benchmarks.systems import wait_formed, wait_settled

_ROUNDS = 5
_ATTEMPTS = 3


def test_a_thousand_commands_outstanding_are_not_slower_than_64() -> None:
    with Processes() as processes:
        system = start_trioraft(processes, THIS, durability="memory")
        rates: dict[int, list[float]] = {64: [], 1000: []}
        for _ in range(_ROUNDS):
            for outstanding, measured in rates.items():
                leader = (wait_settled if measured else wait_formed)(system).leader
                assert leader is not None
                measured.append(system.load(leader, outstanding, 1)["rate"])
    # With 64 commands outstanding single seconds were between 0.89 and 1.03 of their median.
    assert median(rates[1000]) >= 0.9 * median(rates[64]), rates


def test_four_thousand_commands_outstanding_depose_nobody() -> None:
    for attempt in range(1, _ATTEMPTS + 1):
        with Processes() as processes:
            system = start_trioraft(processes, THIS, durability="memory")
            before, machine = wait_formed(system), Machine(processes)
            assert before.leader is not None
            told = system.load(before.leader, 4000, 10)
            disturbance, after = machine.disturbance(), wait_settled(system)
            leader = processes.log(f"node-{before.leader}").read_text("utf-8")
        if after.terms == before.terms:
            assert told["errors"] == 0, told
            return
        print(f"attempt {attempt}: {after.terms} after {before.terms}; {disturbance}; {told}; {leader}")
        assert disturbance.is_large, f"the leader was deposed, and no others were busy: {disturbance}"
    pytest.skip(
        f"others were busy at all {_ATTEMPTS} attempts, so nothing can be said of this program: {disturbance}"
    )
