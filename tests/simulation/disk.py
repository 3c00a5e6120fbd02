"""A virtual disk: what is on it is there after a crash, and nothing else is; but some of it may be damaged."""

import random
import zlib
from collections.abc import Callable
from typing import Final

import msgspec

from trioraft.consensus import HardState
from trioraft.consensus.ledger import SnapshotInfo, Write
from trioraft.consensus.log import Log
from trioraft.messages import Entry
from trioraft.storage import records
from trioraft.storage.errors import DamagedError

_NOTHING: Final = HardState()


class Disk:
    """The hard state, the log and the snapshots of one node."""

    def __init__(self, hard: HardState = _NOTHING) -> None:
        self.hard = hard
        self.base_index = 0
        self.base_term = 0
        self.entries: list[Entry] = []
        self.snapshot: SnapshotInfo | None = None
        self.files: dict[SnapshotInfo, bytes] = {}
        self.torn: Write | None = None  # some pages of it are there, and not its end mark
        self._found: Callable[[], None] | None = None  # reads what is damaged

    def log(self) -> Log:
        """Read the log."""
        return Log(self.base_index, self.base_term, self.entries)

    @property
    def last_index(self) -> int:
        """The index of the last entry."""
        return self.base_index + len(self.entries)

    def term_at(self, index: int) -> int | None:
        """Tell the term of an entry; None where there is none."""
        if self.base_index < index <= self.last_index:
            return self.entries[index - self.base_index - 1].term
        return self.base_term if index == self.base_index else None

    def holds(self, index: int, term: int) -> bool:
        """Tell whether an entry is there, or a snapshot that covers it."""
        return (self.snapshot is not None and index <= self.snapshot.index) or self.term_at(index) == term

    # --- writing --------------------------------------------------------------------------------------------

    def put(self, write: Write) -> None:
        """Do one write, all of it, as a database does."""
        self.hard = write.hard
        if write.snapshot is not None:
            self.snapshot = write.snapshot
            dropped = len(self.entries) if write.restarts else write.base_index - self.base_index
            self.entries = self.entries[dropped:]
            self.base_index, self.base_term = write.base_index, write.base_term
            # Older ones are removed only now, and so are those that a newer one has overtaken.
            self.files = {info: data for info, data in self.files.items() if info.index >= write.snapshot.index}
        if write.first_index:
            self.entries[write.first_index - self.base_index - 1 :] = write.entries

    def tear(self, write: Write, source: random.Random) -> None:
        """Leave the beginning of a write, as a power cut does in the midst of it."""
        kept = source.randrange(len(write.entries) + 1)
        self.torn = msgspec.structs.replace(write, entries=write.entries[:kept])

    # --- what a node finds when it starts -------------------------------------------------------------------

    def recover(self) -> None:
        """Drop what has no end mark, and the snapshots that are not the valid one."""
        self.torn = None
        self.files = {info: data for info, data in self.files.items() if info == self.snapshot}

    def flip_a_bit(self, source: random.Random) -> str:
        """Damage one of the records, and tell which, of a node that does not run."""
        places = [0, *range(1, len(self.entries) + 1), *([-1, -2] if self.snapshot is not None else [])]
        place = source.choice((0, len(self.entries), places[-1], source.choice(places)))
        if place > 0:
            return self._damage_entry(place - 1, source)
        if place == 0:
            node, body, checksum = records.hard_row(1, self.hard)
            damaged = node, _flipped(body, source), checksum
            self._found = lambda: self._take_hard(damaged)
            return "the hard state"
        if place == -1:
            assert self.snapshot is not None
            about, *base, checksum = records.snapshot_row(self.snapshot, self.base_index, self.base_term)
            row = _flipped(about, source), base[0], base[1], checksum
            self._found = lambda: self._take_snapshot(row)
            return "the record of the snapshot"
        self.rot(source)
        return "the snapshot"

    def rot(self, source: random.Random) -> None:
        """Damage the snapshot, perhaps under a node that runs."""
        assert self.snapshot is not None
        self.files[self.snapshot] = _flipped(self.files[self.snapshot], source)

    def _damage_entry(self, place: int, source: random.Random) -> str:
        index = self.base_index + 1 + place
        found, term, kind, data, checksum = records.entry_row(index, self.entries[place])
        if data and source.random() < 0.7:
            data = _flipped(data, source)
        else:
            term ^= 1 << source.randrange(8)
        row = found, term, kind, data, checksum

        def take() -> None:
            self.entries[place] = records.read_entry(index, row)

        self._found = take
        return f"entry {index}"

    def _take_hard(self, row: records.HardRow) -> None:
        _, self.hard = records.read_hard(row)

    def _take_snapshot(self, row: records.SnapshotRow) -> None:
        self.snapshot, self.base_index, self.base_term = records.read_snapshot(row)

    @property
    def _is_rotten(self) -> bool:
        """Whether the snapshot does not match its checksum."""
        if self.snapshot is None:
            return False
        data = self.files[self.snapshot]
        return (len(data), zlib.crc32(data)) != (self.snapshot.size, self.snapshot.checksum)

    @property
    def is_damaged(self) -> bool:
        """Whether a bit is flipped."""
        return self._found is not None or self._is_rotten

    def read(self) -> None:
        """Read everything, as a node does that starts; only what was damaged can differ from what was written.

        Raises
        ------
        DamagedError
            If a record or the snapshot is not what was written.
        """
        if self._found is not None:
            self._found()
        if self._is_rotten:
            raise DamagedError("the snapshot does not match its checksum")
        self.recover()


def _flipped(data: bytes, source: random.Random) -> bytes:
    """Flip one bit."""
    place = source.randrange(8 * len(data))
    return data[: place // 8] + bytes([data[place // 8] ^ 1 << place % 8]) + data[place // 8 + 1 :]
