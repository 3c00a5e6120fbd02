"""What is replicated: the user's state machine."""

from collections.abc import Iterable, Iterator
from typing import Final, Protocol, runtime_checkable

from trioraft.tally import Asker, Limit

# The kind of state of a machine that does not name one.
PROGRAM: Final = "program"
KIND_MAX: Final = 255


class StateMachine(Protocol):
    """A deterministic program: the same commands in the same order give the same state and the same results.

    It sees no clock, no randomness and nothing else that differs between nodes; whatever it needs of these comes
    in a command. It is called by one task only.

    It may have an attribute `state_kind`, a text that names what kind of state it is (``program`` where it has none).
    The first leader's is written into the log, for ever. A node with a machine of another kind stops, and clients
    that say which kind they mean, as those of the key-value store do, are refused by a cluster of another one.
    """

    def apply(self, command: bytes) -> bytes:
        """Carry out a committed command.

        Parameters
        ----------
        command : bytes
            What somebody proposed. It may be nonsense: an error is a result, not an exception, because an
            exception would stop every node.

        Returns
        -------
        bytes
            The result, which goes to whoever proposed it.
        """

    def snapshot(self) -> Iterator[bytes]:
        """Give the whole state as it is now.

        Returns
        -------
        iterator of bytes
            Chunks of at most 64 KiB. The iterator is drained bit by bit while further commands are applied, which
            it must not see; making it, and its first chunk, must not take long. The first chunk is taken at once,
            so a generator function only has to copy what it needs before its first ``yield``.
        """

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Take over a state in place of one's own.

        Parameters
        ----------
        chunks : iterable of bytes
            What :meth:`snapshot` gave.
        """


@runtime_checkable
class Queryable(StateMachine, Protocol):
    """A state machine that clients may ask questions (:meth:`trioraft.Client.query`)."""

    def query(self, question: bytes) -> bytes:
        """Answer a question without changing anything.

        Parameters
        ----------
        question : bytes
            What somebody asks. It may be nonsense.

        Returns
        -------
        bytes
            The answer.

        Raises
        ------
        ValueError
            If it is nonsense; whoever asked is told the text. Any other exception is logged as an error too.
        """


@runtime_checkable
class Versioned(StateMachine, Protocol):
    """A state machine some of whose commands need a later version of the protocol (:mod:`trioraft.versions`).

    So nodes of two releases, with two releases of the state machine, can be in one cluster.
    """

    def version_needed(self, command: bytes) -> int:
        """Tell which version a command, or a question, needs.

        A leader proposes it only when the cluster speaks that one.

        Parameters
        ----------
        command : bytes
            What somebody proposes or asks. It may be nonsense, which needs the first version.

        Returns
        -------
        int
            The version.
        """

    def follow_version(self, version: int) -> None:
        """Learn which version the cluster speaks from here on: from the next command in the log, or in a snapshot.

        It is told the first version before anything else, and of every change at the same place of the log on every
        node. What is applied while that is lower than what a command needs must give what the release before gave:
        a leader of that release may have proposed it.

        Parameters
        ----------
        version : int
            The version.
        """


@runtime_checkable
class Bounded(StateMachine, Protocol):
    """A state machine that refuses what would make its state larger than the quota in the cluster's settings."""

    @property
    def size(self) -> int:
        """How many bytes count for the quota."""

    @property
    def quota(self) -> int:
        """How many bytes there may be; 0 while the cluster speaks a version of the protocol that has no quota."""

    def follow_quota(self, quota: int) -> None:
        """Learn which quota the settings have from here on: from the next command in the log, or in a snapshot.

        Like a version, it is told before anything else, and of each change at the same place of the log everywhere.

        Parameters
        ----------
        quota : int
            Bytes.
        """


@runtime_checkable
class Shared(StateMachine, Protocol):
    """A state machine that has something for all clients, of which none shall have all.

    A leader asks it before it proposes a client's command, and tells it the outcome. So what it counts is no part of
    the state, and another leader counts anew.
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
        """Learn what became of a command that passed no limit.

        Parameters
        ----------
        who : Asker
            The client.
        command : bytes
            Its command.
        result : bytes
            What ``apply`` gave; empty where it was not carried out, or nobody knows.
        """


def state_kind(machine: StateMachine) -> str:
    """Tell what kind of state a machine is.

    Parameters
    ----------
    machine : StateMachine
        The machine.

    Returns
    -------
    str
        Its kind.
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
