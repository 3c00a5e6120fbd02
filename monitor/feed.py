"""Server-sent events: the newest cluster document, for every listener as fast as that listener reads.

The feed keeps for each listener only the number of the document that it got last. A listener that reads slowly misses
documents and gets the newest when it is ready, so no listener lags and no documents pile up.
"""

from collections.abc import AsyncIterator
from typing import Final, NamedTuple

import msgspec
import trio

from trioraft.clock import LONG_AGO

from .observation import Observation, content_of

_HEARTBEAT: Final = 10.0  # seconds; shorter than the idle timeouts of the usual reverse proxies
_SHORTEST_PAUSE: Final = 0.02  # seconds; changes within it go out as one document
_SHARE: Final = 0.25  # of a refresh interval, in which statuses that change only ages are gathered


class Published(NamedTuple):
    """A document as the feed publishes it.

    Attributes
    ----------
    number : int
        The number of the document, which grows with each.
    event : bytes
        The server-sent event with the document.
    """

    number: int
    event: bytes


class Feed:
    """The feed, which publishes documents to its listeners.

    Parameters
    ----------
    observation : Observation
        The source of the documents.
    """

    def __init__(self, observation: Observation) -> None:
        self._observation = observation
        self._newest = Published(0, b"")
        self._news = trio.Event()
        self._closed = False

    async def run(self) -> None:
        """Publish a document at every change, and now and then to keep ages true, until cancelled."""
        content: object = None
        heard = -1
        published = LONG_AGO
        refresh = self._observation.refresh_rate
        while True:
            version = self._observation.version
            document = self._observation.document()
            due = published + (refresh if version == heard else refresh * _SHARE)
            if (present := content_of(document)) != content or trio.current_time() >= due:
                content, heard, published = present, version, trio.current_time()
                self._publish(_event_of(document))
                await trio.sleep(_SHORTEST_PAUSE)
            else:
                await self._observation.changed(version, until=due)

    def _publish(self, event: bytes) -> None:
        self._newest = Published(self._newest.number + 1, event)
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = trio.Event()

    def close(self) -> None:
        """End every listener's stream, so that none of them holds up a shutdown."""
        self._closed = True
        self._wake()

    def listen(self) -> AsyncIterator[bytes]:
        """Open a stream for one listener.

        Returns
        -------
        async iterator of bytes
            A document at once, then each newest one, and a comment after a while without one; the stream ends when
            the feed is closed.
        """
        return _Stream(self)

    async def next(self, number: int) -> Published | None:
        """Wait for a document newer than a given one.

        Parameters
        ----------
        number : int
            The number of the listener's document; -1 to get one at once.

        Returns
        -------
        Published or None
            The newest document; None when the feed is closed.
        """
        if number < 0 and not self._closed:
            return Published(self._newest.number, _event_of(self._observation.document()))
        while self._newest.number == number and not self._closed:
            await self._news.wait()
        return None if self._closed else self._newest


# Not an async generator, which would have to be closed when it is cancelled between two documents.
class _Stream(AsyncIterator[bytes]):
    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._number = -1

    async def __anext__(self) -> bytes:
        with trio.move_on_after(_HEARTBEAT):
            newest = await self._feed.next(self._number)
            if newest is None:
                raise StopAsyncIteration
            self._number = newest.number
            return newest.event
        return b": still here\n\n"


def _event_of(document: msgspec.Struct) -> bytes:
    return b"event: cluster\nretry: 1000\ndata: " + msgspec.json.encode(document) + b"\n\n"
