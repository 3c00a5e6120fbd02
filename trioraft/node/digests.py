"""Hashes the replicated state, so that anybody can see whether replicas hold the same.

Replicas that have applied the same entries must have the same hash; a state machine that is not deterministic shows
itself so. The state is hashed as a snapshot of it would be written: bit by bit, while the log goes on.
"""

import hashlib
from collections.abc import Callable
from typing import TypeAlias

import trio

from trioraft.node.apply import Applier

# Told the last entry applied, and 64 hexadecimal digits.
Digested: TypeAlias = Callable[[int, str], None]


class Digests:
    """Hashes the state of one node, once for all who ask at a time.

    Parameters
    ----------
    applier : Applier
        Has the state.
    """

    def __init__(self, applier: Applier) -> None:
        self._applier = applier
        self._waiting: list[Digested] = []
        self._wanted = trio.Event()

    def start(self, digested: Digested) -> None:
        """Hash the state as it is now, or a little later.

        Parameters
        ----------
        digested : callable
            Told the result.
        """
        self._waiting.append(digested)
        self._wanted.set()

    async def run(self) -> None:
        """Hash until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            async with self._applier.paused():
                waiting, self._waiting = self._waiting, []
                index, chunks = self._applier.replica.applied_index, self._applier.replica.snapshot()
            digest = hashlib.sha256()
            for chunk in chunks:
                digest.update(chunk)
                await trio.lowlevel.checkpoint()
            for digested in waiting:
                digested(index, digest.hexdigest())
