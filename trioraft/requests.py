"""What clients ask a node to do; each request is carried out once, however often its datagram comes."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from trioraft.consensus import Core, Role
from trioraft.endpoint import Peer
from trioraft.messages import AbandonFormation, ClientRequest, ClientResponse, Transfer, format_id

# Requests whose answer is kept, for when it is asked for again.
_KEPT: Final = 256


@dataclass(slots=True)
class _Asked:
    """A request; its answer is None while it is carried out."""

    peer: Peer
    request: int
    answer: ClientResponse | None = None


class Requests:
    """The requests of clients.

    Parameters
    ----------
    core : Core
        Carries them out.
    clock : callable
        Tells the time in seconds.
    """

    def __init__(self, core: Core, clock: Callable[[], float]) -> None:
        self._core = core
        self._clock = clock
        self._asked: OrderedDict[tuple[bytes, int], _Asked] = OrderedDict()
        self._transferring: list[tuple[_Asked, int]] = []  # and the term in which it was asked for

    def receive(self, peer: Peer, message: ClientRequest) -> ClientResponse | None:
        """Carry out a request, unless it was carried out before.

        Parameters
        ----------
        peer : Peer
            Who asks.
        message : ClientRequest
            What for.

        Returns
        -------
        ClientResponse or None
            The answer; None while there is none yet, see :meth:`conclude`.
        """
        key = (peer.process, message.request)
        asked = self._asked.get(key)
        if asked is None:
            asked = self._asked[key] = _Asked(peer, message.request)
            while len(self._asked) > _KEPT:
                self._asked.popitem(last=False)
            self._carry_out(asked, message)
        asked.peer = peer
        return asked.answer

    def _carry_out(self, asked: _Asked, message: ClientRequest) -> None:
        if isinstance(message.command, Transfer):
            self._transfer(asked, message.command)
        elif isinstance(message.command, AbandonFormation):
            refusal = self._core.abandon_formation(message.command.formation, self._clock())
            detail = refusal or f"formation {format_id(message.command.formation)} is abandoned here"
            asked.answer = ClientResponse(asked.request, done=refusal is None, detail=detail)

    def _transfer(self, asked: _Asked, command: Transfer) -> None:
        if self._core.role is not Role.LEADER:
            asked.answer = ClientResponse(
                asked.request, done=False, detail="this node is not the leader", leader=self._core.leader
            )
            self._asked.pop((asked.peer.process, asked.request), None)  # it may lead when asked again
            return
        term = self._core.term
        refusal = self._core.transfer(command.to, self._clock())
        if refusal is None:
            self._transferring.append((asked, term))
        else:
            asked.answer = ClientResponse(asked.request, done=False, detail=refusal)

    def conclude(self) -> Iterator[tuple[Peer, ClientResponse]]:
        """Answer the requests whose outcome is known by now.

        Yields
        ------
        tuple of Peer and ClientResponse
            Who asked, and the answer.
        """
        if self._core.role is Role.LEADER or not self._transferring:
            return
        open_still = []
        for asked, term in self._transferring:
            if self._core.term == term:
                detail, done = "nobody took over the leadership in time; this node has stepped down", False
            elif not self._core.leader:
                open_still.append((asked, term))
                continue
            else:
                done, detail = True, f"node {format_id(self._core.leader)} leads in term {self._core.term}"
            asked.answer = ClientResponse(asked.request, done=done, detail=detail)
            yield asked.peer, asked.answer
        self._transferring = open_still
