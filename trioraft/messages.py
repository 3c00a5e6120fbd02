"""Every message that nodes, clients and monitors exchange.

Each is a frozen :class:`msgspec.Struct` that is an *array* on the wire, ``[tag, field, field, …]``; how a
message becomes a datagram is told in :mod:`trioraft.datagrams.wire`. A field that a later version appends is ignored
by an older one; what a version adds, and when it is used, is told in :mod:`trioraft.versions`.

Units: every duration is in seconds, counted on the sender's clock. Ids (of nodes, clusters, formations) are
random integers from 1 to 2**63 - 1 and are written as 16 hexadecimal digits everywhere but on the wire; 0
stands for "none".
"""

import enum
import re
from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Meta, Struct

LARGEST_ID: Final = 2**63 - 1
_ID: Final = re.compile("[0-9a-f]{16}")

Id = Annotated[int, Meta(ge=1, le=LARGEST_ID)]
OptionalId = Annotated[int, Meta(ge=0, le=LARGEST_ID)]
Counter = Annotated[int, Meta(ge=0, le=2**62)]
Seconds = Annotated[float, Meta(ge=0, le=10**8)]
Nonce = Annotated[bytes, Meta(max_length=32)]
Name = Annotated[str, Meta(max_length=255)]

# A formation, and a view of who sees whom, must fit in one datagram.
MEMBERS_MAX: Final = 100

# The version of the protocol that is spoken where nobody says another one.
FIRST_VERSION: Final = 1
Version = Annotated[int, Meta(ge=1, le=10_000)]

# A cluster that is made from a backup, or of one node's data, begins so far above the highest term in it; no cluster
# has so many elections.
TERM_LEAP: Final = 2**32

REQUEST_TAG: Final = 14
# Of messages that are put together from encoded ones.
REQUESTS_TAG: Final = 20
RESPONSES_TAG: Final = 21
Members = Annotated[tuple[Id, ...], Meta(max_length=MEMBERS_MAX)]


# The largest message, which is more than any entry, snapshot chunk or value may make it.
FRAGMENTED_MAX: Final = 2 * 1024 * 1024

# Of a state machine's commands, questions and answers; a message that holds one of them still fits.
PAYLOAD_MAX: Final = FRAGMENTED_MAX - 4096
# Of an entry's data: a command, and whose it is.
ENTRY_MAX: Final = PAYLOAD_MAX + 64


def format_id(identifier: int) -> str:
    """Write an id as people see it.

    Parameters
    ----------
    identifier : int
        A node, cluster or formation id.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    return f"{identifier:016x}"


def parse_id_untrusted(text: str | None) -> int:
    """Read an id that another node wrote.

    Parameters
    ----------
    text : str or None
        What should be 16 hexadecimal digits.

    Returns
    -------
    int
        The id; 0 when it is none.
    """
    return int(text, 16) if text is not None and _ID.fullmatch(text) else 0


_KIND_MAX: Final = 2**16


class EntryKind(enum.IntEnum):
    """What an entry is."""

    NO_OP = 0
    COMMAND = 1  # for the state machine, proposed on the leader itself
    CONFIGURATION = 2
    SESSION_COMMAND = 3  # for the state machine, once
    OPEN_SESSION = 4
    END_SESSION = 5
    SETTINGS = 6  # changes the cluster's settings, once
    UNKNOWN = 255  # what only a later version knows; never in a log

    @classmethod
    def _missing_(cls, value: object) -> "EntryKind | None":
        return cls.UNKNOWN if isinstance(value, int) and 0 <= value <= _KIND_MAX else None


class Entry(Struct, frozen=True, array_like=True, gc=False):
    """One log entry (Raft, section 5.3).

    The log has very many of them, and none can be part of a cycle: the garbage collector need not look at them.

    Attributes
    ----------
    term : int
        The term in which the leader received it.
    kind : EntryKind
        What it is.
    data : bytes
        The command, configuration or change.
    """

    term: Counter
    kind: EntryKind
    data: bytes = b""


# --- who is there -------------------------------------------------------------------------------------------


class Hello(Struct, frozen=True, array_like=True, tag=1):
    """Say who one is, and prove that one is there now.

    Three of them make a handshake: ``challenge`` → ``challenge, echo`` → ``echo``. A side trusts the other's
    address and process only when its own fresh challenge comes back.

    Attributes
    ----------
    service : str
        The service name that all nodes of one cluster share (``APP_NAME``). Empty, as `name` is then, where an
        answer would otherwise be larger than what it answers.
    name : str
        The sender's name as people know it, such as ``node-1``.
    challenge : bytes
        What the receiver shall echo; empty when the sender asks for nothing.
    echo : bytes
        The receiver's own challenge, given back; empty when there is none.
    token : bytes
        What the receiver shall put into every datagram that it sends to the sender unsealed; empty when sealed.
    padding : bytes
        Makes the first one at least as large as its answer, so that nobody can use a node to multiply traffic.
    lowest, highest : int
        Which versions of the protocol the sender speaks (:mod:`trioraft.versions`): as the member of a cluster none
        below the cluster's.
    """

    service: Name
    name: Name
    challenge: Nonce = b""
    echo: Nonce = b""
    token: Nonce = b""
    padding: bytes = b""
    lowest: Version = FIRST_VERSION
    highest: Version = FIRST_VERSION


# --- formation ----------------------------------------------------------------------------------------------


class FormationView(Struct, frozen=True, array_like=True, tag=2):
    """Tell whom a node without a cluster sees; changes nothing durable.

    Attributes
    ----------
    sees : tuple of int
        The ids of all nodes without a cluster that the sender has heard of lately, its own among them.
    expect : int
        The sender's ``BOOTSTRAP_EXPECT``; 0 when it only ever joins.
    """

    sees: Members
    expect: Counter


class FormationRequest(Struct, frozen=True, array_like=True, tag=3):
    """Say that the sender has promised a formation, and ask the receiver to promise it too.

    Attributes
    ----------
    formation : int
        The formation's random id, which becomes the cluster id when it stands.
    members : tuple of int
        All members, in ascending order.
    """

    formation: Id
    members: Members


class FormationResponse(Struct, frozen=True, array_like=True, tag=4):
    """Answer a :class:`FormationRequest`.

    Attributes
    ----------
    formation : int
        The formation that was asked for.
    promised : bool
        Whether the sender has promised it; False says, durably, that it never will.
    """

    formation: Id
    promised: bool


# --- election -----------------------------------------------------------------------------------------------


class PreVoteRequest(Struct, frozen=True, array_like=True, tag=5):
    """Ask whether an election could be won (thesis 9.6).

    Attributes
    ----------
    term : int
        The term that the election would have.
    round : int
        Numbers the sender's rounds, so that an answer to an earlier one does not count.
    last_log_index, last_log_term : int
        The end of the sender's log.
    """

    term: Counter
    round: Counter
    last_log_index: Counter
    last_log_term: Counter


class PreVoteResponse(Struct, frozen=True, array_like=True, tag=6):
    """Answer a :class:`PreVoteRequest`.

    Attributes
    ----------
    term : int
        The sender's own term.
    round : int
        The round that was asked about.
    granted : bool
        Whether the sender would vote for the receiver now.
    """

    term: Counter
    round: Counter
    granted: bool


class VoteRequest(Struct, frozen=True, array_like=True, tag=7):
    """Ask for a vote (Raft, figure 2: RequestVote).

    Attributes
    ----------
    term : int
        The candidate's term.
    last_log_index, last_log_term : int
        The end of the candidate's log.
    transfer : bool
        Whether the leader of the term directly before gave its leadership to the candidate. Such a vote is
        given although the voter heard from that leader a moment ago.
    """

    term: Counter
    last_log_index: Counter
    last_log_term: Counter
    transfer: bool


class VoteResponse(Struct, frozen=True, array_like=True, tag=8):
    """Answer a :class:`VoteRequest`.

    Attributes
    ----------
    term : int
        The sender's own term.
    granted : bool
        Whether the candidate has the sender's vote in that term.
    work : float
        For how many seconds from now leader work of `work_term`, or of a term before it, may still run.
    work_term : int
        The term of the last leader that the sender remembers.
    """

    term: Counter
    granted: bool
    work: Seconds
    work_term: Counter


class TimeoutNow(Struct, frozen=True, array_like=True, tag=9):
    """Give leadership to the receiver (thesis 3.10). The sender has no lease and runs no leader work any more.

    Attributes
    ----------
    term : int
        The sender's term. The receiver may start an election in the term directly after, and in no other.
    work : float
        For how many seconds leader work of this term or an earlier one may still run; 0 when all has ended.
    """

    term: Counter
    work: Seconds


# --- replication --------------------------------------------------------------------------------------------


class AppendEntriesRequest(Struct, frozen=True, array_like=True, tag=10):
    """Replicate entries; without any it is the heartbeat (Raft, figure 2).

    Attributes
    ----------
    term : int
        The leader's term.
    sequence : int
        Numbers the leader's messages within a term; the answer names it.
    work : float
        For how many seconds after this message leader work of this term or an earlier one may still run.
    prev_log_index, prev_log_term : int
        The entry before the new ones; in a heartbeat, which is the same for all followers, the newest committed one.
    commit_index : int
        The leader's commit index.
    entries : tuple of Entry
        The new entries.
    """

    term: Counter
    sequence: Counter
    work: Seconds
    prev_log_index: Counter
    prev_log_term: Counter
    commit_index: Counter
    entries: tuple[Entry, ...] = ()


class AppendEntriesResponse(Struct, frozen=True, array_like=True, tag=11):
    """Answer an :class:`AppendEntriesRequest`.

    Attributes
    ----------
    term : int
        The sender's own term.
    sequence : int
        The message that is answered.
    promise : float
        For how many seconds from the receipt of that message the sender refuses to vote for anybody else;
        0 with a refusal.
    matched : int
        Up to here the sender's log is the leader's, and on disk.
    last_choice : bool
        Whether leadership should rather go to somebody else, because the leader script failed here lately.
    hint_index, hint_term : int
        When the sender does not have the entry before the new ones: the last index at which the logs may agree,
        and its term there. Else 0.
    rejected : bool
        Whether the sender did not have the entry before the new ones.
    """

    term: Counter
    sequence: Counter
    promise: Seconds
    matched: Counter
    last_choice: bool
    hint_index: Counter = 0
    hint_term: Counter = 0
    rejected: bool = False


class InstallSnapshotRequest(Struct, frozen=True, array_like=True, tag=16):
    """Send a part of a snapshot to a follower that needs entries the leader has dropped (Raft, section 7).

    Attributes
    ----------
    term : int
        The leader's term.
    index, index_term : int
        The last entry that the snapshot covers.
    size : int
        The size of the whole, in bytes.
    checksum : int
        CRC-32 of the whole.
    offset : int
        Where this part begins, in bytes.
    data : bytes
        The part.
    configuration : bytes
        The configuration after that entry, as entries have it; empty when it is the formation's.
    """

    term: Counter
    index: Counter
    index_term: Counter
    size: Counter
    checksum: Counter
    offset: Counter
    data: bytes = b""
    configuration: bytes = b""


class InstallSnapshotResponse(Struct, frozen=True, array_like=True, tag=17):
    """Answer an :class:`InstallSnapshotRequest`.

    Attributes
    ----------
    term : int
        The sender's own term.
    index : int
        The snapshot that is answered for.
    offset : int
        The sender has everything before this.
    installed : bool
        Whether it has all that the snapshot covers in its log or state, on disk.
    """

    term: Counter
    index: Counter
    offset: Counter
    installed: bool


# --- status and commands ------------------------------------------------------------------------------------


class Election(Struct, frozen=True):
    """An election that a node saw the result of.

    Attributes
    ----------
    term : int
        Its term.
    leader : str
        The id of the node that won.
    seconds_ago : float
        How long ago the node learned of it.
    """

    term: int
    leader: str
    seconds_ago: Seconds


class HookStatus(Struct, frozen=True):
    """What a node's scripts are doing.

    Attributes
    ----------
    state : str
        ``none`` (no script is configured), ``idle``, ``waiting`` (for earlier leader work to end), ``running``,
        ``ending``, ``exited`` or ``failed``.
    script : str
        ``leader`` or ``follower``, or empty when none has run yet.
    path : str
        The script's path, or empty.
    pid : int or None
        Its process while it runs.
    exit_status : int or None
        How it last ended: its exit code, or minus the signal that ended it.
    since_seconds : float
        For how long `state` has been so.
    """

    state: str = "none"
    script: str = ""
    path: str = ""
    pid: int | None = None
    exit_status: int | None = None
    since_seconds: Seconds = 0.0


class FormingStatus(Struct, frozen=True):
    """Why a node has no cluster yet.

    Attributes
    ----------
    waiting_for : str
        What it waits for, in words.
    formation : str or None
        The formation it has promised.
    members, missing : tuple of str
        The members of that formation, and those of them whose promise is not known.
    """

    waiting_for: str
    formation: str | None = None
    members: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


class MemberStatus(Struct, frozen=True):
    """A member of a node's cluster, as that node knows it.

    Attributes
    ----------
    id, name : str
        The member's id and name; the name is empty while nobody has told it.
    kind : str
        ``voter`` or ``learner``; and while a change is under way ``new voter`` or ``old voter``.
    silent_seconds : float or None
        For how long the node has not heard of it, which tells something about a leader's followers only; None when
        it never has.
    """

    id: str
    name: str
    kind: str
    silent_seconds: float | None = None


class AutopilotNote(Struct, frozen=True):
    """Something that the autopilot of a leader has done, or does not do although one might expect it.

    Attributes
    ----------
    kind : str
        ``changed`` or ``declined``.
    text : str
        What and whom, with the reason.
    seconds_ago : float
        When it was done, or since when it is declined.
    """

    kind: str
    text: str
    seconds_ago: Seconds


class NodeStatus(Struct, frozen=True):
    """A node's own account of itself; a map on the wire, and as it is in JSON.

    Attributes
    ----------
    id, name, address : str
        The node's id (16 hex digits), its name as people know it, its numeric ``ip:port`` ("" until known).
    role : str
        ``forming``, ``learner``, ``follower``, ``pre-candidate``, ``candidate``, ``leader`` or ``removed``.
    term : int
        Its current term.
    leader : str or None
        The id of the leader it knows.
    pid : int
        Its process id.
    uptime_seconds : float
        How long its process has run.
    hook : HookStatus
        What its scripts are doing.
    cluster_id : str or None
        Its cluster, None while it is forming.
    service : str
        Its service name.
    version : str
        The version of the software.
    sealed : bool
        Whether its datagrams are sealed with a cluster key.
    disk_stuck : bool
        Whether a write has been waiting for the disk for longer than an election timeout.
    alerts : tuple of str
        What somebody should look at: a disk that failed, a foreign cluster, two processes with one id, an address
        without a node.
    forming : FormingStatus or None
        Why it has no cluster yet.
    peers : tuple of str
        The numeric addresses of the nodes it is in touch with.
    elections : tuple of Election
        The last elections it saw, newest first.
    counters : dict of str to int
        Datagrams sent, received and dropped, by reason; and ``loop_…``, how long the event loop was blocked
        (:class:`~trioraft.node.stalls.LoopWatch`).
    settings : dict of str to str
        The settings of the cluster, as far as the node has applied the log.
    voter : bool
        Whether it votes, by the configuration that it goes by.
    commit_index, applied_index, last_index : int
        Up to where its log is committed as far as it knows, applied, and there.
    members : tuple of MemberStatus
        The members of its cluster by that configuration.
    autopilot : tuple of AutopilotNote
        What the autopilot of a leader has done lately, newest first, and what it declines now.
    lowest_version, highest_version : int
        Which versions of the protocol the node's software speaks (:mod:`trioraft.versions`).
    cluster_version : int
        Which one its cluster speaks, by the configuration that it goes by; 0 without a cluster.
    """

    id: str
    name: str
    address: str
    role: str
    term: int
    leader: str | None
    pid: int
    uptime_seconds: Seconds
    hook: HookStatus
    cluster_id: str | None
    service: str
    version: str
    sealed: bool
    disk_stuck: bool
    alerts: tuple[str, ...] = ()
    forming: FormingStatus | None = None
    peers: tuple[str, ...] = ()
    elections: tuple[Election, ...] = ()
    counters: dict[str, int] = {}
    settings: dict[str, str] = {}
    voter: bool = False
    commit_index: int = 0
    applied_index: int = 0
    last_index: int = 0
    members: tuple[MemberStatus, ...] = ()
    autopilot: tuple[AutopilotNote, ...] = ()
    lowest_version: int = FIRST_VERSION
    highest_version: int = FIRST_VERSION
    cluster_version: int = 0


class StatusRequest(Struct, frozen=True, array_like=True, tag=12):
    """Ask a node for its status.

    Attributes
    ----------
    subscribe : float
        For how many seconds the node shall also send its status, unasked, whenever its role, term or leader
        changes; 0 for one answer.
    """

    subscribe: Annotated[float, Meta(ge=0, le=60)] = 0.0


class Status(Struct, frozen=True, array_like=True, tag=13):
    """Answer a :class:`StatusRequest`.

    Attributes
    ----------
    node : NodeStatus
        The sender's status.
    """

    node: NodeStatus


class Transfer(Struct, frozen=True, array_like=True, tag=1):
    """Ask the leader to give its leadership to another node.

    Attributes
    ----------
    to : int
        The node that shall lead, or 0 for the best one.
    """

    to: OptionalId = 0


class AbandonFormation(Struct, frozen=True, array_like=True, tag=2):
    """Ask a forming node to give up the formation it has promised.

    Attributes
    ----------
    formation : int
        The formation that is to be given up.
    """

    formation: Id


class OpenSession(Struct, frozen=True, array_like=True, tag=3):
    """Ask the leader to open a session, in which every command is carried out once (thesis 6.3)."""


class EndSession(Struct, frozen=True, array_like=True, tag=4):
    """Ask the leader to end a session.

    Attributes
    ----------
    session : int
        The session.
    """

    session: Counter


class KeepSession(Struct, frozen=True, array_like=True, tag=5):
    """Tell the leader that the client is still there.

    Attributes
    ----------
    session : int
        Its session.
    """

    session: Counter


class Propose(Struct, frozen=True, array_like=True, tag=6):
    """Ask the leader to have a command committed and applied, once, however often this comes.

    Attributes
    ----------
    session : int
        The client's session.
    number : int
        Which of its commands this is; the first one is 1.
    answered_below : int
        The client waits for the result of no command before this number any more.
    data : bytes
        The command, for the state machine.
    """

    session: Counter
    number: Counter
    answered_below: Counter
    data: bytes


class Query(Struct, frozen=True, array_like=True, tag=7):
    """Ask any node a question that its state machine answers.

    Attributes
    ----------
    data : bytes
        The question.
    linearizable : bool
        Whether the answer must show everything that was acknowledged before; else it is what the node has.
    """

    data: bytes
    linearizable: bool = True


class Ask(Struct, frozen=True, array_like=True, tag=8):
    """Ask the program around the state machine, which may know more than is replicated, and may take its time.

    Attributes
    ----------
    data : bytes
        The question.
    leader : bool
        Whether only a node may answer that has made sure, after the question came, that it leads.
    """

    data: bytes
    leader: bool = False


# How many bytes of a backup are sent at once, at most.
BACKUP_PART_BYTES: Final = 32 * 1024


class StartBackup(Struct, frozen=True, array_like=True, tag=12):
    """Ask any member to make a backup of a state that shows everything that was acknowledged before.

    It is answered with a :class:`BackupPart` once it is begun.
    """


class ReadBackup(Struct, frozen=True, array_like=True, tag=13):
    """Ask for a part of a backup, or how far it is; answered with a :class:`BackupPart`.

    Attributes
    ----------
    backup : int
        The backup.
    offset : int
        Where the part begins, in bytes.
    size : int
        How many bytes it has at most; 0 to be told only how far the backup is.
    """

    backup: Id
    offset: Counter = 0
    size: Annotated[int, Meta(ge=0, le=BACKUP_PART_BYTES)] = 0


class EndBackup(Struct, frozen=True, array_like=True, tag=14):
    """Tell the node that it need not keep a backup any longer.

    Attributes
    ----------
    backup : int
        The backup.
    """

    backup: Id


class BackupPart(Struct, frozen=True, array_like=True):
    """What a node tells of a backup that it keeps; as CBOR it is the `data` of a :class:`ClientResponse`.

    Attributes
    ----------
    backup : int
        Names the backup on that node.
    size : int
        How many bytes it has by now.
    whole : bool
        Whether that is all; before, no part is given.
    data : bytes
        The part that was asked for.
    """

    backup: Id
    size: Counter
    whole: bool
    data: Annotated[bytes, Meta(max_length=BACKUP_PART_BYTES)] = b""


class StateDigest(Struct, frozen=True, array_like=True, tag=9):
    """Ask a node for a hash of the replicated state it has; answered with a :class:`StateDigested`."""


class StateDigested(Struct, frozen=True, array_like=True):
    """Answer a :class:`StateDigest`, in :attr:`ClientResponse.data`.

    Attributes
    ----------
    index : int
        The last entry that was applied.
    digest : str
        64 hexadecimal digits: the same on all nodes that have applied the same entries.
    """

    index: Counter
    digest: Name


class ReadSettings(Struct, frozen=True, array_like=True, tag=16):
    """Ask any node for the settings of the cluster, as they were changed by everything acknowledged before."""


class ChangeSettings(Struct, frozen=True, array_like=True, tag=17):
    """Ask the leader to have settings of the cluster changed, once, however often this comes.

    Attributes
    ----------
    session, number, answered_below : int
        As in :class:`Propose`.
    data : bytes
        The change (:mod:`trioraft.cluster_settings`).
    """

    session: Counter
    number: Counter
    answered_below: Counter
    data: Annotated[bytes, Meta(max_length=10_000)]


class ChangeMember(Struct, frozen=True, array_like=True, tag=18):
    """Ask the leader to change what one node is to the cluster; answered when that is committed.

    Attributes
    ----------
    action : str
        ``add`` (make it a learner), ``promote`` (a learner to a voter), ``demote`` (the reverse) or ``remove``; or
        ``leave``, as a member asks itself before it stops: it is removed where the rules of the autopilot allow it.
    node : int
        The node.
    """

    action: Literal["add", "remove", "promote", "demote", "leave"]
    node: Id


class StepDown(Struct, frozen=True, array_like=True, tag=19):
    """Ask the leader to lead no more for a while: it gives its leadership away, or ends it when nobody can lead."""


class UnknownCommand(Struct, frozen=True, array_like=True, tag=0):
    """Stands for a command that only a later version knows, and is never sent.

    Attributes
    ----------
    command : int
        Its tag.
    """

    command: Counter


Command: TypeAlias = (
    Transfer
    | AbandonFormation
    | OpenSession
    | EndSession
    | KeepSession
    | Propose
    | Query
    | Ask
    | StartBackup
    | ReadBackup
    | EndBackup
    | StateDigest
    | ReadSettings
    | ChangeSettings
    | ChangeMember
    | StepDown
    | UnknownCommand
)


class ClientRequest(Struct, frozen=True, array_like=True, tag=REQUEST_TAG):
    """Ask a node to do something.

    Attributes
    ----------
    request : int
        Numbers the sender's requests; the answer names it, and a repeated request is carried out once.
    command : Command
        What to do.
    """

    request: Counter
    command: Command


class Refusal(enum.StrEnum):
    """Why a request was not carried out, as far as a program has to know; the detail tells people.

    ``NOT_LEADER``, ``NO_LEADER``, ``BUSY``, ``NO_CLUSTER``   it was not, here; elsewhere or later it may be
    ``NOT_COMMITTED``   it was not, and never will be
    ``UNKNOWN``         it was, or will be, or not; within a session it is safe to repeat it
    ``SESSION_ENDED``   the session has ended: whether earlier tries were carried out is not known
    ``REFUSED``         it was not, and it will not be when it is repeated
    ``NO_RESULT``       it was, but its result cannot be told
    """

    NOT_LEADER = "not-leader"
    NO_LEADER = "no-leader"
    NO_CLUSTER = "no-cluster"
    BUSY = "busy"
    NOT_COMMITTED = "not-committed"
    UNKNOWN = "unknown"
    SESSION_ENDED = "session-ended"
    REFUSED = "refused"
    NO_RESULT = "no-result"


class ClientResponse(Struct, frozen=True, array_like=True, tag=15):
    """Answer a :class:`ClientRequest`.

    Attributes
    ----------
    request : int
        The request that is answered.
    done : bool
        Whether it was carried out.
    detail : str
        What was done, or why it was not, in words.
    leader : int
        The leader, when the request must go to it and the answering node is another one; else 0.
    code : str
        Why it was not carried out, one of :class:`Refusal`; empty when it was.
    data : bytes
        What the state machine, or the program around it, answered; or a :class:`BackupPart`.
    session : int
        The session that was opened.
    term : int
        The answering node's term, in which `leader` leads.
    leader_address : str
        The leader's numeric ``ip:port`` as the answering node knows it; empty where it does not.
    """

    request: Counter
    done: bool
    detail: Annotated[str, Meta(max_length=1000)] = ""
    leader: OptionalId = 0
    code: Annotated[str, Meta(max_length=32)] = ""
    data: bytes = b""
    session: Counter = 0
    term: Counter = 0
    leader_address: Name = ""


# In one message.
BATCH_MAX: Final = 256


class ClientRequests(Struct, frozen=True, array_like=True, tag=REQUESTS_TAG):
    """Several requests in one datagram.

    Attributes
    ----------
    requests : tuple of ClientRequest
        The requests; each is carried out and answered as if it had come alone.
    """

    requests: Annotated[tuple[ClientRequest, ...], Meta(max_length=BATCH_MAX)]


class ClientResponses(Struct, frozen=True, array_like=True, tag=RESPONSES_TAG):
    """Several answers in one datagram.

    Attributes
    ----------
    responses : tuple of ClientResponse
        The answers.
    """

    responses: Annotated[tuple[ClientResponse, ...], Meta(max_length=BATCH_MAX)]


# --- reads on followers -------------------------------------------------------------------------------------


class ReadIndexRequest(Struct, frozen=True, array_like=True, tag=18):
    """Ask the leader up to where the log must be applied for a linearizable read (thesis 6.4).

    Attributes
    ----------
    read : int
        Numbers the sender's rounds of reads; the answer names it.
    """

    read: Counter


class ReadIndexResponse(Struct, frozen=True, array_like=True, tag=19):
    """Answer a :class:`ReadIndexRequest`.

    Attributes
    ----------
    read : int
        The round that is answered.
    done : bool
        Whether the sender leads, and has made sure of it since it was asked.
    index : int
        The read index.
    """

    read: Counter
    done: bool
    index: Counter = 0


# --- parts of large messages --------------------------------------------------------------------------------


class Fragment(Struct, frozen=True, array_like=True, tag=30):
    """Carry one part of a message that is larger than a datagram.

    All parts have ``ceil(size / count)`` bytes but the last, which has the rest.

    Attributes
    ----------
    number : int
        Numbers the messages that the sender has split, in this session.
    sending : int
        Numbers the fragments that the sender has sent, in this session; a repeated one has a new number.
    first : int
        The smallest `number` that the sender is still sending: what is incomplete before it will never be whole.
    size : int
        The size of the whole message in bytes.
    count : int
        In how many parts it is split, at least 2.
    part : int
        Which of them this is; the first is 0.
    data : bytes
        The part.
    """

    number: Counter
    sending: Counter
    first: Counter
    size: Annotated[int, Meta(ge=2, le=FRAGMENTED_MAX)]
    count: Annotated[int, Meta(ge=2, le=FRAGMENTED_MAX)]
    part: Annotated[int, Meta(ge=0, lt=FRAGMENTED_MAX)]
    data: Annotated[bytes, Meta(min_length=1)]


class FragmentsReceived(Struct, frozen=True, array_like=True, tag=31):
    """Tell which parts of a message have arrived.

    Attributes
    ----------
    number : int
        The message.
    sending : int
        The largest `sending` among its fragments that have arrived.
    before : int
        All parts before this one have arrived.
    further : bytes
        Bit ``n % 8`` of byte ``n // 8`` (1 being bit 0) tells whether part ``before + n`` has arrived; at most 1,024
        of them, and no zero bytes at the end.
    dropped : bool
        Whether the receiver has given the message up for want of room: it is not to be sent any further.
    """

    number: Counter
    sending: Counter
    before: Annotated[int, Meta(ge=0, le=FRAGMENTED_MAX)]
    further: Annotated[bytes, Meta(max_length=128)] = b""
    dropped: bool = False


ElectionMessage: TypeAlias = PreVoteRequest | PreVoteResponse | VoteRequest | VoteResponse | TimeoutNow
ReplicationMessage: TypeAlias = (
    AppendEntriesRequest | AppendEntriesResponse | InstallSnapshotRequest | InstallSnapshotResponse
)
FormationMessage: TypeAlias = FormationView | FormationRequest | FormationResponse
ConsensusMessage: TypeAlias = FormationMessage | ElectionMessage | ReplicationMessage
ReadMessage: TypeAlias = ReadIndexRequest | ReadIndexResponse
ClientMessage: TypeAlias = ClientRequest | ClientRequests | ClientResponse | ClientResponses
Message: TypeAlias = ConsensusMessage | ReadMessage | Hello | StatusRequest | Status | ClientMessage
