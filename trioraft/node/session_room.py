"""The room for sessions at a leader: it ends those of silent clients, and lets no client have all of them.

Only a leader knows the client of a session, and only in memory. If a session was opened while another node led, the
leader learns its client when it hears from the client, which is within a minute. So a client may have more sessions
for a while after an election.
"""

from collections.abc import Callable
from typing import Final

from trioraft.consensus import Core, Role
from trioraft.errors import ProposalError
from trioraft.logger import Logger
from trioraft.messages import EntryKind, Instant
from trioraft.node.line_limit import LineLimit
from trioraft.node.proposals import Proposals
from trioraft.node.room import SITE_SHARE
from trioraft.replica.session_clock import SessionClock
from trioraft.replica.sessions import SESSIONS_MAX, Replica
from trioraft.tally import Asker, Limit, Tally

_log: Final = Logger("trioraft.requests")

# The most open sessions of a client, which needs one, and another one when that has ended.
OF_ONE_CLIENT_MAX: Final = 16
_LOOK: Final = 5.0


class SessionRoom:
    """The sessions of clients, as their leader sees them.

    Parameters
    ----------
    core : Core
        The source of the role and the term.
    replica : Replica
        The replicated state, which has the open sessions.
    proposals : Proposals
        Proposes the end of sessions.
    clock : callable
        Returns the time in seconds.
    lines : LineLimit
        Limits the log lines that clients can cause.
    """

    def __init__(
        self, core: Core, replica: Replica, proposals: Proposals, clock: Callable[[], Instant], lines: LineLimit
    ) -> None:
        self._core = core
        self._replica = replica
        self._proposals = proposals
        self._clock = clock
        self._lines = lines
        self._silence = SessionClock()
        self._looked_at = 0.0
        self._owners: dict[int, Asker] = {}
        self._tally = Tally()
        self._opening = 0
        self._ending: set[int] = set()  # those whose end is proposed

    def begin(self, who: Asker) -> Limit:
        """Count a session that is about to be opened, unless its client has too many.

        When all sessions are taken, one that has carried no command is ended for it: the one that was silent longest.

        Parameters
        ----------
        who : Asker
            The client that opens it.

        Returns
        -------
        Limit
            The limit that is passed; :data:`~trioraft.tally.NO_LIMIT` where none is and the session was counted.
        """
        self._tally.add(who)
        limit = self._why_none(who)
        if limit.text:
            self._forget_ended()
            limit = self._why_none(who)
        if limit.text:
            self._tally.remove(who)
            return limit
        self._opening += 1
        if self._replica.session_count + self._opening - len(self._ending) > SESSIONS_MAX:
            unused = (session for session in self._replica.unused_sessions() if session not in self._ending)
            session = self._silence.longest_silent(unused, self._clock())
            if session is not None:
                self._end(session, "session ends: it has carried no command, and another one needs its place")
        return limit

    def _why_none(self, who: Asker) -> Limit:
        return self._tally.why_none(who, "open sessions", OF_ONE_CLIENT_MAX, SESSIONS_MAX // SITE_SHARE)

    def opened(self, session: int, who: Asker) -> None:
        """Note the outcome of a session that was about to be opened.

        Parameters
        ----------
        session : int
            The session; 0 where none was opened.
        who : Asker
            The client, as it was counted.
        """
        self._opening -= 1
        self._tally.remove(who)
        if session:
            self.heard(session, who)

    def heard(self, session: int, who: Asker) -> None:
        """Note that the client of a session lives; ignore sessions that do not exist, lest they fill the memory.

        Parameters
        ----------
        session : int
            The session.
        who : Asker
            The client that has named it.
        """
        if not self._replica.has_session(session):
            return
        self._silence.heard(session, self._clock())
        if session not in self._owners:
            self._owners[session] = who
            self._tally.add(who)

    def _forget_ended(self) -> None:
        has_session = self._replica.has_session
        for session in [session for session in self._owners if not has_session(session)]:
            self._tally.remove(self._owners.pop(session))

    def end_silent(self) -> None:
        """End, now and then, the sessions of clients that were silent for long, while this node leads."""
        now = self._clock()
        if now < self._looked_at:
            return
        self._looked_at = now + _LOOK
        self._forget_ended()
        if self._core.role is not Role.LEADER:
            return
        for session in self._silence.due(self._core.term, self._replica.sessions, now):
            if not self._end(session, "session ends: its client is silent"):
                return  # it is tried again later

    def _end(self, session: int, event: str) -> bool:
        def done(_outcome: object) -> None:
            self._ending.discard(session)

        try:
            self._proposals.submit(EntryKind.END_SESSION, session.to_bytes(8, "big"), done)
        except ProposalError:
            return False
        self._ending.add(session)
        if self._lines.admits(_log, self._clock()):
            _log.info(event, session=session)
        return True
