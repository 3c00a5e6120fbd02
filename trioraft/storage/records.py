"""The rows of a node's database: the columns of each, and the checksum that shows damage.

Every row is read only through the functions here, which raise :class:`~trioraft.storage.errors.DamagedError` for one
that is not what was written.
"""

import zlib
from typing import Final, NamedTuple, TypeAlias

import msgspec

from trioraft.consensus.hard import HardState
from trioraft.consensus.ledger import SnapshotInfo
from trioraft.messages import Entry, EntryKind, Index, NodeId, Term
from trioraft.storage.errors import DamagedError, UnknownKindError

# index, term, kind, data, checksum
EntryRow: TypeAlias = tuple[int, int, int, bytes, int]
# node id, JSON of HardState, checksum
HardRow: TypeAlias = tuple[int, bytes, int]
# JSON of SnapshotInfo, base index, base term, checksum
SnapshotRow: TypeAlias = tuple[bytes, int, int, int]


class SavedHard(NamedTuple):
    """A node's id and hard state."""

    node_id: NodeId
    hard: HardState


class SavedSnapshot(NamedTuple):
    """The valid snapshot, and the last entry of the log that is dropped.

    Attributes
    ----------
    info : SnapshotInfo or None
        The snapshot; None where there is none.
    base_index, base_term : int
        Index and term of that entry; 0 where no entry is dropped.
    """

    info: SnapshotInfo | None
    base_index: Index
    base_term: Term


_KINDS: Final = frozenset(EntryKind) - {EntryKind.UNKNOWN}


def _checksum(body: bytes, *numbers: int) -> int:
    return zlib.crc32(body, zlib.crc32(b"%d " * len(numbers) % numbers))


def _hard_checksum(node_id: NodeId, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(node_id.to_bytes(8, "big", signed=True)))


def hard_row(node_id: NodeId, hard: HardState) -> HardRow:
    """Encode a node's id and hard state."""
    return seal_hard(node_id, msgspec.json.encode(hard))


def seal_hard(node_id: NodeId, body: bytes) -> HardRow:
    """Add the checksum to a node's id and encoded hard state."""
    return node_id, body, _hard_checksum(node_id, body)


def read_hard(row: HardRow | None) -> SavedHard:
    """Decode a node's id and hard state."""
    if row is None:
        raise DamagedError("the hard state is missing")
    node_id, body, checksum = row
    if checksum != _hard_checksum(node_id, body):
        raise DamagedError("the hard state does not match its checksum")
    return SavedHard(node_id, msgspec.json.decode(body, type=HardState))


def snapshot_row(snapshot: SnapshotInfo, base_index: Index, base_term: int) -> SnapshotRow:
    """Encode which snapshot is valid, and the last entry of the log that is dropped."""
    body = msgspec.json.encode(snapshot)
    return body, base_index, base_term, _checksum(body, base_index, base_term)


def read_snapshot(row: SnapshotRow | None) -> SavedSnapshot:
    """Decode the valid snapshot, and index and term of the last entry that is dropped."""
    if row is None:
        return SavedSnapshot(None, 0, 0)
    body, base_index, base_term, checksum = row
    if checksum != _checksum(body, base_index, base_term):
        raise DamagedError("the record of the snapshot does not match its checksum")
    return SavedSnapshot(msgspec.json.decode(body, type=SnapshotInfo), base_index, base_term)


def entry_row(index: Index, entry: Entry) -> EntryRow:
    """Encode an entry of the log."""
    kind = int(entry.kind)
    return index, entry.term, kind, entry.data, _checksum(entry.data, index, entry.term, kind)


def read_entry(index: Index, row: EntryRow) -> Entry:
    """Decode the entry that must stand at an index."""
    found, term, kind, data, checksum = row
    if found != index or checksum != _checksum(data, index, term, kind):
        raise DamagedError(f"entry {index} of the log is missing or does not match its checksum")
    if kind not in _KINDS:
        raise UnknownKindError(f"entry {index} of the log is of kind {kind}, which this version does not know")
    return Entry(term=term, kind=EntryKind(kind), data=data)
