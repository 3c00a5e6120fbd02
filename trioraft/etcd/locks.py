"""The services ``v3lockpb.Lock`` and ``v3electionpb.Election``, as etcd has them: leases, transactions and watches.

Whoever wants a lock, or stands for an election, has a key with its lease, and the oldest key wins. These are not the
locks of trioraft itself, and have other keys.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Final

import trio

from trioraft.etcd import messages as api
from trioraft.etcd.host import Host
from trioraft.etcd.key_values import KV
from trioraft.etcd.leases import Lease
from trioraft.etcd.status import ApiError, Code
from trioraft.etcd.translate import error_of, key_value
from trioraft.kv.commands import Event, EventKind, prefix_range
from trioraft.kv.questions import LeaseKeepAlive
from trioraft.kv.results import Error
from trioraft.nurseries import bare_errors

# A lease that the service makes lives so many seconds.
_TTL: Final = 60
# The key of somebody who has hung up is removed within so many seconds.
_CLEANING_SECONDS: Final = 3.0

Send = Callable[[api.Message], Awaitable[None]]


class _Contest:
    """What locks and elections have in common: keys under a name, the oldest of which wins."""

    def __init__(self, host: Host, keys: KV, leases: Lease) -> None:
        self._host = host
        self._keys = keys
        self._leases = leases

    @asynccontextmanager
    async def _lease(self, given: int) -> AsyncIterator[int]:
        """Provide a lease: the one that was given, or a new one that is kept alive meanwhile, and then left alone."""
        if given:
            yield given
            return
        made = (await self._leases.lease_grant(api.LeaseGrantRequest(_TTL))).id
        with bare_errors():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_alive, made)
                yield made
                nursery.cancel_scope.cancel()

    async def _keep_alive(self, lease: int) -> None:
        while True:
            await trio.sleep(_TTL / 3)
            with suppress(ApiError):  # the next time, perhaps
                await self._host.ask_leader(LeaseKeepAlive(lease))

    async def _enter(self, key: bytes, value: bytes, lease: int, *others: api.RequestOp) -> api.TxnResponse:
        """Make a key, or find the one that is there."""
        put = api.RequestOp(request_put=api.PutRequest(key, value, lease))
        get = api.RequestOp(request_range=api.RangeRequest(key))
        missing = api.Compare(target=api.CompareTarget.CREATE, key=key)
        return await self._keys.txn(api.TxnRequest([missing], [put, *others], [get, *others]))

    async def _wait_for_older(self, prefix: bytes, revision: int) -> None:
        """Wait until no key under a prefix is older than one of a revision."""
        start, end = prefix_range(prefix)
        while True:
            asked = api.RangeRequest(
                start,
                end,
                limit=1,
                sort_order=api.SortOrder.DESCEND,
                sort_target=api.SortTarget.CREATE,
                max_create_revision=revision - 1,
            )
            found = await self._keys.range(asked)
            if not found.kvs:
                return
            after = found.header.revision if found.header is not None else 0
            async with aclosing(self._changes(found.kvs[0].key, b"", after + 1)) as changes:
                async for event in changes:
                    if event.kind is EventKind.DELETE:
                        break

    async def _changes(self, key: bytes, end: bytes, revision: int) -> AsyncGenerator[Event, None]:
        """Watch keys."""
        news = trio.Event()

        def wake() -> None:
            news.set()

        watch = self._host.service.hub.watch(key, end, revision=revision, wake=wake)
        try:
            while True:
                taken = watch.take()
                if isinstance(taken, Error):
                    raise error_of(taken.code, taken.message)
                if taken is None:
                    await news.wait()
                    news = trio.Event()
                    continue
                for event in taken.events:
                    yield event
        finally:
            watch.close()

    async def _leave(self, key: bytes) -> None:
        """Remove the key of somebody who has gone, or whose request has failed."""
        in_time = trio.move_on_after(_CLEANING_SECONDS, shield=True)
        with in_time, suppress(ApiError):  # else it ends with its lease
            await self._keys.delete_range(api.DeleteRangeRequest(key))


def _first(prefix: bytes) -> api.RangeRequest:
    """Ask for the oldest key under a prefix."""
    start, end = prefix_range(prefix)
    return api.RangeRequest(start, end, limit=1, sort_order=api.SortOrder.ASCEND, sort_target=api.SortTarget.CREATE)


def _found(operation: api.ResponseOp) -> list[api.KeyValue]:
    return operation.response_range.kvs if operation.response_range is not None else []


def _revision(answer: api.TxnResponse | api.RangeResponse) -> int:
    return answer.header.revision if answer.header is not None else 0


class Lock(_Contest):
    """The methods of ``v3lockpb.Lock``.

    Parameters
    ----------
    host : Host
        The node.
    keys, leases : KV and Lease
        The services that it is made of.
    """

    async def lock(self, asked: api.LockRequest) -> api.LockResponse:
        """Wait until a lock is held; the request of a client that hangs up is withdrawn."""
        try:
            async with self._lease(asked.lease) as lease:
                return await self._lock(asked.name + b"/", lease)
        except ApiError as error:
            raise error.without_code() from None

    async def _lock(self, prefix: bytes, lease: int) -> api.LockResponse:
        key = prefix + f"{lease:x}".encode()
        done = await self._enter(key, b"", lease, api.RequestOp(request_range=_first(prefix)))
        own = _revision(done) if done.succeeded else _found(done.responses[0])[0].create_revision
        owner = _found(done.responses[1])
        if not owner or owner[0].create_revision == own:
            return api.LockResponse(done.header, key)
        is_held = False
        try:
            await self._wait_for_older(prefix, own)
            found = await self._keys.range(api.RangeRequest(key))
            is_held = bool(found.kvs)
        finally:
            if not is_held:
                await self._leave(key)
        if not is_held:
            raise ApiError(Code.UNKNOWN, "mutex: session is expired")
        return api.LockResponse(found.header, key)

    async def unlock(self, asked: api.UnlockRequest) -> api.HeaderResponse:
        """Release a lock."""
        try:
            done = await self._keys.delete_range(api.DeleteRangeRequest(asked.key))
        except ApiError as error:
            raise error.without_code() from None
        return api.HeaderResponse(done.header)


class Election(_Contest):
    """The methods of ``v3electionpb.Election``.

    Parameters
    ----------
    host : Host
        The node.
    keys, leases : KV and Lease
        The services that it is made of.
    """

    async def campaign(self, asked: api.CampaignRequest) -> api.CampaignResponse:
        """Wait until an election is won; the candidacy of a client that hangs up is withdrawn."""
        try:
            async with self._lease(asked.lease) as lease:
                return await self._campaign(asked, lease)
        except ApiError as error:
            raise error.without_code() from None

    async def _campaign(self, asked: api.CampaignRequest, lease: int) -> api.CampaignResponse:
        prefix = asked.name + b"/"
        key = prefix + f"{lease:x}".encode()
        done = await self._enter(key, asked.value, lease)
        own = _revision(done)
        leader = api.LeaderKey(asked.name, key, own, lease)
        if not done.succeeded:
            present = _found(done.responses[0])[0]
            leader.rev = own = present.create_revision
            if present.value != asked.value:
                await self._proclaim(leader, asked.value)
        has_won = False
        try:
            await self._wait_for_older(prefix, own)
            has_won = True
        finally:
            if not has_won:
                await self._leave(key)
        return api.CampaignResponse(done.header, leader)

    async def proclaim(self, asked: api.ProclaimRequest) -> api.HeaderResponse:
        """Change the value of the winner."""
        try:
            return api.HeaderResponse((await self._proclaim(_given(asked.leader), asked.value)).header)
        except ApiError as error:
            raise error.without_code() from None

    async def _proclaim(self, leader: api.LeaderKey, value: bytes) -> api.TxnResponse:
        put = api.RequestOp(request_put=api.PutRequest(leader.key, value, leader.lease))
        done = await self._keys.txn(api.TxnRequest([_still(leader)], [put]))
        if not done.succeeded:
            raise ApiError(Code.UNKNOWN, "election: not leader")
        return done

    async def resign(self, asked: api.ResignRequest) -> api.HeaderResponse:
        """Give up what was won."""
        try:
            leader = _given(asked.leader)
            delete = api.RequestOp(request_delete_range=api.DeleteRangeRequest(leader.key))
            return api.HeaderResponse((await self._keys.txn(api.TxnRequest([_still(leader)], [delete]))).header)
        except ApiError as error:
            raise error.without_code() from None

    async def leader(self, asked: api.LeaderRequest) -> api.LeaderResponse:
        """Tell who has won."""
        try:
            found = await self._keys.range(_first(asked.name + b"/"))
        except ApiError as error:
            raise error.without_code() from None
        if not found.kvs:
            raise ApiError(Code.UNKNOWN, "election: no leader")
        return api.LeaderResponse(found.header, found.kvs[0])

    async def observe(self, asked: api.LeaderRequest, send: Send) -> None:
        """Tell who has won, and every change of that, until cancelled."""
        prefix = asked.name + b"/"
        try:
            while True:
                found = await self._keys.range(_first(prefix))
                after = _revision(found)
                if found.kvs:
                    winner = found.kvs[0]
                    await send(api.LeaderResponse(found.header, winner))
                else:
                    event = await self._next_candidate(prefix, after + 1)
                    after, winner = event.kv.mod_revision, key_value(event.kv)
                    await send(api.LeaderResponse(self._host.header(after), winner))
                async with aclosing(self._changes(winner.key, b"", after + 1)) as changes:
                    async for event in changes:
                        if event.kind is EventKind.DELETE:
                            break
                        header = self._host.header(event.kv.mod_revision)
                        await send(api.LeaderResponse(header, key_value(event.kv)))
        except ApiError as error:
            raise error.without_code() from None

    async def _next_candidate(self, prefix: bytes, revision: int) -> Event:
        async with aclosing(self._changes(*prefix_range(prefix), revision)) as changes:
            async for event in changes:
                if event.kind is EventKind.PUT:
                    return event
        raise AssertionError("a watch does not end by itself")


def _given(leader: api.LeaderKey | None) -> api.LeaderKey:
    if leader is None:
        raise ApiError(Code.UNKNOWN, '"leader" field must be provided')
    return leader


def _still(leader: api.LeaderKey) -> api.Compare:
    """Require that the key of the winner is the one that won."""
    return api.Compare(target=api.CompareTarget.CREATE, key=leader.key, create_revision=leader.rev)
