"""Parts of messages that are larger than a datagram."""

from typing import Annotated, Final

from msgspec import Meta, Struct

from trioraft.messages.ids import Counter

# The largest message; no entry, part of a snapshot or value may make one larger.
FRAGMENTED_MAX: Final = 2 * 1024 * 1024


class Fragment(Struct, frozen=True, array_like=True, tag=30):
    """Carry one part of a message that is larger than a datagram.

    All parts have ``ceil(size / count)`` bytes but the last, which has the rest.

    Attributes
    ----------
    number : int
        The number of the message among those that the sender has split in this session.
    sending : int
        The number of the fragment among those that the sender has sent in this session; a repeated one has a new
        number.
    first : int
        The smallest `number` that the sender is still sending; an incomplete message before it will never be whole.
    size : int
        The size of the whole message in bytes.
    count : int
        The number of its parts, at least 2.
    part : int
        The number of this part, from 0 on.
    data : bytes
        The part.
    """

    number: Counter
    sending: Counter
    first: Counter
    size: Annotated[int, Meta(ge=2, le=FRAGMENTED_MAX)]
    count: Annotated[int, Meta(ge=2, le=FRAGMENTED_MAX)]
    part: Annotated[int, Meta(ge=0, lt=FRAGMENTED_MAX)]
    data: Annotated[bytes, Meta(min_length=1)]


class FragmentsReceived(Struct, frozen=True, array_like=True, tag=31):
    """Acknowledge which parts of a message have arrived.

    Attributes
    ----------
    number : int
        The number of the message.
    sending : int
        The largest `sending` among its fragments that have arrived.
    before : int
        All parts before this one have arrived.
    further : bytes
        Bit ``n % 8`` of byte ``n // 8`` (1 being bit 0) says whether part ``before + n`` has arrived; at most 1,024
        bits, and no zero bytes at the end.
    dropped : bool
        Whether the receiver has dropped the message for want of room, so that it is not to be sent any further.
    """

    number: Counter
    sending: Counter
    before: Annotated[int, Meta(ge=0, le=FRAGMENTED_MAX)]
    further: Annotated[bytes, Meta(max_length=128)] = b""
    dropped: bool = False
