"""How one request is carried between hypercorn and Quart."""

from typing import Any

import trio
from quart import Request
from quart.asgi import ASGIHTTPConnection
from quart_trio.asgi import TrioASGIHTTPConnection


class HTTPConnection(TrioASGIHTTPConnection):
    """Lets an answer that is complete be finished.

    While hypercorn takes the last part of an answer, it tells the application that the request is over. Quart-Trio
    takes that for a lost connection and cancels the request, and with it hypercorn, which has yet to start its
    timer for idle connections. Without this, they stay open for as long as the browser likes, and hold up the
    shutdown.
    """

    _is_complete = False

    # Quart-Trio has added the nursery to what Quart's own method takes.
    async def handle_messages(self, nursery: trio.Nursery, request: Request, receive: Any) -> None:  # type: ignore[override]
        """Read the request, and cancel its handling when its sender goes away.

        Parameters
        ----------
        nursery : trio.Nursery
            Where it is handled.
        request : quart.Request
            The request.
        receive
            As ASGI has it.
        """
        await ASGIHTTPConnection.handle_messages(self, request, receive)
        if not self._is_complete:
            nursery.cancel_scope.cancel()

    async def _send_response(self, send: Any, response: Any) -> None:
        async def send_noting_the_last(message: Any) -> None:
            self._is_complete = message["type"] == "http.response.body" and not message["more_body"]
            await send(message)

        await super()._send_response(send_noting_the_last, response)
