"""What a client knows of a cluster, and the JSON in which people and programs see it."""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from trioraft.address import Address, is_loopback
from trioraft.members.changes import Survival, survives
from trioraft.messages import Instant, MemberStatus, NodeStatus
from trioraft.texts import printable

__all__ = ["ClusterStatus", "ObservedNode", "printable"]

# A member that the leader has heard within the first of these times takes part, even if it does not answer this
# client; one that the leader has not heard for the second does not, even if it answers.
_SILENT_SECONDS: Final = 3.0
_DEAF_SECONDS: Final = 10.0


@dataclass(slots=True)
class ObservedNode:
    """A node as a client knows it.

    Attributes
    ----------
    status : NodeStatus
        Its last status.
    address : Address
        The address that it came from.
    heard_at : float
        The time at which it came, in seconds of :func:`trio.current_time`.
    reachable : bool
        Whether the node was heard within the last two refresh intervals (of :meth:`Client.observe`), or in the round
        that was asked for (:meth:`Client.statuses`).
    """

    status: NodeStatus
    address: Address
    heard_at: Instant
    reachable: bool = True

    @property
    def exposed(self) -> bool:
        """Whether all who reach it may read and change everything; older releases show it by their address only."""
        return not self.status.sealed and (self.status.exposed or not is_loopback(self.address.host))

    def to_json(self) -> dict[str, Any]:
        """Make the document that ``trioraft status --format json`` and the monitor show of the node.

        Returns
        -------
        dict
            The fields of :class:`~trioraft.messages.NodeStatus` with ``reachable``; ``address`` is the one at
            which the node answered, and ``exposed`` is :attr:`exposed`.
        """
        document: dict[str, Any] = msgspec.to_builtins(self.status)
        document["address"] = str(self.address)
        document["reachable"] = self.reachable
        document["exposed"] = self.exposed
        return document


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """A cluster as a client knows it at one moment.

    Attributes
    ----------
    nodes : tuple of ObservedNode
        The nodes, the members first, by name and id.
    silent : tuple of Address
        The addresses that were found, and at which no node has answered.
    foreign : tuple of str
        A line for each of the addresses at which there is a node of another service.
    """

    nodes: tuple[ObservedNode, ...]
    silent: tuple[Address, ...] = ()
    foreign: tuple[str, ...] = ()

    @property
    def leader(self) -> ObservedNode | None:
        """The reachable node of the cluster that claims to lead in the highest term."""
        ours = self.cluster_id
        leaders = (
            node
            for node in self.nodes
            if node.reachable and node.status.role == "leader" and node.status.cluster_id == ours
        )
        return max(leaders, key=lambda node: node.status.term, default=None)

    def is_former(self, node: ObservedNode) -> bool:
        """Check whether a node no longer belongs to its cluster, so that it need not be shown any more.

        Parameters
        ----------
        node : ObservedNode
            The node.

        Returns
        -------
        bool
            Whether it does not answer, and the leader of its cluster does not count it as a member.
        """
        if node.reachable:
            return False
        clusters = [
            {member.id for member in other.status.members}
            for other in self.nodes
            if other.reachable
            and other.status.role == "leader"
            and other.status.members
            and node.status.cluster_id in {None, other.status.cluster_id}
        ]
        return bool(clusters) and not any(node.status.id in members for members in clusters)

    @property
    def cluster_ids(self) -> tuple[str, ...]:
        """The clusters of the nodes, that of the most reachable nodes first; there should be one."""
        known = Counter(node.status.cluster_id for node in self.nodes)
        heard = Counter(node.status.cluster_id for node in self.nodes if node.reachable)
        led = {node.status.cluster_id for node in self.nodes if node.reachable and node.status.role == "leader"}
        formed = (cluster for cluster in known if cluster is not None)
        return tuple(sorted(formed, key=lambda each: (-heard[each], -known[each], each not in led, each)))

    @property
    def cluster_id(self) -> str | None:
        """The cluster that most nodes are members of; reachable nodes count first."""
        return next(iter(self.cluster_ids), None)

    @property
    def clusters(self) -> tuple["ClusterStatus", ...]:
        """Each cluster by itself, since terms, leaders and members of two have nothing to do with each other."""
        return tuple(
            ClusterStatus(tuple(node for node in self.nodes if node.status.cluster_id == cluster))
            for cluster in self.cluster_ids
        )

    @property
    def term(self) -> int:
        """The highest term that a reachable member of the cluster knows; any member where none is reachable."""
        ours = self.cluster_id
        members = [node for node in self.nodes if node.status.cluster_id == ours]
        heard = [node for node in members if node.reachable] or members
        return max((node.status.term for node in heard), default=0)

    @property
    def members(self) -> tuple[MemberStatus, ...]:
        """The members as the leader knows them; without a leader as the node with the newest log does."""
        leader, cluster = self.leader, self.cluster_id
        if leader is not None and leader.status.members:
            return leader.status.members
        ours = [node.status for node in self.nodes if node.status.cluster_id == cluster]
        newest = max(ours, key=lambda status: (bool(status.members), status.term, status.last_index), default=None)
        return newest.members if newest is not None else ()

    @property
    def survival(self) -> Survival | None:
        """The failures that the cluster survives now; None without a leader."""
        leader = self.leader
        if leader is None or not leader.status.members:
            return None
        here = {node.status.id: node.status for node in self.nodes if node.reachable}
        members, cluster = leader.status.members, leader.status.cluster_id
        return survives(members, {each.id for each in members if _takes_part(each, here.get(each.id), cluster)})

    def to_json(self) -> dict[str, Any]:
        """Make the document that ``trioraft status --format json`` shows of the cluster.

        Returns
        -------
        dict
            ``cluster_id``, ``leader`` (an id or None), ``term``, ``survives`` (how many more members may fail; None
            without a leader), ``survives_text`` (the same in words), ``members`` (also those that do not answer),
            ``nodes``, and ``clusters``: the same but ``nodes`` for each cluster that was met.
        """
        return {
            **self._facts(),
            "nodes": [node.to_json() for node in self.nodes],
            "clusters": [cluster._facts() for cluster in self.clusters],
        }

    def _facts(self) -> dict[str, Any]:
        survival = self.survival
        answering = {node.status.id for node in self.nodes if node.reachable}
        return {
            "cluster_id": self.cluster_id,
            "leader": self.leader.status.id if self.leader is not None else None,
            "term": self.term,
            "survives": survival.failures if survival else None,
            "survives_text": survival.text if survival else None,
            "members": [
                {**msgspec.to_builtins(member), "reachable": member.id in answering} for member in self.members
            ],
        }


def _takes_part(member: MemberStatus, status: NodeStatus | None, cluster: str | None) -> bool:
    """Check whether a member takes part, by its status, if it answers, and by when the leader has heard it last.

    A client may not reach all nodes from where it is, and then the leader knows better.
    """
    if status is not None and (status.disk_stuck or status.role == "removed" or status.cluster_id != cluster):
        return False
    silent = member.silent_seconds
    if silent is None:
        return status is not None
    return silent < (_SILENT_SECONDS if status is None else _DEAF_SECONDS)
