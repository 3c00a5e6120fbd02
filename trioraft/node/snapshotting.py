"""Takes snapshots in the background, sends them, and takes over those that are received."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
import structlog
import trio

from trioraft.consensus import Core
from trioraft.consensus.outbox import SnapshotInfo
from trioraft.consensus.snapshots import PART_BYTES, snapshot_of
from trioraft.consensus.state import StorePart
from trioraft.messages import InstallSnapshotRequest
from trioraft.node.applier import Applier
from trioraft.storage.snapshots import (
    DiskFullError,
    SnapshotWriter,
    frame,
    path_of,
    read_chunks,
    remove_leftovers,
    remove_older,
)

_log: Final = structlog.get_logger("trioraft.snapshots")

# So many of the entries that a snapshot covers are kept, at most, for followers that are a little behind.
_KEEP_MAX: Final = 5000
# A snapshot's chunks are written to the disk in pieces of at least this size.
_PIECE: Final = 1024 * 1024


class Snapshotter:
    """One node's snapshots.

    Parameters
    ----------
    core : Core
        Whose log they shorten.
    applier : Applier
        Has the state that they are of.
    directory : Path
        The node's directory.
    clock : callable
        Tells the time in seconds.
    flush : callable
        Acts on what the core has ready.
    entries_max, bytes_max : int
        A snapshot is taken when the log has grown by so many entries, or so many bytes.

    Attributes
    ----------
    problem : str
        Why the last snapshot was not taken; empty once one is.
    """

    def __init__(
        self,
        core: Core,
        applier: Applier,
        directory: Path,
        clock: Callable[[], float],
        flush: Callable[[], None],
        *,
        entries_max: int,
        bytes_max: int,
    ) -> None:
        self.problem = ""
        self._core = core
        self._applier = applier
        self._directory = directory
        self._clock = clock
        self._flush = flush
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._send_parts, self._parts = trio.open_memory_channel[StorePart](1024)
        self._sending: dict[SnapshotInfo, BinaryIO] = {}

    # --- at the start ---------------------------------------------------------------------------------------

    async def restore(self) -> None:
        """Take over the snapshot that is on disk, before anything is applied."""
        snapshot = self._core.snapshot
        remove_leftovers(self._directory, snapshot)
        if snapshot is not None:
            await self._take_over(snapshot)

    async def _take_over(self, snapshot: SnapshotInfo) -> None:
        """Let the state machine restore a snapshot, in a thread, while nothing is applied."""
        async with self._applier.paused():
            replica = self._applier.replica
            if replica.applied_index >= snapshot.index:
                return  # entries came faster
            await trio.to_thread.run_sync(
                lambda: replica.restore(snapshot.index, read_chunks(self._directory, snapshot))
            )

    # --- taking ---------------------------------------------------------------------------------------------

    async def take(self) -> None:
        """Take a snapshot whenever the log has grown enough."""
        while True:
            await self._applier.wait_grown(self._entries_max, self._bytes_max)
            async with self._applier.paused():  # a received one may just be taken over
                index = self._applier.replica.applied_index
                described = self._core.describe_snapshot(index)
                self._applier.note_snapshot()
                if self._is_overtaken(index):
                    continue
                chunks = self._applier.replica.snapshot()
            try:
                snapshot = await self._write(described, chunks)
            except DiskFullError as error:
                # The log needs little room, and the next snapshot may find some: go on without.
                _log.error("no snapshot was taken, and the log is not shortened", reason=str(error))
                self.problem = f"no snapshot was taken, and the log is not shortened: {error}"
                continue
            self.problem = ""
            if self._is_overtaken(index):
                continue  # the file goes with the next clean-up
            keep = min(_KEEP_MAX, self._entries_max // 2)
            self._core.snapshot_taken(snapshot, keep, self._clock(), keep_bytes=self._bytes_max // 2)
            self._flush()
            _log.info("snapshot taken", index=index, bytes=snapshot.size)

    def _is_overtaken(self, index: int) -> bool:
        """Tell whether a received snapshot covers an entry."""
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

    def fill(self, part: InstallSnapshotRequest) -> InstallSnapshotRequest | None:
        """Read the bytes of a part that leaves.

        Parameters
        ----------
        part : InstallSnapshotRequest
            The part, without its bytes.

        Returns
        -------
        InstallSnapshotRequest or None
            The part; None when the snapshot is not there any more, because a newer one has taken its place.
        """
        snapshot = snapshot_of(part)
        file = self._sending.get(snapshot)
        if file is None:
            self._close_sent()
            try:
                file = self._sending[snapshot] = path_of(self._directory, snapshot).open("rb")
            except OSError:
                return None
        file.seek(part.offset)
        return msgspec.structs.replace(part, data=file.read(PART_BYTES))

    def _close_sent(self) -> None:
        """Close what is sent to nobody any more. What is open can be read, also when it has been removed."""
        state = self._core.state
        followers = state.followers.values() if state is not None else ()
        wanted = {follower.sending.snapshot for follower in followers if follower.sending is not None}
        for snapshot in self._sending.keys() - wanted:
            self._sending.pop(snapshot).close()

    # --- receiving ------------------------------------------------------------------------------------------

    def store(self, part: StorePart) -> None:
        """Queue a part that was received; a full queue drops it, and the leader sends it again."""
        try:
            self._send_parts.send_nowait(part)
        except trio.WouldBlock:
            self._core.reception_failed(part.snapshot, self._clock())

    async def receive(self) -> None:
        """Store parts in order, and take over what is whole."""
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
            self._flush()

    async def _complete(self, writer: SnapshotWriter, snapshot: SnapshotInfo) -> None:
        if not await trio.to_thread.run_sync(writer.finish, snapshot):
            _log.warning("a received snapshot is damaged; receiving it again", index=snapshot.index)
            self._core.reception_failed(snapshot, self._clock())
            return
        await self._take_over(snapshot)
        self._core.snapshot_installed(snapshot, self._clock())
        _log.info("snapshot received", index=snapshot.index, bytes=snapshot.size)

    async def clean_up(self, snapshot: SnapshotInfo) -> None:
        """Remove the snapshots that were valid before.

        Parameters
        ----------
        snapshot : SnapshotInfo
            The one that is valid on disk.
        """
        self._close_sent()
        await trio.to_thread.run_sync(remove_older, self._directory, snapshot)


async def write_chunks(write: Callable[[bytes], None], chunks: Iterable[bytes]) -> None:
    """Write a state machine's chunks, in a thread, and give others their turn after each.

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
