"""The receiving side of messages that come in fragments: what has arrived, within bounds.

Only what is within a confirmed session comes here. A message takes the memory of its whole size from its first
fragment on, and counts with it, so that no fragments, however chosen, make us hold more than the bounds say.
"""

from collections import Counter, OrderedDict
from typing import Final

from trioraft.clock import NEVER
from trioraft.datagrams.headers import MalformedError
from trioraft.datagrams.sessions import Session
from trioraft.messages import Fragment, FragmentsReceived

PART_MIN: Final = 128
SESSION_BYTES_MAX: Final = 4 * 1024 * 1024
SESSION_MESSAGES_MAX: Final = 32
# An incomplete message is dropped when nothing of it has come for so long, in seconds.
INCOMPLETE_SECONDS: Final = 10.0
# Of how many messages that have ended it is remembered how, for each session.
_ENDED_MAX: Final = 32
_FURTHER_BYTES: Final = 128
_OVERHEAD: Final = 1024  # of an incomplete message, for what there is beside its bytes


class _Incomplete:
    """A message of which something has arrived."""

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

    def add(self, fragment: Fragment, now: float) -> None:
        """Take in a part that does not contradict itself; raise MalformedError when it is none of this message."""
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
        How many bytes the incomplete messages may take together.

    Attributes
    ----------
    held_bytes : int
        How many they take.
    """

    def __init__(self, counters: Counter[str], bytes_max: int) -> None:
        self.held_bytes = 0
        self._counters = counters
        self._bytes_max = bytes_max
        # The one that was heard of last is last.
        self._incomplete: OrderedDict[tuple[Session, int], _Incomplete] = OrderedDict()
        self._numbers: dict[Session, set[int]] = {}  # of the incomplete ones
        self._held: Counter[Session] = Counter()
        self._ended: dict[Session, OrderedDict[int, FragmentsReceived]] = {}
        self._to_tell: dict[tuple[Session, int], None] = {}

    def add_untrusted(self, session: Session, fragment: Fragment, now: float) -> list[bytes]:
        """Take in a fragment.

        A message that is whole waits for the earlier ones of its session that are not, as long as the sender goes
        on with those: what is cut up is often what must be used in its order.

        Parameters
        ----------
        session : Session
            A confirmed session in which it came.
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
        key = (session, fragment.number)
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
            incomplete = self._incomplete[session, number]
            if not incomplete.missing:
                whole.append(bytes(incomplete.data))
                self._end((session, number), incomplete.acknowledgement(number))
            elif number < first:
                self._drop((session, number))
            else:
                break
        return whole

    def _begin(self, key: tuple[Session, int], fragment: Fragment) -> _Incomplete:
        """Make room for a message."""
        session = key[0]
        size = fragment.size + _OVERHEAD
        numbers = self._numbers.setdefault(session, set())
        while numbers and (
            len(numbers) >= SESSION_MESSAGES_MAX or self._held[session] + size > SESSION_BYTES_MAX + _OVERHEAD
        ):
            self._drop(min(((session, n) for n in numbers), key=lambda known: self._incomplete[known].heard_at))
        while self._incomplete and self.held_bytes + size > self._bytes_max:
            self._drop(next(iter(self._incomplete)))
        incomplete = self._incomplete[key] = _Incomplete(fragment.size, fragment.count)
        self._numbers.setdefault(session, set()).add(key[1])
        self._held[session] += size
        self.held_bytes += size
        return incomplete

    def _drop(self, key: tuple[Session, int]) -> None:
        self._counters["dropped_incomplete"] += 1
        self._to_tell[key] = None
        self._end(key, FragmentsReceived(key[1], self._incomplete[key].sending, 0, dropped=True))

    def _end(self, key: tuple[Session, int], acknowledgement: FragmentsReceived) -> None:
        self._release(key)
        ended = self._ended.setdefault(key[0], OrderedDict())
        ended[key[1]] = acknowledgement
        if len(ended) > _ENDED_MAX:
            ended.popitem(last=False)

    def _release(self, key: tuple[Session, int]) -> None:
        session, number = key
        size = self._incomplete.pop(key).held_bytes
        self.held_bytes -= size
        self._held[session] -= size
        self._numbers[session].discard(number)
        if not self._numbers[session]:
            del self._numbers[session], self._held[session]

    def acknowledgements(self) -> list[tuple[Session, FragmentsReceived]]:
        """Drain what is to be told to the senders.

        Returns
        -------
        list of (Session, FragmentsReceived)
            One for each message of which a fragment has arrived since the last call.
        """
        told = []
        for session, number in self._to_tell:
            incomplete = self._incomplete.get((session, number))
            if incomplete is not None:
                told.append((session, incomplete.acknowledgement(number)))
            elif number in self._ended.get(session, ()):
                told.append((session, self._ended[session][number]))
        self._to_tell.clear()
        return told

    def next_deadline(self) -> float:
        """Tell when :meth:`handle_timer` wants to be called; infinity when nothing is incomplete."""
        if not self._incomplete:
            return NEVER
        return next(iter(self._incomplete.values())).heard_at + INCOMPLETE_SECONDS

    def handle_timer(self, now: float) -> None:
        """Drop what nothing has come of for long.

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
            A session that is no more.
        """
        for number in tuple(self._numbers.get(session, ())):
            self._release((session, number))
        self._ended.pop(session, None)
