"""Questions to a running store that need no log: on the time that leases still have, and watches.

Answers that may have any size come in pages. A field for the next page was added later. Its presence shows that the
sender understands pages; a node of an earlier release ignores it and gives everything at once. A question without it
gets everything at once too, as far as one answer holds it.
"""

from typing import Final, TypeAlias

from msgspec import Struct

from trioraft.kv.codec import Box
from trioraft.kv.commands import Bound, Event, Number, OptionalBound, SignedNumber, TimeToLive
from trioraft.kv.results import Error

# This value in place of a number of halves says that no revision may be divided (:mod:`trioraft.kv.watch`).
WHOLE_REVISIONS: Final = -1
# This value in place of a lease asks for all of them at once.
ALL_LEASES: Final = -1


class LeaseKeepAlive(Struct, frozen=True, array_like=True, tag=1):
    """Renew a lease for its full time to live; only the leader can do that.

    Attributes
    ----------
    id : int
        The lease.
    """

    id: SignedNumber


class LeaseTimeToLive(Struct, frozen=True, array_like=True, tag=2):
    """Ask how long a lease still lives without a keep-alive; only the leader knows.

    Attributes
    ----------
    id : int
        The lease.
    keys : bool
        Whether the answer includes the keys that are attached to it.
    after : bytes or None
        Give the keys after this one, as many as fit; None for all at once.
    """

    id: SignedNumber
    keys: bool = False
    after: OptionalBound | None = None


class LeaseList(Struct, frozen=True, array_like=True, tag=3):
    """Ask for all leases.

    Attributes
    ----------
    after : int
        Give the leases with larger ids, as many as fit; -1 for all at once.
    """

    after: int = ALL_LEASES


class WatchEvents(Struct, frozen=True, array_like=True, tag=4):
    """Wait for the next changes; answered when there are some, or without any after a while.

    Attributes
    ----------
    key, range_end : bytes
        As in :class:`~trioraft.kv.commands.Range`.
    revision : int
        The first revision of interest.
    prev_kv : bool
        Whether the events include the keys as they were before.
    given : int
        The number of halves of the events of that revision that were given before (:mod:`trioraft.kv.watch`); -1
        where the answer must not divide a revision.
    """

    key: Bound
    range_end: OptionalBound
    revision: Number
    prev_kv: bool = False
    given: int = WHOLE_REVISIONS


Question: TypeAlias = LeaseKeepAlive | LeaseTimeToLive | LeaseList | WatchEvents


class LeaseKeepAliveAnswer(Struct, frozen=True, array_like=True, tag=1):
    """Answer a :class:`LeaseKeepAlive`.

    Attributes
    ----------
    id, ttl : int
        The lease, and its time to live in seconds, counted from the moment when the question was *sent*.
    """

    id: SignedNumber
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
        How long it still lives, in seconds.
    keys : tuple of bytes
        The keys that are attached to it, in ascending order, where the question asked for them.
    more : bool
        Whether further ones follow.
    """

    id: SignedNumber
    granted_ttl: TimeToLive
    remaining: float
    keys: tuple[bytes, ...] = ()
    more: bool = False


class LeaseListAnswer(Struct, frozen=True, array_like=True, tag=3):
    """Answer a :class:`LeaseList`.

    Attributes
    ----------
    ids : tuple of int
        The leases, in ascending order.
    more : bool
        Whether further ones follow.
    """

    ids: tuple[SignedNumber, ...]
    more: bool = False


class WatchAnswer(Struct, frozen=True, array_like=True, tag=4):
    """Answer a :class:`WatchEvents`.

    Attributes
    ----------
    revision : int
        All events up to this revision have been given; go on from the next one.
    events : tuple of Event
        The events, in order.
    given : int
        The number of halves of the events of the next revision that have been given too; -1 from a node that divides
        no revision, and began with the whole one.
    """

    revision: Number
    events: tuple[Event, ...] = ()
    given: int = WHOLE_REVISIONS


class Refused(Struct, frozen=True, array_like=True, tag=5):
    """Refuse a question.

    Attributes
    ----------
    error : Error
        The reason.
    """

    error: Error


Answer: TypeAlias = LeaseKeepAliveAnswer | LeaseTimeToLiveAnswer | LeaseListAnswer | WatchAnswer | Refused


class AnyQuestion(Box[Question], frozen=True, array_like=True):
    """The box for a question; see :func:`~trioraft.kv.codec.unpack`."""


class AnyAnswer(Box[Answer], frozen=True, array_like=True):
    """The box for an answer."""
