"""The end of a leadership that ended with its process: the node says so when it is started again.

The voters have promised the leader of a term to vote for nobody else for a while, and they remember for how long its
work may still run. Both guess at what a process may do of which nothing is heard. A node that is started again in the
place of that process (:mod:`trioraft.storage.place`) holds the lock that the process held, and so knows:

* The process has ended, and with it its lease, its reads by that lease, and the bodies of its program. The node leads
  that term no more: a later leadership of its own has a later term. So a voter whose newest leader this was is free
  to vote.
* Once the node's supervisor holds both locks of the work file, the scripts have ended too, and so all work of that
  term. If the process had waited until all work of *earlier* terms had ended, which is on disk before it can be said,
  then *work of that term and of all terms before has ended*. That is true from then on for ever, so it does no harm
  when it is heard late, or twice.

A voter whose newest claim is of that node and that term drops the claim. It is on disk before its next vote leaves.
A claim of any other term stays: what has ended in one term says nothing about work of a later one, and the claim of
an earlier one needs no haste. A leader that waits for what was claimed in that term, or before, waits no longer.
Nobody else can say this for the node: its messages come over its own handshake, and a voter compares the sender with
the node whose claim it remembers, or whose claim it remembered before it led itself.

A copy of a node's directory has another lock, a host that was started again has another kernel, and a process that
was put back to an earlier release has forgotten the place. Then nothing is said, and time decides as ever.
"""

import msgspec

from trioraft.clock import LONG_AGO, NEVER
from trioraft.consensus.leader_work import work_is_over
from trioraft.consensus.roles import retry_soon
from trioraft.consensus.state import Ending, Role, State
from trioraft.messages import Instant, LeadershipEnded, NodeId, Term
from trioraft.versions import ENDS_FROM


def resume_ending(s: State, now: Instant) -> None:
    """Find out at the start whether this node led when its process ended here, and lead no more if so.

    The others may be elected first: whatever has ended the process may do so again.
    """
    kept = s.hard
    if not s.place or (kept.work_of, kept.work_place) != (s.id, s.place):
        return
    s.ending = Ending(term=kept.work_term, alone=kept.work_alone, until=max(s.work_until, s.refuse_until))
    if may_tell(s):
        s.refuse_until = min(s.refuse_until, now)
        retry_soon(s, now)
        s.election_deadline += s.timing.heartbeat


def may_tell(s: State) -> bool:
    """Check whether every member understands what this node has to say."""
    return s.configuration.version >= ENDS_FROM


def tell_at(s: State) -> Instant:
    """Compute, for the timer, when the voters must be told again; infinity when there is nothing to tell."""
    ending = s.ending
    return ending.tell_at if ending is not None and ending.tell_at < ending.until and may_tell(s) else NEVER


def tell_at_once(s: State) -> None:
    """Tell the voters now, because there is news or somebody new to tell."""
    if s.ending is not None:
        s.ending.tell_at = LONG_AGO
        s.ending.pause = 0.0


def tell_voters(s: State, now: Instant) -> None:
    """Tell all voters, again and again until what they remember has passed in any case; no answer is needed."""
    ending = s.ending
    if ending is None or now < tell_at(s):
        return
    ending.pause = min(max(2 * ending.pause, s.timing.resend(0.0)), s.timing.heartbeat)
    ending.tell_at = now + ending.pause
    for node in s.other_electors:
        s.ledger.send(node, LeadershipEnded(term=ending.term, work_ended=ending.work_ended))


def scripts_ended(s: State, now: Instant) -> None:
    """Note that no script of an earlier process of this node is left."""
    ending = s.ending
    if ending is None or ending.work_ended or not ending.alone or not may_tell(s):
        return
    ending.work_ended = True
    note_ending(s, s.id, LeadershipEnded(ending.term, work_ended=True), now)
    tell_at_once(s)


def handle_leadership_ended(s: State, sender: NodeId, message: LeadershipEnded, now: Instant) -> None:
    """Vote again, and drop the claim, if this leadership is the newest that this node knows of."""
    note_ending(s, sender, message, now)


def note_ending(s: State, node: NodeId, message: LeadershipEnded, now: Instant) -> None:
    """Note the end of a leadership by the node that had it."""
    if (message.term, node) == (s.work_term, s.work_of):
        be_free(s, node, now)
        if message.work_ended:
            drop_claim(s, now)
    elif message.work_ended and waits_for(s, message.term, node):
        work_is_over(s, message.term, now)


def waits_for(s: State, term: Term, node: NodeId) -> bool:
    """Check whether this node leads, and the newest leadership that it knew of before its own was that one."""
    return s.role is Role.LEADER and s.earlier is not None and (s.earlier.term, s.earlier.of) == (term, node)


def be_free(s: State, leader: NodeId, now: Instant) -> None:
    """Keep no promise to a leader that leads no more: it was the newest, and those before it are deposed."""
    if now >= s.refuse_until and s.leader != leader:
        return  # it was heard before
    s.refuse_until = min(s.refuse_until, now)
    if s.role is Role.FOLLOWER and s.leader in {0, leader}:
        s.leader = 0
        retry_soon(s, now)


def drop_claim(s: State, now: Instant) -> None:
    """Forget the newest claim of leader work: all of it has ended."""
    work_is_over(s, s.work_term, now)
    s.work_until = min(s.work_until, now)
    if s.hard.work:
        s.ledger.persist(msgspec.structs.replace(s.hard, work=0.0))
