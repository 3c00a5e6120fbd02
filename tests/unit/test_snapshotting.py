"""Snapshots that are taken and received while the log goes on, in any order."""

import os
import random
import shutil
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.driving import member_around
from trioraft.consensus import Core, Role, Timing
from trioraft.consensus.events import StorePart
from trioraft.consensus.hard import FormationState, HardState
from trioraft.consensus.ledger import SnapshotInfo
from trioraft.consensus.log import Log
from trioraft.messages import (
    AppendEntriesRequest,
    ConsensusMessage,
    Entry,
    EntryKind,
    InstallSnapshotRequest,
    Message,
)
from trioraft.node.pauses import Pauses
from trioraft.node.snapshots import Snapshotter
from trioraft.replica.sessions import Replica
from trioraft.storage.database import SqliteDisk
from trioraft.storage.errors import StorageError
from trioraft.storage.snapshots import frame, path_of, read_chunks

LEADER = 2
CLUSTER = 0xC1
TIMING = Timing(lower=3.0, upper=5.0, heartbeat=0.5, stop_grace=2.0)


class Words:
    """A state machine that remembers all commands; the test decides when its snapshots end."""

    def __init__(self) -> None:
        self.words: list[bytes] = []
        self.held = False

    def apply(self, command: bytes) -> bytes:
        self.words.append(command)
        return b""

    def query(self, question: bytes) -> bytes:
        return b""

    def snapshot(self) -> Iterator[bytes]:
        yield from list(self.words)
        while self.held:
            yield b""

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.words = [chunk for chunk in chunks if chunk]


class Follower:
    """A follower without a network: the test is its leader."""

    def __init__(
        self,
        directory: Path,
        *,
        entries_max: int,
        snapshot: SnapshotInfo | None = None,
        node: int = 1,
        timing: Timing = TIMING,
    ) -> None:
        self.hard = HardState(term=1, formation=FormationState(cluster=CLUSTER, members=(1, LEADER, 3)))
        self.core = Core(
            node,
            self.hard,
            Log() if snapshot is None else Log(snapshot.index, snapshot.term),
            timing,
            snapshot=snapshot,
            expect=3,
            random_source=random.Random(node),
            now=trio.current_time(),
        )
        self.alerts: list[str] = []
        self.machine = Words()
        self.member = member_around(self.core, trio.current_time, self.machine)
        self.applying = self.member.applying
        self.snapshots = Snapshotter(
            self.core,
            self.applying,
            Pauses(self.applying, self.turn),
            directory,
            trio.current_time,
            self.turn,
            alert=self.alerts.append,
            entries_max=entries_max,
            bytes_max=10**9,
        )
        self.sequence = 0

    def turn(self) -> None:
        """Take turns until there is nothing left to do; writes are done at once."""
        while True:
            turn = self.member.turn(trio.current_time())
            for event in turn.events:
                if isinstance(event, StorePart):
                    self.snapshots.store(event)
            if turn.write is not None:
                self.member.persisted(turn.write.number, trio.current_time())
            self.member.apply(turn.apply)
            self.snapshots.look()
            if not self.member.wants_turn:
                return

    def append(self, first: int, last: int) -> None:
        """Let the leader send entries and commit them."""
        self.sequence += 1
        entries = tuple(Entry(term=1, kind=EntryKind.COMMAND, data=b"%d" % n) for n in range(first, last + 1))
        term = 1 if first > 1 else 0
        message = AppendEntriesRequest(1, self.sequence, 0.0, first - 1, term, last, entries)
        self.member.take(LEADER, CLUSTER, message, trio.current_time())
        self.turn()

    def offer(self, index: int) -> SnapshotInfo:
        """Let the leader send a snapshot in one part."""
        snapshot, data = snapshot_at(index)
        part = InstallSnapshotRequest(1, index, 1, snapshot.size, snapshot.checksum, 0, data)
        self.member.take(LEADER, CLUSTER, part, trio.current_time())
        self.turn()
        return snapshot

    async def taken_over(self, snapshot: SnapshotInfo) -> None:
        with trio.fail_after(5):
            while self.core.snapshot != snapshot:
                await trio.sleep(0.001)

    async def applied(self, index: int) -> None:
        self.turn()
        with trio.fail_after(5):
            while self.applying.replica.applied_index < index:
                await trio.sleep(0.001)


def snapshot_at(index: int) -> tuple[SnapshotInfo, bytes]:
    """Make a snapshot of so many entries, and return it with its bytes."""
    source = Replica(Words())
    for n in range(1, index + 1):
        source.apply(n, Entry(term=1, kind=EntryKind.COMMAND, data=b"%d" % n))
    data = b"".join(frame(chunk) for chunk in source.snapshot())
    return SnapshotInfo(index, 1, len(data), zlib.crc32(data)), data


@asynccontextmanager
async def running(follower: Follower) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        for task in (follower.snapshots.take, follower.snapshots.receive):
            nursery.start_soon(task)
        yield
        nursery.cancel_scope.cancel()


def files(directory: Path, start: str) -> list[str]:
    return [name for name in os.listdir(directory) if name.startswith(start)]


def numbers(last: int) -> list[bytes]:
    return [b"%d" % n for n in range(1, last + 1)]


async def test_a_received_snapshot_is_taken_over_and_entries_follow(tmp_path: Path) -> None:
    follower = Follower(tmp_path, entries_max=1000)
    async with running(follower):
        snapshot = follower.offer(10)
        await follower.taken_over(snapshot)
        follower.append(11, 12)
        await follower.applied(12)
    assert follower.machine.words == numbers(12)


async def test_entries_that_were_applied_before_a_snapshot_was_whole_stay_applied(tmp_path: Path) -> None:
    follower = Follower(tmp_path, entries_max=1000)
    follower.offer(10)
    follower.append(1, 12)
    async with running(follower):
        await follower.applied(12)
        with trio.fail_after(5):
            while not files(tmp_path, "snapshot-10-1-"):
                await trio.sleep(0.001)
        await trio.sleep(0.05)
    assert follower.machine.words == numbers(12)


async def test_entries_that_a_snapshot_has_overtaken_are_not_applied_again(tmp_path: Path) -> None:
    follower = Follower(tmp_path, entries_max=1000)
    async with running(follower):
        follower.offer(10)
        with follower.applying.held():
            follower.append(1, 12)  # committed, but not applied yet
            with trio.fail_after(5):
                while follower.applying.replica.applied_index < 10:
                    await trio.sleep(0.001)
        await follower.applied(12)
    assert follower.machine.words == numbers(12)


async def test_a_snapshot_that_a_received_one_has_overtaken_does_not_take_its_place(tmp_path: Path) -> None:
    follower = Follower(tmp_path, entries_max=3)
    follower.machine.held = True
    async with running(follower):
        follower.append(1, 3)
        await follower.applied(3)
        await trio.sleep(0.05)  # a snapshot of three entries is being taken
        assert (tmp_path / "snapshot-3.new").exists()
        received = follower.offer(10)
        await follower.applied(10)
        follower.machine.held = False
        with trio.fail_after(5):
            while not files(tmp_path, "snapshot-3-1-"):
                await trio.sleep(0.001)
        await trio.sleep(0.05)
        assert follower.core.snapshot == received
    assert follower.machine.words == numbers(10)


async def test_a_received_snapshot_of_the_very_entry_that_one_is_taken_of_does_not_disturb_it(tmp_path: Path) -> None:
    follower = Follower(tmp_path, entries_max=10)
    follower.machine.held = True
    received = follower.offer(10)
    follower.append(1, 10)
    async with running(follower):
        await follower.applied(10)
        with trio.fail_after(5):
            while len(files(tmp_path, "snapshot-10")) < 2:  # its own and the received one
                await trio.sleep(0.001)
        await trio.sleep(0.05)  # its own is in many more chunks
        follower.machine.held = False
        with trio.fail_after(5):
            while follower.core.snapshot is None:
                await trio.sleep(0.001)
        own = follower.core.snapshot
        await trio.sleep(0.05)
    assert (own.index, own != received) == (10, True)
    assert [chunk for chunk in read_chunks(tmp_path, own) if chunk][1:] == numbers(10)  # after the sessions
    again = Follower(tmp_path, entries_max=10)
    await again.snapshots.restore()


async def test_parts_of_two_snapshots_are_not_put_together(tmp_path: Path) -> None:
    follower = Follower(tmp_path, entries_max=1000)
    one, data = snapshot_at(10)
    other, other_data = snapshot_at(20)
    async with running(follower):
        follower.snapshots.store(StorePart(one, 0, data[:20], is_last=False))
        # The first part of another one was lost on the way.
        follower.snapshots.store(StorePart(other, 20, other_data[20:], is_last=True))
        follower.snapshots.store(StorePart(one, 20, data[20:], is_last=True))
        await follower.taken_over(one)
    assert follower.machine.words == numbers(10)


async def test_no_snapshot_is_taken_of_entries_that_a_received_one_covers(tmp_path: Path) -> None:
    follower = Follower(tmp_path, entries_max=3)
    async with running(follower):
        received = follower.offer(10)
        await follower.applied(10)
        for _ in range(3):
            follower.applying.grown_entries += 1  # as if it had grown just before the snapshot was taken over
        follower.snapshots.look()
        await trio.sleep(0.05)
    assert follower.core.snapshot == received
    assert len(files(tmp_path, "snapshot-")) == 1


async def test_a_snapshot_that_is_removed_while_it_is_sent_is_sent_to_its_end_or_reported_gone(
    tmp_path: Path,
) -> None:
    follower = Follower(tmp_path, entries_max=1000)
    async with running(follower):
        snapshot = follower.offer(10)
        await follower.applied(10)
        newer = follower.offer(20)
        part = InstallSnapshotRequest(1, 10, 1, snapshot.size, snapshot.checksum, 0)
        filled = follower.snapshots.fill(3, part)
        assert filled is not None
        assert zlib.crc32(filled.data) == snapshot.checksum
        await follower.taken_over(newer)
        path_of(tmp_path, snapshot).unlink()
        assert follower.snapshots.fill(3, part) == filled
        other_part = InstallSnapshotRequest(1, 20, 1, newer.size, newer.checksum, 0)
        assert follower.snapshots.fill(3, other_part) is not None
        assert follower.snapshots.fill(3, part) is None, "sent to nobody, so it was closed"
        assert follower.core.snapshot == newer
        assert not follower.alerts


async def test_at_the_start_a_node_removes_what_is_left_over(tmp_path: Path) -> None:
    (tmp_path / "snapshot-3.new").touch()
    (tmp_path / "snapshot-3-1-00000000").touch()
    (tmp_path / "snapshot-3.received").touch()
    await Follower(tmp_path, entries_max=3).snapshots.restore()
    assert not os.listdir(tmp_path)


# --- a snapshot that rots ---------------------------------------------------------------------------------------

FAST = Timing(lower=0.3, upper=0.6, heartbeat=0.05, stop_grace=0.0)
AWAY = 3
ENTRIES = 8
SIZE = 100_000  # of a word, so that a snapshot has more parts than are under way at a time


class Member(Follower):
    """A member of a cluster, with files and a database; :func:`living` gives it time and carries its messages."""

    def __init__(self, directory: Path, node: int) -> None:
        directory.mkdir(parents=True)
        self.directory = directory
        super().__init__(directory, entries_max=ENTRIES, node=node, timing=FAST)
        self.wake_at = 0.0
        self.disk = SqliteDisk(directory, new_id=lambda: node, hard=self.hard)

    def turn(self) -> None:
        """Leave it to :meth:`live`, which also writes and sends."""

    async def live(self) -> list[tuple[int, Message]]:
        """Take a turn; return what it sends, with the receivers."""
        now = trio.current_time()
        if self.wake_at <= now:
            self.member.handle_timer(now)
        turn = self.member.turn(now)
        for event in turn.events:
            if isinstance(event, StorePart):
                self.snapshots.store(event)
        if turn.write is not None:
            await self.disk.save(turn.write)
            self.member.persisted(turn.write.number, trio.current_time())
            if turn.write.snapshot is not None:
                self.snapshots.is_valid(turn.write.snapshot)
        self.member.apply(turn.apply)
        self.snapshots.look()
        self.wake_at = turn.wake_at
        return [(to, message) for receivers, message in turn.send for to in receivers]

    async def propose(self, command: bytes) -> None:
        """Commit and apply a command."""
        ended = trio.Event()
        self.member.proposals.submit(EntryKind.COMMAND, command, lambda outcome: ended.set())
        await ended.wait()

    @property
    def snapshot(self) -> Path:
        [path] = self.directory.glob("snapshot-*-*")
        return path


class Members:
    """Three members, one of which is away for a while."""

    def __init__(self, directory: Path) -> None:
        self.all = {node: Member(directory / str(node), node) for node in (1, 2, AWAY)}
        self.away = True

    async def run(self) -> None:
        while True:
            for member in self.all.values():
                self._carry(member, await member.live())
            await trio.sleep(0.001)

    def _carry(self, member: Member, messages: list[tuple[int, Message]]) -> None:
        for to, message in messages:
            filled = member.snapshots.fill(to, message) if isinstance(message, InstallSnapshotRequest) else message
            if isinstance(filled, ConsensusMessage) and not (self.away and AWAY in {member.core.id, to}):
                self.all[to].member.take(member.core.id, CLUSTER, filled, trio.current_time())

    async def leader(self) -> Member:
        with trio.fail_after(5):
            while True:
                for member in self.all.values():
                    if member.core.role is Role.LEADER:
                        return member
                await trio.sleep(0.001)

    async def write_until_a_snapshot(self) -> None:
        """Write until there is a snapshot that covers everything."""
        leader = await self.leader()
        for n in range(ENTRIES - 1):  # the leader's no-op is one more
            await leader.propose(bytes([n]) * SIZE)
        with trio.fail_after(5):
            while leader.core.snapshot is None:
                await trio.sleep(0.001)

    async def catch_up(self) -> None:
        """Let the member that was away come back and get the leader's snapshot; nothing else is written meanwhile."""
        leader = await self.leader()
        self.away = False
        with trio.fail_after(5):
            while self.all[AWAY].core.snapshot is None:
                await trio.sleep(0.001)
        assert self.all[AWAY].machine.words == leader.machine.words


@asynccontextmanager
async def living(directory: Path) -> AsyncIterator[Members]:
    members = Members(directory)
    try:
        async with trio.open_nursery() as nursery:
            for member in members.all.values():
                for task in (member.snapshots.take, member.snapshots.receive):
                    nursery.start_soon(task)
            nursery.start_soon(members.run)
            yield members
            nursery.cancel_scope.cancel()
    finally:
        for member in members.all.values():
            member.disk.close()


def rot(path: Path) -> None:
    """Flip one bit of a file."""
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 8
    path.write_bytes(whole)


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


@pytest.mark.parametrize("damage", [rot, cut_short])
async def test_a_leader_whose_snapshot_has_rotted_takes_another_one_and_followers_catch_up(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    async with living(tmp_path) as members:
        await members.write_until_a_snapshot()
        leader = await members.leader()
        damaged, path = leader.core.snapshot, leader.snapshot
        damage(path)
        await members.catch_up()
        assert leader.core.snapshot == members.all[AWAY].core.snapshot == damaged, "the same again, but whole"
        assert leader.alerts == [
            f"{path}: does not match its checksum; the node takes another snapshot in its place: check the disk"
        ]
    for member in (leader, members.all[AWAY]):
        await Follower(member.directory, entries_max=ENTRIES, snapshot=damaged).snapshots.restore()


async def test_a_leader_that_finds_no_room_for_another_snapshot_tries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trioraft.node.snapshots._RETRY", 0.1)
    async with living(tmp_path) as members:
        await members.write_until_a_snapshot()
        leader = await members.leader()
        rot(leader.snapshot)
        (leader.directory / f"snapshot-{ENTRIES}.new").symlink_to("/dev/full")  # it is gone at the next attempt
        await members.catch_up()
        assert len(leader.alerts) == 1
        assert (leader.snapshots.problem, leader.core.lacks_snapshot) == ("", False)


async def test_a_log_that_has_rotted_is_sent_from_memory_and_refused_at_the_next_start(tmp_path: Path) -> None:
    async with living(tmp_path / "members") as members:
        leader = await members.leader()
        for n in range(ENTRIES - 2):
            await leader.propose(bytes([n]) * SIZE)
        rot(leader.directory / "trioraft.db-wal")
        members.away = False
        with trio.fail_after(5):
            while members.all[AWAY].machine.words != leader.machine.words:
                await trio.sleep(0.001)
        shutil.copytree(leader.directory, tmp_path / "killed")
    with pytest.raises(StorageError, match="does not match its checksum; the disk is damaged: restore the directory"):
        SqliteDisk(tmp_path / "killed")


async def test_a_snapshot_that_is_not_there_any_more_is_taken_again(tmp_path: Path) -> None:
    follower = Follower(tmp_path, entries_max=1000)
    async with running(follower):
        snapshot = follower.offer(10)
        await follower.taken_over(snapshot)
        path_of(tmp_path, snapshot).unlink()
        part = InstallSnapshotRequest(1, 10, 1, snapshot.size, snapshot.checksum, 0)
        assert follower.snapshots.fill(3, part) is None
        assert len(follower.alerts) == 1
        assert ": No such file or directory; the node takes another snapshot" in follower.alerts[0]
        with trio.fail_after(5):
            while follower.core.snapshot is None:
                await trio.sleep(0.001)
        again = follower.core.snapshot
    assert [chunk for chunk in read_chunks(tmp_path, again) if chunk][1:] == numbers(10)


async def test_a_node_whose_snapshot_has_rotted_while_it_ran_does_not_start_with_it(tmp_path: Path) -> None:
    follower = Follower(tmp_path, entries_max=1000)
    async with running(follower):
        snapshot = follower.offer(10)
        await follower.taken_over(snapshot)
    rot(path_of(tmp_path, snapshot))
    with pytest.raises(StorageError, match="does not match its checksum; the disk is damaged: restore the directory"):
        await Follower(tmp_path, entries_max=1000, snapshot=snapshot).snapshots.restore()


async def test_nothing_is_read_of_a_damaged_snapshot_once_another_one_has_its_name(tmp_path: Path) -> None:
    follower = Follower(tmp_path, entries_max=10)
    async with running(follower):
        follower.append(1, 10)
        await follower.applied(10)
        with trio.fail_after(5):
            while (snapshot := follower.core.snapshot) is None:
                await trio.sleep(0.001)
        path = path_of(tmp_path, snapshot)
        rot(path)
        about = 1, 10, 1, snapshot.size, snapshot.checksum
        whole = InstallSnapshotRequest(*about, 0, configuration=snapshot.configuration)
        rest = InstallSnapshotRequest(*about, 5, configuration=snapshot.configuration)
        assert follower.snapshots.fill(3, whole) is None
        assert follower.snapshots.fill(3, rest) is not None, "it was to leave at the same moment"
        await follower.taken_over(snapshot)
        filled = follower.snapshots.fill(3, whole)
        assert filled is not None
        assert filled.data == path.read_bytes()
