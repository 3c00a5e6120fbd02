"""The state of the cluster at any moment, as far as the monitor's client has heard of it."""

import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import trio

import trioraft
from trioraft.client.client import Client
from trioraft.client.status import ClusterStatus, ObservedNode
from trioraft.messages import NodeStatus
from trioraft.settings.settings import MonitorSettings
from trioraft.streams import log_lines_dropped

from .documents import AutopilotRecord, ClusterDocument, ClusterFacts, ElectionRecord, MonitorFacts, Node, utc
from .history import ElectionHistory
from .story import SeenNote, Story

_STATUS_FIELDS: Final = NodeStatus.__struct_fields__


class Observation:
    """The documents about what the client has heard.

    Parameters
    ----------
    settings : MonitorSettings
        The monitor's configuration.
    client : Client
        The client that observes the cluster.

    Attributes
    ----------
    refresh_rate : float
        The interval at which the client asks the nodes, in seconds.
    """

    def __init__(self, settings: MonitorSettings, client: Client) -> None:
        self.refresh_rate = settings.refresh_rate
        self._settings = settings
        self._client = client
        self._history = ElectionHistory()
        self._story = Story()

    def nodes(self) -> tuple[Node, ...]:
        """Describe every node that has answered so far.

        Returns
        -------
        tuple of Node
            The nodes, by name and id.
        """
        now = trio.current_time()
        return tuple(_node(observed, now) for observed in self._client.cluster().nodes)

    def document(self) -> ClusterDocument:
        """Describe the whole cluster as it is now.

        Returns
        -------
        ClusterDocument
            The cluster.
        """
        cluster = self._client.cluster()
        clusters = cluster.clusters
        nodes = self.nodes()
        wall = time.time()
        for node in nodes:
            self._history.record(node, wall - node.age_seconds)
            self._story.record(node, wall - node.age_seconds)
        names = self._story.names
        elections = self._history.recent(names)
        notes = self._story.told({each.leader.status.id for each in clusters if each.leader is not None})
        return ClusterDocument(
            **_facts(cluster),
            nodes=nodes,
            clusters=tuple(ClusterFacts(**_facts(each)) for each in clusters),
            silent=tuple(map(str, cluster.silent)),
            elections=tuple(
                ElectionRecord(one.cluster_id, one.term, one.leader, one.name, utc(one.at)) for one in elections
            ),
            autopilot=tuple(_record(note, names) for note in notes),
            problems=(*self._client.problems, *_foreign_clusters(nodes)),
            monitor=MonitorFacts(
                service=self._settings.raft_service_name,
                hostname=self._settings.hostname,
                version=trioraft.__version__,
                refresh_seconds=self._settings.refresh_rate,
                time=utc(wall),
                log_lines_dropped=log_lines_dropped(),
            ),
        )

    @property
    def version(self) -> int:
        """A number that grows with everything heard, and when a node falls silent."""
        return self._client.version

    async def changed(self, seen: int, until: float) -> None:
        """Wait for news, but not beyond a time.

        Parameters
        ----------
        seen : int
            The version that the caller has seen.
        until : float
            The time on trio's clock.
        """
        with trio.move_on_at(until):
            await self._client.changed(seen)


def content_of(document: ClusterDocument) -> object:
    """Return a document without the parts that change all the time: ages, counters, indexes of the log.

    A change of any other part is published at once; these go out with the next document, a refresh interval later at
    most.

    Parameters
    ----------
    document : ClusterDocument
        The document.

    Returns
    -------
    object
        An object that is equal for two documents between which nothing else has changed.
    """
    lasting = [
        msgspec.structs.replace(
            node,
            age_seconds=0.0,
            uptime_seconds=0.0,
            hook=msgspec.structs.replace(node.hook, since_seconds=0.0),
            job=msgspec.structs.replace(node.job, text="", runs_seconds=None, starts_in_seconds=None),
            elections=(),
            members=tuple(msgspec.structs.replace(member, silent_seconds=None) for member in node.members),
            autopilot=(),
            counters={},
            commit_index=0,
            applied_index=0,
            last_index=0,
            log_lines_dropped=min(node.log_lines_dropped, 1),
            state_bytes=node.state_bytes >> 20,
        )
        for node in document.nodes
    ]
    told = document.clusters, document.silent, document.elections, document.autopilot, document.problems
    return lasting, document.leader, told


def _facts(cluster: ClusterStatus) -> dict[str, Any]:
    leader, survival = cluster.leader, cluster.survival
    return {
        "cluster_id": cluster.cluster_id,
        "leader": leader.status.id if leader else None,
        "term": cluster.term,
        "survives": survival.failures if survival else None,
        "survives_text": survival.text if survival else None,
    }


def _node(observed: ObservedNode, now: float) -> Node:
    told = {name: getattr(observed.status, name) for name in _STATUS_FIELDS}
    told["address"] = str(observed.address)
    told["exposed"] = observed.exposed
    age = round(max(0.0, now - observed.heard_at), 3)
    return Node(**told, reachable=observed.reachable, age_seconds=age)


def _record(note: SeenNote, names: dict[str, str]) -> AutopilotRecord:
    return AutopilotRecord(note.kind, note.text, note.leader, names.get(note.leader, ""), utc(note.at))


def _foreign_clusters(nodes: Sequence[Node]) -> tuple[str, ...]:
    clusters = sorted({node.cluster_id for node in nodes if node.reachable and node.cluster_id})
    if len(clusters) > 1:
        return (f"nodes of {len(clusters)} different clusters answer: {', '.join(clusters)}",)
    return ()
