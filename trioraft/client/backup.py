"""Fetching a backup from a running cluster.

Any member can make one; a follower is asked first, because the leader has enough to do. When the node that makes the
backup falls silent or restarts, another node makes a new one, since two nodes do not write the same bytes. The file
gets its name only when it is whole and matches its checksum.
"""

import os
from collections import Counter
from pathlib import Path
from typing import Final, Protocol

import trio

from trioraft.client.client import Client, NoAnswerError
from trioraft.client.status import ObservedNode, printable
from trioraft.kv.codec import Box, unpack
from trioraft.messages import BACKUP_PART_BYTES, BackupPart, EndBackup, ReadBackup, Refusal, StartBackup
from trioraft.storage.backup_file import Backup, read_about
from trioraft.storage.errors import BackupError, FileError
from trioraft.storage.whole_files import publish, reported, unfinished_file

# A node that does not answer for this many seconds is given up.
_SILENCE_MAX: Final = 5.0
# The most parts that are asked for at once. There are more while parts come within the first of these times, and
# fewer when they take longer than the second.
_PARTS_MAX: Final = 8
_SOON: Final = 0.5
_LATE: Final = 2.0
# Seconds between questions how far a backup is, and before something that failed is tried again.
_PAUSE: Final = 0.2
# How often a backup is begun, at most.
_BEGUN_MAX: Final = 5


class Progress(Protocol):
    """Follows how a backup goes on."""

    def progress(self, what: str, done: int, of: int | None) -> None:
        """Note what is being done, and how many bytes of it are done."""

    def problem(self, text: str) -> None:
        """Note what went wrong, in words for people, and is tried again."""


class _Part(Box[BackupPart], frozen=True, array_like=True):
    pass


class _FailedError(Exception):
    """A node cannot make or send a backup for now; the text says why."""


async def fetch_backup(
    client: Client,
    path: Path,
    progress: Progress,
    timeout: float = 10.0,  # noqa: ASYNC109 - bounds the tries, and stands in the error
) -> Backup:
    """Make a backup of a running cluster, with everything that was acknowledged before the call.

    Parameters
    ----------
    client : Client
        A client of the cluster, with a key that is good for commands.
    path : Path
        The file of the backup, which must not exist.
    progress : Progress
        Follows how it goes on.
    timeout : float
        After how many seconds to give up in which no node could begin a backup, or one did not go on.

    Returns
    -------
    Backup
        What the backup contains.

    Raises
    ------
    FileError
        If the file exists or cannot be written, or, as a `BackupError`, the nodes could not make one.
    SettingsError
        If the key is not good for commands.
    """
    with unfinished_file(path) as unfinished:
        failures: Counter[str] = Counter()
        begun = 0
        problem = ""
        give_up_at = trio.current_time() + timeout
        while begun < _BEGUN_MAX and trio.current_time() < give_up_at:
            node = await _choose(client, failures)
            if node is None:
                problem = client.why_silent()
                await trio.sleep(_PAUSE)
                continue
            fetching = _Fetching(client, node, unfinished, progress, timeout)
            try:
                about = await fetching.fetch()
            except (_FailedError, NoAnswerError) as error:
                failures[node.status.id] += 1
                problem = f"{fetching.name}: {error}"
                if fetching.has_begun:
                    begun += 1
                    progress.problem(problem + ("; starting again" if begun < _BEGUN_MAX else ""))
                    give_up_at = trio.current_time() + timeout
                await trio.sleep(_PAUSE)
            else:
                await trio.to_thread.run_sync(publish, unfinished, path)
                return about
        tries = f"none of {begun} tries was completed" if begun else f"no node could begin within {timeout:g} s"
        raise BackupError(f"there is no backup: {tries}; the last problem: {problem or 'none was found'}")


async def _choose(client: Client, failures: Counter[str]) -> ObservedNode | None:
    """Choose the node to make it: one that failed least, and of these a follower rather than the leader."""
    cluster = await client.statuses()
    members = [node for node in cluster.nodes if node.reachable and node.status.cluster_id is not None]
    return min(
        members or [node for node in cluster.nodes if node.reachable],
        key=lambda node: (failures[node.status.id], node.status.role != "follower", node.status.name),
        default=None,
    )


class _Fetching:
    """One try: a backup that one node makes and sends."""

    def __init__(self, client: Client, node: ObservedNode, file: Path, progress: Progress, patience: float) -> None:
        self.name = printable(node.status.name or node.status.id)
        self.has_begun = False
        self._client = client
        self._node = node.status.id
        self._file = file
        self._progress = progress
        self._patience = patience
        self._backup = 0
        self._size = 0
        self._next = 0
        self._done = 0
        self._window = trio.CapacityLimiter(1)

    async def fetch(self) -> Backup:
        """Let the node make the backup, and write it to the file."""
        part = await self._ask(StartBackup())
        self.has_begun = True
        self._backup = part.backup
        try:
            self._size = await self._wait_whole()
            descriptor = await trio.to_thread.run_sync(_open_empty, self._file)
            try:
                await self._fetch_parts(descriptor)
            finally:
                os.close(descriptor)
        finally:
            self._client.post(self._node, EndBackup(self._backup))
        try:
            return await trio.to_thread.run_sync(read_about, self._file)
        except BackupError as error:
            raise _FailedError("what it gave is no whole backup, or does not match its checksum") from error

    async def _ask(self, command: StartBackup | ReadBackup) -> BackupPart:
        silence_max = min(_SILENCE_MAX, self._patience)
        busy_until = trio.current_time() + (self._patience if self.has_begun else 0.0)
        response = await self._client.command(self._node, command, silence_max)
        while response.code == Refusal.BUSY and trio.current_time() < busy_until:
            await trio.sleep(_PAUSE)
            response = await self._client.command(self._node, command, silence_max)
        if not response.done:
            raise _FailedError(printable(response.detail) or "refused")
        try:
            return unpack(response.data, _Part)
        except ValueError as error:
            raise _FailedError(f"its answer cannot be understood ({error})") from None

    async def _wait_whole(self) -> int:
        """Wait until the node has written the backup, and return its size."""
        size, since = -1, trio.current_time()
        while True:
            part = await self._ask(ReadBackup(self._backup))
            if part.whole:
                return part.size
            if part.size != size:
                size, since = part.size, trio.current_time()
            elif trio.current_time() > since + self._patience:
                raise _FailedError(f"it did not go on writing for {self._patience:g} s")
            self._progress.progress(f"{self.name} takes a snapshot", size, None)
            await trio.sleep(_PAUSE)

    async def _fetch_parts(self, descriptor: int) -> None:
        """Fetch all parts, several at once."""
        failure: _FailedError | NoAnswerError | FileError | None = None
        try:
            async with trio.open_nursery() as nursery:
                for _ in range(_PARTS_MAX):
                    nursery.start_soon(self._fetch_some, descriptor)
        except* (_FailedError, NoAnswerError, FileError) as group:
            failure = next(error for error in group.exceptions if not isinstance(error, BaseExceptionGroup))
        if failure is not None:
            raise failure

    async def _fetch_some(self, descriptor: int) -> None:
        while True:
            async with self._window:
                offset, self._next = self._next, self._next + BACKUP_PART_BYTES
                if offset >= self._size:
                    return
                started = trio.current_time()
                part = await self._ask(ReadBackup(self._backup, offset, BACKUP_PART_BYTES))
                self._adapt(trio.current_time() - started)
            if len(part.data) != min(BACKUP_PART_BYTES, self._size - offset):
                raise _FailedError("it gave another part than it was asked for")
            await trio.to_thread.run_sync(_write, self._file, descriptor, part.data, offset)
            self._done += len(part.data)
            self._progress.progress(f"fetching from {self.name}", self._done, self._size)

    def _adapt(self, seconds: float) -> None:
        """Ask for more parts at once where they come soon, and for fewer where they come late."""
        tokens = int(self._window.total_tokens)
        if seconds < _SOON:
            self._window.total_tokens = min(tokens + 1, _PARTS_MAX)
        elif seconds > _LATE:
            self._window.total_tokens = max(tokens // 2, 1)


def _open_empty(file: Path) -> int:
    with reported(file):
        return os.open(file, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC)


def _write(file: Path, descriptor: int, data: bytes, offset: int) -> None:
    with reported(file):
        while data:
            written = os.pwrite(descriptor, data, offset)
            data, offset = data[written:], offset + written
