"""A limit for log lines that strangers can cause: a number of lines each second, and then a count of the rest."""

from typing import Final

from trioraft.clock import LONG_AGO
from trioraft.logger import Logger
from trioraft.messages import Instant

_SECOND: Final = 1.0
_LINES: Final = 10


class LineLimit:
    """Admits a number of lines to the log each second.

    Parameters
    ----------
    what : str
        The subject of the lines, for the line that counts the missing ones.
    lines : int
        The most lines that are written in a second.
    """

    def __init__(self, what: str, lines: int = _LINES) -> None:
        self._what = what
        self._lines = lines
        self._since = LONG_AGO
        self._written = 0
        self._missing = 0

    def admits(self, log: Logger, now: Instant) -> bool:
        """Check whether one more line may be written now; count it where it may not.

        Parameters
        ----------
        log : Logger
            The log that it would be written to.
        now : float
            The time in seconds.

        Returns
        -------
        bool
            Whether the caller may write it.
        """
        self.tell(log, now)
        if self._written < self._lines:
            self._written += 1
            return True
        self._missing += 1
        return False

    def tell(self, log: Logger, now: Instant) -> None:
        """Write how many lines are missing, once the second is over that they belong to.

        Parameters
        ----------
        log : Logger
            The log to write to.
        now : float
            The time in seconds.
        """
        if now - self._since < _SECOND:
            return
        if self._missing:
            log.warning("more of the same, not written", what=self._what, lines=self._missing)
        self._since, self._written, self._missing = now, 0, 0
