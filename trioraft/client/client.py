"""The client, which sends commands and questions to the nodes of a cluster.

:mod:`trioraft.client.nodes` describes how it finds them, and that it is not a member itself.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from typing import Final

import msgspec
import trio

from trioraft.arguments import check_all_bytes, check_bytes, check_is, check_number, check_seconds
from trioraft.asking import waiting
from trioraft.asking.calls import NO_ANSWER, NOT_REACHED, Calls, refused
from trioraft.asking.session import Session
from trioraft.client.checks import check_command, check_kind, number_of
from trioraft.client.nodes import RETRY_LAST, KnownNodes
from trioraft.client.status import ClusterStatus, ObservedNode
from trioraft.datagrams import cbor
from trioraft.datagrams.batches import Batches
from trioraft.datagrams.endpoint import Domain
from trioraft.datagrams.rights import NEEDED, may
from trioraft.datagrams.socket import DatagramSocket, open_udp
from trioraft.datagrams.wire import encode_message
from trioraft.errors import NoAnswerError, RefusedError, SessionEndedError
from trioraft.kv.client import KeyValueMethods
from trioraft.kv.errors import KeyValueError
from trioraft.messages import (
    PAYLOAD_MAX,
    REQUESTS_TAG,
    TERM_LEAP,
    Ask,
    ChangeSettings,
    ClientRequest,
    ClientResponse,
    ClientResponses,
    Command,
    Instant,
    Message,
    NodeId,
    NodeStatus,
    Propose,
    Query,
    ReadSettings,
    StateDigest,
    StateDigested,
    parse_id_untrusted,
)
from trioraft.nurseries import bare_errors
from trioraft.replica.settings import QUOTA_MAX, QUOTA_MIN, ClusterSettings, ReadMode, encode_change
from trioraft.settings.settings import ClientSettings, SettingsError

__all__ = [
    "Client",
    "ClusterStatus",
    "KeyValueError",
    "NoAnswerError",
    "ObservedNode",
    "RefusedError",
    "SessionEndedError",
    "open_client",
]

# Nodes report by themselves which one leads, and are asked for their status only to see that they are there. Seconds.
_REFRESH_FOR_CALLS: Final = 2.0


class Client(KeyValueMethods, KnownNodes):
    """A client of a cluster. Made by :func:`open_client`.

    Parameters
    ----------
    settings : ClientSettings
        The service name, where to look, and the keys.
    domain : Domain
        The domain of its sessions; see :func:`open_client`.
    socket : DatagramSocket
        The socket to use.

    Attributes
    ----------
    problem : str
        In words for people, what is known of the command or question whose wait was cancelled last: whether it may
        have been carried out, and why it was not answered.
    """

    def __init__(self, settings: ClientSettings, domain: Domain, socket: DatagramSocket) -> None:
        super().__init__(settings, domain, socket)
        self.problem = ""
        self._batches = Batches(lambda: self._loop.endpoint, REQUESTS_TAG)
        self._asking = waiting.Timer(trio.current_time)
        self._calls = Calls(self, trio.current_time, self._asking.soon)
        self._session = Session(self._calls, trio.current_time)

    # --- what callers use ------------------------------------------------------------------------------------

    async def command(
        self,
        node_id: str | None,
        command: Command,
        timeout: float = 5.0,  # noqa: ASYNC109 - bounds the retries, and stands in the error
    ) -> ClientResponse:
        """Ask a node to carry out a command.

        The request is sent again, with the same number, until it is answered, so that a lost datagram neither loses
        nor doubles it.

        Parameters
        ----------
        node_id : str or None
            The node to ask; None for the leader, which is followed when it changes.
        command : Command
            The command.
        timeout : float
            How many seconds to try.

        Returns
        -------
        ClientResponse
            The node's answer.

        Raises
        ------
        NoAnswerError
            If nobody answered in time, or there was no leader to ask.
        """
        number = number_of(node_id) if node_id is not None else None
        check_command(command)
        check_seconds("timeout", timeout)
        await self._watch_leader(type(command))
        with trio.move_on_after(timeout):
            return await waiting.call(self._calls, lambda: command, node=number, stays=True)
        raise NoAnswerError(self._why_unanswered(node_id, timeout))

    def post(self, node_id: str, command: Command) -> None:
        """Send a command to a node once, and wait for nothing.

        Parameters
        ----------
        node_id : str
            The node.
        command : Command
            The command.
        """
        check_command(command)
        self._check_key(type(command))
        self._calls.post(command, number_of(node_id))

    async def propose(self, data: bytes, *, state_kind: str = "") -> bytes:
        """Commit a command, and apply it to the state machine, once. Deadlines are up to the caller.

        The command is sent again, to whichever node leads, until it is answered or the wait is cancelled;
        :attr:`problem` then says what is known of it.

        Parameters
        ----------
        data : bytes
            The command.
        state_kind : str
            The kind of state it is meant for (:class:`~trioraft.replica.machine.StateMachine`); a cluster of another
            kind refuses it. Empty for any.

        Returns
        -------
        bytes
            What the state machine's ``apply`` returned.

        Raises
        ------
        SessionEndedError
            If the session ended because this client was not heard for too long; it is not known whether the command
            was carried out.
        RefusedError
            If it was refused for another reason, and not carried out.
        ProposalError
            If it was carried out, but its result is too large to be sent.
        SettingsError
            If the key is not good for commands.
        """
        state_kind = check_kind(state_kind)
        await self._watch_leader(Propose)
        return await waiting.propose(
            self._session, check_bytes("data", data), state_kind=state_kind, given_up=self._note_problem
        )

    async def propose_many(self, commands: Iterable[bytes], *, state_kind: str = "") -> list[bytes]:
        """Commit commands, and apply each of them once, as :meth:`propose` does for one; they share what that costs.

        Other clients' commands may come between them, and their order is kept only as far as no node fails meanwhile.

        Parameters
        ----------
        commands : iterable of bytes
            The commands.
        state_kind : str
            As in :meth:`propose`.

        Returns
        -------
        list of bytes
            For each command what the state machine's ``apply`` returned.

        Raises
        ------
        BatchError
            If some have no result; its `outcomes` say which, and why.
        RefusedError
            If one is too large; none is carried out.
        SettingsError
            If the key is not good for commands.
        """
        data = check_all_bytes("commands", commands)
        state_kind = check_kind(state_kind)
        await self._watch_leader(Propose)
        start = partial(self._session.propose, state_kind=state_kind)
        return await waiting.told_all(start, self._session.give_up, data)

    async def query(self, data: bytes, *, stale: bool = False, state_kind: str = "") -> bytes:
        """Ask the state machine a question. Deadlines are up to the caller.

        Parameters
        ----------
        data : bytes
            The question.
        stale : bool
            Whether any node may answer from the state that it has, which may be old. Else the answer reflects
            everything that was acknowledged before the call.
        state_kind : str
            As in :meth:`propose`.

        Returns
        -------
        bytes
            What the state machine's ``query`` returned.

        Raises
        ------
        RefusedError
            If the question was refused.
        SettingsError
            If the key is not good for commands.
        """
        is_linearizable = not check_is("stale", stale, bool)
        question = Query(check_bytes("data", data), is_linearizable, check_kind(state_kind))
        return await self._question(lambda: question, anybody=stale)

    async def ask(
        self, data: bytes, *, leader: bool = False, patience: float = RETRY_LAST, state_kind: str = ""
    ) -> bytes:
        """Ask the program around the state machine a question. Deadlines are up to the caller.

        Parameters
        ----------
        data : bytes
            The question.
        leader : bool
            Whether only a node may answer that has confirmed, after the question came, that it leads.
        patience : float
            After how many seconds without an answer to ask again, at most.
        state_kind : str
            As in :meth:`propose`.

        Returns
        -------
        bytes
            Its answer.

        Raises
        ------
        RefusedError
            If the question was refused.
        SettingsError
            If the key is not good for commands.
        """
        question = Ask(check_bytes("data", data), check_is("leader", leader, bool), check_kind(state_kind))
        check_seconds("patience", patience)
        return await self._question(lambda: question, anybody=not leader, patience=patience)

    async def state_digest(self, node_id: str, timeout: float = 60.0) -> StateDigested:  # noqa: ASYNC109 - as above
        """Ask a node for a hash of the replicated state it has, sessions of clients included.

        Nodes that have applied the same entries must answer the same; else the state machine is not deterministic.

        Parameters
        ----------
        node_id : str
            The node.
        timeout : float
            For how many seconds to try. Hashing takes as long as writing a snapshot.

        Returns
        -------
        StateDigested
            The last entry that the node has applied, and the hash.

        Raises
        ------
        NoAnswerError
            If it did not answer in time.
        RefusedError
            If it was too busy.
        """
        response = await self.command(check_is("node_id", node_id, str), StateDigest(), timeout)
        if not response.done:
            raise refused(response)
        return msgspec.convert(cbor.decode_untrusted(response.data), StateDigested)

    async def cluster_settings(self) -> ClusterSettings:
        """Ask for the settings of the cluster. Deadlines are up to the caller.

        Returns
        -------
        ClusterSettings
            The settings, with every change that was acknowledged before the call.

        Raises
        ------
        RefusedError
            If the question was refused.
        SettingsError
            If the key is not good for commands.
        """
        return ClusterSettings().changed(await self._question(ReadSettings, anybody=False))

    async def change_cluster_settings(
        self, *, reads: ReadMode | None = None, quota: int | None = None
    ) -> ClusterSettings:
        """Change settings of the cluster, once. Deadlines are up to the caller.

        Parameters
        ----------
        reads : ReadMode, optional
            The way in which reads are made linearizable.
        quota : int, optional
            The most bytes that the keys and leases of the key-value store may take.

        Returns
        -------
        ClusterSettings
            The settings after the change.

        Raises
        ------
        SessionEndedError
            If it is not known whether they were changed, as in :meth:`propose`.
        RefusedError
            If it was refused, and nothing was changed.
        SettingsError
            If the key is not good for commands.
        """
        if reads is not None and reads not in list(ReadMode):
            raise ValueError(f"reads must be {' or '.join(ReadMode)}, not {reads!r}")
        if quota is not None:
            check_number("quota", quota, QUOTA_MIN, QUOTA_MAX)
        asked = {"reads": reads, "quota": quota}
        change = {name: value for name, value in asked.items() if value is not None}
        if not change:
            raise ValueError("name the settings to change: reads, quota")
        return ClusterSettings().changed(await self._change_settings(encode_change(**change)))

    async def _change_settings(self, change: bytes) -> bytes:
        await self._watch_leader(ChangeSettings)
        return await waiting.propose(self._session, change, changes_settings=True, given_up=self._note_problem)

    def trouble(self) -> str:
        """Word what keeps the cluster from serving this client, as far as is known once it has asked.

        Returns
        -------
        str
            One line; empty while a leader answers.
        """
        cluster = self.cluster()
        heard = sum(node.reachable for node in cluster.nodes)
        if not heard:
            return self.why_silent()
        if why := self.why_leader_silent():
            return why
        if cluster.leader is None:
            known = max(len(cluster.members), len(cluster.nodes))
            return f"no leader answers; {heard} of {known} nodes do"
        return ""

    async def _question(
        self, command: Callable[[], Query | Ask | ReadSettings], *, anybody: bool, patience: float = RETRY_LAST
    ) -> bytes:
        asked = command()
        if not isinstance(asked, ReadSettings) and len(asked.data) > PAYLOAD_MAX:
            raise RefusedError(f"the question has {len(asked.data)} bytes; at most {PAYLOAD_MAX} are allowed")
        await self._watch_leader(type(asked))
        response = await waiting.call(
            self._calls, command, anybody=anybody, patience=patience, given_up=self._note_problem
        )
        if not response.done:
            raise refused(response)
        return response.data

    def _check_key(self, command: type[Command]) -> None:
        """Refuse a command that the nodes would refuse; only they know whether a question only reads."""
        needed = Domain.READER if command is Ask else NEEDED[command]
        if self._settings.keys is not None and not may(self._domain, needed):
            raise _key_not_good(needed)

    async def _watch_leader(self, command: type[Command]) -> None:
        """Check that the key is good for a command, and follow from now on which node leads."""
        self._check_key(command)
        if self._refresh is None:
            await self.observe(_REFRESH_FOR_CALLS)

    def why_leader_silent(self) -> str:
        """Word which node answers without leading, and where the leader is that does not answer.

        Returns
        -------
        str
            One line; empty where a leader answers, no node does, or none of them knows a leader.
        """
        cluster = self.cluster()
        knowing = [node for node in cluster.nodes if node.reachable and node.status.leader]
        if cluster.leader is not None or not knowing:
            return ""
        witness = max(knowing, key=lambda node: node.status.term)
        names = {member.id: member.name for member in witness.status.members}
        leader = names.get(witness.status.leader or "") or witness.status.leader
        address = witness.status.leader_address
        where = f"at {address}" if address else "at an address that it does not tell"
        reached = f"node {witness.status.name} at {witness.address} answers, but does not lead"
        return f"{reached}; the leader is node {leader} {where}, which does not answer this client: let it be reached"

    def _note_problem(self, problem: str) -> None:
        """Note what is known of a request that was given up, and why there was no answer."""
        if not self._target_by_node:
            problem = self.why_silent()
        elif why := self.why_leader_silent():
            for text in (NO_ANSWER, NOT_REACHED):
                if problem.endswith(text):
                    problem = problem.removesuffix(text) + why
                    break
        self.problem = problem

    # --- how requests are carried out ------------------------------------------------------------------------

    @property
    def restores(self) -> int:
        """How often, by its terms, this cluster was restored or recovered; known once it answers."""
        return self._calls.term // TERM_LEAP

    def send_request(self, node: NodeId, request: ClientRequest) -> bool:
        """Send a request to a node; return False where it cannot be reached now."""
        peer = self._peer(node)
        if peer is None:
            return False
        self._batches.add(peer, encode_message(request))
        return True

    def highest_version(self, node: NodeId) -> int:
        """Return the highest version of the protocol that a node speaks; 0 where it cannot be reached now."""
        peer = self._peer(node)
        return peer.versions.highest if peer is not None else 0

    def _met(self, node: NodeId) -> None:
        self._calls.met(node)

    def _learned(self, status: NodeStatus) -> None:
        if leader := parse_id_untrusted(status.leader):
            self._calls.learn_leader(status.term, leader)

    def _received(self, node: NodeId, message: Message) -> None:
        match message:
            case ClientResponse():
                self._calls.receive(node, message)
            case ClientResponses(responses=responses):
                for response in responses:
                    self._calls.receive(node, response)

    def _gather(self, now: Instant) -> None:
        self._session.handle_timer(now)
        self._calls.handle_timer(now)
        self._batches.flush(now)

    def _ask_nodes(self) -> float:
        """Send what is due, and return when something is due next."""
        self._loop.flush()
        return min(self._session.next_deadline(), self._calls.next_deadline())

    def tasks(self) -> tuple[Callable[[], Awaitable[None]], ...]:
        """List the tasks that run for as long as the client is open."""
        return *super().tasks(), partial(self._asking.run, self._ask_nodes)

    def end_session(self) -> None:
        """End the session, and cancel what is still waited for; a later command opens another session."""
        self._session.close()
        self._loop.flush()

    def _why_unanswered(self, node_id: str | None, seconds: float) -> str:
        if not self.nodes:
            return self.why_silent()
        if node_id is not None:
            return f"node {node_id} did not answer within {seconds:g} s"
        if self._known_leader() is None:
            return f"{self.why_leader_silent() or 'there is no leader'} (waited {seconds:g} s)"
        return f"the leader did not answer within {seconds:g} s"

    def _known_leader(self) -> str | None:
        leader = self.cluster().leader
        return leader.status.id if leader is not None else None


def _key_not_good(domain: Domain) -> SettingsError:
    return SettingsError(
        f"CLUSTER_KEY or CLUSTER_KEY_FILE: the key is not good for {domain.label} traffic;"
        f" allowed: a cluster key, or what `trioraft keygen --derive {domain.label}` makes of it"
    )


@contextlib.asynccontextmanager
async def open_client(settings: ClientSettings, domain: Domain | None = None) -> AsyncIterator[Client]:
    """Open a client, and look for the nodes of its cluster for as long as it is open.

    Parameters
    ----------
    settings : ClientSettings
        Where to look, and the keys.
    domain : Domain, optional
        What the client is for: ``Domain.STATUS`` only to look, ``READER`` to read what is replicated, ``CLIENT`` to
        change it, ``ADMIN`` to change the cluster (:mod:`trioraft.datagrams.rights`). By default all that the keys
        are good for.

    Yields
    ------
    Client
        The client; its tasks end with the block.

    Raises
    ------
    SettingsError
        If there are keys, but none for `domain`.
    """
    check_is("settings", settings, ClientSettings)
    if domain is None:
        domain = Domain.ADMIN if settings.keys is None else settings.keys.best
    if settings.keys is not None and not settings.keys.can(domain):
        raise _key_not_good(domain)
    socket = await open_udp("::", 0)
    try:
        client = Client(settings, domain, socket)
        with bare_errors():
            async with running(client):
                yield client
    finally:
        socket.close()


@contextlib.asynccontextmanager
async def running(client: Client) -> AsyncIterator[None]:
    """Run a client's tasks for as long as a block lasts.

    The tasks go on while a block that was cancelled still cleans up, for it may have a lock to release.

    Parameters
    ----------
    client : Client
        The client.

    Yields
    ------
    None
        Nothing.
    """
    scopes = []
    async with trio.open_nursery() as nursery:
        for task in client.tasks():
            scopes.append(trio.CancelScope(shield=True))
            nursery.start_soon(_run_within, scopes[-1], task)
        try:
            yield
        finally:
            try:
                client.end_session()
            finally:  # even where nothing can be sent any more
                for scope in scopes:
                    scope.cancel()


async def _run_within(scope: trio.CancelScope, task: Callable[[], Awaitable[None]]) -> None:
    with scope:
        await task()
