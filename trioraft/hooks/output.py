"""The output of scripts on its way to the log.

A supervisor passes lines on in parcels, and waits until one is taken before it sends many more; meanwhile it reads
nothing from the script, which waits as it would for a slow pipe. A parcel is taken when its lines are in the log and
the log can be written on. When that takes longer than a moment, the supervisor drops lines, and says how many, rather
than let a script wait for whoever reads the log.
"""

from collections.abc import Callable
from typing import Final

import trio

from trioraft.hooks.launcher import Dropped, Output, Taken
from trioraft.logger import Logger
from trioraft.streams import log_has_room

_log: Final = Logger("trioraft.hooks")

_LOOK_AGAIN: Final = 0.02  # seconds


class ScriptOutput:
    """The output of a node's scripts.

    Parameters
    ----------
    send : callable
        Sends a command to the supervisor.

    Attributes
    ----------
    lines_dropped : int
        The number of lines that were not logged.
    """

    def __init__(self, send: Callable[[Taken], None]) -> None:
        self.lines_dropped = 0
        self._send = send
        self._owed = 0
        self._news = trio.Event()

    def begin(self) -> None:
        """Forget the parcels of a supervisor that is gone."""
        self._owed = 0

    def take(self, event: Output | Dropped, script: str, path: str) -> None:
        """Log the lines of a parcel, or how many lines are missing.

        Parameters
        ----------
        event : Output or Dropped
            What the supervisor has sent.
        script, path : str
            The script that wrote the lines.
        """
        if isinstance(event, Dropped):
            self.lines_dropped += event.lines
            _log.warning(
                "lines of a script are missing here, because the log was not taken",
                script=script,
                path=path,
                lines=event.lines,
            )
            return
        for line in event.lines:
            _log.info("script output", script=script, line=line)
        self._owed += 1
        if log_has_room():
            self._take_all()
        else:
            self._news.set()

    def _take_all(self) -> None:
        if self._owed:
            self._send(Taken(parcels=self._owed))
            self._owed = 0

    async def run(self) -> None:
        """Take parcels whose lines had no room in the log at first, until cancelled."""
        while True:
            await self._news.wait()
            while not log_has_room():  # noqa: ASYNC110 - a thread writes it, which has no event
                await trio.sleep(_LOOK_AGAIN)
            self._news = trio.Event()
            self._take_all()
