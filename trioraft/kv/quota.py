"""How large the store may become: the quota of the cluster's settings, since version 4 of the protocol.

Keys and leases count, including what they take in memory besides their bytes. The history is bounded separately: it
may take a fixed part of the quota in addition, and what keys and leases leave of the quota, and its oldest revisions
are dropped to make room. So a deletion makes room at once. A change that makes the store larger than the quota is
refused, a change that makes it no larger never is. So a store that is too large, because there was no quota before or
a larger one, can be made smaller.

A small part in addition to the quota is for leases, and for the keys that locks are held by. So somebody who fills
the store with keys cannot keep others from locking, and leases are bounded too.

All of this is part of the meaning of the version: another count, or another text, would make another state.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from trioraft.kv.commands import KeyValue, Put
from trioraft.kv.lock_keys import lease_of
from trioraft.kv.sorted_map import SortedMap

QUOTA_FROM: Final = 4

# About what a key takes in memory besides its bytes, and a lease in all, with their places in dictionaries and lists.
KEY_BYTES: Final = 256
LEASE_BYTES: Final = 512

# The parts of the quota that the history may take in addition, and that locks and leases may take in addition.
_HISTORY_SHARE: Final = 4
_LOCKS_SHARE: Final = 16


def item_bytes(item: KeyValue | Put) -> int:
    """Compute how many bytes a key counts."""
    return KEY_BYTES + len(item.key) + len(item.value)


def history_bytes(quota: int, size: int) -> int:
    """Compute how many bytes the history may have, given those of keys and leases."""
    share = quota // _HISTORY_SHARE
    return max(share, quota + share - size)


def growth(items: SortedMap[bytes, KeyValue], puts: Sequence[Put], deleted: Iterable[KeyValue]) -> int:
    """Compute by how much one revision would make the store larger.

    Parameters
    ----------
    items : SortedMap of bytes to KeyValue
        The keys that there are.
    puts : sequence of Put
        The puts, no key twice.
    deleted : iterable of KeyValue
        The keys that are deleted, perhaps some of them repeatedly.

    Returns
    -------
    int
        The bytes; negative where it would become smaller.
    """
    gone = {item.key: item for item in deleted}
    gone |= {put.key: item for put in puts if (item := items.get(put.key)) is not None}
    return sum(map(item_bytes, puts)) - sum(map(item_bytes, gone.values()))


def is_for_locks(puts: Sequence[Put | KeyValue]) -> bool:
    """Check whether all puts are keys by which locks are held, or waited for."""
    return all(lease_of(put.key) == put.lease > 0 for put in puts)


def why_full(size: int, lock_size: int, grows: int, quota: int, *, for_locks: bool) -> str:
    """Explain why the store must not become larger.

    Parameters
    ----------
    size : int
        The bytes that its keys and leases take.
    lock_size : int
        Those of leases, and of keys that locks are held by.
    grows : int
        The bytes by which it would become larger.
    quota : int
        The bytes that its keys and leases may take.
    for_locks : bool
        Whether it would grow by nothing but leases, or keys of locks.

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
