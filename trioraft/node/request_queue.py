"""Requests wait here for their turn: heartbeats, and the answers of other members, do not wait for all of them.

A few datagrams may hold thousands of requests, and a leader that carried all of them out at once would be silent.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

import trio

from trioraft.datagrams.endpoint import Peer
from trioraft.messages import ClientRequest

# Requests are carried out for so long, in seconds, before other tasks get their turn.
_TURN: Final = 0.005
# More than so many are not kept: a client sends again what is not answered.
_WAITING_MAX: Final = 20_000


class RequestQueue:
    """The requests that came in and wait for their turn.

    Parameters
    ----------
    carry_out : callable
        Carries one out.
    clock : callable
        Tells the time in seconds.
    flush : callable
        Lets what was answered leave.
    """

    def __init__(
        self,
        carry_out: Callable[[Peer, ClientRequest], None],
        clock: Callable[[], float],
        flush: Callable[[], None],
    ) -> None:
        self._carry_out = carry_out
        self._clock = clock
        self._flush = flush
        self._waiting: deque[tuple[Peer, ClientRequest]] = deque()
        self._wanted = trio.Event()

    def add(self, peer: Peer, request: ClientRequest) -> None:
        """Take a request that came in.

        Parameters
        ----------
        peer : Peer
            Who asks.
        request : ClientRequest
            What for.
        """
        if len(self._waiting) < _WAITING_MAX:
            self._waiting.append((peer, request))

    def carry_out_some(self) -> None:
        """Carry out what there is, for a while; :meth:`run` does the rest. The caller flushes."""
        until = self._clock() + _TURN
        while self._waiting:
            self._carry_out(*self._waiting.popleft())
            if self._clock() > until:
                break
        self.leave_to_run()

    def leave_to_run(self) -> None:
        """Let :meth:`run` carry out what there is."""
        if self._waiting:
            self._wanted.set()

    async def run(self) -> None:
        """Carry out what others have left, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            self.carry_out_some()
            self._flush()
