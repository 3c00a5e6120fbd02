"""The keys of locks: ``trioraft/locks/NAME/LEASE``, each attached to the lease that its own name ends with.

Everybody who waits for a lock has such a key, and the oldest key holds it. If somebody else deleted the key of a
holder, or ended its lease, two would work at the same time. So from version 3 of the protocol on the store refuses
other puts and deletes of these keys; and a lease with such a key, when it is recalled, ends only when its holder
revokes it or its time is up.
"""

import re
from typing import Final

from trioraft.kv.commands import KeyValue, prefix_range

LOCKS: Final = "trioraft/locks/"
LOCKS_RANGE: Final = prefix_range(LOCKS.encode())
# The version of the protocol from which on the store protects these keys.
KEPT_FROM: Final = 3

_LOCK_KEY: Final = re.compile(re.escape(LOCKS.encode()) + rb".+/([0-9a-f]{16})", re.DOTALL)


def lock_prefix(name: bytes) -> bytes:
    """Return the prefix of the keys of a lock.

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
    """Return the lease that the name of a lock's key ends with.

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
    """Check whether a key belongs to a holder of a lock, or to somebody who waits for it.

    Parameters
    ----------
    item : KeyValue
        A key of the store.

    Returns
    -------
    bool
        Whether it is attached to the lease that its name ends with.
    """
    return item.lease > 0 and lease_of(item.key) == item.lease
