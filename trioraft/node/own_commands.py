"""The commands of this node's own program: gathered while it leads, and in its session while another node does.

What the program proposes within one pass of the scheduler becomes one entry of the log, or a few: the entry is the
unit that is sent, written and acknowledged, so what it costs is shared by all commands in it.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeAlias

from trioraft.asking.session import Proposal, Session
from trioraft.consensus import Core, Role
from trioraft.errors import NotCommittedError, NotLeaderError, ProposalError, RefusedError
from trioraft.messages import (
    BATCH_BYTES_MAX,
    COMMANDS_MAX,
    PAYLOAD_MAX,
    Batch,
    EntryKind,
    PartOutcome,
    encode_batch,
)
from trioraft.node.proposals import Outcome, Proposals

# Takes the result of a command, or the reason why there is none.
Done: TypeAlias = Callable[[bytes | ProposalError], None]

# The most commands that one turn puts into the log; the others wait for the next one.
_AT_ONCE: Final = 1024


class OwnCommand:
    """A command of this node's own program, until it has an outcome.

    Attributes
    ----------
    command : bytes
        The command.
    done : callable or None
        Takes its outcome; None once it has one, or is not waited for any more.
    proposal : Proposal or None
        Its place in the session; None while this node has it in its own log, or is about to.
    """

    __slots__ = ("command", "done", "proposal")

    def __init__(self, command: bytes, done: Done) -> None:
        self.command = command
        self.done: Done | None = done
        self.proposal: Proposal | None = None


class OwnCommands:
    """The commands of this node's own program, each of which is carried out once.

    Parameters
    ----------
    core : Core
        The source of the role and the version.
    proposals : Proposals
        Puts entries into the log.
    session : Session
        Has commands carried out by another node.
    soon : callable
        Requests a turn.
    """

    def __init__(self, core: Core, proposals: Proposals, session: Session, soon: Callable[[], None]) -> None:
        self._core = core
        self._proposals = proposals
        self._session = session
        self._soon = soon
        self._gathered: list[OwnCommand] = []

    def begin(self, command: bytes, done: Done) -> OwnCommand:
        """Begin to have a command carried out, whichever node leads.

        Parameters
        ----------
        command : bytes
            The command.
        done : callable
            Takes the outcome, never before this method has returned.

        Returns
        -------
        OwnCommand
            The argument of :meth:`give_up`.

        Raises
        ------
        RefusedError
            If the command is too large.
        """
        if len(command) > PAYLOAD_MAX:
            raise RefusedError(
                f"not proposed: the command has {len(command)} bytes; at most {PAYLOAD_MAX} are allowed"
            )
        own = OwnCommand(command, done)
        self._begin(own)
        return own

    def _begin(self, own: OwnCommand) -> None:
        if self._core.role is Role.LEADER:
            self._gathered.append(own)
            self._soon()
        else:
            own.proposal = self._session.propose(own.command, partial(self._conclude, own))

    def give_up(self, own: OwnCommand) -> str:
        """Wait no longer for the outcome of a command.

        Parameters
        ----------
        own : OwnCommand
            The command.

        Returns
        -------
        str
            What is known of it.
        """
        if own.done is None:
            return "it has an outcome"
        own.done = None
        return self._session.give_up(own.proposal) if own.proposal is not None else "unknown"

    # --- on the leader --------------------------------------------------------------------------------------

    @property
    def wait(self) -> bool:
        """Whether commands wait to be put into the log."""
        return bool(self._gathered)

    def put_in_log(self) -> None:
        """Propose what was gathered, in batches; or elsewhere, if this node does not lead any more."""
        if not self._gathered:
            return
        now, self._gathered = self._gathered[:_AT_ONCE], self._gathered[_AT_ONCE:]
        waited_for = [own for own in now if own.done is not None]
        if self._core.role is not Role.LEADER:
            for own in waited_for:
                self._begin(own)
            return
        may_be_batched = self._proposals.judge_batches()
        batch: list[OwnCommand] = []
        size = 0
        for own in waited_for:
            if not may_be_batched(own.command):
                self._propose_alone(own)
                continue
            size += len(own.command)
            if len(batch) == COMMANDS_MAX or (batch and size > BATCH_BYTES_MAX):
                self._propose(batch)
                batch, size = [], len(own.command)
            batch.append(own)
        if batch:
            self._propose(batch)

    def _propose(self, batch: Sequence[OwnCommand]) -> None:
        if len(batch) == 1:
            self._propose_alone(batch[0])
            return
        data = encode_batch(Batch(0, 0, 0, tuple([own.command for own in batch])))
        try:
            self._proposals.submit(EntryKind.BATCH, data, partial(self._applied, batch))
        except ProposalError as error:
            self._applied(batch, error)

    def _propose_alone(self, own: OwnCommand) -> None:
        def applied(outcome: Outcome) -> None:
            self._conclude(own, outcome if isinstance(outcome, ProposalError) else outcome.data)

        try:
            self._proposals.submit(EntryKind.COMMAND, own.command, applied)
        except ProposalError as error:
            self._conclude(own, error)

    def _applied(self, batch: Sequence[OwnCommand], outcome: Outcome) -> None:
        if isinstance(outcome, ProposalError):
            for own in batch:  # each has an error of its own, because each may be raised
                self._conclude(own, type(outcome)(str(outcome)))
            return
        for own, result in zip(batch, outcome.outcomes, strict=True):
            self._conclude(own, _result_of(result))

    def _conclude(self, own: OwnCommand, outcome: bytes | ProposalError) -> None:
        done = own.done
        if done is None:
            return
        if isinstance(outcome, NotCommittedError | NotLeaderError):
            self._begin(own)  # it will never be carried out, so it is proposed again, perhaps on another leader
        else:
            own.done = None
            done(outcome)


def _result_of(outcome: PartOutcome) -> bytes | ProposalError:
    """Return the result of a command without a session, which is never refused where it is applied."""
    return outcome if isinstance(outcome, bytes) else ProposalError("the entry in the log is no batch of commands")
