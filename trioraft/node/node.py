"""A node, for the program that runs it: a nursery with one task for each concern. If one task fails, all end."""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from typing import get_args

import trio

from trioraft.arguments import (
    check_all_bytes,
    check_bytes,
    check_function,
    check_is,
    check_methods,
    check_name,
    check_number,
)
from trioraft.asking import waiting
from trioraft.asking.calls import RETRY_LAST
from trioraft.consensus import Role
from trioraft.errors import NodeError, ProposalError
from trioraft.hooks.bodies import Leadership, OnOverrun
from trioraft.messages import (
    Ask,
    ClientResponse,
    Command,
    EntryKind,
    Index,
    Instant,
    NodeId,
    NodeStatus,
    Term,
)
from trioraft.node.commands import AskHandler
from trioraft.node.running import Running
from trioraft.node.world import World
from trioraft.nurseries import bare_errors
from trioraft.replica.machine import KIND_MAX, NothingToReplicate, StateMachine, state_kind
from trioraft.settings.settings import NodeSettings


class Node(Running):
    """One node, from its socket to its scripts.

    Parameters
    ----------
    settings : NodeSettings
        Its configuration.
    world : World
        The clock, chance, socket, disk and launcher that it uses.
    machine : StateMachine
        The state machine that is replicated.
    on_overrun : {'exit', 'log'}
        What happens when a body of leader work has not ended when it must be over.
    """

    def status(self) -> NodeStatus:
        """Return the status of the node.

        Returns
        -------
        NodeStatus
            The status, as ``trioraft status`` and the monitor show it.
        """
        return self._account.status()

    # --- the replicated state -------------------------------------------------------------------------------

    async def propose(self, command: bytes) -> bytes:
        """Have a command committed and applied, once, whichever node leads.

        Parameters
        ----------
        command : bytes
            The command.

        Returns
        -------
        bytes
            What the state machine's ``apply`` returned.

        Raises
        ------
        ProposalError
            If it was not carried out, or that is not known; the text says which. When the wait is cancelled, it is
            not known.
        """
        command = check_bytes("command", command)
        self._look_around()
        begin = partial(self._own_commands.begin, command)
        outcome: bytes | ProposalError = await waiting.told(begin, self._own_commands.give_up)
        if isinstance(outcome, ProposalError):
            raise outcome
        return outcome

    async def propose_many(self, commands: Iterable[bytes]) -> list[bytes]:
        """Have commands committed and applied, each once, whichever node leads; they share what that costs.

        They are proposed in their order, which is kept for as long as this node leads. Commands of others may come
        between them.

        Parameters
        ----------
        commands : iterable of bytes
            The commands.

        Returns
        -------
        list of bytes
            For each command what the state machine's ``apply`` returned.

        Raises
        ------
        BatchError
            If some have no result; its `outcomes` say which, and why. When the wait is cancelled, nothing is known.
        RefusedError
            If one is too large; none is carried out.
        """
        data = check_all_bytes("commands", commands)
        self._look_around()
        return await waiting.told_all(self._own_commands.begin, self._own_commands.give_up, data)

    def submit(self, command: bytes, done: Callable[[bytes | ProposalError], None]) -> None:
        """Begin to have a command committed and applied, once, whichever node leads; no task has to wait for it.

        Parameters
        ----------
        command : bytes
            The command.
        done : callable
            Given what the state machine's ``apply`` returned, or the error that :meth:`propose` would raise; called
            once, in the node's loop, never before this method has returned. It must be short, may submit the next
            command, and stops the node if it raises an error.

        Raises
        ------
        RefusedError
            If the command is too large.
        """
        self._look_around()
        self._own_commands.begin(check_bytes("command", command), check_function("done", done, is_async=False))

    def _look_around(self) -> None:
        if self._loop is not None:
            self._loop.look_around()

    async def read_barrier(self) -> None:
        """Wait until the state machine of this node shows every command that was acknowledged before the call."""
        while True:
            answered = trio.Event()
            found: list[Index | None] = []

            def confirmed(
                index: Index | None, answered: trio.Event = answered, found: list[Index | None] = found
            ) -> None:
                found.append(index)
                answered.set()

            self._look_around()
            self._member.reads.start(confirmed)
            self.soon()
            await answered.wait()
            if found[0] is not None:
                applied = trio.Event()
                self._member.applying.when_applied(found[0], applied.set)
                await applied.wait()
                return
            with trio.move_on_after(self.settings.heartbeat_repeat):
                await self._changed.wait()

    def answer_questions(
        self, handler: AskHandler, only_reads: Callable[[bytes], bool] = lambda question: False
    ) -> None:
        """Install a handler, by which the program around the state machine answers questions (:meth:`Client.ask`).

        Parameters
        ----------
        handler : callable
            Called with a question, and a function that takes the answer, now or later.
        only_reads : callable
            Returns whether a question changes nothing, so that it may be asked with a reader key.
        """
        self._requests.answer_questions(
            check_function("handler", handler, is_async=False),
            check_function("only_reads", only_reads, is_async=False),
        )

    async def carry_out(
        self, command: Command, *, node: NodeId | None = None, patience: float = RETRY_LAST
    ) -> ClientResponse:
        """Have a node carry out a command of a client, this one or another. Deadlines are up to the caller.

        Parameters
        ----------
        command : Command
            The command.
        node : int, optional
            The node; the leader by default, whichever that is by then.
        patience : float
            After how many seconds without an answer to ask again, at most.

        Returns
        -------
        ClientResponse
            The answer.
        """
        self._look_around()
        stays = node is None and not isinstance(command, Ask)
        return await waiting.call(self._calls, lambda: command, node=node, stays=stays, patience=patience)

    def look_around(self) -> None:
        """Let the node look at its input, if it has not for long: for programs that keep the scheduler busy."""
        self._look_around()

    # --- leadership -----------------------------------------------------------------------------------------

    def why_no_leader_work(self) -> str:
        """Return why no leader work runs on this node now, neither its script nor a body.

        Returns
        -------
        str
            The reason, in words: it does not lead, waits for the end of earlier work, has failed, is over; empty
            while leader work runs and its deadline has not passed.
        """
        return self._account.job.why_not_running()

    def leadership(self) -> AbstractAsyncContextManager[Leadership]:
        """Wait until this node may do leader work, and run a block as such.

        The block is cancelled at its next checkpoint when leadership is lost. If it has not ended when leader work
        must be over, the process is ended.

        Returns
        -------
        async context manager of Leadership
            The block's leadership, with its fencing token.
        """
        return self._work.bodies.leadership(_caller())

    async def run_while_leader(self, function: Callable[[Leadership], Awaitable[object]]) -> None:
        """Run a function at each promotion of this node, for ever.

        Parameters
        ----------
        function : callable
            An async function of the leadership. It is cancelled as the body of :meth:`leadership` is; when it
            returns, it is done until the next promotion.
        """
        check_function("function", function)
        await self._work.bodies.run_while_leader(getattr(function, "__qualname__", repr(function)), function)

    @property
    def leads_in(self) -> Term:
        """The term in which this node leads, 0 when it does not."""
        return self._core.term if self._core.role is Role.LEADER else 0

    def now(self) -> Instant:
        """Return the time in seconds, on the clock of all deadlines."""
        return self._world.clock()

    def propose_in_term(self, term: Term, command: bytes) -> None:
        """Propose a command here if this node leads in a term, without waiting; it may never be applied.

        Parameters
        ----------
        term : int
            The term.
        command : bytes
            The command.
        """
        command = check_bytes("command", command)
        if check_number("term", term) and self.leads_in == term:
            with suppress(ProposalError):
                self._member.proposals.submit(EntryKind.COMMAND, command, lambda outcome: None)
            self.soon()

    # --- stopping -------------------------------------------------------------------------------------------

    async def step_aside(self, reason: str) -> None:
        """Transfer leadership before this node stops, and leave the cluster if the settings say so, in bounded time.

        Parameters
        ----------
        reason : str
            The reason why the node stops, for the log.
        """
        check_is("reason", reason, str)
        self.stopping = True
        await self._stopping.step_aside(self._log, reason)


def _caller() -> str:
    """Describe where the body of a leadership block stands in the program, for the log."""
    code = sys._getframe(2).f_code
    return f"{code.co_qualname} ({code.co_filename}:{sys._getframe(2).f_lineno})"


@asynccontextmanager
async def open_node(
    settings: NodeSettings,
    machine: StateMachine | None = None,
    *,
    on_overrun: OnOverrun = "exit",
    world: World | None = None,
) -> AsyncIterator[Node]:
    """Run a node for as long as the block lasts.

    Parameters
    ----------
    settings : NodeSettings
        Its configuration.
    machine : StateMachine, optional
        What is replicated; nothing by default.
    on_overrun : {'exit', 'log'}
        What happens when a body of leader work has not ended when it must be over: the process is ended, or
        (unsafe!) it is only logged.
    world : World, optional
        The clock, chance, socket, disk and launcher that it uses; the real ones by default.

    Yields
    ------
    Node
        The node, once it takes part.

    Raises
    ------
    NodeError, StorageError
        If it cannot start or go on; the block is cancelled then. One line that says what to do. A node without a
        key starts on loopback only, unless ``UNSEALED`` is ``allowed``.
    """
    check_is("settings", settings, NodeSettings)
    if machine is not None:
        optional = [method for method in ("query", "version_needed", "follow_version") if hasattr(machine, method)]
        check_methods("machine", machine, "apply", "snapshot", "restore", *optional)
        check_name("machine.state_kind", state_kind(machine), KIND_MAX)
    if on_overrun not in get_args(OnOverrun):
        raise ValueError(f"on_overrun must be {' or '.join(get_args(OnOverrun))}, not {on_overrun!r}")
    if settings.exposed and settings.unsealed != "allowed":
        raise NodeError(
            f"BIND_HOST={settings.bind_host}: without a key, whoever can reach a node reads and changes everything;"
            " make a key with `trioraft keygen --output FILE`, and give it to all nodes as CLUSTER_KEY_FILE,"
            " or set UNSEALED=allowed"
        )
    node = Node(settings, world or World.real(), NothingToReplicate() if machine is None else machine, on_overrun)
    try:
        with bare_errors():
            async with trio.open_nursery() as nursery:
                await nursery.start(node.run)
                yield node
                nursery.cancel_scope.cancel()
    finally:
        node.leave_directory()
