"""The key-value store, as a client sees it: one method for each thing that it can do."""

from abc import ABC
from contextlib import AbstractAsyncContextManager

from trioraft.arguments import check_number
from trioraft.kv.commands import TTL_MAX
from trioraft.kv.lock import HeldLease, HeldLock, KeysAndLeases, check_lock, hold_lease, hold_lock


class KeyValueMethods(KeysAndLeases, ABC):
    """What a client can do with the key-value store.

    Keys and values are bytes; text is accepted too, and stands for its UTF-8. All methods raise
    :class:`KeyValueError` where the store refuses, and what ``propose``, ``query`` and ``ask`` raise. A method that
    changes something does it exactly once, whatever messages get lost. Deadlines are the caller's cancel scopes.
    """

    def lease(self, ttl: int) -> AbstractAsyncContextManager[HeldLease]:
        """Hold a lease for as long as a block lasts; see :func:`~trioraft.kv.lock.hold_lease`.

        Parameters
        ----------
        ttl : int
            Its time to live after a keep-alive, in seconds.

        Returns
        -------
        context manager of HeldLease
            For ``async with client.lease(10) as lease:``.
        """
        check_number("ttl", ttl, 1, TTL_MAX)
        return hold_lease(self, ttl)

    def lock(self, name: str, ttl: int = 10, *, wait: float | None = None) -> AbstractAsyncContextManager[HeldLock]:
        """Wait for a lock, and hold it for as long as a block lasts; see :func:`~trioraft.kv.lock.hold_lock`.

        Parameters
        ----------
        name : str
            The lock's name.
        ttl : int
            How long others wait for a holder that is lost, in seconds.
        wait : float, optional
            How long to wait while somebody else holds it, in seconds; 0 to take it only if it is free.

        Returns
        -------
        context manager of HeldLock
            For ``async with client.lock("job") as lock:``.
        """
        check_lock(name, ttl, wait)
        return hold_lock(self, name, ttl, wait=wait)
