"""A whole member: its inputs, its one way out, and the rule that each message or the timer calls."""

from collections.abc import Callable
from typing import Final

from trioraft.consensus import (
    admission,
    append_entries,
    election,
    endings,
    leader_work,
    membership,
    progress,
    quorum,
    reads,
    roles,
    snapshots,
    transfer,
)
from trioraft.consensus.events import ReadFailed
from trioraft.consensus.log import IndexedEntry, Placed
from trioraft.consensus.operations import Operations
from trioraft.consensus.state import Role, State
from trioraft.consensus.turn import Turn, together
from trioraft.messages import (
    AppendEntriesRequest,
    AppendEntriesResponse,
    ConsensusMessage,
    EntryKind,
    FormationRequest,
    FormationResponse,
    FormationView,
    InstallSnapshotRequest,
    InstallSnapshotResponse,
    Instant,
    LeadershipEnded,
    NodeId,
    OptionalId,
    PreVoteRequest,
    PreVoteResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from trioraft.versions import added_in

# The most committed entries that one turn hands out, unless its caller names another number.
APPLY_MAX: Final = 1000
# The most bytes of them, unless it is one entry alone. An entry may be a batch of hundreds of commands, and a turn
# must not take so long that heartbeats come late.
APPLY_BYTES_MAX: Final = 32 * 1024

# The rule that each kind of message calls. Every rule takes the state, the sender, the message and the time.
_RULES: Final[dict[type, Callable[..., None]]] = {
    PreVoteRequest: election.handle_pre_vote_request,
    PreVoteResponse: election.handle_pre_vote_response,
    VoteRequest: election.handle_vote_request,
    VoteResponse: election.handle_vote_response,
    AppendEntriesRequest: append_entries.handle_append_entries,
    AppendEntriesResponse: append_entries.handle_append_entries_response,
    InstallSnapshotRequest: snapshots.handle_install_snapshot,
    InstallSnapshotResponse: snapshots.handle_install_snapshot_response,
    TimeoutNow: transfer.handle_timeout_now,
    LeadershipEnded: endings.handle_leadership_ended,
}
_OF_FORMATIONS: Final = (FormationView, FormationRequest, FormationResponse)
_OF_LEADERS: Final = (AppendEntriesRequest, InstallSnapshotRequest)
# These messages are taken from every node of the cluster, because this node may not know yet that the sender is a
# member (thesis 4.1).
_FROM_ANYBODY: Final = frozenset(
    {PreVoteRequest, VoteRequest, AppendEntriesRequest, InstallSnapshotRequest, TimeoutNow}
)


class Core(Operations):
    """One member of a cluster, or a node that is forming one.

    Parameters
    ----------
    node : int
        The node's id.
    hard : HardState
        The hard state that was on disk when the node started.
    log : Log
        The log that was on disk.
    timing : Timing
        The durations that the node runs by.
    snapshot : SnapshotInfo, optional
        The snapshot that was on disk.
    log_waits : bool
        Whether an entry counts as this node's, and is acknowledged, only when it is on disk. False for a node that
        never comes back with the same log (``DURABILITY=memory``).
    expect : int
        ``BOOTSTRAP_EXPECT``; 0 for a node that only ever joins.
    random_source : random.Random
        The only source of randomness.
    now : float
        The time in seconds, on a clock that never goes back, and that goes on while the host is suspended.

    Attributes
    ----------
    versions : Versions
        The versions of the protocol that the node speaks.
    """

    # --- what goes in ---------------------------------------------------------------------------------------

    def receive(self, sender: NodeId, cluster: OptionalId, message: ConsensusMessage, now: Instant) -> None:
        """Take in a message.

        Parameters
        ----------
        sender : int
            The node that sent it.
        cluster : int
            The cluster that the sender is a member of; 0 for none.
        message : ConsensusMessage
            The message.
        now : float
            The time in seconds.
        """
        self._begin(now)
        s = self._state if cluster == self.cluster else None
        if not admission.can_be_meant(s, sender, message, self.formation.peers, self._events, now):
            return
        if isinstance(message, _OF_FORMATIONS):
            self.formation.receive(sender, cluster, message, now)
        elif not self.formation.formed:
            self.formation.receive(sender, cluster, None, now)
            if isinstance(message, _OF_LEADERS):
                self.formation.join(cluster, now)
        if self._state is not None and cluster == self.cluster:
            self._apply(self._state, sender, message, now)
        if self._observer is not None:
            self._note("receive", sender, message)

    def _apply(self, s: State, sender: NodeId, message: ConsensusMessage, now: Instant) -> None:
        rule = _RULES.get(type(message))
        if rule is None or s.hard.removed:
            return
        if isinstance(message, _OF_LEADERS) and not admission.understands(s, sender, message, self.versions):
            return
        if type(message) in _FROM_ANYBODY or sender in s.followers or sender in s.configuration.elector_set:
            rule(s, sender, message, now)
        if type(message) is PreVoteRequest:
            membership.tell_departed(s, sender, now)

    def propose(self, kind: EntryKind, data: bytes, now: Instant) -> Placed | None:
        """Append an entry to the log, if this node leads and not too much is uncommitted.

        Parameters
        ----------
        kind : EntryKind
            The kind of the entry.
        data : bytes
            The command.
        now : float
            The time in seconds.

        Returns
        -------
        Placed or None
            The command is committed when an entry of that term is handed out at that index. None when this node does
            not lead, is busy, or the cluster's version does not know such entries.
        """
        if self._state is not None and leader_work.work_deadline(self._state) <= now:
            self._begin(now)  # a leader that stood still must step down, lest it extend work that has ended
        self._now, self._unsettled = now, True  # nothing else here depends on the lease
        if self._state is None or self._state.role is not Role.LEADER or added_in(kind) > self.version:
            return None
        index = append_entries.propose(self._state, kind, data)
        return None if index is None else Placed(self.term, index)

    def start_read(self, read: int, now: Instant) -> None:
        """Begin a linearizable read; ``ReadReady`` or ``ReadFailed`` follows.

        Parameters
        ----------
        read : int
            The caller's number for it.
        now : float
            The time in seconds.
        """
        self._begin(now)
        if self._state is None:
            self._events.append(ReadFailed(read=read))
        else:
            reads.start_read(self._state, read, now)
        if self._observer is not None:
            self._note("start_read")

    def handle_timer(self, now: Instant) -> None:
        """Apply the rules of whatever deadline has passed.

        Parameters
        ----------
        now : float
            The time in seconds.
        """
        self._begin(now)
        self.formation.handle_timer(now)
        if self._state is not None:
            self._tick(self._state, now)
        if self._observer is not None:
            self._note("handle_timer")

    def _tick(self, s: State, now: Instant) -> None:
        if s.role is Role.LEADER:
            transfer.drive_transfer(s, now)
        if s.role is Role.LEADER:
            if s.heartbeat_at <= now:
                append_entries.send_heartbeats(s, now)
            if s.resend_at <= now:
                append_entries.resend_unanswered(s, now)
                append_entries.resend_entries(s, now)
                snapshots.resend_parts(s, now)
                progress.look_at_owing(s)
        elif s.round is not None:
            election.ask_again(s, now)
        elif s.election_deadline <= now:
            if s.ledger.waiting_since + s.timing.lower <= now:
                roles.retry_soon(s, now)  # a node that cannot write cannot lead
            else:
                election.start_pre_vote(s, now)

    def persisted(self, number: int, now: Instant) -> None:
        """Take note that a write is on disk.

        Parameters
        ----------
        number : int
            The number of the :class:`~trioraft.consensus.ledger.Write`.
        now : float
            The time in seconds.
        """
        # This comes first: a disk that has answered is not stuck, however late that is noticed.
        self._ledger.persisted(number, now)
        self._begin(now)
        self._join_what_was_formed(now)
        if self._state is not None:
            election.count_own_vote(self._state, now)
        if self._observer is not None:
            self._note("persisted", 0, number)

    # --- the one way out ------------------------------------------------------------------------------------

    def turn(self, now: Instant, *, apply_max: int = APPLY_MAX) -> Turn:
        """Apply the rules that follow from all that has come in, and hand out what must be done.

        Parameters
        ----------
        now : float
            The time in seconds.
        apply_max : int
            The most committed entries that are handed out; 0 while none can be applied.

        Returns
        -------
        Turn
            The duties of the caller, in order. Nothing is handed out twice.
        """
        if now > self._now:
            self._begin(now)
        self._settle()
        events = self._events[:]
        self._events.clear()
        write = self._ledger.to_persist(self._now)
        if self._observer is not None and write is not None:
            self._note("to_persist", 0, write)
        apply = self._to_apply(apply_max)
        wake_at = min(self._wake_at(), self._ledger.write_at)
        return Turn(events, together(self._ledger.to_send()), write, apply, wake_at)

    @property
    def has_input(self) -> bool:
        """Whether something has come in since the last turn."""
        return self._unsettled or bool(self._events)

    @property
    def has_committed(self) -> bool:
        """Whether some committed entries were not handed out yet, to be applied."""
        return self._state is not None and self._state.applied_index < self._state.commit_index

    def _to_apply(self, most: int) -> list[IndexedEntry]:
        s = self._state
        if s is None or not most or s.applied_index >= s.commit_index:
            return []
        first = s.applied_index + 1
        entries = s.log.batch(first, APPLY_BYTES_MAX, min(s.commit_index, s.applied_index + most))
        s.applied_index += len(entries)
        return list(enumerate(entries, first))

    def _wake_at(self) -> Instant:
        s = self._state
        if s is None:
            return self.formation.next_deadline()
        return min(self._its_role_wakes_at(s), endings.tell_at(s))

    def _its_role_wakes_at(self, s: State) -> Instant:
        if s.role is Role.LEADER:
            return self._leader_wakes_at(s)
        if s.round is not None:
            return min([s.round.deadline, *(question.due_at for question in s.round.unanswered.values())])
        return s.election_deadline

    def _leader_wakes_at(self, s: State) -> Instant:
        times = [s.heartbeat_at, s.resend_at, quorum.quorum_deadline(s), quorum.disk_deadline(s)]
        if s.handover is not None:
            times += [s.handover.deadline, s.handover.resend_at, s.handover.retarget_at]
        times += [due for due in (leader_work.work_start_at(s), leader_work.extend_work_at(s)) if self._now < due]
        return min(times)
