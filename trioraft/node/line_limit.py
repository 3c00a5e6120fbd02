"""Keeps strangers from filling the log: so many lines a second, and then how many more there were."""

from typing import Final

from structlog.typing import FilteringBoundLogger

from trioraft.clock import LONG_AGO
from trioraft.messages import Instant

_SECOND: Final = 1.0
_LINES: Final = 10


class LineLimit:
    """Lets so many lines into the log each second.

    Parameters
    ----------
    what : str
        What the lines are about, for the one that tells how many are missing.
    lines : int
        How many are written in a second.
    """

    def __init__(self, what: str, lines: int = _LINES) -> None:
        self._what = what
        self._lines = lines
        self._since = LONG_AGO
        self._written = 0
        self._missing = 0

    def admits(self, log: FilteringBoundLogger, now: Instant) -> bool:
        """Tell whether one more line is written now; where it is not, it is counted.

        Parameters
        ----------
        log : FilteringBoundLogger
            Where it would be written.
        now : float
            The time in seconds.

        Returns
        -------
        bool
            Whether the caller writes it.
        """
        self.tell(log, now)
        if self._written < self._lines:
            self._written += 1
            return True
        self._missing += 1
        return False

    def tell(self, log: FilteringBoundLogger, now: Instant) -> None:
        """Write how many lines are missing, once the second is over in which they would have been written.

        Parameters
        ----------
        log : FilteringBoundLogger
            Where to write it.
        now : float
            The time in seconds.
        """
        if now - self._since < _SECOND:
            return
        if self._missing:
            log.warning("more of the same, not written", what=self._what, lines=self._missing)
        self._since, self._written, self._missing = now, 0, 0
