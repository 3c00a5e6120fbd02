"""The protocols of a state machine, which is what a cluster replicates."""

from collections.abc import Iterable, Iterator
from typing import Final, Protocol, runtime_checkable

from trioraft.tally import Asker, Limit

# The kind of state of a machine that does not name one.
PROGRAM: Final = "program"
KIND_MAX: Final = 255


class StateMachine(Protocol):
    """A deterministic program: the same commands in the same order give the same state and the same results.

    It must use no clock, no randomness and nothing else that differs between nodes; all such input has to come in
    commands. Only one task calls it.

    It may have an attribute `state_kind`, a text that names its kind of state (``program`` where it has none). The
    kind of the first leader's machine is written into the log for ever. A node with a machine of another kind stops.
    A cluster refuses clients that ask for another kind, as those of the key-value store do.
    """

    def apply(self, command: bytes) -> bytes:
        """Carry out a committed command.

        Parameters
        ----------
        command : bytes
            The command, from a client or a program. It may be nonsense: an error must be a result and no exception,
            because an exception would stop every node.

        Returns
        -------
        bytes
            The result, for the client that proposed the command.
        """

    def snapshot(self) -> Iterator[bytes]:
        """Encode the whole state as it is now.

        Returns
        -------
        iterator of bytes
            Chunks of at most 64 KiB. The iterator is consumed bit by bit while further commands are applied, which
            must not change its chunks. Making it, and its first chunk, must not take long. The first chunk is taken
            at once, so a generator function only has to copy what it needs before its first ``yield``.
        """

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace the state by that of a snapshot.

        Parameters
        ----------
        chunks : iterable of bytes
            The chunks from :meth:`snapshot`.
        """


@runtime_checkable
class Queryable(StateMachine, Protocol):
    """A state machine that answers questions of clients (:meth:`trioraft.Client.query`)."""

    def query(self, question: bytes) -> bytes:
        """Answer a question without changing anything.

        Parameters
        ----------
        question : bytes
            The question, from a client. It may be nonsense.

        Returns
        -------
        bytes
            The answer.

        Raises
        ------
        ValueError
            If it is nonsense; the client gets the text. Any other exception is logged as an error too.
        """


@runtime_checkable
class Versioned(StateMachine, Protocol):
    """A state machine some of whose commands need a later version of the protocol (:mod:`trioraft.versions`).

    With it, nodes of two releases, which have two releases of the state machine, can be in one cluster.
    """

    def version_needed(self, command: bytes) -> int:
        """Return the version that a command, or a question, needs.

        A leader proposes a command only when the cluster speaks that version.

        Parameters
        ----------
        command : bytes
            The command or question. It may be nonsense, which needs the first version.

        Returns
        -------
        int
            The version.
        """

    def follow_version(self, version: int) -> None:
        """Follow a version that the cluster speaks from the next command in the log on, or in a snapshot.

        The first call is with the first version, before anything else; every change comes at the same place of the
        log on every node. A command that needs a later version must have the result that it had in the release
        before, because a leader of that release may have proposed it.

        Parameters
        ----------
        version : int
            The version.
        """


@runtime_checkable
class Bounded(StateMachine, Protocol):
    """A state machine that keeps its state within the quota in the cluster's settings."""

    @property
    def size(self) -> int:
        """The bytes that count for the quota."""

    @property
    def quota(self) -> int:
        """The quota in bytes; 0 while the cluster speaks a version of the protocol that has no quota."""

    def follow_quota(self, quota: int) -> None:
        """Follow a quota that the settings have from the next command in the log on, or in a snapshot.

        As with versions, the first call is before anything else, and every change comes at the same place of the log
        on every node.

        Parameters
        ----------
        quota : int
            The quota in bytes.
        """


@runtime_checkable
class Shared(StateMachine, Protocol):
    """A state machine that shares something among all clients, of which no client may have all.

    A leader asks it before it proposes a client's command, and reports the outcome to it. So its counts are no part
    of the state, and another leader counts anew.
    """

    def begin_share(self, who: Asker, command: bytes) -> Limit:
        """Count what a command is going to take, unless its client would have too much.

        Parameters
        ----------
        who : Asker
            The client.
        command : bytes
            Its command. It may be nonsense.

        Returns
        -------
        Limit
            The limit that the client or its address would pass, or :data:`~trioraft.tally.NO_LIMIT`.
        """

    def end_share(self, who: Asker, command: bytes, result: bytes) -> None:
        """Note the outcome of a command that passed no limit.

        Parameters
        ----------
        who : Asker
            The client.
        command : bytes
            Its command.
        result : bytes
            The result of ``apply``; empty where the command was not carried out, or that is not known.
        """


def state_kind(machine: StateMachine) -> str:
    """Return the kind of a machine's state.

    Parameters
    ----------
    machine : StateMachine
        The machine.

    Returns
    -------
    str
        The kind.
    """
    kind: str = getattr(machine, "state_kind", PROGRAM)
    return kind


class NothingToReplicate:
    """The state machine of a cluster that only elects."""

    def apply(self, command: bytes) -> bytes:  # noqa: D102
        return b""

    def snapshot(self) -> Iterator[bytes]:  # noqa: D102
        return iter(())

    def restore(self, chunks: Iterable[bytes]) -> None:  # noqa: D102
        for _ in chunks:
            pass
