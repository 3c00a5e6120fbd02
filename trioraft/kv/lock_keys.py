"""The keys of locks: ``trioraft/locks/NAME/LEASE``, each attached to the lease that its own name ends with.

Everybody who waits for a lock has such a key, and the oldest key holds it. If somebody else deleted the key of a
holder, or ended its lease, two would work at the same time. So from version 3 of the protocol on the store refuses
other puts and deletes of these keys; and a lease with such a key, when it is recalled, ends only when its holder
revokes it or its time is up.
"""

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from trioraft.kv.commands import KeyValue, Put, prefix_range

LOCKS: Final = "trioraft/locks/"
LOCKS_RANGE: Final = prefix_range(LOCKS.encode())
# The version of the protocol from which on the store protects these keys.
KEPT_FROM: Final = 3

# An error shows so many bytes of a key.
_SHOWN_MAX: Final = 200

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


class Held(NamedTuple):
    """A lock that is held.

    Attributes
    ----------
    name : bytes
        Its name.
    fencing_token, lease : int
        Those of its holder.
    waiting : int
        How many others wait for it.
    """

    name: bytes
    fencing_token: int
    lease: int
    waiting: int


def held_locks(items: Iterable[KeyValue]) -> list[Held]:
    """List the locks that are held.

    Parameters
    ----------
    items : iterable of KeyValue
        The keys of locks; others are left out.

    Returns
    -------
    list of Held
        The locks, by name. Of each the key that was created first is its holder's.
    """
    queues: dict[bytes, list[KeyValue]] = {}
    for item in items:
        if is_kept(item):
            queues.setdefault(item.key[len(LOCKS.encode()) :].rpartition(b"/")[0], []).append(item)
    firsts = {name: min(queue, key=lambda item: item.create_revision) for name, queue in queues.items()}
    return [
        Held(name, firsts[name].create_revision, firsts[name].lease, len(queues[name]) - 1) for name in sorted(queues)
    ]


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


def why_not_put(put: Put) -> str:
    """Explain why a key among those of locks must not be put; empty where it is put as one of them, with its lease.

    Parameters
    ----------
    put : Put
        The put of a key that begins as they do.

    Returns
    -------
    str
        The reason.
    """
    if put.lease and lease_of(put.key) == put.lease:
        return ""
    return f"the key {_shown(put.key)} is where those of locks are, which are put by locking only"


def why_not_deleted(item: KeyValue) -> str:
    """Explain why a key must not be deleted that :func:`is_kept`.

    Parameters
    ----------
    item : KeyValue
        The key.

    Returns
    -------
    str
        The reason.
    """
    return (
        f"the key {_shown(item.key)} is that of a lock that is held or waited for, and goes with its lease only;"
        f" `trioraft lease revoke {item.lease:016x}` has its holder end"
    )


def _shown(key: bytes) -> str:
    return key[:_SHOWN_MAX].decode("utf-8", "backslashreplace")
