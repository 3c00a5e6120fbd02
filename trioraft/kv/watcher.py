"""A watch as a client sees it: the changes of keys, fetched page by page from any node that answers."""

from typing import Final, Protocol, Self

from trioraft.kv.commands import Event, Range
from trioraft.kv.errors import KeyValueError, expect
from trioraft.kv.questions import WHOLE_REVISIONS, Answer, Question, WatchAnswer, WatchEvents
from trioraft.kv.results import Error, ErrorCode, RangeResult

# A watch asks again when it had no answer for so many seconds: only then does it notice that a node is gone.
_WATCH_PATIENCE: Final = 5.0


class Watched(Protocol):
    """What a watch needs from a client of the store."""

    @property
    def restores(self) -> int:
        """The number of times that the cluster's data was restored from a backup."""

    async def range(self, request: Range) -> RangeResult:
        """Read a range of keys."""

    async def ask_store(self, question: Question, *, patience: float) -> Answer:
        """Ask the program around the store."""


class Watcher:
    """The changes of keys, one by one, each once and in order; :meth:`KeyMethods.watch` makes it.

    It keeps nothing open between two calls, and goes on at another node when one is lost. It raises a
    :class:`KeyValueError` with ``ErrorCode.COMPACTED`` when it came too late, or when the cluster was restored or
    recovered meanwhile, so that revisions began again from an earlier one. It raises one with
    ``ErrorCode.FUTURE_REVISION`` when the cluster has not reached the revision that the watch begins with. In both
    cases read the keys again, and watch from the revision after.

    Attributes
    ----------
    next_revision : int
        The revision before which everything was given; 0 before the first call.
    """

    def __init__(self, client: Watched, key: bytes, range_end: bytes, revision: int, *, prev_kv: bool) -> None:
        self.next_revision = revision
        self._client = client
        self._key = key
        self._range_end = range_end
        self._prev_kv = prev_kv
        self._events: list[Event] = []  # the next one is last
        self._fetched = 0  # the revision of the last answer
        self._given = 0  # halves of events of the revision after the fetched ones, see `trioraft.kv.watch`
        self._half: Event | None = None  # an event whose `prev_kv` is still to come
        self._restores: int | None = None  # as the first answer showed it
        self._is_begun = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._events:
            await self._fetch()
        event = self._events.pop()
        if self._events:
            self.next_revision = max(self.next_revision, event.kv.mod_revision)
        else:
            self.next_revision = self._fetched + 1
        return event

    async def start(self) -> None:
        """Fix the first revision of interest, so that every change after this call is given.

        A revision beyond the next one was seen before the cluster was restored from a backup, or is a mistake. It is
        refused, because waiting for it would skip all changes until then.
        """
        if self._is_begun:
            return
        now = (await self._client.range(Range(self._key, count_only=True))).revision
        self._check_restores()
        if self.next_revision > now + 1:
            message = (
                f"revision {self.next_revision} is still to come; the newest one is {now}. If the cluster was"
                " restored since you saw it, read the keys again, and watch from the revision after"
            )
            raise KeyValueError(Error(now, ErrorCode.FUTURE_REVISION, message))
        self.next_revision = self.next_revision or now + 1
        self._is_begun = True

    async def _fetch(self) -> None:
        await self.start()
        question = WatchEvents(self._key, self._range_end, self.next_revision, self._prev_kv, self._given)
        answer = expect(WatchAnswer, await self._client.ask_store(question, patience=_WATCH_PATIENCE))
        self._check_restores()
        self._events = self._whole_events(answer)[::-1]
        self._fetched = answer.revision
        if not self._events:
            self.next_revision = max(self.next_revision, answer.revision + 1)

    def _whole_events(self, answer: WatchAnswer) -> list[Event]:
        """List the events of an answer that are whole now, and were not given before."""
        events = list(answer.events)
        if answer.given == WHOLE_REVISIONS:  # a node of an earlier release has begun with the whole revision
            del events[: self._given // 2]
        elif self._half is not None and events:
            events[0] = Event(self._half.kind, self._half.kv, events[0].prev_kv)
        if events:
            self._half = events.pop() if answer.given > 0 and answer.given % 2 else None
        self._given = max(answer.given, 0)
        return events

    def _check_restores(self) -> None:
        restores = self._client.restores
        if self._restores is None:
            self._restores = restores
        if self._restores != restores:
            message = (
                "the cluster was restored or recovered since this watch began, and may have lost what it gave:"
                " read the keys again, and watch from the revision after"
            )
            raise KeyValueError(Error(self.next_revision - 1, ErrorCode.COMPACTED, message))
