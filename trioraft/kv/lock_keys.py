"""The keys of locks: ``trioraft/locks/NAME/LEASE``, which go with the lease that their own name ends with.

Who waits for a lock has such a key, and who came first holds it. Somebody else who deletes the key of a holder, or
ends its lease, would let two work at a time. So from version 3 of the protocol on the store refuses other puts and
deletes of these keys, and a lease that such a key goes with, when it is recalled, ends when its holder says so or its
time is up.
"""

import re
from typing import Final

from trioraft.kv.commands import KeyValue, prefix_range

LOCKS: Final = "trioraft/locks/"
LOCKS_RANGE: Final = prefix_range(LOCKS.encode())
# The version of the protocol from which on the store looks after them.
KEPT_FROM: Final = 3

_LOCK_KEY: Final = re.compile(re.escape(LOCKS.encode()) + rb".+/([0-9a-f]{16})", re.DOTALL)


def lock_prefix(name: bytes) -> bytes:
    """Give what the keys of a lock start with.

    Parameters
    ----------
    name : bytes
        The lock's name.

    Returns
    -------
    bytes
        The prefix; keys of other locks may start with it too.
    """
    return LOCKS.encode() + name + b"/"


def lease_of(key: bytes) -> int:
    """Tell which lease a key of a lock belongs to.

    Parameters
    ----------
    key : bytes
        Any key.

    Returns
    -------
    int
        The lease; 0 where it is no key of a lock.
    """
    found = _LOCK_KEY.fullmatch(key)
    return int(found[1], 16) if found else 0


def is_kept(item: KeyValue) -> bool:
    """Tell whether a key stands for somebody who holds a lock, or waits for it.

    Parameters
    ----------
    item : KeyValue
        A key that is there.

    Returns
    -------
    bool
        Whether it goes with the lease that its name ends with.
    """
    return item.lease > 0 and lease_of(item.key) == item.lease
