"""The service ``etcdserverpb.Watch``: any number of watches in one stream, on this node's own store.

A stream keeps no events. It takes them from the history when the client has taken those before, so a slow client
costs no memory, and gets an error once the history does not reach back to where it is.
"""

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import trio

from trioraft.etcd import messages as api
from trioraft.etcd import translate
from trioraft.etcd.host import Host
from trioraft.etcd.key_values import REQUEST_MAX
from trioraft.kv.commands import Event, EventKind
from trioraft.kv.results import Error
from trioraft.kv.watch import Watch as HubWatch
from trioraft.kv.watch import WatchBatch
from trioraft.nurseries import bare_errors

# Watches that want to hear of progress do so when they were silent for this long, in seconds; as in etcd.
_PROGRESS_SECONDS: Final = 600.0
# A client that makes watches and does not read what is said of them is not listened to any more.
_UNREAD_MAX: Final = 100
# So much is taken from the history at once, for the node does nothing else while it makes a message of it.
_TAKEN_BYTES: Final = 2**18
_EVENT_BYTES: Final = 32  # what an event has besides keys and values, about

_NO_WATCH: Final = -1
_DUPLICATE: Final = "mvcc: duplicate watch ID provided on the WatchStream"
_EMPTY_RANGE: Final = "mvcc: watcher range is empty"

_FILTERED: Final = {api.FilterType.NOPUT: EventKind.PUT, api.FilterType.NODELETE: EventKind.DELETE}


class Watch:
    """The method.

    Parameters
    ----------
    host : Host
        The node.

    Attributes
    ----------
    streams, watches : int
        How many there are.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self.streams = 0
        self.watches = 0

    async def watch(
        self, asked: AsyncIterator[api.WatchRequest], send: Callable[[api.Message], Awaitable[None]]
    ) -> None:
        """Serve a stream of watches until it is cancelled."""
        self._host.check(needs_leader=False)
        stream = _Stream(self._host, self)
        self.streams += 1
        try:
            with bare_errors():
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(stream.listen, asked)
                    nursery.start_soon(stream.tell_progress)
                    await stream.speak(send)
        finally:
            self.streams -= 1
            stream.close()


class _Watched:
    """A watch of a stream."""

    def __init__(self, number: int, asked: api.WatchCreateRequest, past: int) -> None:
        self.number = number
        self.watch: HubWatch | None = None
        self.past = past  # what is not newer was there when it was made
        self.prev_kv = asked.prev_kv
        self.filtered = frozenset(_FILTERED[one] for one in asked.filters)
        self.fragment = asked.fragment
        self.wants_progress = asked.progress_notify
        self.is_ready = False
        self.has_spoken = True

    def shown(self, events: tuple[Event, ...], compacted: int) -> list[api.Event]:
        """Return those of some changes that the client wants."""
        return [
            translate.event(event, prev_kv=self.prev_kv and event.kv.mod_revision > compacted)
            for event in events
            if event.kind not in self.filtered
        ]


class _Stream:
    """The watches of a stream, and what is to be said of them."""

    def __init__(self, host: Host, count: Watch) -> None:
        self._host = host
        self._count = count
        self._store = host.service.store
        self._watches: dict[int, _Watched] = {}
        self._to_say: deque[api.WatchResponse | _Watched] = deque()
        self._has_news = trio.Event()
        self._has_room = trio.Event()
        self._next = 0

    # --- what the client asks -------------------------------------------------------------------------------

    async def listen(self, asked: AsyncIterator[api.WatchRequest]) -> None:
        """Take in what the client asks."""
        async for one in asked:
            while len(self._to_say) > _UNREAD_MAX:
                self._has_room = trio.Event()
                await self._has_room.wait()
            if one.create_request is not None:
                self._create(one.create_request)
            elif one.cancel_request is not None:
                self._cancel(one.cancel_request.watch_id)
            elif one.progress_request is not None:
                self._say(api.WatchResponse(self._host.header(), _NO_WATCH))

    def _say(self, what: api.WatchResponse | _Watched) -> None:
        self._to_say.append(what)
        self._has_news.set()

    def _create(self, asked: api.WatchCreateRequest) -> None:
        key, end = asked.key or b"\0", asked.range_end
        header = self._host.header()
        problem = ""
        if end and end != b"\0" and key >= end:
            problem = _EMPTY_RANGE
        elif asked.watch_id and asked.watch_id in self._watches:
            problem = _DUPLICATE
        if problem:
            self._say(api.WatchResponse(header, _NO_WATCH, created=True, canceled=True, cancel_reason=problem))
            return
        number = asked.watch_id or self._choose_number()
        self._say(api.WatchResponse(header, number, created=True))
        if asked.start_revision < 0:
            oldest = self._store.compacted or -1
            self._say(api.WatchResponse(self._host.header(0), number, canceled=True, compact_revision=oldest))
            return
        self._begin(number, key, end, asked)

    def _choose_number(self) -> int:
        while self._next in self._watches:
            self._next += 1
        self._next += 1
        return self._next - 1

    def _begin(self, number: int, key: bytes, end: bytes, asked: api.WatchCreateRequest) -> None:
        def wake() -> None:
            if not watched.is_ready:
                watched.is_ready = True
                self._say(watched)

        past = self._store.revision if asked.start_revision else 0
        watched = self._watches[number] = _Watched(number, asked, past)
        self._count.watches += 1
        watched.watch = self._host.service.hub.watch(
            key, end, revision=asked.start_revision, prev_kv=asked.prev_kv, wake=wake
        )
        wake()  # for what there is already

    def _cancel(self, number: int) -> None:
        if number in self._watches:
            self._forget(number)
            self._say(api.WatchResponse(self._host.header(), number, canceled=True))

    def _forget(self, number: int) -> None:
        watched = self._watches.pop(number)
        self._count.watches -= 1
        if watched.watch is not None:
            watched.watch.close()

    def close(self) -> None:
        """Free all watches."""
        for number in list(self._watches):
            self._forget(number)

    # --- what the client is told ----------------------------------------------------------------------------

    async def speak(self, send: Callable[[api.Message], Awaitable[None]]) -> None:
        """Tell the client what there is to tell, in order, until cancelled."""
        while True:
            while self._to_say:
                what = self._to_say.popleft()
                if len(self._to_say) <= _UNREAD_MAX:
                    self._has_room.set()
                if isinstance(what, _Watched):
                    for message in self._news_of(what):
                        await send(message)
                else:
                    await send(what)
            self._has_news = trio.Event()
            await self._has_news.wait()

    def _news_of(self, watched: _Watched) -> list[api.WatchResponse]:
        """Take what a watch has, as far as it goes into one page; it is ready again if there may be more."""
        watched.is_ready = False
        if watched.watch is None or self._watches.get(watched.number) is not watched:
            return []
        taken = watched.watch.take(_TAKEN_BYTES)
        if taken is None:
            watched.past = 0
            return []
        if isinstance(taken, Error):
            self._forget(watched.number)
            oldest = taken.oldest_revision
            return [api.WatchResponse(self._host.header(0), watched.number, canceled=True, compact_revision=oldest)]
        watched.is_ready = True
        self._say(watched)
        watched.has_spoken = True
        return [
            response
            for revision, events in _grouped(taken, watched.past)
            for response in self._responses(watched, revision, watched.shown(events, self._store.compacted))
        ]

    def _responses(self, watched: _Watched, revision: int, events: list[api.Event]) -> list[api.WatchResponse]:
        if not events:
            return []
        pieces = _fragments(events) if watched.fragment else [events]
        header = self._host.header(revision)
        last = len(pieces) - 1
        return [
            api.WatchResponse(header, watched.number, fragment=place < last, events=piece)
            for place, piece in enumerate(pieces)
        ]

    async def tell_progress(self) -> None:
        """Tell, now and then, the watches that want it how far they are, where they have had nothing to say."""
        while True:
            await trio.sleep(_PROGRESS_SECONDS)
            for watched in self._watches.values():
                if watched.wants_progress and not watched.has_spoken and not watched.is_ready:
                    self._say(api.WatchResponse(self._host.header(), watched.number))
                watched.has_spoken = False


def _grouped(batch: WatchBatch, past: int) -> list[tuple[int, tuple[Event, ...]]]:
    """Divide changes into messages: one for all that were there at its beginning, then one for each revision."""
    groups: list[tuple[int, list[Event]]] = []
    for event in batch.events:
        revision = max(event.kv.mod_revision, past)
        if groups and groups[-1][0] == revision:
            groups[-1][1].append(event)
        else:
            groups.append((revision, [event]))
    return [(revision, tuple(events)) for revision, events in groups]


def _fragments(events: list[api.Event]) -> list[list[api.Event]]:
    """Divide the changes of a message into parts that are not larger than a request may be."""
    parts: list[list[api.Event]] = []
    room = 0
    for event in events:
        size = sum(len(kv.key) + len(kv.value) + _EVENT_BYTES for kv in (event.kv, event.prev_kv) if kv is not None)
        if not parts or size > room:
            parts.append([])
            room = REQUEST_MAX
        parts[-1].append(event)
        room -= size
    return parts
