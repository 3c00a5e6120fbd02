"""Changes of the members, through the log (Raft, section 6; thesis, chapter 4).

A configuration is in force as soon as its entry is in the log, and until the entry is removed from the log again
(thesis 4.1). Each such entry holds a whole configuration. The leader appends one change at a time, and only after it
has committed an entry of its own term:

* Learners come and go with one entry, because they do not count for a majority (thesis 4.2.1).
* Every change of the voters is *joint* (section 6). First comes an entry with the old voters and the new ones: every
  decision needs a majority of both. Once that entry is committed, and not before, an entry with the new voters alone
  follows. A leader that finds a committed joint configuration in its log completes the change, whichever leader began
  it.

Only a learner that keeps up becomes a voter, and only when a quorum of the new voters has just answered. So a change
takes about two round trips, and never stops the cluster from committing.

*Leases and leader work* stay safe across a change. Suppose that a leader has a lease, or that its work may run, until
X, because a majority of the old voters has promised it. A leader that is elected while the change is joint needs the
vote of one of that majority. A leader that is elected by the new voters alone comes after the joint entry is
committed. So a majority of the new voters had taken the joint entry, in a message that the old leader sent no earlier
than it appended the entry. Like every AppendEntries, that message was answered with a promise, and claimed how long
leader work may still run, counted from then. At least one of that majority votes in the election of the new leader.

*A removed node* still gets the entry that removes it, and learns that the entry is committed, before the leader stops
sending to it. If it missed them, the leader sends them when it next asks for pre-votes. It cannot disturb the others
meanwhile (thesis 4.2.3): they refuse its pre-votes and its requests for votes while they hear from a leader, and
afterwards because its log is older than that of a quorum. A leader that removes itself leads on without counting
itself until the entry is committed (thesis 4.2.2), and then transfers its leadership to a voter.
"""

from collections.abc import Collection, Mapping

import msgspec

from trioraft.clock import NEVER
from trioraft.consensus.configuration import DEPARTED_MAX, Configuration, encode_configuration
from trioraft.consensus.events import ConfigurationChanged, Removed
from trioraft.consensus.lease import promises
from trioraft.consensus.progress import add_follower, is_current, release_follower
from trioraft.consensus.roles import become_follower
from trioraft.consensus.state import ALL, Role, State, ToldConfiguration, Work
from trioraft.consensus.transfer import start_transfer
from trioraft.messages import MEMBERS_MAX, Entry, EntryKind, Instant, NodeId, Version, format_id

# --- the leader ---------------------------------------------------------------------------------------------


def change_members(
    s: State, voters: Collection[NodeId], learners: Collection[NodeId], names: Mapping[NodeId, str], now: Instant
) -> str | None:
    """Begin to change the members to the given ones; return the reason if that is impossible."""
    was = s.configuration
    leaving = [node for node in was.members if node not in {*voters, *learners}]
    target = Configuration(
        voters=tuple(sorted(set(voters))),
        learners=tuple(sorted(set(learners))),
        names=tuple(sorted(_names(s, {*voters, *learners}, names).items())),
        departed=(*was.departed, *leaving)[-DEPARTED_MAX:],
        version=was.version,
    )
    refusal = why_not_now(s) or why_not(target, was)
    if refusal is not None:
        return refusal
    if target.voters != was.voters:
        refusal = why_not_voters(s, target, now)
        if refusal is not None:
            return refusal
        target = msgspec.structs.replace(target, old_voters=was.voters)
    append_configuration(s, target, now)
    return None


def _names(s: State, members: set[NodeId], names: Mapping[NodeId, str]) -> dict[NodeId, str]:
    known = {**dict(s.configuration.names), **names}
    return {node: known[node] for node in members if known.get(node)}


def why_not_now(s: State) -> str | None:
    """Return why this node cannot begin any change now; None if it can."""
    if s.role is not Role.LEADER:
        return "this node is not the leader"
    if s.handover is not None:
        return "leadership is being given to another node"
    if s.commit_index < s.opened_at:
        return "the leader has not committed an entry of its term yet; try again in a moment"
    if s.configuration.is_joint or s.log.configuration_index > s.commit_index:
        return "another change of the members is under way; try again in a moment"
    return None


def why_not(target: Configuration, was: Configuration) -> str | None:
    """Return why a configuration can never follow another one; None if it can."""
    if not target.voters:
        return "a cluster needs a voter"
    back = set(target.members) & set(was.departed)
    if back:
        return f"node {format_id(min(back))} was removed; start it again, and it joins as another one"
    both = set(target.voters) & set(target.learners)
    if both:
        return f"node {format_id(min(both))} cannot be a voter and a learner at once"
    if len(target.members) > MEMBERS_MAX or len(set(target.voters) | set(was.voters)) > MEMBERS_MAX:
        return f"a cluster has at most {MEMBERS_MAX} members"
    if (target.voters, target.learners) == (was.voters, was.learners):
        return "the members are these already"
    return None


def why_not_voters(s: State, target: Configuration, now: Instant) -> str | None:
    """Return why the voters cannot become these now (one lags, or no quorum of them is there); None if they can."""
    for node in target.voters:
        if node in s.configuration.voters:
            continue
        if node not in s.configuration.learners:
            return f"node {format_id(node)} is not a learner; add it as one first"
        if not is_current(s, node, now):
            return f"learner {format_id(node)} has not caught up with the leader"
    if target.quorum_value(promises(s)) <= now:
        return "too few of the voters that there would be have answered within a lower election timeout"
    return None


def append_configuration(s: State, configuration: Configuration, now: Instant) -> None:
    """Append a configuration, which is in force from now on; its entry goes to its members, and to removed nodes."""
    entry = Entry(term=s.term, kind=EntryKind.CONFIGURATION, data=encode_configuration(configuration))
    s.ledger.append(entry)
    members = {*configuration.members} - {s.id}
    for node, follower in s.followers.items():
        if node in members:
            follower.leaves_at, follower.last_needed = NEVER, ALL
        else:
            release_follower(s, node, now)
    for node in sorted(members - s.followers.keys()):
        add_follower(s, node, now)


def raise_version(s: State, highest: Mapping[NodeId, Version], now: Instant) -> None:
    """Raise the cluster's version to the highest one that every member has shown to speak, if that is higher."""
    version = min(highest.get(node, 0) for node in s.configuration.members)
    if version > s.configuration.version and why_not_now(s) is None:
        append_configuration(s, msgspec.structs.replace(s.configuration, version=version), now)


def drive_change(s: State, now: Instant) -> None:
    """Complete a joint change once it is committed; give leadership away once this leader is removed."""
    configuration = s.configuration
    if s.role is not Role.LEADER or not (configuration.is_joint or s.id not in configuration.voters):
        return
    if s.handover is not None or s.commit_index < max(s.opened_at, s.log.configuration_index):
        return
    if configuration.is_joint:
        append_configuration(s, msgspec.structs.replace(configuration, old_voters=()), now)
    elif start_transfer(s, 0, now) is not None:
        become_follower(s, s.term, now, "this node is no voter any more")


def tell_departed(s: State, node: NodeId, now: Instant) -> None:
    """Send the log for a while to a node of this cluster that is no member: it must have missed its removal."""
    if s.role is Role.LEADER and node not in s.configuration.members and node not in s.followers and node != s.id:
        add_follower(s, node, now)
        release_follower(s, node, now)


# --- every member -------------------------------------------------------------------------------------------


def note_configuration(s: State, now: Instant) -> None:
    """Report when another configuration is in force, or this one is committed, and when this node is removed."""
    log = s.log
    committed = log.configuration_index <= s.commit_index
    told = s.told
    if (
        told is None
        or told.since != log.configuration_index
        or told.configuration is not log.configuration
        or told.committed != committed
    ):
        s.told = ToldConfiguration(log.configuration_index, log.configuration, committed)
        s.settled_at = now if committed else NEVER
        note_committed(s)
        s.events.append(ConfigurationChanged(log.configuration, committed))
    if s.departed and not s.hard.removed and s.role is not Role.LEADER and s.own_work is Work.NONE:
        s.ledger.persist(msgspec.structs.replace(s.hard, removed=True))
        s.events.append(Removed(while_away=not s.caught_up))


def note_committed(s: State) -> None:
    """Note, from the committed configurations, whether this node was a member and is none any more."""
    for since, configuration in s.log.configurations_since(s.seen_committed):
        if since > s.commit_index:
            break
        note_membership(s, configuration)
    s.seen_committed = s.commit_index


def note_membership(s: State, configuration: Configuration) -> None:
    """Note the same from one committed configuration."""
    is_member = s.id in configuration.members
    s.departed = s.was_member and not is_member and bool(configuration.voters)
    s.was_member = s.was_member or is_member
