"""Traces: a failing seed is told with its last messages, and a seed's trace is the same wherever it is lived."""

import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import pytest
import typer

from tests.simulation.__main__ import main
from tests.simulation.campaign import live_all
from tests.simulation.mutants import MUTANTS
from tests.simulation.simulation import Result, Simulation
from tests.simulation.trace import Trace, describe, say
from trioraft.consensus import HardState
from trioraft.consensus.hard import FormationState
from trioraft.messages import (
    AppendEntriesRequest,
    AppendEntriesResponse,
    ClientRequest,
    ClientResponse,
    Entry,
    EntryKind,
    InstallSnapshotRequest,
    LeadershipEnded,
    Propose,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)

ROOT: Final = Path(__file__).parents[2]
SEEDS: Final = range(4, 6)
PROFILES: Final = ("mixed", "everything", "formation", "autopilot")
A_MESSAGE: Final = re.compile(
    r" *\d+\.\d{6}  [nc]\d+ → ([nc]\d+|anybody)  .* +(\d+\.\d\d ms|LOST|CUT OFF|NO SESSION|NOBODY IS THERE)"
)
COMMAND: Final = Entry(3, EntryKind.COMMAND, b"x" * 50)
A_TURN: Final = re.compile(r" *\d+\.\d{6}  \* .+")


def whole_lives(seeds: list[int], profile: str) -> list[Result]:
    """Live some lives, and keep all that was seen of them."""
    results = []
    for seed in seeds:
        simulation = Simulation(seed, profile, whole=True)
        result = simulation.run()
        results.append(msgspec.structs.replace(result, trace=tuple(simulation.trace.lines())))
    return results


def print_traces(*, jobs: int) -> None:
    """Print the traces of some lives; with several processes these are lived by others, in another order."""
    for profile in PROFILES:
        batches = iter([[seed] for seed in SEEDS]) if jobs > 1 else iter([[*SEEDS]])
        lived = live_all(batches, jobs, partial(whole_lives, profile=profile), lambda: False)
        for result in sorted((result for _, results in lived for result in results), key=lambda life: life.seed):
            print(result.seed, result.profile, *result.trace, sep="\n")


def traces(*, hash_seed: int, jobs: int) -> bytes:
    command = f"from tests.simulation.test_trace import print_traces; print_traces(jobs={jobs})"
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, env=environment, capture_output=True, check=True
    ).stdout


def test_the_same_seed_gives_the_same_trace_byte_by_byte_in_any_process() -> None:
    first = traces(hash_seed=1, jobs=1)
    assert first.count(b"\n") > 1000 * len(PROFILES) * len(SEEDS)
    assert first == traces(hash_seed=2, jobs=2)


def test_the_command_prints_a_whole_life(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended:
        main(first=4, profile="calm", trace=True)
    *lines, last = capsys.readouterr().out.splitlines()
    assert ended.value.exit_code == 0
    assert last.endswith("events, no violation")
    assert lines == list(whole_lives([4], "calm")[0].trace)
    assert [line for line in lines if not A_MESSAGE.fullmatch(line) and not A_TURN.fullmatch(line)] == []


def test_a_violation_is_told_with_its_seed_and_the_last_messages(capsys: pytest.CaptureFixture[str]) -> None:
    mutant = next(mutant for mutant in MUTANTS if mutant.profile == "work")
    with mutant.applied(), pytest.raises(typer.Exit) as ended:
        main(seeds=100, profile=mutant.profile, jobs=1)
    assert ended.value.exit_code == 1
    told = capsys.readouterr().out.splitlines()
    assert told[-1].endswith("1 VIOLATIONS")
    assert any(re.match(r"seed \d+, profile work: ", line) for line in told)
    assert sum(bool(A_MESSAGE.fullmatch(line)) for line in told) == 60


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (
            ClientRequest(7, Propose(9, 2, 1, b"x")),
            "ClientRequest #7 Propose(session=9, number=2, answered_below=1, data='x')",
        ),
        (ClientResponse(7, done=True, data=b"x", term=3, leader=2), "ClientResponse t3 #7 done 'x', n2 leads"),
        (ClientResponse(7, done=True, session=9, term=3), "ClientResponse t3 #7 done, session 9"),
        (
            ClientResponse(7, done=False, code="busy", detail="try again", term=3),
            "ClientResponse t3 #7 busy: try again",
        ),
        (VoteRequest(4, 81, 3, False), "VoteRequest t4 log ends with 81/t3"),
        (VoteRequest(4, 81, 3, True), "VoteRequest t4 log ends with 81/t3, was offered the term"),
        (VoteResponse(4, True, 2.5, 3), "VoteResponse t4 granted, work for 2.5 s of t3"),
        (VoteResponse(4, False, 0.0, 0), "VoteResponse t4 refused"),
        (TimeoutNow(4, 0.0), "TimeoutNow t4 lead now"),
        (LeadershipEnded(4, work_ended=False), "LeadershipEnded t4 its process has ended"),
        (LeadershipEnded(4, work_ended=True), "LeadershipEnded t4 its process has ended, and all work"),
        (
            AppendEntriesRequest(3, 7, 2.5, 11, 2, 10),
            "AppendEntriesRequest t3 #7 after 11/t2, commit 10, work for 2.5 s",
        ),
        (
            AppendEntriesRequest(3, 7, 0.0, 11, 2, 0, (Entry(3, EntryKind.NO_OP), COMMAND)),
            "AppendEntriesRequest t3 #7 after 11/t2: 12/t3 no-op 13/t3 'xxxxxxxxxxxx'…50 bytes",
        ),
        (AppendEntriesResponse(3, 7, 1.0, 12, False), "AppendEntriesResponse t3 #7 has 12, promises 1 s"),
        (
            AppendEntriesResponse(3, 7, 0.0, 9, True, 9, 2, rejected=True),
            "AppendEntriesResponse t3 #7 rejected, has 9/t2, would not lead",
        ),
        (
            InstallSnapshotRequest(3, 40, 2, 900, 1, 512, b"." * 388),
            "InstallSnapshotRequest t3 of 40/t2, bytes 512 to 900 of 900",
        ),
    ],
)
def test_a_message_is_written_as_it_is_read(message: object, said: str) -> None:
    assert say(message) == said


def test_what_was_dropped_says_why_and_what_arrived_how_long_it_took() -> None:
    trace = Trace(None)
    trace.message(1.5, 1.25, 1, 2, TimeoutNow(4, 0.0), "")
    trace.message(1.5, 1.5, 1, 2, TimeoutNow(4, 0.0), "lost")
    trace.turn(2.0, "n1 crashes")
    first, second, third = (" ".join(line.split()) for line in trace.lines())
    assert first == "1.500000 n1 → n2 TimeoutNow t4 lead now 250.00 ms"
    assert second == "1.500000 n1 → n2 TimeoutNow t4 lead now LOST"
    assert third == "2.000000 * n1 crashes"


def test_what_says_nothing_is_left_out() -> None:
    assert describe(HardState(term=3, formation=FormationState(cluster=0xC1 << 56))) == (
        "HardState(term=3, formation=FormationState(cluster=c10000))"
    )
