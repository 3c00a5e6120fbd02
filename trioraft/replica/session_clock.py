"""The leader's clock of client sessions, which ends those of silent clients through the log.

Only the leader knows when a client was last heard. A new leader gives every session its full time again, and so does
a leader that stood still itself. The entry in the log decides when a session has ended: commands before it are
carried out, and commands after it are refused.
"""

from collections.abc import Collection, Iterable
from typing import Final

from trioraft.messages import Instant, Term
from trioraft.standstill import Standstill

# A session ends when nothing was heard of its client for so many seconds.
SESSION_SECONDS: Final = 300.0
# Its end is proposed again after so many seconds, in case the first proposal failed.
_AGAIN_SECONDS: Final = 10.0
# A session whose client is silent for so many seconds may have to make room for another one.
_MAKES_ROOM: Final = 5.0
# A leader looks every five seconds. When so many seconds lie between two looks, it stood still itself.
_STOOD_STILL: Final = 15.0


class SessionClock:
    """The deadlines of sessions. It reads no clock: every call is given the time, in seconds."""

    def __init__(self) -> None:
        self._term = 0
        self._ends_at: dict[int, Instant] = {}
        self._standstill = Standstill(_STOOD_STILL)

    def heard(self, session: int, now: Instant) -> None:
        """Renew a session for its full time.

        Parameters
        ----------
        session : int
            The session; one that does not exist is dropped at the next look.
        now : float
            The time.
        """
        self._ends_at[session] = now + SESSION_SECONDS

    def longest_silent(self, sessions: Iterable[int], now: Instant) -> int | None:
        """Find the session whose client was silent for the longest time.

        Parameters
        ----------
        sessions : iterable of int
            The sessions to choose from.
        now : float
            The time.

        Returns
        -------
        int or None
            The session; None where every client was heard lately, or none since this node leads.
        """
        latest = now + SESSION_SECONDS - _MAKES_ROOM
        known = [(end, session) for session in sessions if (end := self._ends_at.get(session, latest)) < latest]
        return min(known)[1] if known else None

    def due(self, term: Term, sessions: Collection[int], now: Instant) -> list[int]:
        """List the sessions that have to be ended.

        Parameters
        ----------
        term : int
            The term in which this node leads.
        sessions : collection of int
            The open sessions.
        now : float
            The time.

        Returns
        -------
        list of int
            The sessions to end now.
        """
        if self._standstill.look(now) or term != self._term:
            self._term = term
            self._ends_at.clear()
        self._ends_at = {session: self._ends_at.get(session, now + SESSION_SECONDS) for session in sessions}
        due = [session for session, end in self._ends_at.items() if end <= now]
        for session in due:
            self._ends_at[session] = now + _AGAIN_SECONDS
        return due
