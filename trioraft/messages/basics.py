"""What all messages have in common: ids, their bounds, and log entries."""

import enum
import re
from typing import Annotated, Final

from msgspec import Meta, Struct

LARGEST_ID: Final = 2**63 - 1
_ID: Final = re.compile("[0-9a-f]{16}")

Id = Annotated[int, Meta(ge=1, le=LARGEST_ID)]
OptionalId = Annotated[int, Meta(ge=0, le=LARGEST_ID)]
_COUNTER_MAX: Final = 2**62
Counter = Annotated[int, Meta(ge=0, le=_COUNTER_MAX)]
Seconds = Annotated[float, Meta(ge=0, le=10**8)]
Nonce = Annotated[bytes, Meta(max_length=32)]
Name = Annotated[str, Meta(max_length=255)]

# A formation, and a view of who sees whom, must fit in one datagram.
MEMBERS_MAX: Final = 100

# The version of the protocol that is spoken where nobody says another one.
FIRST_VERSION: Final = 1
Version = Annotated[int, Meta(ge=1, le=10_000)]

# A cluster that is made from a backup, or of one node's data, begins so far above the highest term in it; no cluster
# has so many elections.
TERM_LEAP: Final = 2**32
# There is no later term; and at so high a one nobody makes another cluster, for it would have too few.
TERM_MAX: Final = _COUNTER_MAX
TERM_ROOM: Final = TERM_MAX - TERM_LEAP

REQUEST_TAG: Final = 14
# Of messages that are put together from encoded ones.
REQUESTS_TAG: Final = 20
RESPONSES_TAG: Final = 21
Members = Annotated[tuple[Id, ...], Meta(max_length=MEMBERS_MAX)]


# The largest message, which is more than any entry, snapshot chunk or value may make it.
FRAGMENTED_MAX: Final = 2 * 1024 * 1024

# Of a state machine's commands, questions and answers; a message that holds one of them still fits.
PAYLOAD_MAX: Final = FRAGMENTED_MAX - 4096
# Of an entry's data: a command, and whose it is.
ENTRY_MAX: Final = PAYLOAD_MAX + 64


def format_id(identifier: int) -> str:
    """Write an id as people see it.

    Parameters
    ----------
    identifier : int
        A node, cluster or formation id.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    return f"{identifier:016x}"


def first_term(known: int, in_log: int) -> int | None:
    """Find where the terms of a cluster begin that is made of an older one's data.

    Parameters
    ----------
    known : int
        The highest term in the data.
    in_log : int
        The highest term of an entry in it.

    Returns
    -------
    int or None
        They begin above this one: above all that is known; where that leaves no room, above those of the entries. A
        leader of a later term has left nothing in these data. None where there is no room above either.
    """
    leaps = (term + TERM_LEAP for term in (known, in_log))
    return next((term for term in leaps if term <= TERM_ROOM), None)


def parse_id_untrusted(text: str | None) -> int:
    """Read an id that another node wrote.

    Parameters
    ----------
    text : str or None
        What should be 16 hexadecimal digits.

    Returns
    -------
    int
        The id; 0 when it is none.
    """
    return int(text, 16) if text is not None and _ID.fullmatch(text) else 0


_KIND_MAX: Final = 2**16


class EntryKind(enum.IntEnum):
    """What an entry is."""

    NO_OP = 0
    COMMAND = 1  # for the state machine, proposed on the leader itself
    CONFIGURATION = 2
    SESSION_COMMAND = 3  # for the state machine, once
    OPEN_SESSION = 4
    END_SESSION = 5
    SETTINGS = 6  # changes the cluster's settings, once
    STATE_KIND = 7  # names what is replicated; only the first one counts
    UNKNOWN = 255  # what only a later version knows; never in a log

    @classmethod
    def _missing_(cls, value: object) -> "EntryKind | None":
        return cls.UNKNOWN if isinstance(value, int) and 0 <= value <= _KIND_MAX else None


class Entry(Struct, frozen=True, array_like=True, gc=False):
    """One log entry (Raft, section 5.3).

    The log has very many of them, and none can be part of a cycle: the garbage collector need not look at them.

    Attributes
    ----------
    term : int
        The term in which the leader received it.
    kind : EntryKind
        What it is.
    data : bytes
        The command, configuration or change.
    """

    term: Counter
    kind: EntryKind
    data: bytes = b""
