"""Pauses in applying: one task at a time holds the state, when it must stand still for longer than a moment."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from trioraft.node.apply import Applying


class Pauses:
    """The pauses of one node.

    Parameters
    ----------
    applying : Applying
        Applies entries, and is paused.
    soon : callable
        Requests a turn when a pause is over.
    """

    def __init__(self, applying: Applying, soon: Callable[[], None]) -> None:
        self._applying = applying
        self._soon = soon
        self._one = trio.Lock()

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Apply nothing while the block lasts; two blocks never run at the same time."""
        async with self._one:
            try:
                with self._applying.held():
                    yield
            finally:
                self._soon()
