"""Whether a leader stays for long: under full load, and with 51 voters.

    python -m tests.benchmarks.endurance load              # ten minutes each, at 64, 1,000 and 4,000 outstanding
    python -m tests.benchmarks.endurance voters            # 51 voters for ten minutes

Timeouts are 150–300 ms, and heartbeats 50 ms. A process that only sleeps runs beside it. A run in which that one was
woken more than 75 ms late says nothing of trioraft if the leader was deposed, and is repeated; both are told.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from tests.benchmarks.in_process import start_trioraft
from tests.benchmarks.machine import LATE_MAX, Disturbance, Machine
from tests.benchmarks.parts import THIS
from tests.benchmarks.processes import Processes, cpu_seconds, resident_mebibytes
from tests.benchmarks.systems import Standing, wait_formed, wait_settled

_ATTEMPTS: Final = 3
_LOOK: Final = 5.0  # seconds between two looks at the memory, and at the terms
_HEADS: Final = (
    "what", "seconds", "terms", "commits/s", "errors", "MiB of each node after 10 %", "at the end",
    "longest turn, ms of CPU", "of the clock", "99.9 %", "cores", "late, ms", "others' cores",
)  # fmt: skip


@dataclass(frozen=True)
class Lasted:
    """What came of one run.

    Attributes
    ----------
    what : str
        What was run.
    seconds : float
        For how long.
    terms : list of int
        The leader's terms, the first one included.
    told : dict
        What the load told.
    memory : list of list of float
        The memory of each node in MiB, at each look.
    cores : float
        How many processors the nodes used.
    disturbance : Disturbance
        What others did meanwhile.
    """

    what: str
    seconds: float
    terms: list[int]
    told: dict[str, Any]
    memory: list[list[float]]
    cores: float
    disturbance: Disturbance

    def row(self) -> str:
        """Return it as a row of a table."""
        early, end = self.memory[len(self.memory) // 10], self.memory[-1]
        cells = [
            self.what, f"{self.seconds:.0f}", ", ".join(map(str, self.terms)), _number(self.told.get("rate")),
            _number(self.told.get("errors")), _sizes(early), _sizes(end), _number(self.told.get("longest_cpu")),
            _number(self.told.get("longest_wall")), _number(self.told.get("often_wall")), f"{self.cores:.2f}",
            f"{self.disturbance.late * 1000:.0f}", f"{self.disturbance.others:.2f}",
        ]  # fmt: skip
        return f"| {' | '.join(cells)} |"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"


def _sizes(sizes: list[float]) -> str:
    return " ".join(f"{size:.0f}" for size in sizes) if len(sizes) < 10 else f"{min(sizes):.0f}–{max(sizes):.0f}"


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for; return 1 if a leader was deposed although the machine was calm."""
    asked = _parser().parse_args(arguments)
    print(f"| {' | '.join(_HEADS)} |\n{'|---' * len(_HEADS)}|", flush=True)
    is_good = True
    for run in _runs(asked):
        for attempt in range(1, _ATTEMPTS + 1):
            lasted = run()
            print(lasted.row(), flush=True)
            if len(lasted.terms) == 1:
                break
            if lasted.disturbance.late <= LATE_MAX or attempt == _ATTEMPTS:
                is_good = False
                break
    return 0 if is_good else 1


def _runs(asked: argparse.Namespace) -> Iterator[Callable[[], Lasted]]:
    seconds = asked.minutes * 60
    if asked.what == "voters":
        yield partial(stay, asked.voters, seconds)
        return
    for durability in asked.durability.split(","):
        for level in map(int, asked.levels.split(",")):
            yield partial(carry, durability, level, seconds)


def carry(durability: str, outstanding: int, seconds: float) -> Lasted:
    """Keep so many commands outstanding at a leader of three nodes."""
    with Processes() as processes:
        system = start_trioraft(processes, THIS, durability=durability)
        before, machine = wait_formed(system), Machine(processes)
        leader = before.leader
        assert leader is not None
        memory: list[list[float]] = []
        began, used = time.monotonic(), cpu_seconds(system.pids)
        with ThreadPoolExecutor(1) as pool:
            load = pool.submit(system.load, leader, outstanding, seconds, measure_turns=True)
            while not load.done():
                time.sleep(min(_LOOK, seconds / 10))
                memory.append([resident_mebibytes(pid) for pid in system.pids])
            told = load.result()
        took, used = time.monotonic() - began, cpu_seconds(system.pids) - used
        disturbance, after = machine.disturbance(), wait_settled(system)
        _explain(processes, before, after)
        terms = sorted({*before.terms, *after.terms})
        return Lasted(
            f"{outstanding:,} outstanding, {durability}", took, terms, told, memory, used / took, disturbance
        )


def stay(voters: int, seconds: float) -> Lasted:
    """Have so many voters do nothing but keep their leader; tell how long they took to form a cluster."""
    with Processes() as processes:
        system = start_trioraft(processes, THIS, size=voters, durability="memory")
        began = time.monotonic()  # the last one has told that it has started
        before = wait_formed(system)
        formed, machine = time.monotonic() - began, Machine(processes)
        memory, terms = [], {*before.terms}
        began, used = time.monotonic(), cpu_seconds(system.pids)
        while time.monotonic() < began + seconds:
            time.sleep(min(_LOOK, seconds / 10))
            memory.append([resident_mebibytes(pid) for pid in system.pids])
        took, used = time.monotonic() - began, cpu_seconds(system.pids) - used
        disturbance, after = machine.disturbance(), system.standing()
        terms |= {*after.terms}
        _explain(processes, before, after)
        what = f"{voters} voters, formed {formed:.1f} s after the last start"
        return Lasted(what, took, sorted(terms), {}, memory, used / took, disturbance)


def _explain(processes: Processes, before: Standing, after: Standing) -> None:
    """Show what the first leader has logged, where it was deposed."""
    if after.terms != before.terms:
        print(processes.log(f"node-{before.leader}").read_text("utf-8")[-3000:], file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    summary, _, more = str(__doc__).partition("\n")
    parser = argparse.ArgumentParser(
        "python -m tests.benchmarks.endurance",
        description=summary,
        epilog=more,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=["load", "voters"])
    parser.add_argument("--minutes", type=float, default=10.0, help="for how long, each (10)")
    parser.add_argument("--levels", default="64,1000,4000", help="with how many commands outstanding (64,1000,4000)")
    parser.add_argument("--durability", default="memory,sync", help="memory,sync")
    parser.add_argument("--voters", type=int, default=51, help="how many voters (51)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
