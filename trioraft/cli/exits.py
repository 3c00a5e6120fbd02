"""The exit statuses of commands, and the error by which a command ends with one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from trioraft.storage.errors import FileError, FileIsThereError, RecoveryError, StorageError

REFUSED: Final = 1
WRONG: Final = 2
INTERRUPTED: Final = 130


class CommandError(Exception):
    """A command cannot be carried out; the text is one line.

    Parameters
    ----------
    text : str
        What was wrong, and what to do.
    exit_status : int
        The command's exit status.
    """

    def __init__(self, text: str, exit_status: int = REFUSED) -> None:
        super().__init__(text)
        self.exit_status = exit_status


@contextmanager
def in_one_line() -> Iterator[None]:
    """End the command with one line where something is wrong with a file or with a node's data."""
    try:
        yield
    except FileIsThereError as error:
        raise CommandError(str(error), WRONG) from None
    except (FileError, RecoveryError, StorageError) as error:
        raise CommandError(str(error)) from None
