"""What a client can do with the leases of the store."""

from abc import ABC

from msgspec import structs

from trioraft.arguments import check_is
from trioraft.errors import RefusedError
from trioraft.kv.access import StoreAccess
from trioraft.kv.commands import LARGEST, LeaseGrant, LeaseRecall, LeaseRevoke
from trioraft.kv.errors import KeyValueError, expect
from trioraft.kv.questions import (
    LeaseKeepAlive,
    LeaseKeepAliveAnswer,
    LeaseList,
    LeaseListAnswer,
    LeaseTimeToLive,
    LeaseTimeToLiveAnswer,
)
from trioraft.kv.results import ErrorCode, LeaseGrantResult, LeaseRevokeResult
from trioraft.versions import NEEDS_LATER


class LeaseMethods(StoreAccess, ABC):
    """What a client can do with leases; see :class:`~trioraft.kv.client.KeyValueMethods`."""

    async def lease_grant(self, ttl: int, lease: int = 0) -> LeaseGrantResult:
        """Make a lease; it ends, and the keys attached to it are deleted, when it is not kept alive.

        Parameters
        ----------
        ttl : int
            Its time to live after a keep-alive, in seconds.
        lease : int
            Its id; with 0 the store chooses one.

        Returns
        -------
        LeaseGrantResult
            The result, with its id.
        """
        return expect(LeaseGrantResult, await self._execute(LeaseGrant(ttl, lease)))

    async def lease_revoke(self, lease: int, *, own: bool = False) -> int:
        """End a lease.

        The holder of a lock may still be at work. So a lease by which a lock is held is only recalled: its
        keep-alives are refused, from which its holder learns of it, and it ends when the holder has ended it, or when
        its time is up.

        Parameters
        ----------
        lease : int
            Its id.
        own : bool
            Whether this program holds it and nothing relies on it any more, so that it can end at once.

        Returns
        -------
        int
            The number of keys that were deleted with it.
        """
        if not check_is("own", own, bool):
            try:
                return expect(LeaseRevokeResult, await self._execute(LeaseRecall(lease))).deleted
            except RefusedError as error:
                if NEEDS_LATER not in str(error):
                    raise
            except KeyValueError as error:
                if error.code is not ErrorCode.MALFORMED:  # the answer of a leader of an earlier release
                    raise
        # A cluster that speaks an earlier version of the protocol ends each lease at once.
        return expect(LeaseRevokeResult, await self._execute(LeaseRevoke(lease))).deleted

    async def lease_keep_alive(self, lease: int) -> int:
        """Renew a lease for its full time to live.

        Parameters
        ----------
        lease : int
            Its id.

        Returns
        -------
        int
            Its time to live in seconds, counted from *before* the call.
        """
        return expect(LeaseKeepAliveAnswer, await self.ask_store(LeaseKeepAlive(lease), leader=True)).ttl

    async def lease_time_to_live(self, lease: int, *, keys: bool = False) -> LeaseTimeToLiveAnswer:
        """Ask how long a lease still lives.

        Parameters
        ----------
        lease : int
            Its id.
        keys : bool
            Whether the answer includes the keys that are attached to it.

        Returns
        -------
        LeaseTimeToLiveAnswer
            The answer.
        """
        found: list[bytes] = []
        after = b""
        while True:
            question = LeaseTimeToLive(lease, keys, after)
            answer = expect(LeaseTimeToLiveAnswer, await self.ask_store(question, leader=True))
            found += (key for key in answer.keys if key > after)  # an earlier release gives all of them again
            if not answer.more:
                return structs.replace(answer, keys=tuple(found))
            after = found[-1]

    async def leases(self) -> tuple[int, ...]:
        """List the ids of all leases; a lease that is granted or ends during the call may be missing or not."""
        found: list[int] = []
        after = -LARGEST - 1
        while True:
            answer = expect(LeaseListAnswer, await self.ask_store(LeaseList(after), leader=True))
            found += (lease for lease in answer.ids if lease > after)  # an earlier release gives all of them again
            if not answer.more:
                return tuple(found)
            after = found[-1]
