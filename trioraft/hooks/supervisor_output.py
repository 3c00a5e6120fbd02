"""The channel of a supervisor to its node, and the way of a script's output through it.

This belongs to the program :mod:`trioraft.hooks.supervisor`, and so imports nothing of trioraft.
"""

import json
import os
import time

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

_CHUNK = 65536
_LINE_BYTES = 4096
_BUFFER_BYTES = 262144
# A script that floods its output must not keep the node from its heartbeats: it is read only as fast as this.
_LINES_PER_SECOND = 10_000.0
_LINES_AT_ONCE = 1000.0
# The lines of one event, and the events that may be under way. The node takes each when it is written to its log.
_PARCEL_LINES = 100
_PARCEL_BYTES = 16384
_PARCELS = 4
# When the node has taken nothing for so long, lines are dropped, so that no script waits for whoever reads the log.
_PATIENCE = 0.08
_REPORT_INTERVAL = 0.1


def boottime() -> float:
    """Read the clock of the deadlines."""
    return time.clock_gettime(_CLOCK)


# --- the channel to the node --------------------------------------------------------------------------------


class Channel:
    """The channel of JSON lines to and from the node, which never waits for the node."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        os.set_inheritable(fd, False)
        self.fd = fd
        self.closed = False
        self.outgoing = bytearray()
        self._incoming = b""

    def send(self, event: str, **fields: object) -> None:
        """Queue an event, and send what can be sent now."""
        self.outgoing += json.dumps({"event": event, **fields}).encode() + b"\n"
        self.flush()

    def flush(self) -> None:
        """Send as much of the queue as the socket takes."""
        try:
            while self.outgoing and not self.closed:
                del self.outgoing[: os.write(self.fd, self.outgoing)]
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            self.closed = True
        if self.closed:
            self.outgoing.clear()

    def receive(self) -> list[bytes]:
        """Read what has arrived."""
        try:
            data = os.read(self.fd, _CHUNK)
        except BlockingIOError:
            return []
        except ConnectionResetError:
            data = b""
        self.closed = self.closed or not data
        *lines, self._incoming = (self._incoming + data).split(b"\n")
        return lines


# --- the output of a script ---------------------------------------------------------------------------------


class Output:
    """The output of a script, passed on line by line as fast as the node takes it.

    A script waits, as at any pipe that is full, while the node is slower for a moment. When the node takes nothing,
    as one does that is stopped or whose log nobody reads, lines are dropped and counted instead.
    """

    def __init__(self, fd: int, channel: Channel) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self.open = True
        self._channel = channel
        self._begun = b""
        self._lines: list[bytes] = []  # read, and not passed on
        self._under_way = 0  # parcels
        self._stuck_since: float | None = None
        self._dropped = 0
        self._report_at = 0.0
        self._allowance = _LINES_AT_ONCE
        self._counted_at = boottime()

    @property
    def wants(self) -> bool:
        """Whether more is to be read now."""
        return self.open and not self._lines

    def taken(self, parcels: int) -> None:
        """Note that the node has taken parcels."""
        self._under_way = max(0, self._under_way - parcels)
        self.work()

    def patience(self) -> float | None:
        """Compute after how many seconds :meth:`work` is due; None where nothing waits."""
        if self._dropped:
            return max(0.0, self._report_at - boottime())
        if not self._lines:
            return None
        if self._stuck_since is not None:
            return max(0.0, self._stuck_since + _PATIENCE - boottime())
        return _PARCEL_LINES / _LINES_PER_SECOND

    def work(self) -> None:
        """Pass on what can be passed on, and drop what has waited for too long."""
        now = boottime()
        self._allowance = min(_LINES_AT_ONCE, self._allowance + (now - self._counted_at) * _LINES_PER_SECOND)
        self._counted_at = now
        while self._lines and self._under_way < _PARCELS and self._allowance >= _PARCEL_LINES:
            self._stuck_since = None
            self._send_parcel()
        if self._lines and self._under_way >= _PARCELS:
            if self._stuck_since is None:
                self._stuck_since = now
            elif now >= self._stuck_since + _PATIENCE:  # it stays stuck until the node takes a parcel
                self._dropped += len(self._lines)
                self._lines = []
        if self._dropped and now >= self._report_at:
            self._report_dropped(now)

    def read(self) -> bool:
        """Read a chunk; return whether there was one."""
        try:
            data = os.read(self.fd, _CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self.open = False
            return False
        *lines, self._begun = (self._begun + data).split(b"\n")
        for line in lines:
            self._lines += [line[at : at + _LINE_BYTES] for at in range(0, len(line) or 1, _LINE_BYTES)]
        while len(self._begun) > _LINE_BYTES:
            self._lines.append(self._begun[:_LINE_BYTES])
            self._begun = self._begun[_LINE_BYTES:]
        self.work()
        return True

    def read_rest(self) -> None:
        """Pass on what a process had written before it ended, without waiting for the node."""
        # Bounded, because another process may go on writing.
        for _ in range(64):
            self._flush()
            if not self.open or not self.read():
                break
        self._flush()

    def finish(self) -> None:
        """Pass on the rest, when all processes that could write have ended, and close."""
        self.read_rest()
        if self._begun:
            self._lines.append(self._begun)
        self._flush()
        if self._dropped:
            self._report_dropped(boottime())
        os.close(self.fd)

    def _flush(self) -> None:
        while self._lines and len(self._channel.outgoing) < _BUFFER_BYTES:
            self._send_parcel()
        self._dropped += len(self._lines)
        self._lines = []

    def _send_parcel(self) -> None:
        count = size = 0
        while count < min(_PARCEL_LINES, len(self._lines)) and size < _PARCEL_BYTES:
            size += len(self._lines[count])
            count += 1
        parcel, self._lines = self._lines[:count], self._lines[count:]
        self._allowance -= count
        self._under_way += 1
        self._channel.send("output", lines=[line.decode(errors="replace").rstrip() for line in parcel])

    def _report_dropped(self, now: float) -> None:
        self._report_at = now + _REPORT_INTERVAL
        if len(self._channel.outgoing) < _BUFFER_BYTES:
            self._channel.send("dropped", lines=self._dropped)
            self._dropped = 0
