"""A batch: commands that are committed together, as one entry of the log, and their outcomes.

The bytes of a batch are made once, by whoever proposes it. They are the payload of a request, the data of one entry,
one row on the disk, and what every replica cuts up when it applies the entry. So they must read the same with every
library on every replica, and are no CBOR. All numbers are big-endian::

    batch     session 8 | number of the first command 8 | answered below 8 | parts
    outcomes  parts
    parts     count 4 | mark 4, for each part | the bytes of each part, one after the other

A mark is the length of a part. The highest bit says that the part is a refusal, and all bits that there is no part.

A batch of session 0 has the commands of the leader's own program, which are in no session.
"""

import struct
from collections.abc import Sequence
from typing import Final, TypeAlias

from msgspec import Struct

from trioraft.messages.ids import COUNTER_MAX, Counter

# The most commands in a batch, and the most bytes of them, unless it is one command alone: so many are applied in one
# slice of the event loop, with nothing between them.
COMMANDS_MAX: Final = 256
BATCH_BYTES_MAX: Final = 64 * 1024

_HEAD: Final = struct.Struct(">QQQ")
_COUNT: Final = struct.Struct(">I")
_ABSENT: Final = 2**32 - 1
_REFUSED: Final = 2**31


class Batch(Struct, frozen=True):
    """Commands that are committed together.

    Attributes
    ----------
    session : int
        The client's session; 0 for the commands of the leader's own program.
    first : int
        The number of the first command in the session; the others follow it.
    answered_below : int
        The client no longer waits for the result of any command with a smaller number.
    commands : tuple of bytes or None
        The commands for the state machine; None for a number without one, because its command was given up in time.
    """

    session: Counter
    first: Counter
    answered_below: Counter
    commands: tuple[bytes | None, ...]


class Refused(Struct, frozen=True):
    """The refusal of one command of a batch.

    Attributes
    ----------
    code : str
        The reason for programs, one of :class:`~trioraft.messages.Refusal`.
    detail : str
        The reason in words.
    """

    code: str
    detail: str


# The outcome of one command of a batch: its result, why it was not carried out, or None where the answer has no room
# for the result, so that it must be asked for alone, and for a number without a command.
PartOutcome: TypeAlias = bytes | Refused | None


def encode_batch(batch: Batch) -> bytes:
    """Encode a batch.

    Parameters
    ----------
    batch : Batch
        The batch, with at least one command.

    Returns
    -------
    bytes
        The data of an entry, or of a request.
    """
    return _HEAD.pack(batch.session, batch.first, batch.answered_below) + _encode_parts(batch.commands)


def decode_batch_untrusted(data: bytes) -> Batch | None:
    """Decode a batch, of a client or in the log.

    Parameters
    ----------
    data : bytes
        Any bytes.

    Returns
    -------
    Batch or None
        The batch; None where the bytes are none.
    """
    if len(data) < _HEAD.size:
        return None
    session, first, answered_below = _HEAD.unpack_from(data)
    parts = _decode_parts_untrusted(data, _HEAD.size)
    if parts is None or max(session, first, answered_below) > COUNTER_MAX:
        return None
    commands = tuple([part for part in parts if not isinstance(part, Refused)])
    return Batch(session, first, answered_below, commands) if len(commands) == len(parts) else None


def encode_outcomes(outcomes: Sequence[PartOutcome], most: int) -> bytes:
    """Encode the outcomes of a batch.

    Parameters
    ----------
    outcomes : sequence of bytes, Refused or None
        The outcome of each command.
    most : int
        The most bytes that they may take; outcomes for which there is no room are left out.

    Returns
    -------
    bytes
        The data of an answer.
    """
    data = _encode_parts(outcomes)
    if len(data) <= most:
        return data
    room = most - _COUNT.size * (1 + len(outcomes))
    told: list[PartOutcome] = []
    for outcome in outcomes:
        size = len(_refusal(outcome)) if isinstance(outcome, Refused) else len(outcome or b"")
        told.append(outcome if size <= room else None)
        room -= size if size <= room else 0
    return _encode_parts(told)


def decode_outcomes_untrusted(data: bytes) -> list[PartOutcome] | None:
    """Decode the outcomes of a batch.

    Parameters
    ----------
    data : bytes
        Any bytes.

    Returns
    -------
    list of bytes, Refused or None, or None
        The outcomes; None where the bytes are none.
    """
    return _decode_parts_untrusted(data, 0)


def _encode_parts(parts: Sequence[PartOutcome]) -> bytes:
    try:  # most often there are bytes only
        return b"".join((struct.pack(f">I{len(parts)}I", len(parts), *map(len, parts)), *parts))  # type: ignore[arg-type]
    except TypeError:
        marks: list[int] = []
        pieces: list[bytes] = []
        for part in parts:
            piece = _refusal(part) if isinstance(part, Refused) else part or b""
            pieces.append(piece)
            marks.append(_ABSENT if part is None else len(piece) | (_REFUSED if isinstance(part, Refused) else 0))
        return b"".join((struct.pack(f">I{len(parts)}I", len(parts), *marks), *pieces))


def _refusal(refused: Refused) -> bytes:
    return f"{refused.code}\n{refused.detail}".encode(errors="replace")


def _decode_parts_untrusted(data: bytes, at: int) -> list[PartOutcome] | None:
    if len(data) < at + _COUNT.size:
        return None
    (count,) = _COUNT.unpack_from(data, at)
    at += _COUNT.size
    if not 0 < count <= COMMANDS_MAX or len(data) < at + _COUNT.size * count:
        return None
    marks = struct.unpack_from(f">{count}I", data, at)
    at += _COUNT.size * count
    parts: list[PartOutcome] = []
    for mark in marks:
        if mark < _REFUSED:
            parts.append(data[at : at + mark])
            at += mark
        elif mark == _ABSENT:
            parts.append(None)
        else:
            length = mark - _REFUSED
            code, _, detail = data[at : at + length].decode(errors="replace").partition("\n")
            parts.append(Refused(code, detail))
            at += length
    return parts if at == len(data) else None
