"""The service ``etcdserverpb.Lease``."""

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from trioraft.etcd import messages as api
from trioraft.etcd import status
from trioraft.etcd.host import Host
from trioraft.etcd.key_values import raise_alarm, refuse_if_full
from trioraft.etcd.status import ApiError
from trioraft.etcd.translate import checked
from trioraft.kv.codec import encode_command
from trioraft.kv.commands import TTL_MAX, LeaseGrant, LeaseRecall
from trioraft.kv.questions import (
    LeaseKeepAlive,
    LeaseKeepAliveAnswer,
    LeaseTimeToLive,
    LeaseTimeToLiveAnswer,
)
from trioraft.kv.results import Error, ErrorCode

# A lease lives at least so many times as long as an election may take to begin.
_ELECTIONS: Final = 1.5


class Lease:
    """The methods.

    Parameters
    ----------
    host : Host
        The node.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._least = math.ceil(_ELECTIONS * host.node.settings.election_timeout_lower)

    async def lease_grant(self, asked: api.LeaseGrantRequest) -> api.LeaseGrantResponse:
        """Make a lease."""
        if asked.ttl > TTL_MAX:
            raise ApiError(*status.LEASE_TTL_TOO_LARGE)
        refuse_if_full(self._host)
        result = await self._host.execute(encode_command(LeaseGrant(max(asked.ttl, self._least), asked.id)))
        if isinstance(result, Error) and result.code is ErrorCode.TOO_LARGE:
            raise_alarm(self._host.node)
            raise ApiError(*status.NO_SPACE)
        done = checked(result)
        return api.LeaseGrantResponse(self._host.header(done.revision), done.id, done.ttl)

    async def lease_revoke(self, asked: api.LeaseRevokeRequest) -> api.HeaderResponse:
        """End a lease."""
        if not asked.id:
            raise ApiError(*status.LEASE_NOT_FOUND)
        done = checked(await self._host.execute(encode_command(LeaseRecall(asked.id))))
        return api.HeaderResponse(self._host.header(done.revision))

    async def lease_keep_alive(
        self, asked: AsyncIterator[api.LeaseKeepAliveRequest], send: Callable[[api.Message], Awaitable[None]]
    ) -> None:
        """Renew leases, as often as asked."""
        async for one in asked:
            ttl = 0
            if one.id:
                answer = await self._host.ask_leader(LeaseKeepAlive(one.id))
                if isinstance(answer, LeaseKeepAliveAnswer):
                    ttl = answer.ttl
            await send(api.LeaseKeepAliveResponse(self._host.header(), one.id, ttl))

    async def lease_time_to_live(self, asked: api.LeaseTimeToLiveRequest) -> api.LeaseTimeToLiveResponse:
        """Tell how long a lease still lives; a lease that does not exist has the time -1."""
        found: list[bytes] = []
        after = b""
        while asked.id:
            answer = await self._host.ask_leader(LeaseTimeToLive(asked.id, asked.keys, after))
            if not isinstance(answer, LeaseTimeToLiveAnswer):
                break
            found += answer.keys
            if answer.more:
                after = found[-1]
                continue
            remaining = max(int(answer.remaining), 0)
            return api.LeaseTimeToLiveResponse(self._host.header(), asked.id, remaining, answer.granted_ttl, found)
        return api.LeaseTimeToLiveResponse(self._host.header(), asked.id, -1)

    async def lease_leases(self, asked: api.EmptyRequest) -> api.LeaseLeasesResponse:
        """List the leases that this node knows."""
        self._host.check(needs_leader=False)
        leases = self._host.service.leases_by_expiry()
        return api.LeaseLeasesResponse(self._host.header(), [api.LeaseStatus(lease.id) for lease in leases])
