"""What a node reports about itself."""

from typing import Annotated

from msgspec import Meta, Struct

from trioraft.messages.ids import FIRST_VERSION, Index, Seconds, Term


class Election(Struct, frozen=True):
    """An election whose result a node has learned.

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
    """What the scripts of a node are doing.

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
        The process of the script while it runs.
    exit_status : int or None
        How the last one ended: its exit code, or minus the signal that ended it.
    since_seconds : float
        How long it has had this `state`.
    """

    state: str = "none"
    script: str = ""
    path: str = ""
    pid: int | None = None
    exit_status: int | None = None
    since_seconds: Seconds = 0.0


class JobStatus(Struct, frozen=True):
    """What the leader work of a node is doing: its leader script, or the bodies of its program.

    Attributes
    ----------
    state : str
        ``none`` (the node does not lead, or has nothing to run), ``waits`` (it leads, and must not start it yet),
        ``starts``, ``runs``, ``again`` (the script has ended, and will be run again), ``ends`` (it was told to),
        ``over`` (the script has ended), ``failed`` (the same with a failure, and it is not to be run again) or
        ``given-up`` (it failed each time that it was run again).
    text : str
        The same in words, with its times; empty where there is nothing to say.
    token : int
        The fencing token of the work; 0 while there is none.
    runs_seconds : float or None
        How long it has run; None while it does not run.
    starts_in_seconds : float or None
        How long until it starts, at first or again; None where it has started, or where nobody can tell.
    exit_status : int or None
        How the script's last run in this term ended: its exit code, or minus the signal that ended it.
    starts : int
        How often the script was started in this term.
    """

    state: str = "none"
    text: str = ""
    token: int = 0
    runs_seconds: Seconds | None = None
    starts_in_seconds: Seconds | None = None
    exit_status: int | None = None
    starts: int = 0


def why_not_running(job: JobStatus) -> str:
    """Describe why the leader work of a node that leads does not run.

    Parameters
    ----------
    job : JobStatus
        What it is doing.

    Returns
    -------
    str
        The reason; empty while it runs.
    """
    if job.state == "runs":
        return ""
    return f"its job: {job.text}" if job.text else "nothing is to be run on it: neither a leader script nor a body"


class FormingStatus(Struct, frozen=True):
    """Why a node has no cluster yet.

    Attributes
    ----------
    waiting_for : str
        What it is waiting for, in words.
    formation : str or None
        The formation it has promised.
    members, missing : tuple of str
        The members of that formation, and those of them whose promise is not known yet.
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
        The id and name of the member; the name is empty until it is known.
    kind : str
        ``voter`` or ``learner``; and while a change is under way ``new voter`` or ``old voter``.
    silent_seconds : float or None
        How long the node has not heard from it, which means something of the followers of a leader only; None when it
        never has.
    """

    id: str
    name: str
    kind: str
    silent_seconds: Seconds | None = None


class AutopilotNote(Struct, frozen=True):
    """Something that the autopilot of a leader has done, or declines to do although it might be expected.

    Attributes
    ----------
    kind : str
        ``changed`` or ``declined``.
    text : str
        What it did or declines, to which member, and why.
    seconds_ago : float
        How long ago it was done, or how long it has been declined.
    """

    kind: str
    text: str
    seconds_ago: Seconds


class NodeStatus(Struct, frozen=True):
    """The status of a node by its own account; on the wire it is a map, as it is in JSON.

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
        Its cluster; None while it is forming.
    service : str
        Its service name.
    version : str
        The version of the software.
    sealed : bool
        Whether its datagrams are sealed with a cluster key.
    disk_stuck : bool
        Whether a write has waited for the disk longer than an election timeout.
    alerts : tuple of str
        What an operator should look at: a disk that failed, a foreign cluster, two processes with one id, an address
        without a node.
    forming : FormingStatus or None
        Why it has no cluster yet.
    peers : tuple of str
        The numeric addresses of the nodes it is in touch with.
    elections : tuple of Election
        The last elections it saw, newest first.
    counters : dict of str to int
        The datagrams sent, received and dropped, by reason; and ``loop_…``, how long the event loop was blocked
        (:class:`~trioraft.node.stalls.LoopWatch`).
    settings : dict of str to str
        The settings of the cluster, as far as the node has applied the log.
    voter : bool
        Whether it votes, by the configuration that it uses.
    commit_index, applied_index, last_index : int
        The indexes up to which its log is committed, as far as it knows, and applied, and the last one of the log.
    members : tuple of MemberStatus
        The members of its cluster by that configuration.
    autopilot : tuple of AutopilotNote
        What the autopilot of a leader has done lately, the newest first, and what it declines now.
    lowest_version, highest_version : int
        The versions of the protocol that the node's software speaks (:mod:`trioraft.versions`).
    cluster_version : int
        The one that its cluster speaks, by the configuration that it uses; 0 without a cluster.
    leader_address : str
        The numeric ``ip:port`` of the leader as the node knows it; empty where it does not know it, or leads itself.
    log_lines_dropped : int
        How many lines of its log, including those that its scripts wrote, its process could not write.
    exposed : bool
        Whether it listens without a key at an address that is not loopback.
    state_bytes, state_quota : int
        How large the key-value store is, as its quota counts, and how large it may grow; 0 where there is no quota.
    job : JobStatus
        What its leader work is doing.
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
    job: JobStatus = JobStatus()


class StatusRequest(Struct, frozen=True, array_like=True, tag=12):
    """Ask a node for its status.

    Attributes
    ----------
    subscribe : float
        How long the node is also to send its status by itself whenever its role, term or leader changes; 0 for one
        answer.
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
