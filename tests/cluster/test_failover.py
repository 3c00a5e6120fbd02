"""A killed leader is followed by another one in milliseconds, whatever the timeouts are.

The full version, beside etcd and PySyncObj: ``tests/run full failover``.
"""

import sys
from pathlib import Path

import pytest

from tests.benchmarks.failover import TIMEOUTS, lose_leader

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux says that nobody has a port")

_TRIALS = 3


async def test_with_default_timeouts_writes_go_on_long_before_any_timeout(tmp_path: Path) -> None:
    took = []
    for trial in range(_TRIALS):
        (tmp_path / str(trial)).mkdir()
        took.append(await lose_leader(tmp_path / str(trial), TIMEOUTS["default"]))
    print(*(f"{seconds * 1000:.0f} ms" for seconds in took))
    # It is a tenth of a second where nothing else runs; the shortest election timeout is three.
    assert min(took) <= 1.0
