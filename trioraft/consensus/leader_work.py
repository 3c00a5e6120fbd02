"""Leader work: it has ended before any other node starts leader work.

A leader's work (its script, its library bodies) may run while the lease lasts, and is then told to end; it has
ended ``stop_grace + WORK_MARGIN`` later, because a supervisor kills what is left. So each heartbeat carries how
long after it work may still run, at most: the longest lease it can give, the grace, and the margin. A voter
remembers the newest such claim from when it *received* it, which is later, and on disk how long it was, so that
after a restart it assumes the heartbeat to have come just then.

Why no two intervals overlap: the leader of term T runs work only until a time that a quorum of voters has
acknowledged and remembers. The quorum that elects the leader of a later term has a voter in common with it,
which tells what remains; the new leader waits for the largest remainder, translated to its own clock, and while
it waits its own heartbeats claim at least that. A claim of 0 says that all work of this term *and of those
before* has ended; only a leader whose own wait is over and whose work has ended can say it.
"""

from typing import Final

import msgspec

from trioraft.clock import NEVER
from trioraft.consensus.events import EndWork, ExtendWork, StartWork
from trioraft.consensus.lease import lease_end
from trioraft.consensus.state import EarlierWork, Role, Round, State, Work
from trioraft.consensus.timing import WORK_MARGIN, here
from trioraft.messages import Instant, Seconds, Term

# Leader work is told of a longer lease when it was renewed by this part of a heartbeat interval: a little less than
# one, because adding times rounds.
_RENEWED: Final = 0.9
_TOLERANCE: Final = 1e-6


def work_left(s: State, now: Instant) -> Seconds:
    """Tell for how long leader work, as far as this node knows, may still run, in seconds."""
    return max(0.0, s.work_until - now)


def work_claim(s: State, now: Instant) -> Seconds:
    """Tell what a heartbeat sent now claims: for how long after it leader work may run, in seconds."""
    if s.handover is not None and s.own_work is Work.NONE:
        return work_left(s, now)  # no work will start in this term any more
    return max(s.timing.work_claim, work_left(s, now))


def remember_claim(s: State, term: Term, claim: Seconds, now: Instant) -> None:
    """Take over the newest claim of the leader that this node follows."""
    seconds = here(claim)
    s.work_until = now + seconds
    s.work_term = term
    if seconds > s.hard.work or term != s.hard.work_term or (seconds == 0) != (s.hard.work == 0):
        s.ledger.persist(msgspec.structs.replace(s.hard, work=seconds, work_term=term))


def record_own_claim(s: State, now: Instant) -> None:
    """Remember, as a new leader, what its own heartbeats will claim, as every other voter does."""
    seconds = here(max(s.timing.work_claim, work_left(s, now)))
    s.ledger.persist(msgspec.structs.replace(s.hard, work=seconds, work_term=s.term))
    s.work_recorded = s.ledger.hard_written


def wait_for_earlier_work(s: State, won: Round) -> None:
    """Find, from the votes, until when leader work of earlier terms may run."""
    said = [EarlierWork(s.work_term, s.work_until), *won.work.values()]
    if s.transferred is not None:
        # The old leader knows best what has become of its work and of all work before it.
        said = [work for work in said if work.term > s.transferred.term] + [s.transferred]
    s.work_until = max(work.until for work in said)
    s.work_term = s.term


def drive_work(s: State, now: Instant) -> None:
    """Start leader work as soon as it is allowed, and extend it when that is due."""
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
        s.events.append(StartWork(token=s.term, deadline=end))
    elif _is_extension_due(s, end, now):
        s.events.append(ExtendWork(deadline=end))
    else:
        return
    s.work_until = max(s.work_until, end + s.timing.stop_grace + WORK_MARGIN)


def _is_extension_due(s: State, end: Instant, now: Instant) -> bool:
    """Whether leader work is to be told now that the lease lasts longer than it knows.

    That is once a heartbeat, however many acknowledgements renew the lease meanwhile, and in any case before the time
    that it knows of comes near.
    """
    if s.own_work is not Work.RUNNING:
        return False
    renewed = end - _known_deadline(s)
    return renewed >= _RENEWED * (s.heartbeat_at - s.heartbeat_sent_at) or (
        renewed > _TOLERANCE and extend_work_at(s) <= now
    )


def _known_deadline(s: State) -> Instant:
    """Tell until when running leader work knows that it may run."""
    return s.work_until - s.timing.stop_grace - WORK_MARGIN


def work_deadline(s: State) -> Instant:
    """Tell when running leader work ends by itself, because it knows of no longer lease.

    Only a leader that stood still meets that time. Its lease may last a little longer, but its work is ending, so it
    leads no more.
    """
    return _known_deadline(s) if s.role is Role.LEADER and s.own_work is Work.RUNNING else NEVER


def extend_work_at(s: State) -> Instant:
    """Tell when running leader work is to be told of a longer lease at the latest, for the timer."""
    return work_deadline(s) - (s.heartbeat_at - s.heartbeat_sent_at)


def work_start_at(s: State) -> Instant:
    """Tell when leader work may start, if it may, for the timer."""
    waits = s.role is Role.LEADER and s.handover is None and s.own_work is Work.NONE
    return s.work_until if waits else NEVER


def end_work(s: State) -> None:
    """Tell leader work to end."""
    if s.own_work is Work.RUNNING:
        s.own_work = Work.ENDING
        s.events.append(EndWork())


def work_ended(s: State, now: Instant) -> None:
    """Note that leader work of this node has ended, all of it, after it was told to."""
    if s.own_work is not Work.ENDING:
        return
    s.own_work = Work.NONE
    if s.work_term == s.own_work_term:  # no later leader has claimed work of its own
        s.work_until = now
