"""What a node does with the log: applies it, answers for it, and takes, sends and receives snapshots of it."""

import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final

import msgspec

from tests.simulation.checked_replica import CheckedReplica
from tests.simulation.requesting import CheckedProposals, NoBackups, NoDigests, NoSession, Surroundings
from tests.simulation.store import StoreMachine
from tests.simulation.trace import name
from trioraft.consensus import Role
from trioraft.consensus.events import StorePart
from trioraft.consensus.ledger import SnapshotInfo
from trioraft.consensus.snapshots import PART_BYTES, snapshot_of
from trioraft.errors import ProposalError
from trioraft.messages import Entry, EntryKind, InstallSnapshotRequest
from trioraft.node.apply import Applying
from trioraft.node.member import Member
from trioraft.node.own_commands import OwnCommands
from trioraft.node.proposals import Outcome
from trioraft.node.reads import Reads
from trioraft.node.replicated import Replicated
from trioraft.node.requests import Requests
from trioraft.replica.sessions import Result
from trioraft.storage.snapshots import PartsCheck

if TYPE_CHECKING:
    from tests.simulation.host import Process

# How large parts are in a simulation, so that small snapshots have many, and how large snapshots become.
SMALL_PART: Final = PART_BYTES // 128
_PADDING_MAX: Final = 64 * SMALL_PART
# How likely a part that has come is lost between the core and the disk.
_PART_LOST: Final = 0.01
# How often a process may be sent one snapshot that is damaged: its leader notices soon, but more bits may flip.
_REFUSED_MAX: Final = 4

# Told what became of a proposal; None when it was replaced by another leader's entry.
Done = Callable[[Result | None], None]


class Machine:
    """A state machine whose state tells all that it was ever told."""

    def __init__(self, process: "Process") -> None:
        self.checks = process.world.checks.log
        self.replica = CheckedReplica(process, self)
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
        self.machine: Machine | StoreMachine = StoreMachine(process) if stores else Machine(process)
        self.replica = self.machine.replica
        proposals = CheckedProposals(process, self.replica)
        self.parts = Replicated(
            process.core,
            self.replica,
            proposals,
            Applying(process.core, self.replica, proposals, process.clock),
            Reads(process.core, process.clock, int(1e6 * self.world.loop.now)),
        )
        self.requests = Requests(
            self.parts,
            Surroundings(process),
            NoBackups(),
            NoDigests(),
            send=process.answer,
            clock=process.clock,
            soon=process.settle,
        )
        self.own_commands = OwnCommands(process.core, proposals, NoSession(process.clock), lambda: None)
        self.member = Member(self.parts, self.requests, self.own_commands)
        self.taking = False
        self.restoring = False
        self._holding = ExitStack()
        self.received_parts: list[StorePart] = []
        self.storing = False
        self.received: tuple[SnapshotInfo, bytearray] | None = None
        self.refused: Counter[SnapshotInfo] = Counter()
        self.sent: dict[int, tuple[SnapshotInfo, PartsCheck]] = {}  # by the follower

    def begin(self) -> None:
        """Take over what is on the disk."""
        if isinstance(self.machine, StoreMachine):
            self.machine.tick_later()
        if self.disk.snapshot is not None:
            with self.member.applying.held():
                self._restore(self.disk.snapshot, self.disk.files[self.disk.snapshot])

    def _restore(self, snapshot: SnapshotInfo, data: bytes) -> None:
        self.replica.restore(snapshot.index, [data[:100], data[100:]], snapshot.version)
        self.checks.state_is(self.process, snapshot.index, self.machine.digest)

    # --- applying -------------------------------------------------------------------------------------------

    def apply(self, entries: Sequence[tuple[int, Entry]]) -> None:
        """Apply what is committed, answer whoever waits, and take a snapshot when there is enough."""
        self.member.apply(entries)
        grown = self.member.applying.grown_entries
        if grown >= self.world.profile.snapshot_entries and not self.taking and not self.restoring:
            self._take_snapshot()
        if isinstance(self.machine, StoreMachine):
            self.machine.service.give_ready()

    def submit(self, kind: EntryKind, data: bytes, done: Done) -> None:
        """Propose, if this node leads; `done` may never be called."""

        def ended(outcome: Outcome) -> None:
            done(outcome if isinstance(outcome, Result) else None)

        with suppress(ProposalError):
            self.member.proposals.submit(kind, data, ended)
            self.process.settle()

    def submit_together(self, commands: Iterable[bytes]) -> None:
        """Propose commands of the node's own program, if this node leads; they go into one entry, or a few."""
        if self.process.core.role is Role.LEADER:
            for command in commands:
                self.own_commands.begin(command, lambda _: None)
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
                self.member.applying.when_applied(index, lambda: done(True))

        self.member.reads.start(answered)
        self.process.settle()

    # --- snapshots of its own -------------------------------------------------------------------------------

    def _take_snapshot(self) -> None:
        self.taking = True
        self.member.applying.note_snapshot()
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
        self.received_parts.append(part)
        self._store_later()

    def _store_later(self) -> None:
        """Store the next part, unless the one before it is still being stored."""
        if self.storing or not self.received_parts:
            return
        self.storing = True
        world = self.world
        done = max(world.loop.now, self.process.host.stalled_until) + 0.3 * self.process.host.disk_seconds()
        world.loop.at(done, self.process.call, self._stored)

    def _stored(self) -> None:
        if self.process.host.is_full:
            self.process.host.disk_failed("no room for a received snapshot")
            return
        part = self.received_parts.pop(0)
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
        self._holding.enter_context(self.member.applying.held())
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
        self._holding.close()
        self.world.count["snapshots installed"] += 1
        self.process.core.snapshot_installed(snapshot, self.process.clock())
        self._store_later()
