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
        Numbers the messages that the sender has split, in this session.
    sending : int
        Numbers the fragments that the sender has sent, in this session; a repeated one has a new number.
    first : int
        The smallest `number` that the sender is still sending: what is incomplete before it will never be whole.
    size : int
        The size of the whole message in bytes.
    count : int
        In how many parts it is split, at least 2.
    part : int
        Which of them this is; the first is 0.
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
    """Tell which parts of a message have arrived.

    Attributes
    ----------
    number : int
        The message.
    sending : int
        The largest `sending` among its fragments that have arrived.
    before : int
        All parts before this one have arrived.
    further : bytes
        Bit ``n % 8`` of byte ``n // 8`` (1 being bit 0) tells whether part ``before + n`` has arrived; at most 1,024
        of them, and no zero bytes at the end.
    dropped : bool
        Whether the receiver has given the message up for want of room: it is not to be sent any further.
    """

    number: Counter
    sending: Counter
    before: Annotated[int, Meta(ge=0, le=FRAGMENTED_MAX)]
    further: Annotated[bytes, Meta(max_length=128)] = b""
    dropped: bool = False
