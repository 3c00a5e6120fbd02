"""Hints: an error of the network that says that no process has the leader's port any more.

When a process dies, its kernel answers the next datagram to its port with an error. The datagram layer decides which
errors are evidence (:mod:`trioraft.datagrams.evidence`): the error must quote a datagram that this node has sent to
the leader since it last heard from it. With such evidence a follower does not wait for the election timeout. It asks
for pre-votes at once; the followers that may have the evidence at the same time begin one after the other, in the
order of their ids.

Somebody must send something to the dead port. A follower sends a :class:`~trioraft.messages.Probe` when it has heard
nothing from the leader for a little longer than a heartbeat interval; and much earlier while somebody waits for the
leader, as a client that asks this node, or this node's own program. A leader that is alive answers with a heartbeat.

Why no hint does harm
---------------------
Votes and terms are safe whenever elections begin (Raft, section 5.4), so a hint can only do what a short election
timeout does. That leaves the promises of :mod:`trioraft.consensus.lease`, by which a node that heard from a leader
refuses its vote to others. Three things depend on them:

*The leader is not disturbed.* A voter that is asked takes nobody's word for it. Its promise ends early only on an
error of its own, after a probe of its own; silence ends no promise before its time. So an election before that time
takes errors at a quorum. Anything that a node hears from the leader after that cancels its error: a voter refuses
then, and a node that has begun a pre-vote gives it up.

*Reads by the lease.* They must not see another leader elected while a quorum's promises last, whatever the network
says. So a promise either *excludes hints* or may end by one, and each answer to the leader says which
(:attr:`~trioraft.messages.AppendEntriesResponse.until_hint`). `proof_until` is the end of the longest promise that
excludes hints, and no hint makes a node vote before it. A leader counts only such promises for reads
(:func:`trioraft.consensus.lease.read_lease_end`). This argument needs nothing of when a voter excludes hints; only
how soon a leader may read by its lease depends on that. A voter does so while its applied settings let reads go by
the lease, and while its log has a change of the settings that is not applied: from the moment when the setting is in
its log, committed or not, until a later one is committed. A promise that is resumed after a restart excludes hints,
because it may be one that was counted. A promise of an older version excludes them too, because such a node knows of
none: an answer without the field says so.

*Leader work.* It does not depend on promises. A new leader waits for as long as the voters remember that earlier work
may run (:mod:`trioraft.consensus.leader_work`), however early it was elected.

Nothing of this is used while the cluster speaks an older version of the protocol.
"""

from typing import Final

from trioraft.clock import NEVER
from trioraft.consensus.ledger import After
from trioraft.consensus.state import Role, State
from trioraft.messages import Instant, NodeId, PreVoteRequest, Probe, Seconds, VoteRequest
from trioraft.versions import HINTS_FROM

# For how many heartbeat intervals a leader may be silent before it is probed, and for how many seconds while somebody
# waits for it.
_SILENT_INTERVALS: Final = 1.25
_SILENT_SECONDS: Final = 0.02
# How long after a request somebody may wait for its answer, in seconds: until the request is sent again.
_WAITS: Final = 0.16
# How often the pause between two probes is doubled. A kernel sends few of these errors to one receiver, so more
# probes would lead to no more of them.
_DOUBLINGS_MAX: Final = 6
_NUMBER_BITS: Final = 62
# The least time between the pre-votes of two followers that have the same evidence, in seconds.
_APART: Final = 0.002


# --- what is known of the leader ----------------------------------------------------------------------------


def may_use(s: State) -> bool:
    """Check whether every member knows of hints."""
    return s.configuration.version >= HINTS_FROM


def excludes_hints(s: State) -> bool:
    """Check whether a promise that is made now must hold whatever hints say."""
    return not may_use(s) or s.reads_by_lease or s.log.settings_index > s.applied_index


def note_gone(s: State, node: NodeId, now: Instant) -> None:
    """Take in evidence about a node's port: if it is that of the leader, begin a pre-vote soon."""
    if node != s.promised_to or s.role is Role.LEADER or not may_use(s):
        return
    s.is_gone = True
    if now >= s.last_choice_until:
        s.hinted_at = max(now + turn(s), min(s.proof_until, s.refuse_until))


def turn(s: State) -> Seconds:
    """Compute after how many seconds it is this node's turn, among all that may have the evidence, to begin."""
    rank = sum(node < s.id for node in s.configuration.electors if node != s.promised_to)
    return rank * max([_APART, *(2 * s.round_trips.get(node, 0.0) for node in s.other_electors)])


def give_way(s: State, now: Instant) -> None:
    """Let another node, which was granted a pre-vote, win before this one begins."""
    if s.hinted_at < NEVER:
        s.hinted_at = max(s.hinted_at, now + s.timing.heartbeat / 5)


def promise_to(s: State, leader: NodeId, now: Instant) -> None:
    """Note to which leader the promise is given that comes next."""
    if s.promised_to != leader:
        s.promised_to = leader
        s.asked.clear()
        hear(s, now)


def hear(s: State, now: Instant) -> None:
    """Note that something was heard from the leader: no earlier evidence counts any more."""
    s.heard_at = now
    s.probes = 0
    s.hinted_at = NEVER
    if s.is_gone:
        s.is_gone = False
        s.election_deadline = max(s.election_deadline, s.refuse_until)


# --- probes -------------------------------------------------------------------------------------------------


def probe(s: State, now: Instant) -> None:
    """Send the leader something that it answers, or its kernel."""
    s.probed_at = now
    s.probes += 1
    s.ledger.send(s.promised_to, Probe(term=s.term, number=s.random.getrandbits(_NUMBER_BITS)), After.NOTHING)


def somebody_waits(s: State, now: Instant) -> None:
    """Note that a client, or this node's own program, waits for the leader."""
    s.awaited_until = now + _WAITS


def probe_at(s: State) -> Instant:
    """Compute, for the timer, when the leader is probed unless it is heard before; infinity where it need not be."""
    is_known = s.leader == s.promised_to != 0
    if s.role is not Role.FOLLOWER or not is_known or s.is_gone or not may_use(s):
        return NEVER
    silent = _SILENT_INTERVALS * s.timing.heartbeat
    if s.probes:
        pause = min(silent, _SILENT_SECONDS) * float(2 ** min(s.probes, _DOUBLINGS_MAX))
        return s.probed_at + min(pause, silent)
    soon = max(s.heard_at + min(silent, _SILENT_SECONDS), s.awaited_until - _WAITS)
    return soon if soon <= s.awaited_until else s.heard_at + silent


# --- a voter that is asked ----------------------------------------------------------------------------------


def waits_for_error(s: State, sender: NodeId, request: PreVoteRequest | VoteRequest, now: Instant) -> bool:
    """Check whether an error of this node's own may still end the promise that forbids an answer it would give.

    Then the question waits, and the leader is probed. The question is answered when the error is there, or when the
    leader is heard; else it is asked again.
    """
    if s.role is Role.LEADER or sender == s.promised_to or s.is_gone or not may_use(s):
        return False
    if not s.proof_until <= now < s.refuse_until or s.heard_at >= now:
        return False
    s.asked[sender] = request
    probe(s, now)
    return True
