"""Log lines that strangers can cause: at most one a minute, with the number of those that were left out before."""

import time
from typing import Any, Final

from trioraft.clock import LONG_AGO
from trioraft.logger import Logger

_PAUSE: Final = 60.0  # seconds

log = Logger("trioraft.monitor")


class Notice:
    """A warning that is written at most once a minute.

    Parameters
    ----------
    event : str
        The text of the line.
    """

    def __init__(self, event: str) -> None:
        self._event = event
        self._again_at = LONG_AGO
        self._left_out = 0

    def write(self, **fields: Any) -> None:
        """Write the line, or only count it when the last one is less than a minute old.

        Parameters
        ----------
        **fields
            The fields of the line beside its text.
        """
        now = time.monotonic()
        if now < self._again_at:
            self._left_out += 1
            return
        more = {"left_out": self._left_out} if self._left_out else {}
        log.warning(self._event, **fields, **more)
        self._again_at, self._left_out = now + _PAUSE, 0
