"""The sending side of messages that go in fragments: a small selective-repeat protocol for each session.

It measures the round trip as TCP does (RFC 6298). As in QUIC, each fragment that is sent has a number of its own, so
that a repeated one can be measured too. A fragment that is not acknowledged within a round trip and four deviations
counts as lost and is sent again; that time doubles only when nothing at all comes back. A single loss does not narrow
the window, which is small in any case, because links that lose every tenth datagram must still be used well. The loss
of more than half of what was sent does, and so does that of a fifth where round trips grow too, for then queues are
full.
"""

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from trioraft.clock import FOREVER, LONG_AGO, NEVER
from trioraft.datagrams.sessions import Session
from trioraft.datagrams.wire import EncodedMessage, encode_message
from trioraft.messages import Fragment, FragmentsReceived, Instant, Seconds
from trioraft.round_trip import RoundTrip

WINDOW_MAX: Final = 128 * 1024
_WINDOW_FIRST: Final = 32 * 1024
_WINDOW_MIN: Final = 16 * 1024
# The window is too wide for the path where a larger share than this is lost; where round trips grow too, and so
# queues are full, a much smaller share shows it. The last number is how many fragments the share is averaged over.
_LOSS_MAX: Final = 0.6
_LOSS_QUEUED_MAX: Final = 0.2
_LOSS_FRAGMENTS: Final = 64
_TIMEOUT_FIRST: Final = 0.2
_TIMEOUT_MAX: Final = 1.0
# A timeout exceeds the round trip by this much at least, for the receiver may be busy for a moment.
_DEVIATION_MIN: Final = 0.01
GIVE_UP_SECONDS: Final = 5.0
# After this many timeouts in a row without an answer, the path may be swallowing large datagrams (RFC 8899, section
# 4.3).
_BLACK_HOLE_TIMEOUTS: Final = 3
_BLACK_HOLE_SECONDS: Final = 60.0


class _Split:
    """A message on its way to one peer."""

    __slots__ = ("acknowledged", "count", "data", "flying", "lost", "number", "part_bytes", "sent")

    def __init__(self, number: int, data: bytes, room: int) -> None:
        self.number = number
        self.data = data
        self.count = -(-len(data) // room)
        self.part_bytes = -(-len(data) // self.count)
        self.acknowledged = 0  # bit n is for part n
        self.sent = 0  # how many parts were sent, once at least
        self.lost: deque[int] = deque()
        self.flying: dict[int, int] = {}  # part to sending

    def take(self) -> int | None:
        """Take the next part to send; None when all are on their way."""
        while self.lost:
            part = self.lost.popleft()
            if not self.acknowledged >> part & 1:
                return part
        if self.sent < self.count:
            self.sent += 1
            return self.sent - 1
        return None

    def fragment(self, part: int, sending: int, first: int) -> Fragment:
        start = part * self.part_bytes
        data = self.data[start : start + self.part_bytes]
        return Fragment(self.number, sending, first, len(self.data), self.count, part, data)

    def acknowledge(self, told: FragmentsReceived) -> list[int]:
        """Note what has arrived, and return the numbers of the fragments that were not known to have."""
        before = min(told.before, self.count)
        has = (1 << before) - 1 | int.from_bytes(told.further, "little") << before
        new = has & ~self.acknowledged & ((1 << self.count) - 1)
        self.acknowledged |= new
        landed = []
        for part in [part for part in self.flying if new >> part & 1]:
            landed.append(self.flying.pop(part))
        return landed

    @property
    def is_complete(self) -> bool:
        return self.acknowledged == (1 << self.count) - 1


class _Flight(NamedTuple):
    """A fragment on its way."""

    message: _Split
    part: int
    sent_at: Instant


class _RoundTrip(RoundTrip):
    """The round trip of fragments, with the shortest one, and a timeout that doubles while nothing comes back."""

    __slots__ = ("backoff", "least")

    def __init__(self) -> None:
        super().__init__()
        self.least: Seconds = FOREVER
        self.backoff = 0

    def measured(self, seconds: Seconds) -> None:
        super().measured(seconds)
        self.least = min(self.least, seconds)

    @property
    def has_grown(self) -> bool:
        return self.smoothed is not None and self.smoothed > 1.5 * self.least + _DEVIATION_MIN

    @property
    def patience(self) -> Seconds:
        base = self.timeout(_TIMEOUT_FIRST, margin=_DEVIATION_MIN)
        return max(base, min(base * float(2**self.backoff), _TIMEOUT_MAX))


class Retransmitter:
    """All large messages to one peer.

    Parameters
    ----------
    session : Session
        The session of the peer.
    put : callable
        Puts an encoded message into a datagram to the peer of a session.

    Attributes
    ----------
    messages : dict
        The messages on their way, by number, in order.
    queued_bytes : int
        The size of all of them.
    small_until : float
        The time until which the path is assumed to swallow large datagrams.
    """

    def __init__(self, session: Session, put: Callable[[Session, EncodedMessage], None]) -> None:
        self.session = session
        self.messages: dict[int, _Split] = {}
        self.queued_bytes = 0
        self.small_until = LONG_AGO
        self._put = put
        self._numbered = 0
        self._sendings = 0
        self._flying: dict[int, _Flight] = {}  # by the number of the fragment, in order
        self._flying_bytes = 0
        self._window = _WINDOW_FIRST
        self._round_trip = _RoundTrip()
        self._heard_at = NEVER
        self._loss = 0.0  # the average share of fragments that are lost

    def add(self, data: bytes, room: int, now: Instant) -> None:
        """Take a message, and send as much of it as the window allows."""
        if not self.messages:
            self._heard_at = now
        self._numbered += 1
        self.messages[self._numbered] = _Split(self._numbered, data, room)
        self.queued_bytes += len(data)
        self._pump(now)

    def is_sending(self, data: bytes) -> bool:
        """Check whether the very same message is on its way."""
        return any(message.data == data for message in self.messages.values())

    def _pump(self, now: Instant) -> None:
        first = next(iter(self.messages), 0)
        for message in self.messages.values():
            while self._flying_bytes < self._window:
                part = message.take()
                if part is None:
                    break
                self._sendings += 1
                message.flying[part] = self._sendings
                self._flying[self._sendings] = _Flight(message, part, now)
                self._flying_bytes += message.part_bytes
                self._put(self.session, encode_message(message.fragment(part, self._sendings, first)))
            else:
                return

    def acknowledged(self, told: FragmentsReceived, now: Instant) -> None:
        """Note what has arrived, and send what the window allows now."""
        message = self.messages.get(told.number)
        if message is None:
            return
        self._heard_at = now
        self._round_trip.backoff = 0
        if told.sending in self._flying:
            self._round_trip.measured(now - self._flying[told.sending].sent_at)
        landed = message.acknowledge(told)
        for sending in landed:
            del self._flying[sending]
        self._flying_bytes -= len(landed) * message.part_bytes
        self._loss *= (1 - 1 / _LOSS_FRAGMENTS) ** len(landed)
        self._window = min(self._window + len(landed) * message.part_bytes // 2, WINDOW_MAX)
        if message.is_complete or told.dropped:
            self._remove(message)
        self._pump(now)

    def _remove(self, message: _Split) -> None:
        del self.messages[message.number]
        self.queued_bytes -= len(message.data)
        self._flying_bytes -= len(message.flying) * message.part_bytes
        for sending in message.flying.values():
            del self._flying[sending]

    def next_deadline(self) -> Instant:
        """Compute when the oldest fragment on its way counts as lost."""
        if not self._flying:
            return NEVER
        return next(iter(self._flying.values())).sent_at + self._round_trip.patience

    def handle_timeout(self, now: Instant) -> None:
        """Count as lost the fragments that were not acknowledged in time."""
        timeout = self._round_trip.patience
        silent = self._heard_at <= next(iter(self._flying.values())).sent_at
        while self._flying:
            sending, (message, part, sent_at) = next(iter(self._flying.items()))
            if sent_at + timeout > now:
                break
            del self._flying[sending], message.flying[part]
            message.lost.append(part)
            self._flying_bytes -= message.part_bytes
            self._loss += (1 - self._loss) / _LOSS_FRAGMENTS
        if silent:
            self._round_trip.backoff += 1
            if self._round_trip.backoff == _BLACK_HOLE_TIMEOUTS:
                self.small_until = now + _BLACK_HOLE_SECONDS
        if self._round_trip.backoff > 1 or self._loss > (
            _LOSS_QUEUED_MAX if self._round_trip.has_grown else _LOSS_MAX
        ):
            self._window = max(self._window // 2, _WINDOW_MIN)
            self._loss /= 2

    def resume(self, room: int, now: Instant) -> None:
        """Send again what was lost, in smaller parts if the path no longer takes larger ones."""
        self._fit_parts(room)
        self._pump(now)

    def _fit_parts(self, room: int) -> None:
        """Cut the messages anew whose parts are larger than the path takes now."""
        for message in [m for m in self.messages.values() if m.part_bytes > room]:
            self._remove(message)
            self._numbered += 1
            self.messages[self._numbered] = _Split(self._numbered, message.data, room)
            self.queued_bytes += len(message.data)

    def has_waited(self, now: Instant) -> bool:
        """Check whether nothing has come back for so long that the peer is given up."""
        return now - self._heard_at >= GIVE_UP_SECONDS

    def clear(self) -> int:
        """Drop all messages, and return how many there were."""
        dropped = len(self.messages)
        for message in list(self.messages.values()):
            self._remove(message)
        return dropped
