"""The client port: listening, the limits of connections, TLS, and the end."""

import errno
import resource
import socket
from typing import Final

import trio

from trioraft.errors import NodeError
from trioraft.etcd.certificates import Certificates
from trioraft.etcd.http1 import Connection, Handler, Stream, is_unforeseen
from trioraft.logger import Logger

_log: Final = Logger("trioraft.etcd")

# At most so many clients are connected; fewer where the system allows fewer files, of which the node needs some.
CONNECTIONS_MAX: Final = 20_000
_OWN_FILES: Final = 100
_BACKLOG: Final = 1024
_HANDSHAKE_SECONDS: Final = 10.0
# When the node stops, streams are ended, and what is under way is answered, within so many seconds.
_ENDING_SECONDS: Final = 2.0
# A dead client is noticed after about so many seconds.
_KEEPALIVE_IDLE: Final = 60
_KEEPALIVE_INTERVAL: Final = 10
_UNACKNOWLEDGED_MILLIS: Final = 60_000
_TRY_AGAIN_SECONDS: Final = 0.2
_REPORT_SECONDS: Final = 10.0
_NO_FILES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def raise_file_limit() -> int:
    """Allow this process as many open files as the system lets it.

    Returns
    -------
    int
        How many.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS_MAX + _OWN_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return wanted if soft == resource.RLIM_INFINITY else soft


class Port:
    """The port.

    Parameters
    ----------
    host, port : str and int
        The address where it listens.
    certificates : Certificates or None
        What TLS needs; None for a port in the clear.
    """

    def __init__(self, host: str, port: int, certificates: Certificates | None) -> None:
        self._certificates = certificates
        self._connections: dict[Connection, None] = {}
        self._most = max(min(CONNECTIONS_MAX, raise_file_limit() - _OWN_FILES), 10)
        self._is_full = False
        self._report_at = 0.0
        try:
            self._listener = _listen(host, port)
        except OSError as error:
            raise NodeError(
                f"CLIENT_BIND_HOST={host} CLIENT_BIND_PORT={port}: {error.strerror or error};"
                " choose an address of this machine and a free TCP port"
            ) from error

    @property
    def number(self) -> int:
        """The number of the port."""
        return int(self._listener.getsockname()[1])

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    async def run(self, handle: Handler) -> None:
        """Serve clients until cancelled; then end what is under way, in order and soon.

        Parameters
        ----------
        handle : callable
            Answers a request.
        """
        async with trio.open_nursery() as outside:
            serving = trio.CancelScope(shield=True)
            accepting = trio.CancelScope()
            outside.start_soon(self._serve, handle, serving, accepting)
            try:
                await trio.sleep_forever()
            finally:
                accepting.cancel()
                for connection in list(self._connections):
                    connection.stop()
                serving.deadline = trio.current_time() + _ENDING_SECONDS

    async def _serve(self, handle: Handler, serving: trio.CancelScope, accepting: trio.CancelScope) -> None:
        try:
            with serving:
                async with trio.open_nursery() as clients:
                    with accepting:
                        await self._accept(handle, clients)
        finally:
            self._listener.close()

    async def _accept(self, handle: Handler, clients: trio.Nursery) -> None:
        while True:
            try:
                client, _ = await self._listener.accept()
            except OSError as error:
                if error.errno in _NO_FILES:
                    self._note_full()
                await trio.sleep(_TRY_AGAIN_SECONDS if error.errno in _NO_FILES else 0)
                continue
            if len(self._connections) >= self._most:
                self._note_full()
                client.close()
                continue
            self._is_full = False
            clients.start_soon(self._serve_client, client, handle)

    def _note_full(self) -> None:
        if not self._is_full:
            self._is_full = True
            _log.warning("too many clients are connected; further ones are turned away", connected=self.connections)

    async def _serve_client(self, client: trio.socket.SocketType, handle: Handler) -> None:
        try:
            _set_options(client)
            await self._serve_stream(trio.SocketStream(client), handle)
        except OSError:
            pass  # it is gone
        except Exception as error:  # a client must not end the node, whatever it has found
            if is_unforeseen(error) and trio.current_time() >= self._report_at:
                self._report_at = trio.current_time() + _REPORT_SECONDS
                _log.exception("a request failed in a way that nobody has thought of; please report it")
        finally:
            client.close()

    async def _serve_stream(self, plain: trio.SocketStream, handle: Handler) -> None:
        stream: Stream = plain
        if self._certificates is not None:
            context = self._certificates.context(trio.current_time())
            sealed = trio.SSLStream(plain, context, server_side=True, https_compatible=True)
            try:
                with trio.fail_after(_HANDSHAKE_SECONDS):
                    await sealed.do_handshake()
            except (trio.BrokenResourceError, trio.TooSlowError):
                return
            stream = sealed
        connection = Connection(stream, handle)
        self._connections[connection] = None
        try:
            await connection.serve()
        finally:
            del self._connections[connection]
            with trio.move_on_after(_TRY_AGAIN_SECONDS):
                await stream.aclose()


def _listen(host: str, port: int) -> trio.socket.SocketType:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return trio.socket.from_stdlib_socket(listener)


def _set_options(client: trio.socket.SocketType) -> None:
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_INTERVAL)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MILLIS)
