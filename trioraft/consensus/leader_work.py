"""Leader work: it has ended before any other node starts leader work.

A leader's work (its script, and the bodies of its program) may run while the lease lasts, and is then told to end. It
has ended ``stop_grace + WORK_MARGIN`` later, because a supervisor kills what is left. So each AppendEntries carries a
*claim*: how long after it leader work may still run at most, which is the longest lease that it can give, the grace,
and the margin. A voter counts the newest claim from when it *received* it, which is later than when it was sent. It
keeps the length of the claim on disk, and behaves after a restart as if the claim had come just then.

Why no two intervals of leader work overlap: the leader of term T runs work only until a time that a quorum of voters
has acknowledged and remembers. The quorum that elects the leader of a later term has a voter in common with that one,
and this voter's vote tells how much of the time remains. The new leader waits for the largest remainder, translated
to its own clock; and while it waits, its own messages claim at least that remainder. A claim of 0 says that all work
of this term *and of all terms before* has ended. Only a leader whose own wait is over, and whose work has ended, can
claim that. A leader whose process was killed can say as much when it is started again
(:mod:`trioraft.consensus.endings`).
"""

from typing import Final

import msgspec

from trioraft.clock import LONG_AGO, NEVER
from trioraft.consensus.events import EndWork, ExtendWork, StartWork
from trioraft.consensus.lease import lease_end
from trioraft.consensus.state import Earlier, EarlierWork, Role, Round, State, Work
from trioraft.consensus.timing import WORK_MARGIN, here
from trioraft.messages import Instant, Seconds, Term

# Leader work is told of a longer lease once the lease is longer by this part of a heartbeat interval: a little less
# than all of it, because sums of times are rounded.
_RENEWED: Final = 0.9
_TOLERANCE: Final = 1e-6


def work_left(s: State, now: Instant) -> Seconds:
    """Compute how long leader work may still run anywhere, as far as this node knows, in seconds."""
    return max(0.0, s.work_until - now)


def work_claim(s: State, now: Instant) -> Seconds:
    """Compute the claim of an AppendEntries sent now: how long after it leader work may run, in seconds."""
    if s.handover is not None and s.own_work is Work.NONE:
        return work_left(s, now)  # no work will start in this term any more
    return max(s.timing.work_claim, work_left(s, now))


def remember_claim(s: State, term: Term, claim: Seconds, now: Instant) -> None:
    """Remember the newest claim of the leader that this node follows, counted from now."""
    seconds = here(claim)
    s.work_until = now + seconds
    s.work_term, s.work_of = term, s.leader
    kept = s.hard
    is_known = (kept.work_term, kept.work_of) == (term, s.leader)
    if not is_known or seconds > kept.work or (seconds == 0) != (kept.work == 0):
        s.ledger.persist(
            msgspec.structs.replace(
                kept, work=seconds, work_term=term, work_of=s.leader, work_place="", work_alone=False
            )
        )


def record_own_claim(s: State, now: Instant) -> None:
    """Remember, on a new leader, the claim of its own messages, as every other voter does."""
    left = work_left(s, now)
    s.ledger.persist(
        msgspec.structs.replace(
            s.hard,
            work=here(max(s.timing.work_claim, left)),
            work_term=s.term,
            work_of=s.id,
            work_place=s.place,
            work_alone=left == 0,
        )
    )
    s.work_recorded = s.ledger.hard_written


def wait_for_earlier_work(s: State, won: Round) -> None:
    """Compute from the votes until when leader work of earlier terms may run; this leader's work waits for it."""
    said = [EarlierWork(s.work_term, s.work_until), *won.work.values()]
    if s.transferred is not None:
        # The old leader knows best about its own work, and all work before it.
        said = [work for work in said if work.term > s.transferred.term] + [s.transferred]
    s.earlier = Earlier(s.work_term, s.work_of, tuple(said))
    s.work_until = earlier_work_until(s)
    s.work_term, s.work_of = s.term, s.id


def earlier_work_until(s: State) -> Instant:
    """Compute until when work may run of which this leader was told, except for what has surely ended."""
    said = s.earlier.said if s.earlier is not None else ()
    return max((work.until for work in said if work.term > s.work_over), default=LONG_AGO)


def work_is_over(s: State, term: Term, now: Instant) -> None:
    """Note that all leader work of a term and of all terms before has ended; a leader may wait for less then."""
    s.work_over = max(s.work_over, term)
    if s.role is Role.LEADER and s.own_work_term < s.term:
        s.work_until = min(s.work_until, max(now, earlier_work_until(s)))


def drive_work(s: State, now: Instant) -> None:
    """Start leader work as soon as all earlier work has ended, and extend it when that is due."""
    if s.role is not Role.LEADER or s.handover is not None:
        return
    end = lease_end(s)
    if end <= now:
        return
    if s.own_work is Work.NONE:
        if now < s.work_until or s.ledger.durable < s.work_recorded or s.commit_index < s.opened_at:
            return
        s.own_work = Work.RUNNING
        s.own_work_term = s.term
        if s.place and not s.hard.work_alone:
            s.ledger.persist(msgspec.structs.replace(s.hard, work_alone=True))
        s.events.append(StartWork(token=s.term, deadline=end))
    elif _is_extension_due(s, end, now):
        s.events.append(ExtendWork(deadline=end))
    else:
        return
    s.work_until = max(s.work_until, end + s.timing.stop_grace + WORK_MARGIN)


def _is_extension_due(s: State, end: Instant, now: Instant) -> bool:
    """Check whether leader work must be told now that the lease lasts longer than it knows.

    That is due once in a heartbeat interval, however many acknowledgements renew the lease meanwhile; and in any case
    before the deadline that leader work knows comes near.
    """
    if s.own_work is not Work.RUNNING:
        return False
    renewed = end - _known_deadline(s)
    return renewed >= _RENEWED * (s.heartbeat_at - s.heartbeat_sent_at) or (
        renewed > _TOLERANCE and extend_work_at(s) <= now
    )


def _known_deadline(s: State) -> Instant:
    """Compute the deadline that running leader work was told last."""
    return s.work_until - s.timing.stop_grace - WORK_MARGIN


def work_deadline(s: State) -> Instant:
    """Compute when running leader work ends by itself, because it was told of no longer lease.

    Only a leader that stood still reaches that time. Its lease may last a little longer; but its work is ending, so
    the leader must step down.
    """
    return _known_deadline(s) if s.role is Role.LEADER and s.own_work is Work.RUNNING else NEVER


def extend_work_at(s: State) -> Instant:
    """Compute, for the timer, when running leader work must be told of a longer lease at the latest."""
    return work_deadline(s) - (s.heartbeat_at - s.heartbeat_sent_at)


def work_start_at(s: State) -> Instant:
    """Compute, for the timer, when leader work may start; infinity if it may not."""
    waits = s.role is Role.LEADER and s.handover is None and s.own_work is Work.NONE
    return s.work_until if waits else NEVER


def end_work(s: State) -> None:
    """Begin to end leader work."""
    if s.own_work is Work.RUNNING:
        s.own_work = Work.ENDING
        s.events.append(EndWork())


def work_ended(s: State, now: Instant) -> None:
    """Note that all leader work of this node has ended, after it was told to."""
    if s.own_work is not Work.ENDING:
        return
    s.own_work = Work.NONE
    if s.work_term == s.own_work_term:  # no later leader has claimed work of its own
        s.work_until = now
