"""Seeded bugs in changes of the members."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from tests.simulation.mutants.mutant import Mutant, Patch
from trioraft.consensus import (
    core,
    membership,
)
from trioraft.consensus.configuration import Configuration
from trioraft.consensus.hard import HardState
from trioraft.consensus.ledger import SnapshotInfo
from trioraft.consensus.log import Log
from trioraft.consensus.state import Role, State


def _only_when_committed() -> list[Patch]:
    def configuration(s: State) -> Configuration:
        return s.log.configurations_since(s.commit_index)[0].configuration

    return [(State, "configuration", property(configuration))]


def _counted_by(voters: Callable[[Configuration], tuple[int, ...]]) -> list[Patch]:
    """Decide everything by the majority of some nodes."""

    def has_quorum(self: Configuration, nodes: Any) -> bool:
        return 2 * len({*voters(self)} & {*nodes}) > len(voters(self))

    def quorum_value(self: Configuration, values: Mapping[int, float]) -> float:
        ranked = sorted((values.get(node, float("-inf")) for node in voters(self)), reverse=True)
        return ranked[len(ranked) // 2]

    return [(Configuration, "has_quorum", has_quorum), (Configuration, "quorum_value", quorum_value)]


def _promote_while_behind() -> list[Patch]:
    def is_current(_s: State, _node: int, _now: float) -> bool:
        return True

    return [(membership, "is_current", is_current)]


def _why_not_now(*, opened: bool = True, settled: bool = True) -> list[Patch]:
    def why_not_now(s: State) -> str | None:
        if s.role is not Role.LEADER or s.handover is not None or (opened and s.commit_index < s.opened_at):
            return "no"
        return "no" if settled and (s.configuration.is_joint or s.log.configuration_index > s.commit_index) else None

    return [(membership, "why_not_now", why_not_now)]


def _complete_before_committed() -> list[Patch]:
    original = membership.drive_change

    def drive_change(s: State, now: float) -> None:
        commit_index = s.commit_index
        s.commit_index = s.log.last_index if s.configuration.is_joint else commit_index
        original(s, now)
        s.commit_index = commit_index

    return [(membership, "drive_change", drive_change)]


def _at_once() -> list[Patch]:
    original = membership.append_configuration

    def append_configuration(s: State, configuration: Configuration, now: float) -> None:
        original(s, msgspec.structs.replace(configuration, old_voters=()), now)

    return [(membership, "append_configuration", append_configuration)]


def _keep_what_is_cut_off() -> list[Patch]:
    original = Log.truncate

    def truncate(self: Log, first: int) -> None:
        kept = self._configurations[:]
        original(self, first)
        self._configurations = kept
        self._note_configuration()

    return [(Log, "truncate", truncate)]


def _snapshots_without_members() -> list[Patch]:
    def members(_self: SnapshotInfo) -> Configuration | None:
        return None

    return [(SnapshotInfo, "members", members)]


def _joint_is_the_end() -> list[Patch]:
    original = membership.drive_change

    def drive_change(s: State, now: float) -> None:
        if s.opened_at <= s.log.configuration_index or not s.configuration.is_joint:
            original(s, now)  # what an earlier leader began is left as it is

    return [(membership, "drive_change", drive_change)]


def _forget_who_goes() -> list[Patch]:
    original = membership.append_configuration

    def append_configuration(s: State, configuration: Configuration, now: float) -> None:
        original(s, configuration, now)
        s.followers = {node: kept for node, kept in s.followers.items() if node in configuration.members}

    def tell_departed(_s: State, _node: int, _now: float) -> None:
        pass

    return [(membership, "append_configuration", append_configuration), (membership, "tell_departed", tell_departed)]


def _lead_on_when_removed() -> list[Patch]:
    original = membership.drive_change

    def drive_change(s: State, now: float) -> None:
        if s.configuration.is_joint:
            original(s, now)

    return [(membership, "drive_change", drive_change)]


def _form_another() -> list[Patch]:
    original = core.Core.__init__

    def forgetful(self: core.Core, node: int, hard: HardState, *rest: Any, **named: Any) -> None:
        formation = msgspec.structs.replace(hard.formation, heard=0)
        original(self, node, msgspec.structs.replace(hard, formation=formation), *rest, **named)

    return [(core.Core, "__init__", forgetful)]


def _join_before_disk() -> list[Patch]:
    return [(core.Core, "cluster", property(lambda self: self.formation.state.cluster))]


def _follow_members_only() -> list[Patch]:
    original = core.Core._apply

    def apply(self: core.Core, s: State, sender: int, message: Any, now: float) -> None:
        if sender in s.configuration.members or sender in s.followers:
            original(self, s, sender, message, now)

    return [(core.Core, "_apply", apply)]


MEMBERS: Final = (
    Mutant(
        "use a configuration only once it is committed",
        "Raft 6, thesis 4.1: in force once it is in the log",
        "churn",
        _only_when_committed,
    ),
    Mutant(
        "count only the new majority while joint",
        "Raft 6, thesis 4.3: both majorities",
        "churn",
        lambda: _counted_by(lambda c: c.voters),
    ),
    Mutant(
        "count only the old majority while joint",
        "Raft 6, thesis 4.3: both majorities",
        "churn",
        lambda: _counted_by(lambda c: c.old_voters or c.voters),
    ),
    Mutant(
        "let learners count", "thesis 4.2.1: learners do not vote", "churn", lambda: _counted_by(lambda c: c.members)
    ),
    Mutant("promote while behind", "thesis 4.2.1: caught up first", "members", _promote_while_behind),
    Mutant(
        "begin a change while another one is under way",
        "thesis 4.1: one at a time",
        "churn",
        lambda: _why_not_now(settled=False),
    ),
    Mutant(
        "append the new voters before the joint entry is committed",
        "Raft 6, figure 11",
        "churn",
        _complete_before_committed,
    ),
    Mutant("change the voters at once", "Raft 6, figure 10", "churn", _at_once),
    Mutant(
        "stay with a configuration that is cut off",
        "thesis 4.1: fall back to the one before",
        "churn",
        _keep_what_is_cut_off,
    ),
    Mutant(
        "leave the configuration out of snapshots",
        "Raft 7: the configuration as of the last index",
        "churn",
        _snapshots_without_members,
    ),
    Mutant("leave a joint change to who began it", "thesis 4.3: any leader completes it", "churn", _joint_is_the_end),
    Mutant("forget who goes before it is told", "who was removed gets to know it", "churn", _forget_who_goes),
    Mutant(
        "lead on although removed",
        "Raft 6, thesis 4.2.2: a removed leader steps down",
        "churn",
        _lead_on_when_removed,
    ),
    Mutant("forget at a restart for which cluster one waits", "one cluster per service", "churn", _form_another),
    Mutant(
        "speak for a cluster before it is on disk that one has joined",
        "joining: persist before responding",
        "churn",
        _join_before_disk,
    ),
    Mutant(
        "hear only who is a member as far as one knows",
        "Raft 6: requests are taken from whoever sends them",
        "churn",
        _follow_members_only,
    ),
)
