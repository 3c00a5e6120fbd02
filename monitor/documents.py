"""The answers of the API as typed documents; OpenAPI describes them from these structs."""

from datetime import UTC, datetime

from msgspec import Struct

from trioraft.messages import NodeStatus


class Node(NodeStatus, frozen=True, kw_only=True):
    """A node's own account of itself, and how fresh it is.

    Attributes
    ----------
    reachable : bool
        Whether the node was heard within the last two refresh intervals.
    age_seconds : float
        The age of this account.
    """

    reachable: bool
    age_seconds: float


class NodesDocument(Struct, frozen=True):
    """Every node that has answered so far."""

    nodes: tuple[Node, ...]


class ElectionRecord(Struct, frozen=True):
    """An election that was won; `at` is in UTC by the monitor's clock."""

    cluster_id: str | None
    term: int
    leader: str
    name: str
    at: datetime


class AutopilotRecord(Struct, frozen=True):
    """A change that the autopilot of a leader made (`kind` is ``changed``) or declines (``declined``).

    `node` and `name` are the leader's; `at` is when the autopilot did it, or since when it declines it, in UTC by the
    monitor's clock.
    """

    kind: str
    text: str
    node: str
    name: str
    at: datetime


class MonitorFacts(Struct, frozen=True):
    """The monitor that made the document, and when; and the number of lines dropped from its own log."""

    service: str
    hostname: str
    version: str
    refresh_seconds: float
    time: datetime
    log_lines_dropped: int = 0


class ClusterFacts(Struct, frozen=True, kw_only=True):
    """A cluster, as its own nodes describe it.

    Attributes
    ----------
    cluster_id : str or None
        The id of the cluster; None before it is formed.
    leader : str or None
        The id of the reachable node that leads in the highest term; None when no node does.
    term : int
        The highest term that a member of the cluster knows.
    survives : int or None
        The number of any further members that may fail; None without a leader.
    survives_text : str or None
        The same in words, with the number of voters and of those that answer.
    """

    cluster_id: str | None
    leader: str | None
    term: int
    survives: int | None
    survives_text: str | None


class ClusterDocument(ClusterFacts, frozen=True, kw_only=True):
    """The whole cluster at one moment; where nodes of several answer, the one of most nodes.

    Attributes
    ----------
    nodes : tuple of Node
        Every node that has answered so far.
    clusters : tuple of ClusterFacts
        Every cluster of these nodes, this one first; there should be no other.
    silent : tuple of str
        Numeric addresses that were found, at which no node has answered.
    elections : tuple of ElectionRecord
        Won elections, newest first.
    autopilot : tuple of AutopilotRecord
        The changes that the leader's autopilot declines now, then those that any leader's has made, newest first.
    problems : tuple of str
        The problems of the monitor itself: names that it cannot look up, several clusters under one name.
    monitor : MonitorFacts
        The monitor that made the document, and when.
    """

    nodes: tuple[Node, ...]
    clusters: tuple[ClusterFacts, ...]
    silent: tuple[str, ...]
    elections: tuple[ElectionRecord, ...]
    autopilot: tuple[AutopilotRecord, ...]
    problems: tuple[str, ...]
    monitor: MonitorFacts


class Health(Struct, frozen=True):
    """The monitor answers; of the cluster it says nothing."""

    status: str = "ok"


def utc(seconds: float) -> datetime:
    """Convert seconds since 1970 into a time.

    Parameters
    ----------
    seconds : float
        Seconds since 1970.

    Returns
    -------
    datetime.datetime
        The time in UTC, to the millisecond.
    """
    return datetime.fromtimestamp(round(seconds, 3), UTC)
