"""The daemon: a node with the key-value store, from its start to the signal that ends it."""

import ctypes
import gc
import signal
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

import trio

from trioraft.errors import NodeError
from trioraft.kv.service import KeyValueService
from trioraft.node.node import Node, open_node
from trioraft.nurseries import first_error
from trioraft.settings.settings import NodeSettings
from trioraft.signals import ENDING, not_ignored
from trioraft.storage.errors import StorageError

if TYPE_CHECKING:
    from trioraft.etcd.server import ClientPort

# The M_MMAP_THRESHOLD of glibc, and the size in bytes from which on a block is a mapping of its own.
_MMAP_THRESHOLD: Final = -3
_OWN_MAPPING: Final = 128 * 1024
# So many more objects than before have the collector look through the new ones. Next to nothing here is a cycle, and
# with Python's 700 a collection comes every millisecond of full load, for 3 % of the time. 10,000 take it 2 ms.
_YOUNG: Final = 10_000


async def run_node(settings: NodeSettings) -> None:
    """Run a node with the key-value store until SIGTERM, SIGINT or SIGHUP.

    A leader gives its leadership away first; with ``LEAVE_ON_STOP`` the node has itself removed.

    Parameters
    ----------
    settings : NodeSettings
        The configuration of the node.

    Raises
    ------
    NodeError
        If the node cannot start or go on; one line that says what to do.
    """
    failure: NodeError | None = None
    open_port = _load_client_port() if settings.client_bind_port is not None else None
    _give_large_blocks_back()
    gc.collect()
    gc.freeze()  # imported modules stay; a collector that looks through them takes 20 ms each time
    gc.set_threshold(_YOUNG)
    try:
        with trio.open_signal_receiver(*not_ignored(*ENDING)) as signals:
            async with trio.open_nursery() as nursery:
                life = _Life(open_port)
                nursery.start_soon(life.obey, signals)
                while await life.run_once(settings):
                    pass
                nursery.cancel_scope.cancel()
    except* (NodeError, StorageError) as group:
        failure = NodeError(str(first_error(group)))
    if failure is not None:
        raise failure


def _load_client_port() -> "type[ClientPort]":
    """Load what serves the clients of etcd: not into a node that has none, nor while one runs."""
    from trioraft.etcd.server import ClientPort  # noqa: PLC0415

    return ClientPort


def _give_large_blocks_back() -> None:
    """Have the memory of a large value go back to the system when the value is freed.

    glibc raises its threshold when the first large block is freed. From then on values of 1 MiB lie between others,
    and the process keeps their memory: overwriting all of 48 MiB took 203 MiB, and takes 158 MiB with this.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # another C library has none
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _OWN_MAPPING)


class _Life:
    """The life of a node's process, which a signal may end at any time."""

    def __init__(self, open_port: "type[ClientPort] | None") -> None:
        self._open_port = open_port
        self._node: Node | None = None  # while it is open
        self._running = trio.CancelScope()
        self._told = False

    async def run_once(self, settings: NodeSettings) -> bool:
        """Run a node until a signal stops it; return whether it must begin anew instead.

        A node that finds at its start that it was removed while it was away begins anew, as another node, as it would
        after one more start: it was started to take part. A node that is removed while it takes part stays removed
        until it is started again.
        """
        service = KeyValueService()
        self._running = trio.CancelScope()
        with self._running:
            async with open_node(settings, service) as node, trio.open_nursery() as nursery:
                self._node = node
                nursery.start_soon(service.run, node)
                if self._open_port is None:
                    node.answer_questions(service.answer, service.only_reads)
                else:
                    port = self._open_port(node, service)
                    node.answer_questions(port.answer, port.only_reads)
                    nursery.start_soon(port.run)
                try:
                    await node.must_begin_anew.wait()
                finally:
                    self._node = None
                nursery.cancel_scope.cancel()
            return not self._told
        return False

    async def obey(self, signals: AsyncIterator[int]) -> None:
        """Stop at each signal."""
        async with trio.open_nursery() as nursery:
            async for number in signals:
                self._told = True
                nursery.start_soon(self._stop, signal.Signals(number).name)

    async def _stop(self, reason: str) -> None:
        """Hand leadership over, leave the cluster if so configured, and stop; a second signal stops at once."""
        if self._node is not None and not self._node.stopping:
            await self._node.step_aside(reason)
        self._running.cancel()
