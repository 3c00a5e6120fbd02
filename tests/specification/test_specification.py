"""The specification holds within small bounds, and would not if a rule of it were missing."""

import os
import shutil
import sys

import pytest

from tests.specification.mutations import MUTATIONS, Mutation
from tests.specification.tlc import check

# Where tests/run cannot install Java by itself, there may be none; anywhere else that is a failure.
_CAN_INSTALL = sys.platform == "linux" and os.geteuid() == 0

needs_java = pytest.mark.skipif(
    not _CAN_INSTALL and shutil.which("java") is None,
    reason="java is not installed (Debian: default-jre-headless)",
)
pytestmark = needs_java


@pytest.mark.parametrize("module", ["Election", "Formation", "LeaderWork", "Recovery"])
def test_specification_holds_within_small_bounds(module: str) -> None:
    found = check(module, "bounded", workers=2, timeout=250)
    assert not found.violated, found.output
    assert found.distinct > 1000  # it does something


# All of them are checked by `python -m tests.specification`.
_BOUNDED = [m for m in MUTATIONS if m.bounds == "bounded"]
_QUICK = [
    *(m for m in _BOUNDED if m.module == "Formation"),
    *[m for m in _BOUNDED if m.module == "LeaderWork"][:1],
    *[m for m in _BOUNDED if m.module == "Election" and not m.root][:1],
    *[m for m in _BOUNDED if m.root == "Recovery"][:1],
]


@pytest.mark.parametrize("mutation", _QUICK, ids=lambda m: m.name)
def test_missing_rule_is_noticed(mutation: Mutation) -> None:
    found = check(mutation.root or mutation.module, mutation.bounds, modules=mutation.texts(), timeout=250)
    assert found.violated in mutation.violates, found.output
