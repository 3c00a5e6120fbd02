"""What is asked of a running store beside what is in the log: the time that leases still have, and watches."""

from typing import TypeAlias

from msgspec import Struct

from trioraft.kv.codec import Box
from trioraft.kv.commands import Bound, Event, LeaseId, Number, OptionalBound, TimeToLive
from trioraft.kv.results import Error


class LeaseKeepAlive(Struct, frozen=True, array_like=True, tag=1):
    """Give a lease its full time to live again; only the leader can.

    Attributes
    ----------
    id : int
        The lease.
    """

    id: LeaseId


class LeaseTimeToLive(Struct, frozen=True, array_like=True, tag=2):
    """Ask for how long a lease still lives without a keep-alive; only the leader knows.

    Attributes
    ----------
    id : int
        The lease.
    keys : bool
        Whether the answer shall have the keys that are attached to it.
    """

    id: LeaseId
    keys: bool = False


class LeaseList(Struct, frozen=True, array_like=True, tag=3):
    """Ask for all leases."""


class WatchEvents(Struct, frozen=True, array_like=True, tag=4):
    """Wait for the next changes; answered when there are some, or, with none, after a while.

    Attributes
    ----------
    key, range_end : bytes
        As in :class:`~trioraft.kv.commands.Range`.
    revision : int
        The first revision of interest.
    prev_kv : bool
        Whether the events shall have what was there before.
    """

    key: Bound
    range_end: OptionalBound
    revision: Number
    prev_kv: bool = False


Question: TypeAlias = LeaseKeepAlive | LeaseTimeToLive | LeaseList | WatchEvents


class LeaseKeepAliveAnswer(Struct, frozen=True, array_like=True, tag=1):
    """Answer a :class:`LeaseKeepAlive`.

    Attributes
    ----------
    id, ttl : int
        The lease, and for how many seconds it lives, counted from when the question was *sent*.
    """

    id: LeaseId
    ttl: TimeToLive


class LeaseTimeToLiveAnswer(Struct, frozen=True, array_like=True, tag=2):
    """Answer a :class:`LeaseTimeToLive`.

    Attributes
    ----------
    id : int
        The lease.
    granted_ttl : int
        Its full time to live, in seconds.
    remaining : float
        For how many seconds it still lives.
    keys : tuple of bytes
        The keys that are attached to it, where that was asked for.
    """

    id: LeaseId
    granted_ttl: TimeToLive
    remaining: float
    keys: tuple[bytes, ...] = ()


class LeaseListAnswer(Struct, frozen=True, array_like=True, tag=3):
    """Answer a :class:`LeaseList`.

    Attributes
    ----------
    ids : tuple of int
        The leases, in ascending order.
    """

    ids: tuple[LeaseId, ...]


class WatchAnswer(Struct, frozen=True, array_like=True, tag=4):
    """Answer a :class:`WatchEvents`.

    Attributes
    ----------
    revision : int
        All events up to this revision have been given; go on from the next one.
    events : tuple of Event
        The events, in order.
    """

    revision: Number
    events: tuple[Event, ...] = ()


class Refused(Struct, frozen=True, array_like=True, tag=5):
    """Refuse a question.

    Attributes
    ----------
    error : Error
        Why.
    """

    error: Error


Answer: TypeAlias = LeaseKeepAliveAnswer | LeaseTimeToLiveAnswer | LeaseListAnswer | WatchAnswer | Refused


class AnyQuestion(Box[Question], frozen=True, array_like=True):
    """Reads a question; see :func:`~trioraft.kv.codec.unpack`."""


class AnyAnswer(Box[Answer], frozen=True, array_like=True):
    """Reads an answer."""
