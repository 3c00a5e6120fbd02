"""How one request is carried between hypercorn and Quart: by what ASGI says, and no more."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio

_SLOWEST: Final = 30.0  # seconds in which a peer has to take a part of an answer

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


def finishing_answers(receive: Receive, send: Send) -> tuple[Receive, Send]:
    """Let an answer that is complete be finished.

    While hypercorn takes the last part of an answer, it tells the application that the request is over. Quart-Trio
    takes that for a lost connection and cancels the request, and with it hypercorn, which has yet to start its
    timer for idle connections. Without this, they stay open for as long as the browser likes, and hold up the
    shutdown.

    Parameters
    ----------
    receive, send
        As ASGI has them.

    Returns
    -------
    tuple
        Both, for the application: with the last part of an answer, nothing more is received.
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
    """Give an answer up whose receiver does not take the next part of it.

    Where several requests share a connection (HTTP/2), a peer that takes nothing of one of them is no stalled
    connection, and the request would last for as long as the peer likes.

    Parameters
    ----------
    send
        As ASGI has it.
    patience : trio.CancelScope
        Around the request; cancelled when a part has not been taken in time.

    Returns
    -------
    callable
        For the application.
    """

    async def send_in_time(message: Any) -> None:
        with trio.move_on_after(_SLOWEST) as waiting:
            await send(message)
        if waiting.cancelled_caught:
            patience.cancel()
            await trio.lowlevel.checkpoint()

    return send_in_time
