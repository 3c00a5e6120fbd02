"""Leases that are kept alive, and locks held by them.

The holder of a lease relies on it until its time to live has passed since the holder *sent* the last keep-alive that
was answered. The leader starts to count when it answers, which is later, so the lease lives at least as long as its
holder relies on it. A lock is a key that is attached to its holder's lease. The holders queue by the revisions at
which their keys were created. These are the fencing tokens: each is larger than those of all holders before. A
cluster that is restored from a backup goes back to an earlier revision, so the number of restores counts more than
the revision.
"""

import re
from abc import ABC
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, NamedTuple

import trio

from trioraft.arguments import check_is, check_number, check_seconds
from trioraft.clock import FOREVER, boottime
from trioraft.errors import NoAnswerError
from trioraft.kv.commands import TTL_MAX, KeyValue, Put, Range, prefix_range
from trioraft.kv.errors import KeyValueError
from trioraft.kv.keys import KeyMethods
from trioraft.kv.leases import LeaseMethods
from trioraft.kv.lock_keys import lock_prefix
from trioraft.kv.results import ErrorCode
from trioraft.messages import Instant, Seconds
from trioraft.nurseries import bare_errors

NAME_MAX: Final = 1000

# Parts of the time to live: the interval of keep-alives, and the allowance for the drift of clocks.
_KEEP_SHARE: Final = 1 / 5
_DRIFT_SHARE: Final = 1 / 100
# The time is looked at once in so many seconds, so that it is noticed soon when the machine was suspended.
_LOOK_INTERVAL: Final = 0.25
_REVOKE_SECONDS: Final = 2.0
# No store gets to more revisions between two restores: a million a second would take nine years.
_REVISION_BITS: Final = 48


class KeysAndLeases(KeyMethods, LeaseMethods, ABC):
    """The methods that locks are made of."""


class LeaseLostError(Exception):
    """A lease ended, or may have ended, before its holder was done with it."""


class LockHeldError(NoAnswerError):
    """Somebody else held a lock for as long as it was waited for.

    Parameters
    ----------
    name : str
        The lock.
    wait : float
        How long it was waited for, in seconds.
    """

    def __init__(self, name: str, wait: float) -> None:
        super().__init__(f"the lock {name} is held by somebody else (waited {wait:g} s)")


@dataclass(slots=True)
class HeldLease:
    """A lease that is kept alive.

    Attributes
    ----------
    id : int
        Its id.
    ttl : int
        Its time to live in seconds.
    held_until : float
        The time until which it certainly lives, on :func:`~trioraft.clock.boottime`; it grows with each keep-alive.
    """

    id: int
    ttl: int
    held_until: Instant


@dataclass(slots=True)
class HeldLock:
    """A lock that is held.

    Attributes
    ----------
    name : str
        Its name.
    fencing_token : int
        A number that is larger than that of every holder before. A resource that remembers the largest one can
        refuse a holder that does not know yet that its lock is lost.
    lease : HeldLease
        The lease that it is held by.
    """

    name: str
    fencing_token: int
    lease: HeldLease


@asynccontextmanager
async def hold_lease(
    client: LeaseMethods, ttl: int, *, clock: Callable[[], Instant] = boottime
) -> AsyncIterator[HeldLease]:
    """Hold a lease for as long as the block lasts; it is revoked afterwards.

    Parameters
    ----------
    client : Client
        The client.
    ttl : int
        Its time to live in seconds; the keys attached to it outlive a holder that is lost by about that.
    clock : callable
        Returns the time in seconds, on a clock that counts as the leader's does.

    Yields
    ------
    HeldLease
        The lease.

    Raises
    ------
    LeaseLostError
        If no keep-alive was answered for so long that the lease may have ended; the block is cancelled then.
    """
    lease = await _grant(client, ttl, clock)
    lost: _Lost | None = None
    try:
        with bare_errors():
            async with trio.open_nursery() as nursery:

                async def keep() -> None:
                    nonlocal lost
                    lost = await _keep_alive(client, lease, clock)
                    nursery.cancel_scope.cancel()

                nursery.start_soon(keep)
                yield lease
                nursery.cancel_scope.cancel()
    finally:
        # A lease that somebody else has recalled in time waits for this: nothing relies on it any more.
        if lost is None or (lost.refused and clock() < lease.held_until):
            with trio.move_on_after(_REVOKE_SECONDS, shield=True):
                await _revoke(client, lease.id)
    if lost is not None:
        raise LeaseLostError(lost.reason)


async def _grant(client: LeaseMethods, ttl: int, clock: Callable[[], Instant]) -> HeldLease:
    """Make a lease; keep it alive once more where that took long, because its time runs from the request."""
    sent_at = clock()
    granted = await client.lease_grant(ttl)
    lease = HeldLease(granted.id, granted.ttl, held_until(sent_at, granted.ttl))
    while (now := clock()) > sent_at + granted.ttl * _KEEP_SHARE:
        sent_at = now
        try:
            lease.held_until = held_until(now, await client.lease_keep_alive(lease.id))
        except KeyValueError as error:
            raise LeaseLostError(str(error)) from None
    return lease


def held_until(sent_at: Instant, ttl: int) -> Instant:
    """Compute the time until which a lease certainly lives.

    Parameters
    ----------
    sent_at : float
        The time at which the grant or keep-alive was sent that was answered, in seconds.
    ttl : int
        The time to live in the answer, in seconds.

    Returns
    -------
    float
        The time, on the same clock.
    """
    return sent_at + ttl * (1 - _DRIFT_SHARE)


async def keep_lease_alive(client: LeaseMethods, lease: HeldLease, *, clock: Callable[[], Instant] = boottime) -> str:
    """Keep a lease alive for as long as possible.

    Parameters
    ----------
    client : Client
        The client.
    lease : HeldLease
        The lease; its `held_until` grows.
    clock : callable
        Returns the time in seconds, on a clock that counts as the leader's does.

    Returns
    -------
    str
        The reason why the lease is lost.
    """
    return (await _keep_alive(client, lease, clock)).reason


class _Lost(NamedTuple):
    """Why a lease is lost, and whether that is because a keep-alive was refused."""

    reason: str
    refused: bool


async def _keep_alive(client: LeaseMethods, lease: HeldLease, clock: Callable[[], Instant]) -> _Lost:
    """Keep a lease alive until it is lost."""
    interval = lease.ttl * _KEEP_SHARE
    next_at = clock() + interval
    restores = client.restores
    while (now := clock()) < lease.held_until:
        if client.restores != restores:
            return _Lost(
                "the cluster was restored or recovered, and may have lost what the lease holds", refused=False
            )
        if now < next_at:
            await trio.sleep(min(next_at - now, lease.held_until - now, _LOOK_INTERVAL))
            continue
        try:
            with trio.move_on_after(min(interval, lease.held_until - now)):
                ttl = await client.lease_keep_alive(lease.id)
                lease.held_until = max(lease.held_until, held_until(now, ttl))
                next_at = now + interval
        except KeyValueError as error:
            return _Lost(str(error), refused=True)
    return _Lost(f"no keep-alive of the lease was answered within its {lease.ttl} s", refused=False)


async def _revoke(client: LeaseMethods, lease: int) -> None:
    try:
        await client.lease_revoke(lease, own=True)
    except KeyValueError as error:
        if error.code != ErrorCode.LEASE_NOT_FOUND:
            raise


def check_lock(name: str, ttl: int, wait: Seconds | None = None) -> bytes:
    """Encode the name of a lock for its key; refuse a wrong name, time to live or time to wait.

    Parameters
    ----------
    name : str
        The lock's name.
    ttl : int
        The time to live of the lease that holds it, in seconds.
    wait : float or None
        How long to wait for it, in seconds; None for as long as it takes.

    Returns
    -------
    bytes
        The name.
    """
    encoded = check_is("name", name, str).encode("utf-8", "surrogateescape")  # a command's arguments may be any bytes
    if not 0 < len(encoded) <= NAME_MAX:
        raise ValueError(f"a lock's name has 1 to {NAME_MAX} bytes; this one has {len(encoded)}")
    check_number("ttl", ttl, 1, TTL_MAX)
    if wait is not None:
        check_seconds("wait", wait)
    return encoded


@asynccontextmanager
async def hold_lock(
    client: KeysAndLeases,
    name: str,
    ttl: int = 10,
    *,
    wait: Seconds | None = None,
    queued: Callable[[], None] = lambda: None,
    clock: Callable[[], Instant] = boottime,
) -> AsyncIterator[HeldLock]:
    """Wait for a lock, and hold it for as long as the block lasts.

    Parameters
    ----------
    client : Client
        The client.
    name : str
        The lock's name.
    ttl : int
        The time to live of the lease that holds it, in seconds: others wait so long for a holder that is lost.
    wait : float, optional
        How long to wait while somebody else holds it, in seconds; 0 to take it only if it is free, and as long as it
        takes by default. It does not limit the time without an answer of the cluster: the caller's deadlines do.
    queued : callable
        Called when the cluster has answered, and the wait is for earlier holders only.
    clock : callable
        Returns the time in seconds.

    Yields
    ------
    HeldLock
        The lock, with its fencing token.

    Raises
    ------
    LeaseLostError
        If no keep-alive was answered for so long that the lock may be somebody else's; the block is cancelled
        then.
    LockHeldError
        If somebody else held it for that long.
    """
    encoded = check_lock(name, ttl, wait)
    async with hold_lease(client, ttl, clock=clock) as lease:
        prefix = lock_prefix(encoded)
        own = prefix + f"{lease.id:016x}".encode()
        result = await client.txn((), (Put(own, b"", lease.id),))
        queued()
        with trio.move_on_after(FOREVER if wait is None else wait) as waiting:
            while (before := await _before(client, prefix, own)) is not None:
                kv, revision = before
                await _deleted(client, kv, revision)
        # Look once more: the lock may be free by now, or only the cluster has not answered.
        if waiting.cancelled_caught and await _before(client, prefix, own) is not None:
            raise LockHeldError(name, wait or 0.0)
        yield HeldLock(name, (client.restores << _REVISION_BITS) + result.revision, lease)


async def _deleted(client: KeyMethods, kv: KeyValue, revision: int) -> None:
    """Wait until a key is deleted, or has to be looked at again."""
    try:
        async for event in client.watch(kv.key, revision=revision + 1):
            if not event.kv.version:
                return
    except KeyValueError as error:
        if error.code is not ErrorCode.COMPACTED:
            raise


async def _before(client: KeyMethods, prefix: bytes, own: bytes) -> tuple[KeyValue, int] | None:
    """Find the key directly before in the queue, and the revision at which it was there."""
    key, range_end = prefix_range(prefix)
    found = await client.read_all(Range(key, range_end, keys_only=True))
    queue = sorted(
        (kv for kv in found.kvs if re.fullmatch(rb"[0-9a-f]{16}", kv.key.removeprefix(prefix))),
        key=lambda kv: kv.create_revision,
    )
    place = next((place for place, kv in enumerate(queue) if kv.key == own), None)
    if place is None:
        raise LeaseLostError("the lease ended while its holder waited for the lock")
    return (queue[place - 1], found.revision) if place else None
