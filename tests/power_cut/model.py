"""What a node's disk ought to hold: the writes of a workload, and the state after each of them."""

import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

import msgspec

from trioraft.consensus.hard import HardState
from trioraft.consensus.ledger import SnapshotInfo, Write
from trioraft.messages import Entry, EntryKind
from trioraft.storage.database import SqliteDisk
from trioraft.storage.snapshots import frame


@dataclass(frozen=True)
class DiskState:
    """What a disk holds."""

    hard: HardState = field(default_factory=HardState)
    snapshot: SnapshotInfo | None = None
    base: tuple[int, int] = (0, 0)
    entries: tuple[Entry, ...] = ()

    @classmethod
    def of(cls, disk: SqliteDisk) -> Self:
        log = disk.log
        entries = tuple(log.entries(log.base_index + 1, log.last_index))
        return cls(disk.hard, disk.snapshot, (log.base_index, log.base_term), entries)

    @property
    def last_index(self) -> int:
        return self.base[0] + len(self.entries)

    def after(self, write: Write) -> "DiskState":
        base, entries = self.base, self.entries
        if write.snapshot is not None:
            entries = () if write.restarts else entries[write.base_index - base[0] :]
            base = (write.base_index, write.base_term)
        if write.first_index:
            entries = (*entries[: write.first_index - base[0] - 1], *write.entries)
        return DiskState(write.hard, write.snapshot or self.snapshot, base, entries)


def chunks_of(index: int) -> list[bytes]:
    """Return the state that the snapshots of these tests are of."""
    return [b"%d" % index * 100, b"", bytes([index % 256]) * 5000]


def snapshot_of(index: int, term: int) -> SnapshotInfo:
    data = b"".join(frame(chunk) for chunk in chunks_of(index))
    return SnapshotInfo(index, term, len(data), zlib.crc32(data))


def workload(seed: int, count: int) -> Iterator[tuple[Write, DiskState]]:
    """Make up writes such as a node makes, and return what the disk holds after each."""
    chance = random.Random(seed)
    state = DiskState()
    for number in range(1, count + 1):
        write = next_write(number, state, chance)
        state = state.after(write)
        yield write, state


def next_write(number: int, state: DiskState, chance: random.Random) -> Write:
    """Make up a write such as a node makes in some state."""
    hard = state.hard
    if chance.random() < 0.2:
        hard = msgspec.structs.replace(hard, term=hard.term + 1, voted_for=chance.randint(0, 5))
    base, last = state.base[0], state.last_index
    kind = chance.choices(["append", "replace", "take", "install", "nothing"], [70, 8, 10, 4, 8])[0]
    if kind == "append":
        return Write(number, hard, last + 1, _entries(hard.term, chance, 1), None, *state.base)
    covered = state.snapshot.index if state.snapshot else 0
    if kind == "replace" and last > covered:
        return Write(
            number, hard, chance.randint(covered + 1, last), _entries(hard.term, chance, 0), None, *state.base
        )
    if kind == "take" and last > covered:
        index = chance.randint(covered + 1, last)
        dropped = chance.randint(base, index)
        terms = (state.base[1], *(entry.term for entry in state.entries))
        snapshot = snapshot_of(index, terms[index - base])
        return Write(number, hard, 0, (), snapshot, dropped, terms[dropped - base])
    if kind == "install":
        index = last + chance.randint(1, 50)
        snapshot = snapshot_of(index, hard.term)
        entries = _entries(hard.term, chance, 0)
        return Write(number, hard, index + 1 if entries else 0, entries, snapshot, index, hard.term, restarts=True)
    return Write(number, hard, 0, (), None, *state.base)


def _entries(term: int, chance: random.Random, least: int) -> tuple[Entry, ...]:
    return tuple(
        Entry(term=term, kind=EntryKind.COMMAND, data=chance.randbytes(chance.choice([0, 10, 300, 9000])))
        for _ in range(chance.randint(least, 4))
    )
