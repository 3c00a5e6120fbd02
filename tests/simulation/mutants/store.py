"""Seeded bugs in the key-value store and in what reads the disk when a node starts."""

from collections.abc import Callable
from typing import Any, Final

from tests.simulation.mutants.mutant import Mutant, Patch
from trioraft.kv import lessor, service, snapshot, watch
from trioraft.kv.state import State
from trioraft.messages import Entry, EntryKind
from trioraft.node import reads
from trioraft.replica.sessions import Replica
from trioraft.replica.settings import ClusterSettings
from trioraft.storage import records
from trioraft.storage.snapshots import PartsCheck


def _ends_early() -> list[Patch]:
    original = lessor.Lessor.granted

    def granted(self: lessor.Lessor, lease: Any, now: float) -> None:
        original(self, lease, now - lease.ttl / 2)

    return [(lessor.Lessor, "granted", granted)]


def _keeps_nothing_alive() -> list[Patch]:
    def keep_alive(self: lessor.Lessor, lease_id: int, _now: float) -> int | None:
        lease = self._leases.get(lease_id)
        return None if lease is None else lease.ttl

    return [(lessor.Lessor, "keep_alive", keep_alive)]


def _keeps_alive_what_ends() -> list[Patch]:
    def keep_alive(self: lessor.Lessor, lease_id: int, now: float) -> int | None:
        lease = self._leases.get(lease_id)
        if lease is None:
            return None
        self._deadlines[lease_id] = now + lease.ttl
        return lease.ttl

    return [(lessor.Lessor, "keep_alive", keep_alive)]


def _one_clock_for_all_terms() -> list[Patch]:
    def current(self: service.KeyValueService) -> lessor.Lessor | None:
        host = self._host
        if host is None or not host.leads_in:
            return None
        if self._lessor is None:
            self._lessor = lessor.Lessor(self.store.leases(), host.now())
        self._lessor_term = host.leads_in
        return self._lessor

    return [(service.KeyValueService, "_current_lessor", current)]


def _tells_again() -> list[Patch]:
    def notify(self: watch.Watch, revision: int) -> None:
        if not self._waiting:
            self._next = revision - 1
            self._waiting = True
            self._wake()

    return [(watch.Watch, "notify", notify)]


def _skips_what_a_snapshot_has() -> list[Patch]:
    original = watch.WatchHub.publish

    def publish(self: watch.WatchHub, change: Any) -> None:
        if change.restored:
            self.revision = change.revision
        else:
            original(self, change)

    return [(watch.WatchHub, "publish", publish)]


def _begins_a_revision_again() -> list[Patch]:
    original = watch.WatchHub.watch

    def begin(self: watch.WatchHub, *args: Any, given: int, **more: Any) -> watch.Watch:
        return original(self, *args, given=min(given, 0), **more)

    return [(watch.WatchHub, "watch", begin)]


def _reads_what_a_follower_has() -> list[Patch]:
    def start(self: reads.Reads, answered: Callable[[int | None], None]) -> None:
        state = self._core.state
        answered(None if state is None else state.applied_index)

    return [(reads.Reads, "start", start)]


def _no_checksum() -> list[Patch]:
    def read_entry(_index: int, row: records.EntryRow) -> Entry:
        _, term, kind, data, _ = row
        return Entry(term=term, kind=EntryKind(kind), data=data)

    return [(records, "read_entry", read_entry)]


def _sends_what_is_damaged() -> list[Patch]:
    return [(PartsCheck, "accepts", lambda self, offset, data: True)]


def _counts_from_the_start() -> list[Patch]:
    original = snapshot.SnapshotReader.finish

    def finish(self: snapshot.SnapshotReader) -> State:
        state = original(self)
        state.size = state.lock_size = 0
        return state

    return [(snapshot.SnapshotReader, "finish", finish)]


def _keeps_its_first_quota() -> list[Patch]:
    def follow(self: Replica, settings: ClusterSettings) -> None:
        self.settings = settings

    return [(Replica, "_follow_settings", follow)]


STORE: Final = (
    Mutant("end a lease of the store early", "store: leases", "store", _ends_early, "lease"),
    Mutant("answer a keep-alive and forget it", "store: leases", "store", _keeps_nothing_alive, "lease"),
    Mutant("keep a lease alive whose end is proposed", "store: leases", "store", _keeps_alive_what_ends, "lease"),
    Mutant("go on with the clock of an earlier term", "store: leases", "store", _one_clock_for_all_terms, "lease"),
    Mutant("tell a watch an event again", "store: watches", "store", _tells_again, "a watch"),
    Mutant(
        "give a page of a revision from its beginning", "store: watches", "store", _begins_a_revision_again, "a watch"
    ),
    Mutant(
        "let a watch miss what came in a snapshot", "store: watches", "store", _skips_what_a_snapshot_has, "a watch"
    ),
    Mutant(
        "read what a follower happens to have", "thesis 6.4: reads", "store", _reads_what_a_follower_has, "a read on"
    ),
    Mutant(
        "count what was put since the start only", "store: quota", "store", _counts_from_the_start, "the store on"
    ),
    Mutant("go by the quota of the start for ever", "store: quota", "store", _keeps_its_first_quota, "the store on"),
    Mutant("start with entries that are damaged", "disk: damage is noticed", "disks", _no_checksum),
    Mutant("send a damaged snapshot again and again", "disk: damage is noticed", "rot", _sends_what_is_damaged),
)
