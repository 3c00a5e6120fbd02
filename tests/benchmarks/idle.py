"""What nodes cost while nothing is asked of them."""

import os
import signal
import time
from pathlib import Path
from typing import Final

from tests.benchmarks.measuring import Plan, Run
from tests.benchmarks.processes import Processes, cpu_seconds, resident_mebibytes
from tests.benchmarks.systems import Subject, wait_formed

CORES: Final = "idle cores, all nodes"
WAKE_UPS: Final = "idle wake-ups/s, all nodes"
MEMORY: Final = "resident MiB, a node"
_SETTLE_SECONDS: Final = 8.0
_LONGER: Final = 5.0  # than a load is measured: the kernel counts in ticks of 10 ms


def measure_idle(subject: Subject, plan: Plan, processes: Processes) -> Run:
    """Measure nodes that have formed a cluster, after their client has gone."""
    system = subject.start(processes)
    before = wait_formed(system)
    for client in system.clients:
        os.kill(client, signal.SIGKILL)
    time.sleep(_SETTLE_SECONDS)
    began, used, woken = time.monotonic(), cpu_seconds(system.pids), _wake_ups(system.pids)
    time.sleep(plan.seconds * _LONGER)
    took = time.monotonic() - began
    used, woken = cpu_seconds(system.pids) - used, _wake_ups(system.pids) - woken
    memory = [resident_mebibytes(pid) for pid in system.pids]
    run = Run({CORES: used / took, WAKE_UPS: woken / took, MEMORY: sum(memory) / len(memory)})
    run.told["term"] = before.terms[0]
    return run


def _wake_ups(pids: list[int]) -> int:
    """Count how often the threads of processes have waited for something."""
    return sum(
        int(line.split()[1])
        for pid in pids
        for status in Path(f"/proc/{pid}/task").glob("*/status")
        for line in status.read_text("ascii").splitlines()
        if line.startswith("voluntary_ctxt_switches")
    )
