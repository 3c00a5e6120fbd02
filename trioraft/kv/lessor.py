"""The leader's clock of leases.

Which leases there are is in the log; how long they still live only the leader knows. So a keep-alive is not in the
log either: the leader answers it, which costs no disk. That is safe as long as these rules hold:

- A new leader starts a :class:`Lessor` when it has applied everything of earlier terms, and gives every lease its
  full time to live. What an earlier leader has answered is thereby honoured.
- A keep-alive is answered only by a leader that has made sure, after the keep-alive arrived, that it still leads
  (as for a linearizable read). Else one that was replaced long ago would promise what its successor does not know.
- A lease ends when :class:`~trioraft.kv.commands.LeaseExpire` is applied, not when its time is up. From when that is
  proposed, no keep-alive is answered.
- The holder counts from when it *sent* its last answered keep-alive, which is before the leader counts.
"""

import heapq
from collections.abc import Iterable
from typing import Final

from trioraft.kv.commands import Lease, LeaseExpire
from trioraft.kv.store import Change

_PROPOSE_AGAIN: Final = 2.0  # seconds; a proposal may be refused because the leader is busy


class Lessor:
    """Knows when leases are due. Reads no clock: every call is told the time, in seconds of one clock.

    Parameters
    ----------
    leases : iterable of Lease
        The leases there are.
    now : float
        The time.
    """

    def __init__(self, leases: Iterable[Lease], now: float) -> None:
        self._leases: dict[int, Lease] = {}
        self._deadlines: dict[int, float] = {}
        self._expiring: set[int] = set()
        # One entry for each grant. A deadline that has moved is found when its entry comes up, so that a keep-alive
        # costs nothing here; so does the entry of a lease that has ended.
        self._queue: list[tuple[float, int, int]] = []
        for lease in leases:
            self.granted(lease, now)

    def follow(self, change: Change, now: float) -> None:
        """Take notice of what a command has changed.

        Parameters
        ----------
        change : Change
            What the store told.
        now : float
            The time.
        """
        for lease in change.granted:
            self.granted(lease, now)
        for lease_id in change.ended:
            self.ended(lease_id)

    def granted(self, lease: Lease, now: float) -> None:
        """Start the clock of a lease; that of one which is recalled goes on, if it has begun."""
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

    def keep_alive(self, lease_id: int, now: float) -> int | None:
        """Give a lease its full time to live again.

        Parameters
        ----------
        lease_id : int
            The lease.
        now : float
            The time.

        Returns
        -------
        int or None
            Its time to live in seconds; None where there is no such lease, it was recalled, or its end is proposed
            already.
        """
        lease = self._leases.get(lease_id)
        if lease is None or not lease.grant or lease_id in self._expiring:
            return None
        self._deadlines[lease_id] = now + lease.ttl
        return lease.ttl

    def remaining(self, lease_id: int, now: float) -> float | None:
        """Tell for how many seconds a lease still lives without a keep-alive; None where there is none."""
        if lease_id not in self._leases:
            return None
        return 0.0 if lease_id in self._expiring else max(0.0, self._deadlines[lease_id] - now)

    def due(self, now: float, limit: int = 1000) -> list[LeaseExpire]:
        """Give what is to be proposed because time is up; again after 2 s where it has not been applied by then.

        Parameters
        ----------
        now : float
            The time.
        limit : int
            At most so many.

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

    def next_deadline(self) -> float | None:
        """Tell when :meth:`due` has something to give, or None."""
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
