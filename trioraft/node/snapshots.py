"""Snapshots of a node: taken in the background, sent to followers, and restored when they are received."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import trio

from trioraft.consensus import Core
from trioraft.consensus.events import StorePart
from trioraft.consensus.ledger import SnapshotInfo
from trioraft.consensus.snapshots import PART_BYTES, snapshot_of
from trioraft.logger import Logger
from trioraft.messages import Index, InstallSnapshotRequest, Instant, NodeId
from trioraft.node.apply import Applying
from trioraft.node.pauses import Pauses
from trioraft.storage.errors import DiskFullError, StorageError
from trioraft.storage.snapshots import (
    SnapshotReader,
    SnapshotWriter,
    frame,
    read_chunks,
    remove_leftovers,
    remove_older,
)

_log: Final = Logger("trioraft.snapshots")

# The most entries that a snapshot covers and that are kept, for followers that are a little behind.
_KEEP_MAX: Final = 5000
# A snapshot's chunks are written to the disk in pieces of at least this size.
_PIECE: Final = 1024 * 1024
# When the disk has no room for a snapshot that followers may need, it is tried again after this long, in seconds.
_RETRY: Final = 10.0


class Snapshotter:
    """One node's snapshots.

    Parameters
    ----------
    core : Core
        The core whose log they shorten.
    applying : Applying
        Applies entries to the state that they hold.
    pauses : Pauses
        Hold it while it is looked at, or replaced.
    directory : Path
        The node's directory.
    clock : callable
        Returns the time in seconds.
    soon : callable
        Requests a turn, once the core was told something.
    alert : callable
        Raises an alert, at which somebody should look.
    entries_max, bytes_max : int
        The growth of the log, in entries or bytes, after which a snapshot is taken.

    Attributes
    ----------
    problem : str
        The reason why the last snapshot was not taken; empty once one is.
    """

    def __init__(
        self,
        core: Core,
        applying: Applying,
        pauses: Pauses,
        directory: Path,
        clock: Callable[[], Instant],
        soon: Callable[[], None],
        *,
        alert: Callable[[str], None],
        entries_max: int,
        bytes_max: int,
    ) -> None:
        self.problem = ""
        self._core = core
        self._applying = applying
        self._pauses = pauses
        self._directory = directory
        self._clock = clock
        self._soon = soon
        self._alert = alert
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._send_parts, self._parts = trio.open_memory_channel[StorePart](1024)
        self._readers: dict[NodeId, SnapshotReader] = {}  # by the follower to which they are sent
        self._growing = trio.CancelScope()
        self._looked = trio.Event()
        self._valid: SnapshotInfo | None = None
        self._has_valid = trio.Event()

    # --- at the start ---------------------------------------------------------------------------------------

    async def restore(self) -> None:
        """Restore the snapshot that is on disk, before any entry is applied."""
        snapshot = self._core.snapshot
        remove_leftovers(self._directory, snapshot)
        if snapshot is not None:
            await self._take_over(snapshot)

    async def _take_over(self, snapshot: SnapshotInfo) -> None:
        """Restore a snapshot, in a thread, while nothing is applied."""
        async with self._pauses.paused():
            replica = self._applying.replica
            if replica.applied_index >= snapshot.index:
                return  # the entries were applied faster
            await trio.to_thread.run_sync(
                lambda: replica.restore(snapshot.index, read_chunks(self._directory, snapshot), snapshot.version)
            )

    # --- taking ---------------------------------------------------------------------------------------------

    async def take(self) -> None:
        """Take a snapshot whenever the log has grown enough, or the last one turns out to be damaged."""
        while True:
            with self._growing:
                await self._wait_grown()
            self._growing = trio.CancelScope()
            async with self._pauses.paused():  # a received one may just be restored
                index = self._applying.replica.applied_index
                described = self._core.describe_snapshot(index)
                self._applying.note_snapshot()
                if self._is_overtaken(index):
                    continue
                chunks = self._applying.replica.snapshot()
            try:
                snapshot = await self._write(described, chunks)
            except DiskFullError as error:
                # The log needs little room, and the next snapshot may find some; so the node goes on.
                _log.error("no snapshot was taken, and the log is not shortened", reason=str(error))
                self.problem = f"no snapshot was taken, and the log is not shortened: {error}"
                if self._core.lacks_snapshot:
                    self._growing.deadline = trio.current_time() + _RETRY
                continue
            self.problem = ""
            if self._is_overtaken(index):
                continue  # the next clean-up removes the file
            self._close_sent()  # a damaged one of the same name may be open
            keep = min(_KEEP_MAX, self._entries_max // 2)
            self._core.snapshot_taken(snapshot, keep, self._clock(), keep_bytes=self._bytes_max // 2)
            self._soon()
            _log.info("snapshot taken", index=index, bytes=snapshot.size)

    def look(self) -> None:
        """Check, after a turn, whether the log has grown enough for another snapshot."""
        if self._has_grown():
            self._looked.set()

    def _has_grown(self) -> bool:
        applying = self._applying
        return applying.grown_entries >= self._entries_max or applying.grown_bytes >= self._bytes_max

    async def _wait_grown(self) -> None:
        """Wait until the log has grown enough since the last snapshot."""
        while not self._has_grown():
            self._looked = trio.Event()
            await self._looked.wait()

    def _is_overtaken(self, index: Index) -> bool:
        """Check whether a received snapshot covers an entry."""
        return self._core.snapshot is not None and self._core.snapshot.index >= index

    async def _write(self, described: SnapshotInfo, chunks: Iterator[bytes]) -> SnapshotInfo:
        """Write a snapshot in the background."""
        writer = await trio.to_thread.run_sync(SnapshotWriter, self._directory, described.index)
        try:
            await write_chunks(writer.write, chunks)
            snapshot = msgspec.structs.replace(described, size=writer.size, checksum=writer.checksum)
            await trio.to_thread.run_sync(writer.finish, snapshot)
        except BaseException:
            writer.discard()
            raise
        return snapshot

    # --- sending --------------------------------------------------------------------------------------------

    def fill(self, to: NodeId, part: InstallSnapshotRequest) -> InstallSnapshotRequest | None:
        """Return a part with its bytes, as it leaves.

        Parameters
        ----------
        to : int
            The follower to which it is sent.
        part : InstallSnapshotRequest
            The part, without its bytes.

        Returns
        -------
        InstallSnapshotRequest or None
            The part; None when the snapshot is damaged, or a newer one has taken its place.
        """
        snapshot = snapshot_of(part)
        try:
            data = self._reader(to, snapshot).read(part.offset, PART_BYTES)
        except StorageError as error:
            self._give_up(snapshot, str(error))
            return None
        return msgspec.structs.replace(part, data=data)

    def _reader(self, to: NodeId, snapshot: SnapshotInfo) -> SnapshotReader:
        reader = self._readers.get(to)
        if reader is None or reader.snapshot != snapshot:
            if reader is not None:
                self._readers.pop(to).close()
            self._close_sent()
            reader = self._readers[to] = SnapshotReader(self._directory, snapshot)
        return reader

    def _give_up(self, snapshot: SnapshotInfo, why: str) -> None:
        """Stop sending a damaged snapshot; if it is the newest, take another one now, from the state in memory."""
        is_newest = snapshot == self._core.snapshot
        self._core.snapshot_gone(snapshot, self._clock())
        self._close_sent()
        if is_newest:
            self._alert(f"{why}; the node takes another snapshot in its place: check the disk")
            self._growing.cancel()

    def _close_sent(self) -> None:
        """Close the files that are not sent to any follower any more."""
        state = self._core.state
        followers = state.followers if state is not None else {}
        for node, reader in [*self._readers.items()]:
            follower = followers.get(node)
            if follower is None or follower.sending is None or follower.sending.snapshot != reader.snapshot:
                self._readers.pop(node).close()

    # --- receiving ------------------------------------------------------------------------------------------

    def store(self, part: StorePart) -> None:
        """Queue a received part; a full queue drops it, and the leader sends it again."""
        try:
            self._send_parts.send_nowait(part)
        except trio.WouldBlock:
            self._core.reception_failed(part.snapshot, self._clock())

    async def receive(self) -> None:
        """Store parts in order, and restore a snapshot once it is whole."""
        writer: SnapshotWriter | None = None
        written: SnapshotInfo | None = None
        async for part in self._parts:
            if part.offset == 0:
                if writer is not None:
                    await trio.to_thread.run_sync(writer.discard)
                written = part.snapshot
                new_writer = partial(SnapshotWriter, self._directory, part.snapshot.index, received=True)
                writer = await trio.to_thread.run_sync(new_writer)
            if writer is None or (written, writer.size) != (part.snapshot, part.offset):
                self._core.reception_failed(part.snapshot, self._clock())
            else:
                await trio.to_thread.run_sync(writer.write, part.data)
                if part.is_last:
                    await self._complete(writer, part.snapshot)
                    writer = None
                else:
                    self._core.part_stored(part.snapshot, writer.size, self._clock())
            self._soon()

    async def _complete(self, writer: SnapshotWriter, snapshot: SnapshotInfo) -> None:
        if not await trio.to_thread.run_sync(writer.finish, snapshot):
            _log.warning("a received snapshot is damaged; receiving it again", index=snapshot.index)
            self._core.reception_failed(snapshot, self._clock())
            return
        await self._take_over(snapshot)
        self._core.snapshot_installed(snapshot, self._clock())
        _log.info("snapshot received", index=snapshot.index, bytes=snapshot.size)

    def is_valid(self, snapshot: SnapshotInfo) -> None:
        """Note the snapshot that is valid on disk from now on.

        Parameters
        ----------
        snapshot : SnapshotInfo
            The snapshot.
        """
        self._valid = snapshot
        self._has_valid.set()

    async def clean_up(self) -> None:
        """Remove snapshots older than the newest one, until cancelled; no write waits for that."""
        while True:
            await self._has_valid.wait()
            self._has_valid = trio.Event()
            self._close_sent()
            if self._valid is not None:
                await trio.to_thread.run_sync(remove_older, self._directory, self._valid)


async def write_chunks(write: Callable[[bytes], None], chunks: Iterable[bytes]) -> None:
    """Write a state machine's chunks, in a thread, and let other tasks run after each.

    Parameters
    ----------
    write : callable
        Writes some bytes.
    chunks : iterable of bytes
        The chunks; what is written is their frames.
    """
    piece = bytearray()
    for chunk in chunks:
        piece += frame(chunk)
        if len(piece) >= _PIECE:
            await trio.to_thread.run_sync(write, bytes(piece))
            piece.clear()
        await trio.lowlevel.checkpoint()
    await trio.to_thread.run_sync(write, bytes(piece))
