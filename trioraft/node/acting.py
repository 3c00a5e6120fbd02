"""The actions of a node on the events of its member: log lines, leader work, snapshots and versions."""

from collections import Counter
from collections.abc import Callable, Mapping

import trio

from trioraft._version import __version__
from trioraft.consensus import Core
from trioraft.consensus.configuration import Configuration
from trioraft.consensus.events import (
    BecameLeader,
    ConfigurationChanged,
    EndWork,
    Event,
    ExtendWork,
    ForeignCluster,
    FormationEnded,
    Formed,
    Joined,
    NotMeant,
    Removed,
    StartWork,
    SteppedDown,
    StorePart,
    TooOld,
)
from trioraft.consensus.ledger import Write
from trioraft.datagrams.endpoint import Endpoint
from trioraft.errors import NodeError
from trioraft.logger import Logger
from trioraft.messages import Instant, NodeId, Version, format_id
from trioraft.node.neighbours import Neighbours
from trioraft.node.snapshots import Snapshotter
from trioraft.node.work import LeaderWork
from trioraft.versions import Versions


class Acting:
    """Acts on the events of a member.

    Parameters
    ----------
    core : Core
        The member's consensus.
    endpoint : Endpoint
        Is given the cluster and the versions that the node goes by.
    neighbours : Neighbours
        Know the names of nodes, and raise alerts.
    work : LeaderWork
        The node's leader work, which begins and ends.
    snapshots : Snapshotter
        Stores the parts of received snapshots.
    versions : Versions
        The versions of the protocol that this software speaks.
    service : str
        ``APP_NAME``.
    log : callable
        Returns the node's log.

    Attributes
    ----------
    counters : Counter of str
        The numbers of messages that were dropped.
    removed : trio.Event
        Set once the node's removal is on its disk.
    must_begin_anew : trio.Event
        Set when the node was removed before this process took part, so that it may begin as another node.
    """

    def __init__(
        self,
        core: Core,
        endpoint: Endpoint,
        neighbours: Neighbours,
        work: LeaderWork,
        snapshots: Snapshotter,
        versions: Versions,
        service: str,
        log: Callable[[], Logger],
    ) -> None:
        self.counters: Counter[str] = Counter()
        self.removed = trio.Event()
        self.must_begin_anew = trio.Event()
        self._core = core
        self._endpoint = endpoint
        self._neighbours = neighbours
        self._work = work
        self._snapshots = snapshots
        self._versions = versions
        self._service = service
        self._log = log
        self._was_removed_while_away = False

    def act_on(self, event: Event, now: Instant) -> None:
        """Act on an event.

        Parameters
        ----------
        event : Event
            What has happened.
        now : float
            The time in seconds.

        Raises
        ------
        NodeError
            If this software is too old for the cluster.
        """
        match event:
            case TooOld(version=version):
                raise NodeError(too_old(version, self._versions))
            case NotMeant():
                self._note_not_meant(event, now)
            case BecameLeader(term=term):
                self._log().info("became leader", term=term)
            case SteppedDown(term=term, reason=reason):
                self._log().warning("stepped down", term=term, reason=reason)
                self._work.become_follower()
            case StartWork(token=token, deadline=deadline):
                self._work.start(token, deadline)
            case ExtendWork(deadline=deadline):
                self._work.extend(deadline)
            case EndWork():
                self._work.end()
            case StorePart():
                self._snapshots.store(event)
            case _:
                self._note_membership(event, now)

    def _note_membership(self, event: Event, now: Instant) -> None:
        """Act on an event about the cluster and its members."""
        match event:
            case Formed(cluster=cluster, members=members):
                self._endpoint.cluster_id = cluster
                self._log().info("cluster formed", cluster=format_id(cluster), members=len(members))
                self._work.become_follower()
            case Joined(cluster=cluster):
                self._endpoint.cluster_id = cluster
                self._log().info("joined", cluster=format_id(cluster))
                self._work.become_follower()
            case ConfigurationChanged(configuration=configuration, committed=committed):
                self._log().info("members", committed=committed, **_in_words(configuration, self._neighbours.names()))
                if committed:
                    self._follow_version(configuration.version)
            case Removed(while_away=while_away):
                self._was_removed_while_away = while_away
                self._log().warning("this node was removed; when it is started again, it joins as another one")
            case FormationEnded(formation=formation, reason=reason):
                self._log().warning("formation ended", formation=format_id(formation), reason=reason)
            case ForeignCluster(node=node, cluster=cluster):
                self._neighbours.alerts.raise_alert(
                    f"foreign {node}",
                    f"node {format_id(node)} belongs to another cluster, {format_id(cluster)}, under the same"
                    f" service name {self._service!r}: refused; give it another APP_NAME or other data",
                    now,
                    minor=self._neighbours.is_stranger(node),
                )

    def _note_not_meant(self, dropped: NotMeant, now: Instant) -> None:
        """Count a message that no member can have meant, and raise an alert that names its sender."""
        self.counters["dropped_not_meant"] += 1
        name = self._neighbours.names().get(dropped.node, "")
        sender = f"{name} ({format_id(dropped.node)})" if name else f"node {format_id(dropped.node)}"
        where = self._neighbours.address_of(dropped.node)
        self._neighbours.alerts.raise_alert(
            f"not meant {dropped.node}",
            f"{sender}{where and f' at {where}'} sent what no member can mean, and it is dropped: {dropped.kind} with"
            f" {dropped.what}; find out what runs there, and whether somebody else has the key",
            now,
        )

    def _follow_version(self, version: Version) -> None:
        """Speak only to nodes that speak the cluster's version, once that version is committed."""
        before = self._endpoint.versions
        self._endpoint.versions = self._versions.within(version)
        if self._endpoint.versions != before:
            self._log().info("the cluster speaks another version of the protocol", version=self._core.version)

    def written(self, write: Write) -> None:
        """Act on a write that is on disk now.

        Parameters
        ----------
        write : Write
            The write.
        """
        if write.hard.removed:
            self.removed.set()
            if self._was_removed_while_away:
                self.must_begin_anew.set()
        if write.snapshot is not None:
            self._snapshots.is_valid(write.snapshot)


def too_old(version: Version, speaks: Versions) -> str:
    """Describe why this node cannot take part, and what to do."""
    cluster = f"version {version}" if version else "a later version"
    return (
        f"the cluster speaks {cluster} of the protocol, and this software (trioraft {__version__}) version {speaks};"
        " nothing was changed: run the newer software again"
    )


def _in_words(configuration: Configuration, names: Mapping[NodeId, str]) -> dict[str, str]:
    """Describe a configuration for the log of the program."""
    groups = {"voters": configuration.voters, "old": configuration.old_voters, "learners": configuration.learners}
    return {
        group: " ".join(names.get(node) or configuration.name(node) or format_id(node) for node in nodes)
        for group, nodes in groups.items()
        if nodes
    }
