"""Every message that nodes, clients and monitors exchange.

Each is a frozen :class:`msgspec.Struct` that is an *array* on the wire, ``[tag, field, field, …]``; how a
message becomes a datagram is told in :mod:`trioraft.wire`. A field that a later version appends is ignored by
an older one.

Units: every duration is in seconds, counted on the sender's clock. Ids (of nodes, clusters, formations) are
random integers from 1 to 2**63 - 1 and are written as 16 hexadecimal digits everywhere but on the wire; 0
stands for "none".
"""

from typing import Annotated, Final, TypeAlias

from msgspec import Meta, Struct

LARGEST_ID: Final = 2**63 - 1

Id = Annotated[int, Meta(ge=1, le=LARGEST_ID)]
OptionalId = Annotated[int, Meta(ge=0, le=LARGEST_ID)]
Counter = Annotated[int, Meta(ge=0, le=2**62)]
Seconds = Annotated[float, Meta(ge=0, le=10**8)]
Nonce = Annotated[bytes, Meta(max_length=32)]
Name = Annotated[str, Meta(max_length=255)]

# A formation, and a view of who sees whom, must fit in one datagram.
MEMBERS_MAX: Final = 100
Members = Annotated[tuple[Id, ...], Meta(max_length=MEMBERS_MAX)]


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


class Entry(Struct, frozen=True, array_like=True):
    """One log entry (Raft, section 5.3).

    Attributes
    ----------
    term : int
        The term in which the leader received it.
    kind : int
        What it is: 0 a no-op, 1 a command for the state machine, 2 a configuration.
    data : bytes
        The command or configuration.
    """

    term: Counter
    kind: Annotated[int, Meta(ge=0, le=2)]
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
    """

    service: Name
    name: Name
    challenge: Nonce = b""
    echo: Nonce = b""
    token: Nonce = b""
    padding: bytes = b""


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
        Numbers the leader's messages to one follower within a term; the answer names it.
    work : float
        For how many seconds after this message leader work of this term or an earlier one may still run.
    prev_log_index, prev_log_term : int
        The entry before the new ones.
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
    last_index : int
        The last log index known to match the leader's.
    last_choice : bool
        Whether leadership should rather go to somebody else, because the leader script failed here lately.
    """

    term: Counter
    sequence: Counter
    promise: Seconds
    last_index: Counter
    last_choice: bool


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


class NodeStatus(Struct, frozen=True):
    """A node's own account of itself; a map on the wire, and as it is in JSON.

    Attributes
    ----------
    id, name, address : str
        The node's id (16 hex digits), its name as people know it, its numeric ``ip:port`` ("" until known).
    role : str
        ``forming``, ``follower``, ``pre-candidate``, ``candidate`` or ``leader``.
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
        What somebody should look at: a foreign cluster, two processes with one id, an address without a node.
    forming : FormingStatus or None
        Why it has no cluster yet.
    peers : tuple of str
        The numeric addresses of the nodes it is in touch with.
    elections : tuple of Election
        The last elections it saw, newest first.
    counters : dict of str to int
        Datagrams sent, received and dropped, by reason.
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


Command: TypeAlias = Transfer | AbandonFormation


class ClientRequest(Struct, frozen=True, array_like=True, tag=14):
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
    """

    request: Counter
    done: bool
    detail: Annotated[str, Meta(max_length=1000)]
    leader: OptionalId = 0


ElectionMessage: TypeAlias = PreVoteRequest | PreVoteResponse | VoteRequest | VoteResponse | TimeoutNow
ReplicationMessage: TypeAlias = AppendEntriesRequest | AppendEntriesResponse
FormationMessage: TypeAlias = FormationView | FormationRequest | FormationResponse
ConsensusMessage: TypeAlias = FormationMessage | ElectionMessage | ReplicationMessage
Message: TypeAlias = ConsensusMessage | Hello | StatusRequest | Status | ClientRequest | ClientResponse
