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

from tests.simulation.campaign import Tally, live
from tests.simulation.profile import LIES, THEMES
from tests.simulation.simulation import Simulation

ROOT = Path(__file__).parents[2]


# What must have happened in two hundred lives, and how often at least, so that they mean something.
_AT_LEAST: Final = {
    "commands acknowledged": 10_000,
    "session commands answered": 2_000,
    "session commands given up, not proposed": 200,
    "session commands given up, unknown": 200,
    "session commands that nobody knows of": 20,
    "reads": 1_000,
    "reads by lease": 1_000,
    "snapshots installed": 20,
    "configurations committed": 50,
    "damaged disks refused": 10,
    "lost members replaced": 5,
    "operations in histories": 1_000,
    "histories linearizable": 20,
    "leases ended": 30,
    "leases kept alive": 50,
    "watch events": 300,
    "fault: clock drift": 100,
    "fault: clock leap": 10,
    "fault: disk error": 30,
    "fault: full disk": 30,
    "fault: rolling restart": 10,
    "fault: rot": 5,
    "fault: slow node": 30,
    "fault: write torn": 20,
}


def test_no_rule_is_broken_in_two_hundred_lives() -> None:
    count: Counter[str] = Counter()
    for seed in range(200):
        result = Simulation(seed).run()
        shown = "\n".join(result.trace)
        assert not result.violation, f"seed {seed}, profile {result.profile}: {result.violation}\n{shown}"
        count.update(result.count)
    print({k: v for k, v in count.items() if "session" in k or k in _AT_LEAST})
    assert sum(number for what, number in count.items() if what.startswith("fault")) > 10_000
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
    command = [sys.executable, "-m", "tests.simulation", "--seeds", "20", "--jobs", "2", "--profile", "calm"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True)
    summary = done.stdout.splitlines()[-1]
    assert summary.startswith("20 lives, ")
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

    lives = before.lives + 20
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
