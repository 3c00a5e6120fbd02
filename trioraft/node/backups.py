"""Backups that a running node makes for clients, and sends to them in parts.

A backup is written to a file in the node's directory in the background, while the log goes on. Its parts are read
from there as the client asks for them. The file is removed when the client has the backup, when the client was silent
for a while, or when the node stops; a file that a crash has left is removed at the next start. A node keeps only a
few backups at a time.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import trio

from trioraft.clock import NEVER
from trioraft.consensus import Core
from trioraft.errors import BusyError, ProposalError, RefusedError
from trioraft.logger import Logger
from trioraft.messages import LARGEST_ID, BackupPart, Instant, ReadBackup, format_id
from trioraft.node.administration import BackupAnswered
from trioraft.node.snapshots import write_chunks
from trioraft.node.world import World
from trioraft.replica.sessions import Replica
from trioraft.storage.backup_file import Backup, BackupWriter
from trioraft.storage.errors import FileError

_log: Final = Logger("trioraft.backups")

BACKUPS_MAX: Final = 2
# A backup is removed when its client was silent for this long, in seconds.
IDLE_SECONDS: Final = 60.0
# The most parts that wait to be read from the disk.
_WANTED_MAX: Final = 64


@dataclass(slots=True, eq=False)
class _Kept:
    """A backup.

    Attributes
    ----------
    number : int
        Its number, which names it.
    path : Path
        Its file.
    about : Backup
        A description of its content.
    chunks : iterator of bytes
        The chunks of the snapshot.
    heard_at : float
        When its client last sent a request.
    size : int
        The number of bytes that are written.
    file : int or None
        The descriptor of the file, once the file is whole.
    problem : str
        The reason why it will never be whole; empty where there is none.
    ended : bool
        Whether its client does not want it any more.
    is_writing : bool
        Whether it is being written, or is about to be.
    writing : CancelScope
        Ends the writing.
    """

    number: int
    path: Path
    about: Backup
    chunks: Iterator[bytes]
    heard_at: Instant
    size: int = 0
    file: int | None = None
    problem: str = ""
    ended: bool = False
    is_writing: bool = True
    writing: trio.CancelScope = field(default_factory=trio.CancelScope)

    def remove(self) -> None:
        """Remove the file."""
        if self.file is not None:
            os.close(self.file)
            self.file = None
        with contextlib.suppress(OSError):  # the next start of the node tries again
            self.path.unlink(missing_ok=True)


class _Wanted(NamedTuple):
    """A part of a backup that a client asks for, and the function that takes it."""

    kept: _Kept
    asked: ReadBackup
    answered: BackupAnswered


class BackupServer:
    """The backups that one node keeps for clients.

    Parameters
    ----------
    core : Core
        The source of the cluster's id, and of the term.
    replica : Replica
        The state that is backed up.
    directory : Path
        The node's directory.
    world : World
        The clock, and chance.
    soon : callable
        Requests a turn, so that answers leave.
    """

    def __init__(self, core: Core, replica: Replica, directory: Path, world: World, soon: Callable[[], None]) -> None:
        self._core = core
        self._replica = replica
        self._directory = directory
        self._clock = world.clock
        self._entropy = world.entropy
        self._soon = soon
        self._kept: dict[int, _Kept] = {}
        self._wanted: list[_Wanted] = []
        self._begun: list[_Kept] = []
        self._wake = trio.Event()

    # --- requests of clients --------------------------------------------------------------------------------

    def start(self) -> BackupPart | ProposalError:
        """Begin a backup of the state as it is now, while nothing is being applied.

        The caller has waited, after the client asked, until this node had applied the log up to a read index. So the
        backup has every command that was acknowledged before the client asked. And the node's term is the highest in
        which any leader had led by then: the leader that named the read index had made sure that no later leader was
        there, and had opened its term with an entry, which this node has.

        Returns
        -------
        BackupPart or ProposalError
            The number of the backup, or the reason why there is none.
        """
        if len(self._kept) >= BACKUPS_MAX:
            return BusyError(f"busy: {BACKUPS_MAX} backups are under way at this node; try again")
        index = self._replica.applied_index
        index_term = self._core.term_at(index)
        term, version = max(self._core.term, index_term), self._replica.version
        about = Backup(self._core.cluster, term, index, index_term, 0, version)
        number = int.from_bytes(self._entropy(8), "big") % LARGEST_ID + 1
        path = self._directory / f"backup-{format_id(number)}"
        kept = _Kept(number, path, about, self._replica.snapshot(), self._clock())
        self._kept[number] = kept
        self._begun.append(kept)
        self._wake.set()
        return BackupPart(number, 0, whole=False)

    def read(self, asked: ReadBackup, answered: BackupAnswered) -> None:
        """Answer with a part of a backup, now or later.

        Parameters
        ----------
        asked : ReadBackup
            The part that is asked for.
        answered : callable
            Takes the part.
        """
        kept = self._kept.get(asked.backup)
        if kept is None or kept.ended:
            answered(RefusedError(f"this node has no backup {format_id(asked.backup)} (any more)"))
            return
        kept.heard_at = self._clock()
        if kept.problem:
            answered(RefusedError(kept.problem))
        elif kept.file is None or not asked.size:
            answered(BackupPart(kept.number, kept.size, whole=kept.file is not None))
        elif len(self._wanted) >= _WANTED_MAX:
            answered(BusyError("busy: too many parts of backups are asked for; try again"))
        else:
            self._wanted.append(_Wanted(kept, asked, answered))
            self._wake.set()

    def end(self, backup: int) -> None:
        """Remove a backup that its client does not want any more.

        Parameters
        ----------
        backup : int
            Its number.
        """
        kept = self._kept.get(backup)
        if kept is not None:
            kept.ended = True
            kept.writing.cancel()
            self._wake.set()

    # --- the task -------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Write, read and remove, until cancelled."""
        for left in self._directory.glob("backup-*"):
            with contextlib.suppress(OSError):
                left.unlink(missing_ok=True)
        try:
            async with trio.open_nursery() as nursery:
                while True:
                    with trio.move_on_at(trio.current_time() + self._idle_at() - self._clock()):
                        await self._wake.wait()
                    self._wake = trio.Event()
                    self._end_idle()
                    begun, self._begun = self._begun, []
                    for kept in begun:
                        nursery.start_soon(self._write, kept)
                    await self._read_wanted()
                    self._soon()
                    await self._remove()
        finally:
            for kept in self._kept.values():
                kept.remove()

    def _idle_at(self) -> Instant:
        heard_at = (kept.heard_at for kept in self._kept.values() if not kept.ended)
        return min(heard_at, default=NEVER) + IDLE_SECONDS

    def _end_idle(self) -> None:
        for kept in self._kept.values():
            if self._clock() >= kept.heard_at + IDLE_SECONDS and not kept.ended:
                _log.warning("a backup is dropped: its client is silent", backup=format_id(kept.number))
                self.end(kept.number)

    async def _write(self, kept: _Kept) -> None:
        """Write a backup; the node goes on when the disk has no room for it."""
        try:
            with kept.writing:
                writer = await trio.to_thread.run_sync(BackupWriter, kept.path)
                try:
                    await write_chunks(lambda data: self._append(kept, writer, data), kept.chunks)
                    about = await trio.to_thread.run_sync(writer.finish, kept.about)
                finally:
                    with contextlib.suppress(FileError):
                        writer.close()
                kept.size = writer.written
                kept.file = os.open(kept.path, os.O_RDONLY | os.O_CLOEXEC)
                _log.info("a backup is made", backup=format_id(kept.number), index=about.index, bytes=kept.size)
        except (FileError, OSError) as error:
            kept.problem = str(error)
            _log.error("a backup cannot be made", backup=format_id(kept.number), reason=kept.problem)
        finally:
            kept.chunks = iter(())  # it may hold an old state in memory
            kept.is_writing = False
            self._wake.set()

    @staticmethod
    def _append(kept: _Kept, writer: BackupWriter, data: bytes) -> None:
        writer.write(data)
        kept.size = writer.written

    async def _read_wanted(self) -> None:
        """Read all parts that are wanted, in one run of a thread."""
        wanted, self._wanted = self._wanted, []
        if not wanted:
            return
        parts = await trio.to_thread.run_sync(lambda: [_read(one.kept, one.asked) for one in wanted])
        for one, part in zip(wanted, parts, strict=True):
            one.answered(part)

    async def _remove(self) -> None:
        """Remove the files that are of no use any more and are not being written."""
        for kept in [kept for kept in self._kept.values() if not kept.is_writing]:
            if kept.ended or kept.problem:
                await trio.to_thread.run_sync(kept.remove)
            if kept.ended:
                del self._kept[kept.number]


def _read(kept: _Kept, asked: ReadBackup) -> BackupPart | ProposalError:
    """Read a part, in a thread; no file is removed meanwhile."""
    if kept.file is None:
        return RefusedError("the backup is no more")
    try:
        data = os.pread(kept.file, asked.size, asked.offset)
    except OSError as error:
        return RefusedError(f"{kept.path}: {error.strerror}")
    return BackupPart(kept.number, kept.size, whole=True, data=data)
