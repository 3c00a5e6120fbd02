"""Snapshots that are taken and received while the log goes on, in any order."""

import os
import random
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from trioraft.consensus import Core, Timing
from trioraft.consensus.hard import FormationState, HardState
from trioraft.consensus.log import Log
from trioraft.consensus.outbox import SnapshotInfo
from trioraft.consensus.state import StorePart
from trioraft.messages import AppendEntriesRequest, Entry, EntryKind, InstallSnapshotRequest
from trioraft.node.applier import Applier
from trioraft.node.replica import Replica
from trioraft.node.snapshotting import Snapshotter
from trioraft.storage.snapshots import frame, path_of, read_chunks

LEADER = 2
CLUSTER = 0xC1
TIMING = Timing(lower=3.0, upper=5.0, heartbeat=0.5, stop_grace=2.0)


class Words:
    """A state machine that remembers all that it was told; its snapshots end when they are let."""

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

    def __init__(self, directory: Path, *, entries_max: int) -> None:
        hard = HardState(term=1, formation=FormationState(cluster=CLUSTER, members=(1, LEADER, 3)))
        self.core = Core(1, hard, Log(), TIMING, expect=3, random_source=random.Random(1), now=trio.current_time())
        self.machine = Words()
        self.applier = Applier(self.core, Replica(self.machine), trio.current_time, self.flush)
        self.snapshots = Snapshotter(
            self.core,
            self.applier,
            directory,
            trio.current_time,
            self.flush,
            entries_max=entries_max,
            bytes_max=10**9,
        )
        self.sequence = 0

    def flush(self) -> None:
        for event in self.core.events():
            if isinstance(event, StorePart):
                self.snapshots.store(event)
        while (write := self.core.to_persist()) is not None:
            self.core.persisted(write.number, trio.current_time())
        self.core.to_send()

    def append(self, first: int, last: int) -> None:
        """Have the leader send entries and commit them."""
        self.sequence += 1
        entries = tuple(Entry(term=1, kind=EntryKind.COMMAND, data=b"%d" % n) for n in range(first, last + 1))
        term = 1 if first > 1 else 0
        message = AppendEntriesRequest(1, self.sequence, 0.0, first - 1, term, last, entries)
        self.core.receive(LEADER, CLUSTER, message, trio.current_time())
        self.flush()

    def offer(self, index: int) -> SnapshotInfo:
        """Have the leader send a snapshot in one part."""
        snapshot, data = snapshot_at(index)
        part = InstallSnapshotRequest(1, index, 1, snapshot.size, snapshot.checksum, 0, data)
        self.core.receive(LEADER, CLUSTER, part, trio.current_time())
        self.flush()
        return snapshot

    async def applied(self, index: int) -> None:
        self.applier.apply_some()
        with trio.fail_after(5):
            while self.applier.replica.applied_index < index:
                await trio.sleep(0.001)


def snapshot_at(index: int) -> tuple[SnapshotInfo, bytes]:
    """Give a snapshot of so many entries, and its bytes."""
    source = Replica(Words())
    for n in range(1, index + 1):
        source.apply(n, Entry(term=1, kind=EntryKind.COMMAND, data=b"%d" % n))
    data = b"".join(frame(chunk) for chunk in source.snapshot())
    return SnapshotInfo(index, 1, len(data), zlib.crc32(data)), data


@asynccontextmanager
async def running(follower: Follower) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        for task in (follower.applier.run, follower.snapshots.take, follower.snapshots.receive):
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
        with trio.fail_after(5):
            while follower.core.snapshot != snapshot:
                await trio.sleep(0.001)
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
        follower.append(1, 12)  # committed, but nobody has woken the applier
        with trio.fail_after(5):
            while follower.applier.replica.applied_index < 10:
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
            while len(files(tmp_path, "snapshot-10")) < 2:  # its own, and what was received
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
        with trio.fail_after(5):
            while follower.core.snapshot != one:
                await trio.sleep(0.001)
    assert follower.machine.words == numbers(10)


async def test_none_is_taken_of_what_a_received_one_covers(tmp_path: Path) -> None:
    follower = Follower(tmp_path, entries_max=3)
    async with running(follower):
        received = follower.offer(10)
        await follower.applied(10)
        for _ in range(3):
            follower.applier._grown_entries += 1  # as if it had grown just before the snapshot was taken over
        follower.applier._applied.set()
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
        filled = follower.snapshots.fill(part)
        assert filled is not None
        assert zlib.crc32(filled.data) == snapshot.checksum
        await follower.applied(20)
        path_of(tmp_path, snapshot).unlink()
        assert follower.snapshots.fill(part) == filled
        assert follower.snapshots.fill(InstallSnapshotRequest(1, 20, 1, newer.size, newer.checksum, 0)) is not None
        assert follower.snapshots.fill(part) is None, "sent to nobody, so it was closed"


async def test_at_the_start_a_node_removes_what_is_left_over(tmp_path: Path) -> None:
    (tmp_path / "snapshot-3.new").touch()
    (tmp_path / "snapshot-3-1-00000000").touch()
    (tmp_path / "snapshot-3.received").touch()
    await Follower(tmp_path, entries_max=3).snapshots.restore()
    assert not os.listdir(tmp_path)
