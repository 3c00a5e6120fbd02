"""A client for programs without trio: every method blocks, and takes a timeout.

::

    with Client(ClientSettings.of(peers="127.0.0.1:7300")) as client:
        client.put("greeting", "hello")
        print(client.get("greeting").value)

One thread runs trio for as long as the client is open. The methods may be called from any other threads, several at
the same time. From asyncio, call them with ``asyncio.to_thread``::

    async def main():
        with Client(settings) as client:
            await asyncio.to_thread(client.put, "greeting", "hello")

That is better than trio's guest mode: it works with every event loop and with the debuggers and test tools of
asyncio, it needs no callbacks between two schedulers, and an asyncio program that blocks cannot keep the client from
sending keep-alives. It costs a thread switch for each call, about 0.2 ms.
"""

import os
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Final, NamedTuple, Self, TypeVar

import trio

from trioraft.arguments import check_function, check_is, check_seconds
from trioraft.client.client import Client as AsyncClient
from trioraft.client.client import NoAnswerError, open_client
from trioraft.clock import FOREVER, NEVER, boottime
from trioraft.kv.commands import Compare, Event, KeyValue, Operation
from trioraft.kv.lock import HeldLock, check_lock, hold_lock
from trioraft.kv.results import DeleteRangeResult, PutResult, TxnResult
from trioraft.messages import Seconds
from trioraft.replica.settings import ClusterSettings, ReadMode
from trioraft.settings.settings import ClientSettings

__all__ = ["Client", "NoAnswerError"]

_T = TypeVar("_T")

_DEFAULT_TIMEOUT: Final = 10.0


class _InThread(NamedTuple):
    """The objects that live in the thread of an open client."""

    client: AsyncClient
    nursery: trio.Nursery
    token: trio.lowlevel.TrioToken


class Client:
    """A client whose methods block; a context manager.

    Every method raises :class:`~trioraft.client.client.NoAnswerError` when it has no answer within its timeout, or
    when the client is closed meanwhile; the text says what is known. Apart from that they raise the same errors as
    those of :class:`trioraft.client.client.Client`.

    Parameters
    ----------
    settings : ClientSettings
        The settings: where the cluster is, and the keys.
    timeout : float
        How long methods try that are given no other timeout, in seconds.

    Raises
    ------
    SettingsError
        On entering the block, if the key does not allow commands.
    """

    def __init__(self, settings: ClientSettings, timeout: float = _DEFAULT_TIMEOUT) -> None:
        self._settings = check_is("settings", settings, ClientSettings)
        self._timeout = check_seconds("timeout", timeout)
        self._thread = threading.Thread(target=self._run_thread, name="trioraft client", daemon=True)
        self._opened = threading.Event()
        self._failure: BaseException | None = None
        self._scope = trio.CancelScope()
        self._in_thread: _InThread | None = None  # while the client is open
        self._process = 0

    # --- the thread -----------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._process = os.getpid()
        self._thread.start()
        self._opened.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process != os.getpid():
            return  # the thread is the other process's
        if self._in_thread is not None:
            with suppress(trio.RunFinishedError):
                self._in_thread.token.run_sync_soon(self._scope.cancel)
        self._thread.join()
        self._in_thread = None
        if self._failure is not None and error is None:
            raise self._failure

    def _run_thread(self) -> None:
        try:
            trio.run(self._hold_open)
        except BaseException as failure:  # raised in the threads that wait, and at the end of the block
            self._failure = failure
        finally:
            self._opened.set()

    async def _hold_open(self) -> None:
        with self._scope:
            async with open_client(self._settings) as client, trio.open_nursery() as nursery:
                self._in_thread = _InThread(client, nursery, trio.lowlevel.current_trio_token())
                self._opened.set()
                await trio.sleep_forever()

    def _opened_in_thread(self) -> _InThread:
        if self._in_thread is None:
            raise RuntimeError("the client is not open; use it as a context manager")
        if self._process != os.getpid():
            raise RuntimeError("the client was opened before a fork, by another process; open one in this process")
        return self._in_thread

    def call(self, method: Callable[[AsyncClient], Awaitable[_T]], timeout: float | None = None) -> _T:
        """Call a method of the client in its thread, and wait for the result.

        Parameters
        ----------
        method : callable
            Called with the :class:`trioraft.client.client.Client`.
        timeout : float, optional
            How long to try, in seconds; the client's timeout by default.

        Returns
        -------
        object
            The return value of the method.
        """
        check_function("method", method)
        seconds = self._timeout if timeout is None else check_seconds("timeout", timeout)
        client, _, token = self._opened_in_thread()

        async def run() -> _T:
            with trio.move_on_after(seconds):
                return await method(client)
            raise NoAnswerError(f"{client.problem} (waited {seconds:g} s)")

        try:
            return trio.from_thread.run(run, trio_token=token)
        except (trio.RunFinishedError, trio.Cancelled):
            self._thread.join()  # the thread is ending, and `_failure` says why
            reason = f"the client has failed: {self._failure}" if self._failure else "the client was closed"
            raise NoAnswerError(f"unknown: {reason} before there was an answer") from self._failure

    # --- the methods of a client ----------------------------------------------------------------------------

    def propose(self, data: bytes, *, timeout: float | None = None) -> bytes:
        """Have a command applied once; see :meth:`trioraft.client.client.Client.propose`."""
        return self.call(lambda client: client.propose(data), timeout)

    def propose_many(self, commands: Iterable[bytes], *, timeout: float | None = None) -> Sequence[bytes]:
        """Have commands applied, each once; see :meth:`trioraft.client.client.Client.propose_many`."""
        return self.call(lambda client: client.propose_many(commands), timeout)

    def query(self, data: bytes, *, stale: bool = False, timeout: float | None = None) -> bytes:
        """Ask the state machine; see :meth:`trioraft.client.client.Client.query`."""
        return self.call(lambda client: client.query(data, stale=stale), timeout)

    def cluster_settings(self, *, timeout: float | None = None) -> ClusterSettings:
        """Read the cluster's settings; see :meth:`trioraft.client.client.Client.cluster_settings`."""
        return self.call(lambda client: client.cluster_settings(), timeout)

    def change_cluster_settings(
        self, *, reads: ReadMode | None = None, quota: int | None = None, timeout: float | None = None
    ) -> ClusterSettings:
        """Change the cluster's settings; see :meth:`trioraft.client.client.Client.change_cluster_settings`."""
        return self.call(lambda client: client.change_cluster_settings(reads=reads, quota=quota), timeout)

    def put(
        self,
        key: str | bytes,
        value: str | bytes,
        *,
        lease: int = 0,
        keep_lease: bool = False,
        timeout: float | None = None,
    ) -> PutResult:
        """Set the value of a key; see :meth:`~trioraft.kv.client.KeyValueMethods.put`."""
        return self.call(lambda client: client.put(key, value, lease=lease, keep_lease=keep_lease), timeout)

    def put_many(
        self,
        items: Iterable[tuple[str | bytes, str | bytes]],
        *,
        lease: int = 0,
        timeout: float | None = None,
    ) -> Sequence[PutResult]:
        """Set the values of many keys; see :meth:`~trioraft.kv.client.KeyValueMethods.put_many`."""
        return self.call(lambda client: client.put_many(items, lease=lease), timeout)

    def get(
        self, key: str | bytes, *, revision: int = 0, stale: bool = False, timeout: float | None = None
    ) -> KeyValue | None:
        """Read a key; see :meth:`~trioraft.kv.client.KeyValueMethods.get`."""
        return self.call(lambda client: client.get(key, revision=revision, stale=stale), timeout)

    def list(
        self, prefix: str | bytes = b"", *, limit: int = 0, stale: bool = False, timeout: float | None = None
    ) -> tuple[KeyValue, ...]:
        """Read keys; see :meth:`~trioraft.kv.client.KeyValueMethods.list`."""
        return self.call(lambda client: client.list(prefix, limit=limit, stale=stale), timeout)

    def delete(self, key: str | bytes, *, prefix: bool = False, timeout: float | None = None) -> DeleteRangeResult:
        """Delete keys; see :meth:`~trioraft.kv.client.KeyValueMethods.delete`."""
        return self.call(lambda client: client.delete(key, prefix=prefix), timeout)

    def cas(
        self,
        key: str | bytes,
        expected: str | bytes | None,
        value: str | bytes,
        *,
        lease: int = 0,
        keep_lease: bool = False,
        timeout: float | None = None,
    ) -> int:
        """Compare and swap; see :meth:`~trioraft.kv.client.KeyValueMethods.cas`."""
        return self.call(lambda client: client.cas(key, expected, value, lease=lease, keep_lease=keep_lease), timeout)

    def txn(
        self,
        compare: Sequence[Compare],
        success: Sequence[Operation],
        failure: Sequence[Operation] = (),
        *,
        timeout: float | None = None,
    ) -> TxnResult:
        """Do several things at one revision; see :meth:`~trioraft.kv.client.KeyValueMethods.txn`."""
        return self.call(lambda client: client.txn(compare, success, failure), timeout)

    def watch(self, key: str | bytes, *, prefix: bool = False, revision: int = 0) -> Iterator[Event]:
        """Iterate over changes as they come, for ever; see :meth:`~trioraft.kv.client.KeyValueMethods.watch`."""

        async def begin(client: AsyncClient) -> Callable[[], Awaitable[Event]]:
            watcher = client.watch(key, prefix=prefix, revision=revision)
            await watcher.start()
            return watcher.__anext__

        following = self.call(begin, FOREVER)

        def events() -> Iterator[Event]:
            while True:
                yield self.call(lambda client: following(), FOREVER)

        return events()

    def lease_grant(self, ttl: int, *, timeout: float | None = None) -> int:
        """Make a lease and return its id; see :meth:`~trioraft.kv.client.KeyValueMethods.lease_grant`."""
        return self.call(lambda client: client.lease_grant(ttl), timeout).id

    def lease_keep_alive(self, lease: int, *, timeout: float | None = None) -> int:
        """Renew a lease; see :meth:`~trioraft.kv.client.KeyValueMethods.lease_keep_alive`."""
        return self.call(lambda client: client.lease_keep_alive(lease), timeout)

    def lease_revoke(self, lease: int, *, timeout: float | None = None) -> int:
        """End a lease; see :meth:`~trioraft.kv.client.KeyValueMethods.lease_revoke`."""
        return self.call(lambda client: client.lease_revoke(lease), timeout)

    @contextmanager
    def lock(
        self, name: str, ttl: int = 10, *, wait: float | None = None, timeout: float | None = None
    ) -> Iterator[HeldLock]:
        """Hold a lock for as long as the block lasts; the thread of the client keeps its lease alive.

        A thread cannot be cancelled. Check ``lock.lease.held_until`` before every step that needs the lock, or give
        the fencing token to the resource that the lock protects.

        Parameters
        ----------
        name : str
            The lock's name.
        ttl : int
            The time to live of the lease that holds it, in seconds.
        wait : float, optional
            How long to wait while somebody else holds it, in seconds; 0 to take it only if it is free; `timeout` by
            default.
        timeout : float, optional
            How long to try where the cluster does not answer, in seconds; the client's timeout by default.

        Yields
        ------
        HeldLock
            The lock, with its fencing token.

        Raises
        ------
        LockHeldError
            If somebody else held it for all that time.
        LeaseLostError
            At the end of the block, if somebody else may have had the lock before that.
        """
        check_lock(name, ttl, wait)
        seconds = self._timeout if timeout is None else check_seconds("timeout", timeout)
        holding = _Holding(name, ttl, seconds if wait is None else wait, seconds)

        async def begin(client: AsyncClient) -> HeldLock:
            return await holding.begin(client, self._opened_in_thread().nursery, self._scope)

        async def end(_: AsyncClient) -> None:
            await holding.end()

        lock = self.call(begin, FOREVER)
        try:
            yield lock
        finally:
            self.call(end, FOREVER)
        if holding.failure is not None:
            raise holding.failure


class _Holding:
    """A task in the client's thread that holds a lock while another thread runs the block that needs it.

    Parameters
    ----------
    name : str
        The lock.
    ttl : int
        The time to live of its lease, in seconds.
    patience : float
        How long to wait while somebody else holds it, in seconds.
    seconds : float
        How long to try where the cluster does not answer.

    Attributes
    ----------
    failure : Exception or None
        The error by which it ended, if there was one.
    """

    def __init__(self, name: str, ttl: int, patience: Seconds, seconds: Seconds) -> None:
        self._name = name
        self._ttl = ttl
        self._patience = patience
        self._seconds = seconds
        self._scope = trio.CancelScope()
        self._block_left = trio.Event()
        self._ended = trio.Event()
        self.failure: Exception | None = None

    async def begin(self, client: AsyncClient, nursery: trio.Nursery, closing: trio.CancelScope) -> HeldLock:
        """Take the lock, and hold it in a task of the nursery.

        Parameters
        ----------
        client : Client
            The client.
        nursery : trio.Nursery
            Where the task runs.
        closing : trio.CancelScope
            The scope that is cancelled when the client is closed.

        Returns
        -------
        HeldLock
            The lock.
        """
        lock: HeldLock | None = await nursery.start(self._hold, client, closing)
        if lock is not None:
            return lock
        raise self.failure or NoAnswerError(f"{client.problem} (waited for the lock {self._name})")

    async def end(self) -> None:
        """Let go of the lock, now that the block is left."""
        self._block_left.set()
        await self._ended.wait()

    async def _hold(
        self, client: AsyncClient, closing: trio.CancelScope, *, task_status: trio.TaskStatus[HeldLock | None]
    ) -> None:
        is_held = False
        self._scope.deadline = trio.current_time() + self._seconds
        with self._scope:
            try:
                async with hold_lock(client, self._name, self._ttl, wait=self._patience, queued=self._queued) as lock:
                    self._scope.deadline = NEVER
                    is_held = True
                    task_status.started(lock)
                    try:
                        await self._block_left.wait()
                    finally:
                        await self._let_end(lock, closing)
            except Exception as failure:  # `begin` raises it, or the end of the block
                self.failure = failure
        if not is_held:
            task_status.started(None)
        self._ended.set()

    def _queued(self) -> None:
        self._scope.deadline = trio.current_time() + self._patience + self._seconds

    async def _let_end(self, lock: HeldLock, closing: trio.CancelScope) -> None:
        """Keep a lock that was revoked for as long as a thread may rely on it: a thread cannot be cancelled."""
        if not closing.cancel_called:
            with trio.move_on_after(lock.lease.held_until - boottime(), shield=True):
                await self._block_left.wait()
