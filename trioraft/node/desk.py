"""The requests that are under way at a node, and their answers.

A client sends a request again until it is answered, so a request that is under way is not begun twice. A request that
has been answered is carried out again where that does no harm: a command within a session is applied once, whatever
this node remembers (:mod:`trioraft.replica.sessions`), and a question may be asked twice. The answers to all other
requests are kept for a while.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from trioraft.consensus import Core, Role
from trioraft.datagrams.endpoint import Peer
from trioraft.errors import BusyError, ProposalError
from trioraft.members.autopilot import Declined
from trioraft.messages import PAYLOAD_MAX, ClientResponse, Instant, NodeId, Refusal, Term, Version, format_id
from trioraft.node.room import Kind, Room
from trioraft.tally import Asker, Limit
from trioraft.versions import CANCELS_FROM

# The most answers that are kept for requests that may come again.
_KEPT: Final = 256
# The longest text in an answer; a text of the program around the state machine may have any length.
_DETAIL_MAX: Final = 1000

UNKNOWN_TEXT: Final = "unknown: the leader changed; the session makes the retry safe"

# The process that asks, and its number for the request.
_Key: TypeAlias = tuple[bytes, int]

# Sends an answer to a peer.
SendAnswer: TypeAlias = Callable[[Peer, ClientResponse], None]


class Surroundings(Protocol):
    """A node's knowledge of the other nodes, as far as requests depend on it."""

    def address_of(self, node: NodeId) -> str:
        """Return the ``ip:port`` of a node; empty where it is not known."""

    def reachable(self) -> int:
        """Count the voters that were heard lately, this node included."""

    def names(self) -> Mapping[NodeId, str]:
        """Return the names of the nodes."""

    def let_leave(self, node: NodeId, now: Instant) -> Declined | None:
        """Begin to remove a member that is about to stop; return the reason if that is declined."""

    def why_not_join(self, node: NodeId) -> str | None:
        """Return why a node cannot become a member; None if it can."""

    def require(self, needed: Version, speaks: Version) -> None:
        """Raise an error if a version is needed that the cluster does not speak yet."""


@dataclass(slots=True)
class Asked:
    """A request.

    Attributes
    ----------
    peer : Peer
        The peer that sent it last.
    request : int
        The asker's number for it.
    kind : Kind
        The kind of room that it takes.
    who : Asker
        The client whose room it takes: the one that sent it first.
    term : int
        The term in which this node must go on leading for it; 0 when the term does not matter.
    keep : bool
        Whether its answer is kept.
    give_up : callable or None
        The function to call when the answer is not waited for any more.
    is_begun : bool
        Whether a part of it is in the log already, and may be carried out whatever becomes of the rest.
    """

    peer: Peer
    request: int
    kind: Kind
    who: Asker
    term: Term = 0
    keep: bool = False
    give_up: Callable[[], None] | None = None
    is_begun: bool = False

    @property
    def key(self) -> _Key:
        """The key of the request: two datagrams with the same key are the same request."""
        return self.peer.process, self.request


class Desk:
    """The requests under way, and how they are answered.

    Parameters
    ----------
    core : Core
        The source of the role, the term and the leader.
    around : Surroundings
        What this node knows of the other nodes.
    send : callable
        Sends an answer.
    """

    def __init__(self, core: Core, around: Surroundings, send: SendAnswer) -> None:
        self._core = core
        self._around = around
        self._send = send
        self._under_way: dict[_Key, Asked] = {}
        self._room = Room()
        self._answers: OrderedDict[_Key, ClientResponse] = OrderedDict()

    def begin(self, asked: Asked) -> bool:
        """Take in a request, unless it is under way, or there is no room; if its answer is known, send that again.

        Parameters
        ----------
        asked : Asked
            The request.

        Returns
        -------
        bool
            Whether it is to be carried out.
        """
        known = self._under_way.get(asked.key)
        if known is not None:
            known.peer = asked.peer
            return False
        if asked.key in self._answers:
            self._send(asked.peer, self._answers[asked.key])
            return False
        self._under_way[asked.key] = asked
        self._room.enter(asked.who, asked.kind)
        limit = self._room.why_none(asked.who, asked.kind)
        if limit.text:
            self.refuse_more(asked, limit)
        return not limit.text

    def find(self, peer: Peer, request: int) -> Asked | None:
        """Return a request that is under way, by its asker and its number."""
        return self._under_way.get((peer.process, request))

    def has(self, asked: Asked) -> bool:
        """Check whether a request is still waited for."""
        return self._under_way.get(asked.key) is asked

    def let_go(self, asked: Asked) -> None:
        """Forget a request that is not waited for any more."""
        del self._under_way[asked.key]
        self._room.leave(asked.who, asked.kind)

    def answer(
        self,
        asked: Asked,
        *,
        done: bool = True,
        detail: str = "",
        code: str = "",
        data: bytes = b"",
        session: int = 0,
    ) -> None:
        """Answer a request, unless that was done already.

        Parameters
        ----------
        asked : Asked
            The request.
        done : bool
            Whether it was carried out.
        detail : str
            An explanation, in one line.
        code : str
            The reason why it was not carried out, for programs: one of :class:`~trioraft.messages.Refusal`.
        data : bytes
            The result.
        session : int
            The session that was opened.
        """
        if not self.has(asked):
            return
        if len(data) > PAYLOAD_MAX:
            detail = f"it was carried out, but its result of {len(data)} bytes is more than the {PAYLOAD_MAX} allowed"
            done, code, data = False, Refusal.NO_RESULT, b""
        self.let_go(asked)
        leader = self._core.leader
        response = ClientResponse(
            asked.request,
            done=done,
            detail=detail[:_DETAIL_MAX],
            leader=leader,
            code=code,
            data=data,
            session=session,
            term=self._core.term,
            leader_address=self._around.address_of(leader) if code and leader else "",
        )
        if asked.keep:
            self._answers[asked.key] = response
            while len(self._answers) > _KEPT:
                self._answers.popitem(last=False)
        self._send(asked.peer, response)

    def refuse(self, asked: Asked, code: Refusal, detail: str) -> None:
        """Refuse a request, for good or for now.

        Parameters
        ----------
        asked : Asked
            The request.
        code : Refusal
            The reason, for programs.
        detail : str
            The reason, in one line.
        """
        if code is not Refusal.REFUSED:
            asked.keep = False  # it may be carried out when it is asked for again
        self.answer(asked, done=False, detail=detail, code=code)

    def refuse_more(self, asked: Asked, limit: Limit) -> None:
        """Refuse a request that passes a limit: for good if it is the client's own, and its version knows limits."""
        final = limit.is_own and asked.peer.versions.highest >= CANCELS_FROM
        self.refuse(asked, Refusal.LIMIT if final else Refusal.BUSY, limit.text if final else f"busy: {limit.text}")

    def refuse_for(self, asked: Asked, error: ProposalError) -> None:
        """Refuse a request that an error kept from being carried out."""
        self.refuse(asked, Refusal.BUSY if isinstance(error, BusyError) else Refusal.REFUSED, str(error))

    def refuse_elsewhere(self, asked: Asked) -> None:
        """Refuse a request because this node does not lead; name the leader if it is known."""
        if not self._core.cluster:
            self.refuse(asked, Refusal.NO_CLUSTER, "this node is no member of a cluster yet")
        elif self._core.leader not in {0, self._core.id}:
            names, leader = self._around.names(), self._core.leader
            own = names.get(self._core.id) or format_id(self._core.id)
            where = self._around.address_of(leader) or "an address that it does not know"
            text = f"node {own} does not lead; the leader is node {names.get(leader) or format_id(leader)} at {where}"
            self.refuse(asked, Refusal.NOT_LEADER, text)
        else:
            self.refuse(asked, Refusal.NO_LEADER, self.why_no_leader())

    def why_no_leader(self) -> str:
        """Describe why there may be no leader.

        Returns
        -------
        str
            One line, such as "no quorum: 2 of 5 reachable".
        """
        voters = len(self._core.state.configuration.voters) if self._core.state is not None else 0
        reachable = self._around.reachable()
        if reachable <= voters // 2:
            return f"no quorum: {reachable} of {voters} reachable"
        return f"no leader: an election is under way ({reachable} of {voters} reachable)"

    def conclude(self) -> None:
        """Refuse the requests that needed this node to go on leading in a term, once its role or term is another."""
        term = self._core.term if self._core.role is Role.LEADER else 0
        for asked in [asked for asked in self._under_way.values() if asked.term not in {0, term}]:
            self.refuse(asked, Refusal.UNKNOWN, UNKNOWN_TEXT)
