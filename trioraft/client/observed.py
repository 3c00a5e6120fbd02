"""What a client knows of a cluster, and how people and programs are shown it."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import msgspec

from trioraft.address import Address
from trioraft.messages import MemberStatus, NodeStatus
from trioraft.node.members import survives


@dataclass(slots=True)
class ObservedNode:
    """A node as a client sees it.

    Attributes
    ----------
    status : NodeStatus
        Its last status.
    address : Address
        Where that came from.
    heard_at : float
        When that was heard, in seconds of :func:`trio.current_time`.
    reachable : bool
        Whether it was heard within the last two refresh intervals (of :meth:`Client.observe`), or in the round
        that was asked for (:meth:`Client.statuses`).
    """

    status: NodeStatus
    address: Address
    heard_at: float
    reachable: bool = True

    def to_json(self) -> dict[str, Any]:
        """Give the node as ``trioraft status --format json`` and the monitor show it.

        Returns
        -------
        dict
            The fields of :class:`~trioraft.messages.NodeStatus` with ``reachable``; ``address`` is the one at
            which the node answered.
        """
        document: dict[str, Any] = msgspec.to_builtins(self.status)
        document["address"] = str(self.address)
        document["reachable"] = self.reachable
        return document


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """What a client knows of a cluster at one moment.

    Attributes
    ----------
    nodes : tuple of ObservedNode
        The nodes, by name and id.
    silent : tuple of Address
        The addresses that were found, but at which no node has answered.
    """

    nodes: tuple[ObservedNode, ...]
    silent: tuple[Address, ...] = ()

    @property
    def leader(self) -> ObservedNode | None:
        """The reachable node that says, in the highest term, that it leads."""
        leaders = (node for node in self.nodes if node.reachable and node.status.role == "leader")
        return max(leaders, key=lambda node: node.status.term, default=None)

    @property
    def cluster_id(self) -> str | None:
        """The leader's cluster; without a leader the one that most nodes are members of."""
        if self.leader is not None:
            return self.leader.status.cluster_id
        formed = Counter(node.status.cluster_id for node in self.nodes if node.status.cluster_id is not None)
        return formed.most_common(1)[0][0] if formed else None

    @property
    def term(self) -> int:
        """The highest term that a member of the cluster knows, reachable ones first."""
        members = [node for node in self.nodes if node.status.cluster_id == self.cluster_id]
        heard = [node for node in members if node.reachable] or members
        return max((node.status.term for node in heard), default=0)

    @property
    def members(self) -> tuple[MemberStatus, ...]:
        """The members as the leader knows them; without one as whoever goes by the newest log."""
        if self.leader is not None and self.leader.status.members:
            return self.leader.status.members
        ours = [node.status for node in self.nodes if node.status.cluster_id == self.cluster_id]
        newest = max(ours, key=lambda status: (bool(status.members), status.term, status.last_index), default=None)
        return newest.members if newest is not None else ()

    @property
    def voters(self) -> int | None:
        """How many voters the leader counts; None without a leader."""
        leader = self.leader
        kinds = {"voter", "new voter"}
        return None if leader is None else sum(member.kind in kinds for member in leader.status.members)

    def to_json(self) -> dict[str, Any]:
        """Give the cluster as ``trioraft status --format json`` and the monitor show it.

        Returns
        -------
        dict
            ``cluster_id``, ``leader`` (an id or None), ``term``, ``survives`` (what the cluster can survive, in
            words; None without a leader) and ``nodes``.
        """
        return {
            "cluster_id": self.cluster_id,
            "leader": self.leader.status.id if self.leader is not None else None,
            "term": self.term,
            "survives": survives(self.voters) if self.voters else None,
            "nodes": [node.to_json() for node in self.nodes],
        }


def printable(text: str) -> str:
    """Make a text from the network safe to print: whatever could steer a terminal becomes ``?``.

    Parameters
    ----------
    text : str
        A name, or a message of a node.

    Returns
    -------
    str
        One line that can be printed.
    """
    return "".join(character if character.isprintable() else "?" for character in text)
