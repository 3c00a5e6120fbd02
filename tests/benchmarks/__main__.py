"""How fast trioraft is beside its peers, beside another build of it, and as work grows: each in turns, in one run.

    python -m tests.benchmarks                             # in process beside PySyncObj, a client beside etcd, idle
    python -m tests.benchmarks growth                      # with more commands, nodes, keys, watches and leases
    python -m tests.benchmarks build --baseline ../before/.venv-tests/bin/python

PySyncObj and etcd are installed in a folder of their own, in the user's cache. All have three nodes on loopback,
values of 64 bytes, timeouts of 150–300 ms (etcd draws from 250–500 ms, and cannot do with less at this heartbeat) and
a heartbeat of 50 ms. Each measurement has a cluster made for it; at its end every command that was acknowledged must
have been applied by all three nodes. A process that only sleeps runs beside it: a run in which that one was woken
more than 75 ms late is repeated.

What is compared is of one durability class: PySyncObj keeps nothing on the disk, as `memory` does, and etcd syncs
before it answers, unless it is told not to. Of PySyncObj its best mode counts, for each figure. The tables go to
standard output; they, all figures as JSON, and charts go to ``tests/out/speed-*``.
"""

import argparse
import secrets
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.benchmarks import parts
from tests.benchmarks.measuring import Plan, alternate
from tests.benchmarks.parts import Part
from tests.benchmarks.peers import Peers, default_folder, install
from tests.benchmarks.processes import ROOT, Build
from tests.benchmarks.report import Report

_OUT: Final = ROOT / "tests" / "out"
_GROWTH: Final = ("outstanding", "nodes", "keys", "watches")


def main(arguments: list[str] | None = None) -> int:
    """Measure what was asked for; return the exit status."""
    asked = _parser().parse_args(arguments)
    # What was started is ended on the way out; servers of etcd would go on for ever.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    names = asked.parts or ["process", "client", "idle"]
    names = [each for name in names for each in ([f"growth-{of}" for of in _GROWTH] if name == "growth" else [name])]
    if "build" in names and asked.baseline is None:
        sys.exit("build: --baseline says with which interpreter, of an environment that has the other build")
    peers = install(asked.peers_folder) if {"process", "client", "idle"} & set(names) else None
    choice = _Choice(asked, peers)
    plan = Plan(asked.rounds, asked.seconds, tuple(asked.levels or ()), asked.lock)
    for name in names:
        for part in choice.parts(name):
            its_plan = part.plan(plan)
            for results in alternate(part.subjects, its_plan, part.measure):  # what there is when it is interrupted
                report = Report(part, results, its_plan, peers.versions if peers else ())
                report.write(asked.out)
            report.print()
    return 0


@dataclass(frozen=True)
class _Choice:
    """Which parts there are, as the options say."""

    asked: argparse.Namespace
    peers: Peers | None

    def parts(self, name: str) -> list[Part]:
        """Return the parts of a name."""
        asked, interface = self.asked, self.asked.interface
        choices: dict[str, Callable[[], list[Part]]] = {
            "process": lambda: parts.in_process(self._installed, interface),
            "client": lambda: parts.from_client(self._installed, interface),
            "idle": lambda: parts.idle(self._installed, secrets.token_hex(32)),
            "build": lambda: parts.builds(Build(str(asked.baseline)), interface),
            "growth-outstanding": lambda: parts.growth_by_outstanding(interface),
            "growth-nodes": lambda: parts.growth_by_nodes(interface, asked.nodes),
            "growth-keys": lambda: parts.growth_by_keys(interface, asked.keys),
            "growth-watches": lambda: parts.growth_by_watches(interface, asked.watches),
        }
        return choices[name]()

    @property
    def _installed(self) -> Peers:
        assert self.peers is not None
        return self.peers


def _parser() -> argparse.ArgumentParser:
    summary, _, more = str(__doc__).partition("\n")
    parser = argparse.ArgumentParser(
        "python -m tests.benchmarks",
        description=summary,
        epilog=more,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    choices = ["process", "client", "idle", "growth", *(f"growth-{of}" for of in _GROWTH), "build"]
    parser.add_argument("parts", nargs="*", metavar="PART", choices=[[], *choices], help=", ".join(choices))
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (5)")
    parser.add_argument("--seconds", type=float, default=2.0, help="for how long, for each figure (2)")
    parser.add_argument("--levels", type=_numbers, help="with how many commands outstanding, as 64,1000")
    parser.add_argument("--interface", default="", help="what trioraft's users use, as propose or put; its best")
    parser.add_argument("--nodes", type=_numbers, default=[3, 5, 7, 51], help="of growth: 3,5,7,51")
    parser.add_argument("--keys", type=_numbers, default=[10, 1000, 100_000], help="of growth: 10,1000,100000")
    parser.add_argument("--watches", type=_numbers, default=[0, 1000, 10_000], help="of growth: 0,1000,10000")
    parser.add_argument("--baseline", type=Path, help="of build: the interpreter that has the other build")
    parser.add_argument("--peers-folder", type=Path, default=default_folder(), help="where peers are installed")
    parser.add_argument("--out", type=Path, default=_OUT, help="where results are written (tests/out)")
    parser.add_argument("--lock", type=Path, help="a file whose lock is held for each measurement")
    return parser


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
