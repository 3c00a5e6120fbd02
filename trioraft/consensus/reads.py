"""Linearizable reads through the read index (thesis 6.4), and by the lease where the cluster is set so (6.4.1).

The read index of a read is the commit index of the leader when the read was asked for. The leader answers the read at
that index once a quorum has answered a message that the leader *sent* after that. Then no other leader had been
elected when the read was asked for, so no later write can have been acknowledged. One round of heartbeats serves all
reads that were waiting when it began.

By the lease the leader answers at once, because no other leader is elected before the lease ends: a quorum has
promised that, on disk (:mod:`trioraft.consensus.lease`). The only votes that bypass a promise are votes for a
successor that this leader has chosen, and it chooses one only after it has given up its lease. So every write that
was acknowledged before the clock was read is a write of this leader or of one before it, and is not after its commit
index. For that, the clock must be read *after* the read was asked for; how long the answer takes from there does not
matter. A read by the lease depends on the rates of clocks, and a read by a round does not. If clocks differ by more
than the drift that leases allow for, or a clock stands still while others go on, a read by the lease may show the
past.

A setting of the cluster decides between the two. A leader goes by the lease only while its applied settings allow it,
all entries of earlier terms in its log are applied, and its log has no newer change of the settings. So a leader asks
a quorum again from the moment that a change of the settings is in its log, committed or not.
"""

from trioraft.clock import LONG_AGO, NEVER
from trioraft.consensus.append_entries import send_heartbeats
from trioraft.consensus.events import ReadFailed, ReadReady
from trioraft.consensus.lease import lease_end
from trioraft.consensus.state import Role, State, WaitingRead
from trioraft.messages import Instant


def start_read(s: State, read: int, now: Instant) -> None:
    """Begin a read; :class:`ReadReady` or :class:`ReadFailed` follows. `now` must be read after it was asked for."""
    if s.role is not Role.LEADER:
        s.events.append(ReadFailed(read=read))
        return
    if goes_by_lease(s) and now < lease_end(s):
        s.events.append(ReadReady(read=read, index=s.commit_index, by_lease=True))
        return
    s.reads.append(WaitingRead(read, now, s.commit_index))
    if s.read_round_at == LONG_AGO:
        start_round(s, now)


def goes_by_lease(s: State) -> bool:
    """Check whether reads go by the lease: the applied settings say so, and the log has no newer ones."""
    return s.reads_by_lease and s.applied_index >= max(s.opened_at, s.settings_at)


def start_round(s: State, now: Instant) -> None:
    """Begin a round of heartbeats for all reads that wait (thesis 6.4)."""
    s.read_round_at = now
    send_heartbeats(s, now)


def conclude_reads(s: State, now: Instant) -> None:
    """Answer the reads that a quorum has confirmed; fail all reads when this node does not lead any more."""
    if s.role is not Role.LEADER:
        s.events += [ReadFailed(read=waiting.read) for waiting in s.reads]
        s.reads.clear()
        s.read_round_at = LONG_AGO
        return
    if not s.reads or s.commit_index < s.opened_at:
        return  # before its no-op is committed, a leader does not know what else is committed (thesis 6.4)
    if s.confirmed.may_have_grown(s.configuration):
        confirmed = {node: follower.answered_sent_at for node, follower in s.followers.items()}
        s.confirmed.compute(s.configuration, {**confirmed, s.id: NEVER}, s.id)
    since = s.confirmed.value
    while s.reads and s.reads[0].asked_at <= since:
        waiting = s.reads.popleft()
        s.events.append(ReadReady(read=waiting.read, index=max(waiting.commit_index, s.opened_at)))
    if since >= s.read_round_at:
        s.read_round_at = LONG_AGO
        if s.reads:
            start_round(s, now)
