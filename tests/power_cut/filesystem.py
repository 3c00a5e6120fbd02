"""A file system that has only promised what POSIX promises: what was synced is there after a power cut.

Of what was not synced anything may be there: any of the writes and truncations of a file, a write in part (by sectors
of 512 bytes), and the names in a directory as they were at some moment since it was synced.
"""

import random
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Final

from tests.power_cut.recording import Call, Created, Removed, Renamed, Said, Synced, Truncated, Wrote

_SECTOR: Final = 512


class _File:
    """What is on disk of a file, and what was done to it since it was synced."""

    def __init__(self) -> None:
        self.durable = bytearray()
        self.size = 0  # as the process sees it
        self.pending: list[Wrote | Truncated] = []

    def sync(self) -> None:
        for call in self.pending:
            _apply(self.durable, call)
        self.pending.clear()


def _apply(content: bytearray, call: Wrote | Truncated) -> None:
    if isinstance(call, Truncated):
        content[call.size :] = bytes(max(0, call.size - len(content)))
        return
    offset = call.offset or 0
    if offset > len(content):
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(call.data)] = call.data


class FileSystem:
    """The files of one directory, as a process sees them and as the disk has them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._names: dict[str, _File] = {}
        self._durable_names: dict[str, _File] = {}
        self._pending_names: list[dict[str, _File]] = []

    def do(self, call: Call) -> None:
        """Do what the process asked for."""
        match call:
            case Said():
                pass
            case Created(path=path, emptied=emptied):
                if path not in self._names:
                    self._names[path] = _File()
                    self._names_changed()
                elif emptied:
                    self._change(Truncated(path, 0))
            case Wrote(path=path, offset=offset, data=data):
                self._change(Wrote(path, self._names[path].size if offset is None else offset, data))
            case Truncated():
                self._change(call)
            case Synced(path=path):
                if path in self._names:
                    self._names[path].sync()
                elif PurePath(path) == self._root:
                    self._durable_names = dict(self._names)
                    self._pending_names.clear()
            case Renamed(path=path, to=to):
                self._names[to] = self._names.pop(path)
                self._names_changed()
            case Removed(path=path):
                del self._names[path]
                self._names_changed()

    def _change(self, call: Wrote | Truncated) -> None:
        file = self._names[call.path]
        file.size = call.size if isinstance(call, Truncated) else max(file.size, (call.offset or 0) + len(call.data))
        file.pending.append(call)

    def _names_changed(self) -> None:
        self._pending_names.append(dict(self._names))

    def leave(self, directory: Path, kept: "Kept") -> None:
        """Write into a directory what a power cut leaves now.

        Parameters
        ----------
        directory : Path
            Where it is written; emptied before.
        kept : Kept
            Chooses what is there of what was not synced.
        """
        for left in directory.iterdir():
            left.unlink()
        names = kept.names([self._durable_names, *self._pending_names])
        for path, file in names.items():
            content = bytearray(file.durable)
            for call in kept.changes(file.pending):
                _apply(content, call)
            (directory / PurePath(path).name).write_bytes(content)


class Kept:
    """Chooses what a power cut leaves of what was not synced: nothing, everything, or something by chance."""

    def __init__(self, which: str, seed: int = 0) -> None:
        self._which = which
        self._chance = random.Random(seed)

    def names(self, moments: list[dict[str, _File]]) -> dict[str, _File]:
        if self._which == "nothing":
            return moments[0]
        return moments[-1] if self._which == "everything" else self._chance.choice(moments)

    def changes(self, pending: list[Wrote | Truncated]) -> Iterator[Wrote | Truncated]:
        if self._which == "nothing":
            return
        # The end is what matters most: where a log was cut.
        share = 1.0 if self._which == "everything" else self._chance.choice([0.1, 0.5, 0.9, 1.0])
        for call in pending:
            if self._which == "everything" or self._chance.random() < share:
                yield self._torn(call)

    def _torn(self, call: Wrote | Truncated) -> Wrote | Truncated:
        if self._which == "everything" or isinstance(call, Truncated) or self._chance.random() < 0.8:
            return call
        sectors = self._chance.randint(0, len(call.data) // _SECTOR)
        return Wrote(call.path, call.offset, call.data[: sectors * _SECTOR])
