"""The daemon: a node with the key-value store, from its start to the signal that ends it."""

import gc
import signal

import trio

from trioraft.errors import NodeError
from trioraft.kv.service import KeyValueService
from trioraft.node.node import Node, open_node
from trioraft.settings import NodeSettings
from trioraft.storage.database import StorageError


async def run_node(settings: NodeSettings) -> None:
    """Run a node with the key-value store until SIGTERM or SIGINT.

    A leader gives its leadership away first; with ``LEAVE_ON_STOP`` the node has itself removed.

    Parameters
    ----------
    settings : NodeSettings
        Its configuration.

    Raises
    ------
    NodeError
        If it cannot start or go on; one line that says what to do.
    """
    failure: NodeError | None = None
    gc.collect()
    gc.freeze()  # what is imported stays; looking through it again and again would take 15 ms each time
    try:
        while await _run_once(settings):
            pass
    except* (NodeError, StorageError) as group:
        failure = NodeError(str(_first(group)))
    if failure is not None:
        raise failure


async def _run_once(settings: NodeSettings) -> bool:
    """Run a node until it is told to stop; True when it finds that it was removed before it came back.

    Then it begins anew, as another node, as it would after one more start: whoever started it wants it to take part.
    One that is removed while it takes part stays removed until somebody starts it again.
    """
    service = KeyValueService()
    async with open_node(settings, service) as node, trio.open_nursery() as nursery:
        node.answer_questions(service.answer)
        nursery.start_soon(service.run, node)
        nursery.start_soon(_stop_at_signals, node, nursery.cancel_scope)
        await node.must_begin_anew.wait()
        nursery.cancel_scope.cancel()
    return node.must_begin_anew.is_set() and not node.stopping


async def _stop_at_signals(node: Node, running: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            async for number in signals:
                nursery.start_soon(_stop, node, running, signal.Signals(number).name)


async def _stop(node: Node, running: trio.CancelScope, reason: str) -> None:
    """Step aside, leave the cluster if that is wanted, and stop; a second signal stops at once."""
    if node.stopping:
        running.cancel()
    await node.step_aside(reason)
    running.cancel()


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
