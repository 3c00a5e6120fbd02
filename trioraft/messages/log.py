"""Entries of the log, and how large they and what they carry may be."""

import enum
from typing import Final

from msgspec import Struct

from trioraft.messages.fragments import FRAGMENTED_MAX
from trioraft.messages.ids import Term

# The largest command, question or answer of a state machine: a message that carries one still fits.
PAYLOAD_MAX: Final = FRAGMENTED_MAX - 4096
# The largest data of an entry: a command, and the session it belongs to.
ENTRY_MAX: Final = PAYLOAD_MAX + 64

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
    BATCH = 8  # commands for the state machine, those of a session once
    UNKNOWN = 255  # a kind that only a later version knows; never in a log

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

    term: Term
    kind: EntryKind
    data: bytes = b""
