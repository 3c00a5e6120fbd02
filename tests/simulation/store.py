"""The real key-value store as the state machine of a simulated node, with its watches and its clock of leases."""

import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

from tests.simulation.checked_replica import CheckedReplica
from tests.simulation.store_checks import Place
from trioraft.consensus import Role
from trioraft.kv.codec import decode_command
from trioraft.kv.commands import LeaseExpire
from trioraft.kv.history import HistoryLimits
from trioraft.kv.quota import QUOTA_FROM
from trioraft.kv.service import KeyValueService
from trioraft.kv.store import Change, KeyValueStore

if TYPE_CHECKING:
    from tests.simulation.host import Process

# So little that watches are sometimes too late.
_HISTORY: Final = HistoryLimits(events=60, bytes=2**20)
_PAGE_BYTES: Final = 100  # so that revisions are divided, and changes with what was before
_DIGEST: Final = 4
# What the quota in the settings is divided by, so that a few small keys reach it.
_QUOTA_PART: Final = 2**12


class StoreMachine:
    """The store of one process."""

    def __init__(self, process: "Process") -> None:
        self.process = process
        self.world = process.world
        self.checks = process.world.checks
        self.digest = 0
        self.service = KeyValueService(KeyValueStore(_HISTORY))
        self.service.store.on_change = self._changed
        self.service.watch_page_bytes = _PAGE_BYTES
        self.service.attach(self)
        self.replica = CheckedReplica(process, self)
        self.follow_quota(self.replica.settings.quota)  # as after a snapshot, where it is a part of the real one too
        self._change: Change | None = None
        self._place = Place(0, 0)
        self._confirming = 0  # the term in which it makes sure that it has applied everything

    # --- what a node does with it ---------------------------------------------------------------------------

    def apply(self, command: bytes) -> bytes:
        """Carry out a command."""
        self._change = None
        index = self.replica.applied_index
        self._place = Place(index, self._place.number + 1 if self._place.log_index == index else 0)
        before = self.size
        result = self.service.apply(command)
        self.checks.store.sized(self, before)
        self.digest = zlib.crc32(result, zlib.crc32(command, self.digest))
        self.checks.store.applied(self.process, self._place, command, result, self._change)
        return result

    def version_needed(self, command: bytes) -> int:
        """Tell which version a command needs."""
        return self.service.version_needed(command)

    def follow_version(self, version: int) -> None:
        """Go by a version of the protocol."""
        self.service.follow_version(version)

    @property
    def size(self) -> int:
        """How many bytes count for the quota."""
        return self.service.size

    @property
    def quota(self) -> int:
        """How many there may be by the settings; 0 while there is no quota."""
        has_one = self.replica.version >= QUOTA_FROM
        return self.replica.settings.quota // _QUOTA_PART if has_one else 0

    def follow_quota(self, quota: int) -> None:
        """Go by a quota."""
        self.service.follow_quota(quota // _QUOTA_PART)

    def query(self, question: bytes) -> bytes:
        """Read keys."""
        return self.service.query(question)

    def ask(self, question: bytes, answered: Callable[[bytes], None]) -> None:
        """Answer a question, now or later."""
        self.service.answer(question, answered)

    def snapshot(self) -> Iterator[bytes]:
        """Give the digest of all there was, and the state."""
        yield self.digest.to_bytes(_DIGEST, "big")
        yield from self.service.snapshot()

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Take over a state, and check that it is the one that was given."""
        data = b"".join(chunks)
        self.digest = int.from_bytes(data[:_DIGEST], "big")
        self.service.restore([data[_DIGEST:]])
        if b"".join(self.snapshot()) != data:
            self.checks.fail("a store that was restored is another than the one that was stored")

    def _changed(self, change: Change) -> None:
        self._change = change
        self.service.publish(change)

    # --- time -----------------------------------------------------------------------------------------------

    @property
    def leads_in(self) -> int:
        """The term in which the node leads, 0 when it does not."""
        core = self.process.core
        return core.term if core.role is Role.LEADER else 0

    def now(self) -> float:
        """Tell the time on the machine's clock."""
        return self.process.clock()

    def propose_in_term(self, term: int, command: bytes) -> None:
        """Propose a command, if the node leads in a term."""
        if term and self.leads_in == term:
            self.process.keeper.submit_together([command])
            ending = decode_command(command)
            if isinstance(ending, LeaseExpire) and self.world.workload.store is not None:
                self.world.workload.store.end_is_proposed(self.process.host, ending.id)

    def tick_later(self) -> None:
        """Arrange the next tick; it is not counted as an event."""
        world = self.world
        world.loop.at(world.loop.now + world.profile.unit * world.random.uniform(0.1, 0.5), self._tick)

    def _tick(self) -> None:
        """Do now and then what a node's tasks do as soon as it is due."""
        self.world.loop.events -= 1
        if self.process.host.process is not self.process:
            return
        self.tick_later()
        if self.process.paused:
            return
        self.service.end_old_watches(self.now())
        term = self.leads_in
        if term and self.service.has_clock(term):
            self.service.end_due_leases(self)
        elif term and self._confirming != term:
            self._confirming = term
            self.process.keeper.read(lambda done: self._confirmed(term, done=done))

    def _confirmed(self, term: int, *, done: bool) -> None:
        if self._confirming == term:
            self._confirming = 0
        if done and self.leads_in == term:
            self.service.end_due_leases(self)
