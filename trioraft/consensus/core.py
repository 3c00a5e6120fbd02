"""One member, whole: what goes in, what comes out, and which rule a message or the timer calls."""

import random
from collections.abc import Callable, Collection, Mapping
from typing import Final

from trioraft.consensus import (
    admission,
    append_entries,
    election,
    leader_work,
    lease,
    membership,
    numbers,
    quorum,
    reads,
    roles,
    snapshots,
    transfer,
)
from trioraft.consensus.configuration import Configuration
from trioraft.consensus.events import Event, ForeignCluster, Formed, Joined, ReadFailed
from trioraft.consensus.formation import Formation
from trioraft.consensus.hard import HardState
from trioraft.consensus.ledger import Ledger, SnapshotInfo
from trioraft.consensus.log import Log
from trioraft.consensus.observer import Observer
from trioraft.consensus.state import Role, State
from trioraft.consensus.timing import Timing
from trioraft.consensus.turn import Turn, together
from trioraft.consensus.view import View
from trioraft.messages import (
    AppendEntriesRequest,
    AppendEntriesResponse,
    ConsensusMessage,
    Entry,
    EntryKind,
    FormationRequest,
    FormationResponse,
    FormationView,
    InstallSnapshotRequest,
    InstallSnapshotResponse,
    PreVoteRequest,
    PreVoteResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from trioraft.versions import SPOKEN, Versions, added_in

# What an AppendEntriesRequest has beside its entries, at most: the heads of two arrays, six numbers and the tag.
MESSAGE_HEAD: Final = 64
# How many committed entries one turn hands out, unless it is told another number.
APPLY_MAX: Final = 1000

# Which rule a message calls. Every rule takes the state, the sender, the message and the time.
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
}
# These are taken from every node of the cluster: this one may not know yet that the sender is a member (thesis 4.1).
_FROM_ANYBODY: Final = frozenset(
    {PreVoteRequest, VoteRequest, AppendEntriesRequest, InstallSnapshotRequest, TimeoutNow}
)


class Core(View):
    """A node's part in forming a cluster and in the cluster's life.

    Parameters
    ----------
    node : int
        The node's id.
    hard : HardState
        What was on disk when the node started.
    log : Log
        The log that was there.
    timing : Timing
        The durations it runs by.
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
        The time in seconds, on a clock that never goes back and counts while the host is suspended.

    Attributes
    ----------
    versions : Versions
        Which versions of the protocol the node speaks.
    """

    def __init__(
        self,
        node: int,
        hard: HardState,
        log: Log,
        timing: Timing,
        *,
        snapshot: SnapshotInfo | None = None,
        log_waits: bool = True,
        expect: int,
        random_source: random.Random,
        now: float,
    ) -> None:
        self.id = node
        self.versions: Versions = SPOKEN
        self.timing = timing
        self._random = random_source
        self._now = now
        self._ledger = Ledger(hard, log, snapshot, log_waits=log_waits)
        self._unsettled = False
        self._batch_room: dict[int, int] = {}
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
        """Let somebody look on, who is told of every step from now on.

        Parameters
        ----------
        observer : Observer
            Who looks on.
        """
        self._observer = observer
        self._ledger.noted = []
        self._note("start")

    def _note(self, step: str, sender: int = 0, subject: object = None) -> None:
        """Tell the observer of a step."""
        if self._observer is not None:
            sent, self._ledger.noted = self._ledger.noted or [], []
            self._observer.note(self, step, self._now, sender, subject, sent)

    def _join_what_was_formed(self, now: float) -> None:
        """Take part once it is on disk that this node is a member; before, nobody must hear of it."""
        if self._state is None and self.formation.formed and self._ledger.durable == self._ledger.written:
            formed = self.formation.state
            if formed.members:
                self._events.append(Formed(cluster=formed.cluster, members=formed.members))
            else:
                self._events.append(Joined(cluster=formed.cluster))
            self._join(now, first=bool(formed.members))

    def _join(self, now: float, *, first: bool) -> None:
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
            batch_room=self._batch_room,
        )
        covered = snapshot.index if snapshot is not None else 0
        s.commit_index = s.applied_index = s.matched_index = covered
        lease.resume_promise(s, now)
        s.work_until = now + min(s.hard.work, numbers.CLAIM_MAX)
        s.work_term = s.hard.work_term
        if first:
            roles.retry_soon(s, now)  # nobody has led yet: there is nothing to wait for
        else:
            roles.reset_election_timer(s, now)
        self._state = s

    # --- what goes in ---------------------------------------------------------------------------------------

    def receive(self, sender: int, cluster: int, message: ConsensusMessage, now: float) -> None:
        """Take in a message.

        Parameters
        ----------
        sender : int
            The node it comes from.
        cluster : int
            The cluster that its sender is a member of; 0 for none.
        message : ConsensusMessage
            The message.
        now : float
            The time in seconds.
        """
        self._begin(now)
        s = self._state if cluster == self.cluster else None
        if not admission.can_be_meant(s, sender, message, self.formation.peers, self._events, now):
            return
        if isinstance(message, FormationView | FormationRequest | FormationResponse):
            self.formation.receive(sender, cluster, message, now)
        elif not self.formation.formed:
            self.formation.receive(sender, cluster, None, now)
            if isinstance(message, AppendEntriesRequest | InstallSnapshotRequest):
                self.formation.join(cluster, now)
        if self._state is not None and cluster == self.cluster:
            self._apply(self._state, sender, message, now)
        if self._observer is not None:
            self._note("receive", sender, message)

    def _apply(self, s: State, sender: int, message: ConsensusMessage, now: float) -> None:
        rule = _RULES.get(type(message))
        if rule is None or s.hard.removed:
            return
        if isinstance(message, AppendEntriesRequest | InstallSnapshotRequest) and not admission.understands(
            s, sender, message, self.versions
        ):
            return
        if type(message) in _FROM_ANYBODY or sender in s.followers or sender in s.configuration.electors:
            rule(s, sender, message, now)
        if type(message) is PreVoteRequest:
            membership.tell_departed(s, sender, now)

    def _begin(self, now: float) -> None:
        self._now = now
        self._unsettled = True
        if self._state is not None:
            quorum.check_quorum(self._state, now)  # a leader that was paused must notice before anything else
            if self._observer is not None:
                self._note("check_quorum")

    def _settle(self) -> None:
        """Do what follows from all that has come in: commit, answer reads, replicate, offer, start work."""
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
        if self._observer is not None:
            self._note("settle")

    def propose(self, kind: EntryKind, data: bytes, now: float) -> tuple[int, int] | None:
        """Append an entry to the log, if this node leads and not too much is uncommitted.

        Parameters
        ----------
        kind : EntryKind
            What it is.
        data : bytes
            The command.
        now : float
            The time in seconds.

        Returns
        -------
        tuple of int, or None
            Term and index: the command is committed when an entry of that term is handed out at that index. None
            when this node does not lead, is busy, or the cluster's version does not know such entries.
        """
        if self._state is not None and leader_work.work_deadline(self._state) <= now:
            self._begin(now)  # a leader that stood still leads no more, lest it extend work that has ended
        self._now, self._unsettled = now, True  # nothing else here depends on the lease
        if self._state is None or self._state.role is not Role.LEADER or added_in(kind) > self.version:
            return None
        index = append_entries.propose(self._state, kind, data)
        return None if index is None else (self.term, index)

    def start_read(self, read: int, now: float) -> None:
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

    def read_by_lease(self, by_lease: bool) -> None:
        """Learn what the cluster's settings say of reads, once everything that was handed out is applied.

        Parameters
        ----------
        by_lease : bool
            Whether a leader answers them by its lease, without asking anybody.
        """
        if self._state is not None:
            self._state.reads_by_lease = by_lease

    def hear_of_cluster(self, sender: int, cluster: int, now: float) -> None:
        """Learn, from a greeting, of which cluster another node of the same service is a member.

        Parameters
        ----------
        sender : int
            The other node.
        cluster : int
            Its cluster; 0 for none.
        now : float
            The time in seconds.
        """
        self._begin(now)
        if not self.formation.formed:
            self.formation.receive(sender, cluster, None, now)
        elif cluster not in {0, self.formation.state.cluster}:
            self._events.append(ForeignCluster(node=sender, cluster=cluster))
        elif self._state is not None and (cluster or sender in self._state.configuration.departed):
            # One without a cluster may have been let in, and removed before it heard of either.
            membership.tell_departed(self._state, sender, now)
        if self._observer is not None:
            self._note("hear_of_cluster", sender)

    def peers_changed(self, peers: frozenset[int]) -> None:
        """Learn which nodes of the same service can be reached.

        Parameters
        ----------
        peers : frozenset of int
            Their ids, without this node's.
        """
        self.formation.peers = peers

    def hold_formation(self, held: bool) -> None:
        """Learn whether there may be nodes of the same service that have just not answered yet.

        Parameters
        ----------
        held : bool
            Whether to propose no formation for now.
        """
        self.formation.held = held

    def path_takes(self, node: int, message_bytes: int) -> None:
        """Learn how large a message to a node may be that goes in one datagram.

        Parameters
        ----------
        node : int
            The node.
        message_bytes : int
            The size of the encoded message.
        """
        self._batch_room[node] = max(0, message_bytes - MESSAGE_HEAD)

    def handle_timer(self, now: float) -> None:
        """Do what is due.

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

    def _tick(self, s: State, now: float) -> None:
        if s.role is Role.LEADER:
            transfer.drive_transfer(s, now)
        if s.role is Role.LEADER:
            if s.heartbeat_at <= now:
                append_entries.send_heartbeats(s, now)
            append_entries.resend_unanswered(s, now)
            append_entries.resend_entries(s, now)
            snapshots.resend_parts(s, now)
        elif s.round is not None:
            election.ask_again(s, now)
        elif s.election_deadline <= now:
            if s.ledger.waiting_since + s.timing.lower <= now:
                roles.retry_soon(s, now)  # whoever cannot write cannot lead
            else:
                election.start_pre_vote(s, now)

    def persisted(self, number: int, now: float) -> None:
        """Learn that a hard state is on disk.

        Parameters
        ----------
        number : int
            What :meth:`to_persist` gave with it.
        now : float
            The time in seconds.
        """
        self._ledger.persisted(
            number, now
        )  # first: a disk that has answered is not stuck, however late that is noticed
        self._begin(now)
        self._join_what_was_formed(now)
        if self._state is not None:
            election.count_own_vote(self._state, now)
        if self._observer is not None:
            self._note("persisted", 0, number)

    def snapshot_taken(self, snapshot: SnapshotInfo, keep: int, now: float, keep_bytes: int | None = None) -> None:
        """Learn that a snapshot of this node's own is on disk, and drop entries that it covers.

        Parameters
        ----------
        snapshot : SnapshotInfo
            The snapshot.
        keep : int
            So many of the entries it covers are kept, for followers that are a little behind.
        now : float
            The time in seconds.
        keep_bytes : int, optional
            Of those no more than fit into so many bytes.
        """
        self._begin(now)
        if self._state is not None:
            snapshots.drop_covered(self._state, snapshot, keep, keep_bytes, now)

    def snapshot_gone(self, snapshot: SnapshotInfo, now: float) -> None:
        """Learn that a snapshot is damaged, or not there any more; a newer one is sent, once one is taken.

        Parameters
        ----------
        snapshot : SnapshotInfo
            The snapshot.
        now : float
            The time in seconds.
        """
        self._begin(now)
        if self._state is not None:
            snapshots.snapshot_gone(self._state, snapshot)

    def part_stored(self, snapshot: SnapshotInfo, offset: int, now: float) -> None:
        """Learn that a received snapshot is stored up to an offset.

        Parameters
        ----------
        snapshot : SnapshotInfo
            The snapshot.
        offset : int
            Everything before it is stored.
        now : float
            The time in seconds.
        """
        self._begin(now)
        if self._state is not None:
            snapshots.part_stored(self._state, snapshot, offset)

    def reception_failed(self, snapshot: SnapshotInfo, now: float) -> None:
        """Learn that a received snapshot is damaged; it is received anew.

        Parameters
        ----------
        snapshot : SnapshotInfo
            The snapshot.
        now : float
            The time in seconds.
        """
        self._begin(now)
        if self._state is not None:
            snapshots.reception_failed(self._state, snapshot)

    def snapshot_installed(self, snapshot: SnapshotInfo, now: float) -> None:
        """Learn that a received snapshot is verified, on disk and taken over by the state machine.

        Parameters
        ----------
        snapshot : SnapshotInfo
            The snapshot.
        now : float
            The time in seconds.
        """
        self._begin(now)
        if self._state is not None:
            snapshots.snapshot_installed(self._state, snapshot)

    def work_ended(self, now: float) -> None:
        """Learn that leader work has ended, all of it, after it was told to.

        Parameters
        ----------
        now : float
            The time in seconds.
        """
        self._begin(now)
        if self._state is not None:
            leader_work.work_ended(self._state, now)
        if self._observer is not None:
            self._note("work_ended")

    def work_failed(self, now: float) -> None:
        """Give leadership to another node, because leader work failed here.

        Parameters
        ----------
        now : float
            The time in seconds.
        """
        self._begin(now)
        if self._state is not None:
            transfer.hand_over_after_failure(self._state, now)
        if self._observer is not None:
            self._note("work_failed")

    def step_down(self, now: float) -> str | None:
        """Lead no more for a while: give leadership to another node, or end it when no other node can lead.

        Parameters
        ----------
        now : float
            The time in seconds.

        Returns
        -------
        str or None
            Why it cannot be; None when it has begun.
        """
        self._begin(now)
        if self._state is None or self._state.role is not Role.LEADER:
            return "this node is not the leader"
        transfer.step_down(self._state, now)
        if self._observer is not None:
            self._note("step_down")
        return None

    def be_last_choice(self, now: float) -> None:
        """Be the last to lead for a minute, whether or not this node leads now.

        Parameters
        ----------
        now : float
            The time in seconds.
        """
        if self._state is not None:
            self._state.last_choice_until = now + transfer.LAST_CHOICE

    def transfer(self, target: int, now: float) -> str | None:
        """Begin to give leadership to another node.

        Parameters
        ----------
        target : int
            Its id, or 0 for the best one.
        now : float
            The time in seconds.

        Returns
        -------
        str or None
            Why it cannot be; None when it has begun.
        """
        self._begin(now)
        if self._state is None:
            return "this node has no cluster yet"
        refusal = transfer.start_transfer(self._state, target, now)
        if self._observer is not None:
            self._note("transfer")
        return refusal

    def change_members(
        self,
        voters: Collection[int],
        learners: Collection[int],
        now: float,
        names: Mapping[int, str] | None = None,
    ) -> str | None:
        """Begin to change the members of the cluster.

        Parameters
        ----------
        voters, learners : collection of int
            Who they shall be, all of them. A node becomes a learner first, and a voter when it keeps up; one that has
            no cluster joins when it is made a learner. Who was removed never comes back under the same id.
        now : float
            The time in seconds.
        names : mapping of int to str, optional
            What people call them; a name that is known already stays unless another one is given.

        Returns
        -------
        str or None
            Why it cannot be, and nothing has changed; None when it has begun, and ``ConfigurationChanged`` follows:
            it is done when that says ``committed`` and is not joint. Should this node lose its leadership before,
            another leader completes the change or has never heard of it.
        """
        self._begin(now)
        self._settle()
        if self._state is None:
            return "this node has no cluster yet"
        self._unsettled = True
        return membership.change_members(self._state, voters, learners, names or {}, now)

    def tell_departed(self, node: int, now: float) -> None:
        """Send to a node that is no member any more what it must have missed.

        Parameters
        ----------
        node : int
            The node.
        now : float
            The time in seconds.
        """
        self._begin(now)
        if self._state is not None:
            membership.tell_departed(self._state, node, now)
            self._settle()

    def raise_version(self, highest: Mapping[int, int], now: float) -> None:
        """Let the cluster speak the highest version that every member speaks, if this node leads and that is higher.

        Parameters
        ----------
        highest : mapping of int to int
            The highest version that each other node has shown, lately, to speak.
        now : float
            The time in seconds.
        """
        self._begin(now)
        self._settle()
        if self._state is not None and self._state.role is Role.LEADER:
            self._unsettled = True
            membership.raise_version(self._state, {**highest, self.id: self.versions.highest}, now)

    def abandon_formation(self, formation: int, now: float) -> str | None:
        """Give up the formation that this node has promised, on an operator's word.

        Parameters
        ----------
        formation : int
            The formation.
        now : float
            The time in seconds.

        Returns
        -------
        str or None
            Why it cannot be; None when it is given up.
        """
        self._begin(now)
        refusal = self.formation.abandon(formation, now)
        if self._observer is not None:
            self._note("abandon_formation")
        return refusal

    # --- the one way out ------------------------------------------------------------------------------------

    def turn(self, now: float, *, apply_max: int = APPLY_MAX) -> Turn:
        """Do what follows from all that has come in, and hand out what is to be done about it.

        Parameters
        ----------
        now : float
            The time in seconds.
        apply_max : int
            How many committed entries are handed out at most; 0 while none can be applied.

        Returns
        -------
        Turn
            What is to be done, in its order. Nothing is handed out twice.
        """
        if now > self._now:
            self._begin(now)
        self._settle()
        events = self._events[:]
        self._events.clear()
        write = self._ledger.to_persist(now)
        if self._observer is not None and write is not None:
            self._note("to_persist", 0, write)
        apply = self._to_apply(apply_max)
        return Turn(events, together(self._ledger.to_send()), write, apply, self._wake_at())

    @property
    def has_input(self) -> bool:
        """Whether something has come in that no turn was taken of yet."""
        return self._unsettled or bool(self._events)

    @property
    def has_committed(self) -> bool:
        """Whether more is committed than was handed out to be applied."""
        return self._state is not None and self._state.applied_index < self._state.commit_index

    def _to_apply(self, most: int) -> list[tuple[int, Entry]]:
        s = self._state
        if s is None or not most or s.applied_index >= s.commit_index:
            return []
        first = s.applied_index + 1
        entries = s.log.entries(first, min(s.commit_index, s.applied_index + most))
        s.applied_index += len(entries)
        return list(enumerate(entries, first))

    def _wake_at(self) -> float:
        s = self._state
        if s is None:
            return self.formation.next_deadline()
        if s.role is Role.LEADER:
            return self._leader_wakes_at(s)
        if s.round is not None:
            return min([s.round.deadline, *(question.due_at for question in s.round.unanswered.values())])
        return s.election_deadline

    def _leader_wakes_at(self, s: State) -> float:
        times = [s.heartbeat_at, quorum.quorum_deadline(s), quorum.disk_deadline(s)]
        for follower in s.followers.values():
            times += [follower.resend_at, follower.entries_resend_at]
            if follower.sending is not None:
                times.append(follower.sending.resend_at)
        if s.handover is not None:
            times += [s.handover.deadline, s.handover.resend_at, s.handover.retarget_at]
        times += [due for due in (leader_work.work_start_at(s), leader_work.extend_work_at(s)) if self._now < due]
        return min(times)
