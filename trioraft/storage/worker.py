"""A thread that does blocking jobs one after the other, in the order in which they came.

``trio.to_thread.run_sync`` starts from scratch for each call, which costs more than a small write; a worker keeps its
thread and its queue. The thread ends with the block it was opened in: no thread outlives its owner.
"""

import queue
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import outcome
import trio

T = TypeVar("T")
# What became of a job, told in trio's thread.
Ended = Callable[[outcome.Outcome[Any]], None]
_Job = tuple[Callable[[], Any], Ended]


class Worker:
    """A thread that runs functions one after the other; see :func:`open_worker`."""

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._token = trio.lowlevel.current_trio_token()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            function, ended = job
            result = outcome.capture(function)
            try:
                self._token.run_sync_soon(ended, result)
            except trio.RunFinishedError:
                return

    def begin(self, function: Callable[[], Any], ended: Ended) -> None:
        """Have the thread run a function, and wait for nothing.

        Parameters
        ----------
        function : callable
            The function.
        ended : callable
            Told, in trio's thread, what became of it.
        """
        self._jobs.put((function, ended))

    async def run(self, function: Callable[[], T]) -> T:
        """Run a function in the thread; cancellation waits for it, because it cannot be taken back.

        Parameters
        ----------
        function : callable
            The function.

        Returns
        -------
        object
            The value that it returned.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self.begin(function, partial(trio.lowlevel.reschedule, trio.lowlevel.current_task()))
        result: T = await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        return result

    def stop(self) -> None:
        """End the thread after the jobs that it has."""
        self._jobs.put(None)
        self._thread.join()


@asynccontextmanager
async def open_worker(name: str) -> AsyncIterator[Worker]:
    """Run a worker for as long as the block lasts.

    Parameters
    ----------
    name : str
        The name of its thread, for people who look at the process.

    Yields
    ------
    Worker
        The worker.
    """
    worker = Worker(name)
    try:
        yield worker
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(worker.stop)
