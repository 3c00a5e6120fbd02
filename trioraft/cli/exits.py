"""The exit statuses of commands, and the error by which a command ends with one."""

from typing import Final

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
