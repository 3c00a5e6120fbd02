"""A bounded number of lives, and the simulator's own tests: it leads to elections, and it tells what it did."""

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from tests.simulation.campaign import BATCH, Tally, live
from tests.simulation.profile import LIES, THEMES
from tests.simulation.simulation import Simulation

ROOT = Path(__file__).parents[2]


_SEEDS: Final = (*range(59), 158)  # the last is one in which snapshots rot, which is rare
# What must have happened in these lives, and how often at least, so that they mean something.
_AT_LEAST: Final = {
    "commands acknowledged": 2_500,
    "session commands answered": 500,
    "session commands given up, not proposed": 50,
    "session commands given up, unknown": 50,
    "session commands that nobody knows of": 5,
    "reads": 250,
    "reads by lease": 250,
    "snapshots installed": 5,
    "configurations committed": 12,
    "damaged disks refused": 2,
    "lost members replaced": 1,
    "operations in histories": 250,
    "histories linearizable": 5,
    "leases ended": 7,
    "leases kept alive": 12,
    "watch events": 75,
    "fault: clock drift": 25,
    "fault: clock leap": 2,
    "fault: disk error": 7,
    "fault: full disk": 7,
    "fault: rolling restart": 2,
    "fault: rot": 1,
    "fault: slow node": 7,
    "fault: write torn": 5,
}


def test_no_rule_is_broken_in_sixty_lives() -> None:
    count: Counter[str] = Counter()
    for seed in _SEEDS:
        result = Simulation(seed).run()
        shown = "\n".join(result.trace)
        assert not result.violation, f"seed {seed}, profile {result.profile}: {result.violation}\n{shown}"
        count.update(result.count)
    assert sum(number for what, number in count.items() if what.startswith("fault")) > 3_000
    assert not count["histories undecided"]
    assert {what: count[what] for what, least in _AT_LEAST.items() if count[what] < least} == {}


# The same in twenty lives of clusters whose members follow a service.
_AT_LEAST_OF_A_SERVICE: Final = {
    "autopilot: members added": 40,
    "autopilot: members removed": 25,
    "autopilot: voters added": 20,
    "autopilot: voters that learn on": 3,
    "replicas left": 8,
    "fault: scale up": 20,
    "fault: scale down": 8,
    "fault: replace": 5,
    "fault: move": 15,
    "fault: hide": 8,
    "fault: forsake": 30,
    **{f"DNS: {lie}": 50 for lie in LIES},
}


def test_members_follow_the_service_in_twenty_lives() -> None:
    count: Counter[str] = Counter()
    for seed in range(20):
        result = Simulation(seed, "autopilot").run()
        shown = "\n".join(result.trace)
        assert not result.violation, f"seed {seed}, profile autopilot: {result.violation}\n{shown}"
        count.update(result.count)
    assert {what: count[what] for what, least in _AT_LEAST_OF_A_SERVICE.items() if count[what] < least} == {}


@pytest.mark.parametrize("theme", THEMES)
def test_every_profile_leads_to_elections(theme: str) -> None:
    results = [Simulation(seed, theme).run() for seed in range(1000, 1004)]
    assert [result.violation for result in results] == [""] * 4
    assert all(result.count["elections"] for result in results)


def test_the_command_ends_with_its_summary() -> None:
    command = [sys.executable, "-m", "tests.simulation", "--seeds", "4", "--jobs", "2", "--profile", "calm"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True)
    summary = done.stdout.splitlines()[-1]
    assert summary.startswith("4 lives, ")
    assert summary.endswith("no violation")


def test_what_was_interrupted_goes_on_where_it_was(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    command = [sys.executable, "-m", "tests.simulation", "--profile", "calm", "--jobs", "1", "--resume", str(state)]
    with subprocess.Popen([*command, "--seeds", "5000"], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        while not (state.exists() and Tally.load(state).lives):
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        summary = process.stdout.read().splitlines()[-1]
    assert process.returncode == 130
    before = Tally.load(state)
    assert summary.startswith(f"interrupted: {before.lives:,} lives, {before.events:,} events")

    lives = before.lives + BATCH + 2  # also those of a batch that was begun
    done = subprocess.run([*command, "--seeds", str(lives), "--json"], cwd=ROOT, capture_output=True, check=True)
    told, whole = json.loads(done.stdout), Tally.load(state)
    assert (told["lives"], whole.lives, whole.next_seed, whole.unfinished) == (lives, lives, lives, [])
    at_once = Tally(profile="calm")
    for batch in at_once.hand_out(lives):
        at_once.add(batch, live(batch, "calm", 0))
    assert (whole.events, whole.count) == (at_once.events, at_once.count)

    other = [*command, "--profile", "log"]
    refused = subprocess.run(other, cwd=ROOT, capture_output=True, check=False, text=True)
    assert refused.returncode == 2
    assert "--profile calm" in refused.stderr
