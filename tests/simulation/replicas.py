"""What a node does with the log: applies it, answers for it, and takes, sends and receives snapshots of it."""

import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

import msgspec

from tests.simulation.store import StoreMachine
from tests.simulation.trace import name
from trioraft.consensus.events import ReadFailed, ReadReady, StorePart
from trioraft.consensus.ledger import SnapshotInfo
from trioraft.consensus.snapshots import PART_BYTES, snapshot_of
from trioraft.messages import EntryKind, InstallSnapshotRequest
from trioraft.node.reads import Reads
from trioraft.replica.sessions import Replica, Result
from trioraft.replica.settings import ReadMode
from trioraft.storage.snapshots import PartsCheck

if TYPE_CHECKING:
    from tests.simulation.host import Process
    from tests.simulation.log_checks import LogChecks

# How large parts are in a simulation, so that small snapshots have many, and how large snapshots become.
SMALL_PART: Final = PART_BYTES // 128
_PADDING_MAX: Final = 64 * SMALL_PART
# How many proposals clients have under way at most, all together.
_UNCOMMITTED_MAX: Final = 200
# How likely a part that has come is lost between the core and the disk.
_PART_LOST: Final = 0.01
# How often a process may be sent one snapshot that is damaged: its leader notices soon, but more bits may flip.
_REFUSED_MAX: Final = 4
# How often a follower looks whether its leader has answered, in seconds; as a node does.
_LOOK: Final = 0.1

# Told what became of a proposal; None when it was replaced by another leader's entry.
Done = Callable[[Result | None], None]


class Machine:
    """A state machine whose state tells all that it was ever told."""

    def __init__(self, checks: "LogChecks") -> None:
        self.checks = checks
        self.replica = Replica(self)
        self.count = 0
        self.digest = 0

    def apply(self, command: bytes) -> bytes:
        """Count a command, and give its number."""
        self.count += 1
        self.digest = zlib.crc32(command, self.digest)
        result = b"%d" % self.count
        self.checks.carried_out(self.replica.applied_index, command, result)
        return result

    def query(self, question: bytes) -> bytes:
        """Give the state."""
        return b"%d %d" % (self.count, self.digest)

    def snapshot(self) -> Iterator[bytes]:
        """Give the state, in many bytes."""
        yield b"%d %d " % (self.count, self.digest)
        yield b"." * min(16 * self.count, _PADDING_MAX)

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Take over a state."""
        count, digest, _ = b"".join(chunks).split(b" ")
        self.count, self.digest = int(count), int(digest)


class Keeper:
    """One process's replica, who waits for it, and its snapshots."""

    def __init__(self, process: "Process") -> None:
        self.process = process
        self.world = process.world
        self.disk = process.host.disk
        self.checks = process.world.checks.log
        stores = process.world.profile.store
        self.machine: Machine | StoreMachine = StoreMachine(process) if stores else Machine(self.checks)
        self.replica = self.machine.replica
        self.waiting: dict[int, tuple[int, Done]] = {}
        first_read = int(1e6 * self.world.loop.now)
        self.asks = Reads(process.core, process.clock, process.tell, lambda: None, first_read)
        self.asking = False
        self.readable: list[tuple[int, Callable[[bool], None]]] = []  # reads that wait until an entry is applied
        self.grown = 0
        self.taking = False
        self.restoring = False
        self.parts: list[StorePart] = []
        self.storing = False
        self.received: tuple[SnapshotInfo, bytearray] | None = None
        self.refused: Counter[SnapshotInfo] = Counter()
        self.sent: dict[int, tuple[SnapshotInfo, PartsCheck]] = {}  # by the follower

    def begin(self) -> None:
        """Take over what is on the disk."""
        if isinstance(self.machine, StoreMachine):
            self.machine.tick_later()
        if self.disk.snapshot is not None:
            self._restore(self.disk.snapshot, self.disk.files[self.disk.snapshot])

    def _follow_settings(self) -> None:
        self.process.core.read_by_lease(self.replica.settings.reads is ReadMode.LEASE)

    def _restore(self, snapshot: SnapshotInfo, data: bytes) -> None:
        self.replica.restore(snapshot.index, [data[:100], data[100:]], snapshot.version)
        self._follow_settings()
        self.checks.state_is(self.process, snapshot.index, self.machine.digest)

    # --- applying -------------------------------------------------------------------------------------------

    def apply(self) -> None:
        """Apply what is committed, answer whoever waits, and take a snapshot when there is enough."""
        if self.restoring:
            return
        for index, entry in self.process.core.to_apply(64):
            self.checks.applying(self.process, index, self.replica.applied_index)
            result = self.replica.apply(index, entry)
            if entry.kind is EntryKind.SETTINGS:
                self._follow_settings()
            self.checks.state_is(self.process, index, self.machine.digest)
            self.grown += 1
            waiting = self.waiting.pop(index, None)
            if waiting is not None and waiting[0] == entry.term:
                self.checks.acknowledged(index, entry, result)
                waiting[1](result)
            elif waiting is not None:
                waiting[1](None)
        if self.grown >= self.world.profile.snapshot_entries and not self.taking:
            self._take_snapshot()
        self._give()

    def _give(self) -> None:
        if self.readable:
            self._show()
        if isinstance(self.machine, StoreMachine):
            self.machine.service.give_ready()

    def submit(self, kind: EntryKind, data: bytes, done: Done) -> None:
        """Propose, if this node leads; `done` may never be called."""
        state = self.process.core.state
        if state is None or state.log.last_index - state.commit_index > _UNCOMMITTED_MAX:
            return
        placed = self.process.core.propose(kind, data, self.process.clock())
        if placed is not None:
            term, index = placed
            self.waiting[index] = (term, done)
            self.process.settle()

    # --- reads ----------------------------------------------------------------------------------------------

    def read(self, done: Callable[[bool], None]) -> None:
        """Ask for a linearizable read, which must show all that was acknowledged, or read, until now.

        `done` is told when the state may be looked at, or that it may not; perhaps it never hears anything.
        """
        newest = self.checks.newest_shown

        def answered(index: int | None) -> None:
            if index is None:
                done(False)
            else:
                self.checks.read(self.process, index, newest)
                self.readable.append((index, done))
                self._show()

        self.asks.start(answered)
        self.process.settle()
        if self.asks.is_asking and not self.asking:
            self.asking = True
            self._look_later()

    def _look_later(self) -> None:
        self.world.loop.at(self.world.loop.now + _LOOK, self.process.call, self._look)

    def _look(self) -> None:
        self.asks.look()
        self.asking = self.asks.is_asking
        if self.asking:
            self._look_later()

    def read_ready(self, event: ReadReady) -> None:
        """Check what a leader says, and go on."""
        self.checks.confirmed(self.process, event)
        self.asks.confirmed(event.read, event.index)

    def read_failed(self, event: ReadFailed) -> None:
        """Tell who asked that this node leads no more."""
        self.asks.confirmed(event.read, None)

    def _show(self) -> None:
        """Let those look whose entry is applied."""
        applied = self.replica.applied_index
        ready = [done for index, done in self.readable if index <= applied]
        self.readable = [waiting for waiting in self.readable if waiting[0] > applied]
        for done in ready:
            done(True)

    # --- snapshots of its own -------------------------------------------------------------------------------

    def _take_snapshot(self) -> None:
        self.taking = True
        self.grown = 0
        index = self.replica.applied_index
        data = b"".join(self.replica.snapshot())
        described = self.process.core.describe_snapshot(index)
        snapshot = msgspec.structs.replace(described, size=len(data), checksum=zlib.crc32(data))
        world = self.world
        world.loop.at(
            world.loop.now + 3 * self.process.host.disk_seconds(), self._snapshot_is_on_disk, snapshot, data
        )

    def _snapshot_is_on_disk(self, snapshot: SnapshotInfo, data: bytes) -> None:
        if self.process.host.process is not self.process:
            return
        if self.process.host.is_full:  # the log needs little room, and the next snapshot may find some
            self.taking = False
            self.world.count["snapshots not taken for want of room"] += 1
            return
        self.disk.files[snapshot] = data
        self.process.call(self._tell_taken, snapshot)

    def _tell_taken(self, snapshot: SnapshotInfo) -> None:
        self.taking = False
        self._forget_sent()
        core = self.process.core
        if core.snapshot is None or core.snapshot.index < snapshot.index:
            core.snapshot_taken(snapshot, self.world.profile.keep, self.process.clock())
            self.world.count["snapshots taken"] += 1

    def _retake(self) -> None:
        """Take a snapshot in the place of one that is damaged, now or as soon as there is room."""
        if self.process.core.lacks_snapshot:
            if not self.taking and not self.restoring:
                self._take_snapshot()
            self.world.loop.at(self.world.loop.now + self.world.profile.unit, self.process.call, self._retake)

    def fill(self, to: int, part: InstallSnapshotRequest) -> InstallSnapshotRequest | None:
        """Read the bytes of a part that leaves."""
        snapshot = snapshot_of(part)
        data = self.disk.files.get(snapshot)
        if data is not None:
            data = data[part.offset : part.offset + SMALL_PART]
        if data is None or not self._check(to, snapshot).accepts(part.offset, data):
            self._give_up(snapshot)
            return None
        return msgspec.structs.replace(part, data=data)

    def _check(self, to: int, snapshot: SnapshotInfo) -> PartsCheck:
        known = self.sent.get(to)
        if known is None or known[0] != snapshot:
            known = self.sent[to] = (snapshot, PartsCheck(snapshot))
        return known[1]

    def _give_up(self, snapshot: SnapshotInfo) -> None:
        core = self.process.core
        is_newest = snapshot == core.snapshot
        core.snapshot_gone(snapshot, self.process.clock())
        self._forget_sent()
        if is_newest:
            self.world.count["damaged snapshots replaced"] += 1
            self.world.loop.at(self.world.loop.now, self.process.call, self._retake)

    def _forget_sent(self) -> None:
        """Forget what is sent to nobody any more."""
        state = self.process.core.state
        followers = state.followers if state is not None else {}
        sending = {node: follower.sending and follower.sending.snapshot for node, follower in followers.items()}
        self.sent = {node: known for node, known in self.sent.items() if sending.get(node) == known[0]}

    # --- snapshots of the leader ----------------------------------------------------------------------------

    def store(self, part: StorePart) -> None:
        """Queue a part for the disk; now and then there is no room in the queue."""
        if self.world.random.random() < _PART_LOST:
            self.process.core.reception_failed(part.snapshot, self.process.clock())
            return
        self.parts.append(part)
        self._store_later()

    def _store_later(self) -> None:
        """Store the next part, unless the one before it is still being stored."""
        if self.storing or not self.parts:
            return
        self.storing = True
        world = self.world
        done = max(world.loop.now, self.process.host.stalled_until) + 0.3 * self.process.host.disk_seconds()
        world.loop.at(done, self.process.call, self._stored)

    def _stored(self) -> None:
        if self.process.host.is_full:
            self.process.host.disk_failed("no room for a received snapshot")
            return
        part = self.parts.pop(0)
        core, now = self.process.core, self.process.clock()
        if part.offset == 0:
            self.received = (part.snapshot, bytearray())
        if self.received is None or (self.received[0], len(self.received[1])) != (part.snapshot, part.offset):
            core.reception_failed(part.snapshot, now)
        else:
            self.received[1].extend(part.data)
            if part.is_last:
                self._complete(part.snapshot, bytes(self.received[1]))
                return
            core.part_stored(part.snapshot, len(self.received[1]), now)
        self.storing = False
        self._store_later()

    def _complete(self, snapshot: SnapshotInfo, data: bytes) -> None:
        self.received = None
        if (len(data), zlib.crc32(data)) != (snapshot.size, snapshot.checksum):
            self._refuse(snapshot)
            return
        self.disk.files[snapshot] = data
        self.restoring = True
        world = self.world
        world.loop.at(
            world.loop.now + self.process.host.disk_seconds(), self.process.call, self._take_over, snapshot, data
        )

    def _refuse(self, snapshot: SnapshotInfo) -> None:
        if "rot" not in self.world.profile.rates:
            self.checks.fail("a received snapshot is damaged")
        self.world.count["damaged snapshots refused"] += 1
        self.refused[snapshot] += 1
        if self.refused[snapshot] > _REFUSED_MAX:
            self.checks.fail(f"{name(self.process.host.node)} is sent a damaged snapshot again and again")
        self.storing = False
        self.process.core.reception_failed(snapshot, self.process.clock())
        self._store_later()

    def _take_over(self, snapshot: SnapshotInfo, data: bytes) -> None:
        self.restoring = self.storing = False
        if self.replica.applied_index < snapshot.index:
            self._restore(snapshot, data)
            self._give()
            self.waiting = {index: who for index, who in self.waiting.items() if index > snapshot.index}
        self.world.count["snapshots installed"] += 1
        self.process.core.snapshot_installed(snapshot, self.process.clock())
        self._store_later()
