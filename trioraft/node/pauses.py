"""Pauses in applying: one at a time holds the state, whoever needs it to stand still for longer than a moment."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from trioraft.node.apply import Applying


class Pauses:
    """The pauses of one node.

    Parameters
    ----------
    applying : Applying
        What is paused.
    soon : callable
        Has the node take a turn when a pause is over.
    """

    def __init__(self, applying: Applying, soon: Callable[[], None]) -> None:
        self._applying = applying
        self._soon = soon
        self._one = trio.Lock()

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Apply nothing for as long as the block lasts; two blocks never last at the same time."""
        async with self._one:
            try:
                with self._applying.held():
                    yield
            finally:
                self._soon()
