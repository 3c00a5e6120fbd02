"""The way of a request to its method and back, as etcd's gateway for JSON does it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import trio

from trioraft.etcd.guard import Guard
from trioraft.etcd.http1 import JSON, SENDING_SECONDS, TEXT, Exchange, RefusedError, Request
from trioraft.etcd.messages import Message, RangeResponse
from trioraft.etcd.pages import Pages
from trioraft.etcd.proto_json import (
    LARGE,
    Documents,
    JsonError,
    decode_carefully,
    decode_fast,
    encode,
    encode_in_pieces,
    encode_result,
    refuse_many_parts,
)
from trioraft.etcd.services import FORMER_PATHS, METHODS, Kind, Method
from trioraft.etcd.status import TOO_MANY_REQUESTS, ApiError, Code
from trioraft.nurseries import bare_errors

# Sends a message of a stream.
Send = Callable[[Message], Awaitable[None]]
# Carries a method out: of one message to one answer, or of messages to those that it sends.
Unary = Callable[[Any], Awaitable[Message]]
Streaming = Callable[[AsyncIterator[Any], Send], Awaitable[None]]

# So many requests are at work at once; the next ones wait, and when too many wait they are refused.
_AT_WORK: Final = 256
_WAITING: Final = 4096
# A document that is larger is read at once or not at all.
_CAREFULLY_MAX: Final = 3 * 2**20
# A message of a stream has no more characters.
_STREAMED_MAX: Final = 2**18
# An answer with so many keys, or bytes of values, is made piece by piece.
_MANY_KEYS: Final = 500
_MANY_BYTES: Final = 2**18

_CORS: Final = (
    ("access-control-allow-methods", "POST, GET, OPTIONS, PUT, DELETE"),
    ("access-control-allow-headers", "accept, content-type, authorization"),
)


class Gateway:
    """Answers requests of HTTP.

    Parameters
    ----------
    methods : mapping of str to callable
        What carries out the methods, by their paths; empty where only the pages are served.
    pages : Pages
        What is asked by GET.
    guard : Guard
        Which requests are taken.
    look_around : callable
        Lets the node look at its input; called before each request.
    """

    def __init__(
        self,
        methods: Mapping[str, Callable[..., Awaitable[Any]]],
        pages: Pages,
        guard: Guard,
        look_around: Callable[[], None],
    ) -> None:
        by_path = {method.path: method for method in METHODS}
        self._methods = {path: (by_path[FORMER_PATHS.get(path, path)], method) for path, method in methods.items()}
        self._pages = pages
        self._guard = guard
        self._look_around = look_around
        self._at_work = trio.CapacityLimiter(_AT_WORK)
        self._reading = trio.CapacityLimiter(1)

    async def handle(self, request: Request, exchange: Exchange) -> None:
        """Answer a request.

        Parameters
        ----------
        request : Request
            Its head.
        exchange : Exchange
            The source of its body, and the way back.
        """
        self._look_around()
        exchange.extra_headers = ()
        why = self._guard.why_not(request.headers)
        if why:
            raise RefusedError(403, why)
        if "origin" in request.headers:
            exchange.extra_headers = (("access-control-allow-origin", request.headers["origin"]), *_CORS)
        if request.method == "OPTIONS":
            await _read(exchange)
            await exchange.answer(200, TEXT, b"")
            return
        found = self._find(request.path)
        if found is None:
            await _read(exchange)
            await self._show_page(request, exchange)
        elif request.method != "POST":
            await _read(exchange)
            await exchange.answer(405, TEXT, b"Method Not Allowed\n")
        else:
            await self._carry_out(*found, exchange)

    def _find(self, path: str) -> tuple[Method, Callable[..., Awaitable[Any]]] | None:
        for prefix in ("/v3/", "/v3beta/"):
            if path.startswith(prefix):
                return self._methods.get(path[len(prefix) :])
        return None

    async def _show_page(self, request: Request, exchange: Exchange) -> None:
        page = await self._pages.show(request)
        await exchange.answer(page.status, page.kind, page.body)

    # --- methods ---------------------------------------------------------------------------------------------

    async def _carry_out(self, method: Method, carry_out: Callable[..., Awaitable[Any]], exchange: Exchange) -> None:
        if method.kind is Kind.STREAM:
            await self._stream(method, carry_out, exchange)
            return
        try:
            asked = await self._decode(await _read(exchange), method.request)
        except JsonError as error:
            wrong = ApiError(Code.INVALID_ARGUMENT, str(error))
            await exchange.answer(wrong.http_status, JSON, wrong.encode())
            return
        if method.kind is Kind.UNARY:
            await self._answer(await self._work(carry_out, asked, exchange), exchange)
        elif method.kind is Kind.WAITS:
            async with _while_there(exchange):
                await self._answer(await _outcome(carry_out, asked), exchange)
        else:
            await self._answer_in_stream(carry_out, asked, exchange)

    async def _work(self, carry_out: Unary, asked: Message, borrower: Exchange) -> Message | ApiError:
        """Carry out a request when it has its turn."""
        if self._at_work.available_tokens:
            self._at_work.acquire_on_behalf_of_nowait(borrower)
        elif self._at_work.statistics().tasks_waiting >= _WAITING:
            return ApiError(*TOO_MANY_REQUESTS)
        else:
            await self._at_work.acquire_on_behalf_of(borrower)
        try:
            return await _outcome(carry_out, asked)
        finally:
            self._at_work.release_on_behalf_of(borrower)

    async def _decode(self, data: bytes, cls: type[Message]) -> Message:
        refuse_many_parts(data)
        fast = decode_fast(data, cls)
        if fast is not None:
            return fast
        if len(data) <= LARGE:
            return decode_carefully(data, cls)
        if len(data) > _CAREFULLY_MAX:
            raise JsonError(f"a document of more than {_CAREFULLY_MAX} bytes is not in the usual form")
        # One at a time: threads that compute keep the loop waiting for its turn.
        return await trio.to_thread.run_sync(decode_carefully, data, cls, limiter=self._reading)

    async def _answer(self, outcome: Message | ApiError, exchange: Exchange) -> None:
        if isinstance(outcome, ApiError):
            await exchange.answer(outcome.http_status, JSON, outcome.encode())
        elif isinstance(outcome, RangeResponse) and _is_large(outcome):
            await exchange.begin()
            for piece in encode_in_pieces(outcome):
                await exchange.send(piece)
                self._look_around()
            await exchange.end()
        else:
            await exchange.answer(200, JSON, encode(outcome))

    # --- streams ---------------------------------------------------------------------------------------------

    async def _answer_in_stream(
        self, carry_out: Callable[[Any, Send], Awaitable[None]], asked: Message, exchange: Exchange
    ) -> None:
        sender = _Sender(exchange)
        async with _while_there(exchange):
            try:
                await carry_out(asked, sender)
                await sender.end()
            except ApiError as error:
                await sender.fail(error)

    async def _stream(self, method: Method, carry_out: Streaming, exchange: Exchange) -> None:
        sender = _Sender(exchange)
        give, take = trio.open_memory_channel[Message](0)
        problem: list[JsonError] = []
        with bare_errors():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_receive_messages, method, exchange, give, problem, nursery.cancel_scope)
                try:
                    await carry_out(take, sender)
                    if not problem:
                        await sender.end()
                except ApiError as error:
                    await sender.fail(error)
                nursery.cancel_scope.cancel()
        if problem:
            await sender.fail(ApiError(Code.UNKNOWN, str(problem[0])))


class _Sender:
    """Sends the messages of a stream: each one is one chunk, and the first one comes with the head."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def __call__(self, message: Message) -> None:
        await self._send(encode_result(message))

    async def _send(self, data: bytes) -> None:
        if self._exchange.is_begun:
            await self._exchange.send(data)
        else:
            await self._exchange.send_first(data)

    async def end(self) -> None:
        if not self._exchange.is_begun:
            await self._exchange.begin()
        await self._exchange.end()

    async def fail(self, error: ApiError) -> None:
        if self._exchange.is_cut_off:
            return
        if self._exchange.is_begun:
            await self._exchange.send(error.encode_in_stream())
            await self._exchange.end()
        elif error.code is Code.UNKNOWN:
            await self._exchange.answer(error.http_status, JSON, error.encode())
        else:
            await self._exchange.answer(error.http_status, JSON, error.encode_in_stream())


async def _read(exchange: Exchange) -> bytes:
    with trio.fail_after(SENDING_SECONDS):
        return await exchange.body()


async def _outcome(carry_out: Unary, asked: Message) -> Message | ApiError:
    try:
        return await carry_out(asked)
    except ApiError as error:
        return error


@asynccontextmanager
async def _while_there(exchange: Exchange) -> AsyncIterator[None]:
    """Cancel a block when the client hangs up."""
    with bare_errors():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_when_gone, exchange, nursery.cancel_scope)
            yield
            nursery.cancel_scope.cancel()


async def _cancel_when_gone(exchange: Exchange, scope: trio.CancelScope) -> None:
    with suppress(OSError, trio.BrokenResourceError):
        await exchange.until_gone()
    scope.cancel()


async def _receive_messages(
    method: Method,
    exchange: Exchange,
    give: trio.MemorySendChannel[Message],
    problem: list[JsonError],
    scope: trio.CancelScope,
) -> None:
    """Receive the messages of a stream, and then wait until the client hangs up."""
    documents = Documents()
    async with give:
        try:
            async for part in exchange.parts():
                documents.feed(part)
                for message in documents.read(method.request):
                    await give.send(message)
                if documents.size > _STREAMED_MAX:
                    raise JsonError(f"a message of a stream has more than {_STREAMED_MAX} characters")
            documents.feed(b"", ended=True)
            for message in documents.read(method.request, ended=True):
                await give.send(message)
        except JsonError as error:
            problem.append(error)
            scope.cancel()
            return
        except trio.BrokenResourceError:
            return  # the method takes no more messages
    await _cancel_when_gone(exchange, scope)


def _is_large(answer: RangeResponse) -> bool:
    return len(answer.kvs) > _MANY_KEYS or sum(len(kv.value) for kv in answer.kvs) > _MANY_BYTES


def find_methods(services: Mapping[str, object]) -> dict[str, Callable[..., Awaitable[Any]]]:
    """Find what carries out each method of the JSON API.

    Parameters
    ----------
    services : mapping of str to object
        The services, by the names that they have in gRPC; each has its methods, named in lower case.

    Returns
    -------
    dict of str to callable
        The methods by their paths, former ones included.
    """
    served = [method for method in METHODS if method.path]
    found = {method.path: getattr(services[method.service], in_lower_case(method.name)) for method in served}
    return found | {former: found[path] for former, path in FORMER_PATHS.items()}


def in_lower_case(name: str) -> str:
    """Return the name of a method as Python has it: ``delete_range`` for ``DeleteRange``."""
    words = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
    return words.replace("_k_v", "_kv").lstrip("_")
