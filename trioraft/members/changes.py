"""Changes of the members that people ask for, one node at a time, and the members as people see them."""

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from trioraft.consensus.configuration import Configuration
from trioraft.messages import MemberStatus, NodeId, Seconds, format_id

Action: TypeAlias = Literal["add", "remove", "promote", "demote"]

_NOTHING: Final[Mapping[NodeId, Any]] = MappingProxyType({})
_WHO_MAY: Final[dict[str, str]] = {
    "add": "is a member already",
    "remove": "is no member",
    "promote": "is no learner",
    "demote": "is no voter",
}


class Members(NamedTuple):
    """Who votes and who learns.

    Attributes
    ----------
    voters, learners : frozenset of int
        The ids of the nodes.
    """

    voters: frozenset[NodeId]
    learners: frozenset[NodeId]


def other_members(configuration: Configuration, action: Action, node: NodeId) -> Members | str:
    """Compute the members after a change of one node.

    Parameters
    ----------
    configuration : Configuration
        The members as they are.
    action : {'add', 'remove', 'promote', 'demote'}
        Add it as a learner, remove it, make a voter of the learner, or a learner of the voter.
    node : int
        The node.

    Returns
    -------
    Members or str
        The members; or the reason why that cannot be.
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
    return Members(new_voters, new_learners)


def member_statuses(
    configuration: Configuration, names: Mapping[NodeId, str] = _NOTHING, silent: Mapping[NodeId, Seconds] = _NOTHING
) -> tuple[MemberStatus, ...]:
    """Describe the members for ``trioraft status`` and the page.

    Parameters
    ----------
    configuration : Configuration
        The members, with the names that they had when they joined.
    names : mapping of int to str, optional
        The present names of the nodes that are known.
    silent : mapping of int to float, optional
        How long nothing was heard of them, in seconds.

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


def _kind(configuration: Configuration, node: NodeId) -> str:
    is_old = node in (configuration.old_voters or configuration.voters)
    if node in configuration.voters:
        return "voter" if is_old else "new voter"
    return "old voter" if is_old else "learner"


class Survival(NamedTuple):
    """How many failures a cluster survives now.

    Attributes
    ----------
    failures : int
        The number of members, whichever they are, that may still fail while those that are left have a quorum.
    text : str
        The number in words, such as "3 voters: survives 1 failure" or "2 of 3 voters answer: survives no failure".
    """

    failures: int
    text: str


def survives(members: Iterable[MemberStatus], alive: Collection[str]) -> Survival:
    """Count how many failures a cluster survives now.

    While its voters change, a quorum of the old and one of the new voters are needed. Learners do not count.

    Parameters
    ----------
    members : iterable of MemberStatus
        Its members, as its leader reports them.
    alive : collection of str
        The ids of the nodes that take part now.

    Returns
    -------
    Survival
        The failures, as a number and in words.
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
