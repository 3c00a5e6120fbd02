"""A virtual disk: what is on it is there after a crash, and nothing else is."""

from typing import Final

from trioraft.consensus import HardState
from trioraft.consensus.log import Log
from trioraft.consensus.outbox import SnapshotInfo, Write
from trioraft.messages import Entry

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

    def clean_up(self) -> None:
        """Remove all snapshots but the one that is valid, as a node does when it starts."""
        self.files = {info: data for info, data in self.files.items() if info == self.snapshot}
