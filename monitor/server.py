"""The server of the monitor, from its start to the signal that ends it."""

import errno
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app

from trioraft.client.client import open_client
from trioraft.logger import Logger
from trioraft.settings.settings import MonitorSettings
from trioraft.signals import ENDING, not_ignored

from .admission import STREAMS_MAX
from .app import MonitorApp, create_app
from .connections import Connection, Connections, connections_max

_BACKLOG: Final = 128
_GRACE: Final = 2.0  # seconds for answers under way at shutdown
_STALLED: Final = 5000  # milliseconds after which a peer that takes no data is given up
_UNSENT_MAX: Final = 64 * 1024  # bytes of a connection in the system's buffer that are not sent yet

log = Logger("trioraft.monitor")


async def run_monitor(
    settings: MonitorSettings, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Observe a cluster and serve its page, until SIGTERM, SIGINT or SIGHUP.

    Parameters
    ----------
    settings : MonitorSettings
        The monitor's configuration.
    task_status : trio.TaskStatus
        Started when the page can be opened.

    Raises
    ------
    OSError
        If the monitor cannot listen at the address; the text is one line.
    """
    listener = _listen(settings.bind_host, settings.bind_port)
    most = connections_max()
    async with open_client(settings.client()) as client, trio.open_nursery() as nursery:
        app = create_app(settings, client, most)
        if app.admission.streams_max < STREAMS_MAX:
            log.warning("few listeners: the limit of open files is low", listeners=app.admission.streams_max)
        await client.observe(settings.refresh_rate)

        async def wait_for_signal() -> None:
            with trio.open_signal_receiver(*not_ignored(*ENDING)) as signals:
                log.info("monitor listening", url=_url(settings), service=settings.raft_service_name)
                task_status.started()
                async for _ in signals:
                    break
            app.feed.close()

        await _serve(app, Connections(listener, most), wait_for_signal)
        nursery.cancel_scope.cancel()


async def _serve(app: MonitorApp, connections: Connections, end: Callable[[], Awaitable[None]]) -> None:
    """Serve an application until `end` returns, like hypercorn's own ``serve``, which bounds no connections."""
    config = Config()
    config.include_server_header = False
    config.errorlog = logging.getLogger("hypercorn.error")
    config.loglevel = "WARNING"
    context, wrapped = WorkerContext(None), wrap_app(app, config.wsgi_max_body_size, "asgi")

    async def serve(connection: Connection) -> None:
        stream: Any = connection  # has the part of a trio stream that hypercorn uses
        await TCPServer(wrapped, config, context, ConnectionState({}), stream)

    async def lose_patience() -> None:
        await trio.sleep(_GRACE)
        connections.cut_off()  # hypercorn waits for a write under way even when it is cancelled

    async with trio.open_nursery() as around:
        app.nursery = around
        await app.startup()
        async with trio.open_nursery() as serving:
            async with trio.open_nursery() as taking:
                taking.start_soon(connections.take, serving, serve)
                await end()
                taking.cancel_scope.cancel()
            await context.terminated.set()
            around.start_soon(lose_patience)
            serving.cancel_scope.deadline = trio.current_time() + _GRACE
        await app.shutdown()
        around.cancel_scope.cancel()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    dual = host == "::" and socket.has_dualstack_ipv6()
    if host == "::" and not dual:
        host, family = "0.0.0.0", socket.AF_INET  # noqa: S104 -- the meaning of '::' where there is no IPv6
    try:
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG, dualstack_ipv6=dual)
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        hint = "; end what listens there, or set BIND_PORT" if error.errno == errno.EADDRINUSE else ""
        raise OSError(f"the monitor cannot listen on {_authority(host, port)}: {reason}{hint}") from None
    for option, value in (("TCP_USER_TIMEOUT", _STALLED), ("TCP_NOTSENT_LOWAT", _UNSENT_MAX)):
        # Connections inherit both. Old documents for a browser that stopped reading do not collect in the system's
        # buffers, and do not hold up the shutdown, in which hypercorn waits for a write that cannot be cancelled.
        if (number := getattr(socket, option, None)) is not None:
            listener.setsockopt(socket.IPPROTO_TCP, number, value)
    return listener


def _url(settings: MonitorSettings) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.bind_host, settings.bind_host)  # noqa: S104 - nothing is bound
    return f"http://{_authority(host, settings.bind_port)}{settings.root_path}/"


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
