"""Changes of the members, through the log (Raft, section 6; thesis, chapter 4).

A configuration is in force as soon as it is in the log, and no more when its entry is cut off. Each entry holds it
whole. The leader appends one change at a time, after it has committed an entry of its own term:

* Learners come and go with one entry, for they do not count.
* Any change of the voters is *joint*: first an entry with the old and the new ones, of both of which every decision
  needs a majority; when it is committed, and only then, an entry with the new ones alone. A leader that finds a
  committed joint configuration in its log goes on with it, whoever began it.

A node becomes a voter only as a learner that keeps up, and only when a quorum of the new voters has just answered,
so a change takes about two round trips and never stops the cluster from committing.

*Leases and leader work* outlast a change. Let a leader have a lease, or let its work run, until X by the word of a
majority of the old voters. Whoever is elected while the change is joint needs one of them. Whoever is elected by the
new voters alone has the joint entry committed before; so a majority of the new voters took it in a message that the
leader sent no earlier than it appended the entry, and such a message, like each of them, takes a promise and tells
for how long leader work may still run, counted from then. One of that majority votes in that election.

*Who is removed* still gets the entry that says so, and the word that it is committed, before the leader stops
sending to it. Should it have missed them, its next question brings them. It cannot disturb the others meanwhile:
they refuse its pre-votes and its votes while they hear from a leader, and afterwards because its log is older than
that of a quorum. A leader that removes itself leads on without counting itself, until the entry is committed, and
gives its leadership to a voter then.
"""

from collections.abc import Collection, Mapping

import msgspec

from trioraft.clock import NEVER
from trioraft.consensus.configuration import DEPARTED_MAX, Configuration, encode_configuration
from trioraft.consensus.events import ConfigurationChanged, Removed
from trioraft.consensus.lease import contact_end
from trioraft.consensus.progress import is_current, new_follower
from trioraft.consensus.roles import become_follower
from trioraft.consensus.state import Role, State, ToldConfiguration, Work
from trioraft.consensus.transfer import start_transfer
from trioraft.messages import MEMBERS_MAX, Entry, EntryKind, Instant, NodeId, Version, format_id

# --- the leader ---------------------------------------------------------------------------------------------


def change_members(
    s: State, voters: Collection[NodeId], learners: Collection[NodeId], names: Mapping[NodeId, str], now: Instant
) -> str | None:
    """Begin to change the members to the given ones; give the reason if it cannot be."""
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
    """Tell why this node cannot begin any change now."""
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
    """Tell why a configuration can never follow another one."""
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
    """Tell why the voters cannot become these now: a new one lags, or no quorum of them is there."""
    for node in target.voters:
        if node in s.configuration.voters:
            continue
        if node not in s.configuration.learners:
            return f"node {format_id(node)} is not a learner; add it as one first"
        if not is_current(s, node, now):
            return f"learner {format_id(node)} has not caught up with the leader"
    if contact_end(s, target) <= now:
        return "too few of the voters that there would be have answered within a lower election timeout"
    return None


def append_configuration(s: State, configuration: Configuration, now: Instant) -> None:
    """Append a configuration, which is in force from now on; send to the members, and to who is none any more."""
    entry = Entry(term=s.term, kind=EntryKind.CONFIGURATION, data=encode_configuration(configuration))
    s.ledger.append(entry)
    members = {*configuration.members} - {s.id}
    for node, follower in s.followers.items():
        follower.leaves_at = NEVER if node in members else min(follower.leaves_at, now + s.timing.upper)
    for node in sorted(members - s.followers.keys()):
        s.followers[node] = new_follower(s, now)


def raise_version(s: State, highest: Mapping[NodeId, Version], now: Instant) -> None:
    """Let the cluster speak the highest version that every member has shown to speak, if that is a higher one."""
    version = min(highest.get(node, 0) for node in s.configuration.members)
    if version > s.configuration.version and why_not_now(s) is None:
        append_configuration(s, msgspec.structs.replace(s.configuration, version=version), now)


def drive_change(s: State, now: Instant) -> None:
    """Complete a joint change once it is committed; step down once this leader's own removal is."""
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
    """Send to a node of the same cluster that is no member what it must have missed, for a while."""
    if s.role is Role.LEADER and node not in s.configuration.members and node not in s.followers and node != s.id:
        s.followers[node] = new_follower(s, now, leaves_at=now + s.timing.upper)


# --- every member -------------------------------------------------------------------------------------------


def note_configuration(s: State, now: Instant) -> None:
    """Tell the program around when another configuration is in force, or this one is committed."""
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
    """Find out, from the configurations that are committed, whether this node was a member and is none any more."""
    for since, configuration in s.log.configurations_since(s.seen_committed):
        if since > s.commit_index:
            break
        note_membership(s, configuration)
    s.seen_committed = s.commit_index


def note_membership(s: State, configuration: Configuration) -> None:
    """Find out the same from one configuration that is committed."""
    is_member = s.id in configuration.members
    s.departed = s.was_member and not is_member and bool(configuration.voters)
    s.was_member = s.was_member or is_member
