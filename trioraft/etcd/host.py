"""What the methods need of the node that serves them: commands carried out once, fresh reads, and the header."""

import trio

from trioraft.clock import NEVER
from trioraft.consensus import Role
from trioraft.errors import ProposalError, RefusedError
from trioraft.etcd.messages import ResponseHeader
from trioraft.etcd.status import NO_LEADER, STOPPED, TIMED_OUT, ApiError, Code, of_proposal
from trioraft.kv.codec import decode_result, pack, unpack
from trioraft.kv.questions import Answer, AnyAnswer, Question
from trioraft.kv.results import Result
from trioraft.kv.service import KeyValueService
from trioraft.messages import Ask, ClientResponse, Command, NodeId, Refusal, Term
from trioraft.node.node import Node


class Host:
    """The node, as the methods see it.

    Parameters
    ----------
    node : Node
        The node.
    service : KeyValueService
        Its store.

    Attributes
    ----------
    node, service : Node and KeyValueService
        As above.
    leader_changes : int
        How many times this node has seen another leader.
    patience : float
        How long a request is held that waits for an election, in seconds.
    """

    def __init__(self, node: Node, service: KeyValueService) -> None:
        self.node = node
        self.service = service
        self.leader_changes = 0
        # An election takes one timeout until it begins, and hardly any time then.
        self.patience = 1.5 * node.settings.election_timeout_upper
        self._term = 0
        self._leader = 0
        self._leaderless_since = node.now()

    async def run(self) -> None:
        """Follow which node leads, until cancelled."""
        while True:
            self._look()
            await self.node.role_changed()

    async def until_ready(self) -> None:
        """Wait until this node is a member of a cluster with a leader."""
        while not self.has_leader or not self.node.consensus.cluster:
            await self.node.role_changed()

    def _look(self) -> None:
        leader = self.node.consensus.leader
        if leader and leader != self._leader:
            self.leader_changes += 1
            self._leader = leader
        if leader:
            self._leaderless_since = NEVER
        elif self._leaderless_since == NEVER:
            self._leaderless_since = self.node.now()

    # --- the header -----------------------------------------------------------------------------------------

    @property
    def term(self) -> Term:
        """The newest term that this node cannot forget; clients take a node whose term goes back for a stale one."""
        if self.node.consensus.hard_is_durable:
            self._term = max(self._term, self.node.consensus.term)
        return self._term

    def header(self, revision: int | None = None) -> ResponseHeader:
        """Head an answer.

        Parameters
        ----------
        revision : int, optional
            The revision that it names; the store's by default.

        Returns
        -------
        ResponseHeader
            The header.
        """
        shown = self.service.store.revision if revision is None else revision
        return ResponseHeader(self.node.consensus.cluster, self.node.id, shown, self.term)

    # --- whether this node can serve ------------------------------------------------------------------------

    @property
    def has_leader(self) -> bool:
        """Whether this node knows a leader."""
        return self.node.consensus.leader != 0

    def check(self, *, needs_leader: bool = True) -> None:
        """Refuse a request that this node cannot serve, and does not expect to serve soon.

        Parameters
        ----------
        needs_leader : bool
            Whether the request needs a leader.
        """
        if self.node.role is Role.REMOVED or (self.node.stopping and not self.has_leader):
            raise ApiError(*STOPPED)
        if not self.node.consensus.cluster or not self.term:
            raise ApiError(*NO_LEADER)
        if needs_leader and self.node.now() - self._leaderless_since > self.patience:
            raise ApiError(*NO_LEADER)

    # --- what needs the other nodes -------------------------------------------------------------------------

    async def execute(self, command: bytes) -> Result:
        """Have the store carry out a command, once.

        Parameters
        ----------
        command : bytes
            The encoded command.

        Returns
        -------
        Result
            Its result.

        Raises
        ------
        ApiError
            If there is none; with code 14 where it is not known whether it was, or will be, carried out.
        """
        self.check()
        with trio.move_on_after(self.patience):
            try:
                return decode_result(await self.node.propose(command))
            except ProposalError as error:
                raise of_proposal(error) from None
        raise ApiError(*TIMED_OUT)

    async def catch_up(self) -> None:
        """Wait until the store has everything that was acknowledged before."""
        self.check()
        with trio.move_on_after(self.patience):
            await self.node.read_barrier()
            return
        raise ApiError(*TIMED_OUT)

    async def ask_leader(self, question: Question) -> Answer:
        """Ask the leader, whichever node that is by the time that it answers, what only a leader knows.

        Parameters
        ----------
        question : Question
            The question.

        Returns
        -------
        Answer
            Its answer.
        """
        response = await self.carry_out(Ask(pack(question), leader=True))
        if not response.done:
            raise _of_response(response)
        return unpack(response.data, AnyAnswer)

    async def carry_out(
        self, command: Command, node: NodeId | None = None, seconds: float | None = None
    ) -> ClientResponse:
        """Have the leader, or another node, carry out what a client can ask it for.

        Parameters
        ----------
        command : Command
            The command.
        node : int, optional
            The node; the leader by default.
        seconds : float, optional
            How long to wait; as long as for an election by default.

        Returns
        -------
        ClientResponse
            The answer.
        """
        self.check(needs_leader=node is None)
        with trio.move_on_after(self.patience if seconds is None else seconds):
            return await self.node.carry_out(command, node=node)
        raise ApiError(*(TIMED_OUT if self.has_leader else NO_LEADER))


def _of_response(response: ClientResponse) -> ApiError:
    if response.code in {Refusal.REFUSED, Refusal.LIMIT}:
        return of_proposal(RefusedError(response.detail))
    return ApiError(*TIMED_OUT) if response.code else ApiError(Code.FAILED_PRECONDITION, response.detail)
