"""The state of a member: all that it remembers, in one place. The rules on it are in the modules beside this one."""

import enum
import random
from collections import deque
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from trioraft.clock import LONG_AGO, NEVER
from trioraft.consensus.configuration import Configuration
from trioraft.consensus.events import Event
from trioraft.consensus.hard import HardState
from trioraft.consensus.ledger import Ledger, SnapshotInfo
from trioraft.consensus.log import Log, entry_bytes
from trioraft.consensus.tally import Tally
from trioraft.consensus.timing import Timing
from trioraft.messages import AppendEntriesRequest, Index, Instant, NodeId, OptionalNodeId, Seconds, Term
from trioraft.round_trip import smooth


class InFlight(NamedTuple):
    """A message with entries that was sent and not answered: the last index in it, and the size of its entries."""

    last_index: Index
    size: int


class Early(NamedTuple):
    """A message with entries that has overtaken an earlier one, and the size of its entries."""

    request: AppendEntriesRequest
    size: int


class LogMark(NamedTuple):
    """A time, and how far the leader's log went then."""

    at: Instant
    last_index: Index


# The index of no entry: a follower needs all of them.
ALL: Final[Index] = 2**63 - 1
_NO_MARK: Final = LogMark(LONG_AGO, 0)


class EarlierWork(NamedTuple):
    """Leader work of a term, or of one before it, which may run until a time on this node's clock."""

    term: Term
    until: Instant


class Earlier(NamedTuple):
    """What a leader found out, when it was elected, of leader work before its own.

    Attributes
    ----------
    term, of : int
        The newest leadership before that this node had heard of: its term, and the node that had it.
    said : tuple of EarlierWork
        What the voters and this node remembered.
    """

    term: Term = 0
    of: OptionalNodeId = 0
    said: tuple[EarlierWork, ...] = ()


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
    """The role of a node in its cluster.

    The rules know follower, pre-candidate, candidate and leader. To them a learner or a removed node is a follower.
    """

    FORMING = "forming"
    LEARNER = "learner"
    REMOVED = "removed"
    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


# --- the parts of a member's state --------------------------------------------------------------------------


class Work(enum.Enum):
    """The phase of this node's own leader work."""

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
        The follower has all bytes before this offset.
    next : int
        The offset of the next part.
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
        The offset of the next part that is taken.
    stored : int
        All bytes before this offset are stored.
    ahead : dict of int to bytes
        Later parts that have overtaken the next one, by offset.
    """

    snapshot: SnapshotInfo
    expected: int = 0
    stored: int = 0
    ahead: dict[int, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class Follower:
    """A leader's knowledge of one follower (Raft, figure 2: volatile state on leaders).

    Attributes
    ----------
    sent : dict of int to float
        When each message was sent that may still be answered, by sequence.
    answered : int
        The sequence of the newest message that was answered.
    heartbeat_sequence : int
        The sequence of the newest heartbeat that it was sent.
    promised_until : float
        Until when it votes for no other node, counted from when the message was sent that it answered.
    promise : float
        The seconds for which it last promised that; at least its lower election timeout.
    heard_at : float
        When it last answered.
    resend_at : float
        When a heartbeat is sent to it again, because the last one has not been answered.
    answered_sent_at : float
        When the newest message was sent that it answered: it had voted for no later leader then.
    last_choice : bool
        Whether leadership should rather go to any other node.
    match_index : int
        Up to this index its log is the leader's, and on its disk (matchIndex).
    next_index : int
        The next entry to send (nextIndex).
    in_flight : dict of int to InFlight
        The messages with entries that were not answered, by sequence; :mod:`progress` keeps it.
    in_flight_bytes : int
        The size of all entries in them.
    probing : bool
        Whether the leader is still searching where the logs agree; then only one message is in flight.
    overtaken : int
        How many messages it rejected since it last acknowledged any, perhaps because an earlier one was lost.
    entries_resend_at : float
        When the entries after `match_index` are sent again.
    resent : int
        How often entries were sent again since the follower last acknowledged any.
    sending : Sending or None
        The snapshot that it is being sent.
    mark : LogMark
        An earlier heartbeat, and the end of the leader's log then; once the follower has that, a later one is noted.
    current_at : float
        The follower has all entries that the leader had at this time.
    leaves_at : float
        When the leader stops sending to it, because it is no member; later if it answers before.
    last_needed : int
        The last entry that it is sent: all of them, or up to the configuration that removed it. What comes after
        that may need a version that it does not speak, because its vote was not needed to raise the version.
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
    in_flight_bytes: int = 0
    probing: bool = True
    overtaken: int = 0
    entries_resend_at: Instant = NEVER
    resent: int = 0
    sending: Sending | None = None
    mark: LogMark = _NO_MARK
    current_at: Instant = LONG_AGO
    leaves_at: Instant = NEVER
    last_needed: Index = ALL

    @property
    def due_at(self) -> Instant:
        """When something is sent to it again unless it answers before; infinity when it owes no answer."""
        due = min(self.resend_at, self.entries_resend_at)
        return due if self.sending is None else min(due, self.sending.resend_at)


@dataclass(slots=True)
class Question:
    """The question to one voter in a round.

    Attributes
    ----------
    asked_at : float
        When the question was last sent.
    pause : float
        How long after that the question is sent again, in seconds.
    sent : int
        How often the question was sent.
    """

    asked_at: Instant = LONG_AGO
    pause: Seconds = 0.0
    sent: int = 0

    @property
    def due_at(self) -> Instant:
        """When the question is sent again."""
        return self.asked_at + self.pause


@dataclass(slots=True)
class Round:
    """One round of questions for pre-votes or votes.

    Attributes
    ----------
    granted, refused : set of int
        The voters that have agreed, and those that have refused.
    unanswered : dict of int to Question
        The questions to the voters that have not answered.
    deadline : float
        When the round ends without a result.
    work : dict of int to EarlierWork
        For each vote, the leader work that the voter remembers.
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
        The node that is to lead.
    deadline : float
        When the leader gives up and steps down.
    tried : set of int
        The nodes that leadership has been offered to.
    offered : bool
        Whether ``TimeoutNow`` has been sent: from then on there is no lease in this term.
    resend_at, retarget_at : float
        When the offer is repeated, and when it goes to another node.
    """

    target: OptionalNodeId
    deadline: Instant
    tried: set[NodeId] = field(default_factory=set)
    offered: bool = False
    resend_at: Instant = NEVER
    retarget_at: Instant = NEVER


@dataclass(slots=True)
class Ending:
    """A leadership of this node that ended with its process (:mod:`trioraft.consensus.endings`).

    Attributes
    ----------
    term : int
        Its term.
    alone : bool
        Whether all leader work of earlier terms had ended before its own began.
    until : float
        When nobody has to be told any more.
    work_ended : bool
        Whether all its work has ended, and all before it.
    tell_at : float
        When the voters are told next.
    pause : float
        How long after that they are told again, in seconds.
    """

    term: Term
    alone: bool
    until: Instant
    work_ended: bool = False
    tell_at: Instant = LONG_AGO
    pause: Seconds = 0.0


@dataclass(slots=True)
class FarTerms:
    """A search for a term that is far above the member's own (:mod:`trioraft.consensus.far_terms`).

    Attributes
    ----------
    since : float
        When the first far term was heard of.
    question : int
        The number of the question, which an answer repeats.
    asked_at : float
        When other nodes were last asked for their terms.
    said : dict of int to int
        The lowest term that each node has said it knows.
    """

    since: Instant
    question: int
    asked_at: Instant = LONG_AGO
    said: dict[NodeId, Term] = field(default_factory=dict)


@dataclass(slots=True)
class State:
    """A member's state: the state of figure 2 of the paper, and what leases and leader work add to it."""

    id: NodeId
    timing: Timing
    random: random.Random
    ledger: Ledger
    events: list[Event]

    role: Role = Role.FOLLOWER
    leader: OptionalNodeId = 0

    # followers: when the election timer runs out, until when votes are refused, the newest sequence of the leader
    election_deadline: Instant = NEVER
    refuse_until: Instant = LONG_AGO
    heard_sequence: int = 0
    last_choice_until: Instant = LONG_AGO

    # leader work of `work_term`, or of a term before, may run until `work_until` on any node; `work_of` led in that
    # term; and work of `work_over` and all terms before has surely ended
    work_until: Instant = LONG_AGO
    work_term: Term = 0
    work_of: OptionalNodeId = 0
    work_over: Term = -1
    own_work: Work = Work.NONE
    own_work_term: Term = 0

    # where this process runs, and the leadership that it may have had there in an earlier process
    place: str = ""
    ending: Ending | None = None

    far_terms: FarTerms | None = None

    # candidates
    round_number: int = 0
    round: Round | None = None
    inconclusive: int = 0
    transferred: EarlierWork | None = None  # what TimeoutNow said of earlier leader work
    round_trips: dict[NodeId, Seconds] = field(default_factory=dict)

    # leaders
    followers: dict[NodeId, Follower] = field(default_factory=dict)
    contact: Tally = field(default_factory=Tally)  # until when the promises of a quorum hold
    matched: Tally = field(default_factory=Tally)  # up to where a quorum has the log
    confirmed: Tally = field(default_factory=Tally)  # when the newest messages were sent that a quorum has answered
    changed: dict[NodeId, Follower] = field(default_factory=dict)  # the followers to look at when the turn ends
    looked_at: Index = 0  # how far the log went when all followers were looked at; 0 to look at all of them again
    owing: dict[NodeId, Follower] = field(default_factory=dict)  # the followers that owe an answer
    resend_at: Instant = NEVER  # nothing is sent again to any of them before this time
    sequence: int = 0
    heartbeat_at: Instant = NEVER
    heartbeat_sent_at: Instant = LONG_AGO
    leader_since: Instant = NEVER
    earlier: Earlier | None = None
    work_recorded: int = 0  # the change of the hard state that holds this leader's own claim
    handover: Handover | None = None

    # the log: up to where it is committed, was handed out to be applied, and matches that of this term's leader
    commit_index: Index = 0
    applied_index: Index = 0
    matched_index: Index = 0
    opened_at: Index = 0  # the index of this leader's no-op
    uncommitted_bytes: int = 0
    ahead: dict[Index, Early] = field(default_factory=dict)  # what came too early, by the index before it
    ahead_bytes: int = 0  # the size of all entries in it
    receiving: Receiving | None = None
    batch_bytes: int = 1024  # the most bytes of entries in one message, unless one entry alone is larger
    batch_room: dict[NodeId, int] = field(default_factory=dict)  # the same for each node whose path is known

    # reads that wait for a quorum, and when the round that is under way began
    reads: deque[WaitingRead] = field(default_factory=deque)
    read_round_at: Instant = LONG_AGO
    # whether the applied settings let reads go by the lease, and the index of this term's newest change of settings
    reads_by_lease: bool = False
    settings_at: Index = 0

    # configurations: the newest one that was reported, and since when it is committed; up to which index the
    # committed ones were looked at; and whether this node was a member by one of them, and is none by the last
    told: ToldConfiguration | None = None
    settled_at: Instant = NEVER
    seen_committed: Index = 0
    was_member: bool = False
    departed: bool = False
    caught_up: bool = False  # whether it has once had, as a member, every entry that a leader had committed

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
        """The other voters."""
        return tuple(node for node in self.configuration.electors if node != self.id)

    def round_trip(self, node: NodeId) -> Seconds:
        """Return the estimated round-trip time to a node, in seconds; a guess before the first measurement.

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
