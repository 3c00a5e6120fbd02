"""The notes of a leader's autopilot on what it did and declined, for ``trioraft status`` and the page."""

import re
from collections import deque
from typing import Final

from msgspec import Struct

from trioraft.logger import Logger
from trioraft.messages import AutopilotNote, Instant

_log: Final = Logger("trioraft.autopilot")

# So many of the newest changes and refusals are kept.
_KEPT: Final = 5
# A count of seconds, as in "for 12 of 60 s".
_COUNTED: Final = re.compile(r"\d+ of \d+ s")


class _Noted(Struct, frozen=True):
    kind: str
    text: str
    at: Instant


class Notes:
    """Notes on what was done lately, and on what is declined now.

    Parameters
    ----------
    log : Logger, optional
        The log, which gets each new note.
    """

    def __init__(self, log: Logger = _log) -> None:
        self._log = log
        self._lately: deque[_Noted] = deque(maxlen=_KEPT)
        self._declined: dict[str, _Noted] = {}

    def clear(self) -> None:
        """Forget everything, because this node leads anew."""
        self._lately.clear()
        self._declined.clear()

    def changed(self, reason: str, voters: int, now: Instant) -> None:
        """Note a change that has begun.

        Parameters
        ----------
        reason : str
            The change and the reason for it.
        voters : int
            The number of voters from then on.
        now : float
            The time in seconds.
        """
        self._log.info("members change", reason=reason, voters=voters)
        self._lately.appendleft(_Noted("changed", reason, now))

    def refused(self, reason: str, now: Instant) -> None:
        """Note a request, perhaps one of many alike, that was declined.

        Parameters
        ----------
        reason : str
            What was declined, and the reason.
        now : float
            The time in seconds.
        """
        if self._lately and self._lately[0].text == reason:
            return
        self._log.info("members stay", reason=reason)
        self._lately.appendleft(_Noted("declined", reason, now))

    def declines(self, reasons: tuple[str, ...], now: Instant) -> None:
        """Note what is declined at this moment. A text is logged once, not again when only the seconds in it change.

        Parameters
        ----------
        reasons : tuple of str
            What is declined, each with its reason.
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

    def shown(self, now: Instant) -> tuple[AutopilotNote, ...]:
        """List the notes.

        Parameters
        ----------
        now : float
            The time in seconds.

        Returns
        -------
        tuple of AutopilotNote
            The notes on what was done lately, the newest first, then those on what is declined.
        """
        noted = (*self._lately, *self._declined.values())
        return tuple(AutopilotNote(note.kind, note.text, max(0.0, now - note.at)) for note in noted)
