"""The leader's clock of leases.

The log has the leases; only the leader knows how long each still lives. So a keep-alive is not in the log either: the
leader answers it without a write to disk. That is safe as long as these rules hold:

- A new leader starts a :class:`Lessor` when it has applied everything of earlier terms, and gives every lease its
full
  time to live. So it keeps the promises of earlier leaders.
- A leader answers a keep-alive only when it has made sure, after the keep-alive arrived, that it still leads (as for
a
  linearizable read). Otherwise a leader that was replaced long ago could make a promise that its successor does not
  know.
- A lease ends when :class:`~trioraft.kv.commands.LeaseExpire` is applied, not when its time is up. No keep-alive is
  answered once that is proposed.
- The holder counts from the moment when it *sent* the last keep-alive that was answered, and the leader from a later
  one.
"""

import heapq
from collections.abc import Iterable
from typing import Final

from trioraft.kv.commands import Lease, LeaseExpire
from trioraft.kv.store import Change
from trioraft.messages import Instant, Seconds

_PROPOSE_AGAIN: Final = 2.0  # seconds; a proposal may be refused because the leader is busy


class Lessor:
    """The deadlines of leases. It reads no clock: every call is given the time, in seconds on one clock.

    Parameters
    ----------
    leases : iterable of Lease
        The leases there are.
    now : float
        The time.
    """

    def __init__(self, leases: Iterable[Lease], now: Instant) -> None:
        self._leases: dict[int, Lease] = {}
        self._deadlines: dict[int, Instant] = {}
        self._expiring: set[int] = set()
        # It has an entry for each grant. A keep-alive leaves it alone: the entry is moved when it comes up, and that
        # of a lease which has ended is dropped then.
        self._queue: list[tuple[float, int, int]] = []
        for lease in leases:
            self.granted(lease, now)

    def follow(self, change: Change, now: Instant) -> None:
        """Note what a command has changed.

        Parameters
        ----------
        change : Change
            The change, as the store reports it.
        now : float
            The time.
        """
        for lease in change.granted:
            self.granted(lease, now)
        for lease_id in change.ended:
            self.ended(lease_id)

    def granted(self, lease: Lease, now: Instant) -> None:
        """Start the clock of a lease; the clock of a lease that is recalled goes on, if it runs."""
        deadline = now + lease.ttl
        if not lease.grant:
            deadline = min(deadline, self._deadlines.get(lease.id, deadline))
        self._leases[lease.id] = lease
        self._deadlines[lease.id] = deadline
        self._expiring.discard(lease.id)
        heapq.heappush(self._queue, (deadline, lease.id, lease.grant))

    def ended(self, lease_id: int) -> None:
        """Forget a lease."""
        self._leases.pop(lease_id, None)
        self._deadlines.pop(lease_id, None)
        self._expiring.discard(lease_id)

    def keep_alive(self, lease_id: int, now: Instant) -> int | None:
        """Renew a lease for its full time to live.

        Parameters
        ----------
        lease_id : int
            The lease.
        now : float
            The time.

        Returns
        -------
        int or None
            Its time to live in seconds; None where there is no such lease, it was recalled, or its end is already
            proposed.
        """
        lease = self._leases.get(lease_id)
        if lease is None or not lease.grant or lease_id in self._expiring:
            return None
        self._deadlines[lease_id] = now + lease.ttl
        return lease.ttl

    def remaining(self, lease_id: int, now: Instant) -> Seconds | None:
        """Return how long a lease lives without a keep-alive, in seconds; None where there is no such lease."""
        if lease_id not in self._leases:
            return None
        return 0.0 if lease_id in self._expiring else max(0.0, self._deadlines[lease_id] - now)

    def due(self, now: Instant, limit: int = 1000) -> list[LeaseExpire]:
        """List the commands that end leases whose time is up; again after 2 s where they are not applied by then.

        Parameters
        ----------
        now : float
            The time.
        limit : int
            The largest number of commands.

        Returns
        -------
        list of LeaseExpire
            The commands.
        """
        commands: list[LeaseExpire] = []
        while len(commands) < limit:
            deadline = self.next_deadline()
            if deadline is None or deadline > now:
                break
            _, lease_id, grant = heapq.heappop(self._queue)
            commands.append(LeaseExpire(lease_id, grant))
            self._expiring.add(lease_id)
            self._deadlines[lease_id] = now + _PROPOSE_AGAIN
            heapq.heappush(self._queue, (now + _PROPOSE_AGAIN, lease_id, grant))
        return commands

    def next_deadline(self) -> Instant | None:
        """Return when :meth:`due` next has a command, or None."""
        while self._queue:
            queued, lease_id, grant = self._queue[0]
            lease = self._leases.get(lease_id)
            if lease is None or lease.grant != grant:
                heapq.heappop(self._queue)
            elif queued < self._deadlines[lease_id]:
                heapq.heapreplace(self._queue, (self._deadlines[lease_id], lease_id, grant))
            else:
                return queued
        return None
