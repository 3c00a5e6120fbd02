"""Linearizable reads through the read index (thesis 6.4).

A leader answers a read at the commit index that it had when the read was asked for, once a quorum has answered a
message that it *sent* after that: then nobody else had been elected before, so no later write can have been
acknowledged. One round serves all reads that were waiting when it began.
"""

from trioraft.consensus.heartbeat import send_heartbeats
from trioraft.consensus.outbox import NEVER
from trioraft.consensus.state import LONG_AGO, ReadFailed, ReadReady, Role, State


def start_read(s: State, read: int, now: float) -> None:
    """Begin a read; :class:`ReadReady` or :class:`ReadFailed` follows."""
    if s.role is not Role.LEADER:
        s.events.append(ReadFailed(read=read))
        return
    s.reads.append((read, now, s.commit_index))
    if s.read_round_at == LONG_AGO:
        start_round(s, now)
    conclude_reads(s, now)


def start_round(s: State, now: float) -> None:
    """Ask a quorum, for all reads that wait."""
    s.read_round_at = now
    send_heartbeats(s, now)


def conclude_reads(s: State, now: float) -> None:
    """Answer the reads that are confirmed, and fail all when this node leads no more."""
    if s.role is not Role.LEADER:
        s.events += [ReadFailed(read=read) for read, *_ in s.reads]
        s.reads.clear()
        s.read_round_at = LONG_AGO
        return
    if not s.reads or s.commit_index < s.opened_at:
        return  # before its no-op is committed a leader does not know what is
    confirmed = {node: follower.answered_sent_at for node, follower in s.followers.items()}
    since = s.configuration.quorum_value({**confirmed, s.id: NEVER})
    s.events += [ReadReady(read=read, index=max(index, s.opened_at)) for read, at, index in s.reads if at <= since]
    s.reads = [waiting for waiting in s.reads if waiting[1] > since]
    if since >= s.read_round_at:
        s.read_round_at = LONG_AGO
        if s.reads:
            start_round(s, now)
