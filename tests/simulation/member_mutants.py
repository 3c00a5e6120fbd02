"""Seeded bugs in changes of the members."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from trioraft.consensus import core, membership
from trioraft.consensus.configuration import Configuration
from trioraft.consensus.hard import HardState
from trioraft.consensus.log import Log
from trioraft.consensus.outbox import SnapshotInfo
from trioraft.consensus.state import Role, State

_Patch = tuple[object, str, Any]


def _only_when_committed() -> list[_Patch]:
    def configuration(s: State) -> Configuration:
        return s.log.configurations_since(s.commit_index)[0][1]

    return [(State, "configuration", property(configuration))]


def _counted_by(voters: Callable[[Configuration], tuple[int, ...]]) -> list[_Patch]:
    """Decide everything by the majority of some nodes."""

    def has_quorum(self: Configuration, nodes: Any) -> bool:
        return 2 * len({*voters(self)} & {*nodes}) > len(voters(self))

    def quorum_value(self: Configuration, values: Mapping[int, float]) -> float:
        ranked = sorted((values.get(node, float("-inf")) for node in voters(self)), reverse=True)
        return ranked[len(ranked) // 2]

    return [(Configuration, "has_quorum", has_quorum), (Configuration, "quorum_value", quorum_value)]


def _promote_while_behind() -> list[_Patch]:
    def is_current(_s: State, _node: int, _now: float) -> bool:
        return True

    return [(membership, "is_current", is_current)]


def _why_not_now(*, opened: bool = True, settled: bool = True) -> list[_Patch]:
    def why_not_now(s: State) -> str | None:
        if s.role is not Role.LEADER or s.handover is not None or (opened and s.commit_index < s.opened_at):
            return "no"
        return "no" if settled and (s.configuration.is_joint or s.log.configuration_index > s.commit_index) else None

    return [(membership, "why_not_now", why_not_now)]


def _complete_before_committed() -> list[_Patch]:
    original = membership.drive_change

    def drive_change(s: State, now: float) -> None:
        commit_index = s.commit_index
        s.commit_index = s.log.last_index if s.configuration.is_joint else commit_index
        original(s, now)
        s.commit_index = commit_index

    return [(membership, "drive_change", drive_change)]


def _at_once() -> list[_Patch]:
    original = membership.append_configuration

    def append_configuration(s: State, configuration: Configuration, now: float) -> None:
        original(s, msgspec.structs.replace(configuration, old_voters=()), now)

    return [(membership, "append_configuration", append_configuration)]


def _keep_what_is_cut_off() -> list[_Patch]:
    original = Log.truncate

    def truncate(self: Log, first: int) -> None:
        kept = self._configurations[:]
        original(self, first)
        self._configurations = kept
        self._note_configuration()

    return [(Log, "truncate", truncate)]


def _snapshots_without_members() -> list[_Patch]:
    def members(_self: SnapshotInfo) -> Configuration | None:
        return None

    return [(SnapshotInfo, "members", members)]


def _joint_is_the_end() -> list[_Patch]:
    original = membership.drive_change

    def drive_change(s: State, now: float) -> None:
        if s.opened_at <= s.log.configuration_index or not s.configuration.is_joint:
            original(s, now)  # what an earlier leader began is left as it is

    return [(membership, "drive_change", drive_change)]


def _forget_who_goes() -> list[_Patch]:
    original = membership.append_configuration

    def append_configuration(s: State, configuration: Configuration, now: float) -> None:
        original(s, configuration, now)
        s.followers = {node: kept for node, kept in s.followers.items() if node in configuration.members}

    def tell_departed(_s: State, _node: int, _now: float) -> None:
        pass

    return [(membership, "append_configuration", append_configuration), (membership, "tell_departed", tell_departed)]


def _lead_on_when_removed() -> list[_Patch]:
    original = membership.drive_change

    def drive_change(s: State, now: float) -> None:
        if s.configuration.is_joint:
            original(s, now)

    return [(membership, "drive_change", drive_change)]


def _form_another() -> list[_Patch]:
    original = core.Core.__init__

    def forgetful(self: core.Core, node: int, hard: HardState, *rest: Any, **named: Any) -> None:
        formation = msgspec.structs.replace(hard.formation, heard=0)
        original(self, node, msgspec.structs.replace(hard, formation=formation), *rest, **named)

    return [(core.Core, "__init__", forgetful)]


def _join_before_disk() -> list[_Patch]:
    return [(core.Core, "cluster", property(lambda self: self.formation.state.cluster))]


def _follow_members_only() -> list[_Patch]:
    original = core.Core._apply

    def apply(self: core.Core, s: State, sender: int, message: Any, now: float) -> None:
        if sender in s.configuration.members or sender in s.followers:
            original(self, s, sender, message, now)

    return [(core.Core, "_apply", apply)]


MEMBER_MUTANTS: Final[tuple[tuple[str, str, Callable[[], list[_Patch]]], ...]] = (
    ("use a configuration only once it is committed", "churn", _only_when_committed),
    ("count only the new majority while joint", "churn", lambda: _counted_by(lambda c: c.voters)),
    ("count only the old majority while joint", "churn", lambda: _counted_by(lambda c: c.old_voters or c.voters)),
    ("let learners count", "churn", lambda: _counted_by(lambda c: c.members)),
    ("promote while behind", "members", _promote_while_behind),
    ("begin a change while another one is under way", "churn", lambda: _why_not_now(settled=False)),
    ("append the new voters before the joint entry is committed", "churn", _complete_before_committed),
    ("change the voters at once", "churn", _at_once),
    ("stay with a configuration that is cut off", "members", _keep_what_is_cut_off),
    ("leave the configuration out of snapshots", "churn", _snapshots_without_members),
    ("leave a joint change to who began it", "churn", _joint_is_the_end),
    ("forget who goes before it is told", "churn", _forget_who_goes),
    ("lead on although removed", "churn", _lead_on_when_removed),
    ("forget at a restart for which cluster one waits", "members", _form_another),
    ("speak for a cluster before it is on disk that one has joined", "churn", _join_before_disk),
    ("hear only who is a member as far as one knows", "churn", _follow_members_only),
)
