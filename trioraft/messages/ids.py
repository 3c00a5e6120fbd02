"""Ids, terms, indexes, times and durations: what they mean, and their bounds.

The names are aliases of ``int``, ``float``, ``bytes`` and ``str``, so they cost nothing at run time. The bounds in
them are those of a message: msgspec checks them wherever it decodes one. In the signature of a function the same name
only says what a number means.
"""

import re
from typing import Annotated, Final, TypeAlias

from msgspec import Meta

LARGEST_ID: Final = 2**63 - 1
_ID: Final = re.compile("[0-9a-f]{16}")

# A random number that names a cluster, a formation or a backup.
Id: TypeAlias = Annotated[int, Meta(ge=1, le=LARGEST_ID)]
# The same, or 0 for "none".
OptionalId: TypeAlias = Annotated[int, Meta(ge=0, le=LARGEST_ID)]
# The random number that a node draws when its data directory is made, and keeps.
NodeId: TypeAlias = Id
# The id of a node; 0 for a client or monitor, and for "no node" or "any node".
OptionalNodeId: TypeAlias = OptionalId

COUNTER_MAX: Final = 2**62
Counter: TypeAlias = Annotated[int, Meta(ge=0, le=COUNTER_MAX)]
# Raft's term (section 5.1); 0 before the first election.
Term: TypeAlias = Counter
# The place of an entry in the log, from 1 on; 0 is the place before the first one.
Index: TypeAlias = Counter

# A duration.
Seconds: TypeAlias = Annotated[float, Meta(ge=0, le=10**8)]
# A moment on a clock of this process that never goes backwards, in seconds. It never leaves the process.
Instant: TypeAlias = float

Nonce: TypeAlias = Annotated[bytes, Meta(max_length=32)]
Name: TypeAlias = Annotated[str, Meta(max_length=255)]

# A formation, and a view of who sees whom, must fit in one datagram.
MEMBERS_MAX: Final = 100
Members: TypeAlias = Annotated[tuple[NodeId, ...], Meta(max_length=MEMBERS_MAX)]

# The version of the protocol that is spoken where nobody says another one.
FIRST_VERSION: Final = 1
Version: TypeAlias = Annotated[int, Meta(ge=1, le=10_000)]

# A cluster that is made from a backup, or from one node's data, starts this far above the highest term in it: more
# elections than any cluster holds.
TERM_LEAP: Final = 2**32
# There is no later term; and nobody makes a new cluster from a term above TERM_ROOM, because too few terms would be
# left for it.
TERM_MAX: Final = COUNTER_MAX
TERM_ROOM: Final = TERM_MAX - TERM_LEAP


def format_id(identifier: Id) -> str:
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


def parse_id_untrusted(text: str | None) -> OptionalId:
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


def first_term(known: Term, in_log: Term) -> Term | None:
    """Choose the term above which a cluster starts that is made from an older cluster's data.

    A leader of a term above the result has left nothing in these data.

    Parameters
    ----------
    known : int
        The highest term in the data.
    in_log : int
        The highest term of an entry in it.

    Returns
    -------
    int or None
        A term above all that are known; where that leaves no room, one above those of the entries; None where there
        is no room above either.
    """
    leaps = (term + TERM_LEAP for term in (known, in_log))
    return next((term for term in leaps if term <= TERM_ROOM), None)
