"""Finds damage in a write-ahead log of SQLite that SQLite itself takes for its end.

SQLite reads the log up to the first frame whose checksum is wrong, because a power cut may have torn that frame, and
drops the rest in silence. A frame that has rotted looks the same, and SQLite would drop votes and entries with it
that other nodes rely on. What follows the frame tells the two apart: a transaction begins when the one before it is
on disk, so a torn frame is followed by nothing but the rest of its own transaction. This does not help where
transactions are not synced, nor for the last transaction, which may be torn or rotten.

The format is that of https://www.sqlite.org/fileformat2.html#the_write_ahead_log.
"""

import struct
from typing import Final

_HEADER: Final = 32
_FRAME_HEADER: Final = 24
_MAGIC: Final = 0x377F0682  # or one more, for checksums of big-endian words
_WORD: Final = 0xFFFFFFFF


def is_broken_inside(wal: bytes) -> bool:
    """Check whether a frame is damaged that a later transaction shows to have been whole.

    Parameters
    ----------
    wal : bytes
        The file. Everything since it was last begun anew must be of one process.

    Returns
    -------
    bool
        Whether SQLite would lose what was synced.
    """
    if len(wal) < _HEADER:
        return False
    magic, _, page_bytes, _, *salts_and_sums = struct.unpack_from(">8I", wal)
    salts, expected = salts_and_sums[:2], salts_and_sums[2:]
    order = ">" if magic & 1 else "<"
    sums = _add(0, 0, wal[:24], order)
    if magic & ~1 != _MAGIC or expected != [*sums]:
        return False  # nothing was written since it was begun anew: every write waits for the header
    size = _FRAME_HEADER + page_bytes
    frames = range(_HEADER, len(wal) - size + 1, size)
    whole = 0
    for frame in frames:
        page, _, *salts_and_sums = struct.unpack_from(">6I", wal, frame)
        sums = _add(*sums, wal[frame : frame + 8] + wal[frame + _FRAME_HEADER : frame + size], order)
        if not page or salts_and_sums != [*salts, *sums]:
            break
        whole += 1
    return _has_two_transactions(wal, frames[whole:], salts)


def _has_two_transactions(wal: bytes, frames: range, salts: list[int]) -> bool:
    """Check whether one of these frames ends a transaction, and a later one belongs to the next."""
    has_ended = False
    for frame in frames:
        _, pages_after_commit, *found = struct.unpack_from(">4I", wal, frame)
        if found == salts:  # frames with other salts are left from before the file was begun anew
            if has_ended:
                return True
            has_ended = pages_after_commit > 0
    return False


def _add(first: int, second: int, data: bytes, order: str) -> tuple[int, int]:
    """Continue a checksum."""
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for one, other in zip(words, words, strict=True):
        first = (first + one + second) & _WORD
        second = (second + other + first) & _WORD
    return first, second
