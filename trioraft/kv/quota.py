"""How large the store may become: the quota of the cluster's settings, since version 4 of the protocol.

Keys and leases count, with what they take in memory beside their bytes. The history is bounded beside: it may take a
part of the quota, and what keys and leases leave of it, and its oldest revisions give way. So what is deleted makes
room at once. What makes the store larger than the quota is refused, what makes it no larger never is; so a store that
has become too large otherwise, before there was a quota or under a larger one, can be made smaller.

A small part more is for leases, and for the keys that locks are held by: whoever fills the store does not keep others
from locking, and leases are bounded too.

All of this is part of what the version means: another count, or another text, would be another state.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from trioraft.kv.commands import KeyValue, Put
from trioraft.kv.lock_keys import lease_of
from trioraft.kv.sorted_map import SortedMap

QUOTA_FROM: Final = 4

# What a key takes in memory beside its bytes, about, and a lease in all: with their places in dictionaries and lists.
KEY_BYTES: Final = 256
LEASE_BYTES: Final = 512

# The parts of the quota that the history, and locks and leases, may have besides.
_HISTORY_SHARE: Final = 4
_LOCKS_SHARE: Final = 16


def item_bytes(item: KeyValue | Put) -> int:
    """Tell for how many bytes a key counts."""
    return KEY_BYTES + len(item.key) + len(item.value)


def history_bytes(quota: int, size: int) -> int:
    """Tell how many bytes the history may have, where keys and leases take so many."""
    share = quota // _HISTORY_SHARE
    return max(share, quota + share - size)


def growth(items: SortedMap[bytes, KeyValue], puts: Sequence[Put], deleted: Iterable[KeyValue], room: int) -> int:
    """Compute by how much one revision would make the store larger.

    Parameters
    ----------
    items : SortedMap of bytes to KeyValue
        The keys that there are.
    puts : sequence of Put
        What is put, no key twice.
    deleted : iterable of KeyValue
        What is deleted, perhaps more than once.
    room : int
        Where all that is put is no more than this, it does not matter what is deleted or replaced.

    Returns
    -------
    int
        By how many bytes at most.
    """
    grows = sum(map(item_bytes, puts))
    if grows <= room:
        return grows
    gone = {item.key: item for item in deleted}
    gone |= {put.key: item for put in puts if (item := items.get(put.key)) is not None}
    return grows - sum(map(item_bytes, gone.values()))


def is_for_locks(puts: Sequence[Put]) -> bool:
    """Tell whether nothing is put but keys that locks are held by, or waited for."""
    return all(lease_of(put.key) == put.lease > 0 for put in puts)


def why_full(size: int, lock_size: int, grows: int, quota: int, *, for_locks: bool) -> str:
    """Explain why the store must not become larger.

    Parameters
    ----------
    size : int
        How many bytes its keys and leases take.
    lock_size : int
        How many of them are those of leases, and of keys that locks are held by.
    grows : int
        By how many bytes it would become larger.
    quota : int
        How many bytes its keys and leases may take.
    for_locks : bool
        Whether that is for nothing but leases, or keys of locks.

    Returns
    -------
    str
        The reason; empty where it may become larger.
    """
    if grows <= 0 or size + grows <= quota:
        return ""
    if for_locks and lock_size + grows <= quota // _LOCKS_SHARE:
        return ""
    return (
        f"the store is full: its keys and leases take {size} bytes, this needs {grows} more, and the quota is"
        f" {quota}; delete keys, or raise it with `trioraft settings --quota`"
    )
