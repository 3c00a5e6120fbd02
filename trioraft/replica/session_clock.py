"""The leader's clock of client sessions: those that were silent for long are ended, through the log.

Only the leader knows when a client was last heard, and a new leader gives every session its full time again; so does
one that stood still itself. That
an entry ends a session is what counts: commands before it in the log are carried out, those behind it refused.
"""

from collections.abc import Collection, Iterable
from typing import Final

from trioraft.standstill import Standstill

# A session ends when nothing was heard of its client for so many seconds.
SESSION_SECONDS: Final = 300.0
# It is proposed again after so many seconds, in case that came to nothing.
_AGAIN_SECONDS: Final = 10.0
# A session whose client is silent for so many seconds may have to make room for another one.
_MAKES_ROOM: Final = 5.0
# A leader looks every five seconds; when it comes so late, in seconds, it was away itself.
_STOOD_STILL: Final = 15.0


class SessionClock:
    """Knows which sessions are to be ended. Reads no clock: every call is told the time, in seconds."""

    def __init__(self) -> None:
        self._term = 0
        self._ends_at: dict[int, float] = {}
        self._standstill = Standstill(_STOOD_STILL)

    def heard(self, session: int, now: float) -> None:
        """Give a session its full time again.

        Parameters
        ----------
        session : int
            The session; one that does not exist is forgotten at the next look.
        now : float
            The time.
        """
        self._ends_at[session] = now + SESSION_SECONDS

    def longest_silent(self, sessions: Iterable[int], now: float) -> int | None:
        """Find the session of which nothing was heard for the longest time.

        Parameters
        ----------
        sessions : iterable of int
            Which ones to look at.
        now : float
            The time.

        Returns
        -------
        int or None
            The session; None where each of them was heard just now, or not since this node leads.
        """
        latest = now + SESSION_SECONDS - _MAKES_ROOM
        known = [(end, session) for session in sessions if (end := self._ends_at.get(session, latest)) < latest]
        return min(known)[1] if known else None

    def due(self, term: int, sessions: Collection[int], now: float) -> list[int]:
        """Look which sessions are to be ended.

        Parameters
        ----------
        term : int
            The term in which this node leads.
        sessions : collection of int
            The open ones.
        now : float
            The time.

        Returns
        -------
        list of int
            Those to end now.
        """
        if self._standstill.look(now) or term != self._term:
            self._term = term
            self._ends_at.clear()
        self._ends_at = {session: self._ends_at.get(session, now + SESSION_SECONDS) for session in sessions}
        due = [session for session, end in self._ends_at.items() if end <= now]
        for session in due:
            self._ends_at[session] = now + _AGAIN_SECONDS
        return due
