"""The state of a member: all that it remembers, in one place; the rules are in the modules beside it."""

import enum
import random
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from trioraft.clock import LONG_AGO, NEVER
from trioraft.consensus.configuration import Configuration
from trioraft.consensus.events import Event
from trioraft.consensus.hard import HardState
from trioraft.consensus.ledger import Ledger, SnapshotInfo
from trioraft.consensus.log import Log, entry_bytes
from trioraft.consensus.timing import Timing
from trioraft.messages import AppendEntriesRequest, Index, Instant, NodeId, OptionalNodeId, Seconds, Term
from trioraft.round_trip import smooth


class InFlight(NamedTuple):
    """A message with entries that was sent and not answered: the last index in it, and the size of its entries."""

    last_index: Index
    size: int


class LogMark(NamedTuple):
    """A time, and how far the leader's log went then."""

    at: Instant
    last_index: Index


_NO_MARK: Final = LogMark(LONG_AGO, 0)


class EarlierWork(NamedTuple):
    """Leader work of a term, or of one before it, which may run until a time on this node's clock."""

    term: Term
    until: Instant


class WaitingRead(NamedTuple):
    """A read that waits for a quorum: its number, when it was asked for, and the commit index then."""

    read: int
    asked_at: Instant
    commit_index: Index


class ToldConfiguration(NamedTuple):
    """The configuration that the program around a member was told of last, and whether it was committed then."""

    since: Index
    configuration: Configuration
    committed: bool


class Role(enum.StrEnum):
    """What a node is to its cluster.

    The rules know the four of the paper; what a learner or a removed node does by them, it does as a follower.
    """

    FORMING = "forming"
    LEARNER = "learner"
    REMOVED = "removed"
    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


# --- what a member remembers -------------------------------------------------------------------------------


class Work(enum.Enum):
    """What this node's own leader work is doing."""

    NONE = enum.auto()
    RUNNING = enum.auto()
    ENDING = enum.auto()


@dataclass(slots=True)
class Sending:
    """A snapshot that is being sent to one follower.

    Attributes
    ----------
    snapshot : SnapshotInfo
        The snapshot.
    acknowledged : int
        The follower has everything before this offset.
    next : int
        Where the next part begins.
    resend_at : float
        When the parts after `acknowledged` are sent again.
    """

    snapshot: SnapshotInfo
    acknowledged: int = 0
    next: int = 0
    resend_at: Instant = NEVER


@dataclass(slots=True)
class Receiving:
    """A snapshot that is being received.

    Attributes
    ----------
    snapshot : SnapshotInfo
        The snapshot.
    expected : int
        Where the next part that is taken begins.
    stored : int
        Everything before this offset is stored.
    ahead : dict of int to bytes
        Later parts that have overtaken the next one.
    """

    snapshot: SnapshotInfo
    expected: int = 0
    stored: int = 0
    ahead: dict[int, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class Follower:
    """What a leader knows of one follower (Raft, figure 2: volatile state on leaders).

    Attributes
    ----------
    sent : dict of int to float
        When each message that may still be answered was sent.
    answered : int
        The newest message that was answered.
    heartbeat_sequence : int
        The newest heartbeat it was sent.
    promised_until : float
        Until when, counted from the send time of what it answered, it votes for nobody else.
    promise : float
        For how many seconds it last promised that, which is its lower election timeout at least.
    heard_at : float
        When it last answered.
    resend_at : float
        When it is sent a heartbeat again, because the last one has not been answered.
    answered_sent_at : float
        When the newest message that it answered was sent: since then nobody else was elected without it.
    last_choice : bool
        Whether leadership should rather go to somebody else.
    match_index : int
        Up to here its log is the leader's, and on its disk.
    next_index : int
        The next entry to send.
    in_flight : dict of int to tuple of int and int
        Messages with entries that were not answered: for each sequence, the last index in it and its bytes.
    probing : bool
        Whether it is not known where the logs agree: only one message is under way.
    overtaken : int
        How many later messages it could not use, since an earlier one was perhaps lost.
    entries_resend_at : float
        When the entries after `match_index` are sent again.
    resent : int
        How often that was done since the follower last acknowledged any.
    sending : Sending or None
        The snapshot that it is being sent.
    mark : tuple of float and int
        A time, and how far the leader's log went then.
    current_at : float
        It has all that the leader had at this time.
    leaves_at : float
        When the leader stops sending to it, because it is no member, unless it answers before.
    """

    sent: dict[int, Instant] = field(default_factory=dict)
    answered: int = 0
    heartbeat_sequence: int = 0
    promised_until: Instant = LONG_AGO
    promise: Seconds = NEVER
    heard_at: Instant = LONG_AGO
    resend_at: Instant = NEVER
    answered_sent_at: Instant = LONG_AGO
    last_choice: bool = False
    match_index: Index = 0
    next_index: Index = 1
    in_flight: dict[int, InFlight] = field(default_factory=dict)
    probing: bool = True
    overtaken: int = 0
    entries_resend_at: Instant = NEVER
    resent: int = 0
    sending: Sending | None = None
    mark: LogMark = _NO_MARK
    current_at: Instant = LONG_AGO
    leaves_at: Instant = NEVER


@dataclass(slots=True)
class Question:
    """What one voter is asked in a round.

    Attributes
    ----------
    asked_at : float
        When it was last sent.
    pause : float
        How long after that it is sent again, in seconds.
    sent : int
        How often it was sent.
    """

    asked_at: Instant = LONG_AGO
    pause: Seconds = 0.0
    sent: int = 0

    @property
    def due_at(self) -> Instant:
        """When it is sent again."""
        return self.asked_at + self.pause


@dataclass(slots=True)
class Round:
    """One round of asking for (pre-)votes.

    Attributes
    ----------
    granted, refused : set of int
        Who has answered, and how.
    unanswered : dict of int to Question
        What those are asked that have not answered.
    deadline : float
        When the round has been inconclusive.
    work : dict of int to tuple of int and float
        For each vote, the term of the last leader that the voter remembers, and until when work may run.
    """

    granted: set[NodeId] = field(default_factory=set)
    refused: set[NodeId] = field(default_factory=set)
    unanswered: dict[NodeId, Question] = field(default_factory=dict)
    deadline: Instant = NEVER
    work: dict[NodeId, EarlierWork] = field(default_factory=dict)


@dataclass(slots=True)
class Handover:
    """A transfer of leadership under way.

    Attributes
    ----------
    target : int
        Who shall lead.
    deadline : float
        When the leader gives up and steps down.
    tried : set of int
        Whom it has already been offered to.
    offered : bool
        Whether ``TimeoutNow`` has been sent: from then on there is no lease in this term.
    resend_at, retarget_at : float
        When the offer is repeated, and when it goes to somebody else.
    """

    target: OptionalNodeId
    deadline: Instant
    tried: set[NodeId] = field(default_factory=set)
    offered: bool = False
    resend_at: Instant = NEVER
    retarget_at: Instant = NEVER


@dataclass(slots=True)
class FarTerms:
    """A search for a term that is far above one's own (:mod:`trioraft.consensus.far_terms`).

    Attributes
    ----------
    since : float
        When the first far term was heard of.
    asked_at : float
        When others were last asked for theirs.
    said : dict of int to int
        The lowest term that each has said it knows.
    """

    since: Instant
    asked_at: Instant = LONG_AGO
    said: dict[NodeId, Term] = field(default_factory=dict)


@dataclass(slots=True)
class State:
    """A member's state: what figure 2 of the paper lists, and what leases and leader work add."""

    id: NodeId
    timing: Timing
    random: random.Random
    ledger: Ledger
    events: list[Event]

    role: Role = Role.FOLLOWER
    leader: OptionalNodeId = 0

    # followers: when the election timer runs out, until when votes are refused, the newest heartbeat's number
    election_deadline: Instant = NEVER
    refuse_until: Instant = LONG_AGO
    heard_sequence: int = 0
    last_choice_until: Instant = LONG_AGO

    # leader work of `work_term` or before may run until `work_until`, wherever it runs
    work_until: Instant = LONG_AGO
    work_term: Term = 0
    own_work: Work = Work.NONE
    own_work_term: Term = 0

    far_terms: FarTerms | None = None

    # candidates
    round_number: int = 0
    round: Round | None = None
    inconclusive: int = 0
    transferred: EarlierWork | None = None  # what TimeoutNow said of earlier leader work
    round_trips: dict[NodeId, Seconds] = field(default_factory=dict)

    # leaders
    followers: dict[NodeId, Follower] = field(default_factory=dict)
    sequence: int = 0
    heartbeat_at: Instant = NEVER
    heartbeat_sent_at: Instant = LONG_AGO
    leader_since: Instant = NEVER
    work_recorded: int = 0  # the change of the hard state that holds this leader's own claim
    handover: Handover | None = None

    # the log: what is committed, what was handed out to be applied, what matches the leader of this term
    commit_index: Index = 0
    applied_index: Index = 0
    matched_index: Index = 0
    opened_at: Index = 0  # the index of this leader's no-op
    uncommitted_bytes: int = 0
    ahead: dict[Index, AppendEntriesRequest] = field(
        default_factory=dict
    )  # what came too early, by the index before it
    receiving: Receiving | None = None
    batch_bytes: int = 1024  # of entries in one message, at most, unless one entry alone is larger
    batch_room: dict[NodeId, int] = field(default_factory=dict)  # the same by node, where its path is known

    # reads, when they were asked for, and the commit index then; and when the round that is under way began
    reads: list[WaitingRead] = field(default_factory=list)
    read_round_at: Instant = LONG_AGO
    # whether the applied settings say that reads go by the lease, and the newest change of settings in this term
    reads_by_lease: bool = False
    settings_at: Index = 0

    # configurations: what was told of the newest and since when it is committed; up to where the committed ones were
    # looked at, and whether this node was a member in one of them, and is none in the last
    told: ToldConfiguration | None = None
    settled_at: Instant = NEVER
    seen_committed: Index = 0
    was_member: bool = False
    departed: bool = False
    caught_up: bool = False  # whether it has once had, as a member, all that a leader had committed

    @property
    def configuration(self) -> Configuration:
        """The configuration that is in force: the newest one in the log, committed or not."""
        return self.ledger.log.configuration

    @property
    def log(self) -> Log:
        """The log."""
        return self.ledger.log

    @property
    def hard(self) -> HardState:
        """The newest hard state, on disk or on its way there."""
        return self.ledger.hard

    @property
    def term(self) -> Term:
        """The current term."""
        return self.ledger.hard.term

    @property
    def others(self) -> tuple[NodeId, ...]:
        """The other members."""
        return tuple(node for node in self.configuration.members if node != self.id)

    @property
    def other_electors(self) -> tuple[NodeId, ...]:
        """The others who vote."""
        return tuple(node for node in self.configuration.electors if node != self.id)

    def round_trip(self, node: NodeId) -> Seconds:
        """Give the estimated round-trip time to a node, in seconds; a guess before the first measurement.

        Parameters
        ----------
        node : int
            Its id.

        Returns
        -------
        float
            Seconds.
        """
        return self.round_trips.get(node, self.timing.heartbeat / 10)

    def measure_round_trip(self, node: NodeId, seconds: Seconds) -> None:
        """Take one measurement into the estimate, as TCP does (RFC 6298, section 2).

        Parameters
        ----------
        node : int
            The node that answered.
        seconds : float
            The time from request to answer.
        """
        self.round_trips[node] = smooth(self.round_trips.get(node), seconds)


def count_uncommitted(s: State) -> None:
    """Count the bytes of the entries that are not committed, as far as this node knows."""
    s.uncommitted_bytes = sum(map(entry_bytes, s.log.entries(s.commit_index + 1, s.log.last_index)))
