"""How one request is carried between hypercorn and Quart: by what ASGI says, and no more."""

from collections.abc import Awaitable, Callable
from typing import Any

import trio

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
