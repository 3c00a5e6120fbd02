"""The standard output and standard input of commands, whatever these are.

Either may be closed; standard output may be a file on a full disk, or a pipe whose reader has gone. A command that
has changed the cluster succeeds all the same, and its exit status says so; a command that only prints has failed.
"""

import io
import os
import select
import sys
from typing import Any, Final

from trioraft.cli.exits import REFUSED, WRONG, CommandError
from trioraft.texts import printable, printable_lines

_STDOUT: Final = 1
_SHOWN_MAX: Final = 1000


class OutputError(CommandError):
    """Standard output could not be written.

    Parameters
    ----------
    error : OSError
        The reason.

    Attributes
    ----------
    reader_gone : bool
        Whether the reader of the pipe has gone, because it has seen enough.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(f"standard output: {(error.strerror or str(error)).lower()}", REFUSED)
        self.reader_gone = isinstance(error, BrokenPipeError)


class _Descriptor(io.FileIO):
    """Standard output that fails once and drops the rest, so that the end of the process does not fail again."""

    def __init__(self, *, is_closed: bool) -> None:
        super().__init__(_STDOUT, "w", closefd=False)
        self._is_closed = is_closed
        self._has_failed = False

    def write(self, data: Any) -> int:
        if self._has_failed:
            return len(data)
        try:
            if self._is_closed:
                raise OSError(0, "closed")
            while (written := super().write(data)) is None:  # another process has made the pipe non-blocking
                poll = select.poll()
                poll.register(_STDOUT, select.POLLOUT)
                poll.poll()
        except OSError as error:
            self._has_failed = True
            raise OutputError(error) from None
        return written


def check_stdout(*, is_closed: bool) -> None:
    """Raise :class:`OutputError` where standard output cannot be written, from now on.

    Parameters
    ----------
    is_closed : bool
        Whether it was closed when this process began; its number is that of another file then.
    """
    before = sys.stdout
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_Descriptor(is_closed=is_closed)),
        encoding="utf-8" if before is None else before.encoding,
        errors="backslashreplace" if before is None else before.errors,
        line_buffering=not is_closed and os.isatty(_STDOUT),
    )


def tell(text: str) -> None:
    """Print what the command has done; a failure to print does not fail the command.

    Parameters
    ----------
    text : str
        The text.
    """
    try:
        print(printable_lines(text), flush=True)  # noqa: T201 - what commands are for
    except OutputError as error:
        if not error.reader_gone:
            shown = printable(" ".join(text.split()))[:_SHOWN_MAX]
            print(f"trioraft: {error}; it was done, and is not printed there: {shown}", file=sys.stderr)  # noqa: T201


def read_stdin(most: int) -> bytes:
    """Read standard input.

    Parameters
    ----------
    most : int
        The most bytes to read.

    Returns
    -------
    bytes
        The bytes.

    Raises
    ------
    CommandError
        If standard input is closed, or cannot be read.
    """
    if sys.stdin is None:
        raise CommandError("standard input: closed; allowed: a file or a pipe", WRONG)
    try:
        return sys.stdin.buffer.read(most)
    except OSError as error:
        raise CommandError(f"standard input: {(error.strerror or str(error)).lower()}", WRONG) from None


def stdin_is_terminal() -> bool:
    """Check whether a user can be asked."""
    return sys.stdin is not None and sys.stdin.isatty()
