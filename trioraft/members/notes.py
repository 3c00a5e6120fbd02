"""What the autopilot of a leader remembers of what it did and declined, for ``status`` and the page."""

import re
from collections import deque
from typing import Final

import structlog
from msgspec import Struct
from structlog.typing import FilteringBoundLogger

from trioraft.messages import AutopilotNote

_log: Final[FilteringBoundLogger] = structlog.get_logger("trioraft.autopilot")

# Of the newest notes that have a moment, so many are kept.
_KEPT: Final = 5
# Seconds that go by, as in "for 12 of 60 s".
_COUNTED: Final = re.compile(r"\d+ of \d+ s")


class _Noted(Struct, frozen=True):
    kind: str
    text: str
    at: float


class Notes:
    """What was done lately, and what is declined now.

    Parameters
    ----------
    log : FilteringBoundLogger, optional
        Is told what is new.
    """

    def __init__(self, log: FilteringBoundLogger = _log) -> None:
        self._log = log
        self._lately: deque[_Noted] = deque(maxlen=_KEPT)
        self._declined: dict[str, _Noted] = {}

    def clear(self) -> None:
        """Forget everything, as a new leader."""
        self._lately.clear()
        self._declined.clear()

    def changed(self, reason: str, voters: int, now: float) -> None:
        """Note a change that has begun.

        Parameters
        ----------
        reason : str
            What and why.
        voters : int
            How many voters there are from then on.
        now : float
            The time in seconds.
        """
        self._log.info("members change", reason=reason, voters=voters)
        self._lately.appendleft(_Noted("changed", reason, now))

    def refused(self, reason: str, now: float) -> None:
        """Note something that was asked for, perhaps again and again, and declined.

        Parameters
        ----------
        reason : str
            What and why.
        now : float
            The time in seconds.
        """
        if self._lately and self._lately[0].text == reason:
            return
        self._log.info("members stay", reason=reason)
        self._lately.appendleft(_Noted("declined", reason, now))

    def declines(self, reasons: tuple[str, ...], now: float) -> None:
        """Note what is declined at this moment; it is logged when that is new. Seconds that go by do not make it so.

        Parameters
        ----------
        reasons : tuple of str
            What and why.
        now : float
            The time in seconds.
        """
        declined = {}
        for text in reasons:
            key = _COUNTED.sub("", text)
            known = self._declined.get(key)
            if known is None:
                self._log.info("members stay", reason=text)
            declined[key] = _Noted("declined", text, known.at if known else now)
        self._declined = declined

    def shown(self, now: float) -> tuple[AutopilotNote, ...]:
        """Give the notes.

        Parameters
        ----------
        now : float
            The time in seconds.

        Returns
        -------
        tuple of AutopilotNote
            What was done lately, newest first, then what is declined.
        """
        noted = (*self._lately, *self._declined.values())
        return tuple(AutopilotNote(note.kind, note.text, max(0.0, now - note.at)) for note in noted)
