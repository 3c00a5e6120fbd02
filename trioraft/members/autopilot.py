"""Decides who joins, who votes and who is gone (the idea is Consul's autopilot).

The leader looks at its members and at the nodes that discovery has found, and makes at most one change at a time:

1. A node of the same service that has no cluster joins as a learner. A node that nobody but itself has named, neither
   DNS nor ``PEERS``, waits while :data:`INTRODUCED_MAX` others of that kind do not keep up: made-up nodes cannot fill
   the cluster.
2. A learner that has kept up for a while becomes a voter, where that makes the cluster survive more failures: the
   number of voters is kept odd, and at most ``max_voters``. Two learners are promoted together. In a cluster that was
   formed with more voters, those above the maximum are demoted.
3. A member is *gone* when it was silent, and meanwhile absent from good answers of DNS, for ``dead_after``. A voter
   that is gone is replaced by a learner in one change, or removed; the number of voters never falls below
   ``min_voters``, or below the present number where that is smaller. Learners that are gone are removed. Where nobody
   asks DNS, silence for ``dead_after`` is enough for a learner that ``PEERS`` does not name.

A member that is about to stop may ask to be removed (``LEAVE_ON_STOP``); the same rules decide whether it is.

:func:`decide` only judges what the leader has seen, and does nothing itself, so that every reason can be tested.
:mod:`trioraft.members.presence` judges the answers of DNS, :mod:`trioraft.members.steering` does what was decided.
"""

from collections.abc import Collection
from typing import Final

from msgspec import Struct

from trioraft.messages import MEMBERS_MAX, NodeId, Seconds, format_id

# Of the learners that nobody but themselves has named, at most so many may lag at a time.
INTRODUCED_MAX: Final = 3


class Rules(Struct, frozen=True):
    """The limits that decisions keep to.

    Attributes
    ----------
    dead_after : float
        A member is gone when it was silent and absent for so long, in seconds.
    stable_after : float
        A learner may vote when it has kept up for so long, in seconds.
    min_voters, max_voters : int
        The smallest and the largest number of voters.
    """

    dead_after: Seconds = 60.0
    stable_after: Seconds = 1.0
    min_voters: int = 3
    max_voters: int = 7


class Seen(Struct, frozen=True):
    """What the leader has seen of one node.

    Attributes
    ----------
    name : str
        Its name, for people.
    silent : float
        How long nothing was heard of it, in seconds.
    absent : float
        How long it has certainly been absent from DNS, in seconds.
    is_static : bool
        Whether it is named in ``PEERS``; then it is never absent.
    kept_up : float
        How long it has had all but the newest entries, in seconds; negative when it lags.
    has_answered : bool
        Whether it has answered within the last lease.
    leaves : bool
        Whether it is about to stop, and has asked to be removed.
    """

    name: str = ""
    silent: Seconds = 0.0
    absent: Seconds = 0.0
    is_static: bool = False
    kept_up: float = -1.0
    has_answered: bool = True
    leaves: bool = False


class Observation(Struct, frozen=True):
    """What a leader knows of the nodes when it decides.

    Attributes
    ----------
    leader : int
        The leader itself.
    voters, learners : tuple of int
        The configuration in force.
    seen : mapping of int to Seen
        What was seen of each member but the leader, and of each node that waits to be joined.
    waiting : tuple of int
        The nodes that could join: they have the name and key of the service, and no cluster.
    named_by_others : frozenset of int
        The learners and waiting nodes that DNS or ``PEERS`` names at the address where they were heard.
    """

    leader: NodeId
    voters: tuple[NodeId, ...]
    learners: tuple[NodeId, ...]
    seen: dict[NodeId, Seen]
    waiting: tuple[NodeId, ...] = ()
    named_by_others: frozenset[NodeId] = frozenset()

    def named(self, node: NodeId) -> str:
        """Return a node's name and id, for people."""
        name = self.seen[node].name if node in self.seen else ""
        return f"{name} ({format_id(node)})" if name else format_id(node)


class Change(Struct, frozen=True):
    """One change of the members.

    Attributes
    ----------
    voters, learners : tuple of int
        The voters and learners from then on.
    reason : str
        The reason for it, in one line.
    """

    voters: tuple[NodeId, ...]
    learners: tuple[NodeId, ...]
    reason: str


class Decision(Struct, frozen=True):
    """The next change, and what the leader declines to do.

    Attributes
    ----------
    change : Change or None
        The change to make.
    declined : tuple of str
        Changes that people might expect and that are not made, each with its reason.
    """

    change: Change | None = None
    declined: tuple[str, ...] = ()


def decide(seen: Observation, rules: Rules) -> Decision:
    """Choose the next change.

    Parameters
    ----------
    seen : Observation
        What the leader knows, while no change is under way.
    rules : Rules
        The limits.

    Returns
    -------
    Decision
        The change, and what was declined.
    """
    declined: list[str] = []
    change = (
        admit(seen, declined)
        or replace_gone_voter(seen, rules, declined)
        or forget_gone_learner(seen, rules)
        or promote(seen, rules, declined)
        or take_votes(seen, rules)
    )
    return Decision(change, tuple(declined))


def admit(seen: Observation, declined: list[str]) -> Change | None:
    """Add nodes without a cluster as learners: first those that others have named, and only a few of the rest."""
    room = max(0, MEMBERS_MAX - len(seen.voters) - len(seen.learners))
    unproven = [node for node in seen.learners if node not in seen.named_by_others and seen.seen[node].kept_up < 0]
    few = max(0, INTRODUCED_MAX - len(unproven))
    introduced = [node for node in seen.waiting if node not in seen.named_by_others]
    may_join = [node for node in seen.waiting if node in seen.named_by_others] + introduced[:few]
    joining = may_join[:room]
    declined += [f"{seen.named(node)} cannot join: {MEMBERS_MAX} members are the most" for node in may_join[room:]]
    declined += [
        f"{seen.named(node)} waits to join: neither DNS nor PEERS names it, and of such learners at most"
        f" {INTRODUCED_MAX} at a time may not keep up"
        for node in introduced[few:]
    ]
    if not joining:
        return None
    names = ", ".join(map(seen.named, joining))
    return Change(seen.voters, _ordered({*seen.learners, *joining}), f"{names} joined the service")


def is_gone(seen: Seen, rules: Rules) -> bool:
    """Check whether a member is gone: silent and absent for long enough."""
    return not seen.is_static and min(seen.silent, seen.absent) >= rules.dead_after


def replace_gone_voter(seen: Observation, rules: Rules, declined: list[str]) -> Change | None:
    """Remove one voter that is gone, and promote a learner in its place where one keeps up."""
    gone = [node for node in _others(seen) if is_gone(seen.seen[node], rules)]
    for node in gone:
        others_gone = [other for other in gone if other != node]
        ready = ready_learners(seen, rules)
        left = {*seen.voters} - {node}
        if ready:
            voters, how = left | {ready[0]}, f"{seen.named(ready[0])} takes its place"
        elif len(left) % 2 == 0 and others_gone and len(left) - 1 >= _fewest(seen, rules):
            voters, how = left - {others_gone[0]}, f"{seen.named(others_gone[0])}, gone too, votes no more"
        elif len(left) >= _fewest(seen, rules):
            voters, how = left, f"{len(left)} voters remain"
        else:
            declined.append(
                f"{seen.named(node)} is gone but stays a voter: there would be fewer than {_fewest(seen, rules)}"
                " voters, and no learner can take its place"
            )
            continue
        if not has_quorum(seen, voters):
            declined.append(
                f"{seen.named(node)} is gone but stays a voter: no quorum of the {len(voters)} voters without it"
                " has answered lately"
            )
            continue
        learners = ({*seen.learners} | {*seen.voters}) - voters - {node}
        return Change(_ordered(voters), _ordered(learners), f"{seen.named(node)} is gone: {how}")
    declined += [
        f"{seen.named(node)} is silent but stays a member: {_why_not_gone(seen.seen[node], rules)}"
        for node in (*_others(seen), *seen.learners)
        if not is_gone(seen.seen[node], rules) and seen.seen[node].silent >= rules.dead_after
    ]
    return None


def forget_gone_learner(seen: Observation, rules: Rules) -> Change | None:
    """Remove the learners that are gone."""
    gone = [node for node in seen.learners if is_gone(seen.seen[node], rules)]
    if not gone:
        return None
    learners = tuple(node for node in seen.learners if node not in gone)
    names = ", ".join(map(seen.named, gone))
    return Change(seen.voters, learners, f"{names} {'is' if len(gone) == 1 else 'are'} gone")


def promote(seen: Observation, rules: Rules, declined: list[str]) -> Change | None:
    """Promote learners that keep up, as far as that makes the cluster survive more failures."""
    ready = ready_learners(seen, rules)
    most = min(len(seen.voters) + len(ready), rules.max_voters)
    count = most if most % 2 else most - 1
    if count > len(seen.voters):
        chosen = ready[: count - len(seen.voters)]
        voters = {*seen.voters, *chosen}
        if has_quorum(seen, voters):
            keep = "keeps" if len(chosen) == 1 else "keep"
            reason = f"{', '.join(map(seen.named, chosen))} {keep} up: {count} voters now"
            return Change(_ordered(voters), _ordered({*seen.learners} - voters), reason)
    if len(seen.voters) >= rules.max_voters:
        why = f"MAX_VOTERS={rules.max_voters}"
    else:
        why = f"{len(seen.voters) + 1} voters survive no more failures than {len(seen.voters)}"
    declined += [f"{seen.named(node)} keeps up but stays a learner: {why}" for node in ready]
    return None


def take_votes(seen: Observation, rules: Rules) -> Change | None:
    """Demote voters above the maximum, and one more when their number is even."""
    count = len(seen.voters)
    wanted = min(count, max(rules.max_voters, rules.min_voters))
    if wanted % 2 == 0 and wanted > max(2, rules.min_voters):
        wanted -= 1
    if wanted == count:
        return None
    # Those that leave anyhow go first, then those that are silent. They go on learning, and can become voters again.
    last = sorted(_others(seen), key=lambda node: (seen.seen[node].leaves, seen.seen[node].silent >= 1.0, node))
    chosen = last[wanted - count :]
    voters = {*seen.voters} - {*chosen}
    if not has_quorum(seen, voters):
        return None
    if count > rules.max_voters:
        why = f"MAX_VOTERS={rules.max_voters}"
    else:
        why = f"{count} voters survive no more failures than {wanted}"
    reason = f"{why}: {', '.join(map(seen.named, chosen))} learns on"
    return Change(_ordered(voters), _ordered({*seen.learners, *chosen}), reason)


class Declined(Struct, frozen=True):
    """The answer to a member that asked to be removed before it stops, and is not.

    Attributes
    ----------
    reason : str
        The reason, in one line.
    for_now : bool
        Whether it may ask again in a moment.
    """

    reason: str
    for_now: bool


def leave(seen: Observation, node: NodeId, rules: Rules) -> Change | Declined:
    """Choose the change that removes a member which is about to stop.

    Parameters
    ----------
    seen : Observation
        What the leader knows, while no change is under way.
    node : int
        The member that leaves.
    rules : Rules
        The limits.

    Returns
    -------
    Change or Declined
        The change, or the reason why there is none.
    """
    learners = {*seen.learners} - {node}
    voters = {*seen.voters} - {node}
    ready = [learner for learner in ready_learners(seen, rules) if learner != node]
    if node in seen.voters and ready and (len(voters) % 2 == 0 or len(voters) < _fewest(seen, rules)):
        voters.add(ready[0])
        how = f"leaves: {seen.named(ready[0])} takes its place"
    else:
        how = f"leaves: {len(voters)} voters remain" if node in seen.voters else "leaves"
    if len(voters) < _fewest(seen, rules):
        may_be_ready = [other for other in learners if seen.seen[other].has_answered and not seen.seen[other].leaves]
        reason = f"{len(voters)} voters would be left, fewer than {_fewest(seen, rules)}"
        return Declined(reason, for_now=bool(may_be_ready))
    if not has_quorum(seen, voters):
        reason = f"no quorum of the {len(voters)} voters that would be left has answered lately"
        return Declined(reason, for_now=True)
    return Change(_ordered(voters), _ordered(learners - voters), f"{seen.named(node)} {how}")


def ready_learners(seen: Observation, rules: Rules) -> list[NodeId]:
    """List the learners that may vote, beginning with the one that has kept up for longest."""
    ready = [
        node for node in seen.learners if seen.seen[node].kept_up >= rules.stable_after and not seen.seen[node].leaves
    ]
    return sorted(ready, key=lambda node: (-seen.seen[node].kept_up, node))


def has_quorum(seen: Observation, voters: Collection[NodeId]) -> bool:
    """Check whether a quorum of these voters has answered within the last lease."""
    answered = sum(node == seen.leader or seen.seen[node].has_answered for node in voters)
    return 2 * answered > len(voters)


def _why_not_gone(seen: Seen, rules: Rules) -> str:
    if seen.is_static:
        return "it is named in PEERS"
    return f"it was absent from good DNS answers for {seen.absent:.0f} of {rules.dead_after:.0f} s"


def _others(seen: Observation) -> list[NodeId]:
    return [node for node in seen.voters if node != seen.leader]


def _fewest(seen: Observation, rules: Rules) -> int:
    return min(rules.min_voters, len(seen.voters))


def _ordered(nodes: Collection[NodeId]) -> tuple[NodeId, ...]:
    return tuple(sorted(nodes))
