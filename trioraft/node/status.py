"""The status of a node, which is pushed to its subscribers the moment that it changes."""

import os
from collections import Counter, deque
from collections.abc import Callable
from typing import Final, NamedTuple

from trioraft._version import __version__
from trioraft.consensus import Core, Role
from trioraft.consensus.configuration import Configuration
from trioraft.datagrams.endpoint import Peer
from trioraft.datagrams.wire import encode_message
from trioraft.logger import Logger
from trioraft.members.changes import member_statuses
from trioraft.members.steering import Steering
from trioraft.messages import (
    TERM_ROOM,
    Election,
    FormingStatus,
    Instant,
    NodeId,
    NodeStatus,
    OptionalNodeId,
    Seconds,
    Status,
    Term,
    Version,
    format_id,
)
from trioraft.node.job import LeaderJob
from trioraft.node.neighbours import Neighbours
from trioraft.node.snapshots import Snapshotter
from trioraft.node.work import LeaderWork
from trioraft.replica.machine import Bounded
from trioraft.replica.sessions import Replica
from trioraft.replica.settings import ClusterSettings
from trioraft.settings.settings import NodeSettings
from trioraft.streams import log_lines_dropped

_ELECTIONS_KEPT: Final = 5
# The part of the quota from which on an alert is raised.
_NEARLY: Final = 0.9


class _Elected(NamedTuple):
    """A leader that this node has seen, its term, and when this node learned of it."""

    term: Term
    leader: NodeId
    at: Instant


class _Subscriber(NamedTuple):
    """A peer that gets the status whenever it changes, and until when."""

    peer: Peer
    until: Instant


class _Shown(NamedTuple):
    """The parts of a status whose change is pushed at once."""

    who_leads: tuple[Role, Term, OptionalNodeId]
    hook: object
    job: str
    has_offered: bool
    settings: ClusterSettings
    configuration: Configuration
    version: Version


def no_room(term: Term) -> str:
    """Describe, as an alert, that a term is so high that hardly another one can follow.

    Parameters
    ----------
    term : int
        The node's term.

    Returns
    -------
    str
        The problem, and what to do; empty where there is none.
    """
    if term < TERM_ROOM:
        return ""
    return (
        f"term {term} is so high that few or no elections can follow, which no cluster reaches by itself: make a new"
        ' cluster, as containers/OPERATING.md says under "When no terms are left"'
    )


class Account:
    """A node's account of itself: its status, and who subscribes to it.

    Parameters
    ----------
    core : Core
        Its consensus.
    settings : NodeSettings
        Its configuration.
    neighbours : Neighbours
        The other nodes, and the alerts about them.
    work : LeaderWork
        Its scripts and bodies.
    replica : Replica
        The replicated state.
    snapshots : Snapshotter
        The source of the reason why no snapshot can be taken.
    steering : Steering
        The notes of the autopilot.
    counters : callable
        Returns the node's counters.
    clock : callable
        Returns the time in seconds.

    Attributes
    ----------
    failure : str
        The reason why the node stops; empty while it does not.
    job : LeaderJob
        What its leader work is doing.
    """

    def __init__(
        self,
        core: Core,
        settings: NodeSettings,
        neighbours: Neighbours,
        work: LeaderWork,
        replica: Replica,
        snapshots: Snapshotter,
        steering: Steering,
        counters: Callable[[], Counter[str]],
        clock: Callable[[], Instant],
    ) -> None:
        self.failure = ""
        self._core = core
        self._settings = settings
        machine = replica.machine
        self._bounded = machine if isinstance(machine, Bounded) else None
        self._neighbours = neighbours
        self._hooks = work.hooks
        self.job = LeaderJob(core, work, neighbours, clock)
        self._replica = replica
        self._snapshots = snapshots
        self._steering = steering
        self._counters = counters
        self._clock = clock
        self._started_at = clock()
        self._elections: deque[_Elected] = deque(maxlen=_ELECTIONS_KEPT)
        self._subscribers: dict[bytes, _Subscriber] = {}
        self._shown: _Shown | None = None

    def subscribe(self, peer: Peer, seconds: Seconds, now: Instant) -> None:
        """Send the status to a peer, now and, for some time, whenever it changes."""
        if seconds:
            self._subscribers[peer.process] = _Subscriber(peer, now + seconds)
        self._neighbours.endpoint.send(peer, Status(node=self.status()), now)

    def push(self, now: Instant) -> None:
        """Send the status to all subscribers."""
        self._subscribers = {process: who for process, who in self._subscribers.items() if who.until > now}
        if self._subscribers:
            status = encode_message(Status(node=self.status()))
            for who in self._subscribers.values():
                self._neighbours.endpoint.send(who.peer, status, now)

    def has_changed(self, log: Logger, now: Instant) -> bool:
        """Check whether a part of the status that is pushed at once has changed since the last check."""
        core = self._core
        settings = self._replica.settings
        who_leads = (core.role, core.term, core.leader)
        job = self.job.state
        shown = _Shown(
            who_leads, self._hooks.state, job, core.has_offered, settings, core.configuration, core.version
        )
        if shown == self._shown:
            return False
        before, self._shown = self._shown, shown
        if before is None or before.who_leads != shown.who_leads:
            self._note_leader(log, now)
        if before is None or before.job != job:
            self.job.log_wait(log)
        return True

    def _note_leader(self, log: Logger, now: Instant) -> None:
        leader, term = self._core.leader, self._core.term
        if not leader or (self._elections and (self._elections[0].term, self._elections[0].leader) == (term, leader)):
            return
        self._elections.appendleft(_Elected(term, leader, now))
        self.job.note_leader(leader)
        if leader != self._core.id:
            log.info("became follower", term=term, leader=format_id(leader))

    def status(self) -> NodeStatus:
        """Compute the status.

        Returns
        -------
        NodeStatus
            The status, as ``trioraft status`` and the monitor show it.
        """
        now = self._clock()
        core, state, around = self._core, self._core.state, self._neighbours
        return NodeStatus(
            id=format_id(core.id),
            name=self._neighbours.endpoint.name,
            address=str(around.own or ""),
            role=core.role,
            term=core.term,
            leader=format_id(core.leader) if core.leader else None,
            pid=os.getpid(),
            uptime_seconds=now - self._started_at,
            hook=self._hooks.status,
            cluster_id=format_id(core.cluster) if core.cluster else None,
            service=self._settings.app_name,
            version=__version__,
            sealed=self._settings.keys is not None,
            disk_stuck=now - core.disk_waiting_since > self._settings.election_timeout_lower,
            alerts=(
                *filter(None, (self.failure, self._snapshots.problem, no_room(core.term), self._nearly_full())),
                *around.alerts.current(now),
            ),
            forming=self._forming(),
            peers=around.addresses(),
            elections=tuple(
                Election(term=one.term, leader=format_id(one.leader), seconds_ago=now - one.at)
                for one in self._elections
            ),
            counters=dict(self._counters()),
            settings=self._replica.settings.shown(),
            voter=core.id in core.configuration.electors,
            commit_index=state.commit_index if state is not None else 0,
            applied_index=self._replica.applied_index,
            last_index=state.log.last_index if state is not None else 0,
            members=member_statuses(core.configuration, around.names(), around.silent(now)),
            autopilot=self._steering.notes(now),
            lowest_version=core.versions.lowest,
            highest_version=core.versions.highest,
            cluster_version=core.version if core.cluster else 0,
            log_lines_dropped=log_lines_dropped() + self._hooks.output.lines_dropped,
            exposed=self._settings.exposed,
            leader_address=around.address_of(core.leader) if core.leader not in {0, core.id} else "",
            state_bytes=self._bounded.size if self._bounded is not None else 0,
            state_quota=self._bounded.quota if self._bounded is not None else 0,
            job=self.job.status(),
        )

    def _nearly_full(self) -> str:
        """Describe, on the leader, that the state has nearly reached its quota; empty where it has not."""
        bounded = self._bounded
        if bounded is None or not bounded.quota or self._core.role is not Role.LEADER:
            return ""
        if bounded.size <= _NEARLY * bounded.quota:
            return ""
        share = 100 * bounded.size // bounded.quota
        return (
            f"the state takes {share} % of its quota of {bounded.quota} bytes, and nothing can be put beyond it:"
            " delete keys, or raise it with `trioraft settings --quota`"
        )

    def _forming(self) -> FormingStatus | None:
        formation = self._core.formation
        if formation.formed:
            return None
        if formation.state.promised:
            missing = tuple(format_id(node) for node in formation.missing)
            return FormingStatus(
                waiting_for=f"the promise of {', '.join(missing)}",
                formation=format_id(formation.state.promised),
                members=tuple(format_id(node) for node in formation.state.members),
                missing=missing,
            )
        if formation.heard_cluster:
            text = f"cluster {format_id(formation.heard_cluster)} to let it join"
        elif not formation.expect:
            text = "a cluster to join (BOOTSTRAP_EXPECT is not set, so it does not form one)"
        else:
            seen = len(formation.sees(self._clock()))
            text = f"{formation.expect} nodes that see each other (it sees {seen}, itself included)"
        return FormingStatus(waiting_for=text)
