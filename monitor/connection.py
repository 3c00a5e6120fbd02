"""One request between hypercorn and Quart, with the details in which ASGI leaves them apart."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio

_SLOWEST: Final = 30.0  # seconds within which a peer must take a part of an answer

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


def finishing_answers(receive: Receive, send: Send) -> tuple[Receive, Send]:
    """Let hypercorn finish an answer that is complete.

    While hypercorn takes the last part of an answer, it signals the end of the request to the application. Quart-Trio
    takes that for a lost connection and cancels the request, and with it hypercorn, which has yet to start its timer
    for idle connections. Without this function idle connections stay open for as long as the browser likes, and hold
    up the shutdown.

    Parameters
    ----------
    receive, send
        The channels of ASGI.

    Returns
    -------
    tuple
        Both, for the application, which receives nothing more after the last part of its answer.
    """
    complete = False

    async def receive_until_complete() -> Any:
        message = await receive()
        if complete and message["type"] == "http.disconnect":
            await trio.sleep_forever()  # Quart-Trio cancels this as soon as the last part is sent
        return message

    async def send_noting_the_last(message: Any) -> None:
        nonlocal complete
        complete = message["type"] == "http.response.body" and not message.get("more_body", False)
        await send(message)

    return receive_until_complete, send_noting_the_last


def given_up_when_slow(send: Send, patience: trio.CancelScope) -> Send:
    """Give an answer up when its receiver does not take the next part.

    Where several requests share a connection (HTTP/2), the connection is not stalled when the peer takes nothing of
    one answer, and that request would last for as long as the peer likes.

    Parameters
    ----------
    send
        The channel of ASGI.
    patience : trio.CancelScope
        The scope around the request, which is cancelled when a part is not taken in time.

    Returns
    -------
    callable
        The channel for the application.
    """

    async def send_in_time(message: Any) -> None:
        with trio.move_on_after(_SLOWEST) as waiting:
            await send(message)
        if waiting.cancelled_caught:
            patience.cancel()
            await trio.lowlevel.checkpoint()

    return send_in_time
