"""The requests that are under way at a node, and their answers.

A request comes again until it is answered, so what is under way is not begun twice. What has been answered is begun
again, where that does no harm: a command within a session is applied once, whatever this node remembers
(:mod:`trioraft.replica.sessions`), and a question may be asked twice. Of the rest the answers are kept for a while.
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

# Requests whose answer is kept, for when it is asked for again.
_KEPT: Final = 256
# A text of the program around the state machine may have any length.
_DETAIL_MAX: Final = 1000

UNKNOWN_TEXT: Final = "unknown: the leader changed; the session makes the retry safe"

# The process that asks, and its number for the request.
_Key: TypeAlias = tuple[bytes, int]

# Sends an answer to a peer.
SendAnswer: TypeAlias = Callable[[Peer, ClientResponse], None]


class Surroundings(Protocol):
    """What a node knows of the others, and what its program wants: requests depend on it."""

    def address_of(self, node: NodeId) -> str:
        """Return the ``ip:port`` of a node, or nothing."""

    def reachable(self) -> int:
        """Return how many voters were heard lately, this node included."""

    def names(self) -> Mapping[NodeId, str]:
        """Return what people call the nodes."""

    def let_leave(self, node: NodeId, now: Instant) -> Declined | None:
        """Begin to remove a member that is about to stop; return why not, or None."""

    def why_not_join(self, node: NodeId) -> str | None:
        """Return why a node cannot become a member, or None."""

    def require(self, needed: Version, speaks: Version) -> None:
        """Raise what is said of something that needs a version which the cluster does not speak yet."""


@dataclass(slots=True)
class Asked:
    """A request.

    Attributes
    ----------
    peer : Peer
        Who asked last.
    request : int
        The asker's number for it.
    kind : Kind
        Which room it takes.
    who : Asker
        Whose room that is: who asked first.
    term : int
        The term in which this node must go on leading for it; 0 when that does not matter.
    keep : bool
        Whether its answer is kept.
    give_up : callable or None
        Whom to tell that nobody waits for the answer any more.
    """

    peer: Peer
    request: int
    kind: Kind
    who: Asker
    term: Term = 0
    keep: bool = False
    give_up: Callable[[], None] | None = None

    @property
    def key(self) -> _Key:
        """What makes two datagrams the same request."""
        return self.peer.process, self.request


class Desk:
    """The requests under way, and how they are answered.

    Parameters
    ----------
    core : Core
        Knows who leads.
    around : Surroundings
        Knows the other nodes.
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
        """Take in a request, unless it is under way, or its answer is known and is sent again, or there is no room.

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
        """Forget a request that nobody waits for any more."""
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
            What there is to say, in one line.
        code : str
            Why it was not carried out, for programs: one of :class:`~trioraft.messages.Refusal`.
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
            Why, for programs.
        detail : str
            Why, in one line.
        """
        if code is not Refusal.REFUSED:
            asked.keep = False  # it may be carried out when it is asked for again
        self.answer(asked, done=False, detail=detail, code=code)

    def refuse_more(self, asked: Asked, limit: Limit) -> None:
        """Refuse what passes a limit: for good where that is the client's own, and it knows that there are such."""
        final = limit.is_own and asked.peer.versions.highest >= CANCELS_FROM
        self.refuse(asked, Refusal.LIMIT if final else Refusal.BUSY, limit.text if final else f"busy: {limit.text}")

    def refuse_for(self, asked: Asked, error: ProposalError) -> None:
        """Refuse what was not carried out for a reason that an error tells."""
        self.refuse(asked, Refusal.BUSY if isinstance(error, BusyError) else Refusal.REFUSED, str(error))

    def refuse_elsewhere(self, asked: Asked) -> None:
        """Say that this node does not lead, and what it knows of who does."""
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
        """Say why there may be no leader.

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
        """Answer what needed this node to go on leading in a term, now that its role or term is another one."""
        term = self._core.term if self._core.role is Role.LEADER else 0
        for asked in [asked for asked in self._under_way.values() if asked.term not in {0, term}]:
            self.refuse(asked, Refusal.UNKNOWN, UNKNOWN_TEXT)
