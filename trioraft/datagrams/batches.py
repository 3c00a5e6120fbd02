"""Requests and answers that wait to be sent; those for one receiver go together, as many as fit into a datagram.

A datagram costs the sender, the receiver and the system several times as much as the messages in it.
"""

from collections.abc import Callable
from typing import Final

from trioraft.datagrams.endpoint import Endpoint, Peer
from trioraft.datagrams.wire import EncodedMessage, encode_together
from trioraft.messages import BATCH_MAX, Instant

# The most bytes that the head of the message takes which holds the others.
_HEAD: Final = 8


class Batches:
    """The messages that wait to be sent, by receiver.

    Parameters
    ----------
    endpoint : callable
        Returns the endpoint that sends them.
    tag : int
        The tag of the message that holds several: :class:`~trioraft.messages.ClientRequests` or
        :class:`~trioraft.messages.ClientResponses`.
    """

    def __init__(self, endpoint: Callable[[], Endpoint], tag: int) -> None:
        self._endpoint = endpoint
        self._tag = tag
        self._waiting: dict[bytes, tuple[Peer, list[EncodedMessage]]] = {}

    def add(self, peer: Peer, message: EncodedMessage) -> None:
        """Keep a message until the next :meth:`flush`.

        Parameters
        ----------
        peer : Peer
            The receiver.
        message : EncodedMessage
            The message.
        """
        waiting = self._waiting.get(peer.process)
        if waiting is None:
            self._waiting[peer.process] = (peer, [message])
        else:
            waiting[1].append(message)

    def flush(self, now: Instant) -> None:
        """Send all messages through the endpoint.

        Parameters
        ----------
        now : float
            The time in seconds.
        """
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, {}
        for peer, messages in waiting.values():
            room = self._endpoint().message_bytes(peer, now) - _HEAD
            batch: list[EncodedMessage] = []
            size = 0
            for message in messages:
                size += len(message)
                if batch and (size > room or len(batch) >= BATCH_MAX):
                    self._send(peer, batch, now)
                    batch, size = [], len(message)
                batch.append(message)
            self._send(peer, batch, now)

    def _send(self, peer: Peer, batch: list[EncodedMessage], now: Instant) -> None:
        message = batch[0] if len(batch) == 1 else encode_together(self._tag, batch)
        self._endpoint().send(peer, message, now)
