"""Seeded bugs in what is done on one node after the other: upgrades, and changes of the timeouts."""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from tests.simulation.mutants.mutant import Mutant, Patch
from trioraft.consensus import append_entries, core, lease, membership
from trioraft.consensus.configuration import Configuration
from trioraft.consensus.log import Log
from trioraft.consensus.state import State
from trioraft.versions import SPOKEN


def _raised_by(members: Callable[[Configuration], tuple[int, ...]]) -> list[Patch]:
    """Raise the version of the cluster when some of its members speak it."""
    original = membership.raise_version

    def raise_version(s: State, highest: Mapping[int, int], now: float) -> None:
        counted = members(s.configuration)
        others = {node: SPOKEN.highest for node in s.configuration.members if node not in counted}
        original(s, {**highest, **others}, now)

    return [(membership, "raise_version", raise_version)]


def _forget_version() -> list[Patch]:
    original = membership.append_configuration

    def append_configuration(s: State, configuration: Configuration, now: float) -> None:
        is_raised = configuration.version > s.configuration.version
        original(s, configuration if is_raised else msgspec.structs.replace(configuration, version=1), now)

    return [(membership, "append_configuration", append_configuration)]


def _keep_shorter_promise_at_once() -> list[Patch]:
    original = lease.promise

    def promise(s: State, now: float) -> float:
        seconds = original(s, now)
        if s.timing.lower < s.hard.promise:
            s.ledger.persist(msgspec.structs.replace(s.hard, promise=s.timing.lower))
        return seconds

    return [(append_entries, "promise", promise)]


_UPGRADE: Final = "a cluster speaks the highest version that all of its members do"

ROLLING: Final = (
    Mutant("raise the version when all voters speak it", _UPGRADE, "upgrade", lambda: _raised_by(lambda c: c.voters)),
    Mutant(
        "raise the version when one member speaks it",
        _UPGRADE,
        "upgrade",
        lambda: _raised_by(lambda c: c.members[:1]),
    ),
    Mutant("use what a version adds at once", _UPGRADE, "upgrade", lambda: [(core, "added_in", lambda _kind: 1)]),
    Mutant(
        "send a removed node what comes after its removal",
        "a removed node may be older than the cluster",
        "older and removed",
        lambda: [(Log, "absent_since", lambda log, _node: log.last_index + 1000)],
    ),
    Mutant("forget the version when the members change", _UPGRADE, "upgrade", _forget_version),
    Mutant(
        "keep a shorter promise while a longer one holds",
        "a promise holds until it ends, also when timeouts change",
        "work",
        _keep_shorter_promise_at_once,
    ),
)
