"""Digests of the replicated state, which show whether replicas hold the same.

Replicas that have applied the same entries must have the same digest; a state machine that is not deterministic is
found out by that. The digest is that of a snapshot of the state, hashed chunk by chunk while the log goes on.
"""

import hashlib

import trio

from trioraft.node.administration import Digested
from trioraft.node.pauses import Pauses
from trioraft.replica.sessions import Replica


class StateDigests:
    """Hashes the state of one node, once for all requests that wait.

    Parameters
    ----------
    replica : Replica
        The state that is hashed.
    pauses : Pauses
        Hold it while it is looked at.
    """

    def __init__(self, replica: Replica, pauses: Pauses) -> None:
        self._replica = replica
        self._pauses = pauses
        self._waiting: list[Digested] = []
        self._wanted = trio.Event()

    def start(self, digested: Digested) -> None:
        """Hash the state as it is now, or a little later.

        Parameters
        ----------
        digested : callable
            Takes the result.
        """
        self._waiting.append(digested)
        self._wanted.set()

    async def run(self) -> None:
        """Hash until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            async with self._pauses.paused():
                waiting, self._waiting = self._waiting, []
                index, chunks = self._replica.applied_index, self._replica.snapshot()
            digest = hashlib.sha256()
            for chunk in chunks:
                digest.update(chunk)
                await trio.lowlevel.checkpoint()
            for digested in waiting:
                digested(index, digest.hexdigest())
