"""Decides who joins, who votes and who is gone (the idea is Consul's autopilot).

The leader looks at its members and at the nodes that discovery has found, and makes at most one change at a time:

1. A node of the same service that has no cluster joins as a learner. One that nobody but itself has named, neither
   DNS nor ``PEERS``, waits while :data:`INTRODUCED_MAX` others of that kind do not keep up: whoever makes nodes up
   does not fill the cluster with them.
2. A learner that has kept up for a while becomes a voter, where that makes the cluster survive more: the number of
   voters is kept odd, and at most ``max_voters``; a cluster that was formed with more has them learn on. Two
   learners are promoted together.
3. A member is *gone* when it was silent, and meanwhile absent from good DNS answers, for ``dead_after``. A gone voter
   is replaced by a learner in one change, or removed; the number of voters never falls below ``min_voters``, or the
   number there is. Gone learners are removed. Where nobody asks DNS, a learner is gone that was silent for so long
   and that ``PEERS`` does not name.

A member that is about to stop may ask to be removed (``LEAVE_ON_STOP``); the same rules say whether it is.

Nothing here does anything: :class:`Presence` judges answers of DNS, :func:`decide` judges what the leader has seen.
Both are pure, so that every reason can be tested.
"""

from collections.abc import Collection, Mapping
from typing import Final

from msgspec import Struct

from trioraft.address import Address
from trioraft.clock import LONG_AGO
from trioraft.messages import MEMBERS_MAX, format_id

# So many learners may not keep up at a time that nobody has named but they themselves.
INTRODUCED_MAX: Final = 3


# --- who is absent ------------------------------------------------------------------------------------------


class Presence:
    """For how long members have been absent from good answers of DNS.

    Only an answer counts that is complete and successful, and names addresses of a quorum of the voters: whatever
    answers otherwise does not know the service. The time between two good answers in a row, both without a member,
    is the time of its absence; a look-up that fails adds nothing and takes nothing away. A member that speaks is
    there, whatever DNS said before: its absence is counted anew. It is where it was last heard: one that moves while
    it cannot be heard is absent, for nobody can tell whose the new address is.
    """

    def __init__(self) -> None:
        self._absent: dict[int, float] = {}
        self._good_at = LONG_AGO
        self._missing: frozenset[int] = frozenset()

    def absence(self, node: int) -> float:
        """Tell for how long a member has certainly been absent.

        Parameters
        ----------
        node : int
            The member.

        Returns
        -------
        float
            Seconds.
        """
        return self._absent.get(node, 0.0)

    def spoke(self, node: int) -> None:
        """Take in that a member has just spoken: what DNS said before does not count any more.

        Parameters
        ----------
        node : int
            The member.
        """
        self._absent.pop(node, None)
        self._missing -= {node}

    def unknown(self) -> None:
        """Take in a look-up that failed, or whose answer is not complete."""
        self._good_at = LONG_AGO

    def answered(
        self,
        found: frozenset[Address],
        heard: Mapping[int, tuple[Address, float]],
        voters: Collection[int],
        members: Collection[int],
        now: float,
    ) -> None:
        """Take in a complete answer.

        Parameters
        ----------
        found : frozenset of Address
            The addresses in it.
        heard : mapping of int to tuple of Address and float
            Where each node, member or not, was last heard, and when; this node too.
        voters, members : collection of int
            The voters, and all members.
        now : float
            The time in seconds.
        """
        owners = {address: node for node, (address, _) in sorted(heard.items(), key=lambda known: known[1][1])}
        present = {node for address, node in owners.items() if address in found}
        if 2 * len(present & {*voters}) <= len(voters):
            self.unknown()
            return
        has_stranger = not found <= owners.keys()
        # One that was never heard here may be behind an address at which nobody was.
        missing = (
            frozenset(members) - present - (frozenset() if not has_stranger else frozenset(members) - heard.keys())
        )
        elapsed = now - self._good_at if self._good_at != LONG_AGO else 0.0
        self._absent = {
            node: self._absent.get(node, 0.0) + (elapsed if node in self._missing else 0.0) for node in missing
        }
        self._good_at, self._missing = now, missing


# --- what to do ---------------------------------------------------------------------------------------------


class Rules(Struct, frozen=True):
    """What the leader goes by.

    Attributes
    ----------
    dead_after : float
        For how long a member is silent and absent before it is gone, in seconds.
    stable_after : float
        For how long a learner has to keep up before it votes, in seconds.
    min_voters, max_voters : int
        How many voters there are at least and at most.
    """

    dead_after: float = 60.0
    stable_after: float = 1.0
    min_voters: int = 3
    max_voters: int = 7


class Seen(Struct, frozen=True):
    """What the leader has seen of one node.

    Attributes
    ----------
    name : str
        What people call it.
    silent : float
        For how long nothing was heard of it, in seconds.
    absent : float
        For how long it has certainly been absent from DNS, in seconds.
    is_static : bool
        Whether it is named in ``PEERS``; then it is never absent.
    kept_up : float
        For how long it has had all but the newest entries, in seconds; negative when it lags.
    has_answered : bool
        Whether it has answered within the last lease.
    leaves : bool
        Whether it is about to stop, and has asked to be removed.
    """

    name: str = ""
    silent: float = 0.0
    absent: float = 0.0
    is_static: bool = False
    kept_up: float = -1.0
    has_answered: bool = True
    leaves: bool = False


class Observation(Struct, frozen=True):
    """What a leader decides by.

    Attributes
    ----------
    leader : int
        The leader itself.
    voters, learners : tuple of int
        The configuration in force.
    seen : mapping of int to Seen
        What was seen of each member but the leader, and of each node that waits to be joined.
    waiting : tuple of int
        The nodes of the service, with the cluster's key, that have no cluster.
    named_by_others : frozenset of int
        Those of the learners, and of who waits, that DNS or ``PEERS`` has at the address where they were heard.
    """

    leader: int
    voters: tuple[int, ...]
    learners: tuple[int, ...]
    seen: dict[int, Seen]
    waiting: tuple[int, ...] = ()
    named_by_others: frozenset[int] = frozenset()

    def named(self, node: int) -> str:
        """Give a node's name and id, for people."""
        name = self.seen[node].name if node in self.seen else ""
        return f"{name} ({format_id(node)})" if name else format_id(node)


class Change(Struct, frozen=True):
    """One change of the members.

    Attributes
    ----------
    voters, learners : tuple of int
        Who votes and who learns from then on.
    reason : str
        Why, in one line.
    """

    voters: tuple[int, ...]
    learners: tuple[int, ...]
    reason: str


class Decision(Struct, frozen=True):
    """What is to be done, and what is not.

    Attributes
    ----------
    change : Change or None
        The change to make.
    declined : tuple of str
        What is not done although one might expect it, each with its reason.
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
        What it goes by.

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
    """Let nodes without a cluster join as learners: those first that others have named, and few of the others."""
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
    """Tell whether a member is gone: silent and absent for long enough."""
    return not seen.is_static and min(seen.silent, seen.absent) >= rules.dead_after


def replace_gone_voter(seen: Observation, rules: Rules, declined: list[str]) -> Change | None:
    """Remove one voter that is gone, and put a learner in its place if there is one that keeps up."""
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
    """Make learners voters that keep up, as far as that makes the cluster survive more failures."""
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
    """Take the vote from voters beyond the most, and from one where an even number survives no more than one less."""
    count = len(seen.voters)
    wanted = min(count, max(rules.max_voters, rules.min_voters))
    if wanted % 2 == 0 and wanted > max(2, rules.min_voters):
        wanted -= 1
    if wanted == count:
        return None
    # Whoever leaves anyhow, or answers least; it goes on learning and can take over.
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
    """Why a member is not removed that is about to stop.

    Attributes
    ----------
    reason : str
        Why, in one line.
    for_now : bool
        Whether it may ask again in a moment.
    """

    reason: str
    for_now: bool


def leave(seen: Observation, node: int, rules: Rules) -> Change | Declined:
    """Choose the change by which a member leaves that is about to stop.

    Parameters
    ----------
    seen : Observation
        What the leader knows, while no change is under way.
    node : int
        The member that leaves.
    rules : Rules
        What the leader goes by.

    Returns
    -------
    Change or Declined
        The change, or why there is none.
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


def ready_learners(seen: Observation, rules: Rules) -> list[int]:
    """List the learners that may vote, those that have kept up for longest first."""
    ready = [
        node for node in seen.learners if seen.seen[node].kept_up >= rules.stable_after and not seen.seen[node].leaves
    ]
    return sorted(ready, key=lambda node: (-seen.seen[node].kept_up, node))


def has_quorum(seen: Observation, voters: Collection[int]) -> bool:
    """Tell whether a quorum of some voters has answered within the last lease."""
    answered = sum(node == seen.leader or seen.seen[node].has_answered for node in voters)
    return 2 * answered > len(voters)


def _why_not_gone(seen: Seen, rules: Rules) -> str:
    if seen.is_static:
        return "it is named in PEERS"
    return f"it was absent from good DNS answers for {seen.absent:.0f} of {rules.dead_after:.0f} s"


def _others(seen: Observation) -> list[int]:
    return [node for node in seen.voters if node != seen.leader]


def _fewest(seen: Observation, rules: Rules) -> int:
    return min(rules.min_voters, len(seen.voters))


def _ordered(nodes: Collection[int]) -> tuple[int, ...]:
    return tuple(sorted(nodes))
