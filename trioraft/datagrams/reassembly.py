"""The receiving side of messages that come in fragments: what has arrived of them, within bounds.

Only fragments within a confirmed session come here. A message takes, and is counted with, the memory of its whole
size from its first fragment on, so that no choice of fragments makes a process hold more than the bounds allow.
"""

from collections import Counter, OrderedDict
from typing import Final, NamedTuple

from trioraft.clock import NEVER
from trioraft.datagrams.headers import MalformedError
from trioraft.datagrams.sessions import Session
from trioraft.messages import Fragment, FragmentsReceived, Instant

PART_MIN: Final = 128
SESSION_BYTES_MAX: Final = 4 * 1024 * 1024
SESSION_MESSAGES_MAX: Final = 32
# An incomplete message is dropped when nothing of it has come for this long, in seconds.
INCOMPLETE_SECONDS: Final = 10.0
# For this many messages of each session that are whole or were dropped it is remembered which.
_ENDED_MAX: Final = 32
_FURTHER_BYTES: Final = 128
_OVERHEAD: Final = 1024  # what an incomplete message takes beside its bytes


class _Key(NamedTuple):
    session: Session
    number: int


class _Incomplete:
    """A message of which some parts have arrived."""

    __slots__ = ("count", "data", "heard_at", "missing", "part_bytes", "received", "sending")

    def __init__(self, size: int, count: int) -> None:
        self.data = bytearray(size)
        self.count = count
        self.part_bytes = -(-size // count)
        self.received = 0  # bit n is for part n
        self.missing = count
        self.sending = 0
        self.heard_at = 0.0

    @property
    def held_bytes(self) -> int:
        return len(self.data) + _OVERHEAD

    def add(self, fragment: Fragment, now: Instant) -> None:
        """Take a part that does not contradict itself; raise MalformedError when it is none of this message."""
        if (fragment.size, fragment.count) != (len(self.data), self.count):
            raise MalformedError("a fragment does not fit its message")
        self.heard_at = now
        self.sending = max(self.sending, fragment.sending)
        bit = 1 << fragment.part
        if not self.received & bit:
            self.received |= bit
            self.missing -= 1
            start = fragment.part * self.part_bytes
            self.data[start : start + len(fragment.data)] = fragment.data

    def acknowledgement(self, number: int) -> FragmentsReceived:
        before = (~self.received & (self.received + 1)).bit_length() - 1
        further = (self.received >> before) & ((1 << 8 * _FURTHER_BYTES) - 1)
        return FragmentsReceived(
            number, self.sending, before, further.to_bytes(-(-further.bit_length() // 8), "little")
        )


def _check_untrusted(fragment: Fragment) -> None:
    """Raise MalformedError when a fragment contradicts itself."""
    part_bytes = -(-fragment.size // fragment.count)
    start = fragment.part * part_bytes
    if (
        part_bytes < PART_MIN
        or (fragment.count - 1) * part_bytes >= fragment.size
        or len(fragment.data) != min(part_bytes, fragment.size - start)
    ):
        raise MalformedError("a fragment contradicts itself")


class Reassembly:
    """Puts fragments together, for many sessions, within one bound.

    Parameters
    ----------
    counters : Counter
        Counts messages that were ``dropped_incomplete``.
    bytes_max : int
        The most bytes that all incomplete messages may take.

    Attributes
    ----------
    held_bytes : int
        The bytes that they take.
    """

    def __init__(self, counters: Counter[str], bytes_max: int) -> None:
        self.held_bytes = 0
        self._counters = counters
        self._bytes_max = bytes_max
        # In the order in which their last fragments came.
        self._incomplete: OrderedDict[_Key, _Incomplete] = OrderedDict()
        self._numbers: dict[Session, set[int]] = {}  # of the incomplete ones
        self._held: Counter[Session] = Counter()
        self._ended: dict[Session, OrderedDict[int, FragmentsReceived]] = {}
        self._to_tell: dict[_Key, None] = {}

    def add_untrusted(self, session: Session, fragment: Fragment, now: Instant) -> list[bytes]:
        """Take a fragment.

        A message that is whole waits for the earlier ones of its session that are not, as long as the sender is still
        sending those: large messages are often such that must be used in their order.

        Parameters
        ----------
        session : Session
            The confirmed session in which it came.
        fragment : Fragment
            The fragment; nothing in it is believed.
        now : float
            The time, in seconds.

        Returns
        -------
        list of bytes
            The messages that are whole now, in the order in which they were sent.

        Raises
        ------
        MalformedError
            If the fragment contradicts itself, or earlier ones of the same message.
        """
        key = _Key(session, fragment.number)
        self._to_tell[key] = None
        if fragment.number in self._ended.get(session, ()):
            return []
        _check_untrusted(fragment)
        incomplete = self._incomplete.get(key) or self._begin(key, fragment)
        incomplete.add(fragment, now)
        self._incomplete.move_to_end(key)
        return [] if incomplete.missing else self._take_whole(session, fragment.first)

    def _take_whole(self, session: Session, first: int) -> list[bytes]:
        """Take out the messages that need not wait for an earlier one."""
        whole = []
        for number in sorted(self._numbers[session]):
            incomplete = self._incomplete[_Key(session, number)]
            if not incomplete.missing:
                whole.append(bytes(incomplete.data))
                self._end(_Key(session, number), incomplete.acknowledgement(number))
            elif number < first:
                self._drop(_Key(session, number))
            else:
                break
        return whole

    def _begin(self, key: _Key, fragment: Fragment) -> _Incomplete:
        """Make room for a message."""
        session = key.session
        size = fragment.size + _OVERHEAD
        numbers = self._numbers.setdefault(session, set())
        while numbers and (
            len(numbers) >= SESSION_MESSAGES_MAX or self._held[session] + size > SESSION_BYTES_MAX + _OVERHEAD
        ):
            self._drop(min((_Key(session, n) for n in numbers), key=lambda known: self._incomplete[known].heard_at))
        while self._incomplete and self.held_bytes + size > self._bytes_max:
            self._drop(next(iter(self._incomplete)))
        incomplete = self._incomplete[key] = _Incomplete(fragment.size, fragment.count)
        self._numbers.setdefault(session, set()).add(key.number)
        self._held[session] += size
        self.held_bytes += size
        return incomplete

    def _drop(self, key: _Key) -> None:
        self._counters["dropped_incomplete"] += 1
        self._to_tell[key] = None
        self._end(key, FragmentsReceived(key.number, self._incomplete[key].sending, 0, dropped=True))

    def _end(self, key: _Key, acknowledgement: FragmentsReceived) -> None:
        self._release(key)
        ended = self._ended.setdefault(key.session, OrderedDict())
        ended[key.number] = acknowledgement
        if len(ended) > _ENDED_MAX:
            ended.popitem(last=False)

    def _release(self, key: _Key) -> None:
        session, number = key
        size = self._incomplete.pop(key).held_bytes
        self.held_bytes -= size
        self._held[session] -= size
        self._numbers[session].discard(number)
        if not self._numbers[session]:
            del self._numbers[session], self._held[session]

    def acknowledgements(self) -> list[tuple[Session, FragmentsReceived]]:
        """Drain the acknowledgements that are to be sent.

        Returns
        -------
        list of (Session, FragmentsReceived)
            One for each message of which a fragment has arrived since the last call, and its session.
        """
        told = []
        for key in self._to_tell:
            session, number = key
            incomplete = self._incomplete.get(key)
            if incomplete is not None:
                told.append((session, incomplete.acknowledgement(number)))
            elif number in self._ended.get(session, ()):
                told.append((session, self._ended[session][number]))
        self._to_tell.clear()
        return told

    def next_deadline(self) -> Instant:
        """Compute when :meth:`handle_timer` has to be called; never, when nothing is incomplete."""
        if not self._incomplete:
            return NEVER
        return next(iter(self._incomplete.values())).heard_at + INCOMPLETE_SECONDS

    def handle_timer(self, now: Instant) -> None:
        """Drop the messages of which nothing has come for long.

        Parameters
        ----------
        now : float
            The time, in seconds.
        """
        while self.next_deadline() <= now:
            self._drop(next(iter(self._incomplete)))

    def forget(self, session: Session) -> None:
        """Drop everything of a session.

        Parameters
        ----------
        session : Session
            A session that was dropped.
        """
        for number in tuple(self._numbers.get(session, ())):
            self._release(_Key(session, number))
        self._ended.pop(session, None)
