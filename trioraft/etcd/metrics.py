"""What Prometheus is told: under etcd's names where the meaning is the same, and trioraft's own."""

from collections.abc import Iterator
from typing import cast

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from trioraft.consensus import Role
from trioraft.etcd.host import Host
from trioraft.etcd.maintenance import SERVER_VERSION
from trioraft.etcd.watches import Watch

CONTENT_TYPE = CONTENT_TYPE_LATEST


class _OfNode:
    """The metrics of the node, as they are when they are asked for."""

    def __init__(self, host: Host, watches: Watch) -> None:
        self._host = host
        self._watches = watches

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        yield from self._under_names_of_etcd()
        yield from self._own()

    def _under_names_of_etcd(self) -> Iterator[Metric]:
        host, node = self._host, self._host.node
        core, store = node.consensus, self._host.service.store
        for name, meaning, value in (
            ("etcd_server_has_leader", "Whether a leader is known.", host.has_leader),
            ("etcd_server_is_leader", "Whether this node leads.", node.role is Role.LEADER),
            ("etcd_server_is_learner", "Whether this node is a learner.", node.role is Role.LEARNER),
            ("etcd_server_quota_backend_bytes", "The quota of the store; 0 for none.", store.quota),
            ("etcd_mvcc_db_total_size_in_bytes", "The bytes that keys and leases take.", store.size),
            ("etcd_mvcc_db_total_size_in_use_in_bytes", "The bytes that keys and leases take.", store.size),
            ("etcd_debugging_mvcc_current_revision", "The revision of the store.", store.revision),
            ("etcd_debugging_mvcc_compact_revision", "The oldest revision that can be read.", store.compacted),
            ("etcd_debugging_mvcc_watcher_total", "The watches of this node.", self._watches.watches),
            ("etcd_debugging_mvcc_watch_stream_total", "The streams of watches.", self._watches.streams),
        ):
            yield GaugeMetricFamily(name, meaning, value)
        committed = core.state.commit_index if core.state is not None else 0
        for name, meaning, value in (
            ("etcd_server_leader_changes_seen", "The changes of the leader that were seen.", host.leader_changes),
            ("etcd_server_proposals_committed", "The last entry that is committed.", committed),
            ("etcd_server_proposals_applied", "The last entry that is applied.", node.applied_index),
        ):
            yield CounterMetricFamily(name, meaning, value)
        version = GaugeMetricFamily(
            "etcd_server_version", "The release of etcd that this node is like.", labels=["server_version"]
        )
        version.add_metric([SERVER_VERSION], 1)
        yield version

    def _own(self) -> Iterator[Metric]:
        status = self._host.node.status()
        for name, meaning, value in (
            ("trioraft_term", "The term.", status.term),
            ("trioraft_peers", "The nodes that this one is in touch with.", len(status.peers)),
            ("trioraft_alerts", "The alerts of this node.", len(status.alerts)),
            ("trioraft_disk_stuck", "Whether a write waits for the disk for long.", status.disk_stuck),
            ("trioraft_last_index", "The last entry of the log.", status.last_index),
            ("trioraft_uptime_seconds", "How long the node has run.", status.uptime_seconds),
        ):
            yield GaugeMetricFamily(name, meaning, value)
        roles = GaugeMetricFamily("trioraft_role", "The role of this node.", labels=["role"])
        for role in Role:
            roles.add_metric([str(role)], role is self._host.node.role)
        yield roles
        events = CounterMetricFamily("trioraft_events", "What the node has counted.", labels=["event"])
        for event, count in sorted(status.counters.items()):
            events.add_metric([event], count)
        yield events


class Metrics:
    """All metrics of this process.

    Parameters
    ----------
    host : Host
        The node.
    watches : Watch
        The service of watches.
    """

    def __init__(self, host: Host, watches: Watch) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(cast(Collector, _OfNode(host, watches)))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    def show(self) -> bytes:
        """Write them as Prometheus reads them."""
        text: bytes = generate_latest(self._registry)
        return text
