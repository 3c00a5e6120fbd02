"""The log: one line for each event to standard error, as JSON or for people.

The programs of this package write it by way of :mod:`trioraft.streams`, so that it neither blocks nor ends them.
"""

import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

from trioraft.logger import Logger
from trioraft.streams import QueuedStream
from trioraft.texts import escaped, printable_lines

if TYPE_CHECKING:
    from structlog.typing import ExcInfo

# A line as its fields: the time, the level, the event, and whatever else is known.
_Line = dict[str, Any]


def configure_logging(level: str, log_format: str = "auto", stream: TextIO | None = None) -> None:
    """Set up the log of this process, including that of libraries.

    Parameters
    ----------
    level : str
        The lowest level that is written (``LOGGING``): ``DEBUG``, ``INFO``, ``WARNING``, ``ERROR`` or
        ``CRITICAL``. Libraries are only heard from ``WARNING`` on, unless it is ``DEBUG``.
    log_format : str
        ``json``, ``console``, or ``auto`` for ``console`` on a terminal, else ``json`` (``LOG_FORMAT``).
    stream : text file, optional
        Where to write; standard error by default.
    """
    stream = stream or sys.stderr
    threshold = logging.getLevelNamesMapping()[level]
    terminal = stream.isatty()
    console = log_format == "console" or (log_format == "auto" and terminal)
    lines = _Lines(_for_people(colors=terminal) if console else _as_json)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(lines)
    logging.basicConfig(
        handlers=[handler],
        level=threshold if threshold <= logging.DEBUG else max(threshold, logging.WARNING),
        force=True,
    )
    logging.getLogger("trioraft").setLevel(threshold)
    Logger.always_logging = True
    logging.captureWarnings(True)
    if isinstance(stream, QueuedStream):
        stream.describe_gap = lines.gap


class _Lines(logging.Formatter):
    """Makes the lines of the log.

    Parameters
    ----------
    render : callable
        Makes the text of a line.
    """

    def __init__(self, render: Callable[[_Line], str]) -> None:
        super().__init__()
        self._render = render

    def format(self, record: logging.LogRecord) -> str:
        """Make the line of a record."""
        line = _start(record.created, record.levelname.lower(), record.getMessage())
        line |= record.fields if hasattr(record, "fields") else {"logger": record.name}
        if record.exc_info:
            line["exc_info"] = record.exc_info
        return self._render(line)

    def gap(self, lines_dropped: int) -> str:
        """Make the line that stands for lines that are missing."""
        event = "lines of the log are missing here, because they were not taken"
        return self._render(_start(datetime.now(UTC).timestamp(), "warning", event) | {"lines": lines_dropped})


def _start(seconds: float, level: str, event: str) -> _Line:
    """Begin a line with the fields that every line has at its start."""
    time = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return {"timestamp": time, "level": level, "event": event}


def _as_json(line: _Line) -> str:
    if caught := line.pop("exc_info", None):
        line["exception"] = logging.Formatter().formatException(caught)
    return json.dumps(line, default=str)


def _for_people(*, colors: bool) -> Callable[[_Line], str]:
    """Make the renderer of lines for people: that of structlog, which is loaded for it only."""
    # structlog would load rich for tracebacks of its own, which are not those of this log.
    with _without("rich"):
        import structlog.dev  # noqa: PLC0415

    def write_traceback(stream: TextIO, exception: "ExcInfo") -> None:
        text = io.StringIO()
        structlog.dev.plain_traceback(text, exception)
        stream.write(printable_lines(text.getvalue()))

    renderer = structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=write_traceback)
    # No text that others wrote, such as a node's name or a script's output, must control a terminal.
    return lambda line: renderer(None, "", {name: _escape(value) for name, value in line.items()})


def _escape(value: object) -> object:
    return escaped(value) if isinstance(value, str) else value


@contextmanager
def _without(name: str) -> Iterator[None]:
    """Have a module that is not loaded yet seem to be absent, for imports that can do without it."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment] # what the import system takes for an absent module
    try:
        yield
    finally:
        del sys.modules[name]
