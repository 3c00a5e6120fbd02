"""Linearizable reads through the read index (thesis 6.4), and by the lease where the cluster wants that (6.4.1).

A leader answers a read at the commit index that it had when the read was asked for, once a quorum has answered a
message that it *sent* after that: then nobody else had been elected before, so no later write can have been
acknowledged. One round serves all reads that were waiting when it began.

By the lease it answers at once, because until the lease ends nobody else is elected: a quorum has promised it, on
disk (:mod:`trioraft.consensus.lease`), and the only votes that bypass promises are those for a successor that this
leader has chosen, which it does only after it has given up its lease. So every write that was acknowledged before the
clock was read is one of its own, or of a leader before it, and at its commit index. For that the clock must be read
*after* the read was asked for; how long the answer takes from there does not matter. That rests on the clocks' rates,
which the round does not: if they differ by more than the drift that leases allow for, or a clock stands still while
others go on, a read may show the past.

Which of the two it is, is a setting of the cluster. A leader goes by the lease only while its applied settings say
so, all of its log from earlier terms is applied, and no newer change of the settings is in its log: so from the
moment that a leader takes in a change, committed or not, it asks the quorum again.
"""

from trioraft.clock import LONG_AGO, NEVER
from trioraft.consensus.append_entries import send_heartbeats
from trioraft.consensus.events import ReadFailed, ReadReady
from trioraft.consensus.lease import lease_end
from trioraft.consensus.state import Role, State, WaitingRead
from trioraft.messages import Instant


def start_read(s: State, read: int, now: Instant) -> None:
    """Begin a read; :class:`ReadReady` or :class:`ReadFailed` follows. The time is from after it was asked for."""
    if s.role is not Role.LEADER:
        s.events.append(ReadFailed(read=read))
        return
    if goes_by_lease(s) and now < lease_end(s):
        s.events.append(ReadReady(read=read, index=s.commit_index, by_lease=True))
        return
    s.reads.append(WaitingRead(read, now, s.commit_index))
    if s.read_round_at == LONG_AGO:
        start_round(s, now)
    conclude_reads(s, now)


def goes_by_lease(s: State) -> bool:
    """Tell whether reads go by the lease: by the settings that are applied, with no newer ones in the log."""
    return s.reads_by_lease and s.applied_index >= max(s.opened_at, s.settings_at)


def start_round(s: State, now: Instant) -> None:
    """Ask a quorum, for all reads that wait."""
    s.read_round_at = now
    send_heartbeats(s, now)


def conclude_reads(s: State, now: Instant) -> None:
    """Answer the reads that are confirmed, and fail all when this node leads no more."""
    if s.role is not Role.LEADER:
        s.events += [ReadFailed(read=waiting.read) for waiting in s.reads]
        s.reads.clear()
        s.read_round_at = LONG_AGO
        return
    if not s.reads or s.commit_index < s.opened_at:
        return  # before its no-op is committed a leader does not know what is
    confirmed = {node: follower.answered_sent_at for node, follower in s.followers.items()}
    since = s.configuration.quorum_value({**confirmed, s.id: NEVER})
    s.events += [
        ReadReady(read=waiting.read, index=max(waiting.commit_index, s.opened_at))
        for waiting in s.reads
        if waiting.asked_at <= since
    ]
    s.reads = [waiting for waiting in s.reads if waiting.asked_at > since]
    if since >= s.read_round_at:
        s.read_round_at = LONG_AGO
        if s.reads:
            start_round(s, now)
