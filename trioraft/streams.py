"""Standard streams that never block the program and never end it.

Standard error may be a pipe that nobody reads, or whose reader has gone; a terminal that was stopped with Ctrl-S; a
file on a full disk; a pipe that somebody else has made non-blocking; or closed from the start. A write that blocks
would block heartbeats, and a write that fails would raise where nobody expects it. So a thread writes, and everybody
else puts lines into a queue of bounded size. When the queue is full, the oldest lines are dropped and counted,
because the newest ones tell why a program ends. A line in their place says how many they were.
"""

import atexit
import contextlib
import io
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Literal

_QUEUE_BYTES: Final = 256 * 1024
# At its end the program waits at most so long for the queue to be written, in seconds.
_LAST_WORDS: Final = 1.0
# A pipe that somebody has made non-blocking is tried again after so many seconds.
_RETRY: Final = 0.01


class QueuedStream(io.TextIOBase):
    """A text stream whose lines a thread writes to a file descriptor.

    Parameters
    ----------
    descriptor : int or None
        The file descriptor; None for nowhere, because the stream was closed when the program began.
    encoding : str, optional
        The encoding of the text; characters that it lacks are escaped.

    Attributes
    ----------
    encoding : str
        The encoding.
    lines_dropped : int
        The number of lines that could not be written so far.
    describe_gap : callable
        Makes the line, without its end, that stands for a number of dropped ones.
    """

    encoding = "utf-8"

    def __init__(self, descriptor: int | None, encoding: str = "utf-8") -> None:
        super().__init__()
        self.encoding = encoding
        self.lines_dropped = 0
        self.describe_gap: Callable[[int], str] = lambda lines: f"trioraft: {lines} lines were dropped here"
        self._descriptor = descriptor
        self._unfinished = ""
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._gap = 0  # lines that were dropped since the last line about that
        self._torn = False  # whether the last line was written in part
        self._writing = False
        self._changed = threading.Condition()  # may be entered again: a finalizer that warns can run anywhere
        if descriptor is not None:
            threading.Thread(target=self._write_all, name="trioraft stream", daemon=True).start()
            atexit.register(self.drain, _LAST_WORDS)

    # --- the methods of a text stream -----------------------------------------------------------------------

    def writable(self) -> bool:
        """Return True: this is a stream to write to."""
        return True

    def fileno(self) -> int:
        """Return the file descriptor."""
        if self._descriptor is None:
            raise io.UnsupportedOperation("the stream was closed when the program began")
        return self._descriptor

    def isatty(self) -> bool:
        """Check whether it is a terminal."""
        return self._descriptor is not None and os.isatty(self._descriptor)

    def write(self, text: str) -> int:
        """Queue text, each line as soon as it is whole."""
        with self._changed:
            lines, end, self._unfinished = (self._unfinished + text).rpartition("\n")
            if end:
                self._enqueue(lines + end)
        return len(text)

    def flush(self) -> None:
        """Queue an unfinished line too; this does not wait until it is written."""
        with self._changed:
            text, self._unfinished = self._unfinished, ""
            if text:
                self._enqueue(text)

    @property
    def has_room(self) -> bool:
        """Whether at most half of the queue is full."""
        return self._descriptor is None or 2 * self._queued_bytes <= _QUEUE_BYTES

    def drain(self, seconds: float) -> None:
        """Wait until everything is written, but no longer than some seconds."""
        self.flush()
        until = time.monotonic() + seconds
        with self._changed:
            while (self._queue or self._writing) and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)

    # --- the queue ------------------------------------------------------------------------------------------

    def _enqueue(self, text: str) -> None:
        data = self._encode(text)
        if self._descriptor is None:
            self._count(data)
            return
        self._queue.append(data)
        self._queued_bytes += len(data)
        while self._queued_bytes > _QUEUE_BYTES:
            self._count(self._take())
        self._changed.notify_all()

    def _encode(self, text: str) -> bytes:
        return text.encode(self.encoding, "backslashreplace")

    def _take(self) -> bytes:
        data = self._queue.popleft()
        self._queued_bytes -= len(data)
        return data

    def _count(self, data: bytes) -> None:
        lines = max(1, data.count(b"\n"))
        self.lines_dropped += lines
        self._gap += lines

    # --- the thread -----------------------------------------------------------------------------------------

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                while not self._queue:
                    self._changed.wait()
                self._writing = True
                gap, self._gap = self._gap, 0
                data = self._take()
            said = not gap or self._write_one(self._encode(f"{self.describe_gap(gap)}\n"))
            written = said and self._write_one(data)
            if not written:
                with self._changed:
                    self._gap += 0 if said else gap
                    self._count(data)

    def _write_one(self, data: bytes) -> bool:
        """Write lines, however long the system takes for that; return False when it does not take them."""
        assert self._descriptor is not None  # noqa: S101 - there is no thread without one
        left = memoryview(b"\n" + data if self._torn else data)
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
                self._torn = True
            except BlockingIOError:
                self._wait_writable(self._descriptor)
            except OSError:
                return False
        self._torn = False
        return True

    @staticmethod
    def _wait_writable(descriptor: int) -> None:
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        poll.poll()
        time.sleep(_RETRY)


# --- the streams of this process ----------------------------------------------------------------------------


def open_standard_descriptors() -> None:
    """Open closed descriptors from 0 to 2 on ``/dev/null``, so that no file or socket becomes one of them."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free descriptor is this one


def queue_standard_stream(name: Literal["stdout", "stderr"]) -> None:
    """Let a thread write a standard stream of this process from now on.

    Parameters
    ----------
    name : {'stdout', 'stderr'}
        The stream. One that a program has replaced by an object without a file descriptor stays as it is.
    """
    stream = getattr(sys, name)
    if isinstance(stream, QueuedStream):
        return
    if stream is None:
        setattr(sys, name, QueuedStream(None))
        return
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):
        return
    with contextlib.suppress(OSError):
        stream.flush()
    setattr(sys, name, QueuedStream(descriptor, stream.encoding))


def log_lines_dropped() -> int:
    """Count the lines for standard error that were dropped so far.

    Returns
    -------
    int
        The number; 0 in a program that has its standard error to itself.
    """
    return sys.stderr.lines_dropped if isinstance(sys.stderr, QueuedStream) else 0


def log_has_room() -> bool:
    """Check whether more lines for standard error would be written rather than push others out.

    Returns
    -------
    bool
        Whether the queue is at most half full; True in a program that has its standard error to itself.
    """
    return not isinstance(sys.stderr, QueuedStream) or sys.stderr.has_room


def write_last_words(text: str) -> None:
    """Write to standard error before the process ends abruptly: within a second or not at all, and never raise.

    Parameters
    ----------
    text : str
        The text.
    """

    def write() -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError):  # also None, or closed
            sys.stderr.write(text)
            sys.stderr.flush()
            if isinstance(sys.stderr, QueuedStream):
                sys.stderr.drain(_LAST_WORDS)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    writer.join(_LAST_WORDS)
