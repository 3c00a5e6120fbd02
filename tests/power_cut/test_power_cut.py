"""What is acknowledged survives a power cut, at whatever point of the workload it comes, and nothing else appears.

The full version: ``python -m tests.power_cut``.
"""

import shutil
from pathlib import Path

import pytest

from tests.power_cut.checking import Cutter, record_workload
from trioraft.storage.database import Durability

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")

SEED, WRITES, POINTS = 1, 60, 250


@pytest.mark.parametrize("durability", ["sync", "memory"])
def test_a_power_cut_at_any_point_loses_nothing_that_was_promised(tmp_path: Path, durability: Durability) -> None:
    calls = record_workload(tmp_path, SEED, WRITES, durability)
    outcome = Cutter(SEED, WRITES, durability).run(calls, tmp_path / "data", randoms=1, points=POINTS)
    assert outcome.points == POINTS
    assert outcome.failures == []


class Sterner(Cutter):
    """Asks of an unsynced log what only a synced one promises."""

    def _least(self, saved: int) -> int:
        return saved


def test_the_check_finds_a_log_that_is_not_synced(tmp_path: Path) -> None:
    calls = record_workload(tmp_path, SEED, WRITES, "memory")
    outcome = Sterner(SEED, WRITES, "memory").run(calls, tmp_path / "data", randoms=0, points=POINTS)
    assert any("must be there" in failure for failure in outcome.failures)
