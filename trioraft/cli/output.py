"""The output of ``trioraft up``: its own lines, and the lines of the processes' logs that people want to see."""

import time
from typing import Any, Final

import msgspec

from trioraft.texts import printable

# Within this time the same line of several nodes is shown once, in seconds.
_REPEAT_SECONDS: Final = 10.0


def say(text: str, name: str = "") -> None:
    """Print a line.

    Parameters
    ----------
    text : str
        The line.
    name : str, optional
        The process that the line is about.
    """
    line = f"{time.strftime('%H:%M:%S')} {name:<8} {text}"
    print(printable(line), flush=True)  # noqa: T201 - what the command is for


class Output:
    """The lines of the processes' logs that people want to see.

    Parameters
    ----------
    everything : bool
        Whether to show every line; otherwise only warnings, errors, and the starts, ends and output of scripts.
    """

    def __init__(self, everything: bool) -> None:
        self._everything = everything
        self._said: dict[str, float] = {}

    def show(self, name: str, line: str, *, quietly: bool = False) -> None:
        """Show a line, if people want to see it.

        Parameters
        ----------
        name : str
            The process that wrote it.
        line : str
            The line: JSON from the log, or anything else.
        quietly : bool
            Whether to show errors only.
        """
        try:
            fields = msgspec.json.decode(line, type=dict[str, Any])
            event, level = str(fields.pop("event")), str(fields.pop("level", ""))
        except (msgspec.DecodeError, KeyError):
            say(line, name)
            return
        if event == "script output":
            say(f"| {fields.get('line', '')}", name)
            return
        matters = level in {"error", "critical"} or self._everything
        if matters or (not quietly and (level == "warning" or event.startswith("script "))):
            self._tell(name, event, level, fields)

    def _tell(self, name: str, event: str, level: str, fields: dict[str, Any]) -> None:
        exception = str(fields.pop("exception", ""))
        details = "".join(
            f" {key}={value}" for key, value in fields.items() if key not in {"timestamp", "node", "name", "logger"}
        )
        text = f"{level}: {event}{details}" if level != "info" else f"{event}{details}"
        now = time.monotonic()
        if exception or now - self._said.get(text, -_REPEAT_SECONDS) >= _REPEAT_SECONDS:
            say(text, name)
        self._said = {said: at for said, at in self._said.items() if now - at < _REPEAT_SECONDS}
        self._said[text] = now
        for line in exception.splitlines():
            say(line, name)
