"""All that one member remembers, in one place; the rules are in the modules beside it."""

import enum
import random
from collections import deque
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from msgspec import Struct

from trioraft.consensus.configuration import Configuration
from trioraft.consensus.timing import Timing
from trioraft.messages import Message

NEVER: Final = float("inf")
LONG_AGO: Final = float("-inf")


class Role(enum.StrEnum):
    """What a node is to its cluster."""

    FORMING = "forming"
    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


class FormationState(Struct, frozen=True):
    """What a node has promised about forming a cluster.

    Attributes
    ----------
    cluster : int
        The cluster it is a member of; 0 while there is none.
    promised : int
        The formation it has promised; 0 when there is none.
    members : tuple of int
        The members of that cluster or formation.
    never : tuple of int
        Formations it will never promise.
    """

    cluster: int = 0
    promised: int = 0
    members: tuple[int, ...] = ()
    never: tuple[int, ...] = ()


class HardState(Struct, frozen=True):
    """What must be on disk before anything that depends on it leaves the node.

    Attributes
    ----------
    term, voted_for : int
        The current term, and whom the node voted for in it (0: nobody yet).
    promise : float
        The longest time, in seconds, for which it ever promised a leader to refuse votes.
    work : float
        For how many seconds after the last heartbeat leader work may still run.
    work_term : int
        The term of the leader that said so.
    formation : FormationState
        How the cluster came to be.
    """

    term: int = 0
    voted_for: int = 0
    promise: float = 0.0
    work: float = 0.0
    work_term: int = 0
    formation: FormationState = FormationState()


class Outbox:
    """Messages that wait for the disk, and those that wait for nothing any more.

    Every change of the hard state gets a number. A message leaves only when all changes made before it are on
    disk, so no rule has to think about it; the one exception, the leader's heartbeat, says so itself.
    """

    def __init__(self, hard: HardState) -> None:
        self.hard = hard
        self.written = 0  # number of the newest change
        self.handed_out = 0  # number of the newest change that was given to the disk
        self.durable = 0  # number of the newest change that is on disk
        self.waiting_since = NEVER  # when the oldest change that is not on disk was made
        self._changed_at: deque[tuple[int, float]] = deque()
        self._held: deque[tuple[int, int, Message]] = deque()
        self._ready: list[tuple[int, Message]] = []

    def persist(self, hard: HardState, now: float) -> None:
        """Change the hard state.

        Parameters
        ----------
        hard : HardState
            The new state.
        now : float
            The time in seconds.
        """
        if hard == self.hard:
            return
        self.hard = hard
        self.written += 1
        self._changed_at.append((self.written, now))
        self.waiting_since = self._changed_at[0][1]

    def send(self, to: int, message: Message, *, after_disk: bool = True) -> None:
        """Send a message once all that was changed before it is on disk.

        Parameters
        ----------
        to : int
            The receiver's node id.
        message : Message
            The message.
        after_disk : bool
            Whether it waits for the disk.
        """
        if after_disk and self.durable < self.written:
            self._held.append((self.written, to, message))
        else:
            self._ready.append((to, message))

    def to_persist(self) -> tuple[int, HardState] | None:
        """Hand out the newest state that the disk does not have yet.

        Returns
        -------
        tuple of int and HardState, or None
            The number to give to :meth:`persisted` and the state; None when there is nothing new.
        """
        if self.handed_out == self.written:
            return None
        self.handed_out = self.written
        return self.written, self.hard

    def persisted(self, number: int) -> None:
        """Release what waited for a change.

        Parameters
        ----------
        number : int
            The change that is on disk now, with all before it.
        """
        self.durable = max(self.durable, number)
        while self._changed_at and self._changed_at[0][0] <= self.durable:
            self._changed_at.popleft()
        self.waiting_since = self._changed_at[0][1] if self._changed_at else NEVER
        while self._held and self._held[0][0] <= self.durable:
            _, to, message = self._held.popleft()
            self._ready.append((to, message))

    def to_send(self) -> list[tuple[int, Message]]:
        """Drain the messages that may leave.

        Returns
        -------
        list of tuple of int and Message
            Receiver and message, in the order they were sent.
        """
        ready, self._ready = self._ready, []
        return ready


# --- what a member tells the program around it --------------------------------------------------


class Formed(Struct, frozen=True):
    """The formation that this node promised stands: it is a member of a cluster now."""

    cluster: int
    members: tuple[int, ...]


class FormationEnded(Struct, frozen=True):
    """The formation that this node promised was refused or abandoned; another one may come."""

    formation: int
    reason: str


class ForeignCluster(Struct, frozen=True):
    """A node of another cluster spoke to this one."""

    node: int
    cluster: int


class BecameLeader(Struct, frozen=True):
    """The node was elected."""

    term: int


class SteppedDown(Struct, frozen=True):
    """The node leads no more."""

    term: int
    reason: str


class StartWork(Struct, frozen=True):
    """Leader work may start; it must be told to end at `deadline` unless that is extended."""

    token: int
    deadline: float


class ExtendWork(Struct, frozen=True):
    """The lease was renewed until `deadline`."""

    deadline: float


class EndWork(Struct, frozen=True):
    """Leader work must be told to end now."""


Event: TypeAlias = (
    Formed | FormationEnded | ForeignCluster | BecameLeader | SteppedDown | StartWork | ExtendWork | EndWork
)


# --- what a member remembers -------------------------------------------------------------------------------


class Work(enum.Enum):
    """What this node's own leader work is doing."""

    NONE = enum.auto()
    RUNNING = enum.auto()
    ENDING = enum.auto()


@dataclass(slots=True)
class Follower:
    """What a leader knows of one follower.

    Attributes
    ----------
    sent : dict of int to float
        When each message that may still be answered was sent.
    answered : int
        The newest message that was answered.
    promised_until : float
        Until when, counted from the send time of what it answered, it votes for nobody else.
    heard_at : float
        When it last answered.
    resend_at : float
        When it is sent a heartbeat again, because the last one has not been answered.
    last_choice : bool
        Whether leadership should rather go to somebody else.
    """

    sent: dict[int, float] = field(default_factory=dict)
    answered: int = 0
    promised_until: float = LONG_AGO
    heard_at: float = LONG_AGO
    resend_at: float = NEVER
    last_choice: bool = False


@dataclass(slots=True)
class Round:
    """One round of asking for (pre-)votes.

    Attributes
    ----------
    granted, refused : set of int
        Who has answered, and how.
    asked_at : dict of int to float
        When each voter was last asked.
    resend_at : dict of int to float
        When each that has not answered is asked again.
    deadline : float
        When the round has been inconclusive.
    work : dict of int to tuple of int and float
        For each vote, the term of the last leader that the voter remembers, and until when work may run.
    """

    granted: set[int] = field(default_factory=set)
    refused: set[int] = field(default_factory=set)
    asked_at: dict[int, float] = field(default_factory=dict)
    resend_at: dict[int, float] = field(default_factory=dict)
    deadline: float = NEVER
    work: dict[int, tuple[int, float]] = field(default_factory=dict)


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

    target: int
    deadline: float
    tried: set[int] = field(default_factory=set)
    offered: bool = False
    resend_at: float = NEVER
    retarget_at: float = NEVER


@dataclass(slots=True)
class State:
    """A member's state: what the paper's figure 2 lists, and what leases and leader work add."""

    id: int
    configuration: Configuration
    timing: Timing
    random: random.Random
    outbox: Outbox
    events: list[Event]

    role: Role = Role.FOLLOWER
    leader: int = 0

    # followers: when the election timer runs out, until when votes are refused, the newest heartbeat's number
    election_deadline: float = NEVER
    refuse_until: float = LONG_AGO
    heard_sequence: int = 0
    last_choice_until: float = LONG_AGO

    # leader work of `work_term` or before may run until `work_until`, wherever it runs
    work_until: float = LONG_AGO
    work_term: int = 0
    own_work: Work = Work.NONE
    own_work_term: int = 0

    # candidates
    round_number: int = 0
    round: Round | None = None
    inconclusive: int = 0
    transferred: tuple[int, float] | None = None  # (term, until): what TimeoutNow said of earlier leader work
    round_trips: dict[int, float] = field(default_factory=dict)

    # leaders
    followers: dict[int, Follower] = field(default_factory=dict)
    sequence: int = 0
    heartbeat_at: float = NEVER
    leader_since: float = NEVER
    work_recorded: int = 0  # the change of the hard state that holds this leader's own claim
    handover: Handover | None = None

    # the log
    last_log_index: int = 0
    last_log_term: int = 0
    commit_index: int = 0

    @property
    def hard(self) -> HardState:
        """The newest hard state, on disk or on its way there."""
        return self.outbox.hard

    @property
    def term(self) -> int:
        """The current term."""
        return self.outbox.hard.term

    @property
    def others(self) -> tuple[int, ...]:
        """The other voters."""
        return self.configuration.others(self.id)

    def round_trip(self, node: int) -> float:
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

    def measure_round_trip(self, node: int, seconds: float) -> None:
        """Take one measurement into the estimate, as TCP does (RFC 6298, section 2).

        Parameters
        ----------
        node : int
            The node that answered.
        seconds : float
            The time from request to answer.
        """
        known = self.round_trips.get(node)
        self.round_trips[node] = seconds if known is None else known + (seconds - known) / 8
