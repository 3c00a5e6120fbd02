"""What is replicated: the user's state machine."""

from collections.abc import Iterable, Iterator
from typing import Protocol, runtime_checkable


class StateMachine(Protocol):
    """A deterministic program: the same commands in the same order give the same state and the same results.

    It sees no clock, no randomness and nothing else that differs between nodes; whatever it needs of these comes
    in a command. It is called by one task only.
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


class NothingToReplicate:
    """The state machine of a cluster that only elects."""

    def apply(self, command: bytes) -> bytes:  # noqa: D102
        return b""

    def snapshot(self) -> Iterator[bytes]:  # noqa: D102
        return iter(())

    def restore(self, chunks: Iterable[bytes]) -> None:  # noqa: D102
        for _ in chunks:
            pass
