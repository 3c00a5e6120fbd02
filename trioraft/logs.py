"""The log: one line for each event to standard error, as JSON or for people.

The programs of this package write it by way of :mod:`trioraft.streams`, so that it neither blocks nor ends them.
"""

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from trioraft.streams import QueuedStream
from trioraft.texts import escaped, printable_lines


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


# structlog would load it for tracebacks of its own, which are not those of this log: 4 MB, and a tenth of each start.
with _without("rich"):
    import structlog
    from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger


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
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    ending: list[Processor] = (
        [_escape, structlog.dev.ConsoleRenderer(colors=terminal, exception_formatter=_write_traceback)]
        if console
        else [structlog.processors.format_exc_info, _in_order, structlog.processors.JSONRenderer(default=str)]
    )
    structlog.configure(
        processors=[*common, *ending],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*common, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending],
        )
    )
    logging.basicConfig(
        handlers=[handler],
        level=threshold if threshold <= logging.DEBUG else max(threshold, logging.WARNING),
        force=True,
    )
    logging.captureWarnings(True)
    if isinstance(stream, QueuedStream):
        stream.describe_gap = lambda lines: _render([*common, *ending], lines)


def _render(processors: list[Processor], lines_dropped: int) -> str:
    """Make the line of the log that stands for lines that are missing."""
    line: Any = {"event": "lines of the log are missing here, because they were not taken", "lines": lines_dropped}
    for process in processors:
        line = process(None, "warning", line)
    return str(line)


def _escape(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Let no text that others wrote, such as a node's name or a script's output, control a terminal."""
    return {key: escaped(value) if isinstance(value, str) else value for key, value in event.items()}


def _write_traceback(stream: TextIO, exception: ExcInfo) -> None:
    text = io.StringIO()
    structlog.dev.plain_traceback(text, exception)
    stream.write(printable_lines(text.getvalue()))


def _in_order(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Put the fields that every line has at its start."""
    first = {key: event.pop(key) for key in ("timestamp", "level", "event") if key in event}
    return {**first, **event}
