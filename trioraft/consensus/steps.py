"""The steps of a core: each begins with the clock and check-quorum; what follows is done once, at the end."""

import random

from trioraft.consensus import (
    append_entries,
    endings,
    leader_work,
    lease,
    membership,
    numbers,
    progress,
    quorum,
    reads,
    roles,
    transfer,
)
from trioraft.consensus.configuration import Configuration
from trioraft.consensus.events import Event, Formed, Joined
from trioraft.consensus.formation import Formation
from trioraft.consensus.hard import HardState
from trioraft.consensus.ledger import Ledger, SnapshotInfo
from trioraft.consensus.log import Log
from trioraft.consensus.observer import Observer
from trioraft.consensus.state import State
from trioraft.consensus.timing import Timing
from trioraft.consensus.view import View
from trioraft.messages import Instant, NodeId, OptionalNodeId
from trioraft.versions import SPOKEN, Versions


class Steps(View):
    """A member that takes steps; :class:`~trioraft.consensus.core.Core` has them all.

    Attributes
    ----------
    versions : Versions
        The versions of the protocol that the node speaks.
    """

    def __init__(
        self,
        node: NodeId,
        hard: HardState,
        log: Log,
        timing: Timing,
        *,
        snapshot: SnapshotInfo | None = None,
        log_waits: bool = True,
        expect: int,
        random_source: random.Random,
        now: Instant,
    ) -> None:
        self.id = node
        self.versions: Versions = SPOKEN
        self.timing = timing
        self._random = random_source
        self._now = now
        self._ledger = Ledger(hard, log, snapshot, log_waits=log_waits)
        self._place = ""
        self._unsettled = False
        self._batch_room: dict[NodeId, int] = {}
        self._events: list[Event] = []
        self.formation = Formation(
            node,
            self._ledger,
            timing,
            expect=expect,
            random_source=random_source,
            events=self._events,
        )
        self._state: State | None = None
        self._observer: Observer | None = None
        if self.formation.formed:
            self._join(now, first=False)

    def observe(self, observer: Observer) -> None:
        """Have an observer called after every step from now on.

        Parameters
        ----------
        observer : Observer
            The observer.
        """
        self._observer = observer
        self._ledger.noted = []
        self._note("start")

    def _note(self, step: str, sender: OptionalNodeId = 0, subject: object = None) -> None:
        """Call the observer after a step."""
        if self._observer is not None:
            sent, self._ledger.noted = self._ledger.noted or [], []
            self._observer.note(self, step, self._now, sender, subject, sent)

    def _join_what_was_formed(self, now: Instant) -> None:
        """Take part once this node's membership is on disk; no other node may hear of it before."""
        if self._state is None and self.formation.formed and self._ledger.durable == self._ledger.written:
            formed = self.formation.state
            if formed.members:
                self._events.append(Formed(cluster=formed.cluster, members=formed.members))
            else:
                self._events.append(Joined(cluster=formed.cluster))
            self._join(now, first=bool(formed.members))

    def _join(self, now: Instant, *, first: bool) -> None:
        """Begin to take part in the cluster's elections."""
        snapshot = self._ledger.snapshot
        formed = Configuration(tuple(sorted(self.formation.state.members)))
        self._ledger.log.begin_with((snapshot and snapshot.members()) or formed)
        s = State(
            id=self.id,
            timing=self.timing,
            random=self._random,
            ledger=self._ledger,
            events=self._events,
            place=self._place,
            batch_room=self._batch_room,
        )
        covered = snapshot.index if snapshot is not None else 0
        s.commit_index = s.applied_index = s.matched_index = covered
        lease.resume_promise(s, now)
        s.work_until = now + min(s.hard.work, numbers.CLAIM_MAX)
        s.work_term, s.work_of = s.hard.work_term, s.hard.work_of
        if first:
            roles.retry_soon(s, now)  # nobody has led yet, so there is no promise to wait for
        else:
            roles.reset_election_timer(s, now)
        self._state = s

    def _begin(self, now: Instant) -> None:
        if self._observer is not None and self._unsettled:
            self._note("settle")  # what has come in since the last turn, and has no step of its own
        self._now = now
        self._unsettled = True
        if self._state is not None:
            quorum.check_quorum(self._state, now)  # a leader that was paused must notice that before anything else
            if self._observer is not None:
                self._note("check_quorum")

    def _settle(self) -> None:
        """Apply the rules that follow from all input: commit, answer reads, replicate, offer, start work."""
        s, now = self._state, self._now
        was_settled, self._unsettled = not self._unsettled, False
        if s is None or was_settled:
            return
        append_entries.advance_commit_index(s)
        membership.drive_change(s, now)
        membership.note_configuration(s, now)
        reads.conclude_reads(s, now)
        append_entries.send_entries(s, now)
        transfer.offer_when_work_has_ended(s, now)
        leader_work.drive_work(s, now)
        endings.tell_voters(s, now)
        progress.note_deadlines(s)
        if self._observer is not None:
            self._note("settle")
