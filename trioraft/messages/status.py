"""What a node tells of itself to whoever asks."""

from typing import Annotated

from msgspec import Meta, Struct

from trioraft.messages.ids import FIRST_VERSION, Index, Seconds, Term


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

    term: Term
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
    silent_seconds: Seconds | None = None


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
    leader_address : str
        The leader's numeric ``ip:port`` as the node knows it; empty where it does not, or leads itself.
    log_lines_dropped : int
        How many lines of its log, what its scripts wrote included, its process could not get rid of.
    exposed : bool
        Whether it listens at an address that is not loopback, and without a key.
    state_bytes, state_quota : int
        How large the key-value store is, as its quota counts, and how large it may become; 0 where there is no quota.
    """

    id: str
    name: str
    address: str
    role: str
    term: Term
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
    commit_index: Index = 0
    applied_index: Index = 0
    last_index: Index = 0
    members: tuple[MemberStatus, ...] = ()
    autopilot: tuple[AutopilotNote, ...] = ()
    lowest_version: int = FIRST_VERSION
    highest_version: int = FIRST_VERSION
    cluster_version: int = 0
    log_lines_dropped: int = 0
    leader_address: str = ""
    exposed: bool = False
    state_bytes: int = 0
    state_quota: int = 0


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
