"""Changes of the members as people ask for them: one node at a time."""

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from trioraft.consensus.configuration import Configuration
from trioraft.messages import MemberStatus, format_id

Action: TypeAlias = Literal["add", "remove", "promote", "demote"]
_Members: TypeAlias = tuple[frozenset[int], frozenset[int]]

_NOTHING: Final[Mapping[int, Any]] = MappingProxyType({})
_WHO_MAY: Final[dict[str, str]] = {
    "add": "is a member already",
    "remove": "is no member",
    "promote": "is no learner",
    "demote": "is no voter",
}


def other_members(configuration: Configuration, action: Action, node: int) -> _Members | str:
    """Tell what a change of one node makes of the members.

    Parameters
    ----------
    configuration : Configuration
        The members as they are.
    action : {'add', 'remove', 'promote', 'demote'}
        Make it a learner that was no member; no member that was one; a voter of a learner; a learner of a voter.
    node : int
        The node.

    Returns
    -------
    tuple of frozenset of int and frozenset of int, or str
        The voters and the learners; or why that cannot be.
    """
    voters, learners = frozenset(configuration.voters), frozenset(configuration.learners)
    one = frozenset({node})
    fits = {
        "add": node not in voters | learners,
        "remove": node in voters | learners,
        "promote": node in learners,
        "demote": node in voters,
    }
    if not fits[action]:
        return f"node {format_id(node)} {_WHO_MAY[action]}"
    new_voters = voters | one if action == "promote" else voters - one
    new_learners = learners | one if action in {"add", "demote"} else learners - one
    return new_voters, new_learners


def member_statuses(
    configuration: Configuration, names: Mapping[int, str] = _NOTHING, silent: Mapping[int, float] = _NOTHING
) -> tuple[MemberStatus, ...]:
    """Describe the members for ``trioraft status`` and the page.

    Parameters
    ----------
    configuration : Configuration
        The members, with the names that they had when they joined.
    names : mapping of int to str, optional
        What the nodes that are known are called now.
    silent : mapping of int to float, optional
        For how long nothing was heard of them, in seconds.

    Returns
    -------
    tuple of MemberStatus
        One for each, by id.
    """
    return tuple(
        MemberStatus(
            format_id(node),
            names.get(node) or configuration.name(node),
            _kind(configuration, node),
            silent.get(node),
        )
        for node in configuration.members
    )


def _kind(configuration: Configuration, node: int) -> str:
    is_old = node in (configuration.old_voters or configuration.voters)
    if node in configuration.voters:
        return "voter" if is_old else "new voter"
    return "old voter" if is_old else "learner"


class Survival(NamedTuple):
    """What a cluster survives now.

    Attributes
    ----------
    failures : int
        How many more members may fail, whichever they are, while those that are left still have a quorum.
    text : str
        The same in words, such as "3 voters: survives 1 failure" or "2 of 3 voters answer: survives no failure".
    """

    failures: int
    text: str


def survives(members: Iterable[MemberStatus], alive: Collection[str]) -> Survival:
    """Tell what a cluster survives now.

    While its voters change, a quorum of the old and one of the new voters are needed. Learners do not count.

    Parameters
    ----------
    members : iterable of MemberStatus
        Its members, as its leader tells them.
    alive : collection of str
        The ids of the nodes that take part now.

    Returns
    -------
    Survival
        How many failures, as a number and in words.
    """
    kinds = {member.id: member.kind for member in members}
    old = {node for node, kind in kinds.items() if kind in {"voter", "old voter"}}
    new = {node for node, kind in kinds.items() if kind in {"voter", "new voter"}}
    spare, _, voters = min(
        (len(each.intersection(alive)) - len(each) // 2 - 1, each is old, each) for each in (new, old)
    )
    here = len(voters.intersection(alive))
    of_which = "old voter" if voters is old and old != new else "voter"
    answer = "" if here == len(voters) else f"{here} of "
    text = f"{answer}{len(voters)} {of_which if len(voters) == 1 else f'{of_which}s'}{' answer' if answer else ''}"
    if spare < 0:
        return Survival(0, f"{text}: no quorum")
    return Survival(spare, f"{text}: survives {spare or 'no'} {'failure' if spare <= 1 else 'failures'}")
